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
    """None where the format has no splits."""
    image_entry: str = ""
    """Which part of `image_path` is the image, where that file holds several: `0001.jpg` of a tar file."""
    label_entry: str = ""

    @property
    def image_place(self) -> str:
        """What messages call the image: its file, and where in it."""
        return entry_of(str(self.image_path), self.image_entry)

    @property
    def label_place(self) -> str:
        """What messages call the labels."""
        return entry_of(str(self.label_path), self.label_entry)


def entry_of(file: str, entry: str) -> str:
    """`shard.tar: 0001.png`; the file itself where it holds nothing else."""
    return f"{file}: {entry}" if entry else file
