"""The networks that the planner chooses from, small to large, for what the data is."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pixelwise.planning.encoders import Found
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network that the planner may choose."""

    gflops: float
    """Of one forward pass for an image of 352x480 with 3 channels and 11 classes, in 10^9."""
    width: int | None = None
    depth: int = 4
    max_width: int = 512
    stem_stride: int = 1
    encoder: str | None = None
    weights: Literal["none", "imagenet"] = "none"
    origin: str = ""
    """Where the weights are, in words."""

    @property
    def keys(self) -> dict[str, Any]:
        """As keys of a recipe."""
        fields = dataclasses.asdict(self).items()
        return {f"network.{name}": value for name, value in fields if name not in ("gflops", "origin")}

    @property
    def title(self) -> str:
        if self.encoder:
            return f"encoder {self.encoder}"
        return f"width {self.width}, depth {self.depth}, stem {self.stem_stride}"


CANDIDATES = (
    Candidate(gflops=4, width=16, max_width=256, stem_stride=2),
    Candidate(gflops=15, width=32, max_width=256, stem_stride=2),
    Candidate(gflops=34, width=48, stem_stride=2),
    Candidate(gflops=59, width=64, stem_stride=2),
    Candidate(gflops=235, width=64, stem_stride=1),
)
"""Small to large."""

ENCODER_GFLOPS = {"resnet18": 30.0, "resnet34": 42.0}

MIN_CELLS = 2
"""Of the coarsest map, along the shorter side of a sample: one cell alone has nothing to be compared with."""


def candidates_for(crop: Size, seen: Fingerprint, found: list[Found]) -> tuple[Candidate, ...]:
    """Small to large. Pretrained encoders take the place of all but the smallest network where the images
    are of the kind that they were trained on: three channels of 8 bit.
    """
    own = tuple(dataclasses.replace(one, depth=depth_for(crop, one.stem_stride)) for one in CANDIDATES)
    if not found or (seen.channels, seen.dtype) != (3, "uint8"):
        return own
    pretrained = (
        Candidate(
            gflops=ENCODER_GFLOPS[one.encoder.removeprefix("timm:")],
            encoder=one.encoder,
            weights="imagenet",
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
