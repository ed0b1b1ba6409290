import re
from pathlib import Path

import numpy as np
import pytest

from pixelwise import check
from pixelwise.data.colors import PALETTE
from pixelwise.data.dataset import Dataset
from support.faults import BLUE, GREEN, RED, all_masks, make_color_masks, mask, put, write_clean


@pytest.fixture
def colored(tmp_path: Path) -> Path:
    all_masks(make_color_masks(RED, GREEN, BLUE), description=None)(write_clean(tmp_path))
    return tmp_path


def get_snippet(fix: str) -> str:
    return fix.split(":\n", 1)[1]


def test_the_fix_can_be_pasted(colored: Path) -> None:
    (finding,) = check(colored).findings
    (colored / "dataset.yaml").write_text(get_snippet(finding.fix))
    report = check(colored)
    assert report.findings == ()
    assert report.classes == ("class_0", "class_1", "class_2")
    labels = Dataset.load(colored).read_labels(Dataset.load(colored).samples[0])
    np.testing.assert_array_equal(labels, mask(2, 1, 0))  # in the order of the packed colors


def test_black_is_named_background_and_dark_colors_are_replaced(tmp_path: Path) -> None:
    black, navy = (0, 0, 0), (0, 0, 100)
    all_masks(make_color_masks(black, navy, GREEN), description=None)(write_clean(tmp_path))
    (finding,) = check(tmp_path).findings
    snippet = get_snippet(finding.fix)
    (tmp_path / "dataset.yaml").write_text(snippet)
    dataset = Dataset.load(tmp_path)
    assert check(tmp_path).findings == ()
    assert dataset.classes.names == ("background", "class_1", "class_2")
    assert dataset.classes.background == 0
    assert dataset.classes.colors == (black, PALETTE[0], GREEN)
    np.testing.assert_array_equal(dataset.read_labels(dataset.samples[0]), mask(0, 1, 2))


def test_the_most_frequent_of_many_colors_are_listed(colored: Path) -> None:
    """JPEG creates a few pixels of many other colors."""
    ramp = np.array([*([RED] * 600), *((i, i, 100) for i in range(168))], np.uint8).reshape(24, 32, 3)
    put("masks/train/1.png", ramp)(colored)
    (finding,) = check(colored).findings
    assert "9 masks in 171 colors" in finding.message
    assert finding.fix.startswith(
        "This many colors are the result of JPEG compression or interpolation: save the original masks"
    )
    assert "with the 3 most frequent colors" in finding.fix
    assert get_snippet(finding.fix).startswith("names: [class_0, class_1, class_2]\n")


def test_a_gray_mask_among_color_masks_does_not_hide_them(colored: Path) -> None:
    put("masks/train/1.png", mask(0, 1, 2))(colored)
    codes = [f.code for f in check(colored).findings]
    assert codes == ["color_masks", "ids_compacted"]


def test_color_masks_with_named_classes_need_colors(colored: Path) -> None:
    (colored / "dataset.yaml").write_text("names: [a, b, c]\n")
    (unreadable,) = check(colored).findings
    assert unreadable.code == "unreadable_mask"
    assert re.search(r"The mask is an RGB image, but the classes are not defined by color\.", unreadable.message)
    assert len(unreadable.files) == 9
