"""Masks that contradict the others are found; nothing is said of valid ones (see also test_planted.py)."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelwise import check
from pixelwise.checks.contradicting_masks import MIN_MASKS
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.synthetic import write_dataset
from support.faults import noise

MASK = "labels/val/0001.png"


def edit(root: Path, change: Callable[[Array], Array], file: str = MASK) -> None:
    path = root / file
    write_png(path, np.ascontiguousarray(change(np.asarray(Image.open(path)))))


def find(root: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.code, f.severity, f.files) for f in check(root).findings]


@pytest.fixture(params=["cells", "streets"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_dataset(tmp_path, request.param, num_train=8, num_val=3, num_test=0, size=(128, 192))
    return tmp_path


@pytest.fixture
def cells_copy(cells: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cells, tmp_path / "copy"))


def test_an_inverted_mask(cells_copy: Path) -> None:
    edit(cells_copy, lambda mask: 1 - mask)
    (finding,) = check(cells_copy).findings
    assert (finding.code, finding.severity, finding.files) == ("inverted_mask", "warning", (MASK,))
    assert "1 mask in which 'membrane' and 'cell' seem to be exchanged" in finding.message


def test_several_inverted_masks_are_all_named(cells_copy: Path) -> None:
    files = (MASK, "labels/train/0003.png")
    for file in files:
        edit(cells_copy, lambda mask: 1 - mask, file)
    assert find(cells_copy) == [("inverted_mask", "warning", tuple(sorted(files)))]


def test_two_exchanged_classes_of_many(streets: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(streets, tmp_path / "copy"))
    table = np.arange(256, dtype=np.uint8)
    table[[0, 1]] = 1, 0
    edit(root, lambda mask: table[mask])
    (finding,) = check(root).findings
    assert (finding.code, finding.files) == ("exchanged_classes", (MASK,))
    assert "seem to be exchanged, compared with the other masks" in finding.message


@pytest.mark.parametrize(("rows", "columns", "words"), [(7, 0, "7 pixels down"), (-6, 9, "6 pixels up and 9 right")])
def test_a_shifted_mask(root: Path, rows: int, columns: int, words: str) -> None:
    edit(root, lambda mask: np.roll(mask, (rows, columns), (0, 1)))
    (finding,) = check(root).findings
    assert (finding.code, finding.severity, finding.files) == ("shifted_mask", "warning", (MASK,))
    assert f"{MASK} by {words}" in finding.message


def test_a_shift_within_the_accuracy_of_annotations_is_not_reported(root: Path) -> None:
    edit(root, lambda mask: np.roll(mask, (1, -1), (0, 1)))
    assert find(root) == []


def test_nothing_is_said_where_images_have_nothing_to_do_with_masks(cells_copy: Path) -> None:
    for number, path in enumerate(sorted(cells_copy.glob("images/*/*.png"))):
        write_png(path, noise(number, (64, 64), 1)[..., 0])
    edit(cells_copy, lambda mask: np.roll(mask, 9, 0))
    assert find(cells_copy) == []


def test_few_masks_do_not_show_what_is_usual(cells_copy: Path) -> None:
    edit(cells_copy, lambda mask: 1 - mask)
    images = sorted(cells_copy.glob("images/*/*.png"))
    for path in images[: len(images) - MIN_MASKS + 1]:
        path.unlink()
        Path(str(path).replace("images", "labels")).unlink()
    assert not {"inverted_mask", "shifted_mask"} & {code for code, _, _ in find(cells_copy)}
