from itertools import product
from pathlib import Path

import pytest

from pixelwise.data.images import ENDINGS
from pixelwise.data.layouts.folder import LABEL_FOLDERS, find_pairs
from pixelwise.data.layouts.pairing import Pairing
from pixelwise.errors import DataError


def plant(root: Path, *files: str) -> Path:
    """Empty files: a layout is read off the names alone."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(root: Path) -> list[tuple[str, str, str, str | None]]:
    """(name, image, mask, split) of a folder in which nothing else lies."""
    found = find_pairs(root)
    assert found == Pairing(samples=found.samples)
    return [(s.name, relative(root, s.image_path), relative(root, s.label_path), s.split) for s in found.samples]


def relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def shown(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [relative(root, path) for path in paths]


@pytest.mark.parametrize("labels", LABEL_FOLDERS)
def test_flat(tmp_path: Path, labels: str) -> None:
    plant(tmp_path, "images/b.jpg", "images/a.png", f"{labels}/a.png", f"{labels}/b.png")
    assert pairs(tmp_path) == [
        ("a", "images/a.png", f"{labels}/a.png", None),
        ("b", "images/b.jpg", f"{labels}/b.png", None),
    ]


def test_every_mix_of_endings(tmp_path: Path) -> None:
    endings = [*ENDINGS, ".PNG", ".Jpg", ".TIFF"]
    for number, (image, mask) in enumerate(product(endings, endings)):
        plant(tmp_path, f"images/{number}{image}", f"masks/{number}{mask}")
    assert len(pairs(tmp_path)) == len(endings) ** 2


@pytest.mark.parametrize("form", ["{kind}/{split}/{name}", "{split}/{kind}/{name}"])
def test_splits_either_way_round(tmp_path: Path, form: str) -> None:
    for split in ("train", "val", "test"):
        image = form.format(kind="images", split=split, name="a.jpg")
        plant(tmp_path, image, form.format(kind="labels", split=split, name="a.png"))
    found = pairs(tmp_path)
    assert [(name, split) for name, _, _, split in found] == [
        ("test/a", "test"),
        ("train/a", "train"),
        ("val/a", "val"),
    ]
    assert found[0][1] == form.format(kind="images", split="test", name="a.jpg")
    assert found[0][2] == form.format(kind="labels", split="test", name="a.png")


def test_some_splits_are_enough(tmp_path: Path) -> None:
    plant(tmp_path, "images/train/a.png", "masks/train/a.png")
    assert [split for *_, split in pairs(tmp_path)] == ["train"]


def test_the_labels_of_each_split_may_have_their_own_name(tmp_path: Path) -> None:
    plant(tmp_path, "train/images/a.png", "train/masks/a.png")
    plant(tmp_path, "val/images/a.png", "val/labels/a.png")
    assert len(pairs(tmp_path)) == 2


def test_folders_below_are_part_of_the_name(tmp_path: Path) -> None:
    plant(tmp_path, "images/train/city/1.png", "masks/train/city/1.png")
    plant(tmp_path, "images/train/village/1.png", "masks/train/village/1.png")
    assert [name for name, *_ in pairs(tmp_path)] == ["train/city/1", "train/village/1"]


def test_only_the_last_ending_is_cut(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.1.jpg", "masks/a.1.png", "images/a.2.jpg", "masks/a.2.png")
    assert [name for name, *_ in pairs(tmp_path)] == ["a.1", "a.2"]


def test_hidden_files_are_not_the_users(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "images/.DS_Store", "images/._a.png")
    plant(tmp_path, "images/.ipynb_checkpoints/a-checkpoint.png", "masks/.cache/x.txt")
    assert len(pairs(tmp_path)) == 1


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png/1.png", "masks/a.png/1.png")
    assert [name for name, *_ in pairs(tmp_path)] == ["a.png/1"]


def test_files_without_a_partner_are_told(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "images/c.png", "images/b.png", "masks/d.png")
    found = find_pairs(tmp_path)
    assert [s.name for s in found.samples] == ["a"]
    assert shown(tmp_path, found.images_without_mask) == ["images/b.png", "images/c.png"]
    assert shown(tmp_path, found.masks_without_image) == ["masks/d.png"]


def test_a_mask_in_another_split_is_no_partner(tmp_path: Path) -> None:
    plant(tmp_path, "images/train/a.png", "images/val/b.png", "masks/val/a.png", "masks/val/b.png")
    found = find_pairs(tmp_path)
    assert shown(tmp_path, found.images_without_mask) == ["images/train/a.png"]
    assert shown(tmp_path, found.masks_without_image) == ["masks/val/a.png"]


def test_files_beside_the_splits_are_told(tmp_path: Path) -> None:
    """Whole folders too: 'valid' is not 'val'."""
    plant(tmp_path, "images/train/a.png", "masks/train/a.png")
    stray = ["images/b.png", "images/valid/c.png", "masks/b.png", "masks/valid/c.png"]
    found = find_pairs(plant(tmp_path, *stray))
    assert [s.name for s in found.samples] == ["train/a"]
    assert shown(tmp_path, found.outside_splits) == stray


def test_files_beside_the_splits_are_told_the_other_way_round(tmp_path: Path) -> None:
    plant(tmp_path, "train/images/a.png", "train/masks/a.png")
    stray = ["images/b.png", "masks/b.png", "val/masks/d.png", "valid/images/c.png"]
    found = find_pairs(plant(tmp_path, *stray, "notes/c.png", ".git/images/c.png"))
    assert [s.name for s in found.samples] == ["train/a"]
    assert shown(tmp_path, found.outside_splits) == stray


def test_files_of_other_endings_are_told(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png")
    foreign = ["images/b.gif", "images/sub/readme", "masks/b.gif"]
    found = find_pairs(plant(tmp_path, *foreign, "readme.txt"))
    assert shown(tmp_path, found.foreign_files) == foreign
    assert found.outside_splits == ()


def test_files_of_one_stem_are_in_no_pair_and_named(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png", "images/b.png", "masks/b.png", "masks/b.tif")
    plant(tmp_path, "images/c.png", "masks/c.png")
    found = find_pairs(tmp_path)
    assert shown(tmp_path, found.same_stem) == ["images/a.jpg", "images/a.png", "masks/b.png", "masks/b.tif"]
    assert [sample.name for sample in found.samples] == ["c"]
    assert found.images_without_mask == found.masks_without_image == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"is not a folder; give the folder that holds images/ and masks/"),
        (["a.png"], "holds no folder 'images'; put the images into images/"),
        (["images/a.png"], "holds no folder of masks; name it masks or labels or annotations"),
        (["train/images/a.png"], "train holds no folder of masks"),
        (
            ["images/a.png", "masks/a.png", "labels/a.txt"],
            r"holds several folders of masks \(masks, labels\); keep the one to train on",
        ),
    ],
)
def test_what_is_no_folder_layout_is_an_error(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_pairs(plant(tmp_path / "data", *files))
