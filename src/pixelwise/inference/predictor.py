"""Load a model and predict images: an image of any size in, a `Prediction` of the same size out."""

import base64
import html
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.arguments import Count, Index, check_arguments, describe_value
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import match_channels
from pixelwise.data.io.decoded_image import convert_dtype
from pixelwise.data.io.images import Array, DecodedImage, decode_image, encode_png
from pixelwise.data.visualization import list_swatches, overlay_labels, to_display_image
from pixelwise.devices import Precision, autocast, choose_device, choose_precision, has_fast_bf16, keep_freed_memory
from pixelwise.errors import InvalidArgumentError, find_name, format_count
from pixelwise.inference.engines import (
    ENGINES,
    EngineName,
    NetworkSource,
    choose_engine,
    replace_network,
    require_engine,
    select_engine,
)
from pixelwise.inference.int8_file import read_int8
from pixelwise.inference.tiling.plan import Tile, TilePlan
from pixelwise.inference.tiling.planner import WHOLE_PIXELS, TilePlanner
from pixelwise.inference.tiling.tiled import ArraySource, PixelSource, blend_tiles, compute_seam_score, predict_tiles
from pixelwise.inference.tta import TRANSFORMS, average_views, make_views
from pixelwise.model_file import ModelSpec, load_model, read_checksum
from pixelwise.networks import Segmenter
from pixelwise.networks.segmenter import DecisionRule
from pixelwise.networks.segnet import sample_predictions
from pixelwise.progress import format_percent
from pixelwise.shapes import Size

Tiling = Literal["exact", "blend", "none"]

PREVIEW_SIDE = 512
"""Images in notebooks are subsampled to less than twice this side."""

MAX_BATCH = 8
"""Largest number of images in a batch, if they have at most `WHOLE_PIXELS` together. On two cores, a batch of 4 images
of 360x480 takes 6 % less time per image than a batch of 1; larger batches take no less."""

