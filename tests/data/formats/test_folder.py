from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.formats.folder import LABEL_FOLDERS, find_pairs
from pixelwise.data.io.images import IMAGE_EXTENSIONS, write_png
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


@pytest.mark.parametrize("other", ["labels/a.txt", "Annotations/a.xml"])
def test_a_folder_of_other_annotations_is_not_one_of_masks(tmp_path: Path, other: str) -> None:
    assert pairs(plant(tmp_path, "images/a.png", "masks/a.png", other)) == pairs(
        plant(tmp_path / "x", "images/a.png", "masks/a.png")
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["a.png", "Photos/b.png"],
            r"has no folder 'images'\. Folders with pictures: the folder itself \(1\), Photos \(1\)\. Rename",
        ),
        (
            ["images/a.png"],
            r"no mask folder\. Folders with pictures: images \(1\)\. Name the folder of the masks masks",
        ),
        (["train/images/a.png"], "train contains no mask folder"),
        (
            ["images/a.png", "masks/a.png", "labels/a.png"],
            r"contains several mask folders \(masks, labels\). Choose one with --masks masks\.",
        ),
    ],
)
def test_folders_without_pairs_are_an_error(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_pairs(plant(tmp_path / "data", *files))


@pytest.mark.parametrize(
    ("images", "masks", "name"),
    [
        ("images/a.png", "truth/a.png", "truth"),
        ("images/train/a.png", "truth/train/a.png", "truth"),
        ("images/train/a.png", "truth/training/a.png", "truth/"),
        ("train/images/a.png", "train/truth/a.png", "truth"),
        ("train/images/a.png", "truth/train/a.png", "truth"),
        ("train/a.png", "truth/train/a.png", "truth"),
        ("train/a.png", "train/truth/a.png", "truth"),
        ("train/a.png", "extra/truth/train/a.png", "extra/truth"),
        ("photos/a.png", "truth/a.png", "truth"),
        ("a.png", "truth/a.png", "truth"),
        ("a.png", "deep/truth/a_mask.png", "deep/truth"),
    ],
)
def test_the_folder_of_masks_may_be_chosen(tmp_path: Path, images: str, masks: str, name: str) -> None:
    plant(tmp_path, images, masks)
    found = find_pairs(tmp_path, name)
    assert [(relative(tmp_path, s.image_path), relative(tmp_path, s.mask_path)) for s in found.samples] == [
        (images, masks)
    ]


def test_the_chosen_folder_is_preferred_to_others(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "labels/a.png", "truth/a.png")
    (sample,) = find_pairs(tmp_path, "labels").samples
    assert relative(tmp_path, sample.mask_path) == "labels/a.png"
    with pytest.raises(DataError, match=r"'masks' is 'gt', but there is no such folder in .* Folders with .*: .*truth"):
        find_pairs(tmp_path, "gt")


def test_masks_of_experts_are_preferred_to_the_field_of_view(tmp_path: Path) -> None:
    """As in DRIVE and HRF."""
    for manual in ("1st_manual", "manual1"):
        root = plant(tmp_path / manual, "images/1_a.png", "images/2_a.png", "mask/1_a_mask.png", "mask/2_a_mask.png")
        plant(root, f"{manual}/1_b.png", f"{manual}/2_b.png")
        assert [relative(root, s.mask_path) for s in find_pairs(root).samples] == [
            f"{manual}/1_b.png",
            f"{manual}/2_b.png",
        ]


@pytest.mark.parametrize(
    "names", [("Images", "Masks"), ("IMAGES", "LABELS"), ("Original", "Ground Truth"), ("imgs", "GT")]
)
def test_folders_may_have_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    plant(tmp_path, f"{names[0]}/a.png", f"{names[1]}/a.png")
    assert len(pairs(tmp_path)) == 1


@pytest.mark.parametrize("folder", ["set", "set/inner", "images and masks"])
@pytest.mark.parametrize("form", ["images/train/a.png masks/train/a.png", "train/images/a.png train/masks/a.png"])
def test_the_dataset_may_be_in_folders_of_its_own(tmp_path: Path, folder: str, form: str) -> None:
    image, mask = (f"{folder}/{name}" for name in form.split())
    plant(tmp_path, image, mask, "readme.txt", "other/notes.txt")
    assert pairs(tmp_path) == [("train/a", image, mask, "train")]


def test_folders_of_the_same_name_are_one(tmp_path: Path) -> None:
    """As archives of Kaggle."""
    plant(tmp_path, "images/images/a.png", "masks/masks/a.png")
    assert pairs(tmp_path) == [("a", "images/images/a.png", "masks/masks/a.png", None)]


def test_several_folders_are_one_dataset(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{site}/{kind}/a.png" for site in ("x", "y") for kind in ("images", "masks")), "x/images/b.png")
    assert [name for name, *_ in find_names(tmp_path)] == ["x/a", "y/a"]


def find_names(root: Path) -> list[tuple[str, ...]]:
    return [(sample.name,) for sample in find_pairs(root).samples]


def test_each_image_may_have_a_folder_with_its_masks(tmp_path: Path) -> None:
    """As in the Data Science Bowl 2018."""
    for name in ("f3", "a7"):
        plant(tmp_path, f"train/{name}/images/{name}.png", *(f"train/{name}/masks/{n}{name}.png" for n in ("c", "d")))
    found = find_pairs(tmp_path / "train")
    assert [(s.name, len(s.paths)) for s in found.samples] == [("a7", 3), ("f3", 3)]
    assert found.masks_without_image == found.same_stem == ()


def test_photos_and_their_masks_may_have_the_same_names(tmp_path: Path) -> None:
    """As in Crack500."""
    plant(tmp_path, *(f"{name}{end}" for name in "abc" for end in (".jpg", ".png")))
    assert pairs(tmp_path) == [(name, f"{name}.jpg", f"{name}.png", None) for name in "abc"]


def test_extensions_tell_images_of_the_same_stem_apart(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.jpg", "images/a.png", "masks/a.jpg.png", "masks/a.png.png")
    found = find_pairs(tmp_path)
    assert [(s.name, s.mask_path.name) for s in found.samples] == [("a.jpg", "a.jpg.png"), ("a.png", "a.png.png")]


@pytest.mark.parametrize("form", ["{split}/images/{name}", "images/{split}/{name}", "{split}/{name}"])
def test_a_test_split_without_masks_is_unlabeled(tmp_path: Path, form: str) -> None:
    masks = form.replace("images", "masks") if "images" in form else "{split}_masks/{name}"
    plant(tmp_path, *(form.format(split=split, name="a.png") for split in ("train", "test")))
    plant(tmp_path, masks.format(split="train", name="a.png"))
    found = find_pairs(tmp_path)
    assert [s.name for s in found.samples] == ["train/a"]
    assert shown(tmp_path, found.unlabeled_images) == [form.format(split="test", name="a.png")]
    assert found.images_without_mask == ()


def test_the_best_pattern_is_named_if_it_is_not_used(tmp_path: Path) -> None:
    plant(tmp_path, *(f"images/img{n}.png" for n in range(8)), *(f"masks/mask{n}.png" for n in range(2, 10)))
    found = find_pairs(tmp_path)
    assert found.samples == ()
    assert "such as img2.png with mask2.png, pairs 6 of 8 images; 95 % are needed" in found.pairing_hint


def write_masks(root: Path, masks: dict[str, list[list[int]]]) -> DatasetIndex:
    for name in ("1", "2"):
        write_png(root / f"images/{name}.png", np.zeros((2, 3), np.uint8))
    for file, values in masks.items():
        write_png(root / "masks" / file, np.array(values, np.uint8))
    return find_pairs(root)


def test_masks_in_several_files_are_joined(tmp_path: Path) -> None:
    found = write_masks(
        tmp_path,
        {"1_mask.png": [[255, 0, 0]] * 2, "1_mask_1.png": [[0, 0, 255], [0, 0, 0]], "2_mask.png": [[0, 0, 0]] * 2},
    )
    assert found.reader.read_mask(found.samples[0]).tolist() == [[255, 0, 255], [255, 0, 0]]
    assert found.reader.read_mask(found.samples[1]).tolist() == [[0, 0, 0]] * 2
    assert found.description.names is None
    (note,) = found.pairing_notes
    assert note.startswith("Several masks of an image are joined, such as 1_mask.png and 1_mask_1.png.")


def test_of_overlapping_classes_the_smaller_is_on_top(tmp_path: Path) -> None:
    found = write_masks(
        tmp_path,
        {
            "organ/1.png": [[255, 255, 0]] * 2,
            "lesion/1.png": [[0, 255, 0], [0, 0, 0]],
            "organ/2.png": [[0, 1, 0], [0, 0, 0]],
            "lesion/2.png": [[0, 1, 1]] * 2,
        },
    )
    assert found.description.names == ("background", "lesion", "organ")
    assert found.reader.read_mask(found.samples[0]).tolist() == [[2, 1, 0], [2, 2, 0]]
    assert found.reader.read_mask(found.samples[1]).tolist() == [[0, 2, 1], [0, 1, 1]]


def test_masks_of_a_class_have_two_values_and_one_size(tmp_path: Path) -> None:
    masks = {f"{kind}/{n}.png": [[0, 1, 0]] * 2 for kind in ("organ", "lesion") for n in (1, 2)}
    found = write_masks(tmp_path, {**masks, "organ/1.png": [[0, 1, 2]] * 2, "organ/2.png": [[0, 1]]})
    with pytest.raises(
        DataError, match=r"organ/1.png: The mask has more than two values, but each class has masks of its own"
    ):
        found.reader.read_mask(found.samples[0])
    with pytest.raises(DataError, match=r"organ/2.png: The mask is 1x2, but 2.png of the same image is 2x3"):
        found.reader.read_mask(found.samples[1])


def test_thumbnails_of_windows_as_in_a_public_report(tmp_path: Path) -> None:
    """https://github.com/meetps/pytorch-semseg/issues/83."""
    plant(tmp_path, "train/a.png", "train/Thumbs.db", "trainannot/a.png", "trainannot/Thumbs.db")
    assert pairs(tmp_path) == [("train/a", "train/a.png", "trainannot/a.png", "train")]
