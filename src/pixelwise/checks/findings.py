"""Findings of the checks, and every code that they use."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pixelwise.errors import format_count

Severity = Literal["error", "warning", "note"]

CODES: Mapping[str, tuple[Severity, str]] = {
    "unreadable_dataset": (
        "error",
        "the dataset cannot be read: it does not exist, no format fits, or a file that describes it is invalid",
    ),
    # files and pairs
    "missing_mask": ("error", "an image has no mask"),
    "unlabeled_images": ("note", "the images of a test split have no masks"),
    "pairing": ("note", "names of images and masks differ in a pattern, or an image has several masks"),
    "unread_folder": (
        "note",
        "a folder contains as many pictures as there are images next to it, and nothing reads them",
    ),
    "no_ignore_mask": ("error", "an image has no mask in the folder that ignore_masks names"),
    "orphan_mask": ("warning", "a mask has no image"),
    "same_stem": ("error", "files such as a.jpg and a.png have the same name, so it is unclear which belong together"),
    "outside_splits": ("error", "a file is outside the split folders and is not read"),
    "missing_listed": ("error", "a split list names an image that does not exist, or by a name of several images"),
    "unused_list": ("error", "a split list contradicts others, or its name does not say that it is the one to use"),
    "not_listed": ("warning", "an image with a mask is in no split list, so it is not used"),
    "split_lists": ("note", "split lists define the splits"),
    "classes_differ": ("warning", "one of several DATA folders lacks classes of the others"),
    "foreign_file": ("warning", "a file in an image or mask folder is not an image"),
    "too_few_pairs": ("error", "no images are available for training or for validation"),
    "broken_link": ("error", "a symbolic link points to a file that does not exist, or was stored as text"),
    "unreadable_name": ("error", "a file name is not valid UTF-8"),
    "empty_file": ("error", "a file has zero bytes"),
    "truncated_file": ("error", "the end of a file is missing"),
    "decompression_bomb": ("error", "a file declares more pixels than an image may have"),
    "unreadable_image": ("error", "an image cannot be decoded, or its alpha channel varies"),
    "unreadable_mask": ("error", "a mask cannot be decoded, or is not a mask"),
    "wrong_extension": ("warning", "the contents of a file do not match its suffix"),
    # sizes
    "size_mismatch": ("error", "image and mask have different sizes"),
    "exif_rotation": ("error", "the image is rotated by its EXIF orientation, but the mask is not"),
    "transposed_mask": ("error", "height and width of the mask are swapped"),
    # places on the map
    "misplaced_mask": ("error", "image and mask have different corners, pixel sizes or coordinate systems on the map"),
    "flipped_mask": ("note", "a mask is south-up and its image north-up, or the reverse; the mask is flipped"),
    # mask values
    "unlisted_values": ("error", "masks contain values that no class has"),
    "interpolated_mask": ("error", "masks contain values between those of the classes along borders: interpolation"),
    "soft_masks": (
        "error",
        "masks have other values than those of the classes along borders, and dataset.yaml does not divide them",
    ),
    "instance_masks": ("error", "mask values number objects, and dataset.yaml does not say so"),
    "jpeg_mask": ("error", "masks are saved as JPEG, which changes class indices"),
    "color_masks": ("error", "masks are color images, and no class has their colors"),
    "palette_differs": ("error", "the same index has different colors in the palettes of different masks"),
    "palette_order": ("error", "the palette color of an index is the color of another class in dataset.yaml"),
    "rgba_mask": ("warning", "masks have an alpha channel"),
    "no_classes": ("error", "no mask contains a class, or the masks contain too many values to be classes"),
    "single_class": ("error", "there is only one class, or only one occurs in training"),
    "foreground_ignored": ("error", "masks of 0 and 255 have two classes, but 255 is ignored"),
    "binary_masks": ("warning", "masks of 0 and 255 are read as background and foreground"),
    "similar_masks": ("warning", "nearly all masks show the same area, as those of a field of view do"),
    "ids_compacted": ("note", "no classes are named: mask values became classes in ascending order"),
    "mask_nodata": (
        "warning",
        "a value that may be a class is declared as missing data in GeoTIFF masks, so it is ignored",
    ),
    "all_ignored": ("warning", "all pixels of a mask are ignored"),
    "inverted_mask": ("warning", "the two classes of a binary mask are exchanged, compared with the other masks"),
    "exchanged_classes": ("warning", "two classes of a mask are exchanged, compared with the other masks"),
    "shifted_mask": ("warning", "a mask is shifted by some pixels against its image"),
    # images
    "mixed_channels": ("error", "images have different numbers of channels, or not the declared number"),
    "gray_repeated": ("warning", "gray images among RGB images are repeated to 3 channels"),
    "mixed_bit_depth": ("error", "images have different pixel types, such as 8-bit and 16-bit"),
    "not_finite": ("error", "an image contains NaN or infinite values"),
    "undeclared_nodata": ("error", "an image contains a value of missing data that nothing declares"),
    "constant_image": ("warning", "all pixels of an image have the same value"),
    "alpha_dropped": ("note", "a constant alpha channel is not used"),
    # classes
    "similar_names": ("warning", "names of classes differ only in case or blanks"),
    "class_unused": ("warning", "a named class does not occur in any mask"),
    "class_in_one_image": ("warning", "a class occurs in one image only"),
    "class_not_in_train": ("warning", "a class occurs in val or test, but not in train"),
    "class_not_in_split": ("warning", "a class does not occur in val or test, so it is not evaluated there"),
    "extreme_imbalance": ("warning", "a class has less than one in a thousand of the labeled pixels"),
    "empty_mask": ("warning", "a mask contains only background"),
    "tiny_objects": ("warning", "regions become smaller than a pixel at the planned resolution"),
    # images compared with each other
    "contradicting_masks": ("error", "the same image occurs several times with different masks"),
    "duplicates": ("warning", "the same image occurs several times in a split"),
    "duplicates_across_splits": ("warning", "the same image is in several splits, so scores are too high"),
    "near_duplicates": ("warning", "images of a split differ only by compression, size or noise"),
    "near_duplicates_across_splits": ("warning", "images of two splits differ only by compression, size or noise"),
    "group_in_two_splits": ("warning", "a group of --group-by has images in several splits"),
    "sequence_in_two_splits": ("warning", "frames or tiles with neighboring names are in different splits"),
    "split_made": ("note", "no val split exists, so a seeded one is made"),
}
"""Code → severity and meaning. Codes are stable.

