from pathlib import Path

import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.yolo import find_pairs
from pixelwise.errors import DataError
from support.shape_datasets import SIZE, get_finding, list_relative, make_mask, read_masks, run_check, write_image

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"
CAT, DOG = 1, 2
AREA = (slice(1, 3), slice(1, 4))


def line(key: int, *corners: tuple[float, float]) -> str:
    """Corners in pixels."""
    return " ".join([str(key), *(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in corners)])


SQUARE = (1, 1), (4, 1), (4, 3), (1, 3)
RIGHT_HALF = (2, 1), (4, 1), (4, 3), (2, 3)


def plant(root: Path, *lines: str, yaml: str = YAML) -> Path:
    write_image(root / "images/train/a.png")
    write_text(root / "labels/train/a.txt", "\n".join(lines))
    write_text(root / "data.yaml", yaml)
    (root / "images/val").mkdir(parents=True, exist_ok=True)
    return root


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def mask(root: Path) -> list[list[int]]:
    values: list[list[int]] = read_masks(root, "yolo")["train/a"].tolist()
    return values


def test_coordinates_are_fractions_and_later_lines_cover_earlier_ones(tmp_path: Path) -> None:
    root = plant(tmp_path, line(1, *SQUARE), "", line(0, *RIGHT_HALF), "")
    assert mask(root) == make_mask((DOG, *AREA), (CAT, slice(1, 3), slice(2, 4)))


def test_0_and_1_are_the_outer_edges(tmp_path: Path) -> None:
    assert mask(plant(tmp_path, "0 0 0 1 0 1 1 0 1")) == make_mask((CAT, slice(None), slice(None)))


def test_a_corner_may_stick_out_a_little(tmp_path: Path) -> None:
    assert mask(plant(tmp_path, "0 -0.005 0 1.005 0 1 1 0 1")) == make_mask((CAT, slice(None), slice(None)))


@pytest.mark.parametrize("key", ["0", "0.0", "0.000"])
def test_a_class_may_be_written_with_a_fraction(tmp_path: Path, key: str) -> None:
    assert mask(plant(tmp_path, key + line(0, *SQUARE)[1:])) == make_mask((CAT, *AREA))


def test_the_last_point_may_repeat_the_first(tmp_path: Path) -> None:
    assert mask(plant(tmp_path, line(0, *SQUARE, SQUARE[0]))) == make_mask((CAT, *AREA))


def test_a_corner_may_be_outside_the_image(tmp_path: Path) -> None:
    """As in github.com/HumanSignal/label-studio/issues/5481 and github.com/ultralytics/ultralytics/issues/13924."""
    outline = "0 -0.0371 0 0.5 -0.001 0.5 1.0371 0 1"
    assert mask(plant(tmp_path, outline)) == make_mask((CAT, slice(None), slice(0, 4)))


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.png.txt", "a.png.Txt"])
@pytest.mark.parametrize("folder", ["labels/train", "images/train", "Labels/Train"])
def test_the_text_file_of_an_image(tmp_path: Path, folder: str, name: str) -> None:
    root = plant(tmp_path)
    (root / "labels/train/a.txt").unlink()
    write_text(root / folder / name, line(1, *SQUARE))
    assert mask(root) == make_mask((DOG, *AREA))
    assert Dataset.load(root).samples[0].mask_path == root / folder / name


@pytest.mark.parametrize("name", ["labels/train/a.TXT", "labels/train/a.png.txt", "images/train/a.txt"])
def test_two_text_files_of_one_image_are_listed(tmp_path: Path, name: str) -> None:
    root = plant(tmp_path, line(0, *SQUARE))
    write_text(root / name, line(1, *SQUARE))
    assert sorted(list_relative(root, find_pairs(root).same_stem)) == sorted(["labels/train/a.txt", name])


def test_folders_of_images_may_be_in_upper_case(tmp_path: Path) -> None:
    write_image(tmp_path / "Images/Train/a.png")
    write_text(tmp_path / "Labels/Train/a.txt", line(0, *SQUARE))
    write_text(tmp_path / "data.yaml", "train: Images/Train\nnames: [cat]\n")
    assert read_masks(tmp_path, "yolo")["Images/Train/a"].tolist() == make_mask((CAT, *AREA))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_any_text_file_is_an_error(tmp_path: Path, split: str) -> None:
    root = plant(tmp_path)
    write_image(root / "images/val/b.png")
    write_text(root / "labels/val/b.txt", "")
    name = {"train": "a", "val": "b"}[split]
    (root / f"labels/{split}/{name}.txt").unlink()
    fault = rf"None of the 1 images of {split} has a text file with its labels, such as labels/{split}/{name}\.txt"
    with pytest.raises(DataError, match=fault):
        Dataset.load(root)
    write_text(root / f"labels/{split}/{name}.txt", "")  # the fix
    assert len(Dataset.load(root).samples) == 2


