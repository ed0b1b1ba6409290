"""Test counts and formulas against loops over pixels, by laws of merging, by hand and on CamVid."""

import functools
import itertools
import json
import math
import operator
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.metrics import (
    BoundaryScore,
    ConfusionMatrix,
    MarginHistogram,
    boundary_f1,
    class_accuracy,
    compute_scores,
    dice,
    global_accuracy,
    iou,
    mean_class_accuracy,
    mean_dice,
    mean_iou,
)

VOID = 255
Map = npt.NDArray[np.uint8]


def random_pair(seed: int, shape: tuple[int, ...], num_classes: int, void: float = 0.2) -> tuple[Map, Map]:
    """Return a prediction and labels of random classes; a share of the labels is ignored."""
    rng = np.random.default_rng(seed)
    prediction = rng.integers(0, num_classes, shape, dtype=np.uint8)
    labels = rng.integers(0, num_classes, shape, dtype=np.uint8)
    labels[rng.random(shape) < void] = VOID
    return prediction, labels


def random_regions(seed: int, shape: tuple[int, int], num_classes: int, void: float = 0.1) -> tuple[Map, Map]:
    """Return a prediction and labels of touching rectangles, so that some pixels are boundaries."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for i in range(4):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in shape)
        labels[top:bottom, left:right] = (i + 1) % num_classes
    prediction = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
    labels[rng.random(shape) < void] = VOID
    return prediction, labels


def count(prediction: Map, labels: Map, num_classes: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, labels, ignore_index=VOID)
    return matrix


# One matrix worked by hand, rows truth: class 0 has 4 pixels, 3 found; class 1 has 2, 1 found; class 2 is absent from
# the truth and predicted once; class 3 is absent from both.
HAND = np.array([[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_scores_by_hand() -> None:
    nan = math.nan
    assert iou(HAND) == pytest.approx([3 / 4, 1 / 3, 0, nan], nan_ok=True)
    assert dice(HAND) == pytest.approx([6 / 7, 2 / 4, 0, nan], nan_ok=True)
    assert class_accuracy(HAND) == pytest.approx([3 / 4, 1 / 2, nan, nan], nan_ok=True)
    assert mean_iou(HAND) == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)
    assert mean_dice(HAND) == pytest.approx((6 / 7 + 2 / 4 + 0) / 3)
    assert mean_class_accuracy(HAND) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert global_accuracy(HAND) == pytest.approx(4 / 6)


def test_class_accuracy_is_recall_not_precision() -> None:
    counts = np.array([[1, 3], [0, 4]])
    assert class_accuracy(counts).tolist() == [0.25, 1.0]


def test_rows_are_truth_and_columns_prediction() -> None:
    prediction, labels = np.array([[0, 1, 1]]), np.array([[0, 0, VOID]])
    assert count(prediction, labels, 2).counts.tolist() == [[1, 1], [0, 0]]


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(0, 9),
    width=st.integers(1, 9),
    num_classes=st.sampled_from([1, 2, 11, 16, 17, 255]),
    void=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_counts_equal_loop_over_pixels(seed: int, height: int, width: int, num_classes: int, void: float) -> None:
    prediction, labels = random_pair(seed, (height, width), num_classes, void)
    expected = np.zeros((num_classes, num_classes), int)
    for p, t in zip(prediction.flat, labels.flat, strict=True):
        if t != VOID:
            expected[t, p] += 1
    matrix = count(prediction, labels, num_classes)
    assert np.array_equal(matrix.counts, expected)
    assert matrix.counts.dtype == np.int64


@given(seed=st.integers(0, 2**32), num_classes=st.integers(1, 6))
def test_formulas_equal_pixel_sets(seed: int, num_classes: int) -> None:
    prediction, labels = random_pair(seed, (5, 4), num_classes)
    counts = count(prediction, labels, num_classes).counts
    valid = labels != VOID
    for c in range(num_classes):
        truth, found = valid & (labels == c), valid & (prediction == c)
        both, either = int((truth & found).sum()), int((truth | found).sum())
        size = int(truth.sum())
        assert iou(counts)[c] == pytest.approx(both / either if either else math.nan, nan_ok=True)
        assert class_accuracy(counts)[c] == pytest.approx(both / size if size else math.nan, nan_ok=True)
        total = size + int(found.sum())
        assert dice(counts)[c] == pytest.approx(2 * both / total if total else math.nan, nan_ok=True)
    share = (prediction == labels)[valid].mean() if valid.any() else math.nan
    assert global_accuracy(counts) == pytest.approx(share, nan_ok=True)


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_batches_merge_to_same_counts(seed: int, cuts: list[int]) -> None:
    prediction, labels = random_pair(seed, (12, 3, 4), 5)
    edges = [0, *sorted(cuts), 12]
    parts = [count(prediction[a:b], labels[a:b], 5) for a, b in itertools.pairwise(edges)]
    assert functools.reduce(operator.add, parts) == count(prediction, labels, 5)
    assert functools.reduce(operator.add, reversed(parts)) == count(prediction, labels, 5)


def test_scores_of_a_dataset_are_not_means_over_images() -> None:
    """Class 1 is only in the first image, where half of it is found; the second image predicts it on one pixel."""
    first = count(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 0, 0]]), 2)
    second = count(np.array([[1, 0, 0, 0]]), np.array([[0, 0, 0, 0]]), 2)
    together = first + second
    assert iou(together.counts) == pytest.approx([5 / 7, 1 / 3])
    assert mean_iou(together.counts) != pytest.approx((mean_iou(first.counts) + mean_iou(second.counts)) / 2)


def test_global_accuracy_weights_images_by_counted_pixels() -> None:
    right = count(np.zeros((1, 4), int), np.array([[0, VOID, VOID, VOID]]), 2)
    wrong = count(np.ones((1, 4), int), np.zeros((1, 4), int), 2)
    assert global_accuracy((right + wrong).counts) == pytest.approx(1 / 5)


@given(seed=st.integers(0, 2**32))
def test_predictions_on_ignored_pixels_do_not_count(seed: int) -> None:
    prediction, labels = random_regions(seed, (12, 9), 4, void=0.2)
    other = np.where(labels == VOID, np.random.default_rng(seed).integers(0, 256, labels.shape), prediction)
    assert count(other, labels, 4) == count(prediction, labels, 4)
    first = boundary_f1(prediction, labels, 4, ignore_index=VOID)
    assert boundary_f1(other, labels, 4, ignore_index=VOID) == pytest.approx(first, nan_ok=True)


@pytest.mark.parametrize(
    ("dtype", "ignore_index"), [(np.uint8, 255), (np.uint16, 65535), (np.int32, -1), (np.int64, 255), (np.uint8, 65535)]
)
def test_any_integer_dtype(dtype: type[np.integer], ignore_index: int) -> None:
    prediction, labels = random_pair(0, (6, 6), 4, void=0.0)
    marked = labels.astype(dtype)
    if ignore_index <= np.iinfo(dtype).max:
        marked[0] = ignore_index
        labels[0] = VOID
    matrix = ConfusionMatrix(4)
    matrix.update(prediction.astype(np.int64), marked, ignore_index=ignore_index)
    assert matrix == count(prediction, labels, 4)
    assert boundary_f1(prediction.astype(np.int64), marked, 4, ignore_index=ignore_index) == boundary_f1(
        prediction, labels, 4, ignore_index=VOID
    )


def test_counts_do_not_overflow_16_bits() -> None:
    matrix = ConfusionMatrix(300)
    matrix.update(np.array([299, 0]), np.array([299, 299]), ignore_index=65535)
    assert matrix.counts[299, 299] == matrix.counts[299, 0] == 1
    assert matrix.counts.sum() == 2


def test_matrix_pickles_and_repr_evaluates() -> None:
    matrix = count(*random_pair(0, (5, 5), 3), 3)
    assert pickle.loads(pickle.dumps(matrix)) == matrix
    assert eval(repr(matrix)) == matrix
    assert ConfusionMatrix.from_counts(matrix.counts.tolist()) == matrix
    assert matrix != ConfusionMatrix(3)
    assert matrix != ConfusionMatrix(4)


def test_addition_copies_and_counts_are_read_only() -> None:
    first, second = count(*random_pair(0, (5, 5), 3), 3), count(*random_pair(1, (5, 5), 3), 3)
    before = first.counts.copy()
    total = first + second
    total.update(np.zeros(3, int), np.zeros(3, int), ignore_index=VOID)
    assert np.array_equal(first.counts, before)
    with pytest.raises(ValueError, match="read-only"):
        first.counts[0, 0] = 1


@pytest.mark.parametrize("count", [count, functools.partial(boundary_f1, ignore_index=VOID)])
def test_invalid_maps_raise(count: object) -> None:
    assert callable(count)
    zeros = np.zeros((2, 3), np.uint8)
    with pytest.raises(InvalidArgumentError, match=r"prediction \(2, 3\) and labels \(3, 2\) must have the same shape"):
        count(zeros, zeros.T, 4)
    with pytest.raises(InvalidArgumentError, match=r"prediction is \(.*\) float64, but must be integer class indices"):
        count(zeros.astype(float), zeros, 4)
    with pytest.raises(InvalidArgumentError, match=r"labels is \(.*\) bool, but must be integer class indices"):
        count(zeros, zeros.astype(bool), 4)
    with pytest.raises(DataError, match=r"Label 4 is neither a class, 0..3, nor the ignore index 255"):
        count(zeros, zeros + 4, 4)
    with pytest.raises(DataError, match="Label -1 is neither"):
        count(zeros, zeros.astype(int) - 1, 4)
    with pytest.raises(InvalidArgumentError, match=r"prediction has the class 255, but must be in 0..3"):
        count(zeros + VOID, zeros, 4)
    with pytest.raises(InvalidArgumentError, match="prediction has the class -2"):
        count(zeros.astype(int) - 2, zeros, 4)


def test_invalid_matrices_raise() -> None:
    with pytest.raises(InvalidArgumentError, match="num_classes is 0, but must be >= 1"):
        ConfusionMatrix(0)
    with pytest.raises(InvalidArgumentError, match=r"Cannot add matrices of 2 and 3 classes"):
        ConfusionMatrix(2) + ConfusionMatrix(3)
    with pytest.raises(
        InvalidArgumentError, match=r"counts is \(2, 3\) int64, but must be an array \(K, K\) of integers"
    ):
        ConfusionMatrix.from_counts(np.zeros((2, 3), int))
    with pytest.raises(
        InvalidArgumentError, match=r"counts is \(2, 2\) float64, but must be an array \(K, K\) of integers"
    ):
        ConfusionMatrix.from_counts(np.zeros((2, 2)))
    with pytest.raises(InvalidArgumentError, match=r"counts is \(2, 3\) int64, but must be an array \(K, K\)"):
        mean_class_accuracy(np.zeros((2, 3), np.int64))


# ---------------------------------------------------------------------------------------------- boundaries


def disk(center: tuple[int, int], shape: tuple[int, int] = (360, 480), radius: int = 40) -> Map:
    y, x = np.indices(shape)
    return ((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2).astype(np.uint8)


def find_boundary_by_loops(classes: Map, void: npt.NDArray[np.bool_]) -> set[tuple[int, int, int]]:
    """Return (class, y, x) of all boundary pixels, one neighbor at a time."""
    height, width = classes.shape
    found = set()
    for y, x in np.ndindex(height, width):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
        if any(void[v, u] for v, u in [(y, x), *around]):
            continue
        if any(classes[v, u] != classes[y, x] for v, u in around):
            found.add((int(classes[y, x]), y, x))
    return found


def largest_matching(candidates: list[list[int]]) -> int:
    """Return the size of a maximum matching by Kuhn's algorithm."""
    partner: dict[int, int] = {}

    def place(left: int, tried: set[int]) -> bool:
        for right in candidates[left]:
            if right not in tried:
                tried.add(right)
                if right not in partner or place(partner[right], tried):
                    partner[right] = left
                    return True
        return False

    return sum(place(left, set()) for left in range(len(candidates)))


