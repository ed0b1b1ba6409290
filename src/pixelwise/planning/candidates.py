"""The networks that the planner chooses from, small to large, for what the data is."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.pretrained_lookup import Found
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network that the planner may choose."""

    gflops: float
    """Of one forward pass for an image of 352x480 with 3 channels and 11 classes, in 10^9."""
    base_channels: int | None = None
    depth: int = 4
    max_channels: int = 512
    stem_stride: int = 1
    encoder: str | None = None
    """With its ImageNet weights; None: the U-Net's own contracting path."""
    origin: str = ""
    """Where the encoder's weights are, in words."""

    @property
    def keys(self) -> dict[str, Any]:
        """As keys of a config; an encoder leaves no sizes to choose."""
        if self.encoder:
            return {"network.encoder": self.encoder, "network.encoder_weights": "imagenet"}
        return {
            f"network.{name}": getattr(self, name) for name in ("base_channels", "depth", "max_channels", "stem_stride")
        }

    @property
    def title(self) -> str:
        if self.encoder:
            return f"encoder {self.encoder}"
        return f"{self.base_channels} channels, depth {self.depth}, stem {self.stem_stride}"


CANDIDATES = (
    Candidate(gflops=4, base_channels=16, max_channels=256, stem_stride=2),
    Candidate(gflops=15, base_channels=32, max_channels=256, stem_stride=2),
    Candidate(gflops=34, base_channels=48, stem_stride=2),
    Candidate(gflops=59, base_channels=64, stem_stride=2),
    Candidate(gflops=235, base_channels=64, stem_stride=1),
)
"""Small to large."""

ENCODER_GFLOPS = {"resnet18": 30.0, "resnet34": 42.0}

MIN_CELLS = 2
"""Of the coarsest map, along the shorter side of a sample: one cell alone has nothing to be compared with."""


def suit_pretrained(seen: Fingerprint) -> bool:
    """Whether the images are of the kind that encoders were trained on: three channels of 8 bit."""
    return (seen.channels, seen.dtype) == (3, "uint8")


def candidates_for(crop: Size, found: list[Found]) -> tuple[Candidate, ...]:
    """Small to large. Pretrained encoders take the place of all but the smallest network."""
    own = tuple(dataclasses.replace(one, depth=depth_for(crop, one.stem_stride)) for one in CANDIDATES)
    if not found:
        return own
    pretrained = (
        Candidate(
            gflops=ENCODER_GFLOPS[one.encoder.removeprefix("timm:")],
            encoder=one.encoder,
            origin=f"{one.where}: {one.place}",
        )
        for one in found
    )
    return own[0], *pretrained


def depth_for(crop: Size, stem_stride: int, most: int = 4) -> int:
    """Poolings that leave at least `MIN_CELLS` cells along the shorter side of a sample."""
    depth = most
    while depth > 1 and min(crop) < MIN_CELLS * stem_stride * 2**depth:
        depth -= 1
    return depth
