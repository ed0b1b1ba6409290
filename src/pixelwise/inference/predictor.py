"""Image in the user's frame → Prediction at the original size."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import to_channels
from pixelwise.data.images import Array
from pixelwise.data.pixels import as_supported, require_finite
from pixelwise.devices import Precision, autocast, choose_device, choose_precision, has_fast_bf16, keep_freed_memory
from pixelwise.errors import RequestError, unknown_name
from pixelwise.inference.engines import ENGINES, EngineName, Source, choose_engine, require_engine, with_network
from pixelwise.inference.memory import peak_bytes
from pixelwise.inference.tiles import PixelSource, Whole, blended, exact_tiles, plan_for, seam_score
from pixelwise.inference.tiling import Tile, TilePlan, choose_tile
from pixelwise.inference.transformed import mean_over, views
from pixelwise.model_file import ModelSpec, load_model
from pixelwise.networks import Segmenter
from pixelwise.networks.bayesian import sample
from pixelwise.networks.geometry import Field, field_of, skeleton_of
from pixelwise.shapes import Size

Tiling = Literal["exact", "blend", "none"]

WHOLE_PIXELS = 1024 * 1024
"""Images up to this size are always taken whole."""
MAX_BYTES = 1 << 30
"""For the tensors that live at once while one image or tile passes; larger images are cut into tiles.