BF16_MIN_AGREEMENT = 0.995
"""Smallest share of validation labels that bf16 and fp32 must have in common before `auto` chooses bf16."""
BF16_MAX_DIFFERENCE = 0.003
"""Largest difference in mean IoU before `auto` chooses bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionOptions:
    """Options of a prediction; see `Predictor.predict`.

    Raises:
        InvalidArgumentError: A value is invalid, or two exclude each other.
    """

    tiling: Tiling = "exact"
    tile_size: int | None = None
    tta: tuple[str, ...] = ()
    samples: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        tta = tuple(find_name("test-time augmentation", name, TRANSFORMS) for name in self.tta)
        object.__setattr__(self, "tta", tta)
        object.__setattr__(self, "tiling", find_name("tiling", self.tiling, get_args(Tiling)))
        if self.tile_size is not None and self.tile_size < 1:
            raise InvalidArgumentError(f"tile_size is {self.tile_size}, but must be at least 1 pixel.")
        if self.samples < 1:
            raise InvalidArgumentError(f"samples is {self.samples}, but must be at least 1.")
        if self.samples > 1 and self.tta:
            raise InvalidArgumentError("tta and samples both average predictions. Give only one of them.")
        if self.samples > 1 and (self.tile_size or self.tiling == "blend"):
            raise InvalidArgumentError("samples are drawn for the whole image. Omit tile_size and tiling.")

    @property
    def is_single(self) -> bool:
        """Return whether an image is predicted by itself, not in a batch."""
        return bool(self.tta) or self.samples > 1

    @property
    def is_exact(self) -> bool:
        """Return whether tiles give the labels of the whole image."""
        return self.tiling == "exact" and not self.is_single


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one image.

    In a notebook it shows the image blended with the class colors, and a legend.

    Example:
        >>> prediction = pw.load(model, device="cpu").predict(image)
        >>> prediction.labels.shape, prediction.labels.dtype
        ((64, 96), dtype('uint8'))
        >>> prediction.probabilities.shape[1:]
        (64, 96)
    """

    labels: npt.NDArray[Any]
    """(H, W) uint8 (uint16 above 256 classes), class indices 0..K-1. In the prediction of a file also the ignore index,
    where the file declares that it has no data."""
    _logits: Callable[[], Tensor]
    """Returns (K, H, W) float32 on the CPU, stored or computed again."""
    variance: npt.NDArray[np.float32] | None = None
    """(H, W) variance of the class probabilities over several samples, averaged over the classes; else None."""
    seam_score: float | None = None
    """For blended tiles, how often labels change across tile borders relative to elsewhere; about 1 if no seam is
    visible. None for a whole image and for exact tiles."""
    image: npt.NDArray[Any] | None = None
    """(H, W) or (H, W, C), the image that was predicted."""
    classes: Classes | None = None

    def __repr__(self) -> str:
        return f"<Prediction: labels {describe_value(self.labels)}>"

    @cached_property
    def logits(self) -> npt.NDArray[np.float32]:
        """Return (K, H, W) float32; for several samples, the logarithm of their mean probabilities."""
        logits: npt.NDArray[np.float32] = self._logits().numpy()
        return logits

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return (K, H, W) float32, summing to 1 over the classes; computed on first use."""
        probabilities: npt.NDArray[np.float32] = self._logits().softmax(0).numpy()
        return probabilities

    def _repr_html_(self) -> str | None:
        if self.image is None or self.classes is None:
            return None
        step = max(1, max(self.labels.shape) // PREVIEW_SIDE)
        image, labels = (pixels[::step, ::step] for pixels in (self.image, self.labels))
        picture = to_display_image(image[..., None] if image.ndim == 2 else image)
        content = base64.b64encode(encode_png(overlay_labels(picture, labels, self.classes))).decode()
        swatches = list_swatches(self.classes)
        legend = "".join(
            f'<span style="background:{swatches[label][1]};padding:0 0.7em"></span> '
            f"{html.escape(swatches[label][0])} {format_percent(count / self.labels.size)} &ensp;"
            for label, count in zip(*np.unique(self.labels, return_counts=True), strict=True)
            if label < len(self.classes.names)
        )
        return f'<img src="data:image/png;base64,{content}"><div>{legend}</div>'


@dataclass(frozen=True, kw_only=True, repr=False)
class Predictor:
    """A model on one device, in one precision. `pixelwise.load` makes one.

    Example:
        >>> predictor = pw.load(model, device="cpu", precision="fp32")
        >>> predictor.device, predictor.precision, predictor.engine
        (device(type='cpu'), 'fp32', 'torch')
    """

    module: Segmenter
    """The model as stored. Predictions use a copy that is optimized at the first prediction."""
    spec: ModelSpec
    device: torch.device
    precision: Precision
    engine: EngineName = "torch"
    engine_network: nn.Module | None = None
    """The network on its engine; None: it is built at the first prediction."""
    threshold: float | None = None
    """Probability from which on a pixel is labeled foreground, of two classes; None: the most probable class."""
    checksum: str = ""
    """Checksum of the model file; empty for a model in memory."""

    def __post_init__(self) -> None:
        if self.threshold is None:
            return
        self.require_two_classes()
        if not 0 < self.threshold < 1:
            raise InvalidArgumentError(f"threshold is {self.threshold}. Expected a probability above 0 and below 1.")

    def __repr__(self) -> str:
        classes = f"{len(self.classes.names)} classes, {format_count(self.spec.channels, 'channel')}"
        return f"<Predictor: {self.spec.network.name}, {classes}, {self.engine} in {self.precision} on {self.device}>"

    def require_two_classes(self) -> None:
        """Raise InvalidArgumentError for a model of another number of classes, which has no threshold."""
        if self.classes.foreground is None:
            raise InvalidArgumentError(
                f"A threshold needs a model of two classes, but this one has {len(self.classes.names)}. "
                f"Omit it. Each pixel gets the most probable class."
            )

    @property
    def decision_rule(self) -> DecisionRule:
        """Return how logits become labels."""
        return DecisionRule(threshold=self.threshold, foreground=self.classes.foreground or 0)

    @property
    def classes(self) -> Classes:
        return self.spec.classes

    @check_arguments
    def predict(
        self,
        image: npt.ArrayLike | os.PathLike[str],
        *,
        tiling: Tiling = "exact",
        tile_size: Count | None = None,
        keep_logits: bool = False,
        samples: Count = 1,
        seed: Index | None = None,
        tta: str | Sequence[str] = (),
    ) -> Prediction:
        """Predict an image of any size.

        Args:
            image: Path of an image file, or (H, W) or (H, W, C) of the dtype of the training images. Gray is repeated
                for an RGB model. Numbers other than uint8 and uint16 are converted to float32 and must be finite. A
                file is decoded and gives the labels as by `pixelwise.predict`, which also takes folders, videos, stacks
                and URLs.
            tiling: "exact" divides an image whose tensors would take more than 1 GiB into parts that give the result
                of the whole image. A network with a global receptive field has no exact tiles, so its tiles are
                blended. "blend" averages tiles that overlap by half. "none" predicts the image as a whole.
            tile_size: side in pixels of the output of one tile, for images of any size; None: as memory allows.
            keep_logits: store K floats per pixel. Otherwise `probabilities` and `logits` run the network again.
            samples: number of Monte Carlo dropout samples (Bayesian SegNet) of the whole image. Labels and
                probabilities are those of their mean; `variance` is how far the samples differ.
            seed: seed of the samples; None: they depend on the random state of PyTorch.
            tta: test-time augmentations, among "flips", "rotations", "scales". Labels and probabilities are those of
                the mean over the transformed images. This multiplies the time by their number and takes 2 K floats per
                pixel.

        Returns:
            A prediction of the height and width of the image.

        Raises:
            InvalidArgumentError: the shape or dtype does not fit, or an argument is invalid.
            PathNotFoundError: the file does not exist.
            DataError: the number of channels does not fit, values are not finite, or the file cannot be decoded.

        Example:
            >>> pw.load(model, device="cpu").predict(image, tiling="none", tta=["flips"]).labels.shape
            (64, 96)
        """
        names = (tta,) if isinstance(tta, str) else tuple(tta)
        options = PredictionOptions(tiling=tiling, tile_size=tile_size, tta=names, samples=samples, seed=seed)
        if not isinstance(image, str | os.PathLike):
            return self.predict_array(_to_array(image), options, keep_logits=keep_logits)
        decoded = decode_image(Path(image), self.spec.channels)
        pixels, missing = decoded.fill_pixels(str(image), self.spec.channels, self.spec.nodata)
        prediction = self.predict_array(pixels, options, keep_logits=keep_logits)
        return replace(prediction, labels=self.classes.ignore_missing(prediction.labels, missing))

    def predict_array(self, image: Array, options: PredictionOptions, *, keep_logits: bool = False) -> Prediction:
        """Predict an array as `predict` does."""
        pixels = self.check_image(image)
        if options.tta:
            prediction = self._average_views(pixels, options)
        elif options.samples > 1:
            prediction = self._sample(pixels, options)
        else:
            prediction = self._predict(pixels, options.tiling, options.tile_size, keep_logits)
        return replace(prediction, image=image, classes=self.classes)

    def _predict(self, pixels: Array, tiling: Tiling, tile_size: int | None, keep_logits: bool) -> Prediction:
        size = (pixels.shape[0], pixels.shape[1])
        given = (tile_size, tile_size) if tile_size else None
        if tiling == "none" or (not given and self.tile_planner.is_whole(size)):
            return self._predict_whole(lambda: self._infer_image(pixels), keep_logits)
        if tiling == "exact" and self.tile_planner.geometry:
            return self._predict_tiled(self.tile_planner.plan(size, given), pixels, keep_logits)
        tile = given or self.tile_planner.blend_tile_size
        prediction = self._predict_whole(lambda: blend_tiles(pixels, tile, self._infer_image), keep_logits)
        return replace(prediction, seam_score=compute_seam_score(prediction.labels, tile))

    def choose_batch_size(self, size: Size) -> int:
        """Return how many images of this size are predicted at once; 1 in float32 on the CPU, the reference."""
        is_reference = self.device.type == "cpu" and self.precision == "fp32"  # sums would round differently in a batch
        return 1 if is_reference else max(1, min(MAX_BATCH, WHOLE_PIXELS // max(size[0] * size[1], 1)))

    @check_arguments
    def predict_images(self, images: Sequence[npt.ArrayLike], *, keep_logits: bool = False) -> list[Prediction]:
        """Predict images of one shape in one batch, each as a whole; up to rounding, the results of `predict`."""
        pixels = [self.check_image(_to_array(image)) for image in images]
        if len({image.shape for image in pixels}) != 1:
            shapes = [image.shape for image in pixels]
            raise InvalidArgumentError(f"images have the shapes {shapes}, but must be of one shape.")
        logits = self.predict_batch(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
        labels = self._compute_labels(logits)
        kept = logits.cpu() if keep_logits else None

        def describe(index: int) -> Prediction:
            own = None if kept is None else kept[index].clone()  # which does not hold the whole batch
            return Prediction(
                labels=labels[index].copy(),
                _logits=lambda: self._infer_image(pixels[index]).cpu() if own is None else own,
                image=np.asarray(images[index]),
                classes=self.classes,
            )

        return [describe(index) for index in range(len(pixels))]

    def _predict_whole(self, run: Callable[[], Tensor], keep_logits: bool) -> Prediction:
        logits = run()
        kept = logits.cpu() if keep_logits else None
        return Prediction(labels=self._compute_labels(logits), _logits=lambda: run().cpu() if kept is None else kept)

    def _predict_tiled(self, plan: TilePlan, pixels: Array, keep_logits: bool) -> Prediction:
        """Predict exact tiles; only the labels have the size of the image, unless the logits are kept."""
        source = ArraySource(pixels)

        def predict_logits() -> Tensor:
            logits = torch.empty(len(self.classes.names), *source.size)
            for tile, tile_logits in self._predict_tiles(source, plan):
                logits[:, *tile.write] = tile_logits.cpu()
                del tile_logits
            return logits

        if keep_logits:
            return self._predict_whole(predict_logits, keep_logits)
        labels = np.empty(source.size, self._label_type)
        for tile, tile_labels in self.label_tiles(source, plan):
            labels[tile.write] = tile_labels
        return Prediction(labels=labels, _logits=predict_logits)

    def label_tiles(
        self, source: PixelSource, plan: TilePlan, is_done: Callable[[Tile], bool] = lambda tile: False
    ) -> Iterator[tuple[Tile, npt.NDArray[Any]]]:
        """Yield each tile of a plan that is not done with its labels (h, w).

        Args:
            source: the image, with pixels as `check_image` returns them.
            plan: its tiles.
            is_done: whether to skip a tile.
        """
        for tile, logits in self._predict_tiles(source, plan, is_done):
            labels = self._compute_labels(logits)
            del logits  # or the logits of two tiles would be in memory while the next one is predicted
            yield tile, labels

    def _predict_tiles(
        self, source: PixelSource, plan: TilePlan, is_done: Callable[[Tile], bool] = lambda tile: False
    ) -> Iterator[tuple[Tile, Tensor]]:
        return predict_tiles(
            self.module,
            source,
            plan,
            lambda pixels: self._infer_image(pixels, self._optimized_module.forward_padded),
            is_done,
        )

    def _average_views(self, pixels: Array, options: PredictionOptions) -> Prediction:
        scores: list[float | None] = []

        def predict(view: Array) -> Tensor:
            prediction = self._predict(view, options.tiling, options.tile_size, keep_logits=True)
            scores.append(prediction.seam_score)
            return torch.from_numpy(prediction.probabilities)

        logits = average_views(make_views(options.tta), pixels, predict).log()
        return Prediction(labels=self._compute_labels(logits), _logits=lambda: logits, seam_score=scores[0])

    @cached_property
    def _optimized_module(self) -> Segmenter:
        """Return the module with its network optimized for prediction by the engine."""
        network = self.engine_network
        if network is None:
            network = ENGINES[self.engine].build(self.source, self.device, self.precision)
        return replace_network(self.module, network)

    @property
    def source(self) -> NetworkSource:
        """Return the network from which an engine is built."""
        return NetworkSource(module=self.module, channels=self.spec.channels, checksum=self.checksum)

    @cached_property
    def tile_planner(self) -> TilePlanner:
        """Return the planner of the tiles of large images."""
        # Another engine is assumed to need no more memory than PyTorch without batch-norm fusion.
        return TilePlanner(
            module=self._optimized_module if self.engine == "torch" else self.module,
            channels=self.spec.channels,
            precision=self.precision,
        )

    @torch.inference_mode()
    def _sample(self, pixels: Array, options: PredictionOptions) -> Prediction:
        require_dropout(self.module, self.spec)
        devices = [self.device] if self.device.type == "cuda" else []
        with autocast(self.device, self.precision), torch.random.fork_rng(devices, enabled=options.seed is not None):
            if options.seed is not None:  # for each image, so that it does not depend on other images
                torch.manual_seed(options.seed)
            images = self._to_device(self._as_batch(pixels))
            mean, variance = sample_predictions(self.module, images, options.samples)
        kept = mean[0].log().cpu()
        return Prediction(labels=self._compute_labels(kept), _logits=lambda: kept, variance=variance[0].cpu().numpy())

    def _compute_labels(self, logits: Tensor) -> npt.NDArray[Any]:
        """Compute labels (..., H, W) from logits (..., K, H, W)."""
        assigned = self.decision_rule.assign_labels(logits, -3)
        labels = assigned.to(torch.uint8 if self._label_type is np.uint8 else torch.int32).cpu().numpy()
        return labels.astype(self._label_type, copy=False)

    @property
    def _label_type(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if len(self.classes.names) <= 256 else np.uint16

    def predict_batch(self, images: Tensor) -> Tensor:
        """Compute logits (B, K, H, W) float32 of images (B, C, H, W) in raw units, on the device of the predictor."""
        self.module.check_images(images)
        return self._infer(self._optimized_module, images)

    @torch.inference_mode()
    def _infer(self, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        images = self._to_device(images)
        with autocast(self.device, self.precision):
            return run(images).float()

    def _to_device(self, images: Tensor) -> Tensor:
        if self.device.type == "cuda":
            images = images.pin_memory() if images.is_cpu else images
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _infer_image(self, pixels: Array, module: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute logits (K, H, W) of an image (H, W, C)."""
        return self._infer(module or self._optimized_module, self._as_batch(pixels))[0]

    @staticmethod
    def _as_batch(pixels: Array) -> Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def check_image(self, image: Array) -> Array:
        """Convert (H, W) or (H, W, C) to the (H, W, C) that the model takes, or raise the errors of `predict`."""
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise InvalidArgumentError(
                f"The image has shape {image.shape}. Expected (H, W) or (H, W, C) with every side above 0."
            )
        if image.shape[0] == self.spec.channels and pixels.shape[2] not in (1, self.spec.channels):
            raise InvalidArgumentError(
                f"The image has shape {image.shape}. Expected the channels last, (H, W, C). "
                "Use np.moveaxis(image, 0, -1)."
            )
        pixels = convert_dtype(pixels)
        if str(pixels.dtype) != self.spec.dtype:
            raise InvalidArgumentError(
                f"The image is {image.dtype}, but the model was trained on {self.spec.dtype}. "
                f"Use {self.spec.dtype} pixels, scaled as for training, or train on {image.dtype} images."
            )
        pixels = DecodedImage(pixels=pixels, alpha=False).fill_missing(None, self.spec.nodata)[0]
        if self.spec.channel_files and pixels.shape[2] != self.spec.channels:  # one channel of several is not gray
            raise InvalidArgumentError(
                f"The image has {format_count(pixels.shape[2], 'channel')}, but the model was trained on images of "
                f"{self.spec.channels} files, one per channel. Name them STEM_0000 to "
                f"STEM_{self.spec.channels - 1:04d}, or give one file with all channels."
            )
        # torch.from_numpy does not accept read-only memory, such as that of Pillow.
        return np.require(match_channels(pixels, self.spec.channels, "the image"), requirements=["C", "W"])