def boundary_f1_by_loops(prediction: Map, labels: Map, num_classes: int) -> float:
    void = labels == VOID
    truth, predicted = find_boundary_by_loops(labels, void), find_boundary_by_loops(prediction, void)
    tolerance = 0.0075 * math.hypot(*labels.shape)
    of_classes = []
    for c in range(num_classes):
        left = [(y, x) for k, y, x in truth if k == c]
        right = [(y, x) for k, y, x in predicted if k == c]
        near = [[j for j, q in enumerate(right) if math.dist(p, q) <= tolerance] for p in left]
        pairs = largest_matching(near)
        if not left and not right:
            continue
        precision = pairs / len(right) if right else 0.0
        recall = pairs / len(left) if left else 0.0
        of_classes.append(2 * precision * recall / (precision + recall) if pairs else 0.0)
    return float(np.mean(of_classes)) if of_classes else math.nan


@given(
    seed=st.integers(0, 2**32),
    # Tall and narrow, so that tolerances of 0 to 3 pixels need few pixels.
    shape=st.sampled_from([(12, 9), (140, 3), (270, 4), (3, 400), (1, 1), (1, 300)]),
    num_classes=st.integers(1, 4),
    void=st.sampled_from([0.0, 0.05]),
)
def test_boundary_f1_equals_loop_over_pixels(seed: int, shape: tuple[int, int], num_classes: int, void: float) -> None:
    prediction, labels = random_regions(seed, shape, num_classes, void)
    expected = boundary_f1_by_loops(prediction, labels, num_classes)
    assert boundary_f1(prediction, labels, num_classes, ignore_index=VOID) == pytest.approx(expected, nan_ok=True)


