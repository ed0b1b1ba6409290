"""Image in the user's frame → Prediction at the original size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import to_channels
from pixelwise.data.images import Array
from pixelwise.data.pixels import as_supported, require_finite
from pixelwise.devices import Precision, autocast, choose_device, choose_precision, has_fast_bf16
from pixelwise.errors import RequestError
from pixelwise.model_file import ModelSpec, load_model
from pixelwise.networks import Segmenter
from pixelwise.networks.bayesian import sample

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model made ready on one device, in one precision."""

    module: Segmenter
    spec: ModelSpec
    device: torch.device
    precision: Precision

    @property
    def classes(self) -> Classes:
        return self.spec.classes

    def predict(self, image: npt.ArrayLike, *, keep_logits: bool = False, samples: int = 1) -> Prediction:
        """(H, W) or (H, W, C) of the model's type → labels of the same height and width.

        Real numbers of other types than uint8 and uint16 are taken as float32, as they are from files,
        and must be finite: fill missing values before. Gray is repeated for an RGB model. Any other
        mismatch of channels or type is a DataError or RequestError. `keep_logits` holds K floats a
        pixel; without it `probabilities` and `logits` run the network once more when they are asked
        for. With several `samples`, dropout stays on: labels and probabilities are those of the mean
        over the samples, and `variance` says where they differ (Bayesian SegNet). Such a prediction
        differs from call to call, by torch's seed.
        """
        pixels = self._checked(np.asarray(image))
        if samples != 1:
            return self._sampled(pixels, samples)
        logits = self._run(pixels)
        kept = logits.cpu() if keep_logits else None
        return Prediction(
            labels=self._labels(logits), _logits=lambda: kept if kept is not None else self._run(pixels).cpu()
        )

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
        few = len(self.classes.names) <= 256
        labels = logits.argmax(0).to(torch.uint8 if few else torch.int32).cpu().numpy()
        return labels.astype(np.uint8 if few else np.uint16, copy=False)

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """(B, C, H, W) raw units, any device → logits (B, K, H, W) float32 on the predictor's device."""
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            logits: Tensor = self.module(images)
        return logits.float()

    def _run(self, pixels: Array) -> Tensor:
        return self.predict_batch(self._as_batch(pixels))[0]

    @staticmethod
    def _as_batch(pixels: Array) -> Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def _checked(self, image: Array) -> Array:
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
    """
    if engine not in ("auto", "torch"):
        raise RequestError(f"unknown engine {engine!r}; choose auto or torch.")
    module, spec = load_model(model)
    place = choose_device(device)
    return make_predictor(module, spec, place, _precision(precision, place, spec))


def make_predictor(module: Segmenter, spec: ModelSpec, device: torch.device, precision: Precision) -> Predictor:
    """A predictor around a module that is already there; the module is moved, not copied."""
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Predictor(module=module, spec=spec, device=device, precision=precision)


def _precision(name: str, device: torch.device, spec: ModelSpec) -> Precision:
    if name != "auto":
        return choose_precision(name, device)
    measured = spec.scores.get("bf16")
    agrees = (
        measured is not None
        and measured["agreement"] >= BF16_MIN_AGREEMENT
        and abs(measured["mean_iou_difference"]) <= BF16_MAX_DIFFERENCE
    )
    return "bf16" if agrees and has_fast_bf16(device) else "fp32"
