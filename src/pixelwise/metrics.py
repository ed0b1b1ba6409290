"""Scores of predicted label maps: count once, then formulas.

Everything but the boundary score is one line on a confusion matrix: a (K, K) array of pixel counts
over the whole dataset, **rows truth, columns prediction**. Nothing is averaged over images or
batches: in a set where few images show a class, the mean of per-image scores answers another
question. Pixels whose label is ``ignore_index`` are dropped before anything is counted, whatever
was predicted there.

Undefined is ``nan`` here and ``null`` in the scores that are written. Decided for absent classes:

- absent from truth and prediction: all its scores are undefined, and it is left out of every mean
  (as in FCN's script; SegNet's counts it as 0);
- absent from the truth but predicted: IoU and Dice are 0, for every such pixel is wrong; the
  accuracy is undefined, for there was nothing to find, and is left out of the mean.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from pixelwise.errors import DataError, InvalidArgumentError

Labels = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]
PerClass = npt.NDArray[np.float64]

# Candidates looked at together: bounds the memory on large images.
_BLOCK = 2**20


class ConfusionMatrix:
    """Pixel counts by true class (row) and predicted class (column), added up over images.

    Matrices add (``a + b``), so any split of the images over batches, processes or ranks gives the
    same counts.
    """

    __slots__ = ("_counts",)

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise InvalidArgumentError(f"a confusion matrix needs at least 1 class, not {num_classes}.")
        self._counts: Counts = np.zeros((num_classes, num_classes), np.int64)

    @classmethod
    def from_counts(cls, counts: npt.ArrayLike) -> Self:
        """A matrix that starts from (K, K) ``counts``, as ``.counts`` of another one (they are copied)."""
        given = np.array(counts)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or given.dtype.kind not in "iu":
            raise InvalidArgumentError(f"counts must be (K, K) integers, not {given.shape} {given.dtype}.")
        matrix = cls(len(given))
        matrix._counts += given
        return matrix

    @property
    def counts(self) -> Counts:
        """(K, K) int64, read-only view: ``counts[i, j]`` pixels of class i were predicted as class j."""
        view = self._counts.view()
        view.flags.writeable = False
        return view

    def update(self, prediction: Labels, labels: Labels, *, ignore_index: int) -> None:
        """Add the pixels of ``prediction`` and ``labels``: equal shapes, any integer dtypes, classes 0..K-1.

        Raises:
            InvalidArgumentError: different shapes, other dtypes than integers, or a predicted class outside
            0..K-1.
            DataError: a label that is neither ``ignore_index`` nor in 0..K-1.
        """
        _check_alike(prediction, labels)
        num_classes = len(self._counts)
        counted = labels != ignore_index
        truth, predicted = labels[counted], prediction[counted]
        _check_classes(predicted, truth, num_classes, ignore_index)
        pair = np.min_scalar_type(num_classes**2 - 1)
        pairs = truth.astype(pair) * pair.type(num_classes) + predicted.astype(pair)
        counts = np.bincount(pairs, minlength=num_classes**2)
        self._counts += counts.reshape(num_classes, num_classes)

    def __add__(self, other: Self) -> Self:
        if len(self._counts) != len(other._counts):
            raise InvalidArgumentError(
                f"cannot add confusion matrices of {len(self._counts)} and {len(other._counts)} classes."
            )
        return type(self).from_counts(self._counts + other._counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionMatrix) and np.array_equal(self._counts, other._counts)

    __hash__ = None  # type: ignore[assignment]  # it changes with every update

    def __repr__(self) -> str:
        return f"ConfusionMatrix.from_counts({self._counts.tolist()})"


def iou(counts: Counts) -> PerClass:
    """(K,) intersection over union: TP / (TP + FP + FN)."""
    return _ratio(np.diag(counts), counts.sum(1) + counts.sum(0) - np.diag(counts))


def dice(counts: Counts) -> PerClass:
    """(K,) 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * np.diag(counts), counts.sum(1) + counts.sum(0))


def class_accuracy(counts: Counts) -> PerClass:
    """(K,) share of the pixels of each true class that were found (recall): TP / (TP + FN)."""
    return _ratio(np.diag(counts), counts.sum(1))


def mean_iou(counts: Counts) -> float:
    """Mean of ``iou`` over the classes where it is defined."""
    return _mean(iou(counts))


def mean_dice(counts: Counts) -> float:
    """Mean of ``dice`` over the classes where it is defined."""
    return _mean(dice(counts))


def mean_class_accuracy(counts: Counts) -> float:
    """Mean of ``class_accuracy`` over the classes of the truth (C of the SegNet paper)."""
    return _mean(class_accuracy(counts))


def global_accuracy(counts: Counts) -> float:
    """Share of all pixels that were predicted right (G of the SegNet paper)."""
    return float(_ratio(np.trace(counts), counts.sum()))


