"""Commands that use models: load, evaluate, predict, export, localize, networks."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pixelwise.api.options import (
    Argument,
    Data,
    Device,
    Engine,
    Format,
    HtmlPath,
    InferencePrecision,
    JsonPath,
    Masks,
    Model,
    Option,
    Overwrite,
    PercentagePoints,
    Settings,
    StrPath,
    StrPaths,
    Threshold,
    to_names,
    to_path,
    to_paths,
)
from pixelwise.arguments import Count, Fraction, Index, NonNegative, check_arguments
from pixelwise.checks.findings import CODES, format_names
from pixelwise.errors import DataError, InvalidArgumentError, format_count, wrap_path_errors
from pixelwise.evaluation.result import EvaluationResult
from pixelwise.output_files import (
    claim_output,
    prepare_files,
    require_replaceable,
    require_replaceable_files,
    require_writable,
)
from pixelwise.quantization.result import QuantizeResult
from pixelwise.shapes import Size
from pixelwise.version import __version__

if TYPE_CHECKING:
    from pixelwise.exporting.result import ExportResult
    from pixelwise.inference.predictor import Predictor
    from pixelwise.networks.summary import LayerRow, NetworkRow
    from pixelwise.prediction.result import LocalizeReport, PredictReport

logger = logging.getLogger(__name__)

SaveKind = Literal[
    "labels",
    "labels-png",
    "overlay",
    "probabilities",
    "probabilities-tiff",
    "confidence",
    "entropy",
    "polygons",
    "labelme",
    "coco",
    "cvat",
    "table",
    "variance",
]


@check_arguments
@wrap_path_errors()
def load(
    model: StrPath,
    *,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    engine: Engine = "auto",
    threshold: Threshold = None,
) -> "Predictor":
    """Load a model for prediction.

    Args:
        model: Run folder or model file.
        device: Device of the network; "auto": CUDA, then MPS, then the CPU.
        precision: Numerical precision; "auto": bf16 if the device has it and the labels are the same, else fp32.
            "int8" needs the file that `quantize` writes.
        engine: Library that runs the network; "auto": torch.
        threshold: For models of two classes, the probability from which on a pixel is labeled foreground, the class
            that is not named background; None: the most probable class.

    Returns:
        A predictor: `predictor.predict(image)` gives a `Prediction` with `labels` and `probabilities`.

    Raises:
        PathNotFoundError: `model` does not exist.
        ModelFileError: `model` is not a model of this version.
        InvalidArgumentError: the device, precision or engine is unknown or not available, or the threshold is not a
            probability or the model has not two classes.

    Example:
        >>> predictor = pw.load(model, device="cpu")
        >>> predictor.predict(image).labels.shape
        (64, 96)
    """
    from pixelwise.inference.predictor import load as run

    return run(to_path(model), device=device, precision=precision, engine=engine, threshold=threshold)


@check_arguments
@wrap_path_errors()
def evaluate(
    model: Model,
    data: Data,
    *,
    split: Annotated[
        Literal["train", "val", "test"] | None, Option(help="Split to score.", default="test, else val")
    ] = None,
    threshold: Threshold = None,
    choose_threshold: Annotated[
        Literal["dice", "youden"] | None,
        Option(help="Also find the threshold with the best score, on val unless --split names another."),
    ] = None,
    format: Format = None,
    masks: Masks = None,
    json_path: JsonPath = None,
    html_path: HtmlPath = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    precision: InferencePrecision = "auto",
    engine: Engine = "auto",
) -> EvaluationResult:
    """Compute the scores of a model on a dataset.

    Args:
        model: Run folder or model file.
        data: Dataset folder, or several, with classes matched by name.
        split: Split to score; None: "test", else "val", else all images of a dataset without splits.
        threshold: For models of two classes, the probability from which on a pixel is labeled foreground, the class
            that is not named background; None: the most probable class.
        choose_threshold: For models of two classes, also find the threshold with the best "dice" (F1) or "youden"
            (sensitivity + specificity - 1), on the split "val" unless `split` names another. Nothing else changes; give
            the threshold to `predict`.
        format: Dataset format; None: the one of the model's run if this is its dataset, else detected.
        masks: Folder of the masks, next to the images; None: the one of the model's run if this is its dataset, else
            as in `dataset.yaml`, or detected.
        json_path: JSON file to write with the scores.
        html_path: HTML page to write: a verdict, the scores, and all images with their predictions.
        overwrite: Replace these files also if another request, or the user, wrote them.
        device: Device of the network.
        precision: Numerical precision of the network.
        engine: Library that runs the network.

    Returns:
        The scores as attributes, `mean_iou`, `per_class`, ...; `to_dict()` gives the values of `json_path`.

    Raises:
        PathNotFoundError: `model` or `data` does not exist.
        ModelFileError: `model` is not a model of this version.
        DataError: `data` is not a dataset, or an image of the split cannot be read.
        InvalidArgumentError: the dataset has other classes than the model, a file exists that this request did not
            write, or an argument is invalid.

    Example:
        >>> result = pw.evaluate(model, data, device="cpu")
        >>> result.split, result.num_images
        ('test', 4)
    """
    from pixelwise.evaluation.evaluate import adapt_to_model, choose_split, load_evaluation_data, score_samples
    from pixelwise.inference.engines import select_engine
    from pixelwise.model_file import read_checksum
    from pixelwise.reports.commands import make_commands
    from pixelwise.reports.evaluation_report import EvaluationReport, render_evaluation_report
    from pixelwise.reports.gallery import ImageGallery

    request: dict[str, Any] = {"model": read_checksum(to_path(model)), "split": split, "format": format}
    request |= {"masks": masks, "precision": precision, "threshold": threshold}
    request |= {"choose_threshold": choose_threshold}
    json_file, html_file = prepare_files(
        [json_path, html_path], "evaluate", to_paths(data), request, overwrite=overwrite
    )
    predictor = load(model, device=device, precision=precision, engine=engine, threshold=threshold)
    if choose_threshold:
        predictor.require_two_classes()
        split = split or "val"
    dataset = load_evaluation_data(to_paths(data), to_path(model), format, masks)
    chosen, samples = choose_split(dataset, to_path(model), split)
    if choose_threshold and chosen == "test":
        logger.warning(
            "The threshold is chosen on the test split, so its scores on that split are too high. Use --split val."
        )
    dataset = adapt_to_model(dataset, predictor, samples)
    logger.info(f"Evaluating on split {chosen!r}: {format_count(len(samples), 'image')}, {predictor.precision}")
    if num_unlabeled := len(dataset.index.images_without_mask):
        logger.info(f"{format_count(num_unlabeled, 'image')} of {dataset.location} without a mask: left out")
    for fault in dataset.index.faults:
        if CODES[fault.code][0] == "error":
            shown = format_names([dataset.get_relative_path(path) for path in fault.files])
            logger.warning(f"{format_count(len(fault.files), fault.noun)} {fault.problem}: {shown}. {fault.fix}")
    if dataset.index.same_stem:
        names = ", ".join(path.name for path in dataset.index.same_stem[:3])
        raise DataError(f"{dataset.location} has files with the same stem ({names}). Rename or remove one of each.")
    if engine == "auto":
        predictor = select_engine(predictor, to_path(model), num_images=len(samples), store=False)
    gallery = ImageGallery(len(samples), predictor.classes)
    on_image = gallery.add if html_file else None
    counts = score_samples(predictor, dataset, samples, report=True, on_image=on_image)
    result = EvaluationResult.from_scores(
        counts.compute_scores(predictor.classes.names),
        split=chosen,
        model=str(model),
        data=" ".join(map(str, to_paths(data))),
        threshold=threshold,
        chosen_threshold=counts.choose_threshold(choose_threshold, chosen) if choose_threshold else None,
    )
    if json_file:
        json_file.write(json.dumps(result.to_dict(), indent=2) + "\n")
    if html_file:
        page = EvaluationReport(
            title=f"{Path(model).name} on {dataset.root.resolve().name}",
            split=chosen,
            predictor=predictor,
            counts=counts,
            gallery=gallery,
            commands=make_commands(to_path(model), dataset, samples[0], html_file.path),
        )
        html_file.write(render_evaluation_report(page))
    return result


@check_arguments
@wrap_path_errors()
def predict(
    model: Model,
    inputs: Annotated[
        StrPaths,
        Argument(help="Images, OME-Zarr and videos: files, folders (recursive), globs or URLs.", metavar="INPUT"),
    ],
    output: Annotated[StrPath, Option(help="Folder for the results.", short="-o")],
    *,
    save: Annotated[
        SaveKind | Sequence[SaveKind],
        Option(
            help="Outputs, separated by commas: labels, labels-png, overlay, probabilities, probabilities-tiff, "
            "confidence, entropy, variance, polygons, labelme, coco, cvat, table.",
            metavar="NAME,...",
        ),
    ] = ("labels",),
    tiling: Annotated[
        Literal["exact", "blend", "none"], Option(help="How to predict images that do not fit in memory.")
    ] = "exact",
    label_values: Annotated[
        Literal["index", "dataset"], Option(help="Values of label files: class indices, or the dataset's mask values.")
    ] = "index",
    min_area: Annotated[
        Index, Option(help="Smallest region to keep; smaller regions take a neighbor's class.", metavar="PIXELS")
    ] = 0,
    fill_holes: Annotated[bool, Option(help="Fill holes inside regions.")] = False,
    simplify: Annotated[
        NonNegative, Option(help="Distance by which polygons may differ from the labels.", metavar="PIXELS")
    ] = 0,
    overlay_style: Annotated[
        Literal["fill", "outline"], Option(help="How overlays show a region: filled, or its outline.")
    ] = "fill",
    opacity: Annotated[Fraction, Option(help="Opacity of filled overlays, from 0 to 1.")] = 0.5,
    threshold: Threshold = None,
    tta: Annotated[
        str | Sequence[str],
        Option(help="Test-time augmentation, separated by commas: flips, rotations, scales.", metavar="NAME,..."),
    ] = (),
    samples: Annotated[
        Count, Option(help="Number of Monte Carlo dropout samples to average, for networks with dropout.", metavar="N")
    ] = 1,
    seed: Annotated[Index, Option(help="Seed of the samples of each image.")] = 0,
    resume: Annotated[bool, Option(help="Skip inputs whose results are complete.")] = False,
    overwrite: Overwrite = False,
    shard: Annotated[
        str | None, Option(help="Predict only one share of the inputs, such as 2/8.", metavar="I/N")
    ] = None,
    cluster: Annotated[Literal["ray"] | None, Option(help="Predict on all machines of a cluster.")] = None,
    device: Device = "auto",
    precision: InferencePrecision = "auto",
    engine: Engine = "auto",
) -> "PredictReport":
    """Predict the labels of images and videos and write them as files.

    An input that cannot be read, or whose outputs have the names of those of another, does not stop the others: it is
    listed in `failures`.

    Args:
        model: Run folder or model file.
        inputs: Files, folders (searched recursively), glob patterns and URLs; one, or several.
        output: Folder for the results.
        save: Outputs per image (label map, overlay, ...) or for all images ("coco", "cvat", "table"); one, or several.
        tiling: "exact" gives the labels of the whole image; "blend" averages overlapping tiles; "none" does not tile.
        label_values: "index" writes class indices, "dataset" the mask values of the training data.
        min_area: Regions with fewer pixels take the class of a neighbor.
        fill_holes: Fill holes inside regions.
        simplify: Largest distance in pixels between the outlines of "polygons", "labelme", "coco" and "cvat" and those
            of the labels. 0 follows the edges of pixels; 1 leaves few corners, which are easy to move by hand.
        overlay_style: Overlays show each region in its color ("fill"), or only its outline.
        opacity: Opacity of filled overlays, from 0 (only the image) to 1.
        threshold: For models of two classes, the probability from which on a pixel is labeled foreground, the class
            that is not named background; None: the most probable class.
        tta: Transforms to average over, such as "flips" or "scales".
        samples: Number of Monte Carlo dropout samples whose mean is predicted, for Bayesian SegNet and other networks
            with dropout; 1: a prediction without dropout.
        seed: Seed of the samples. It is set for each image, so that the result does not depend on the other inputs.
        resume: Skip images whose files the same command has written.
        overwrite: Replace files also if another request, or the user, wrote them. Without it they are an error.
        shard: "2/8" predicts the second of eight shares of the inputs.
        cluster: "ray" predicts on all machines of a Ray cluster, which must see the same paths.
        device: Device of the network.
        precision: Numerical precision of the network.
        engine: Library that runs the network.

    Returns:
        The written files, the failures with their reasons, and the number of skipped images.

    Raises:
        PathNotFoundError: `model` or an input does not exist.
        ModelFileError: `model` is not a model of this version.
        InvalidArgumentError: an argument is invalid, a file exists that this request did not write, or another process
            writes to the folder.

    Example:
        >>> report = pw.predict(model, photos, "predictions", save=["labels", "overlay"], device="cpu")
        >>> len(report.written), report.failures
        (8, ())
    """
    from pixelwise.inference.predictor import PredictionOptions
    from pixelwise.prediction.output_writer import OutputWriter
    from pixelwise.prediction.predict import LocalExecutor, predict_files
    from pixelwise.prediction.ray_cluster import RayExecutor

    if cluster is not None and shard is not None:
        raise InvalidArgumentError("shard and cluster both divide the inputs. Choose one of them.")
    writer = OutputWriter(
        folder=Path(output),
        kinds=to_names(save),
        label_values=label_values,
        min_area=min_area,
        fill_holes=fill_holes,
        simplify=simplify,
        overlay_style=overlay_style,
        opacity=opacity,
    )
    executor_class = LocalExecutor if cluster is None else RayExecutor
    executor = executor_class(
        model=to_path(model),
        options=PredictionOptions(tiling=tiling, tta=to_names(tta), samples=samples, seed=seed),
        threshold=threshold,
        device=device,
        precision=precision,
        engine=engine,
    )
    with closing(executor):
        return predict_files(to_paths(inputs), writer, executor, resume=resume, overwrite=overwrite, shard=shard)


@check_arguments
@wrap_path_errors()
def quantize(
    model: Model,
    data: Data,
    output: Annotated[
        StrPath | None, Option(help="File to write.", short="-o", default="model.int8.onnx next to the model")
    ] = None,
    *,
    max_iou_drop: Annotated[
        PercentagePoints,
        Option(help="Largest drop in mean IoU to accept, in percentage points.", metavar="POINTS"),
    ] = 1.0,
    format: Format = None,
    masks: Masks = None,
    overwrite: Overwrite = False,
) -> QuantizeResult:
    """Quantize a model to int8, measure its accuracy, and write the result to a file next to it.

    Activation ranges are found on up to 32 training images. The mean IoU is measured on the validation split with
    every installed engine that computes in int8. `predict`, `evaluate`, `export` and `load` use the file with the
    precision "int8".

    Args:
        model: Run folder or model file.
        data: Dataset with a training and a validation split and the classes of the model.
        output: File to write; None: `model.int8.onnx` next to the model file, where the other commands look for it.
        max_iou_drop: Percentage points of mean IoU that int8 may lose, from 0 to 100.
        format: Dataset format; None: the one of the model's run if this is its dataset, else detected.
        masks: Folder of the masks, next to the images; None: the one of the model's run if this is its dataset, else
            as in `dataset.yaml`, or detected.
        overwrite: Replace the file also if it was written for another model or by the user.

    Returns:
        The file, and the mean IoU in int8 and float32.

    Raises:
        PathNotFoundError: `model` or `data` does not exist.
        InvalidArgumentError: int8 loses more than `max_iou_drop`, a split is missing, the classes differ, the extra
            `onnx` is not installed, or the file exists and is not an int8 file of this model.

    Example:
        >>> result = pw.quantize("runs/first", "street")  # doctest: +SKIP
        >>> result.accuracy.engines["onnxruntime"].mean_iou  # doctest: +SKIP
        0.7297
    """
    from pixelwise.evaluation.evaluate import adapt_to_model, choose_split, load_evaluation_data
    from pixelwise.inference.engines import choose_engine, get_installed_versions
    from pixelwise.inference.int8_file import find_int8_state, get_int8_path, write_int8
    from pixelwise.quantization.quantize import quantize_predictor, require_accuracy

    model = to_path(model)
    path = get_int8_path(model) if output is None else Path(output)
    if path.suffix != ".onnx":
        raise InvalidArgumentError(f"{path} would be an ONNX file. Choose a name that ends in .onnx.")
    require_replaceable({path: find_int8_state(path, model)}, overwrite=overwrite)
    require_writable(path)
    choose_engine("onnxruntime")  # which has the quantizer
    reference = load(model, device="cpu", precision="fp32", engine="torch")
    dataset = load_evaluation_data(to_paths(data), model, format, masks)
    (_, training), (_, validation) = (choose_split(dataset, model, split) for split in ("train", "val"))
    dataset = adapt_to_model(dataset, reference, [*training, *validation])
    graph, accuracy = quantize_predictor(reference, dataset, training, validation)
    require_accuracy(accuracy, max_iou_drop, path)
    versions = {"pixelwise": __version__, **get_installed_versions()}
    write_int8(model, graph, {"accuracy": asdict(accuracy), "versions": versions}, path=path)
    return QuantizeResult(file=path, accuracy=accuracy)


@check_arguments
@wrap_path_errors()
def export(
    model: Model,
    output: Annotated[StrPath, Option(help="File that ends in .onnx, .xml or .pt2, or a folder.", short="-o")],
    *,
    format: Annotated[
        Literal["onnx", "openvino", "torch-export"] | None,
        Option(help="Format of the file.", default="from the suffix, else onnx"),
    ] = None,
    logits: Annotated[bool, Option(help="Add the logits to the outputs of the graph.")] = False,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], Option(help="Numerical precision of the network; int8 after `quantize`.")
    ] = "fp32",
    min_agreement: Annotated[
        Fraction | None,
        Option(
            help="Smallest fraction of labels equal to the model's.",
            metavar="FRACTION",
            default="0.9999; fp16: 0.995; int8: 0",
        ),
    ] = None,
    opset: Annotated[
        Count | None, Option(help="Opset of the ONNX file.", metavar="N", default="the oldest from 17 that is exact")
    ] = None,
    fixed_size: Annotated[
        Size | None,
        Option(help="Only size of images, for programs without dynamic shapes.", metavar="H W"),
    ] = None,
    threshold: Threshold = None,
    overwrite: Overwrite = False,
) -> "ExportResult":
    """Write a model as ONNX, OpenVINO or torch.export, and compare the result with the model.

    The graph maps (B, H, W, C) pixels of any size to (B, H, W) labels. Normalization, padding and cropping are part
    of it. A JSON card is written next to it, and for ONNX a script that runs it.

    Args:
        model: Run folder or model file.
        output: File that ends in .onnx, .xml or .pt2, or a folder, in which the file is named "model".
        format: Format of the file; None: from the suffix of `output`, else ONNX.
        logits: Add the logits (B, K, H, W) float32 to the outputs.
        precision: "fp16" halves the size of the weights, "int8" quarters it and needs the
            file that `quantize` writes.
        min_agreement: Smallest fraction of labels equal to the model's; None: 0.9999, fp16 0.995, int8 0.
            For int8 it refers to the validation images of `quantize`.
        opset: Opset of an ONNX file; None: the oldest from 17 on that has the operators of the network.
        fixed_size: Height and width of the images that the file takes, one at a time, for programs such as OpenCV 4
            that do not support dynamic shapes; None: any size and number.
        threshold: For models of two classes, the probability from which on the graph labels a pixel foreground; None:
            the most probable class.
        overwrite: Replace files also if another request, or the user, wrote them.

    Returns:
        The file, its size, and how close it is to the model.

    Raises:
        PathNotFoundError: `model` does not exist.
        ModelFileError: `model` is not a model of this version.
        InvalidArgumentError: an invalid argument, no int8 file, a missing extra, a file that does not agree with the
            model, or a file that exists and that this request did not write.

    Example:
        >>> pw.export(model, "model.pt2").file.name
        'model.pt2'
    """
    from pixelwise.exporting.export import MIN_AGREEMENT, ExportTarget, export_predictor, resolve_target
    from pixelwise.inference.int8_file import read_int8
    from pixelwise.model_file import read_checksum

    least = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    name, path = resolve_target(Path(output), format, precision, opset=opset, fixed_size=fixed_size)
    request = {"model": read_checksum(to_path(model)), "format": name, "precision": precision, "logits": logits}
    request |= {"opset": opset, "fixed_size": fixed_size, "threshold": threshold}
    with claim_output(path, request, is_file=True):
        target = ExportTarget(name=name, path=path, request=request)
        target.require_replaceable(overwrite=overwrite)
        predictor = load(model, device="cpu", precision="fp32", engine="torch", threshold=threshold)
        int8 = read_int8(to_path(model)) if precision == "int8" else None
        return export_predictor(
            predictor,
            target,
            logits=logits,
            precision=precision,
            min_agreement=least,
            int8=int8,
            opset=opset,
            fixed_size=fixed_size,
        )


@check_arguments
@wrap_path_errors()
def localize(
    images: Annotated[StrPaths, Argument(help="Image files, folders (recursive) or globs.", metavar="IMAGE")],
    output: Annotated[StrPath, Option(help="Folder for the heat maps.", short="-o")],
    *,
    classifier: Annotated[str, Option(help="Classifier: vgg16, resnet50, timm:convnext_tiny, ...", metavar="NAME")],
    weights: Annotated[
        Literal["imagenet"] | StrPath, Option(help="Weights of the classifier.", metavar="FILE|imagenet")
    ] = "imagenet",
    class_name: Annotated[
        str | None, Option(help="Name or index of a class.", name="--class", metavar="NAME", default="the top 3")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> "LocalizeReport":
    """Write heat maps that show where in each image a classifier sees its classes.

    Args:
        images: Files, folders (searched recursively) and glob patterns; one, or several.
        output: Folder for the heat maps, STEM_heatmap.png.
        classifier: Name in torchvision ("resnet50") or timm ("timm:convnext_tiny").
        weights: "imagenet", or a file with all weights of the classifier.
        class_name: Name or index of the class to show; None: the three most probable ones.
        overwrite: Replace heat maps also if another request, or the user, wrote them.
        device: Device of the network.

    Returns:
        The classes and positions found in each image, and the failures with their reasons.

    Raises:
        PathNotFoundError: an image or the weights do not exist.
        ModelFileError: the weights do not fit the classifier.
        InvalidArgumentError: an unknown classifier or class, or a file that exists and that this request did not write.

    Example:
        >>> report = pw.localize(photos, "heatmaps", classifier="resnet18")  # doctest: +SKIP
    """
    from pixelwise.devices import choose_device
    from pixelwise.prediction.inputs import find_inputs
    from pixelwise.prediction.localize import Localizer, find_class, load_classifier, localize_images, plan_heatmaps

    targets, skipped = plan_heatmaps(find_inputs(to_paths(images), Path(output)), Path(output))
    request = {"classifier": classifier, "weights": Path(weights).name, "class": class_name}
    with claim_output(Path(output), request):
        require_replaceable_files(targets, "localize", request, overwrite=overwrite)
        localizer = Localizer(load_classifier(classifier, to_path(weights)), device=choose_device(device))
        index = None if class_name is None else find_class(localizer.names, class_name)
        return localize_images(localizer, targets, index, request, skipped)


@check_arguments
def describe_networks(
    name: Annotated[str | None, Argument(help="Network whose layers to list.", metavar="NAME")] = None,
    *,
    size: Annotated[Size, Option(help="Height and width of the image.", metavar="H W")] = (360, 480),
    channels: Annotated[Count, Option(help="Number of image channels.")] = 3,
    classes: Annotated[Count, Option(help="Number of classes.")] = 11,
    encoder: Annotated[
        str | None, Option(help="Encoder of unet or fcn, such as resnet34 or timm:convnext_tiny.", metavar="NAME")
    ] = None,
    settings: Annotated[Mapping[str, object], Settings] = MappingProxyType({}),
) -> "list[NetworkRow] | list[LayerRow]":
    """Return the networks with size, cost and geometry, or the layers of one; see `pixelwise.networks.describe`."""
    from pixelwise.networks.summary import describe

    return describe(name, size=size, in_channels=channels, num_classes=classes, encoder=encoder, settings=settings)