@given(seed=st.integers(0, 2**32))
def test_truth_scores_1(seed: int) -> None:
    prediction, labels = random_regions(seed, (40, 30), 4)
    itself = np.where(labels == VOID, np.uint8(0), labels)
    perfect = boundary_f1(itself, labels, 4, ignore_index=VOID)
    assert perfect == 1 or math.isnan(perfect)
    assert not boundary_f1(prediction, labels, 4, ignore_index=VOID) > 1


def test_tolerance_is_0_75_percent_of_diagonal() -> None:
    """The tolerance is 4.5 pixels at 360×480."""
    labels = disk((180, 240))
    for moved in [(180, 244), (176, 240), (183, 243)]:
        assert boundary_f1(disk(moved), labels, 2, ignore_index=VOID) == 1
    for moved in [(180, 246), (174, 240), (185, 245)]:
        assert boundary_f1(disk(moved), labels, 2, ignore_index=VOID) < 1
    half = np.s_[90:270, 120:360]
    assert boundary_f1(disk((180, 242))[half], labels[half], 2, ignore_index=VOID) == 1
    assert boundary_f1(disk((180, 244))[half], labels[half], 2, ignore_index=VOID) < 1


def test_boundary_pixels_match_one_to_one() -> None:
    """The truth is one line, the prediction has two more lines next to it within the tolerance."""
    labels = np.zeros((360, 480), np.uint8)
    labels[180] = 1
    prediction = labels.copy()
    prediction[[178, 182]] = 1
    # Class 1: 480 of 3 × 480 paired, 2 × 480 / (3 × 480 + 480). Class 0 (rows 179, 181 against 177, 179, 181, 183):
    # 2 × 960 / (4 × 480 + 960).
    assert boundary_f1(prediction, labels, 2, ignore_index=VOID) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_matching_is_maximum() -> None:
    """In a maximum matching a pixel can be matched with another one than the pixel at its own position."""
    labels, prediction = np.zeros((2, 360, 480), np.uint8)
    labels[100, [100, 104]] = 1
    prediction[100, [104, 108]] = 1
    # Class 1: both pairs are 4 pixels apart; pairing (100, 104) with itself would leave two pixels 8 apart.
    # Class 0: each pixel of class 1 has four neighbors, moved by 4.
    assert boundary_f1(prediction, labels, 2, ignore_index=VOID) == 1