def _to_array(image: npt.ArrayLike) -> Array:
    if isinstance(image, Sequence) and any(isinstance(part, str | os.PathLike) for part in image):
        raise InvalidArgumentError(
            "image is a list of paths, but must be one path or one array. Predict each in a loop."
        )
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of different lengths, tensors of a GPU
        shown = describe_value(image)
        raise InvalidArgumentError(f"image is {shown}, but must be an array (H, W) or (H, W, C).") from error


def require_dropout(module: nn.Module, spec: ModelSpec) -> None:
    """Raise InvalidArgumentError for a network without dropout, whose samples would be equal."""
    if not any(isinstance(layer, nn.Dropout) and layer.p for layer in module.modules()):
        raise InvalidArgumentError(
            f"The network {spec.network.name!r} has no dropout, so all samples would be equal. "
            f"Train a bayesian-segnet, or omit samples."
        )


def load(
    model: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    threshold: float | None = None,
    num_images: int = 0,
) -> Predictor:
    """Load a model for prediction.

    Args:
        model: a run folder or a model file.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "fp32" is the reference. "auto" chooses bf16 if the device is fast in it and the model file records
            that its results agree. "int8" needs the file that `quantize` writes.
        engine: "torch", "torch-compile", "openvino" (on the CPU) or "onnxruntime" (in fp32 and int8). "auto" is torch,
            or for int8 an engine that supports it, unless another one finishes `num_images` earlier.
        threshold: for models of two classes, the probability from which on a pixel is labeled foreground.
        num_images: number of images that will be predicted; from 500 on, "auto" measures the engines once per model
            and machine.

    Raises:
        ModelFileError: the file does not exist or is not a model of this version.
        InvalidArgumentError: an unknown name, a combination that is not available on this machine, or a threshold for
            another number of classes.

    Example:
        >>> import pixelwise as pw
        >>> predictor = pw.load("runs/demo", device="cpu")  # doctest: +SKIP
    """
    name = choose_engine(engine, precision)
    chosen_device = choose_device(device)
    if device == "auto" and not ENGINES[name].runs_on(chosen_device):
        chosen_device = torch.device("cpu")
    module, spec = load_model(model)
    chosen = _choose_precision(precision, chosen_device, spec, name)
    require_engine(name, chosen_device, chosen)
    predictor = make_predictor(module, spec, chosen_device, chosen, name)
    predictor = replace(predictor, threshold=threshold, checksum=read_checksum(model))
    if chosen == "int8":
        return make_int8_predictor(predictor, name, read_int8(model, name)[0])
    return select_engine(predictor, model, num_images=num_images) if engine == "auto" and num_images else predictor


