"""What the doctor says, and every code it says it under."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pixelwise.data.classes import Classes
from pixelwise.data.scan import Reading, Survey
from pixelwise.data.splits.splits import Splits
from pixelwise.shapes import Size

Severity = Literal["error", "warning", "note"]

CODES: Mapping[str, tuple[Severity, str]] = {
    # files and pairs
    "missing_mask": ("error", "an image has no mask"),
    "orphan_mask": ("warning", "a mask has no image"),
    "same_stem": ("error", "files such as a.jpg and a.png, whose partner is ambiguous"),
    "outside_splits": ("error", "a file lies beside the split folders, so no split reads it"),
    "foreign_file": ("warning", "a file among images and masks that is neither"),
    "too_few_pairs": ("error", "nothing to train on, or nothing to validate on"),
    "broken_link": ("error", "a symbolic link leads nowhere"),
    "unreadable_name": ("error", "a file name is not valid UTF-8, so no list can hold it"),
    "empty_file": ("error", "a file of zero bytes"),
    "truncated_file": ("error", "the end of a file is missing, and decoders would make it up"),
    "decompression_bomb": ("error", "a file claims more pixels than any image may have"),
    "unreadable_image": ("error", "an image cannot be decoded, or its alpha channel varies"),
    "unreadable_mask": ("error", "a mask cannot be decoded, or is not a mask"),
    "wrong_extension": ("warning", "a file is of another format than its ending says"),
    # sizes
    "size_mismatch": ("error", "image and mask differ in size"),
    "exif_rotation": ("error", "the image is rotated by its EXIF orientation, and its mask is not"),
    "transposed_mask": ("error", "the mask has height and width exchanged"),
    # mask values
    "unlisted_values": ("error", "mask values that dataset.yaml does not list"),
    "interpolated_mask": ("error", "values between those of the classes, along their borders: a mask resized smoothly"),
    "jpeg_mask": ("error", "masks saved as JPEG, which changes ids to their neighbors"),
    "color_masks": ("error", "masks are color pictures, and dataset.yaml does not list the colors"),
    "palette_differs": ("error", "palette masks in which one index has different colors"),
    "palette_order": ("error", "the palette's color of an index is that of another class in dataset.yaml"),
    "rgba_mask": ("warning", "masks with an alpha channel"),
    "no_classes": ("error", "no mask shows a class, or masks are pictures of countless values"),
    "single_class": ("error", "one class alone: nothing to tell apart"),
    "foreground_ignored": ("error", "two classes over masks of 0 and 255, of which 255 is ignored"),
    "binary_masks": ("warning", "masks of 0 and 255, read as background and foreground"),
    "ids_compacted": ("note", "no dataset.yaml: mask values became classes in ascending order"),
    "all_ignored": ("warning", "a mask without a pixel to learn from"),
    "inverted_mask": ("warning", "a binary mask whose two classes are exchanged against the rest of the set"),
    # images
    "mixed_channels": ("error", "images unlike most, or unlike `channels`"),
    "gray_repeated": ("warning", "gray images among RGB ones are repeated to 3 channels"),
    "mixed_bit_depth": ("error", "images of different types of pixels, such as 8-bit and 16-bit, in one set"),
    "not_finite": ("error", "NaN or infinite values in an image"),
    "constant_image": ("warning", "an image of one value"),
    "swapped_channels": ("warning", "an image that fits the rest of the set better with red and blue exchanged"),
    "alpha_dropped": ("note", "a constant alpha channel was dropped"),
    # classes
    "class_unused": ("warning", "a named class that occurs nowhere"),
    "class_in_one_image": ("warning", "a class that occurs in a single image"),
    "class_not_in_train": ("warning", "a class that occurs in val or test, but not in train"),
    "class_not_in_split": ("warning", "a class that val or test never show, so it is not measured there"),
    "extreme_imbalance": ("warning", "a class that holds less than one labeled pixel in a thousand"),
    "empty_mask": ("warning", "a mask that shows background alone"),
    "tiny_objects": ("warning", "regions that vanish at the planned resolution"),
    # images among each other
    "contradicting_masks": ("error", "the same image twice, with different masks"),
    "duplicates": ("warning", "the same image twice in a split"),
    "duplicates_across_splits": ("warning", "the same image in two splits: scores are too good"),
    "near_duplicates": ("warning", "images of a split that are copies but for compression, size or noise"),
    "near_duplicates_across_splits": ("warning", "the same between two splits: scores are too good"),
    "group_in_two_splits": ("warning", "a group, as --group-by names it, has images in two splits"),
    "sequence_in_two_splits": ("warning", "frames or tiles next to each other, by their names, in two splits"),
    "split_made": ("note", "no val split: a seeded one is made"),
}
"""Code → severity and meaning. Codes are stable; docs/check.md has the cures.

`error`: training would be wrong or fail; `warning`: look at it; `note`: described.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    code: str
    """A key of `CODES`."""
    severity: Severity
    files: tuple[str, ...]
    """Relative to the dataset's root; only those that show the fault."""
    message: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "files": list(self.files),
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `pixelwise check` answers."""

    format: str
    num_images: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    findings: tuple[Finding, ...]
    surveyed: Survey | None = field(default=None, repr=False, compare=False)
    """What the findings were read from, for whoever shows it; it is no part of the answer."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "num_images": self.num_images,
            "classes": list(self.classes),
            "splits": self.splits,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the looks are given: all that was read, and what the user said of it."""

    surveyed: Survey
    splits: Splits
    resolution: Size | None = None
    """Height and width to which images would be scaled for training; None: they are not scaled."""
    group_by: str | None = None
    """What a split may not tear apart, as `data.group_by` of a config: a pattern on names, or FILE.csv:COLUMN."""

    @property
    def classes(self) -> Classes:
        assert self.surveyed.dataset.classes is not None
        return self.surveyed.dataset.classes

    @property
    def readings(self) -> tuple[Reading, ...]:
        return self.surveyed.readings

    @property
    def images(self) -> list[Reading]:
        """The readings whose image could be decoded."""
        return [r for r in self.readings if r.size]

    def names(self, paths: Iterable[Path]) -> list[str]:
        """Sorted, relative to the dataset if they lie in it, and printable whatever bytes a name is made of."""
        return _sorted(map(self.surveyed.dataset.relative, paths))

    def image_names(self, readings: Iterable[Reading]) -> list[str]:
        """Of the readings' images, with their members in files that hold several: `shard.tar: 0001.png`."""
        return _sorted(self.surveyed.dataset.image_file(r.sample) for r in readings)

    def mask_names(self, readings: Iterable[Reading]) -> list[str]:
        return _sorted(self.surveyed.dataset.label_file(r.sample) for r in readings)


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted({printable(name) for name in names})


Look = Callable[[Case], Iterator[Finding]]


def finding(code: str, files: Sequence[str], message: str, fix: str) -> Finding:
    """With the severity that its code has, always."""
    return Finding(
        code=code, severity=CODES[code][0], files=tuple(files), message=printable(message), fix=printable(fix)
    )


def printable(text: str) -> str:
    """Bytes of a file name that are no UTF-8 come as \\xNN, so that every terminal and JSON can show them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def some(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def count(number: int, noun: str) -> str:
    """`1 mask`, `2 masks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """Its first letter large; what follows stays as it is, for it may be a name."""
    return text[:1].upper() + text[1:]