The process takes more, as the allocator leaves gaps between blocks of many sizes: measured on a CPU, a
U-Net of width 32 in bf16 took 2.8 GB for tiles counted as 1.04 GB, and 4.5 GB for 2.1 GB. Such larger
tiles recompute less (1.13 against 1.20 pixels given to the network for each of the image), but took as
long: 0.66 microseconds of one core a pixel, both.
"""

WINDOWED_BYTES = 384 << 20
"""The same for images read window by window, whose promise is 2 GB for the whole process: 0.6 GB before the
first tile, and 2.2 times the tensors (1.74 GB in all for tiles counted as 512 MiB, a U-Net of width 2)."""
WINDOWED_SIZE = (1024, 2048)
"""Their tiles are chosen as for an image of at most this size: tiles of one shape, so one peak of memory, for
all. Low ones, as the labels of a whole row of tiles are held, in several copies as they are compressed."""

MAX_BATCH = 8
"""Images of one size that are predicted at once, if together they are no more than `WHOLE_PIXELS`. On
two cores a batch of 4 of 360x480 takes 6 % less time an image than one alone, larger ones no less."""

BF16_MIN_AGREEMENT = 0.995
"""Share of validation labels that bf16 must share with fp32 before `auto` takes it."""
BF16_MAX_DIFFERENCE = 0.003
"""Largest difference in mean IoU, likewise."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image."""

    labels: npt.NDArray[Any]
    """(H, W) uint8 (uint16 above 256 classes), class indices 0..K-1."""
    _logits: Callable[[], Tensor]
    """Gives (K, H, W) float32 on the CPU; kept, or computed again when asked."""
    variance: npt.NDArray[np.float32] | None = None
    """(H, W) of the class probabilities over the samples, averaged over the classes; None for one sample."""
    seam_score: float | None = None
    """Where tiles were blended: how many times as often labels change across the tiles' borders as
    elsewhere; near 1 where no seam can be seen. None for a whole image and for exact tiles."""

    @cached_property
    def logits(self) -> npt.NDArray[np.float32]:
        """(K, H, W) float32; of several samples, the logarithm of their mean probabilities."""
        logits: npt.NDArray[np.float32] = self._logits().numpy()
        return logits

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """(K, H, W) float32, summing to 1 over the classes; computed on first use."""
        probabilities: npt.NDArray[np.float32] = self._logits().softmax(0).numpy()
        return probabilities


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model made ready on one device, in one precision."""

    module: Segmenter
    """The model as it is stored. What predicts is a copy, made at the first prediction."""
    spec: ModelSpec
    device: torch.device
    precision: Precision
    engine: EngineName = "torch"
    running: nn.Module | None = None
    """The network as the engine runs it, where it is there already; None: it is made at the first prediction."""

    @property
    def classes(self) -> Classes:
        return self.spec.classes

    def predict(
        self,
        image: npt.ArrayLike,
        *,
        tiling: Tiling = "exact",
        tile_size: int | None = None,
        keep_logits: bool = False,
        samples: int = 1,
        tta: Sequence[str] = (),
    ) -> Prediction:
        """(H, W) or (H, W, C) of the model's type → labels of the same height and width.

        Real numbers of other types than uint8 and uint16 are taken as float32, as they are from files,
        and must be finite: fill missing values before. Gray is repeated for an RGB model. Any other
        mismatch of channels or type is a DataError or RequestError. `keep_logits` holds K floats a
        pixel; without it `probabilities` and `logits` run the network once more when they are asked
        for. With several `samples`, dropout stays on: labels and probabilities are those of the mean
        over the samples, and `variance` says where they differ (Bayesian SegNet). Such a prediction
        differs from call to call, by torch's seed.

        Args:
            tiling: "exact" cuts an image whose tensors would take more than 1 GiB into tiles that give
                what the whole image gives; a network that sees the whole image has none, and its tiles
                are blended. "blend" averages tiles that overlap by half. "none" takes it whole.
            tile_size: side in pixels of what one tile answers for, whatever the image's size; None:
                as large as memory allows.
            tta: "flips", "rotations", "scales": labels and probabilities are those of the mean over
                the image's views (`transformed.py`), which takes as many times as long and holds
                2 K floats a pixel, tiles or not.
        """
        if tiling not in get_args(Tiling):
            raise unknown_name("tiling", tiling, get_args(Tiling))
        if tile_size is not None and tile_size < 1:
            raise RequestError(f"tile_size is {tile_size}, but must be at least 1 pixel.")
        pixels = self.checked(np.asarray(image))
        if tta and samples != 1:
            raise RequestError("tta and samples are two ways to average; choose one.")
        if tta:
            return self._over_views(
                pixels, tta, lambda seen: self.predict(seen, tiling=tiling, tile_size=tile_size, keep_logits=True)
            )
        if samples != 1:
            return self._sampled(pixels, samples)
        size = (pixels.shape[0], pixels.shape[1])
        tile = None
        if tiling != "none":
            tile = (tile_size, tile_size) if tile_size else self._tile_for(size)
        if tile is None:
            return self._predicted(lambda: self._run(pixels), keep_logits)
        if tiling == "exact" and self.field is not None:
            return self._in_tiles(self.field, pixels, tile, keep_logits)
        prediction = self._predicted(lambda: blended(pixels, tile, self._run), keep_logits)
        return replace(prediction, seam_score=seam_score(prediction.labels, tile))

    def batch_size(self, size: Size) -> int:
        """How many images of this height and width are predicted at once; 1: they go alone.

        float32 on the CPU is the reference: there sums of small maps round differently in a batch, in
        the last bits, and what an image gives must not depend on its neighbors.
        """
        if self.device.type == "cpu" and self.precision == "fp32":
            return 1
        return max(1, min(MAX_BATCH, WHOLE_PIXELS // max(size[0] * size[1], 1)))

    def predict_alike(self, images: Sequence[npt.ArrayLike], *, keep_logits: bool = False) -> list[Prediction]:
        """Images of one shape, each taken whole, in one batch; for each what `predict` gives, up to rounding."""
        pixels = [self.checked(np.asarray(image)) for image in images]
        logits = self.predict_batch(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
        labels = self._labels(logits)
        kept = logits.cpu() if keep_logits else None

        def prediction(index: int) -> Prediction:
            one = None if kept is None else kept[index].clone()  # so that it does not hold the whole batch
            return Prediction(
                labels=labels[index].copy(),
                _logits=lambda: self._run(pixels[index]).cpu() if one is None else one,
            )

        return [prediction(index) for index in range(len(pixels))]

    def _predicted(self, run: Callable[[], Tensor], keep_logits: bool) -> Prediction:
        logits = run()
        kept = logits.cpu() if keep_logits else None
        return Prediction(labels=self._labels(logits), _logits=lambda: run().cpu() if kept is None else kept)

    def _in_tiles(self, field: Field, pixels: Array, tile: Size, keep_logits: bool) -> Prediction:
        """By exact tiles: only the labels are as large as the image, unless the logits are asked for."""

        source = Whole(pixels)
        plan = plan_for(self.module, field, source.size, tile)

        def all_logits() -> Tensor:
            logits = torch.empty(len(self.classes.names), *source.size)
            for part, found in self._answers(source, plan):
                logits[:, *part.write] = found.cpu()
            return logits

        if keep_logits:
            return self._predicted(all_logits, keep_logits)
        labels = np.empty(source.size, self._label_type)
        for part, found in self.label_tiles(source, plan):
            labels[part.write] = found
        return Prediction(labels=labels, _logits=all_logits)

    def plan_windows(self, size: Size) -> TilePlan:
        """Exact tiles of an image that is never in memory as a whole: alike whatever its size.

        RequestError for a network that sees the whole image.
        """
        if self.field is None:
            raise RequestError(
                f"{self.spec.network.name!r} sees the whole image, so it has no exact tiles and cannot take an image "
                f"window by window; cut the image, or train a network with batch normalization or none."
            )
        sample = min(size[0], WINDOWED_SIZE[0]), min(size[1], WINDOWED_SIZE[1])
        framed = len(self.module.frame(sample[0])), len(self.module.frame(sample[1]))
        most = int(WINDOWED_BYTES / self._bytes_per_pixel)
        for share in (1.0, 0.9, 0.8, 0.6, 0.4, 0.2):
            tile = choose_tile(self.field, sample, framed, int(share * most))
            plan = plan_for(self.module, self.field, size, tile)
            if math.prod(plan.largest) <= most:  # tiles at the sample's border see less than those inside
                break
        return plan

    def label_tiles(self, source: PixelSource, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, npt.NDArray[Any]]]:
        """Each tile of a plan with the labels of `tile.write`; of a source whose pixels are as `checked` gives them."""
        for part, logits in self._answers(source, tiles):
            labels = self._labels(logits)
            del logits  # or two tiles' would be held while the next one passes
            yield part, labels

    def _answers(self, source: PixelSource, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Tensor]]:
        return exact_tiles(self.module, source, tiles, lambda seen: self._run(seen, self._ready.on_frame))

    def _over_views(self, pixels: Array, tta: Sequence[str], predict: Callable[[Array], Prediction]) -> Prediction:
        scores: list[float | None] = []

        def probabilities(seen: Array) -> Tensor:
            prediction = predict(seen)
            scores.append(prediction.seam_score)
            return torch.from_numpy(prediction.probabilities)

        logits = mean_over(views(tta), pixels, probabilities).log()
        return Prediction(labels=self._labels(logits), _logits=lambda: logits, seam_score=scores[0])

    @cached_property
    def field(self) -> Field | None:
        """The geometry of the network; None where it sees the whole image, so that no tile is exact."""
        try:
            field = field_of(self.module.network, in_channels=self.spec.channels)
        except RequestError:  # an operator that geometry does not know
            return None
        return field if field.local else None

    @cached_property
    def _ready(self) -> Segmenter:
        """The module, with its network made for prediction alone by the engine."""
        network = self.running
        if network is None:
            source = Source(module=self.module, channels=self.spec.channels)
            network = ENGINES[self.engine].build(source, self.device, self.precision)
        return with_network(self.module, network)

    @property
    def _traced_size(self) -> Size:
        return (len(self.module.frame(512)),) * 2

    def _tile_for(self, size: Size) -> Size | None:
        """The height and width of tiles that memory allows; None: the image can be taken whole."""
        if size[0] * size[1] <= WHOLE_PIXELS:
            return None
        framed = (len(self.module.frame(size[0])), len(self.module.frame(size[1])))
        max_pixels = int(MAX_BYTES / self._bytes_per_pixel)
        if framed[0] * framed[1] <= max_pixels:
            return None
        if self.field is None:
            return (math.isqrt(max_pixels) // 2,) * 2
        return choose_tile(self.field, size, framed, max_pixels)

    @cached_property
    def _bytes_per_pixel(self) -> float:
        """Of memory that a pixel of a framed image takes, at most, on its way."""
        size = self._traced_size
        # Another engine tells nothing of its memory: it is taken to need no more than PyTorch, unfolded.
        network = self._ready.network if self.engine == "torch" else self.module.network
        in_float32 = peak_bytes(skeleton_of(network), size, channels=self.spec.channels)
        return in_float32 / (size[0] * size[1]) / (2 if self.precision == "bf16" else 1)

    @torch.inference_mode()
    def _sampled(self, pixels: Array, samples: int) -> Prediction:
        if not any(isinstance(module, nn.Dropout) and module.p for module in self.module.modules()):
            raise RequestError(
                f"{self.spec.network.name!r} has no dropout, so its samples would all be alike; train a "
                "bayesian-segnet, or leave samples out."
            )
        images = self._as_batch(pixels).to(self.device)
        with autocast(self.device, self.precision):
            mean, variance = sample(self.module, images.contiguous(memory_format=torch.channels_last), samples)
        kept = mean[0].log().cpu()
        return Prediction(labels=self._labels(kept), _logits=lambda: kept, variance=variance[0].cpu().numpy())

    def _labels(self, logits: Tensor) -> npt.NDArray[Any]:
        """(..., K, H, W) → (..., H, W)."""
        few = self._label_type is np.uint8
        labels = logits.argmax(-3).to(torch.uint8 if few else torch.int32).cpu().numpy()
        return labels.astype(self._label_type, copy=False)

    @property
    def _label_type(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if len(self.classes.names) <= 256 else np.uint16

    def predict_batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) raw units, any device → logits (B, K, H, W) float32 on the predictor's device."""
        return self._infer(self._ready, images)

    @torch.inference_mode()
    def _infer(self, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        if self.device.type == "cuda":
            images = images.pin_memory() if images.is_cpu else images
        images = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            return run(images).float()

    def _run(self, pixels: Array, module: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """(H, W, C) → (K, H, W)."""
        return self._infer(module or self._ready, self._as_batch(pixels))[0]

    @staticmethod
    def _as_batch(pixels: Array) -> Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def checked(self, image: Array) -> Array:
        """(H, W) or (H, W, C) → (H, W, C) as the model takes it, or the errors that `predict` lists."""
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise RequestError(f"an image is (H, W) or (H, W, C) with no side of 0, not {image.shape}.")
        pixels = as_supported(pixels)
        if str(pixels.dtype) != self.spec.dtype:
            raise RequestError(
                f"the image is {image.dtype}, but the model was trained on {self.spec.dtype}; "
                f"give pixels in the units of the training images."
            )
        require_finite(pixels)
        # torch.from_numpy refuses to share memory that must not be written, such as Pillow's.
        return np.require(to_channels(pixels, self.spec.channels, "the image"), requirements=["C", "W"])


def load(model: str | Path, *, device: str = "auto", precision: str = "auto", engine: str = "auto") -> Predictor:
    """A run folder or a model file → a predictor.

    `precision="auto"` takes bf16 where the device computes in it and this model was measured to
    give the same answers (kept in the model file), else fp32, the reference.

    `engine` is "torch", "openvino" (on the CPU) or "onnxruntime" (in fp32). "auto" is torch here: the
    others take seconds to start, and how many images are to come only `predict` and `evaluate` know.
    """
    name = choose_engine(engine)
    place = choose_device(device)
    if device == "auto" and not ENGINES[name].runs_on(place):
        place = torch.device("cpu")
    module, spec = load_model(model)
    chosen = _precision(precision, place, spec, name)
    require_engine(name, place, chosen)
    return make_predictor(module, spec, place, chosen, name)


def make_predictor(
    module: Segmenter, spec: ModelSpec, device: torch.device, precision: Precision, engine: EngineName = "torch"
) -> Predictor:
    """A predictor around a module that is already there; the module is moved, not copied."""
    if device.type == "cpu":
        keep_freed_memory()
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Predictor(module=module, spec=spec, device=device, precision=precision, engine=engine)


def _precision(name: str, device: torch.device, spec: ModelSpec, engine: EngineName) -> Precision:
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
