"""`pixelwise predict`: label images and videos, as one process, as one of several shards, or on a cluster."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pixelwise.errors import InvalidArgumentError, require_known
from pixelwise.inference.predictor import Tiling
from pixelwise.prediction.executor import LocalExecutor
from pixelwise.prediction.output_writer import OutputWriter
from pixelwise.prediction.outputs import LabelValues
from pixelwise.prediction.predict import predict_files
from pixelwise.prediction.ray_cluster import RayExecutor
from pixelwise.prediction.report import PredictReport

CLUSTERS = {"ray": RayExecutor}


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    save: Sequence[str] = ("labels",),
    tiling: Tiling = "exact",
    label_values: LabelValues = "index",
    min_area: int = 0,
    fill_holes: bool = False,
    tta: Sequence[str] = (),
    resume: bool = False,
    shard: str | None = None,
    cluster: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> PredictReport:
    """Label images and videos.

    Args:
        model: a run folder or a model file.
        inputs: files, folders (recursively), globs and URLs.
        output: folder for the outputs; folder structure and stems of the inputs are kept.
        save: names of outputs: "labels", "overlay", "probabilities", "polygons", "coco", "table", ...
        tiling: how large images are divided, as for `Predictor.predict`.
        label_values: values of label files: class indices, or the mask values of the dataset.
        min_area: pixels; smaller regions take the label of a neighbor.
        fill_holes: holes in regions are filled. Probabilities do not change, nor with `min_area`.
        tta: test-time augmentations: "flips", "rotations", "scales".
        resume: skip inputs whose files an equal request has completed.
        shard: "2/8" predicts the second of eight shares of the inputs.
        cluster: "ray" predicts on all machines of a Ray cluster: the one that RAY_ADDRESS names, else one that runs
            on this machine, else one that is started. Model, inputs and output must have the same path on each
            machine. Not together with `shard`.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "int8".
        engine: "auto", "torch", "torch-compile", "openvino" or "onnxruntime".

    Raises:
        InvalidArgumentError: nothing to predict, two inputs with one name, or an unknown name. Nothing is written.
        ModelFileError: the model cannot be read.
    """
    require_known("cluster", [cluster] if cluster else [], CLUSTERS)
    if cluster is not None and shard is not None:
        raise InvalidArgumentError("--shard and --cluster both divide the images. Omit one of them.")
    writer = OutputWriter(
        folder=Path(output),
        kinds=tuple(dict.fromkeys(save)),
        label_values=label_values,
        min_area=min_area,
        fill_holes=fill_holes,
    )
    executor_class = LocalExecutor if cluster is None else CLUSTERS[cluster]
    executor = executor_class(
        model=model, tiling=tiling, tta=tuple(tta), device=device, precision=precision, engine=engine
    )
    with closing(executor):
        return predict_files(inputs, writer, executor, resume=resume, shard=shard)
