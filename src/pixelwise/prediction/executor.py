"""Predict inputs and write their outputs in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, get_args

from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, PixelwiseError, require_known
from pixelwise.inference.batching import PredictedImage, predict_all
from pixelwise.inference.predictor import Predictor, Tiling, load
from pixelwise.inference.tta import TRANSFORMS
from pixelwise.prediction.async_writer import log_blending, write_in_background
from pixelwise.prediction.inputs import Input, VideoInput
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles
from pixelwise.prediction.rasters import predict_raster
from pixelwise.prediction.videos import predict_video


@dataclass(kw_only=True, unsafe_hash=True)
class LocalExecutor:
    """Predicts inputs with one model in this process.

    `start` loads the model for a number of images and returns the precision. `run` predicts, after `start`.
    """

    writes_elsewhere: ClassVar[bool] = False
    """True if other processes write the outputs, so that this one knows only the files."""

    model: str | Path
    tiling: Tiling = "exact"
    tta: tuple[str, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    predictor: Predictor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_known("tiling", [self.tiling], get_args(Tiling))
        require_known("test-time augmentation", self.tta, TRANSFORMS)

    @property
    def is_exact(self) -> bool:
        """Return whether tiles give the labels of the whole image."""
        return self.tiling == "exact" and not self.tta

    def start(self, num_images: int) -> Precision:
        options = {"device": self.device, "precision": self.precision, "engine": self.engine}
        self.predictor = load(self.model, num_images=num_images, **options)
        return self.predictor.precision

    def run(self, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[WrittenFiles | Exception]:
        """Predict inputs and write their files; yields the files of each input or the error, in order."""

        def write(one: PredictedImage[Input, None]) -> WrittenFiles:
            if one.prediction.seam_score is not None:
                log_blending(one.item.name, one.prediction.seam_score, self.tiling)
            return writer.write(one.item, one.image, one.prediction)

        predicted = predict_all(
            self.predictor,
            [item for item in inputs if not item.is_long],
            lambda item: (item.read(self.predictor.spec.channels), None),
            tiling=self.tiling,
            keep_logits=writer.needs_probabilities,
            tta=self.tta,
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
                return predict_video(self.predictor, writer, item, tiling=self.tiling, tta=self.tta)
            if not (writer.only_labels and self.is_exact):
                raise InvalidArgumentError(
                    f"{item.name}: This image is read window by window, which only gives labels. Use --save labels "
                    f"without --tiling, --label-values, --min-area, --fill-holes and --tta."
                )
            target = writer.list_paths(item)["labels"]
            predict_raster(self.predictor, item.path, target, manifest=writer.manifest, resume=writer.resumed)
            return WrittenFiles((target,))
        except (PixelwiseError, OSError) as error:
            return error
