"""Faults to plant into a small clean set, one for each way in which the doctor's codes come about."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.io.images import Array, write_png

SIZE = (24, 32)
DESCRIPTION = "names: [a, b, c]\n"
PAIRS = (*(f"train/{i}" for i in range(6)), *(f"val/{i}" for i in range(3)))

Plant = Callable[[Path], object]


def noise(seed: int = 99, size: tuple[int, int] = SIZE, channels: int = 3, dtype: type = np.uint8) -> Array:
    """Smooth, so that it can be compressed, and unlike any other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, channels)).astype(np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
    return smooth.reshape(*size, channels).astype(dtype)


def mask(*values: int, dtype: type = np.uint8) -> Array:
    """Bands from left to right."""
    columns = np.arange(SIZE[1]) * len(values) // SIZE[1]
    return np.tile(np.array(values, dtype)[columns], (SIZE[0], 1))


def write_clean(root: Path) -> Path:
    """Six training and three validation pairs of three classes, without a fault."""
    for number, name in enumerate(PAIRS):
        write_png(root / f"images/{name}.png", noise(number))
        write_png(root / f"masks/{name}.png", mask(0, 1, 2))
    (root / "dataset.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return root


@dataclass(frozen=True, kw_only=True)
class Fault:
    code: str
    plant: Plant
    files: tuple[str, ...] = ()
    message: str
    """A piece of it, as a regular expression."""
    cure: str
    """How it begins."""
    also: tuple[str, ...] = ()
    """Codes that follow necessarily."""
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """Tells several faults of one code apart."""


def several(*plants: Plant) -> Plant:
    return lambda root: [plant(root) for plant in plants]


def put(name: str, pixels: Array) -> Plant:
    return lambda root: write_png(root / name, pixels)


def put_bytes(name: str, content: bytes) -> Plant:
    return lambda root: (root / name).write_bytes(content)


def put_as(name: str, kind: str, pixels: Array, **options: Any) -> Plant:
    """In a format of Pillow's, under whatever name."""
    return put_bytes(name, encoded(kind, pixels, **options))


def encoded(kind: str, pixels: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def put_tiff(name: str, pixels: Array) -> Plant:
    """Bands beyond three are data."""
    bands: dict[str, Any] = {"photometric": "rgb", "extrasamples": [0] * (pixels.shape[2] - 3)}
    return lambda root: tifffile.imwrite(root / name, pixels, planarconfig="contig", **bands)


def put_palette(name: str, pixels: Array, colors: list[tuple[int, int, int]]) -> Plant:
    return lambda root: write_png(root / name, pixels, colors)


def remove(name: str) -> Plant:
    return lambda root: (root / name).unlink()


def describe(text: str | None) -> Plant:
    def plant(root: Path) -> None:
        (root / "dataset.yaml").unlink()
        if text is not None:
            (root / "dataset.yaml").write_text(text, encoding="utf-8")

    return plant


def all_masks(make: Callable[[int], Array], split: str = "*", description: str | None = DESCRIPTION) -> Plant:
    """Every mask of a split, by its number; its image too, where that must be of another size."""

    def plant(root: Path) -> None:
        describe(description)(root)
        for number, path in enumerate(sorted((root / "masks").glob(f"{split}/*.png"))):
            pixels = make(number)
            write_png(path, pixels)
            if pixels.shape[:2] != SIZE:
                write_png(root / "images" / path.relative_to(root / "masks"), noise(number, pixels.shape[:2]))

    return plant


def copy(source: str, target: str) -> Plant:
    """A pair once more."""

    def plant(root: Path) -> None:
        for folder in ("images", "masks"):
            shutil.copy(root / folder / f"{source}.png", root / folder / f"{target}.png")

    return plant


def names(pattern: str) -> Plant:
    """All pairs renamed: `{split}` and `{number}` count on from train to val."""

    def plant(root: Path) -> None:
        for number, name in enumerate(PAIRS):
            split = name.split("/")[0]
            for folder in ("images", "masks"):
                target = root / folder / split / f"{pattern.format(split=split, number=number)}.png"
                (root / folder / f"{name}.png").rename(target)

    return plant


def smoothed(*values: int) -> Array:
    """A mask at twice the size, as smooth resizing gives it."""
    small = np.ascontiguousarray(mask(*values)[::2, ::2])
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


def without_split(root: Path) -> None:
    for path in [*root.rglob("*.png")]:
        path.rename(path.parents[1] / f"{path.parent.name}{path.name}")
    for folder in ("images", "masks"):
        (root / folder / "train").rmdir()
        (root / folder / "val").rmdir()


def without_train(root: Path) -> None:
    shutil.rmtree(root / "images/train")
    shutil.rmtree(root / "masks/train")


def broken_link(name: str) -> Plant:
    def plant(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to("nowhere.png")

    return plant


def unreadable_name(root: Path) -> None:
    try:
        for folder in ("images", "masks"):
            os.rename(root / folder / "train/1.png", os.fsencode(root / folder / "train/") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes no such names")


def header_of_a_bomb() -> bytes:
    """A PNG that says it is 60000x60000."""
    content = bytearray(encoded("PNG", noise()))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("PNG", noise(1), exif=exif)


def in_colors(*colors: tuple[int, int, int]) -> Callable[[int], Array]:
    """The classes of a mask as colors."""
    return lambda number: np.array(colors, np.uint8)[mask(*range(len(colors)))]


def with_specks(number: int) -> Array:
    """One pixel of a fourth class in every other mask."""
    pixels = mask(0, 1, 2)
    pixels[5, 3] = 3 if number % 2 == 0 else 0
    return pixels


def a_copy_saved_as_jpeg(source: str, target: str) -> Plant:
    """Of a larger image: in a tiny one, what JPEG changes is much of it."""
    large = noise(1, (192, 256))
    labels = np.repeat(np.repeat(mask(0, 1, 2), 8, axis=0), 8, axis=1)
    return several(
        put(f"images/{source}.png", large),
        put(f"masks/{source}.png", labels),
        put_as(f"images/{target}.jpg", "JPEG", large, quality=90),
        put(f"masks/{target}.png", labels),
    )


CUT_JPEG = encoded("JPEG", noise(1))[:-200]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
COLORS = "colors: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]\n"

FAULTS = [
    # files and pairs
    Fault(code="missing_mask", plant=remove("masks/train/1.png"), files=("images/train/1.png",),
          message="1 image without a mask: images/train/1.png", cure="Add the mask"),
    Fault(code="orphan_mask", plant=put("masks/train/9.png", mask(0, 1, 2)), files=("masks/train/9.png",),
          message="1 mask without an image: masks/train/9.png", cure="Add the image"),
    Fault(code="same_stem", plant=put_as("images/train/0.bmp", "BMP", noise()), also=(),
          files=("images/train/0.bmp", "images/train/0.png"),
          message="2 files share a stem, so their partner is ambiguous", cure="Rename or remove one"),
    Fault(code="outside_splits", plant=put("images/valid/0.png", noise()), files=("images/valid/0.png",),
          message="1 file outside train, val, test, so unread", cure="Move them"),
    Fault(code="foreign_file", plant=put_bytes("images/train/7.gif", b""), files=("images/train/7.gif",),
          message="1 file that no image has the ending of", cure="Convert them to one of .png"),
    Fault(code="too_few_pairs", plant=without_train,
          message=r"0 training pair\(s\) and 3 of a val split", cure="Add some"),
    Fault(code="broken_link", plant=broken_link("masks/train/1.png"), files=("masks/train/1.png",),
          message="1 symbolic link to nowhere: masks/train/1.png", cure="Put back", also=("missing_mask",)),
    Fault(code="broken_link", note="of an image", plant=broken_link("images/train/1.png"),
          files=("images/train/1.png",), also=("orphan_mask",),
          message="1 symbolic link to nowhere: images/train/1.png", cure="Put back"),
    Fault(code="unreadable_name", plant=unreadable_name,
          files=("images/train/caf\\xe9.png", "masks/train/caf\\xe9.png"),
          message=r"2 file names not in UTF-8.*: images/train/caf\\xe9.png", cure="Rename them"),
    Fault(code="empty_file", plant=put_bytes("masks/train/1.png", b""), files=("masks/train/1.png",),
          message=r"^masks/train/1.png: the file is empty\.$", cure="Replace or remove it"),
    Fault(code="empty_file", note="of both kinds", files=("images/train/2.png", "masks/train/1.png"),
          plant=several(put_bytes("masks/train/1.png", b""), put_bytes("images/train/2.png", b"")),
          message=r"^images/train/2.png, masks/train/1.png: the file is empty\.$", cure="Replace or remove it"),
    Fault(code="truncated_file", note="a JPEG", files=("images/train/1.jpg",),
          plant=several(remove("images/train/1.png"), put_bytes("images/train/1.jpg", CUT_JPEG)),
          message="^images/train/1.jpg: the file is cut short", cure="Copy or download it again"),
    Fault(code="truncated_file", note="a JPEG without its end", files=("images/train/1.jpg",),
          plant=several(remove("images/train/1.png"), put_bytes("images/train/1.jpg", encoded("JPEG", noise(1))[:-2])),
          message="^images/train/1.jpg: the file is cut short", cure="Copy or download it again"),
    Fault(code="truncated_file", note="a JPEG with zeros for its end", files=("images/train/1.jpg",),
          plant=several(remove("images/train/1.png"), put_bytes("images/train/1.jpg", CUT_JPEG + bytes(200))),
          message="^images/train/1.jpg: the file is cut short", cure="Copy or download it again"),
    Fault(code="truncated_file", note="a PNG", files=("masks/train/1.png",),
          plant=put_bytes("masks/train/1.png", encoded("PNG", mask(0, 1, 2))[:-20]),
          message="^masks/train/1.png: the file is cut short", cure="Copy or download it again"),
    Fault(code="decompression_bomb", plant=put_bytes("images/train/1.png", header_of_a_bomb()),
          files=("images/train/1.png",), message="more than 178,956,970 pixels", cure="Cut it into tiles"),
    Fault(code="unreadable_image", plant=put_bytes("images/train/1.png", b"a text"), files=("images/train/1.png",),
          message="^images/train/1.png: is not an image of a known format", cure="Replace or remove it"),
    Fault(code="unreadable_image", note="varying alpha", plant=put("images/train/1.png", noise(channels=4)),
          files=("images/train/1.png",), message="^images/train/1.png: the alpha channel varies",
          cure="Write 'channels: 4' into dataset.yaml"),
    Fault(code="unreadable_mask", plant=put_bytes("masks/train/1.png", b"a text"), files=("masks/train/1.png",),
          message="^masks/train/1.png: is not an image of a known format", cure="Replace or remove it"),
    Fault(code="unreadable_mask", note="a picture", plant=put("masks/train/1.png", noise()),
          files=("masks/train/1.png",), message="^masks/train/1.png: the mask is an RGB picture",
          cure="List 'names' and 'colors'"),
    Fault(code="unreadable_mask", note="varying alpha", plant=put("masks/train/1.png", noise(channels=4)),
          files=("masks/train/1.png",), message="^masks/train/1.png: the mask's alpha channel varies",
          cure="Save masks without alpha"),
    Fault(code="wrong_extension", plant=put_as("images/train/1.png", "JPEG", noise(1)), files=("images/train/1.png",),
          message="1 file whose content is JPEG, whatever the ending says", cure="It is read all the same"),
    Fault(code="wrong_extension", note="of a mask", plant=put_as("masks/train/1.png", "BMP", mask(0, 1, 2)),
          files=("masks/train/1.png",), message="1 file whose content is BMP", cure="It is read all the same"),
    # sizes
    Fault(code="size_mismatch", plant=put("masks/train/1.png", mask(0, 1, 2)[:-1]),
          files=("images/train/1.png", "masks/train/1.png"),
          message=r"masks/train/1.png is 23x32, but its image is 24x32 \(height x width\)", cure="Save both"),
    Fault(code="exif_rotation", plant=put_bytes("images/train/1.png", rotated(6)),
          files=("images/train/1.png", "masks/train/1.png"),
          message="1 mask as large as the image before its EXIF rotation.* is 24x32, but its image is 32x24",
          cure="Rotate the masks"),
    Fault(code="transposed_mask", plant=put("masks/train/1.png", np.ascontiguousarray(mask(0, 1, 2).T)),
          files=("images/train/1.png", "masks/train/1.png"),
          message="1 mask with height and width exchanged", cure="Save the masks with rows and columns exchanged"),
    # mask values
    Fault(code="unlisted_values", plant=put("masks/train/1.png", mask(0, 1, 2, 9)), files=("masks/train/1.png",),
          message="1 mask with 9, which dataset.yaml does not list: masks/train/1.png", cure="Add to 'names'"),
    Fault(code="interpolated_mask", plant=several(
              all_masks(lambda _: mask(0, 200), description="names: [a, b]\nlabel_mapping: {0: a, 200: b}\n"),
              put("masks/train/1.png", smoothed(0, 200))), files=("masks/train/1.png",),
          message="1 mask resized with smoothing: 2 values lie on borders alone", cure="Resize masks by nearest"),
    Fault(code="interpolated_mask", note="no classes named", files=("masks/train/1.png", "masks/val/0.png"),
          plant=several(all_masks(lambda _: mask(0, 100, 200), description=None),
                        put("masks/train/1.png", smoothed(0, 100, 200)), put("masks/val/0.png", smoothed(0, 200))),
          message="2 masks resized with smoothing", cure="Resize masks by nearest", also=("ids_compacted",)),
    Fault(code="jpeg_mask", files=("masks/train/0.jpg",), message="1 mask saved as JPEG", cure="Save masks as PNG",
          plant=several(remove("masks/train/0.png"), put_as("masks/train/0.jpg", "JPEG", mask(0, 1, 2)))),
    Fault(code="jpeg_mask", note="by content", files=("masks/train/0.png",), message="1 mask saved as JPEG",
          cure="Save masks as PNG", plant=put_as("masks/train/0.png", "JPEG", 80 * mask(0, 1, 2))),
    Fault(code="jpeg_mask", note="no classes named", files=("masks/train/0.png",), message="1 mask saved as JPEG",
          cure="Save masks as PNG", also=("ids_compacted",),
          plant=several(all_masks(lambda _: mask(0, 80, 160), description=None),
                        put_as("masks/train/0.png", "JPEG", mask(0, 80, 160)))),
    Fault(code="color_masks", plant=all_masks(in_colors(RED, GREEN, BLUE), description=None),
          files=tuple(f"masks/{name}.png" for name in PAIRS),
          message="9 masks in 3 colors, which no dataset.yaml lists: masks/train/0.png, .* and 6 more",
          cure="Write this into dataset.yaml"),
    Fault(code="palette_differs", files=("masks/train/1.png",), cure="Ids are the indices",
          message="1 palette mask with other colors at the same indices than most: masks/train/1.png",
          plant=several(*(put_palette(f"masks/{name}.png", mask(0, 1, 2), [RED, GREEN, BLUE]) for name in PAIRS),
                        put_palette("masks/train/1.png", mask(0, 1, 2), [GREEN, RED, BLUE]))),
    Fault(code="palette_differs", note="classes listed by color", files=("masks/train/1.png",), cure="Save them as RGB",
          message="1 palette mask among masks coded by color", also=("unlisted_values",),
          plant=several(all_masks(in_colors(RED, GREEN, BLUE), description=DESCRIPTION + COLORS),
                        put_palette("masks/train/1.png", mask(0, 1, 2), [RED, GREEN, BLUE]))),
    Fault(code="palette_order", files=tuple(f"masks/{name}.png" for name in PAIRS), cure="Put 'names' and 'colors'",
          message="9 palette masks in which index 0 has the color of 'b', index 1 has the color of 'a'",
          plant=several(describe(DESCRIPTION + COLORS), *(
              put_palette(f"masks/{name}.png", mask(0, 1, 2), [GREEN, RED, BLUE]) for name in PAIRS))),
    Fault(code="rgba_mask", files=("masks/train/1.png",), message="1 mask with an alpha channel", cure="It is constant",
          plant=put("masks/train/1.png", np.dstack([*[mask(0, 1, 2)] * 3, mask(255)]))),
    Fault(code="no_classes", plant=all_masks(lambda _: mask(255), description=None),
          message="no mask holds a pixel of any class", cure="Label some pixels"),
    Fault(code="no_classes", note="pictures", cure="Name the classes",
          plant=all_masks(lambda _: np.arange(1200, dtype=np.uint16).reshape(30, 40), description=None),
          message="the masks hold 1200 different values, too many to be classes"),
    Fault(code="single_class", plant=all_masks(lambda _: mask(0), description="names: [a]\n"),
          message="there is only one class, 'a'", cure="Label at least two classes"),
    Fault(code="foreground_ignored", plant=all_masks(lambda _: mask(0, 255), description="names: [a, b]\n"),
          message="hold 0 and 255, but 255 is ignored, so class 'b' never occurs",
          cure="Write 'label_mapping: {0: 0, 255: 1}'"),
    Fault(code="binary_masks", plant=all_masks(lambda _: mask(0, 255), description=None),
          message="the masks hold 0 and 255: read as background and foreground", cure="To name them"),
    Fault(code="ids_compacted", plant=all_masks(lambda _: mask(3, 7, 255), description=None),
          message=r"mask values became classes \(3 → 0, 7 → 1\); 255 is ignored", cure="Name the classes"),
    Fault(code="all_ignored", plant=put("masks/train/1.png", mask(255)), files=("masks/train/1.png",),
          message="1 mask of ignored pixels alone: masks/train/1.png", cure="Label them"),
    Fault(code="empty_mask", plant=several(describe("names: [background, b, c]\n"), put("masks/train/1.png", mask(0))),
          files=("masks/train/1.png",), message="1 mask of background alone: masks/train/1.png", cure="Nothing to do"),
    Fault(code="empty_mask", note="no classes named", files=("masks/train/1.png",), also=("ids_compacted",),
          plant=several(all_masks(lambda _: mask(0, 1), description=None), put("masks/train/1.png", mask(0))),
          message="1 mask of background alone: masks/train/1.png", cure="Nothing to do"),
    # images
    Fault(code="mixed_channels", plant=put_tiff("images/train/1.png", noise(channels=4)), also=("wrong_extension",),
          files=("images/train/1.png",), cure="Convert",
          message="images should have 3 channels, but 1 of them has 4: images/train/1.png"),
    Fault(code="mixed_channels", note="unlike channels", plant=describe(DESCRIPTION + "channels: 1\n"),
          files=tuple(f"images/{name}.png" for name in PAIRS), cure="Convert",
          message="images should have 1 channels, but 9 of them have 3: images/train/0.png, .* and 6 more"),
    Fault(code="gray_repeated", plant=put("images/train/1.png", noise()[..., 0]), files=("images/train/1.png",),
          message="1 gray image among RGB ones: images/train/1.png", cure="Gray is repeated"),
    Fault(code="mixed_bit_depth", files=("images/train/1.tif",), cure="Convert them",
          plant=several(remove("images/train/1.png"), put_tiff("images/train/1.tif", noise(dtype=np.uint16))),
          message="images should have uint8 pixels, but 1 of them has uint16"),
    Fault(code="constant_image", plant=put("images/train/1.png", np.full((*SIZE, 3), 7, np.uint8)),
          files=("images/train/1.png",), message="1 image of a single value: images/train/1.png", cure="Replace them"),
    Fault(code="constant_image", note="no duplicates", files=("images/train/1.png", "images/val/0.png"),
          plant=several(*(put(f"images/{n}.png", np.zeros((*SIZE, 3), np.uint8)) for n in ("train/1", "val/0"))),
          message="2 images of a single value", cure="Replace them"),
    Fault(code="alpha_dropped", plant=put("images/train/1.png", np.dstack([noise(), mask(9)])),
          files=("images/train/1.png",), cure="It is dropped",
          message="1 image with a constant alpha channel: images/train/1.png"),
    # classes
    Fault(code="class_unused", plant=describe("names: [a, b, c, d]\n"),
          message="class 'd' is named, but occurs in no mask", cure="Remove it"),
    Fault(code="class_in_one_image", plant=several(describe("names: [a, b, c, d]\n"),
                                                   put("masks/train/1.png", mask(0, 1, 2, 3))),
          files=("masks/train/1.png",), message="class 'd' occurs in one image alone: masks/train/1.png",
          cure="It cannot be learned and measured"),
    Fault(code="class_not_in_train", plant=all_masks(lambda _: mask(0, 1), "train"),
          message="class 'c' occurs in val, but not in train", cure="It cannot be learned"),
    Fault(code="class_not_in_split", plant=all_masks(lambda _: mask(0, 1), "val"),
          message="class 'c' does not occur in val", cure="It is not measured there"),
    Fault(code="extreme_imbalance", plant=all_masks(with_specks, description="names: [a, b, c, d]\n"),
          message=r"class 'd' holds 0.0723% of the labeled pixels, less than 0.1%", cure="Label more of it"),
    Fault(code="tiny_objects", options={"resolution": (12, 16)}, cure="Train on crops",
          plant=several(put("masks/train/1.png", with_specks(0) % 3), lambda root: write_png(
              root / "masks/val/0.png", np.where(with_specks(0) == 3, 2, with_specks(0)).astype(np.uint8))),
          files=("masks/val/0.png",),
          message="1 region of class 'c' would be smaller than a pixel at 12x16, in 1 mask: masks/val/0.png"),
    # images among each other
    Fault(code="duplicates", plant=copy("train/1", "train/9"), files=("images/train/1.png", "images/train/9.png"),
          message="1 image more than once: images/train/1.png = images/train/9.png", cure="Keep one"),
    Fault(code="duplicates_across_splits", plant=copy("train/1", "val/9"), cure="Keep each in one split",
          files=("images/train/1.png", "images/val/9.png"), message="1 image in more than one split"),
    Fault(code="contradicting_masks", cure="Keep the pair whose mask is right",
          plant=several(copy("train/1", "train/9"), put("masks/train/9.png", mask(2, 1, 0))),
          files=("images/train/1.png", "images/train/9.png", "masks/train/1.png", "masks/train/9.png"),
          message="1 image more than once, with different masks: images/train/1.png = images/train/9.png"),
    Fault(code="contradicting_masks", note="across splits", cure="Keep the pair", also=("duplicates_across_splits",),
          plant=several(copy("train/1", "val/9"), put("masks/val/9.png", mask(2, 1, 0))),
          files=("images/train/1.png", "images/val/9.png", "masks/train/1.png", "masks/val/9.png"),
          message="1 image more than once, with different masks"),
    Fault(code="near_duplicates", plant=a_copy_saved_as_jpeg("train/1", "train/9"), cure="Keep one of each",
          files=("images/train/1.png", "images/train/9.jpg"),
          message="1 group of nearly the same image in a split: images/train/1.png = images/train/9.jpg"),
    Fault(code="near_duplicates_across_splits", plant=a_copy_saved_as_jpeg("train/1", "val/9"),
          files=("images/train/1.png", "images/val/9.jpg"), cure="Keep both in one split",
          message="1 pair of nearly the same image in two splits"),
    Fault(code="group_in_two_splits", plant=names("{number}of{split}"), options={"group_by": r"^\w+/\d(of)"},
          files=tuple(sorted(f"images/{n.split('/')[0]}/{i}of{n.split('/')[0]}.png" for i, n in enumerate(PAIRS))),
          message="1 group in more than one split: 'of' in train and val", cure="Move the images of a group"),
    Fault(code="sequence_in_two_splits", plant=names("clip_{number}"),
          files=("images/train/clip_5.png", "images/val/clip_6.png"), cure="If they are frames of one video",
          message="1 pair of images next to each other .*: train/clip_5 next to val/clip_6"),
    Fault(code="split_made", plant=without_split, cure="Name a val split",
          message="no val split: 2 of the 9 training images, drawn with seed 0"),
]  # fmt: skip