def test_a_missing_text_file_is_told_apart_from_an_empty_one(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", line(0, *SQUARE), line(1, *RIGHT_HALF))
    for name in "bc":
        write_image(root / f"images/train/{name}.png")
    write_text(root / "labels/train/b.txt", "")
    found = [f for f in run_check(root, tmp_path)["findings"] if f["code"] == "empty_mask"]
    assert [(f["files"], f["message"].split(":")[0]) for f in found] == [
        (["images/train/c.png"], "1 image without a label file, read as background"),
        (["labels/train/b.txt"], "1 mask with only background"),
    ]


def test_a_test_split_without_any_text_file_is_not_read(tmp_path: Path) -> None:
    root = plant(tmp_path, yaml=f"{YAML}test: images/test\n")
    write_image(root / "images/test/b.png")
    assert [sample.split for sample in Dataset.load(root).samples] == ["train"]


@pytest.mark.parametrize(
    "text", ["train: images/train\ntest: ../test/images\n", "path: C:\\data\ntrain: images/train\n"]
)
def test_folders_of_other_machines(tmp_path: Path, text: str) -> None:
    dataset = Dataset.load(plant(tmp_path, line(0, *SQUARE), yaml=f"{text}names: [cat]\n"))
    assert [(sample.name, sample.split) for sample in dataset.samples] == [("train/a", "train")]


def test_a_path_elsewhere_is_an_error_that_can_be_followed(tmp_path: Path) -> None:
    root = plant(tmp_path / "elsewhere", line(0, *SQUARE))
    (root / "images/val").rmdir()
    text = f"path: {root}\ntrain: images/train\nnames: [cat]\n"
    yaml = write_text(tmp_path / "config/data.yaml", text)
    fault = "'images/train', which does not exist below .*config. Correct it. 'path' is .*: to read that folder"
    with pytest.raises(DataError, match=fault):
        Dataset.load(yaml.parent)
    yaml.rename(root / "data.yaml")
    assert mask(root) == make_mask((CAT, *AREA))


# Without data.yaml.


@pytest.mark.parametrize("name", ["dataset.yaml", "dataset.yml", "carparts-seg.yaml"])
def test_the_file_of_names_may_have_another_name(tmp_path: Path, name: str) -> None:
    plant(tmp_path, line(1, (1, 1), (4, 1), (4, 3), (1, 3)))
    expected = mask(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / name)
    assert mask(tmp_path) == expected
    assert Dataset.load(tmp_path).classes.names == ("background", "cat", "dog")


def test_names_of_a_classes_file_and_splits_of_folders(tmp_path: Path) -> None:
    """As exported by Label Studio and LabelImg."""
    root = plant(tmp_path, line(1, *SQUARE))
    write_image(root / "images/val/b.png")
    write_text(root / "labels/val/b.txt", line(0, *SQUARE))
    (root / "data.yaml").unlink()
    write_text(root / "classes.txt", "cat\ndog\n")
    dataset = Dataset.load(root)
    assert (dataset.format, dataset.classes.names) == ("yolo", ("background", "cat", "dog"))
    assert [sample.split for sample in dataset.samples] == ["train", "val"]
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((DOG, *AREA))


def test_labels_without_names_are_an_error_with_the_file_to_write(tmp_path: Path) -> None:
    root = plant(tmp_path, line(1, *SQUARE))
    (root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"has YOLO labels, but no data\.yaml\. Write it") as raised:
        Dataset.load(root)
    write_text(root / "data.yaml", str(raised.value).split("Write it:")[1])  # the fix
    dataset = Dataset.load(root)
    assert dataset.classes.names == ("background", "name of class 0", "name of class 1")
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((DOG, *AREA))


@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_masks_are_read_where_there_are_text_files_too(tmp_path: Path, folder: str) -> None:
    write_image(tmp_path / "images/a.png")
    write_image(tmp_path / folder / "a.png")
    write_text(tmp_path / "labels/a.txt", line(0, *SQUARE))
    assert Dataset.load(tmp_path).format == "folder"


def test_an_empty_text_file_and_a_missing_one_are_background(tmp_path: Path) -> None:
    root = plant(tmp_path)
    write_image(root / "images/train/b.png")
    found = read_masks(root, "yolo")
    assert found["train/a"].tolist() == found["train/b"].tolist() == make_mask()
    assert Dataset.load(root).index.images_without_mask == ()


@pytest.mark.parametrize("names", ["names: [cat, dog]\nnc: 2\n", "names: {1: dog, 0: cat}\n"])
def test_both_forms_of_names(tmp_path: Path, names: str) -> None:
    dataset = Dataset.load(plant(tmp_path, line(1, *SQUARE), yaml=f"train: images/train\n{names}"))
    assert dataset.classes.names == ("background", "cat", "dog")
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((DOG, *AREA))


@pytest.mark.parametrize(
    ("yaml", "picture", "label", "split"),
    [
        ("train: ../train/images\nval: ../valid/images\n", "train/images/a.png", "train/labels/a.txt", "train"),
        ("train: train\nvalid: valid/images\n", "valid/images/a.png", "valid/labels/a.txt", "val"),
        ("train: [images/one, images/two]\n", "images/two/a.png", "labels/two/a.txt", "train"),
        ("path: /home/else/where\ntrain: images\n", "images/deep/a.png", "labels/deep/a.txt", "train"),
        ("path: ../elsewhere\ntrain: ''\ntest: images/test\n", "images/test/a.png", "labels/test/a.txt", "test"),
        ("train: pictures\n", "pictures/a.png", "pictures/a.txt", "train"),
        ("train: train.txt\n", "images/a.png", "labels/a.txt", "train"),
    ],
)
def test_locations_of_files(tmp_path: Path, yaml: str, picture: str, label: str, split: str) -> None:
    write_image(tmp_path / picture)
    (tmp_path / "train").mkdir(exist_ok=True)
    (tmp_path / "valid/images").mkdir(exist_ok=True, parents=True)
    (tmp_path / "images/one").mkdir(exist_ok=True, parents=True)
    write_text(tmp_path / label, line(0, *SQUARE))
    write_text(tmp_path / "train.txt", "./images/a.png\n")
    write_text(tmp_path / "coco8.yaml", f"{yaml}names: [cat]\n")
    (sample,) = Dataset.load(tmp_path).samples
    assert (sample.image_path, sample.mask_path) == (tmp_path / picture, tmp_path / label)
    assert sample.split == split
    assert read_masks(tmp_path, "yolo")[sample.name].tolist() == make_mask((CAT, *AREA))


def test_a_path_may_be_absolute(tmp_path: Path) -> None:
    root = plant(tmp_path, yaml=f"path: {tmp_path}\ntrain: {tmp_path}/images/train\nnames: [cat]\n")
    assert [sample.name for sample in Dataset.load(root).samples] == ["train/a"]


def test_files_in_no_split_are_listed(tmp_path: Path) -> None:
    root = plant(tmp_path)
    write_image(root / "images/extra/b.png")
    write_text(root / "labels/train/c.txt", "")
    write_text(root / "labels/train/classes.txt", "cat\ndog\n")
    pairing = find_pairs(root)
    assert list_relative(root, pairing.outside_splits) == ["images/extra/b.png"]
    assert list_relative(root, pairing.masks_without_image) == ["labels/train/c.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1: A class and 4 numbers are a box, not an outline. Export the dataset for"),
        ("\n0 0.1 0.1 0.2 0.2 0.3", "line 2: the outline has an odd number of values, but x and y come in pairs"),
        ("0 0.1 0.1", "line 1: The number of points of a polygon is 1"),
        ("0", "line 1: The number of points of a polygon is 0"),
        ("0 10 10 40 10 40 30", "line 1: 10 is not a fraction of width or height"),
        ("0 nan 0 1 0 1 1", "line 1: Point 1 of the outline is \\['nan', '0'\\]"),
        ("7 0 0 1 0 1 1", r"line 1: The class 7 is not among those in data.yaml \(0, 1\)"),
        ("cat 0 0 1 0 1 1", "line 1: 'cat' is not the number of a class"),
        ("0 0 0 1 0 1 x", r"line 1: Point 3 of the outline is \['1', 'x'\]. Expected two numbers"),
    ],
)
def test_an_invalid_line_is_an_error_and_a_finding(tmp_path: Path, text: str, message: str) -> None:
    root = plant(tmp_path / "data", text)
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=rf"labels/train/a\.txt: {message}"):
        dataset.read_mask(dataset.samples[0])
    assert get_finding(run_check(root, tmp_path), "unreadable_mask")["files"] == ["labels/train/a.txt"]


