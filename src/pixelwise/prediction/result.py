"""Results of `predict` and `localize`. They import no PyTorch, so that the command line can print them."""

from dataclasses import dataclass
from pathlib import Path

from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictReport:
    """The result of `predict`."""

    written: tuple[Path, ...]
    """Files that were written; for a video the folder of its frames."""
    failures: tuple[tuple[Path, str], ...]
    """Inputs that could not be predicted, each with the reason."""
    skipped: int = 0
    """Number of inputs whose outputs `resume` found complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizedClass:
    """One class in one image."""

    name: str
    probability: float
    peak: Size
    """Row and column of the maximum of the heat map, in pixels of the image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizedImage:
    """One image and the classes found in it, most probable first."""

    image: Path
    heatmap: Path
    classes: tuple[LocalizedClass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizeReport:
    """The result of `localize`."""

    images: tuple[LocalizedImage, ...]
    failures: tuple[tuple[Path, str], ...]
    """Inputs that could not be localized, each with the reason."""