def boundary_f1(prediction: Labels, labels: Labels, num_classes: int, *, ignore_index: int) -> float:
    """Boundary F1 of one image (BF of the SegNet paper, after Csurka et al. 2013): the mean over its classes.

    Per class, the boundary pixels of the truth are paired one to one with those of the prediction
    that lie within 0.75 % of the image diagonal (4.5 pixels at 360x480), as many pairs as possible.
    Precision and recall are the shares of paired pixels, so F1 = 2 pairs / (predicted + true
    boundary pixels). The released SegNet script pairs one to one too; Csurka's original lets a
    pixel match any number of pixels within the distance, and so scores higher.

    A boundary pixel is a pixel with a 4-neighbor of another class. The frame of the image is no
    boundary. Pixels that are ignored, or have an ignored 4-neighbor, are left out of both. A class
    counts if it has a boundary in the truth or in the prediction, and is skipped if it has none in
    either.

    Args:
        prediction: (H, W) integer classes 0..num_classes-1.
        labels: (H, W) integer classes 0..num_classes-1, or ``ignore_index``.

    Returns:
        A fraction in [0, 1]; ``nan`` where no class has a boundary.

    Raises:
        InvalidArgumentError, DataError: as ``ConfusionMatrix.update``, or arrays that are not (H, W).
    """
    _check_alike(prediction, labels)
    if labels.ndim != 2:
        raise InvalidArgumentError(f"boundary_f1 takes one image, (H, W), not {labels.shape}.")
    counted = labels != ignore_index
    _check_classes(prediction[counted], labels[counted], num_classes, ignore_index)
    truth = _class_boundaries(labels, counted)
    predicted = _class_boundaries(prediction, counted)
    paired = _paired(truth, predicted)
    true_pixels, predicted_pixels, pairs = (
        np.bincount(classes, minlength=num_classes)
        for classes in (truth[truth >= 0], predicted[predicted >= 0], paired)
    )
    return _mean(_ratio(2 * pairs, true_pixels + predicted_pixels))


class BoundaryScore:
    """``boundary_f1`` averaged over images, fed beside a ``ConfusionMatrix``.

    An image without boundaries has no score and is skipped. Scores of parts of a dataset add (``a + b``) as confusion
    matrices do, exactly and in any order.
    """

    __slots__ = ("_num_classes", "_scores")

    def __init__(self, num_classes: int, image_scores: Sequence[float] = ()) -> None:
        self._num_classes = num_classes
        self._scores = list(image_scores)

    def update(self, prediction: Labels, labels: Labels, *, ignore_index: int) -> None:
        """Add one image: (H, W) ``prediction`` and ``labels``, as ``boundary_f1`` takes them."""
        score = boundary_f1(prediction, labels, self._num_classes, ignore_index=ignore_index)
        self._scores.append(score)

    @property
    def image_scores(self) -> tuple[float, ...]:
        """The score of each image, in the order they came; ``nan`` where undefined."""
        return tuple(self._scores)

    @property
    def value(self) -> float:
        """The mean over the images; ``nan`` if none has a score."""
        defined = [score for score in self._scores if not math.isnan(score)]
        # fsum rounds once, so that the order of the images cannot show.
        return math.fsum(defined) / len(defined) if defined else math.nan

    def __add__(self, other: Self) -> Self:
        if self._num_classes != other._num_classes:
            raise InvalidArgumentError(
                f"cannot add boundary scores of {self._num_classes} and {other._num_classes} classes."
            )
        return type(self)(self._num_classes, self._scores + other._scores)


def compute_scores(
    confusion: ConfusionMatrix,
    boundary: BoundaryScore | None,
    class_names: Sequence[str],
    *,
    num_images: int,
) -> dict[str, Any]:
    """All scores as ``pixelwise evaluate --json`` writes them: plain values, ``None`` where undefined.

    ``mean_iou, global_accuracy, mean_class_accuracy, mean_dice, boundary_f1``: fractions in [0, 1].
    ``per_class``: name → ``iou, accuracy, dice`` and ``pixels``, those of the truth. ``confusion``: rows truth, columns
    prediction. ``num_images``: as given.

    Raises:
        InvalidArgumentError: the number of names is not the number of classes.
    """
    counts = confusion.counts
    if len(class_names) != len(counts):
        raise InvalidArgumentError(f"{len(class_names)} class names for {len(counts)} classes; give one for each.")
    columns = zip(iou(counts), class_accuracy(counts), dice(counts), counts.sum(1), strict=True)
    return {
        "mean_iou": _or_none(mean_iou(counts)),
        "global_accuracy": _or_none(global_accuracy(counts)),
        "mean_class_accuracy": _or_none(mean_class_accuracy(counts)),
        "mean_dice": _or_none(mean_dice(counts)),
        "boundary_f1": None if boundary is None else _or_none(boundary.value),
        "per_class": {
            name: {"iou": _or_none(i), "accuracy": _or_none(a), "dice": _or_none(d), "pixels": int(n)}
            for name, (i, a, d, n) in zip(class_names, columns, strict=True)
        },
        "confusion": counts.tolist(),
        "num_images": num_images,
    }