def test_absent_classes() -> None:
    labels = disk((180, 240))
    assert boundary_f1(labels, labels, 50, ignore_index=VOID) == 1
    # Class 2 is only in the prediction, and class 1 only in the truth; class 0 is right.
    assert boundary_f1(2 * labels, labels, 3, ignore_index=VOID) == pytest.approx(1 / 3)


def test_image_border_is_not_a_boundary() -> None:
    flat = np.zeros((36, 48), np.uint8)
    assert math.isnan(boundary_f1(flat, flat, 2, ignore_index=VOID))


def test_ignored_pixels_are_not_a_boundary() -> None:
    labels = np.zeros((36, 48), np.uint8)
    labels[10:20, 10:20] = VOID
    prediction = np.zeros_like(labels)
    prediction[9:21, 9:21] = 1
    prediction[12:18, 12:18] = 2
    # All of class 2 and its boundary with class 1 are on void. Class 1 is a ring of pixels next to void but for its
    # four corners; its 48 - 4 neighbors of class 0 are not next to void.
    assert find_boundary_by_loops(prediction, labels == VOID) >= {(1, 9, 9), (0, 8, 9)}
    assert boundary_f1(prediction, labels, 3, ignore_index=VOID) == 0
    assert math.isnan(boundary_f1(np.where(labels == VOID, np.uint8(2), labels), labels, 3, ignore_index=VOID))


