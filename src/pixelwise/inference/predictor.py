"""Image in the user's frame → Prediction at the original size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import match_channels
from pixelwise.data.io.decoded_image import convert_dtype, require_finite
from pixelwise.data.io.images import Array
from pixelwise.devices import Precision, autocast, choose_device, choose_precision, has_fast_bf16, keep_freed_memory
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.inference.engines import ENGINES, EngineName, Source, choose_engine, require_engine, with_network
from pixelwise.inference.int8_file import read_int8
from pixelwise.inference.tiling.plan import Tile, TilePlan
from pixelwise.inference.tiling.planner import WHOLE_PIXELS, TilePlanner
from pixelwise.inference.tiling.tiled import ArraySource, PixelSource, blend_tiles, compute_seam_score, predict_tiles
from pixelwise.inference.tta import mean_over, views
from pixelwise.model_file import ModelSpec, load_model
from pixelwise.networks import Segmenter
from pixelwise.networks.geometry.network_geometry import NetworkGeometry, trace_geometry
from pixelwise.networks.mc_dropout import sample_predictions
from pixelwise.shapes import Size

Tiling = Literal["exact", "blend", "none"]

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
        mismatch of channels or type is a DataError or InvalidArgumentError. `keep_logits` holds K floats a
        pixel; without it `probabilities` and `logits` run the network once more when they are asked
        for. With several `samples`, dropout stays on: labels and probabilities are those of the mean
        over the samples, and `variance` says where they differ (Bayesian SegNet). Such a prediction
        differs from call to call, by torch's seed.

        Args:
            tiling: "exact" cuts an image whose tensors would take more than 1 GiB into parts that give
                what the whole image gives; a network that sees the whole image has none, and its tiles
                are blended. "blend" averages tiles that overlap by half. "none" takes it whole.
            tile_size: side in pixels of what one tile answers for, whatever the image's size; None: as
                memory allows.
            tta: "flips", "rotations", "scales": labels and probabilities are those of the mean over
                the image's views (`transformed.py`), which takes as many times as long and holds
                2 K floats a pixel, tiles or not.
        """
        if tiling not in get_args(Tiling):
            raise unknown_name("tiling", tiling, get_args(Tiling))
        if tile_size is not None and tile_size < 1:
            raise InvalidArgumentError(f"tile_size is {tile_size}, but must be at least 1 pixel.")
        pixels = self.checked(np.asarray(image))
        if tta and samples != 1:
            raise InvalidArgumentError("tta and samples are two ways to average; choose one.")
        if tta:
            return self._over_views(
                pixels, tta, lambda seen: self.predict(seen, tiling=tiling, tile_size=tile_size, keep_logits=True)
            )
        if samples != 1:
            return self._sampled(pixels, samples)
        size = (pixels.shape[0], pixels.shape[1])
        asked = (tile_size, tile_size) if tile_size else None
        if tiling == "none" or (not asked and self.tile_planner.is_whole(size)):
            return self._predicted(lambda: self._run(pixels), keep_logits)
        if tiling == "exact" and self.geometry is not None:
            return self._predict_tiled(self.tile_planner.plan(size, asked), pixels, keep_logits)
        tile = asked or self.tile_planner.blend_tile_size
        prediction = self._predicted(lambda: blend_tiles(pixels, tile, self._run), keep_logits)
        return replace(prediction, seam_score=compute_seam_score(prediction.labels, tile))

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
            return self._predicted(predict_logits, keep_logits)
        labels = np.empty(source.size, self._label_type)
        for tile, tile_labels in self.label_tiles(source, plan):
            labels[tile.write] = tile_labels
        return Prediction(labels=labels, _logits=predict_logits)

    def label_tiles(
        self, source: PixelSource, plan: TilePlan, is_done: Callable[[Tile], bool] = lambda tile: False
    ) -> Iterator[tuple[Tile, npt.NDArray[Any]]]:
        """Yield each tile of a plan that is not done with its labels (h, w).

        Args:
            source: The image, with pixels as `checked` returns them.
            plan: Its tiles.
            is_done: Whether to skip a tile.
        """
        for tile, logits in self._predict_tiles(source, plan, is_done):
            labels = self._labels(logits)
            del logits  # or the logits of two tiles would be in memory while the next one is predicted
            yield tile, labels

    def _predict_tiles(
        self, source: PixelSource, plan: TilePlan, is_done: Callable[[Tile], bool] = lambda tile: False
    ) -> Iterator[tuple[Tile, Tensor]]:
        return predict_tiles(
            self.module, source, plan, lambda pixels: self._run(pixels, self._ready.forward_padded), is_done
        )

    def _over_views(self, pixels: Array, tta: Sequence[str], predict: Callable[[Array], Prediction]) -> Prediction:
        scores: list[float | None] = []

        def probabilities(seen: Array) -> Tensor:
            prediction = predict(seen)
            scores.append(prediction.seam_score)
            return torch.from_numpy(prediction.probabilities)

        logits = mean_over(views(tta), pixels, probabilities).log()
        return Prediction(labels=self._labels(logits), _logits=lambda: logits, seam_score=scores[0])

    @cached_property
    def geometry(self) -> NetworkGeometry | None:
        """The geometry of the network; None where it sees the whole image, so that no tile is exact."""
        try:
            geometry = trace_geometry(self.module.network, in_channels=self.spec.channels)
        except InvalidArgumentError:  # an operator that geometry does not know
            return None
        return geometry if geometry.is_local else None

    @cached_property
    def _ready(self) -> Segmenter:
        """The module, with its network made for prediction alone by the engine."""
        network = self.running
        if network is None:
            source = Source(module=self.module, channels=self.spec.channels)
            network = ENGINES[self.engine].build(source, self.device, self.precision)
        return with_network(self.module, network)

    @cached_property
    def tile_planner(self) -> TilePlanner:
        """Plans how images are tiled."""
        # Another engine is assumed to need no more memory than PyTorch without batch-norm fusion.
        return TilePlanner(
            module=self._ready if self.engine == "torch" else self.module,
            channels=self.spec.channels,
            precision=self.precision,
            geometry=self.geometry,
        )

    @torch.inference_mode()
    def _sampled(self, pixels: Array, samples: int) -> Prediction:
        if not any(isinstance(module, nn.Dropout) and module.p for module in self.module.modules()):
            raise InvalidArgumentError(
                f"{self.spec.network.name!r} has no dropout, so its samples would all be alike; train a "
                "bayesian-segnet, or leave samples out."
            )
        images = self._as_batch(pixels).to(self.device)
        with autocast(self.device, self.precision):
            mean, variance = sample_predictions(
                self.module, images.contiguous(memory_format=torch.channels_last), samples
            )
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
        images = self._on_device(images)
        with autocast(self.device, self.precision):
            return run(images).float()

    def _on_device(self, images: Tensor) -> Tensor:
        if self.device.type == "cuda":
            images = images.pin_memory() if images.is_cpu else images
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

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
            raise InvalidArgumentError(f"an image is (H, W) or (H, W, C) with no side of 0, not {image.shape}.")
        pixels = convert_dtype(pixels)
        if str(pixels.dtype) != self.spec.dtype:
            raise InvalidArgumentError(
                f"the image is {image.dtype}, but the model was trained on {self.spec.dtype}; "
                f"give pixels in the units of the training images."
            )
        require_finite(pixels)
        if self.spec.channel_files and pixels.shape[2] != self.spec.channels:  # one of its files: never repeated
            raise InvalidArgumentError(
                f"the image has {pixels.shape[2]} channel(s), but the model was trained on images of "
                f"{self.spec.channels} files, one a channel; call them STEM_0000 to STEM_{self.spec.channels - 1:04d}, "
                f"or give all channels in one."
            )
        # torch.from_numpy refuses to share memory that must not be written, such as Pillow's.
        return np.require(match_channels(pixels, self.spec.channels, "the image"), requirements=["C", "W"])


