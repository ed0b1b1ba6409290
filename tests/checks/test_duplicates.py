from pathlib import Path

import numpy as np
import pytest

from pixelwise import check
from pixelwise.checks import duplicates
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import SampleStats
from support.faults import copy, mask, noise, put, write_clean


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
    sample = Sample(name="a", image_path=Path("a"), label_path=Path("a"), split=None)
    stats = [SampleStats(sample=sample, channels=n, thumbnail=v) for n, v in enumerate(vectors)]
    found = sorted((a.channels, b.channels) for a, b in duplicates.find_similar_pairs(stats))
    wide = vectors.astype(np.float32)
    expected = np.argwhere(np.triu(wide @ wide.T, 1) >= duplicates.MIN_CORRELATION).tolist()
    assert 0 < len(expected) < 120
    assert found == [tuple(pair) for pair in expected]
