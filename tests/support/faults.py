"""Faults to add to a small valid dataset, at least one for each code of the checks."""

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
NEW_FILE = "a new file dataset.yaml in the dataset folder"
DESCRIPTION = "names: [a, b, c]\n"
PAIRS = (*(f"train/{i}" for i in range(6)), *(f"val/{i}" for i in range(3)))

Plant = Callable[[Path], object]


def noise(seed: int = 99, size: tuple[int, int] = SIZE, channels: int = 3, dtype: type = np.uint8) -> Array:
    """Return a smooth random image, which JPEG preserves, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, channels)).astype(np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
    return smooth.reshape(*size, channels).astype(dtype)


def mask(*values: int, dtype: type = np.uint8) -> Array:
    """Return vertical bands of the values, from left to right."""
    columns = np.arange(SIZE[1]) * len(values) // SIZE[1]
    return np.tile(np.array(values, dtype)[columns], (SIZE[0], 1))


def write_clean(root: Path) -> Path:
    """Write six training and three validation pairs of three classes, without a fault."""
    for number, name in enumerate(PAIRS):
        write_png(root / f"images/{name}.png", noise(number))
        write_png(root / f"masks/{name}.png", np.roll(mask(0, 1, 2), 3 * number, 1))
    (root / "dataset.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return root


@dataclass(frozen=True, kw_only=True)
class Fault:
    code: str
    plant: Plant
    files: tuple[str, ...] = ()
    message: str
    """Regular expression that the message contains."""
    fix: str
    """Start of the fix."""
    also: tuple[str, ...] = ()
    """Codes of further findings that the fault causes."""
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """Distinguishes several faults of one code."""


def combine(*plants: Plant) -> Plant:
    return lambda root: [plant(root) for plant in plants]


def put(name: str, pixels: Array) -> Plant:
    return lambda root: write_png(root / name, pixels)


def put_bytes(name: str, content: bytes) -> Plant:
    return lambda root: (root / name).write_bytes(content)


def put_as(name: str, kind: str, pixels: Array, **options: Any) -> Plant:
    """Write pixels in a format of Pillow, independent of the suffix."""
    return put_bytes(name, encode(kind, pixels, **options))


def encode(kind: str, pixels: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def put_tiff(name: str, pixels: Array) -> Plant:
    """Write a TIFF whose bands beyond three are data."""
    bands: dict[str, Any] = {"photometric": "rgb", "extrasamples": [0] * (pixels.shape[2] - 3)}
    return lambda root: tifffile.imwrite(root / name, pixels, planarconfig="contig", **bands)


def put_geotiff(name: str, pixels: Array, nodata: int) -> Plant:
    tags = [(42113, "s", 0, str(nodata), True)]
    return lambda root: tifffile.imwrite(root / name, pixels, photometric="minisblack", extratags=tags)


def put_palette(name: str, pixels: Array, colors: list[tuple[int, int, int]]) -> Plant:
    return lambda root: write_png(root / name, pixels, colors)


def remove(name: str) -> Plant:
    return lambda root: (root / name).unlink()


def rename_masks(root: Path) -> None:
    for path in (root / "masks").glob("*/*.png"):
        path.rename(path.with_name(f"truth of {path.name}"))


def describe(text: str | None) -> Plant:
    def plant(root: Path) -> None:
        (root / "dataset.yaml").unlink()
        if text is not None:
            (root / "dataset.yaml").write_text(text, encoding="utf-8")

    return plant


def all_masks(make: Callable[[int], Array], split: str = "*", description: str | None = DESCRIPTION) -> Plant:
    """Replace every mask of a split by `make(number)`, and its image where the size changes."""

    def plant(root: Path) -> None:
        describe(description)(root)
        for number, path in enumerate(sorted((root / "masks").glob(f"{split}/*.png"))):
            pixels = np.roll(make(number), 3 * number, 1)  # masks that are all the same are a fault
            write_png(path, pixels)
            if pixels.shape[:2] != SIZE:
                write_png(root / "images" / path.relative_to(root / "masks"), noise(number, pixels.shape[:2]))

    return plant


def copy(source: str, target: str) -> Plant:
    """Copy an image and its mask."""

    def plant(root: Path) -> None:
        for folder in ("images", "masks"):
            shutil.copy(root / folder / f"{source}.png", root / folder / f"{target}.png")

    return plant


def names(pattern: str) -> Plant:
    """Rename all pairs by a pattern with `{split}` and `{number}`, which continues from train to val."""

    def plant(root: Path) -> None:
        for number, name in enumerate(PAIRS):
            split = name.split("/")[0]
            for folder in ("images", "masks"):
                target = root / folder / split / f"{pattern.format(split=split, number=number)}.png"
                (root / folder / f"{name}.png").rename(target)

    return plant


def interpolated(*values: int) -> Array:
    """Return a mask enlarged twice with linear interpolation."""
    small = np.ascontiguousarray(mask(*values)[::2, ::2])
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


def remove_splits(root: Path) -> None:
    for path in [*root.rglob("*.png")]:
        path.rename(path.parents[1] / f"{path.parent.name}{path.name}")
    for folder in ("images", "masks"):
        (root / folder / "train").rmdir()
        (root / folder / "val").rmdir()


def remove_train(root: Path) -> None:
    shutil.rmtree(root / "images/train")
    shutil.rmtree(root / "masks/train")


def break_link(name: str) -> Plant:
    def plant(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to("nowhere.png")

    return plant


def rename_to_bytes(root: Path) -> None:
    try:
        for folder in ("images", "masks"):
            os.rename(root / folder / "train/1.png", os.fsencode(root / folder / "train/") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes no such names")


def make_decompression_bomb() -> bytes:
    """Return a PNG that declares 60000x60000 pixels."""
    content = bytearray(encode("PNG", noise()))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def encode_rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode("PNG", noise(1), exif=exif)


def make_color_masks(*colors: tuple[int, int, int]) -> Callable[[int], Array]:
    """Return a function that makes masks in these colors."""
    return lambda number: np.array(colors, np.uint8)[mask(*range(len(colors)))]


def mask_with_speck(number: int) -> Array:
    """Return a mask that has one pixel of a fourth class if `number` is even."""
    pixels = mask(0, 1, 2)
    pixels[5, 3] = 3 if number % 2 == 0 else 0
    return pixels


def copy_as_jpeg(source: str, target: str) -> Plant:
    """Write a large image and a JPEG copy: JPEG changes too much of a tiny one."""
    large = noise(1, (192, 256))
    labels = np.repeat(np.repeat(mask(0, 1, 2), 8, axis=0), 8, axis=1)
    return combine(
        put(f"images/{source}.png", large),
        put(f"masks/{source}.png", labels),
        put_as(f"images/{target}.jpg", "JPEG", large, quality=90),
        put(f"masks/{target}.png", labels),
    )


TRUNCATED_JPEG = encode("JPEG", noise(1))[:-200]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
COLORS = "colors: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]\n"

FAULTS = [
    # files and pairs
    Fault(code="missing_mask", plant=remove("masks/train/1.png"), files=("images/train/1.png",),
          message="1 image without a mask: images/train/1.png", fix="Add a mask"),
    Fault(code="unlabeled_images", plant=put("images/test/9.png", noise()), files=("images/test/9.png",),
          message="1 test image without a mask: images/test/9.png", fix="They are not used"),
    Fault(code="pairing", plant=rename_masks, message=r"paired by one pattern, such as 0\.png with truth of 0\.png",
          fix="If this is wrong"),
    Fault(code="unread_folder", plant=combine(*(put(f"previews/{i}.png", noise(i)) for i in range(9))),
          files=tuple(f"previews/{i}.png" for i in range(9)),
          message=r"1 folder of images that nothing reads: previews \(9\)", fix="To train on a folder"),
    Fault(code="no_ignore_mask", files=("images/val/2.png",),
          plant=combine(describe(f"{DESCRIPTION}ignore_masks: view\n"),
                        *(put(f"view/{name}.png", mask(255)) for name in PAIRS[:-1])),
          message="1 image without a mask in the folder 'view' of 'ignore_masks': images/val/2.png", fix="Add a mask"),
    Fault(code="orphan_mask", plant=put("masks/train/9.png", mask(0, 1, 2)), files=("masks/train/9.png",),
          message="1 mask without an image: masks/train/9.png", fix="Add an image"),
    Fault(code="same_stem", plant=put_as("images/train/0.bmp", "BMP", noise()), also=(),
          files=("images/train/0.bmp", "images/train/0.png"),
          message="2 files differ only in their suffix, so it is unclear which", fix="Rename or remove all but one"),
    Fault(code="outside_splits", plant=put("images/valid/0.png", noise()), files=("images/valid/0.png",),
          message="1 file outside the folders train, val, test will not be read", fix="Move them"),
    Fault(code="missing_listed", plant=put_bytes("train.txt", b"0\n1\n2\n3\n4\n5\n6\ntrain/7.png"),
          files=("train.txt: 6", "train.txt: train/7.png"),
          message="2 names in split lists that are of no image, or of several: train.txt: 6", fix="Restore the files"),
    Fault(code="unused_list", plant=put_bytes("train_fold1.txt", b"0\n1"), files=("train_fold1.txt",),
          message="1 split list that would be ignored: train_fold1.txt", fix="Name the lists to use train.txt"),
    Fault(code="not_listed", plant=put_bytes("train.txt", b"0\n1\n2\n3\n4"), files=("images/train/5.png",),
          message="1 image in none of the lists train.txt and therefore not used: images/train/5.png",
          fix="Add them to a list", also=("split_lists",)),
    Fault(code="split_lists", plant=put_bytes("test.txt", b"val/2"), files=("test.txt",),
          message="1 list of the splits: test.txt", fix="To use other splits"),
    Fault(code="foreign_file", plant=put_bytes("images/train/7.bin", b""), files=("images/train/7.bin",),
          message="1 file without the suffix of an image", fix="Convert images to one of PNG", note="unknown"),
    Fault(code="foreign_file", plant=put_bytes("images/train/0.npy", b""), files=("images/train/0.npy",),
          message="1 array next to pictures", fix="They are not read and can stay. To use one", note="array"),
    Fault(code="foreign_file", plant=put_bytes("images/train/7.svg", b""), files=("images/train/7.svg",),
          message="1 file without the suffix of an image", fix="Export drawings and documents as PNG. Other"),
    Fault(code="too_few_pairs", plant=remove_train,
          message="has 0 training and 3 validation pairs", fix="Add images"),
    Fault(code="broken_link", plant=break_link("masks/train/1.png"), files=("masks/train/1.png",),
          message="1 symbolic link to a file that does not exist: masks/train/1.png", fix="Restore the target",
          also=("missing_mask",)),
    Fault(code="broken_link", note="of an image", plant=break_link("images/train/1.png"),
          files=("images/train/1.png",), also=("orphan_mask",),
          message="1 symbolic link to a file that does not exist: images/train/1.png", fix="Restore the target"),
    # report: https://github.com/CAMMA-public/Endoscapes/issues/3
    Fault(code="broken_link", note="stored as text", plant=put_bytes("masks/train/1.png", b"../val/1.png"),
          files=("masks/train/1.png",), fix="Unpack or clone the dataset where links can be made",
          message="^masks/train/1.png: is a symbolic link to ../val/1.png, stored as a text file"),
    Fault(code="unreadable_name", plant=rename_to_bytes,
          files=("images/train/caf\\xe9.png", "masks/train/caf\\xe9.png"),
          message=r"2 file names not in UTF-8.*: images/train/caf\\xe9.png", fix="Rename the files"),
    Fault(code="empty_file", plant=put_bytes("masks/train/1.png", b""), files=("masks/train/1.png",),
          message=r"^masks/train/1.png: The file is empty\.$", fix="Replace or remove it"),
    Fault(code="empty_file", note="of both kinds", files=("images/train/2.png", "masks/train/1.png"),
          plant=combine(put_bytes("masks/train/1.png", b""), put_bytes("images/train/2.png", b"")),
          message=r"^images/train/2.png, masks/train/1.png: The file is empty\.$", fix="Replace or remove it"),
    Fault(code="truncated_file", note="a JPEG", files=("images/train/1.jpg",),
          plant=combine(remove("images/train/1.png"), put_bytes("images/train/1.jpg", TRUNCATED_JPEG)),
          message="^images/train/1.jpg: The file is truncated", fix="Copy or download it again"),
    Fault(code="truncated_file", note="a JPEG without its end", files=("images/train/1.jpg",),
          plant=combine(remove("images/train/1.png"), put_bytes("images/train/1.jpg", encode("JPEG", noise(1))[:-2])),
          message="^images/train/1.jpg: The file is truncated", fix="Copy or download it again"),
    Fault(code="truncated_file", note="a JPEG with zeros for its end", files=("images/train/1.jpg",),
          plant=combine(remove("images/train/1.png"), put_bytes("images/train/1.jpg", TRUNCATED_JPEG + bytes(200))),
          message="^images/train/1.jpg: The file is truncated", fix="Copy or download it again"),
    Fault(code="truncated_file", note="a PNG", files=("masks/train/1.png",),
          plant=put_bytes("masks/train/1.png", encode("PNG", mask(0, 1, 2))[:-20]),
          message="^masks/train/1.png: The file is truncated", fix="Copy or download it again"),
    Fault(code="decompression_bomb", plant=put_bytes("images/train/1.png", make_decompression_bomb()),
          files=("images/train/1.png",), message="more than 178,956,970 pixels", fix="Cut it into tiles"),
    Fault(code="unreadable_image", plant=put_bytes("images/train/1.png", b"a text"), files=("images/train/1.png",),
          message="^images/train/1.png: The file is not an image of a known format", fix="Replace or remove it"),
    Fault(code="unreadable_image", note="varying alpha", plant=put("images/train/1.png", noise(channels=4)),
          files=("images/train/1.png",), message="^images/train/1.png: The alpha channel varies",
          fix="To train on it, write this into dataset.yaml (create it if there is none): 'nodata: alpha' if"),
    Fault(code="unreadable_mask", plant=put_bytes("masks/train/1.png", b"a text"), files=("masks/train/1.png",),
          message="^masks/train/1.png: The file is not an image of a known format", fix="Replace or remove it"),
    Fault(code="unreadable_mask", note="a picture", plant=put("masks/train/1.png", noise()),
          files=("masks/train/1.png",), message="^masks/train/1.png: The mask is an RGB image",
          fix="List 'names' and 'colors'"),
    Fault(code="unreadable_mask", note="varying alpha", plant=put("masks/train/1.png", noise(channels=4)),
          files=("masks/train/1.png",), message="^masks/train/1.png: The mask's alpha channel varies",
          fix="Save masks without alpha"),
    Fault(code="wrong_extension", plant=put_as("images/train/1.png", "JPEG", noise(1)), files=("images/train/1.png",),
          message="1 file with JPEG data, but another suffix", fix="Pixelwise reads them"),
    Fault(code="wrong_extension", note="of a mask", plant=put_as("masks/train/1.png", "BMP", mask(0, 1, 2)),
          files=("masks/train/1.png",), message="1 file with BMP data", fix="Pixelwise reads them"),
    # sizes
    Fault(code="size_mismatch", plant=put("masks/train/1.png", mask(0, 1, 2)[:-1]),
          files=("images/train/1.png", "masks/train/1.png"),
          message="1 mask whose size differs .*: masks/train/1.png is 23x32, but its image is 24x32",
          fix="Save image and mask"),
    Fault(code="exif_rotation", plant=put_bytes("images/train/1.png", encode_rotated(6)),
          files=("images/train/1.png", "masks/train/1.png"),
          message="1 mask with the size of the image before its EXIF rotation.* is 24x32, but its image is 32x24",
          fix="Rotate the masks"),
    Fault(code="transposed_mask", plant=put("masks/train/1.png", np.ascontiguousarray(mask(0, 1, 2).T)),
          files=("images/train/1.png", "masks/train/1.png"),
          message="1 mask with height and width swapped", fix="Transpose the masks"),
    # mask values
    Fault(code="unlisted_values", plant=put("masks/train/1.png", mask(0, 1, 2, 9)), files=("masks/train/1.png",),
          message="1 mask with the value 9, which no class has: masks/train/1.png",
          fix="Add missing values"),
    Fault(code="interpolated_mask", plant=combine(
              all_masks(lambda _: mask(0, 200, 100),
                        description="names: [a, b]\nlabel_mapping: {0: a, 100: b, 200: b}\n"),
              put("masks/train/1.png", interpolated(0, 200, 100))), files=("masks/train/1.png",),
          message="1 mask resized with interpolation: 4 values occur only along borders", fix="Resize the original"),
    Fault(code="soft_masks", plant=combine(all_masks(lambda _: mask(0, 255), description=None),
                                           put("masks/train/1.png", interpolated(0, 255))),
          files=("masks/train/1.png",), message="1 mask with soft edges: 2 values besides 0 and 255",
          fix=f"Write this into {NEW_FILE}:\nnames: [background, foreground]\nthreshold: 128"),
    Fault(code="soft_masks", note="classes named", files=tuple(f"masks/{name}.png" for name in PAIRS),
          plant=all_masks(lambda _: interpolated(0, 255), description="names: [a, b]\n"),
          message="9 masks with soft edges", fix="Write this into dataset.yaml:\nthreshold: 128"),
    Fault(code="soft_masks", note="values mapped", plant=combine(
              all_masks(lambda _: mask(0, 200), description="names: [a, b]\nlabel_mapping: {200: a, 0: b}\n"),
              put("masks/train/1.png", interpolated(0, 200))), files=("masks/train/1.png",),
          message="1 mask with soft edges: 2 values besides 0 and 200",
          fix="Write this into dataset.yaml, instead of its 'label_mapping':\nlabel_mapping: {0-99: 1, 100-255: 0}"),
    Fault(code="mask_nodata", plant=combine(remove("masks/train/1.png"),
                                            put_geotiff("masks/train/1.tif", mask(0, 1, 2), nodata=2)),
          files=("masks/train/1.tif",), message="1 mask in which 2 is declared as missing data",
          fix="If 2 is a class, such as the background, write this into dataset.yaml, instead of its 'names':\n"),
    Fault(code="instance_masks", plant=all_masks(lambda number: mask(*range(4 * number + 2)), description=None),
          files=tuple(f"masks/{name}.png" for name in PAIRS),
          message="9 masks with numbers of objects, up to 32, instead of class ids: masks/train/0.png, ",
          fix=f"If the numbers are classes, write 'mask_type: semantic' into {NEW_FILE}. "),
    Fault(code="instance_masks", note="classes named", plant=all_masks(
              lambda number: mask(*range(4 * number + 2)), description="names: [background, cell]\n"),
          files=tuple(f"masks/{name}.png" for name in PAIRS), message="9 masks with numbers of objects",
          fix="If the numbers are classes, write 'mask_type: semantic' into dataset.yaml. "),
    Fault(code="interpolated_mask", note="no classes named", files=("masks/train/1.png", "masks/val/0.png"),
          plant=combine(all_masks(lambda _: mask(0, 100, 200), description=None),
                        put("masks/train/1.png", interpolated(0, 100, 200)),
                        put("masks/val/0.png", interpolated(0, 200))),
          message="2 masks resized with interpolation", fix="Resize the original", also=("ids_compacted",)),
    Fault(code="jpeg_mask", files=("masks/train/0.jpg",), message="1 mask saved as JPEG", fix="Create the masks again",
          plant=combine(remove("masks/train/0.png"), put_as("masks/train/0.jpg", "JPEG", mask(0, 1, 2)))),
    Fault(code="jpeg_mask", note="by content", files=("masks/train/0.png",), message="1 mask saved as JPEG",
          fix="Create the masks again", plant=put_as("masks/train/0.png", "JPEG", 80 * mask(0, 1, 2))),
    Fault(code="jpeg_mask", note="no classes named", files=("masks/train/0.png",), message="1 mask saved as JPEG",
          fix="Create the masks again", also=("ids_compacted",),
          plant=combine(all_masks(lambda _: mask(0, 8, 16), description=None),
                        put_as("masks/train/0.png", "JPEG", mask(0, 8, 16)))),
    Fault(code="soft_masks", note="of three classes", files=("masks/train/0.png",), message="1 mask with soft edges: 8",
          fix="Use the original masks if they exist: in these, pixels on a border may get a class in ",
          plant=combine(all_masks(lambda _: mask(0, 80, 160), description=None),
                        put_as("masks/train/0.png", "JPEG", mask(0, 80, 160)))),
    Fault(code="color_masks", plant=all_masks(make_color_masks(RED, GREEN, BLUE), description=None),
          files=tuple(f"masks/{name}.png" for name in PAIRS),
          message="9 masks in 3 colors, which no class has: masks/train/0.png, .* and 6 more",
          fix=f"Write this into {NEW_FILE}"),
    Fault(code="palette_differs", files=("masks/train/1.png",), fix="Palette indices are class indices",
          message="1 palette mask with other colors for the same indices than most masks: masks/train/1.png",
          plant=combine(*(put_palette(f"masks/{name}.png", np.roll(mask(0, 1, 2), 3 * number, 1), [RED, GREEN, BLUE])
                          for number, name in enumerate(PAIRS)),
                        put_palette("masks/train/1.png", mask(0, 1, 2), [GREEN, RED, BLUE]))),
    Fault(code="palette_differs", note="classes listed by color", files=("masks/train/1.png",),
          fix="Save these masks as RGB",
          message="1 palette mask where classes are defined by color", also=("unlisted_values",),
          plant=combine(all_masks(make_color_masks(RED, GREEN, BLUE), description=DESCRIPTION + COLORS),
                        put_palette("masks/train/1.png", mask(0, 1, 2), [RED, GREEN, BLUE]))),
    Fault(code="palette_order", files=tuple(f"masks/{name}.png" for name in PAIRS), fix="If the colors are right",
          message="9 palette masks in which index 0 has the color of 'b', index 1 has the color of 'a'",
          plant=combine(describe(DESCRIPTION + COLORS), *(
              put_palette(f"masks/{name}.png", np.roll(mask(0, 1, 2), 3 * number, 1), [GREEN, RED, BLUE])
              for number, name in enumerate(PAIRS)))),
    Fault(code="similar_masks", files=tuple(f"masks/{name}.png" for name in PAIRS),
          plant=combine(*(put(f"masks/{name}.png", mask(0, 1, 1, 2)) for name in PAIRS)),
          message="9 masks that are nearly the same for all images", fix="If they show which pixels are valid"),
    Fault(code="rgba_mask", files=("masks/train/1.png",), message="1 mask with a constant alpha channel",
          fix="The alpha channel is not used",
          plant=put("masks/train/1.png", np.dstack([*[mask(0, 1, 2)] * 3, mask(255)]))),
    Fault(code="no_classes", plant=all_masks(lambda _: mask(255), description=None),
          message="No mask contains a pixel of any class", fix="Label some pixels"),
    Fault(code="no_classes", note="pictures", fix="Check that the masks are not photos",
          plant=all_masks(lambda _: np.arange(1200, dtype=np.uint16).reshape(30, 40), description=None),
          message="The masks contain 1200 different values, too many to be classes"),
    Fault(code="single_class", plant=all_masks(lambda _: mask(0), description="names: [a]\n"),
          message="There is only one class, 'a'", fix="Label at least two classes"),
    Fault(code="single_class", note="all masks are background", fix="Label the other classes. If they are labeled",
          plant=all_masks(lambda _: mask(0, 255), description="names: [background, b, c]\n"),
          message="The training masks contain only class 'background', so there is nothing to distinguish"),
    Fault(code="single_class", note="the masks of train are background", fix="Label the other classes",
          plant=all_masks(lambda _: mask(0), "train"),
          message="The training masks contain only class 'a'"),
    Fault(code="foreground_ignored", plant=all_masks(lambda _: mask(0, 255), description="names: [a, b]\n"),
          message="contain 0 and 255, but 255 is ignored, so class 'b' does not occur",
          fix="Write 'label_mapping: {0: 0, 255: 1}'"),
    Fault(code="binary_masks", plant=all_masks(lambda _: mask(0, 255), description=None),
          message="The masks contain 0 and 255. They are read as background and foreground", fix="To name them"),
    Fault(code="ids_compacted", plant=all_masks(lambda _: mask(3, 7, 255), description=None),
          message=r"mask values became class indices \(3 → 0, 7 → 1\), and 255 is ignored",
          fix="To choose the classes"),
    Fault(code="all_ignored", plant=put("masks/train/1.png", mask(255)), files=("masks/train/1.png",),
          message="1 mask in which all pixels are ignored: masks/train/1.png", fix="Label them"),
    Fault(code="empty_mask", plant=combine(describe("names: [background, b, c]\n"), put("masks/train/1.png", mask(0))),
          files=("masks/train/1.png",), message="1 mask with only background: masks/train/1.png",
          fix="If the images show no object"),
    Fault(code="empty_mask", note="no classes named", files=("masks/train/1.png",), also=("ids_compacted",),
          plant=combine(all_masks(lambda _: mask(0, 1), description=None), put("masks/train/1.png", mask(0))),
          message="1 mask with only background: masks/train/1.png", fix="If the images show no object"),
    # images
    Fault(code="mixed_channels", plant=put_tiff("images/train/1.png", noise(channels=4)), also=("wrong_extension",),
          files=("images/train/1.png",), fix="Convert",
          message="Images should have 3 channels, but 1 of them has 4: images/train/1.png"),
    Fault(code="mixed_channels", note="unlike channels", plant=describe(DESCRIPTION + "channels: 1\n"),
          files=tuple(f"images/{name}.png" for name in PAIRS), fix="Convert",
          message="Images should have 1 channel, but 9 of them have 3: images/train/0.png, .* and 6 more"),
    Fault(code="gray_repeated", plant=put("images/train/1.png", noise()[..., 0]), files=("images/train/1.png",),
          message="1 gray image among RGB images: images/train/1.png", fix="They are repeated"),
    Fault(code="mixed_bit_depth", files=("images/train/1.tif",), fix="Convert them",
          plant=combine(remove("images/train/1.png"), put_tiff("images/train/1.tif", noise(dtype=np.uint16))),
          message="Images should have uint8 pixels, but 1 of them has uint16"),
    Fault(code="constant_image", plant=put("images/train/1.png", np.full((*SIZE, 3), 7, np.uint8)),
          files=("images/train/1.png",), message="1 image with the same value in all pixels: images/train/1.png",
          fix="Replace the"),
    Fault(code="constant_image", note="no duplicates", files=("images/train/1.png", "images/val/0.png"),
          plant=combine(*(put(f"images/{n}.png", np.zeros((*SIZE, 3), np.uint8)) for n in ("train/1", "val/0"))),
          message="2 images with the same value", fix="Replace the"),
    Fault(code="alpha_dropped", plant=put("images/train/1.png", np.dstack([noise(), mask(9)])),
          files=("images/train/1.png",), fix="The alpha channel is not used",
          message="1 image with a constant alpha channel: images/train/1.png"),
    # classes
    Fault(code="similar_names", plant=describe("names: [a, B, 'b ']\n"),
          files=tuple(f"masks/{name}.png" for name in PAIRS),
          message="differ only in case, blanks or the encoding of accents: 'B' in 9 masks, 'b ' in 9 masks",
          fix="If they mean the same, write this into dataset.yaml:\nrename: {'b ': B}"),
    Fault(code="class_unused", plant=describe("names: [a, b, c, d]\n"),
          message="Class 'd' does not occur in any mask", fix="Remove it"),
    Fault(code="class_in_one_image", plant=combine(describe("names: [a, b, c, d]\n"),
                                                   put("masks/train/1.png", mask(0, 1, 2, 3))),
          files=("masks/train/1.png",), message="Class 'd' occurs in one mask only: masks/train/1.png",
          fix="Label more images"),
    Fault(code="class_not_in_train", plant=all_masks(lambda _: mask(0, 1), "train"),
          message="Class 'c' occurs in val, but not in train", fix="Move some images"),
    Fault(code="class_not_in_split", plant=all_masks(lambda _: mask(0, 1), "val"),
          message="Class 'c' does not occur in val", fix="Move some images of this class to val"),
    Fault(code="extreme_imbalance", plant=all_masks(mask_with_speck, description="names: [a, b, c, d]\n"),
          message=r"Class 'd' has 0.0723 % of the labeled pixels, less than 0.1 %", fix="Label more images"),
    Fault(code="tiny_objects", options={"resolution": (12, 16)}, fix="Train on crops",
          plant=combine(put("masks/train/1.png", mask_with_speck(0) % 3), lambda root: write_png(
              root / "masks/val/0.png", np.where(mask_with_speck(0) == 3, 2, mask_with_speck(0)).astype(np.uint8))),
          files=("masks/val/0.png",),
          message="1 region of class 'c' would be smaller than a pixel at 12x16, in 1 mask: masks/val/0.png"),
    # images compared with each other
    Fault(code="duplicates", plant=copy("train/1", "train/9"), files=("images/train/1.png", "images/train/9.png"),
          message="1 image several times in one split: images/train/1.png = images/train/9.png", fix="Keep one"),
    Fault(code="duplicates_across_splits", plant=copy("train/1", "val/9"), fix="Keep them in one split",
          files=("images/train/1.png", "images/val/9.png"), message="1 image in more than one split"),
    Fault(code="contradicting_masks", fix="Keep the copy with the correct mask",
          plant=combine(copy("train/1", "train/9"), put("masks/train/9.png", mask(2, 1, 0))),
          files=("images/train/1.png", "images/train/9.png", "masks/train/1.png", "masks/train/9.png"),
          message="1 image several times with different masks: images/train/1.png = images/train/9.png"),
    Fault(code="contradicting_masks", note="across splits", fix="Keep the copy", also=("duplicates_across_splits",),
          plant=combine(copy("train/1", "val/9"), put("masks/val/9.png", mask(2, 1, 0))),
          files=("images/train/1.png", "images/val/9.png", "masks/train/1.png", "masks/val/9.png"),
          message="1 image several times with different masks"),
    Fault(code="near_duplicates", plant=copy_as_jpeg("train/1", "train/9"), fix="Keep one image of each group",
          files=("images/train/1.png", "images/train/9.jpg"),
          message="1 group of nearly identical images in one split: images/train/1.png = images/train/9.jpg"),
    Fault(code="near_duplicates_across_splits", plant=copy_as_jpeg("train/1", "val/9"),
          files=("images/train/1.png", "images/val/9.jpg"), fix="Keep them in one split",
          message="1 pair of nearly identical images in different splits"),
    Fault(code="group_in_two_splits", plant=names("{number}of{split}"), options={"group_by": r"^\w+/\d(of)"},
          files=tuple(sorted(f"images/{n.split('/')[0]}/{i}of{n.split('/')[0]}.png" for i, n in enumerate(PAIRS))),
          message="1 group in more than one split: 'of' in train and val", fix="Move all images of a group"),
    Fault(code="sequence_in_two_splits", plant=names("clip_{number}"),
          files=("images/train/clip_5.png", "images/val/clip_6.png"), fix="If they are frames of one video",
          message="1 pair of images with neighboring names .*: train/clip_5 next to val/clip_6"),
    Fault(code="split_made", plant=remove_splits, fix="To choose the validation images",
          message="No validation split found: 2 of the 9 training images, drawn with seed 0"),
]  # fmt: skip
