from itertools import product
from pathlib import Path

import pytest

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.formats.folder import LABEL_FOLDERS, find_pairs
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.errors import DataError


def plant(root: Path, *files: str) -> Path:
    """Empty files: a format is read off the names alone."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(root: Path) -> list[tuple[str, str, str, str | None]]:
    """(name, image, mask, split) of a folder in which nothing else lies."""
    found = find_pairs(root)
    assert found == DatasetIndex(samples=found.samples)
    return [(s.name, relative(root, s.image_path), relative(root, s.mask_path), s.split) for s in found.samples]


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


def test_every_mix_of_extensions(tmp_path: Path) -> None:
    endings = [*IMAGE_EXTENSIONS, ".PNG", ".Jpg", ".TIFF"]
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


def test_not_all_splits_are_required(tmp_path: Path) -> None:
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


def test_only_the_last_extension_is_removed(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.1.jpg", "masks/a.1.png", "images/a.2.jpg", "masks/a.2.png")
    assert [name for name, *_ in pairs(tmp_path)] == ["a.1", "a.2"]


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "images/.DS_Store", "images/._a.png")
    plant(tmp_path, "images/.ipynb_checkpoints/a-checkpoint.png", "masks/.cache/x.txt")
    assert len(pairs(tmp_path)) == 1


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png/1.png", "masks/a.png/1.png")
    assert [name for name, *_ in pairs(tmp_path)] == ["a.png/1"]


def test_files_without_a_partner_are_listed(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "images/c.png", "images/b.png", "masks/d.png")
    found = find_pairs(tmp_path)
    assert [s.name for s in found.samples] == ["a"]
    assert shown(tmp_path, found.images_without_mask) == ["images/b.png", "images/c.png"]
    assert shown(tmp_path, found.masks_without_image) == ["masks/d.png"]


def test_masks_of_another_split_are_not_paired(tmp_path: Path) -> None:
    plant(tmp_path, "images/train/a.png", "images/val/b.png", "masks/val/a.png", "masks/val/b.png")
    found = find_pairs(tmp_path)
    assert shown(tmp_path, found.images_without_mask) == ["images/train/a.png"]
    assert shown(tmp_path, found.masks_without_image) == ["masks/val/a.png"]


def test_files_outside_the_splits_are_listed(tmp_path: Path) -> None:
    """Whole folders too."""
    plant(tmp_path, "images/train/a.png", "masks/train/a.png")
    stray = ["images/b.png", "images/extra/c.png", "masks/b.png", "masks/extra/c.png"]
    found = find_pairs(plant(tmp_path, *stray))
    assert [s.name for s in found.samples] == ["train/a"]
    assert shown(tmp_path, found.outside_splits) == stray


def test_files_outside_split_folders_are_listed(tmp_path: Path) -> None:
    plant(tmp_path, "train/images/a.png", "train/masks/a.png")
    stray = ["extra/images/c.png", "images/b.png", "masks/b.png", "val/masks/d.png"]
    found = find_pairs(plant(tmp_path, *stray, "notes/c.png", ".git/images/c.png"))
    assert [s.name for s in found.samples] == ["train/a"]
    assert sorted(shown(tmp_path, found.outside_splits)) == stray


@pytest.mark.parametrize("images", ["images", "image", "img_dir"])
@pytest.mark.parametrize("labels", ["ann_dir", "mask"])
def test_other_names_of_the_folders(tmp_path: Path, images: str, labels: str) -> None:
    plant(tmp_path, f"{images}/val/a.jpg", f"{labels}/val/a.png")
    assert pairs(tmp_path) == [("val/a", f"{images}/val/a.jpg", f"{labels}/val/a.png", "val")]


@pytest.mark.parametrize("form", ["images/{}/a.png masks/{}/a.png", "{}/images/a.png {}/masks/a.png"])
@pytest.mark.parametrize(
    ("word", "split"),
    [
        *(("training", "train"), ("Train", "train"), ("valid", "val"), ("validation", "val")),
        *(("eval", "val"), ("testing", "test")),
    ],
)
def test_other_names_of_a_split(tmp_path: Path, form: str, word: str, split: str) -> None:
    image, label = form.replace("{}", word).split()
    plant(tmp_path, image, label)
    assert pairs(tmp_path) == [(f"{split}/a", image, label, split)]


def test_images_and_masks_may_use_different_split_names(tmp_path: Path) -> None:
    plant(tmp_path, "images/valid/a.jpg", "masks/val/a.png")
    assert pairs(tmp_path) == [("val/a", "images/valid/a.jpg", "masks/val/a.png", "val")]


def test_two_names_of_one_split_are_not_used(tmp_path: Path) -> None:
    """Beside 'val', 'valid' may be anything; so may each of two words other than 'val'."""
    plant(tmp_path, *(f"{kind}/{split}/a.png" for kind in ("images", "masks") for split in ("train", "val", "valid")))
    found = find_pairs(tmp_path)
    assert [s.name for s in found.samples] == ["train/a", "val/a"]
    assert shown(tmp_path, found.outside_splits) == ["images/valid/a.png", "masks/valid/a.png"]
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "eval")
    found = find_pairs(tmp_path)
    assert [s.name for s in found.samples] == ["train/a"]
    assert len(found.outside_splits) == 4


MARKED = ["a_mask", "a_masks", "a_label", "a-mask", "a_seg", "a_gt", "a_Mask", "a_L", "a_P", "a_segmentation"]
MARKED += ["mask_a", "label-a", "gt_a", "Masks_a"]


@pytest.mark.parametrize("mask", MARKED)
@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("images", "masks", None),
        ("images", "images", None),
        ("images/val", "images/val", "val"),
        ("val/images", "val/images", "val"),
        ("val", "val", "val"),
        ("val", "val_labels", "val"),
        ("valid", "validannot", "val"),
        (".", ".", None),
        ("sub", "sub", None),
    ],
)
def test_masks_may_be_marked(tmp_path: Path, images: str, labels: str, split: str | None, mask: str) -> None:
    plant(tmp_path, f"{images}/a.jpg", f"{labels}/{mask}.png")
    (found,) = pairs(tmp_path)
    assert found[1:] == (f"{images}/a.jpg".removeprefix("./"), f"{labels}/{mask}.png".removeprefix("./"), split)


@pytest.mark.parametrize("mask", ["masks/1_mask.png", "masks/mask_1.png", "masks/1.png", "images/label_1.png"])
@pytest.mark.parametrize("image", ["image_1", "img-1", "1_image", "1_sat", "1"])
def test_images_may_be_marked_too(tmp_path: Path, image: str, mask: str) -> None:
    plant(tmp_path, f"images/{image}.jpg", mask)
    assert pairs(tmp_path) == [(image, f"images/{image}.jpg", mask, None)]


def test_marks_of_image_names_are_not_marks_of_masks(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{kind}/{name}.png" for kind in ("images", "masks") for name in ("a", "a_L", "a_gt", "mask_")))
    assert [name for name, *_ in pairs(tmp_path)] == ["a", "a_L", "a_gt", "mask_"]


def test_an_unmarked_mask_is_preferred_to_a_marked_one(tmp_path: Path) -> None:
    found = find_pairs(plant(tmp_path, "images/a.png", "masks/a.png", "masks/a_mask.png"))
    assert shown(tmp_path, tuple(s.mask_path for s in found.samples)) == ["masks/a.png"]
    assert shown(tmp_path, found.masks_without_image) == ["masks/a_mask.png"]


def test_two_marked_masks_of_an_image_are_in_no_pair(tmp_path: Path) -> None:
    found = find_pairs(plant(tmp_path, "images/a.png", "masks/a_gt.png", "masks/a_mask.png"))
    assert found.samples == ()
    assert shown(tmp_path, found.same_stem) == ["masks/a_gt.png", "masks/a_mask.png"]


def test_a_marked_mask_without_an_image_is_a_mask(tmp_path: Path) -> None:
    """Told by the marks of the others."""
    found = find_pairs(plant(tmp_path, "a.jpg", "a_mask.png", "b_mask.png", "c.jpg", "readme.txt", "dataset.yaml"))
    assert shown(tmp_path, found.masks_without_image) == ["b_mask.png"]
    assert shown(tmp_path, found.images_without_mask) == ["c.jpg"]
    assert found.foreign_files == ()


def test_folders_next_to_split_folders_are_listed(tmp_path: Path) -> None:
    plant(tmp_path, "train/a.png", "train_labels/a_L.png", "val/b.png", "val_labels/b_L.png", "readme.png")
    stray = ["extra/c.png", "valid/d.png", "valid_labels/d_L.png"]
    found = find_pairs(plant(tmp_path, *stray, "train/notes.rar"))
    assert [s.name for s in found.samples] == ["train/a", "val/b"]
    assert shown(tmp_path, found.outside_splits) == stray
    assert shown(tmp_path, found.foreign_files) == ["train/notes.rar"]


def test_codes_are_names(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "labels/a_P.png")
    (tmp_path / "codes.txt").write_text("Animal\nArchway\n\nVoid\n", encoding="utf-8")
    assert find_pairs(tmp_path).description == DatasetDescription(names=("Animal", "Archway", "Void"))


def test_a_dictionary_of_classes_gives_names_and_colors(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "labels/a_P.png")
    path = tmp_path / "class_dict.csv"
    path.write_text("name,r,g,b\nAnimal, 64,128,64\nArchway,192,0,128\n", encoding="utf-8")
    assert find_pairs(tmp_path).description == DatasetDescription(
        names=("Animal", "Archway"), colors=((64, 128, 64), (192, 0, 128))
    )
    for content in ("name,r,g,b\nAnimal,64,128,green\n", "name,r,g,b\n,\n", "name,r,g,b\n\nAnimal,64,128,256\n"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=r"class_dict.csv, line .: .* does not have the form name,r,g,b"):
            find_pairs(tmp_path)


def test_files_of_other_extensions_are_listed(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png")
    foreign = ["images/b.rar", "images/sub/unknown", "masks/b.svg"]
    found = find_pairs(plant(tmp_path, *foreign, "readme.txt"))
    assert shown(tmp_path, found.foreign_files) == foreign
    assert found.outside_splits == ()


SIDECARS = ["a.tfw", "a.png.aux.xml", "Thumbs.db", "data.yaml", "_classes.csv", "notes.txt", "README.md", "README"]
SIDECARS += [".DS_Store", "desktop.ini", "a.JGW", "a.json", "a.png:Zone.Identifier", "a.ovr"]


@pytest.mark.parametrize("name", SIDECARS)
def test_sidecars_are_no_foreign_files(tmp_path: Path, name: str) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", f"images/{name}", f"masks/{name}", f"images/sub/{name}")
    assert len(pairs(tmp_path)) == 1


def test_files_of_equal_stems_are_listed_and_in_no_pair(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png", "images/b.png", "masks/b.png", "masks/b.tif")
    plant(tmp_path, "images/c.png", "masks/c.png")
    found = find_pairs(tmp_path)
    assert shown(tmp_path, found.same_stem) == ["images/a.jpg", "images/a.png", "masks/b.png", "masks/b.tif"]
    assert [sample.name for sample in found.samples] == ["c"]
    assert found.images_without_mask == found.masks_without_image == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.png"], "has no folder 'images'. Put the images into images/"),
        (["images/a.png"], "contains no mask folder. Name it masks or labels or annotations"),
        (["train/images/a.png"], "train contains no mask folder"),
        (
            ["images/a.png", "masks/a.png", "labels/a.txt"],
            r"contains several mask folders \(masks, labels\). Keep the one to train on",
        ),
    ],
)
def test_folders_without_pairs_are_an_error(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_pairs(plant(tmp_path / "data", *files))