def test_boundary_f1_takes_one_image() -> None:
    with pytest.raises(InvalidArgumentError, match=r"prediction is \(2, 3, 4\) .*, but must be one image \(H, W\)"):
        boundary_f1(np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), 2, ignore_index=VOID)


def test_blocks_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, labels = random_regions(3, (300, 400), 4)
    whole = boundary_f1(prediction, labels, 4, ignore_index=VOID)
    assert 0 < whole < 1
    monkeypatch.setattr("pixelwise.metrics._BLOCK", 200)
    assert boundary_f1(prediction, labels, 4, ignore_index=VOID) == whole


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 5))
def test_boundary_scores_average_over_images_in_any_order(seed: int, cut: int) -> None:
    pairs = [random_regions(seed + i, (20, 20), 3) for i in range(4)]
    flat = np.zeros((20, 20), np.uint8)
    pairs.insert(2, (flat, flat))
    together, first, second = BoundaryScore(3), BoundaryScore(3), BoundaryScore(3)
    for i, pair in enumerate(pairs):
        together.update(*pair, ignore_index=VOID)
        (first if i < cut else second).update(*pair, ignore_index=VOID)
    expected = [boundary_f1(*pair, 3, ignore_index=VOID) for pair in pairs]
    assert together.image_scores == pytest.approx(expected, nan_ok=True)
    assert math.isnan(expected[2])
    assert together.value == pytest.approx(np.nanmean(expected))
    assert (first + second).value == (second + first).value == together.value


def test_empty_boundary_scores_are_undefined_and_other_classes_do_not_add() -> None:
    assert math.isnan(BoundaryScore(3).value)
    with pytest.raises(InvalidArgumentError, match="Cannot add scores of 2 and 3 classes"):
        BoundaryScore(2) + BoundaryScore(3)


# ---------------------------------------------------------------------------------------------- two classes


