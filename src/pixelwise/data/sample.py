"""What one example is: an image file and its label file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sample:
    """One image with its labels on disk; nothing is read yet."""

    name: str
    """Path of the image below the folder of images, without ending: `train/0001`."""
    image_path: Path
    label_path: Path
    split: Split | None
    """None where the layout has no splits."""
