from pathlib import Path

import pytest

from pixelwise.data.formats import detect_format
from pixelwise.data.formats.ade20k import find_pairs
from pixelwise.data.io.images import write_png
from pixelwise.errors import DataError
from support.mask_datasets import ade20k, image, pairs, text


def test_numbers_are_the_names_without_the_table(tmp_path: Path) -> None:
    ade20k(tmp_path)
    (tmp_path / "objectInfo150.txt").unlink()
    assert detect_format(tmp_path) == "ade20k"
    assert find_pairs(tmp_path).description.names[::149] == ("1", "150")


def test_a_table_without_the_class_names_is_an_error(tmp_path: Path) -> None:
    ade20k(tmp_path)
    text(tmp_path / "objectInfo150.txt", "Idx\tName\n1\twall\n2\twall\n")
    with pytest.raises(DataError, match=r"objectInfo150.txt has 1 different class names. Expected .* remove it"):
        find_pairs(tmp_path)


def test_the_folder_format_may_have_the_same_folders(tmp_path: Path) -> None:
    names = ((f"images/{split}/a.png", f"annotations/{split}/a.png") for split in ("training", "validation"))
    pairs(tmp_path, (0, 1), *names)
    assert detect_format(tmp_path) == "folder"


def test_unlabeled_test_images_are_accepted(tmp_path: Path) -> None:
    ade20k(tmp_path)
    write_png(tmp_path / "images/testing/ADE_test_00000001.png", image())
    write_png(tmp_path / "images/more/ADE_train_00000001.png", image())
    (tmp_path / "annotations/validation/ADE_val_00000001.png").unlink()
    found = find_pairs(tmp_path)
    assert found.outside_splits == (tmp_path / "images/more/ADE_train_00000001.png",)
    assert found.images_without_mask == (tmp_path / "images/validation/ADE_val_00000001.png",)