def make_predictor(
    module: Segmenter, spec: ModelSpec, device: torch.device, precision: Precision, engine: EngineName = "torch"
) -> Predictor:
    """Make a predictor from a module, which is moved to the device and not copied."""
    if device.type == "cpu":
        keep_freed_memory()
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Predictor(module=module, spec=spec, device=device, precision=precision, engine=engine)


def make_int8_predictor(predictor: Predictor, engine: EngineName, graph: bytes) -> Predictor:
    """Return the predictor with its network in int8, an ONNX graph, on an engine that supports int8."""
    source = replace(predictor.source, int8=graph)
    network = ENGINES[engine].build(source, predictor.device, "int8")
    return replace(predictor, precision="int8", engine=engine, engine_network=network)


def _choose_precision(name: str, device: torch.device, spec: ModelSpec, engine: EngineName) -> Precision:
    name = find_name("precision", name, ("auto", *get_args(Precision)))
    if name == "int8":
        return "int8"
    if name != "auto":
        return choose_precision(name, device)
    measured = spec.scores.get("bf16")
    agrees = (
        measured is not None
        and measured["agreement"] >= BF16_MIN_AGREEMENT
        and abs(measured["mean_iou_difference"]) <= BF16_MAX_DIFFERENCE
    )
    capable = has_fast_bf16(device) and "bf16" in ENGINES[engine].precisions
    return "bf16" if agrees and capable else "fp32"