def load(model: str | Path, *, device: str = "auto", precision: str = "auto", engine: str = "auto") -> Predictor:
    """A run folder or a model file → a predictor.

    `precision="auto"` takes bf16 where the device computes in it and this model was measured to
    give the same answers (kept in the model file), else fp32, the reference.

    `precision="int8"` needs the file that `quantize` writes.

    `engine` is "torch", "torch-compile", "openvino" (on the CPU) or "onnxruntime" (in fp32 and int8). "auto" is torch
    here, but in int8: the others take seconds to start, and how many images are to come only `predict` and
    `evaluate` know.
    """
    name = choose_engine(engine, precision)
    place = choose_device(device)
    if device == "auto" and not ENGINES[name].runs_on(place):
        place = torch.device("cpu")
    module, spec = load_model(model)
    chosen = _precision(precision, place, spec, name)
    require_engine(name, place, chosen)
    predictor = make_predictor(module, spec, place, chosen, name)
    return in_int8(predictor, name, read_int8(model, name)[0]) if chosen == "int8" else predictor


def make_predictor(
    module: Segmenter, spec: ModelSpec, device: torch.device, precision: Precision, engine: EngineName = "torch"
) -> Predictor:
    """A predictor around a module that is already there; the module is moved, not copied."""
    if device.type == "cpu":
        keep_freed_memory()
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Predictor(module=module, spec=spec, device=device, precision=precision, engine=engine)


def in_int8(predictor: Predictor, engine: EngineName, graph: bytes) -> Predictor:
    """The predictor with its network in int8, as ONNX, on an engine that has int8."""
    source = Source(module=predictor.module, channels=predictor.spec.channels, int8=graph)
    running = ENGINES[engine].build(source, predictor.device, "int8")
    return replace(predictor, precision="int8", engine=engine, running=running)


def _precision(name: str, device: torch.device, spec: ModelSpec, engine: EngineName) -> Precision:
    choices = ("auto", *get_args(Precision))
    if name not in choices:
        raise unknown_name("precision", name, choices)
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