def compute_exact_curves(margins: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUC and average precision by comparing all pairs, and by one threshold for each distinct margin."""
    positive, negative = margins[truth][:, None], margins[~truth][None]
    auc = float(np.mean((positive > negative) + 0.5 * (positive == negative)))
    average, previous = 0.0, 0.0
    for limit in np.unique(margins)[::-1]:
        above = margins >= limit
        recall, precision = truth[above].sum() / truth.sum(), truth[above].mean()
        average, previous = average + (recall - previous) * precision, recall
    return auc, float(average)


def fill_histogram(margins: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> MarginHistogram:
    histogram = MarginHistogram()
    histogram.update(margins, truth.astype(np.uint8), foreground=1, ignore_index=VOID)
    return histogram


TIES = [np.float32(value) for value in (-np.inf, -40, -1.5, -0.0, 0.0, 1e-30, 0.25, 0.5, 3, 1e30, np.inf)]
Margins = arrays(np.float32, st.integers(2, 40), elements=st.sampled_from(TIES))


@given(Margins, st.data())
def test_the_curves_of_margins_with_ties_are_exact(margins: npt.NDArray[np.float32], data: st.DataObject) -> None:
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=len(margins), max_size=len(margins))))
    histogram = fill_histogram(margins, truth)
    if truth.all() or not truth.any():
        assert math.isnan(histogram.auc)
        return
    auc, average = compute_exact_curves(margins, truth)
    assert histogram.auc == pytest.approx(auc, abs=1e-12)
    assert histogram.average_precision == pytest.approx(average, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_error_of_the_curves_is_bounded(scale: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(3000) < 0.2
    margins = ((rng.standard_normal(3000) + 1.5 * truth) * scale).astype(np.float32)
    auc, average = compute_exact_curves(margins, truth)
    histogram = fill_histogram(margins, truth)
    assert abs(histogram.auc - auc) <= histogram.auc_error <= 2e-4
    assert abs(histogram.average_precision - average) < 2e-4


def test_the_error_of_the_area_is_reached_where_all_margins_share_a_bin() -> None:
    """The foreground is always above, but the bins cannot show it."""
    histogram = fill_histogram(np.array([1.0, 1.0001], np.float32), np.array([False, True]))
    assert (histogram.auc, histogram.auc_error) == (0.5, 0.5)


def test_histograms_of_parts_add_up_to_that_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    margins = rng.standard_normal((6, 50)).astype(np.float32)
    labels = rng.choice(np.array([0, 1, VOID], np.uint8), (6, 50))
    whole, parts = MarginHistogram(), [MarginHistogram() for _ in range(3)]
    whole.update(margins, labels, foreground=0, ignore_index=VOID)
    for i, part in enumerate(parts):
        part.update(margins[i::3], labels[i::3], foreground=0, ignore_index=VOID)
    total = functools.reduce(operator.add, [pickle.loads(pickle.dumps(part)) for part in parts])
    np.testing.assert_array_equal(total.counts, whole.counts)
    assert whole.counts.sum(1).tolist() == [(labels == 0).sum(), (labels == 1).sum()]


def test_margins_of_another_shape_are_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"margins \(2,\) and labels \(3,\) must have the same shape"):
        MarginHistogram().update(np.zeros(2), np.zeros(3, np.uint8), foreground=1, ignore_index=VOID)


def test_counts_of_another_shape_are_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"counts is .*, but must be \(2, 524288\) integers"):
        MarginHistogram(np.zeros((2, 5), np.int64))


def score(criterion: str, margins: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], threshold: float) -> float:
    """Compute the score of a threshold from the pixels."""
    above = 1 / (1 + np.exp(-margins.astype(np.float64))) >= threshold
    found, wrong = (above & truth).sum(), (above & ~truth).sum()
    if criterion == "dice":
        return float(2 * found / (found + wrong + truth.sum()))
    return float(found / truth.sum() - wrong / (~truth).sum())


@pytest.mark.parametrize("criterion", ["dice", "youden"])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(criterion: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(400) < 0.3
    margins = (rng.standard_normal(400) * 2 + 2 * truth - rng.random() * 4).astype(np.float32)
    histogram = fill_histogram(margins, truth)
    threshold = histogram.choose_threshold(criterion)  # type: ignore[arg-type]
    best = max(score(criterion, margins, truth, float(p)) for p in 1 / (1 + np.exp(-margins.astype(np.float64))))
    assert score(criterion, margins, truth, threshold) >= best - 0.005  # 1 of 400 pixels may share the bin
    counts = histogram.count_above(threshold)
    assert counts.sum(1).tolist() == [(~truth).sum(), truth.sum()]
    assert dice(counts)[1] == pytest.approx(score("dice", margins, truth, threshold), abs=0.005)


@pytest.mark.parametrize(
    ("margins", "low", "high"),
    [
        ([-5, -3, 3, 5], 0.5, 0.5),
        ([-9, -8, -6, -5], 0.002, 0.0025),
        ([4, 5, 7, 9], 0.9933, 0.994),
        ([30, 40, 50, 60], 1 - 2e-7, 1 - 1e-8),  # beyond the bounds of thresholds
        ([-60, -50, -40, -30], 1e-8, 2e-7),
    ],
)
def test_of_equally_good_thresholds_the_one_closest_to_a_half_is_chosen(
    margins: list[float], low: float, high: float
) -> None:
    histogram = fill_histogram(np.array(margins, np.float32), np.array([False, False, True, True]))
    assert low <= histogram.choose_threshold("dice") <= high


def test_no_threshold_without_both_classes() -> None:
    with pytest.raises(DataError, match="the masks have pixels of only one class"):
        fill_histogram(np.zeros(3, np.float32), np.ones(3, bool)).choose_threshold("dice")


def test_an_unknown_criterion_is_an_error() -> None:
    histogram = fill_histogram(np.zeros(2, np.float32), np.array([True, False]))
    with pytest.raises(InvalidArgumentError, match="criterion"):
        histogram.choose_threshold("f1")  # type: ignore[arg-type]


@pytest.mark.parametrize("foreground", [0, 1])
def test_scores_of_two_classes_by_hand(foreground: int) -> None:
    counts = np.array([[90, 10], [4, 16]])
    matrix = ConfusionMatrix.from_counts(counts if foreground else counts[::-1, ::-1])
    names = ["background", "crack"] if foreground else ["crack", "background"]
    binary = compute_scores(matrix, None, names, num_images=1, foreground=foreground)["binary"]
    assert binary == {
        "name": "crack",
        "sensitivity": 16 / 20,
        "specificity": 90 / 100,
        "precision": 16 / 26,
        "auc": None,
        "auc_error": None,
        "average_precision": None,
    }


def test_scores_of_two_classes_are_none_where_undefined() -> None:
    margins = MarginHistogram()
    table = compute_scores(ConfusionMatrix(2), None, ["a", "b"], num_images=0, foreground=1, margins=margins)
    assert set(table["binary"].values()) == {"b", None}


# ---------------------------------------------------------------------------------------------- the table of scores


def test_scores_have_documented_keys() -> None:
    boundary = BoundaryScore(4, [0.5, math.nan, 0.25])
    table = compute_scores(ConfusionMatrix.from_counts(HAND), boundary, ["a", "b", "c", "d"], num_images=3)
    assert list(table) == [
        "mean_iou",
        "global_accuracy",
        "mean_class_accuracy",
        "mean_dice",
        "boundary_f1",
        "per_class",
        "binary",
        "confusion",
        "num_images",
    ]
    assert table["mean_iou"] == mean_iou(HAND)
    assert table["global_accuracy"] == global_accuracy(HAND)
    assert table["mean_class_accuracy"] == mean_class_accuracy(HAND)
    assert table["mean_dice"] == mean_dice(HAND)
    assert table["boundary_f1"] == 0.375
    assert table["per_class"] == {
        "a": {"iou": 0.75, "accuracy": 0.75, "dice": 6 / 7, "pixels": 4},
        "b": {"iou": 1 / 3, "accuracy": 0.5, "dice": 0.5, "pixels": 2},
        "c": {"iou": 0.0, "accuracy": None, "dice": 0.0, "pixels": 0},
        "d": {"iou": None, "accuracy": None, "dice": None, "pixels": 0},
    }
    assert table["binary"] is None
    assert table["confusion"] == HAND.tolist()
    assert table["num_images"] == 3
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_undefined_scores_are_none() -> None:
    table = compute_scores(ConfusionMatrix(2), None, ["a", "b"], num_images=0)
    assert [table[key] for key in list(table)[:5]] == [None] * 5
    assert compute_scores(ConfusionMatrix(2), BoundaryScore(2), ["a", "b"], num_images=0)["boundary_f1"] is None


def test_wrong_number_of_names_raises() -> None:
    with pytest.raises(InvalidArgumentError, match="class_names has 3 names, but must have 2"):
        compute_scores(ConfusionMatrix(2), None, ["a", "b", "c"], num_images=0)


# ---------------------------------------------------------------------------------------------- CamVid

CAMVID_PIXELS = {
    "train": "10682767 14750079 623349 20076880 2845085 6166762 743859 714595 3719877 405385 184967 2503995",
    "val": "1601620 4531180 98499 5053176 1521751 2851125 155724 537197 304716 113531 387010 297271",
    "test": "6870982 9906732 473895 10390661 3731857 4530895 406612 476807 1599124 255232 76220 1543383",
}
CAMVID_VOID, ROAD = 11, 3


def camvid_labels(shared_data: Path, split: str) -> list[Map]:
    files = sorted((shared_data / "camvid" / "labels" / split).glob("*.png"))
    if not files:
        pytest.skip(f"needs CamVid in {shared_data / 'camvid'}")
    return [np.asarray(Image.open(file)) for file in files]


@pytest.mark.parametrize(("split", "num_images"), [("train", 367), ("val", 101), ("test", 233)])
def test_pixels_of_camvid(shared_data: Path, split: str, num_images: int) -> None:
    matrix = ConfusionMatrix(12)
    images = camvid_labels(shared_data, split)
    for labels in images:
        matrix.update(labels, labels, ignore_index=VOID)
    assert len(images) == num_images
    assert np.diag(matrix.counts).tolist() == [int(n) for n in CAMVID_PIXELS[split].split()]
    assert mean_iou(matrix.counts) == 1


def test_predicting_road_everywhere_on_camvid() -> None:
    """The baseline of the test set follows from its pixel totals."""
    counts = np.zeros((11, 11), np.int64)
    counts[:, ROAD] = [int(n) for n in CAMVID_PIXELS["test"].split()[:11]]
    assert global_accuracy(counts) == pytest.approx(0.26836, abs=5e-6)
    assert mean_class_accuracy(counts) == pytest.approx(1 / 11)
    assert mean_iou(counts) == pytest.approx(0.024396, abs=5e-7)


def test_predicting_road_everywhere_on_the_images_of_camvid(shared_data: Path) -> None:
    matrix = ConfusionMatrix(11)
    for labels in camvid_labels(shared_data, "test"):
        matrix.update(np.full_like(labels, ROAD), labels, ignore_index=CAMVID_VOID)
    assert global_accuracy(matrix.counts) == pytest.approx(0.26836, abs=5e-6)
    assert mean_iou(matrix.counts) == pytest.approx(0.024396, abs=5e-7)


def test_boundaries_of_camvid(shared_data: Path) -> None:
    images = camvid_labels(shared_data, "test")[::40]
    itself, moved = BoundaryScore(11), BoundaryScore(11)
    for labels in images:
        prediction = np.where(labels == CAMVID_VOID, np.uint8(ROAD), labels)
        itself.update(prediction, labels, ignore_index=CAMVID_VOID)
        moved.update(np.roll(prediction, 12, axis=1), labels, ignore_index=CAMVID_VOID)
    assert itself.value == 1
    assert 0.1 < moved.value < 0.6
