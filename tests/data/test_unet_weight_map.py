"""Border weights against their formula, with distances measured cell by cell and pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pixelwise.data.io.images import Array
from pixelwise.data.unet_weight_map import border_weights
from pixelwise.errors import InvalidArgumentError

VOID = 255


def weights_of(labels: Array, **settings: float) -> Array:
    return border_weights(labels, ignore_index=VOID, **settings)  # type: ignore[arg-type]


def two_squares(gap: int, side: int = 5) -> Array:
    labels = np.zeros((side + 4, 2 * side + gap + 4), np.uint8)
    labels[2:-2, 2 : 2 + side] = labels[2:-2, 2 + side + gap : -2] = 1
    return labels


def by_definition(labels: Array, background: int, w0: float, sigma: float) -> Array:
    """Compute the weights from the distance of each pixel to each cell."""
    cells, count = ndimage.label((labels != background) & (labels != VOID))
    weights = np.ones(labels.shape)
    if count < 2:
        return weights
    places = [np.argwhere(cells == number) for number in range(1, count + 1)]
    for place in np.argwhere(labels == background):
        distances = sorted(np.hypot(*(place - pixels).T).min() for pixels in places)
        weights[tuple(place)] += w0 * math.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


# Cases worked by hand.


def test_the_center_of_a_gap_of_one_pixel() -> None:
    weights = weights_of(two_squares(gap=1))
    assert weights.dtype == np.float32
    assert weights[4, 7] == pytest.approx(1 + 10 * math.exp(-4 / 50), rel=1e-6)  # d1 = d2 = 1


@pytest.mark.parametrize("gap", [1, 2, 3, 10])
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 2.0)])
def test_the_sum_of_distances_is_constant_across_a_straight_gap(gap: int, w0: float, sigma: float) -> None:
    row = weights_of(two_squares(gap), w0=w0, sigma=sigma)[4, 7 : 7 + gap]
    np.testing.assert_allclose(row, 1 + w0 * math.exp(-((gap + 1) ** 2) / (2 * sigma**2)), rtol=1e-6)


def test_distances_are_added_before_they_are_squared() -> None:
    """Left of both squares: d1 = 2 and d2 = 8."""
    assert weights_of(two_squares(gap=1))[4, 0] == pytest.approx(1 + 10 * math.exp(-(10**2) / 50), rel=1e-6)


def test_distances_are_euclidean() -> None:
    labels = np.zeros((5, 9), np.uint8)
    labels[0, 0] = labels[4, 8] = 1
    assert weights_of(labels)[3, 4] == pytest.approx(1 + 10 * math.exp(-((5 + math.hypot(1, 4)) ** 2) / 50), rel=1e-6)


def test_cells_themselves_have_weight_1() -> None:
    labels = two_squares(gap=1)
    assert (weights_of(labels)[labels == 1] == 1).all()


@pytest.mark.parametrize(
    "labels",
    [np.zeros((4, 6)), np.ones((4, 6)), np.full((4, 6), VOID), np.eye(1, 6), two_squares(gap=0), np.zeros((1, 1))],
    ids=["background", "all one cell", "void", "one pixel", "squares that touch", "one background pixel"],
)
def test_fewer_than_two_cells_have_no_border(labels: Array) -> None:
    np.testing.assert_array_equal(weights_of(labels.astype(np.uint8)), np.ones(labels.shape, np.float32))


def test_cells_that_touch_at_a_corner_are_separate() -> None:
    weights = weights_of(np.eye(2, dtype=np.uint8))
    assert weights[0, 1] == weights[1, 0] == pytest.approx(1 + 10 * math.exp(-4 / 50), rel=1e-6)


def test_ignored_pixels_are_not_cells_and_have_weight_1() -> None:
    labels = two_squares(gap=3)
    expected = weights_of(labels)
    labels[:, 8] = VOID  # the middle of the gap
    expected[:, 8] = 1
    np.testing.assert_array_equal(weights_of(labels), expected)
    one = np.array([[1, VOID, 1, 0]], np.uint8)  # and part the cells that they lie between
    assert weights_of(one)[0, 3] == pytest.approx(1 + 10 * math.exp(-16 / 50), rel=1e-6)


def test_neighbors_of_several_classes_are_one_cell() -> None:
    labels = np.array([[0, 1, 2, 0, 0, 3]], np.uint8)
    np.testing.assert_array_equal(weights_of(labels), weights_of((labels > 0).astype(np.uint8)))


def test_any_class_can_be_the_background() -> None:
    labels = two_squares(gap=1)
    swapped = border_weights(7 - labels, ignore_index=VOID, background=7)
    np.testing.assert_array_equal(swapped, weights_of(labels))


# Laws.


@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    cells=st.sampled_from([0.02, 0.1, 0.3, 0.6]),
    w0=st.floats(0, 20),
    sigma=st.floats(0.5, 20),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int64]),
)
def test_equals_the_definition(
    seed: int, size: tuple[int, int], cells: float, w0: float, sigma: float, dtype: type
) -> None:
    rng = np.random.default_rng(seed)
    labels: Array = rng.choice([1, 2, VOID, 4], p=[cells * 0.8, cells * 0.1, cells * 0.1, 1 - cells], size=size).astype(
        dtype
    )
    weights = border_weights(labels, ignore_index=VOID, background=4, w0=w0, sigma=sigma)
    assert weights.shape == size
    np.testing.assert_allclose(weights, by_definition(labels, 4, w0, sigma), rtol=1e-5)


@pytest.mark.parametrize("num_cells", [2, 3, 4, 5, 8, 9, 33])
def test_any_number_of_cells(num_cells: int) -> None:
    """In the middle of the gaps of single pixels, 4 apart, both neighbors have a distance of 2."""
    labels = np.zeros((1, 4 * num_cells - 3), np.uint8)
    labels[0, ::4] = 1
    np.testing.assert_allclose(weights_of(labels)[0, 2::4], 1 + 10 * math.exp(-16 / 50), rtol=1e-6)


def test_the_labels_are_not_changed() -> None:
    labels = two_squares(gap=1)
    labels.flags.writeable = False
    weights_of(labels)


# Guards.


def test_labels_must_be_two_dimensional() -> None:
    with pytest.raises(InvalidArgumentError, match=r"labels has shape \(2, 3, 4\)\. Expected \(H, W\)"):
        weights_of(np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_sigma_must_be_positive(sigma: float) -> None:
    with pytest.raises(InvalidArgumentError, match="Expected a positive number of pixels"):
        weights_of(two_squares(gap=1), sigma=sigma)