`error`: training would fail or give wrong results. `warning`: should be inspected. `note`: describes how the data is
read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem, the files that show it, and how to fix it."""

    code: str
    """A key of `CODES`."""
    severity: Severity
    files: tuple[str, ...]
    """Relative to the root of the dataset; all files that show the problem, and no others."""
    message: str
    fix: str
    """The action to take. Lines to paste into a file follow the first line."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "files": list(self.files)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The result of `pixelwise check`."""

    format: str | None
    """None if the format was not recognized."""
    num_images: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    """Split → number of samples."""
    findings: tuple[Finding, ...]
    """Errors first."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def summary(self) -> list[tuple[Severity, str]]:
        """Severities with their number of findings, such as ("error", "3 errors"); those that occur."""
        counts = Counter(finding.severity for finding in self.findings)
        return [(name, format_count(counts[name], name)) for name in get_args(Severity) if counts[name]]

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "classes": list(self.classes),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def make_finding(code: str, files: Sequence[str], message: str, fix: str) -> Finding:
    """Create a finding with the severity of its code."""
    return Finding(
        code=code, severity=CODES[code][0], files=tuple(files), message=make_printable(message), fix=make_printable(fix)
    )


def split_error_message(message: str) -> tuple[str, str]:
    """Split the message of an error into what is wrong and what to do, both as sentences."""
    match = re.match(r"(.*?)\. (?=[A-Z'])(.*)", message, re.DOTALL)
    return (f"{match[1]}.", match[2]) if match else (message, "")


def report_files(
    code: str, files: Sequence[str], noun: str, problem: str, fix: str, *, items: Sequence[str] | None = None
) -> Iterator[Finding]:
    """Yield a finding such as `2 images without a mask: a.png, b.png.`; nothing without files.

    The message counts and lists `items` instead of the files if they are given.
    """
    if files:
        items = files if items is None else items
        yield make_finding(code, files, f"{format_count(len(items), noun)} {problem}: {format_names(items)}.", fix)


def make_printable(text: str) -> str:
    r"""Replace bytes of a file name that are not UTF-8 by `\xNN`, for terminals and JSON."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def format_names(names: Sequence[str]) -> str:
    """Return `a, b, c and 4 more`."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