def test_a_text_file_in_another_encoding_is_a_finding(tmp_path: Path) -> None:
    root = plant(tmp_path / "data")
    (root / "labels/train/a.txt").write_bytes(b"\xe4")
    assert "a.txt: The file is not UTF-8 text" in get_finding(run_check(root, tmp_path), "unreadable_mask")["message"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [cat]\ntrain: [a", r"data\.yaml: The file is not valid YAML"),
        ("train: images/train\nnames: [cat]\nnc: 2\n", "'names' lists 1 classes, but 'nc' is 2. Make them agree"),
        ("train: images/train\nnames: []\n", "'names' lists no classes. Add their names"),
        ("train: images/train\nnames: 7\n", "'names' is 7. Expected a list of names, or class numbers with names"),
        ("train: images/train\nnames: [cat, cat]\n", "lists the class 'cat' twice"),
        (
            "train: images/train\nnames: [cat, no]\n",
            "'names' has the entry 1: false. Expected a class number",
        ),
        ("train: images/train\nnames: {cat: 0}\n", "'names' has the entry 'cat': 0. Expected a class number"),
        ("train: 7\nnames: [cat]\n", "'train' is 7. Expected a folder of images, or a file that lists them"),
        ("train: images/val\nnames: [cat]\n", r"data\.yaml: 'train', 'val' and 'test' name no folder with images"),
        ("train: images/train\nnames: [cat]\nkpt_shape: [17, 3]\n", "describes keypoints, not areas"),
        (
            "train: images/gone\nnames: [cat]\n",
            "'train' names 'images/gone', which does not exist below .*. Correct",
        ),
        (
            "train: images/train\nval: ../valid/images\nnames: [cat]\n",
            "'val' names '../valid/images', which does not exist",
        ),
        ("train: ../..\nnames: [cat]\n", "'train' names '../..', which does not exist below"),
        ("train: images\nval: images/train\nnames: [cat]\n", r"a\.png is in train and in val. Name folders"),
        ("train: list.txt\nnames: [cat]\n", r"list\.txt, line 1: 'images/gone\.png' is not an image below"),
    ],
)
def test_an_invalid_description_is_an_error(tmp_path: Path, yaml: str, message: str) -> None:
    root = plant(tmp_path / "data", yaml=yaml)
    write_text(root / "list.txt", "images/gone.png\n")
    with pytest.raises(DataError, match=message):
        Dataset.load(root)


