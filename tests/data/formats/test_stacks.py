"""Stacks as datasets: pages of images with the pages of their masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import pixelwise as pw
from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.groups import find_sample_groups
from pixelwise.errors import DataError

NUM = 6
MASKS = np.stack([np.roll(np.indices((32, 40)).sum(0) % 16 > 7, shift, 1) for shift in range(NUM)]).astype(np.uint8)
IMAGES = (MASKS * 90 + np.random.default_rng(0).integers(0, 99, MASKS.shape)).astype(np.uint8)


def write_frames(path: Path, frames: Array, **options: Any) -> None:
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, **options)


def write_pages_apart(path: Path, pages: Array) -> None:
    """As programs that write one page after the other.

    Report: https://github.com/cgohlke/tifffile/issues/30.
    """
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page)


WRITERS: dict[str, tuple[str, Callable[[Path, Array], Any]]] = {
    "pages": (".tif", lambda path, array: tifffile.imwrite(path, array, photometric="minisblack", metadata=None)),
    "pages written one by one": (".tif", write_pages_apart),
    "shaped": (".tif", lambda path, array: tifffile.imwrite(path, array, photometric="minisblack")),
    "compressed": (".tif", lambda path, array: tifffile.imwrite(path, array, compression="zlib")),
    "imagej": (".tif", lambda path, array: tifffile.imwrite(path, array, imagej=True, metadata={"axes": "ZYX"})),
    "ome": (".tif", lambda path, array: tifffile.imwrite(path, array, ome=True, metadata={"axes": "TYX"})),
    "z and time": (
        ".tif",
        lambda path, array: tifffile.imwrite(
            path, array.reshape(2, NUM // 2, *array.shape[1:]), imagej=True, metadata={"axes": "TZYX"}
        ),
    ),
    "gif": (".gif", lambda path, array: write_frames(path, array * (1 if array.max() > 1 else 255))),
    "png": (".png", write_frames),
    "npy": (".npy", np.save),
}


def write(root: Path, image_kind: str, mask_kind: str, names: tuple[str, ...] = ("a",)) -> None:
    for folder, kind, array in (("images", image_kind, IMAGES), ("masks", mask_kind, MASKS)):
        (root / folder).mkdir(parents=True)
        for name in names:
            ending, save = WRITERS[kind]
            save(root / folder / f"{name}{ending}", array)


@pytest.mark.parametrize("image_kind", WRITERS)
@pytest.mark.parametrize("mask_kind", ["pages", "z and time", "gif", "npy"])
def test_each_page_is_a_sample(tmp_path: Path, image_kind: str, mask_kind: str) -> None:
    write(tmp_path, image_kind, mask_kind)
    dataset = Dataset.load(tmp_path)
    assert [sample.name for sample in dataset.samples] == [f"a/page_{page:04d}" for page in range(NUM)]
    for page, (image, mask) in enumerate(dataset):
        np.testing.assert_array_equal(image[..., 0], IMAGES[page])
        np.testing.assert_array_equal(mask, MASKS[page])


def test_channels_of_a_stack_belong_to_its_pages(tmp_path: Path) -> None:
    """ImageJ's order: the channels of a slice follow each other."""
    images = np.stack([IMAGES, IMAGES // 2, IMAGES // 3], 1)
    write(tmp_path, "imagej", "imagej")
    tifffile.imwrite(tmp_path / "images" / "a.tif", images, imagej=True, metadata={"axes": "ZCYX"})
    dataset = Dataset.load(tmp_path)
    assert len(dataset) == NUM
    np.testing.assert_array_equal(dataset[4][0], np.moveaxis(images[4], 0, -1))


@pytest.mark.parametrize("kind", ["pages", "npy"])
def test_pages_are_channels_where_dataset_yaml_says_so(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind, kind)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    Image.fromarray(MASKS[0]).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"a stack of 6 images .* write 'channels: 6' into dataset\.yaml"):
        Dataset.load(tmp_path)[0]
    (tmp_path / "dataset.yaml").write_text("channels: 6")
    (image, _), *others = Dataset.load(tmp_path)
    assert not others
    np.testing.assert_array_equal(image, np.moveaxis(IMAGES, 0, -1))


def test_stacks_of_different_lengths_are_named(tmp_path: Path) -> None:
    write(tmp_path, "imagej", "imagej", names=("a", "b", "c"))
    tifffile.imwrite(tmp_path / "masks" / "b.tif", MASKS[:4], imagej=True, metadata={"axes": "ZYX"})
    report = pw.check(tmp_path)
    found = {finding.code: finding for finding in report.errors}
    assert set(found) == {"unreadable_image", "unreadable_mask"}
    assert found["unreadable_image"].files == ("images/b.tif",)
    assert "stack of 6 images (axes ZYX)" in found["unreadable_image"].message
    assert "stack of 4 images" in found["unreadable_mask"].message
    assert report.num_images == 2 * NUM + 1


def test_a_truncated_page_is_named(tmp_path: Path) -> None:
    write(tmp_path, "pages", "pages", names=("a", "b"))
    path = tmp_path / "images" / "a.tif"
    with tifffile.TiffFile(path) as file:
        start = file.pages[NUM - 1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tag = file.pages[NUM - 1].tags["StripOffsets"]
    content[tag.offset + 8 : tag.offset + 12] = (len(content) - 10).to_bytes(4, "little")
    path.write_bytes(content)
    assert start < len(content)
    (finding,) = pw.check(tmp_path).errors
    assert finding.code in ("unreadable_image", "truncated_file")
    assert "images/a.tif" in finding.message
    assert "The file is truncated" in finding.message


def test_pages_of_a_stack_are_split_in_blocks(tmp_path: Path) -> None:
    write(tmp_path, "pages", "pages", names=("a", "b"))
    dataset = scan_dataset(Dataset.load(tmp_path))
    groups, _ = find_sample_groups(dataset, dataset.samples, DataConfig(split_by="block"))
    assert max(len(group.samples) for group in groups) > 1


def test_pages_stay_together_where_other_images_are_no_stacks(tmp_path: Path) -> None:
    write(tmp_path, "pages", "pages", names=("a", "b"))
    for folder, array in (("images", IMAGES), ("masks", MASKS)):
        for number in range(3):
            Image.fromarray(array[number] // 2).save(tmp_path / folder / f"photo{number}.png")
    dataset = scan_dataset(Dataset.load(tmp_path))
    groups, notes = find_sample_groups(dataset, dataset.samples, DataConfig())
    assert sorted(len(group.samples) for group in groups) == [1, 1, 1, 2 * NUM]  # the stacks are copies
    assert "The pages of a stack stay in one split." in notes


def test_reduced_copies_and_masks_of_transparency_are_not_pages(tmp_path: Path) -> None:
    write(tmp_path, "pages", "pages")
    for folder, array in (("images", IMAGES), ("masks", MASKS)):
        with tifffile.TiffWriter(tmp_path / folder / "a.tif") as writer:
            writer.write(array[0], metadata=None)
            writer.write(array[0, ::2, ::2], subfiletype=1, metadata=None)
            writer.write(array[0] > 0, subfiletype=4, metadata=None)
    assert len(Dataset.load(tmp_path)) == 1


def test_a_converted_stack_has_the_same_labels(tmp_path: Path) -> None:
    write(tmp_path / "stacks", "imagej", "imagej")
    pw.convert(tmp_path / "stacks", tmp_path / "single", to="folder")
    converted = Dataset.load(tmp_path / "single")
    assert len(converted) == NUM
    for page, (image, mask) in enumerate(converted):
        np.testing.assert_array_equal(image[..., 0], IMAGES[page])
        np.testing.assert_array_equal(mask, MASKS[page])
