"""Predict files, folders, globs and URLs, and write the outputs of each image or video."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from pixelwise.data.io.images import Array, are_channels, find_stack_axes
from pixelwise.data.rasters.rasterio_reader import needs_windows
from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, PixelwiseError, describe_failure
from pixelwise.inference.batching import PredictedImage, predict_all
from pixelwise.inference.predictor import PredictionOptions, Predictor, load, require_dropout
from pixelwise.model_file import read_checksum, read_spec
from pixelwise.output_files import claim_output
from pixelwise.prediction.inputs import Input, RasterInput, StackInput, VideoInput, find_inputs, group_channels
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles, log_blending, write_in_background
from pixelwise.prediction.rasters import predict_raster
from pixelwise.prediction.result import PredictReport
from pixelwise.prediction.stacks import predict_stack
from pixelwise.prediction.videos import count_frames, predict_video
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, unsafe_hash=True)
class LocalExecutor:
    """Predicts inputs with one model in this process.

    `start` loads the model for a number of images and returns the precision. `run` predicts, after `start`.
    """

    writes_elsewhere: ClassVar[bool] = False
    """True if other processes write the outputs, so that this one knows only the files."""

    model: str | Path
    options: PredictionOptions = field(default_factory=PredictionOptions)
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    threshold: float | None = None
    predictor: Predictor = field(init=False, repr=False, compare=False)

    def start(self, num_images: int) -> Precision:
        options = {"device": self.device, "precision": self.precision, "engine": self.engine}
        self.predictor = load(self.model, num_images=num_images, threshold=self.threshold, **options)
        return self.predictor.precision

    def run(self, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[WrittenFiles | Exception]:
        """Predict inputs and write their files; yields the files of each input or the error, in order."""

        spec = self.predictor.spec

        def write(one: PredictedImage[Input, Array | None]) -> WrittenFiles:
            if one.prediction.seam_score is not None:
                log_blending(one.item.name, one.prediction.seam_score, self.options.tiling)
            return writer.write(one.item, one.image, one.prediction, one.extra)

        predicted = predict_all(
            self.predictor,
            [item for item in inputs if not item.is_long],
            lambda item: item.read(spec.channels, spec.nodata),
            options=self.options,
            keep_logits=writer.needs_probabilities,
            name=lambda item: item.name,
        )
        written = write_in_background(predicted, write)
        for item in inputs:
            yield self._predict_long(writer, item) if item.is_long else next(written)

    def close(self) -> None:
        """Release what `start` acquired."""

    def _predict_long(self, writer: OutputWriter, item: Input) -> WrittenFiles | Exception:
        try:
            if isinstance(item, VideoInput):
                return predict_video(self.predictor, writer, item, self.options)
            if isinstance(item, StackInput):
                return predict_stack(self.predictor, writer, item, self.options)
            if not (writer.only_labels and self.options.is_exact):
                raise InvalidArgumentError(
                    f"{item.name}: This image is read window by window, which only gives labels. Use --save labels "
                    f"without --tiling, --label-values, --min-area, --fill-holes, --tta and --samples."
                )
            target = writer.list_paths(item)["labels"]
            predict_raster(self.predictor, item.path, target, manifest=writer.manifest, resume=writer.resumed)
            return WrittenFiles((target,))
        except (PixelwiseError, OSError) as error:
            return error


def predict_files(
    inputs: Sequence[str | Path],
    writer: OutputWriter,
    executor: LocalExecutor,
    *,
    resume: bool = False,
    overwrite: bool = False,
    shard: str | None = None,
) -> PredictReport:
    """Predict every input and write its outputs.

    TIFFs larger than memory, JPEG 2000, whole slides and OME-Zarr are read window by window, and get a label GeoTIFF
    or OME-Zarr. A video gets a labeled video and a folder with the outputs of its frames. A stack gets a TIFF of the
    labels of its pages and a folder with their other outputs. For a model that was trained on images with one file per
    channel, STEM_0000.png, STEM_0001.png, ... are the image STEM. An input that fails is listed in the report; the
    others continue.

    Args:
        resume: skip inputs whose files the same request has completed.
        overwrite: replace files of the user and of other requests.
        shard: "2/8" predicts the second of eight shares of the inputs; eight such jobs may share the output folder.
            Files that cover all images are left to a last job with `resume`.

    Raises:
        InvalidArgumentError: nothing to predict, a file that would be replaced, another process that writes to the
            folder, or a request that cannot be executed. Then nothing is written.
    """
    spec = read_spec(executor.model)
    found = find_inputs(inputs, writer.folder, videos=True)
    if spec.channel_files:
        found = group_channels(found, spec.channels)
    options = executor.options
    if options.samples > 1:
        with torch.device("meta"):
            require_dropout(spec.build(), spec)
    elif "variance" in writer.kinds:
        raise InvalidArgumentError("The output variance compares samples. Add --samples, such as --samples 50.")
    can_use_windows = writer.only_labels and options.is_exact
    for index, item in enumerate(found):
        if type(item) is Input and not item.url:
            axes = find_stack_axes(item.path)
            if axes and not are_channels(axes, spec.channels):
                item = StackInput(item.path, item.stem, axes=axes)
            elif needs_windows(item.path, can_use_windows):
                item = RasterInput(item.path, item.stem)
        if "labels" in writer.kinds and not isinstance(item, RasterInput | VideoInput):
            item = replace(item, is_georeferenced=item.has_place())
        found[index] = item
    for option, given in (("--resume", resume), ("--shard", shard), ("--cluster", executor.writes_elsewhere)):
        if given:
            writer.require_label_files(option)
    share = take_share(found, shard) if shard else found
    if shard:
        logger.info(f"shard {shard}: {len(share)} of {len(found)} inputs")
    conflicts = writer.find_conflicts(found)
    failures = [(item.path, conflicts[item]) for item in share if item in conflicts]
    share = [item for item in share if item not in conflicts]
    if not share:
        return PredictReport(written=(), failures=tuple(failures))
    num_images = sum(map(_count_images, share))
    request = {
        "model": read_checksum(executor.model),
        "precision": executor.start(num_images),
        "tiling": options.tiling,
        "threshold": executor.threshold,
        "label_values": writer.label_values,
        "min_area": writer.min_area,
        "fill_holes": writer.fill_holes,
        "simplify": writer.simplify,
        "tta": sorted(set(options.tta)),
        "samples": options.samples,
        "seed": options.seed if options.samples > 1 else None,
        "engine": executor.engine,  # as given: the engine that "auto" chooses gives the same labels
    }
    if "overlay" in writer.kinds:
        request |= {"overlay_style": writer.overlay_style, "opacity": writer.opacity}
    number, num_shards = (int(part) for part in shard.split("/")) if shard else (0, 0)
    shared = {**request, "shards": num_shards} if shard else request
    written: list[Path] = []
    with claim_output(writer.folder, shared, shard=f"{number}/{num_shards}" if shard else "") as claim:
        complete = writer.begin(
            share, spec.classes, request, claim, resume=resume, overwrite=overwrite, is_shard=shard is not None
        )
        results = executor.run(writer, [item for item in share if item not in complete])
        for count, item in enumerate(share, start=1):
            result = WrittenFiles(()) if item in complete else next(results)
            try:
                if isinstance(result, Exception):
                    raise result
                if item in complete or executor.writes_elsewhere:
                    writer.add_from_files(item)
                elif result.labeled is not None:
                    writer.add(result.labeled)
                written += result.paths
            except (PixelwiseError, OSError) as error:
                failures.append((item.path, describe_failure(error)))
            report_progress("predict", count, len(share))
        next(results, None)  # lets the executor clean up after the last input
        written += writer.finish(is_shard=shard is not None)
    return PredictReport(written=tuple(written), failures=tuple(failures), skipped=len(complete))


def _count_images(item: Input) -> int:
    if isinstance(item, StackInput):
        return len(item.list_pages())
    return count_frames(item) if isinstance(item, VideoInput) else 1


def take_share(inputs: Sequence[Input], shard: str) -> list[Input]:
    """Return the i-th of n shares of the inputs, for a shard `i/n`.

    Neighbors, which often have the same size, go to different shards: 2/3 of a b c d e f g is b e.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise InvalidArgumentError(
            f"--shard is {shard!r}. Expected i/n with i from 1 to n, such as 2/8 for the second of eight jobs."
        )
    return list(inputs[number - 1 :: count])
