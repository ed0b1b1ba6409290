"""The networks from which the planner chooses, from small to large."""

import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from pixelwise.config import Config
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCandidate:
    """A network that the planner may choose."""

    gflops: float
    """Operations of a forward pass for an image of 352x480 with 3 channels and 11 classes, in 10^9."""
    base_channels: int
    depth: int = 4
    max_channels: int = 512
    stem_stride: int = 1

    @property
    def keys(self) -> dict[str, Any]:
        """Return config keys and values."""
        return {
            f"network.{name}": getattr(self, name) for name in ("base_channels", "depth", "max_channels", "stem_stride")
        }

    def apply_to(self, config: Config, fixed: Set[str]) -> Config:
        """Return the config with this network, except for the `fixed` keys."""
        return config.replace({key: value for key, value in self.keys.items() if key not in fixed})

    @property
    def title(self) -> str:
        """Return a short description."""
        return f"{self.base_channels} channels, depth {self.depth}, stem {self.stem_stride}"


CANDIDATES = (
    NetworkCandidate(gflops=4, base_channels=16, max_channels=256, stem_stride=2),
    NetworkCandidate(gflops=15, base_channels=32, max_channels=256, stem_stride=2),
    NetworkCandidate(gflops=34, base_channels=48, stem_stride=2),
    NetworkCandidate(gflops=59, base_channels=64, stem_stride=2),
    NetworkCandidate(gflops=235, base_channels=64, stem_stride=1),
)
"""From small to large."""

MIN_CELLS = 2
"""Smallest side of the coarsest feature map, so that a cell has neighbors."""


def suits_pretrained(fingerprint: Fingerprint) -> bool:
    """Return whether the images are like those of ImageNet: three channels of 8 bits."""
    return (fingerprint.channels, fingerprint.dtype) == (3, "uint8")


def list_candidates(crop: Size) -> tuple[NetworkCandidate, ...]:
    """Return the candidates for a size of samples, from small to large."""
    return tuple(
        dataclasses.replace(candidate, depth=compute_depth(crop, candidate.stem_stride)) for candidate in CANDIDATES
    )


def compute_depth(crop: Size, stem_stride: int, max_depth: int = 4) -> int:
    """Return the largest depth at which the coarsest feature map has `MIN_CELLS` cells on its shorter side."""
    depth = max_depth
    while depth > 1 and min(crop) < MIN_CELLS * stem_stride * 2**depth:
        depth -= 1
    return depth
