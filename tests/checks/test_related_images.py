from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pixelwise import check
from pixelwise.checks import related_images as duplicates
from pixelwise.checks.findings import Finding
from pixelwise.data.io.images import write_png
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import SampleStats
from support.faults import copy, mask, noise, put, write_clean

MIN_CORRELATION = 0.9995


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_clean(tmp_path)


def test_several_copies_are_one_group(clean: Path) -> None:
    for target in ("train/8", "train/9", "val/9"):
        copy("train/1", target)(clean)
    (finding,) = check(clean).findings
    assert finding.code == "duplicates_across_splits"
    assert len(finding.files) == 4
    assert finding.message.endswith(": images/train/1.png = images/train/8.png = images/train/9.png = 1 more.")


def test_several_groups_are_counted(clean: Path) -> None:
    for number in range(4):
        copy(f"train/{number}", f"train/1{number}")(clean)
    (finding,) = check(clean).findings
    assert finding.message.startswith("4 images several times in one split: images/train/0.png = images/train/10.png, ")
    assert finding.message.endswith(" and 1 more.")


@pytest.mark.parametrize("num_rows", [1, 2, 1024])
def test_chains_of_near_duplicates_are_one_group(clean: Path, num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every number of rows that are compared at once."""
    monkeypatch.setattr(duplicates, "_CHUNK_ROWS", num_rows)
    large = noise(1, (192, 256)) // 2
    for number in range(3):
        put(f"images/train/2{number}.png", large + np.uint8(20 * number))(clean)
        put(f"masks/train/2{number}.png", np.resize(mask(0, 1, 2), (192, 256)))(clean)
    (finding,) = check(clean).findings
    assert finding.code == "near_duplicates"
    assert finding.message.startswith("1 group of nearly identical images in one split")
    assert finding.files == tuple(f"images/train/2{number}.png" for number in range(3))


@pytest.mark.parametrize("num_rows", [1, 7, 1024])
def test_sorting_by_a_projection_misses_no_pair(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with all correlations, for vectors near the threshold."""
    monkeypatch.setattr(duplicates, "_CHUNK_ROWS", num_rows)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 64)).repeat(4, axis=0)
    vectors = centers + rng.normal(scale=0.022, size=centers.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    sample = Sample(name="a", image_path=Path("a"), mask_path=Path("a"), split=None)
    stats = [SampleStats(sample=sample, channels=n, thumbnail=v) for n, v in enumerate(vectors)]
    found = sorted((a.channels, b.channels) for a, b in duplicates.find_similar_pairs(stats, MIN_CORRELATION))
    wide = vectors.astype(np.float32)
    expected = np.argwhere(np.triu(wide @ wide.T, 1) >= MIN_CORRELATION).tolist()
    assert 0 < len(expected) < 120
    assert found == [tuple(pair) for pair in expected]


def findings(root: Path, names: Mapping[str, list[str]], group_by: str | None = None) -> list[Finding]:
    """What is said of a clean set of such names."""
    seed = 0
    for split, stems in names.items():
        for stem in stems:
            write_png(root / f"images/{split}/{stem}.png", noise(seed))
            write_png(root / f"masks/{split}/{stem}.png", np.roll(mask(0, 1), 5 * seed, 1))
            seed += 1
    (root / "dataset.yaml").write_text("names: [a, b]\n")
    return list(check(root, group_by=group_by).findings)


def neighbors(root: Path, names: Mapping[str, list[str]]) -> list[str]:
    return [Path(file).stem for finding in findings(root, names) for file in finding.files]


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (["a_10", "a_40", "a_70"], ["a_100", "a_130"], ["a_70", "a_100"]),  # frames, every thirtieth
        (["a_10", "a_40", "a_70"], ["a_106", "a_108", "a_110"], ["a_70", "a_106"]),  # nearly one step on
        (["a_10", "a_40", "a_70"], ["a_300", "a_330"], []),  # another part of the clip
        (["a_1", "a_2"], ["b_3", "b_4"], []),  # another clip
        (["1", "2", "3"], ["1", "2"], []),  # each split counts for itself
        (["1", "2", "3"], ["4"], ["3", "4"]),
        (["a_1", "a_3"], ["a_2", "a_9"], ["a_1", "a_2", "a_3"]),
        (["a1x", "a2x"], ["a3x"], ["a2x", "a3x"]),
        (["a1x", "a2x"], ["a3y"], []),
        (["a_3", "a_40", "a_41", "a_90"], ["a_42", "a_99"], ["a_41", "a_42"]),  # photos: no step
        (["north", "south"], ["east"], []),
    ],
)
def test_sequences_by_their_names(train: list[str], val: list[str], expected: list[str], tmp_path: Path) -> None:
    assert sorted(neighbors(tmp_path, {"train": train, "val": val})) == sorted(expected)


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (["m_r3_c7", "m_r3_c8"], ["m_r4_c7", "m_r9_c9"], ["m_r3_c7", "m_r4_c7"]),
        (["m_r3_c7"], ["m_r3_c8", "m_r9_c9"], ["m_r3_c7", "m_r3_c8"]),
        (["x0y0", "x512y0"], ["x512y512", "x2048y2048"], ["x512y0", "x512y512"]),
        (["m_row1_col1"], ["m_row2_col2"], []),  # corner to corner
        (["m_r3_c7"], ["n_r3_c8"], []),  # another raster
        (["m_r3_c7", "m_r3_c8"], ["m_r3_c7", "m_r4_c8"], []),  # each split has a raster of its own
    ],
)
def test_tiles_by_their_names(train: list[str], val: list[str], expected: list[str], tmp_path: Path) -> None:
    assert sorted(neighbors(tmp_path, {"train": train, "val": val})) == sorted(expected)


def test_with_a_pattern_names_are_not_guessed_at(tmp_path: Path) -> None:
    names = {"train": ["p1_1", "p1_2", "p2_1"], "val": ["p1_3", "p3_1"]}
    (finding,) = findings(tmp_path, names, r"(p\d)_")
    assert finding.code == "group_in_two_splits"
    assert "'p1' in train and val" in finding.message
    assert [Path(file).stem for file in finding.files] == ["p1_1", "p1_2", "p1_3"]


def test_without_splits_nothing_is_in_two(tmp_path: Path) -> None:
    for folder, make in (("images", noise), ("masks", lambda number: np.roll(mask(0, 1), 5 * number, 1))):
        for number in range(6):
            write_png(tmp_path / folder / f"a_{number}.png", make(number))
    (tmp_path / "dataset.yaml").write_text("names: [a, b]\n")
    assert [f.code for f in check(tmp_path).findings] == ["split_made"]
    assert [f.code for f in check(tmp_path, group_by=r"\d").findings] == ["split_made"]
