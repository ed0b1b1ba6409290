import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.config import Config
from pixelwise.data.io.images import write_png
from pixelwise.planning import fingerprint as home
from pixelwise.planning.fingerprint import (
    count_border_pixels,
    count_halves,
    count_label_maps,
    do_halves_differ,
    measure_components,
)
from pixelwise.planning.prepare_data import prepare_data


def test_statistics_of_the_training_images_only(streets):
    prepared = prepare_data(streets, Config())
    seen = prepared.fingerprint
    assert (seen.num_train, seen.num_val) == (12, 4)
    assert seen.median_size == seen.smallest_size == seen.largest_size == seen.largest_val_size == (64, 96)
    assert (seen.channels, seen.dtype) == (3, "uint8")
    assert seen.is_upright

    pairs = [prepared.dataset.read(s) for s in prepared.splits["train"]]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in pairs]).astype(float)
    assert seen.mean == pytest.approx(pixels.mean(0), abs=1e-3)
    assert seen.std == pytest.approx(pixels.std(0), abs=1e-3)
    counts = np.bincount(np.concatenate([labels.ravel() for _, labels in pairs]), minlength=8)
    assert seen.class_pixels == tuple(counts)
    assert seen.class_shares == pytest.approx(counts / counts.sum())
    assert seen.pair_bytes == sum(image.nbytes + labels.nbytes for image, labels in pairs)
    assert seen.bytes_per_pixel == 4


def test_cells_have_no_up(cells):
    assert not prepare_data(cells, Config()).fingerprint.is_upright


def test_sizes_that_differ_and_a_larger_validation_image(tmp_path):
    sizes = {"train": [(40, 50), (60, 80), (64, 64)], "val": [(90, 100), (32, 32)]}
    for split, shapes in sizes.items():
        for number, shape in enumerate(shapes):
            labels = np.zeros(shape, np.uint8)
            labels[5:15, 5:25] = 1
            image = np.random.default_rng(number).integers(0, 65536, shape).astype(np.uint16)
            write_png(tmp_path / "images" / split / f"{number}.png", image)
            write_png(tmp_path / "labels" / split / f"{number}.png", labels)
    seen = prepare_data(tmp_path, Config()).fingerprint
    assert (seen.smallest_size, seen.median_size, seen.largest_size) == ((40, 50), (60, 64), (60, 80))
    assert seen.largest_val_size == (90, 100)
    assert seen.bytes_per_pixel == 3
    background, square = seen.components
    assert (square.count, square.areas, square.side, square.thickness) == (3, (200, 200, 200), 20, 9.0)
    assert background.count == 3
    assert background.side == 64  # half of its pixels lie in regions up to this
    pixels = sum(height * width for height, width in sizes["train"])
    # Above 20 columns, left of 10 rows, and below and right of the square as many, one corner shared.
    assert seen.border_share == pytest.approx(3 * (20 + 10 + 20 + 10 - 1) / pixels)


def test_only_so_many_label_maps_are_read_again(streets, monkeypatch):
    prepared = prepare_data(streets, Config())
    read = []
    original = type(prepared.dataset).read_labels
    monkeypatch.setattr(
        type(prepared.dataset), "read_labels", lambda self, sample: read.append(sample) or original(self, sample)
    )
    home._analyze_labels(prepared.dataset, prepared.splits["train"], 5)
    assert len(read) == 4  # every third of twelve
    assert set(read) <= set(prepared.splits["train"])


@pytest.mark.parametrize(("size", "count"), [((64, 96), 40), ((1024, 2048), 8), ((8000, 8000), 4)])
def test_of_large_label_maps_fewer_are_read(size, count):
    assert count_label_maps(size[0] * size[1]) == count


def test_regions_by_hand():
    mask = np.zeros((20, 30), bool)
    mask[2, 3:20] = True  # a line of one pixel
    mask[6:9, 3:7] = True  # 3 x 4
    mask[12:14, 3:5] = mask[14:16, 5:7] = True  # two squares that touch at a corner
    mask[19, 29] = True  # a slip of the pen
    areas, sides, thickness = measure_components(mask).T
    assert areas.tolist() == [17, 12, 8]
    assert sides.tolist() == [17, 4, 4]
    assert thickness.tolist() == [1, 3, 1]


def test_a_region_that_fills_the_image_is_as_thick_as_it_is_long():
    assert measure_components(np.ones((8, 12), bool)).tolist() == [[96, 12, 12]]


def test_no_region():
    assert measure_components(np.zeros((8, 12), bool)).shape == (0, 3)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 8))
def test_a_bar_is_found_whatever_its_size(height, width, border):
    mask = np.pad(np.ones((height, width), bool), border)
    found = measure_components(mask)
    if height * width < 4:
        assert len(found) == 0
    else:
        thickness = min(height, width) - (min(height, width) + 1) % 2
        assert found.tolist() == [[height * width, max(height, width), thickness]]


def test_borders_are_between_classes_and_not_around_ignored_pixels():
    labels = np.array([[0, 0, 1], [0, 255, 1], [0, 0, 1]])
    assert count_border_pixels(labels, 2) == (2, 8)
    assert count_border_pixels(np.full((3, 3), 255), 2) == (0, 0)


@pytest.mark.parametrize(("lower", "upright"), [([60, 40], True), ([80, 20], False), ([0, 0], True)])
def test_halves_differ_by_a_quarter_of_their_pixels(lower, upright):
    assert do_halves_differ(np.array([[100, 0], lower])) == upright


def test_pixels_of_the_halves():
    labels = np.array([[0, 0], [0, 255], [1, 1], [1, 0], [1, 1]])
    assert count_halves(labels, 2).tolist() == [[3, 0], [1, 5]]