@pytest.mark.parametrize("yaml", ["train: images/train\n", "names: [cat]\n", ""])
def test_a_folder_without_a_description_is_an_error(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(
        DataError, match=r"has no data\.yaml with 'names' and 'train'\. Create it, or export the dataset again\."
    ):
        Dataset.load(plant(tmp_path, yaml=yaml), "yolo")


def test_images_may_be_a_link_to_a_folder_outside(tmp_path: Path) -> None:
    """The labels are next to the link, not next to its target.

    report: https://github.com/open-edge-platform/datumaro/pull/1255
    report: https://github.com/LibreYOLO/libreyolo/issues/187
    """
    for split in ("train", "test"):
        write_image(tmp_path / f"pictures/{split}/{split}.png")
        write_text(tmp_path / f"data/labels/{split}/{split}.txt", line(0, *SQUARE))
    (tmp_path / "data/images").symlink_to("../pictures")
    write_text(tmp_path / "data/train.txt", "images/train/train.png\n")
    for train in ("images/train", "train.txt"):
        write_text(tmp_path / "data/data.yaml", f"train: {train}\ntest: images/test\nnames: [cat]\n")
        found = read_masks(tmp_path / "data", "yolo")
        assert {name: labels.tolist() for name, labels in found.items()} == {
            name: make_mask((CAT, *AREA)) for name in ("test/test", "train/train")
        }
