from pathlib import Path

import pytest

from pixelwise.data.colors import Color
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.voc import can_read, find_pairs, voc_color
from pixelwise.data.io.images import write_png
from pixelwise.errors import DataError
from support.mask_datasets import image, pairs, text, voc


@pytest.mark.parametrize(
    ("index", "color"),
    [(0, (0, 0, 0)), (1, (128, 0, 0)), (7, (128, 128, 128)), (8, (64, 0, 0)), (20, (0, 64, 128))],
)
def test_colors(index: int, color: Color) -> None:
    assert voc_color(index) == color


def test_trainval_is_read_where_train_is_missing(tmp_path: Path) -> None:
    voc(tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    (lists / "train.txt").unlink()
    (lists / "val.txt").unlink()
    assert {s.split for s in Dataset.load(tmp_path).samples} == {"train"}
    (lists / "trainval.txt").unlink()
    found = Dataset.load(tmp_path).index
    assert next((s.name, s.split) for s in found.samples) == ("2007_000032", None)
    assert found.images_without_mask == (tmp_path / "JPEGImages/2009_000001.png",)


def test_missing_listed_files_are_reported(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "SegmentationClass/2007_000032.png").unlink()
    (tmp_path / "JPEGImages/2008_000051.png").unlink()
    found = Dataset.load(tmp_path).index
    assert found.images_without_mask == (tmp_path / "JPEGImages/2007_000032.png",)
    assert found.masks_without_image == (tmp_path / "SegmentationClass/2008_000051.png",)
    (tmp_path / "SegmentationClass/2008_000051.png").unlink()
    (fault,) = [fault for fault in Dataset.load(tmp_path).index.faults if fault.code == "missing_listed"]
    assert fault.files == (tmp_path / "ImageSets/Segmentation/train.txt: 2008_000051",)


def test_a_test_list_without_masks_is_dropped(tmp_path: Path) -> None:
    voc(tmp_path)
    text(tmp_path / "ImageSets/Segmentation/test.txt", "2009_000001\n")
    found = Dataset.load(tmp_path).index
    assert (len(found.samples), found.images_without_mask) == (3, ())


def test_files_of_labelme_are_read(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1, 255), ("JPEGImages/a.jpg", "SegmentationClassPNG/a.png"))
    text(tmp_path / "SegmentationClass/a.npy", "")
    text(tmp_path / "class_names.txt", "_background_\ncat")
    assert can_read(tmp_path)
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert (classes.names, classes.ignore) == (("_background_", "cat"), (255,))
    (tmp_path / "class_names.txt").unlink()
    text(tmp_path / "labels.txt", "__ignore__\n_background_\ncat\n")
    assert find_pairs(tmp_path).description == DatasetDescription(names=("_background_", "cat"))


def test_the_export_of_cvat_is_read(tmp_path: Path) -> None:
    """Masks in colors, a list called default."""
    write_png(tmp_path / "JPEGImages/a.png", image())
    write_png(tmp_path / "SegmentationClass/a.png", image() // 255 * 255)
    text(tmp_path / "ImageSets/Segmentation/default.txt", "a\n")
    path = tmp_path / "labelmap.txt"
    text(path, "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:255,0,0::\n")
    dataset = Dataset.load(tmp_path)
    assert (dataset.classes.names, dataset.classes.colors[1]) == (("background", "road"), (255, 0, 0))
    for line in ("road", "road:1,x,2::"):
        text(path, line)
        with pytest.raises(DataError, match=r"labelmap.txt, line \d: .* does not have the form road:128"):
            find_pairs(tmp_path)


def test_other_sets_get_no_names(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("JPEGImages/2023_000001.png", "SegmentationClass/2023_000001.png"))
    assert find_pairs(tmp_path).description == DatasetDescription()


def test_the_augmented_set_may_be_without_the_masks_of_voc(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "SegmentationClass").rename(tmp_path / "SegmentationClassAug")
    assert can_read(tmp_path)
    assert len(Dataset.load(tmp_path).samples) == 3
