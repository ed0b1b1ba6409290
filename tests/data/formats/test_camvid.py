from pathlib import Path

import pytest

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.camvid import can_read, find_pairs
from pixelwise.errors import DataError
from support.mask_datasets import camvid, pairs, text


@pytest.mark.parametrize(
    "line",
    [
        "train/a b.png trainannot/a b.png",
        "/SegNet/CamVid/train/a b.png\t/SegNet/CamVid/trainannot/a b.png",
        "C:\\data\\train\\a b.png, C:\\data\\trainannot\\a b.png",
        "./train/a b.png;./trainannot/a b.png",
    ],
)
def test_the_longest_end_of_a_path_that_exists_is_used(tmp_path: Path, line: str) -> None:
    pairs(tmp_path, (0, 1), ("train/a b.png", "trainannot/a b.png"), ("a b.png", "b.png"))
    text(tmp_path / "train.txt", f"\n{line}\n{line}\n")
    assert can_read(tmp_path)
    (sample,) = find_pairs(tmp_path).samples
    assert (sample.name, sample.split) == ("train/a b", "train")
    assert sample.image_path == tmp_path / "train/a b.png"
    assert sample.mask_path == tmp_path / "trainannot/a b.png"


def test_a_list_may_have_its_pairs_in_one_line(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("a.png", "a_gt.png"), ("b.png", "b_gt.png"))
    text(tmp_path / "valid.txt", "/x/a.png /x/a_gt.png /x/b.png /x/b_gt.png ")
    assert [s.name for s in find_pairs(tmp_path).samples] == ["val/a", "val/b"]


def test_a_path_does_not_leave_the_folder(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("a.png", "b.png"))
    text(tmp_path / "data/train.txt", "../a.png ../b.png\n")
    found = find_pairs(tmp_path / "data")
    assert (found.samples, [fault.code for fault in found.faults]) == ((), ["missing_listed"])


def test_names_are_of_camvid_if_all_images_are(tmp_path: Path) -> None:
    camvid(tmp_path)
    assert find_pairs(tmp_path).description.names[10] == "Bicyclist"
    pairs(tmp_path, (0, 1), ("mine.png", "mine_gt.png"))
    text(tmp_path / "test.txt", "mine.png mine_gt.png\n")
    assert find_pairs(tmp_path).description == DatasetDescription()


def test_missing_listed_files_are_reported(tmp_path: Path) -> None:
    camvid(tmp_path)
    (tmp_path / "train/0001TP_1.png").unlink()
    (tmp_path / "trainannot/0016E5_2.png").unlink()
    found = find_pairs(tmp_path)
    assert found.masks_without_image == (tmp_path / "trainannot/0001TP_1.png",)
    assert found.images_without_mask == (tmp_path / "train/0016E5_2.png",)
    (tmp_path / "train/0016E5_2.png").unlink()
    (fault,) = find_pairs(tmp_path).faults
    line = "/SegNet/CamVid/train/0016E5_2.png /SegNet/CamVid/trainannot/0016E5_2.png"
    assert (fault.code, fault.files) == ("missing_listed", (tmp_path / f"train.txt: {line}".replace("//", "/"),))


def test_two_masks_of_an_image_are_in_no_pair(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("a.png", "b.png"), ("a.png", "c.png"))
    text(tmp_path / "train.txt", "a.png b.png\na.png c.png\n")
    assert find_pairs(tmp_path).same_stem == (tmp_path / "b.png", tmp_path / "c.png")


def test_a_line_of_something_else_is_an_error(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("a.png", "b.png"))
    text(tmp_path / "train.txt", "a.png b.png\na.png 1\n")
    with pytest.raises(DataError, match=r"train.txt, line 2 is 'a.png 1'. Write the path of an image"):
        find_pairs(tmp_path)


def test_a_list_of_another_form_next_to_valid_ones_is_an_error(tmp_path: Path) -> None:
    camvid(tmp_path)
    text(tmp_path / "val.txt", "val/0001TP_3.png\n")
    with pytest.raises(DataError, match=r"val.txt, line 1 is"):
        find_pairs(tmp_path)
    text(tmp_path / "val.txt", "")
    assert {s.split for s in find_pairs(tmp_path).samples} == {"train", "test"}


def test_lists_without_masks_are_not_recognized(tmp_path: Path) -> None:
    text(tmp_path / "train.txt", "images/a.png\nimages/b.png\n")
    text(tmp_path / "val.txt", "")
    assert not can_read(tmp_path)


def test_a_test_list_may_be_without_masks(tmp_path: Path) -> None:
    """As PaddleSeg writes it."""
    for split in ("train", "val", "test"):
        pairs(tmp_path, (0, 1), (f"pictures/{split}.png", f"truth/{split}.png"))
        text(tmp_path / f"{split}.txt", f"pictures/{split}.png{f' truth/{split}.png' * (split != 'test')}\n")
    found = find_pairs(tmp_path)
    assert ([s.split for s in found.samples], found.images_without_mask, found.faults) == (["train", "val"], (), ())
    text(tmp_path / "test.txt", "pictures/gone.png\n")
    assert find_pairs(tmp_path).faults[0].files == (tmp_path / "test.txt: pictures/gone.png",)


def test_images_in_no_list_are_named(tmp_path: Path) -> None:
    camvid(tmp_path)
    assert find_pairs(tmp_path).faults == ()
    pairs(tmp_path, (0, 1), ("train/0001TP_9.png", "trainannot/0001TP_9.png"))
    (fault,) = find_pairs(tmp_path).faults
    assert (fault.code, fault.files) == ("not_listed", (tmp_path / "train/0001TP_9.png",))
    assert "none of the lists train.txt, val.txt, test.txt" in fault.problem
