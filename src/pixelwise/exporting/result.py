"""The results of an export. This module does not import PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from pixelwise.quantization.result import Int8Accuracy
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The agreement of an exported file with the model in float32, on synthetic images."""

    agreement: float
    """Share of pixels of all images with the same label."""
    largest_logit_gap: float
    """Largest absolute difference of two logits."""
    largest_logit: float
    """Largest absolute logit of the model, for scale."""
    sizes: tuple[Size, ...]
    """Sizes of the images, one a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """The files that `export` wrote."""

    file: Path
    other_files: tuple[Path, ...]
    """The card, and for some formats separate weights and a script."""
    num_bytes: int
    """Size of the file with its weights."""
    parity: Parity
    accuracy: Int8Accuracy | None = None
    """Only for int8: the accuracy that `quantize` measured."""