def _check_alike(prediction: Labels, labels: Labels) -> None:
    if prediction.shape != labels.shape:
        raise InvalidArgumentError(f"prediction {prediction.shape} and labels {labels.shape} must have the same shape.")
    for name, array in (("prediction", prediction), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise InvalidArgumentError(f"{name} must hold integer class indices, not {array.dtype}.")


def _check_classes(predicted: Labels, truth: Labels, num_classes: int, ignore_index: int) -> None:
    if (value := _outside(truth, num_classes)) is not None:
        raise DataError(
            f"label {value} is neither a class, 0..{num_classes - 1}, nor ignored ({ignore_index}). "
            "Map it to a class or ignore it."
        )
    if (value := _outside(predicted, num_classes)) is not None:
        raise InvalidArgumentError(
            f"predicted class {value} is outside 0..{num_classes - 1}: the prediction is of a model with other classes."
        )


def _outside(classes: Labels, num_classes: int) -> int | None:
    extremes = (int(classes.min()), int(classes.max())) if classes.size else ()
    return next((value for value in extremes if not 0 <= value < num_classes), None)


def _class_boundaries(classes: Labels, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """(H, W): the class of each boundary pixel, -1 elsewhere."""
    boundary = np.zeros(classes.shape, np.bool_)
    usable = counted.copy()
    for axis in (0, 1):
        first, second = _neighbors(axis)
        differ = classes[first] != classes[second]
        boundary[first] |= differ
        boundary[second] |= differ
        usable[first] &= counted[second]
        usable[second] &= counted[first]
    return np.where(boundary & usable, classes.astype(np.int32), np.int32(-1))


def _neighbors(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    full = (slice(None),) * axis
    return (*full, slice(None, -1)), (*full, slice(1, None))


def _paired(truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The classes of the true boundary pixels that a largest one-to-one pairing within the tolerance pairs.

    A pixel is a boundary of its own class only, so one bipartite graph holds all classes. Its
    largest matching is the maximum flow of source → true pixels → predicted pixels → sink; Dinic's
    algorithm is exact, and on these graphs many times faster than SciPy's
    ``maximum_bipartite_matching``.
    """
    neighbors, degrees = _candidates(truth, predicted)
    classes = truth[truth >= 0]
    if neighbors.size == 0:
        return classes[:0]
    num_true, num_predicted = classes.size, int(np.count_nonzero(predicted >= 0))
    sink = num_true + num_predicted + 1
    edges = np.concatenate([np.arange(1, num_true + 1), neighbors + (num_true + 1), np.full(num_predicted, sink)])
    out_degrees = np.concatenate([[0, num_true], degrees, np.ones(num_predicted, np.intp), [0]])
    # SciPy's flows take 32-bit indices and capacities only.
    edges, starts = edges.astype(np.int32), np.cumsum(out_degrees).astype(np.int32)
    graph = csr_array((np.ones(edges.size, np.int32), edges, starts), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, 0, sink, method="dinic").flow
    source = slice(flow.indptr[0], flow.indptr[1])
    paired: npt.NDArray[np.int32] = classes[flow.indices[source][flow.data[source] > 0] - 1]
    return paired


def _candidates(
    truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Row by row, which predicted boundary pixels (by number) each true one may be paired with, and how many."""
    offsets = _offsets_within_tolerance(*truth.shape)
    margin = int(np.abs(offsets).max())
    padded = np.pad(predicted, margin, constant_values=-1)
    width = padded.shape[1]
    classes_at, steps = padded.ravel(), offsets @ (width, 1)
    numbers = np.cumsum(classes_at >= 0, dtype=np.int32) - 1
    y, x = np.nonzero(truth >= 0)
    positions, classes = (y + margin) * width + x + margin, truth[y, x]
    found, degrees = [numbers[:0]], [np.zeros(0, np.intp)]
    for block in _blocks(positions.size, len(steps)):
        around = positions[block, None] + steps
        match = classes_at[around] == classes[block, None]
        found.append(numbers[around[match]])
        degrees.append(np.count_nonzero(match, axis=1))
    return np.concatenate(found), np.concatenate(degrees)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of as many rows as hold ``_BLOCK`` elements."""
    step = max(1, _BLOCK // columns)
    return (slice(start, start + step) for start in range(0, rows, step))


def _offsets_within_tolerance(height: int, width: int) -> npt.NDArray[np.intp]:
    """(N, 2) row and column offsets no longer than 0.75 % (3 / 400) of the diagonal, in row-major order."""
    largest_square = 9 * (height**2 + width**2) // 400**2
    reach = math.isqrt(largest_square)
    y, x = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1) - reach
    return np.stack([y, x], axis=1)[y**2 + x**2 <= largest_square]


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> PerClass:
    """numerator / denominator, ``nan`` where the denominator is 0."""
    bottom = np.asarray(denominator, np.float64)
    quotient: PerClass = np.full(bottom.shape, np.nan)
    np.divide(numerator, bottom, out=quotient, where=bottom != 0)
    return quotient


def _mean(values: PerClass) -> float:
    """Mean of the values that are defined; ``nan`` if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
