"""Scores of predicted label maps: count pixels once, then compute formulas.

All scores except boundary F1 are formulas on one confusion matrix: a (K, K) array of pixel counts over the whole
dataset, with **rows for the truth and columns for the prediction**. Nothing is averaged over images or batches: where
few images show a class, the mean of scores per image answers a different question. Pixels with the label `ignore_index`
are dropped before anything is counted.

Undefined scores are `nan` here and `null` in JSON. The rules for absent classes are:

- A class absent from truth and prediction has no scores, and is left out of every mean, as in the script of FCN. (The
  script of SegNet counts it as 0.)
- A class absent from the truth but predicted has IoU and Dice 0, because every such pixel is wrong. Its accuracy is
  undefined and left out of the mean, because there was nothing to find.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from pixelwise.arguments import Count, Fraction, Index, OpenFraction, check_arguments, convert, describe_value
from pixelwise.errors import DataError, InvalidArgumentError

__all__ = [
    "BoundaryScore",
    "ConfusionMatrix",
    "MarginHistogram",
    "boundary_f1",
    "class_accuracy",
    "compute_scores",
    "dice",
    "global_accuracy",
    "iou",
    "mean_class_accuracy",
    "mean_dice",
    "mean_iou",
]

Labels = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]
Margins = npt.NDArray[np.floating[Any]]
PerClass = npt.NDArray[np.float64]

Criterion = Literal["dice", "youden"]
"""Score that a threshold maximizes: Dice (F1), or Youden's J, sensitivity + specificity - 1."""

BinaryLabel = Literal[0, 1]
"""Class index of one of two classes."""

_BIN_SHIFT = 13
"""Bits of a float32 that a bin of `MarginHistogram` leaves out: 10 of 23 bits of the mantissa remain."""
_NUM_BINS = 2 ** (32 - _BIN_SHIFT)
_MAX_MARGIN = 16.0
"""Thresholds are chosen up to this margin, a probability within 1e-7 of 0 or 1."""

_BLOCK = 2**20
"""Candidate pairs that are compared at a time, to limit the memory for large images."""


class ConfusionMatrix:
    """Pixel counts by true class (row) and predicted class (column), summed over images.

    Matrices can be added (`a + b`), so any division of the images into batches, processes or ranks gives the same
    counts.

    Args:
        num_classes: K, at least 1.

    Returns:
        An empty matrix; `update` adds images to it, and `counts` is the (K, K) array.

    Raises:
        InvalidArgumentError: `num_classes` is below 1.

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import ConfusionMatrix, iou
        >>> confusion = ConfusionMatrix(2)
        >>> confusion.update(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), ignore_index=255)
        >>> confusion.counts
        array([[1, 1],
               [0, 0]])
        >>> iou(confusion.counts)
        array([0.5, 0. ])
    """

    __slots__ = ("_counts",)

    @check_arguments
    def __init__(self, num_classes: Count) -> None:
        self._counts: Counts = np.zeros((num_classes, num_classes), np.int64)

    @classmethod
    def from_counts(cls, counts: npt.ArrayLike) -> Self:
        """Return a matrix with a copy of (K, K) integer counts."""
        try:
            given = np.asarray(counts)
        except (TypeError, ValueError):  # lists of different lengths, tensors of a GPU
            given = np.asarray(None)
        _get_diagonal(given)
        matrix = cls(len(given))
        matrix._counts += given
        return matrix

    @property
    def counts(self) -> Counts:
        """Return a read-only view (K, K) int64: `counts[i, j]` pixels of class i were predicted as class j."""
        view = self._counts.view()
        view.flags.writeable = False
        return view

    @check_arguments
    def update(self, prediction: Labels, labels: Labels, *, ignore_index: int) -> None:
        """Add the pixels of an image or a batch.

        Args:
            prediction: Class indices 0..K-1 of any integer dtype and any shape.
            labels: Class indices 0..K-1, or `ignore_index`, in the shape of `prediction`.
            ignore_index: Label of the pixels to ignore.

        Raises:
            InvalidArgumentError: The shapes differ, a dtype is not an integer, or a predicted class is not in 0..K-1.
            DataError: A label is neither `ignore_index` nor in 0..K-1.
        """
        num_classes = len(self._counts)
        _, predicted, truth = _select_counted(prediction, labels, num_classes, ignore_index)
        pair = np.min_scalar_type(num_classes**2 - 1)
        pairs = truth.astype(pair) * pair.type(num_classes) + predicted.astype(pair)
        counts = np.bincount(pairs, minlength=num_classes**2)
        self._counts += counts.reshape(num_classes, num_classes)

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if len(self._counts) != len(other._counts):
            raise InvalidArgumentError(f"Cannot add matrices of {len(self._counts)} and {len(other._counts)} classes.")
        return type(self).from_counts(self._counts + other._counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionMatrix) and np.array_equal(self._counts, other._counts)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"ConfusionMatrix.from_counts({self._counts.tolist()})"


def iou(counts: Counts) -> PerClass:
    """Compute the intersection over union of each class: TP / (TP + FP + FN).

    The Jaccard index, the score of PASCAL VOC (Everingham et al., IJCV 2010) and of the FCN and SegNet papers.

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        (K,) float64 in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import iou
        >>> iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        array([0.75, 0.8 ,  nan])
    """
    return _divide(_get_diagonal(counts), counts.sum(1) + counts.sum(0) - np.diag(counts))


def dice(counts: Counts) -> PerClass:
    """Compute the Dice coefficient (F1) of each class: 2 TP / (2 TP + FP + FN).

    Dice, "Measures of the Amount of Ecologic Association Between Species", 1945.

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        (K,) float64 in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import dice
        >>> dice(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).round(3)
        array([0.857, 0.889,   nan])
    """
    return _divide(2 * _get_diagonal(counts), counts.sum(1) + counts.sum(0))


def class_accuracy(counts: Counts) -> PerClass:
    """Compute the accuracy (recall) of each class: TP / (TP + FN).

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        (K,) float64 in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import class_accuracy
        >>> class_accuracy(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        array([0.75, 1.  ,  nan])
    """
    return _divide(_get_diagonal(counts), counts.sum(1))


def mean_iou(counts: Counts) -> float:
    """Compute the mean of `iou` over the classes where it is defined (mIoU of the FCN and SegNet papers).

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        A fraction in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import mean_iou
        >>> mean_iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.775
    """
    return _average(iou(counts))


def mean_dice(counts: Counts) -> float:
    """Compute the mean of `dice` over the classes where it is defined.

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        A fraction in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import mean_dice
        >>> mean_dice(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.873015873015873
    """
    return _average(dice(counts))


def mean_class_accuracy(counts: Counts) -> float:
    """Compute the mean of `class_accuracy` over the classes in the truth (C of the SegNet paper).

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        A fraction in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import mean_class_accuracy
        >>> mean_class_accuracy(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.875
    """
    return _average(class_accuracy(counts))


def global_accuracy(counts: Counts) -> float:
    """Compute the share of all pixels that are correct (G of the SegNet paper).

    Args:
        counts: (K, K) int64 pixel counts, rows truth, columns prediction.

    Returns:
        A fraction in [0, 1], `nan` where undefined.

    Raises:
        InvalidArgumentError: `counts` is not (K, K).

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import global_accuracy
        >>> global_accuracy(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.875
    """
    return float(_divide(_get_diagonal(counts).sum(), counts.sum()))


@check_arguments
def boundary_f1(prediction: Labels, labels: Labels, num_classes: Count, *, ignore_index: int) -> float:
    """Compute the boundary F1 of one image, averaged over its classes (BF of the SegNet paper, PAMI 2017).

    For each class, the boundary pixels of the truth are matched one to one with those of the prediction within 0.75 %
    of the image diagonal (4.5 pixels at 360x480), with as many pairs as possible. Precision and recall are the shares
    of matched pixels, so F1 = 2 pairs / (predicted + true boundary pixels). The released script of SegNet also matches
    one to one. The original score (Csurka, Larlus, Perronnin, BMVC 2013) lets a pixel match any number of pixels within
    the distance, which gives higher values.

    A boundary pixel has a 4-neighbor of another class; the border of the image is not a boundary. Ignored pixels, and
    pixels with an ignored 4-neighbor, are left out. A class counts if it has a boundary in the truth or in the
    prediction.

    Args:
        prediction: (H, W) integer class indices 0..K-1.
        labels: (H, W) integer class indices 0..K-1, or `ignore_index`.
        num_classes: K.
        ignore_index: Label of the pixels to ignore.

    Returns:
        A fraction in [0, 1]; `nan` if no class has a boundary.

    Raises:
        InvalidArgumentError: The arrays are not (H, W), the shapes differ, a dtype is not an integer, or a predicted
            class is not in 0..K-1.
        DataError: A label is neither `ignore_index` nor in 0..K-1.

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import boundary_f1
        >>> labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
        >>> boundary_f1(labels, labels, 2, ignore_index=255)
        1.0
    """
    if prediction.ndim != 2:
        raise InvalidArgumentError(f"prediction is {describe_value(prediction)}, but must be one image (H, W).")
    counted, _, _ = _select_counted(prediction, labels, num_classes, ignore_index)
    truth = _find_boundaries(labels, counted)
    predicted = _find_boundaries(prediction, counted)
    true_pixels, predicted_pixels, pairs = (
        np.bincount(classes, minlength=num_classes)
        for classes in (truth[truth >= 0], predicted[predicted >= 0], _match_boundaries(truth, predicted))
    )
    return _average(_divide(2 * pairs, true_pixels + predicted_pixels))


class BoundaryScore:
    """The mean of `boundary_f1` over images, updated image by image next to a `ConfusionMatrix`.

    An image without boundaries has no score and is left out. Scores of parts of a dataset can be added (`a + b`), with
    the same result in any order.

    Args:
        num_classes: K.
        image_scores: Scores of the images so far, `nan` where undefined.

    Returns:
        A score without images; `update` adds one, and `value` is the mean.

    Raises:
        InvalidArgumentError: In `update`, as `boundary_f1`.

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import BoundaryScore
        >>> labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
        >>> boundary = BoundaryScore(2)
        >>> boundary.update(labels, labels, ignore_index=255)
        >>> boundary.value
        1.0
    """

    __slots__ = ("_num_classes", "_scores")

    def __init__(self, num_classes: int, image_scores: Sequence[float] = ()) -> None:
        self._num_classes: int = convert(num_classes, Count, "num_classes")
        defined = [score for score in image_scores if score == score] if isinstance(image_scores, Sequence) else None
        convert(defined, Sequence[Fraction], "image_scores")
        self._scores = list(image_scores)

    def update(self, prediction: Labels, labels: Labels, *, ignore_index: int) -> None:
        """Add one image: `prediction` and `labels` (H, W), as in `boundary_f1`."""
        self._scores.append(boundary_f1(prediction, labels, self._num_classes, ignore_index=ignore_index))

    @property
    def image_scores(self) -> tuple[float, ...]:
        """Return the score of each image in order, `nan` where undefined."""
        return tuple(self._scores)

    @property
    def value(self) -> float:
        """Return the mean over the images, `nan` if none has a score."""
        defined = [score for score in self._scores if not math.isnan(score)]
        # fsum rounds once, so the result does not depend on the order of the images.
        return math.fsum(defined) / len(defined) if defined else math.nan

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, BoundaryScore):
            return NotImplemented
        if self._num_classes != other._num_classes:
            raise InvalidArgumentError(f"Cannot add scores of {self._num_classes} and {other._num_classes} classes.")
        return type(self)(self._num_classes, self._scores + other._scores)


class MarginHistogram:
    """Pixel counts of two classes by their margin, from which the ROC curve and every threshold's scores follow.

    The margin is the logit of the foreground minus that of the other class. A bin holds the margins whose first 10 bits
    of the mantissa are equal (relative width 1/1024), so memory does not grow with the number of images (8 MiB), and
    the bins suit any scale. Histograms can be added (`a + b`), so any division into images, tiles, processes or ranks
    gives the same counts.

    Args:
        counts: (2, 524288) integers, pixels of the foreground and of the other class in each bin; None: no pixels.

    Returns:
        A histogram; `update` adds images to it.

    Raises:
        InvalidArgumentError: `counts` has another shape, or in `update` the shapes differ.

    Example:
        >>> import numpy as np
        >>> from pixelwise.metrics import MarginHistogram
        >>> histogram = MarginHistogram()
        >>> histogram.update(np.array([-2.0, 0.5, 3.0, 1.0]), np.array([0, 0, 1, 1]), foreground=1, ignore_index=255)
        >>> histogram.auc, histogram.average_precision
        (1.0, 1.0)
        >>> histogram.choose_threshold("dice")
        0.623
    """

    __slots__ = ("counts",)

    def __init__(self, counts: Counts | None = None) -> None:
        is_array = isinstance(counts, np.ndarray) and counts.dtype.kind in "iu" and counts.shape == (2, _NUM_BINS)
        if counts is not None and (not is_array or counts.min() < 0):
            raise InvalidArgumentError(
                f"counts is {describe_value(counts)}, but must be (2, {_NUM_BINS}) integers of at least 0."
            )
        self.counts: Counts = np.zeros((2, _NUM_BINS), np.int64) if counts is None else counts

    @check_arguments
    def update(self, margins: Margins, labels: Labels, *, foreground: BinaryLabel, ignore_index: int) -> None:
        """Add the pixels of an image or a batch.

        Args:
            margins: Logit of the foreground minus that of the other class, in any shape.
            labels: Class indices 0 and 1, or `ignore_index`, in the shape of `margins`.
            foreground: Index of the foreground, 0 or 1.
            ignore_index: Label of the pixels to ignore.
        """
        for name, array, kinds in (("margins", margins, "f"), ("labels", labels, "iu")):
            if array.dtype.kind not in kinds:
                what = "floating point" if name == "margins" else "integer class indices"
                raise InvalidArgumentError(f"{name} is {describe_value(array)}, but must be {what}.")
        if margins.shape != labels.shape:
            raise InvalidArgumentError(f"margins {margins.shape} and labels {labels.shape} must have the same shape.")
        counted = labels != ignore_index
        _require_labels(labels[counted], 2, ignore_index)
        rows = (labels[counted] != foreground).astype(np.intp)
        np.add.at(self.counts, (rows, _find_bins(margins[counted])), 1)

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, MarginHistogram):
            return NotImplemented
        return type(self)(self.counts + other.counts)

    @property
    def auc(self) -> float:
        """Return the area under the ROC curve, `nan` without pixels of both classes.

        It is the probability that a foreground pixel has a higher margin than another pixel; equal ones count half.
        """
        positive, negative = self.counts.astype(np.float64)
        below = np.cumsum(negative) - negative
        return float(_divide(positive @ (below + negative / 2), positive.sum() * negative.sum()))

    @property
    def auc_error(self) -> float:
        """Return the largest error of `auc`: different margins in one bin count as equal."""
        positive, negative = self.counts.astype(np.float64)
        return float(_divide(positive @ negative / 2, positive.sum() * negative.sum()))

    @property
    def average_precision(self) -> float:
        """Return the precision averaged over the foreground pixels, by falling margin; `nan` without one.

        The sum of (recall - previous recall) times precision, without interpolation, as in scikit-learn.
        """
        positive, negative = self.counts[:, ::-1].astype(np.float64)
        found = np.cumsum(positive)
        precisions = np.nan_to_num(_divide(found, found + np.cumsum(negative)))
        return float(_divide(positive @ precisions, positive.sum()))

    @check_arguments
    def choose_threshold(self, criterion: Criterion) -> float:
        """Return the probability with the best score, from which on a pixel is labeled foreground.

        Of equally good ones it is the closest to 0.5, with as many digits as change the score by at most 0.0001.

        Raises:
            InvalidArgumentError: `criterion` is unknown.
            DataError: One of the classes has no pixels.
        """
        if not self.counts.any(1).all():
            raise DataError("No threshold can be chosen: the masks have pixels of only one class. Label both classes.")
        bins = np.flatnonzero(self.counts.any(0))
        scores = self._score_from(bins, criterion)
        best = np.flatnonzero(scores == scores.max())
        # Labels are the same for all thresholds above the previous bin, up to the lowest margin of this one.
        lows = np.concatenate([[-_MAX_MARGIN], _compute_edges(bins[:-1] + 1)])
        margins = np.clip(0, lows, np.maximum(lows, _compute_edges(bins)))[best].clip(-_MAX_MARGIN, _MAX_MARGIN)
        probability = 1 / (1 + math.exp(-float(margins[np.abs(margins).argmin()])))
        for digits in range(2, 16):
            rounded = round(probability, digits)
            if 0 < rounded < 1 and self._score_from(_find_threshold_bin(rounded), criterion) >= scores.max() - 1e-4:
                return rounded
        return probability

    @check_arguments
    def count_above(self, threshold: OpenFraction) -> Counts:
        """Return (2, 2) counts for a threshold, with the foreground as class 1, exact to the width of a bin."""
        found, wrong = self.counts[:, int(_find_threshold_bin(threshold)) :].sum(1)
        positive, negative = self.counts.sum(1)
        return np.array([[negative - wrong, wrong], [positive - found, found]])

    def _score_from(self, bins: npt.NDArray[np.intp], criterion: Criterion) -> PerClass:
        """Compute the score of labeling each bin and all above it as foreground."""
        positive, negative = self.counts.sum(1).astype(np.float64)
        found, wrong = np.cumsum(self.counts[:, ::-1], 1)[:, ::-1][:, bins].astype(np.float64)
        if criterion == "dice":
            return np.asarray(2 * found / (found + wrong + positive))
        return np.asarray(found / positive - wrong / negative)


def _find_threshold_bin(threshold: float) -> npt.NDArray[np.intp]:
    return _find_bins(np.array(math.log(threshold / (1 - threshold))))


def _find_bins(margins: Margins) -> npt.NDArray[np.intp]:
    """Return the bin of each margin.

    The bits of positive floats sort like the floats, and those of negative ones in reverse, so these are inverted.
    """
    bits = (margins.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    bins: npt.NDArray[np.intp] = (ordered >> np.uint32(_BIN_SHIFT)).astype(np.intp)
    return bins


def _compute_edges(bins: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the lowest margin of each bin."""
    ordered = (bins << _BIN_SHIFT).astype(np.uint32)
    bits = np.where(ordered >> 31, ordered & np.uint32(2**31 - 1), ~ordered)
    edges: npt.NDArray[np.float64] = np.nan_to_num(bits.view(np.float32).astype(np.float64))
    return edges


@check_arguments
def compute_scores(
    confusion: ConfusionMatrix,
    boundary: BoundaryScore | None,
    class_names: str | Sequence[str],
    *,
    num_images: Index,
    foreground: BinaryLabel | None = None,
    margins: MarginHistogram | None = None,
) -> dict[str, Any]:
    """Compute all scores in the form of ``pixelwise evaluate --json``.

    Args:
        confusion: Pixel counts of the whole dataset.
        boundary: Boundary scores of its images, or None.
        class_names: K names; one name is enough for one class.
        num_images: Number of images, which is copied to the result.
        foreground: Index of the class that is searched for, of two; None: `binary` is None.
        margins: Margins of the pixels of all images, for the ROC curve, or None.

    Returns:
        Plain values, `None` where undefined. `mean_iou, global_accuracy, mean_class_accuracy, mean_dice, boundary_f1`
        are fractions in [0, 1]. `per_class` maps each name to `iou, accuracy, dice` and `pixels` of the truth.
        `confusion` has rows for the truth and columns for the prediction. `binary` has the scores of the foreground,
        `name, sensitivity, specificity, precision, auc, auc_error, average_precision`; None without a foreground.

    Raises:
        InvalidArgumentError: The number of names is not K.

    Example:
        >>> from pixelwise.metrics import ConfusionMatrix, compute_scores
        >>> scores = compute_scores(ConfusionMatrix.from_counts([[3, 1], [0, 4]]), None, ["road", "sky"], num_images=1)
        >>> scores["mean_iou"], scores["per_class"]["road"]["pixels"]
        (0.775, 4)
    """
    counts = confusion.counts
    class_names = [class_names] if isinstance(class_names, str) else class_names
    if len(class_names) != len(counts):
        raise InvalidArgumentError(
            f"class_names has {len(class_names)} names, but must have {len(counts)}, one for each class."
        )
    columns = zip(iou(counts), class_accuracy(counts), dice(counts), counts.sum(1), strict=True)
    return {
        "mean_iou": _to_json(mean_iou(counts)),
        "global_accuracy": _to_json(global_accuracy(counts)),
        "mean_class_accuracy": _to_json(mean_class_accuracy(counts)),
        "mean_dice": _to_json(mean_dice(counts)),
        "boundary_f1": None if boundary is None else _to_json(boundary.value),
        "per_class": {
            name: {"iou": _to_json(i), "accuracy": _to_json(a), "dice": _to_json(d), "pixels": int(n)}
            for name, (i, a, d, n) in zip(class_names, columns, strict=True)
        },
        "binary": None if foreground is None else _compute_binary_scores(counts, class_names, foreground, margins),
        "confusion": counts.tolist(),
        "num_images": num_images,
    }


def _compute_binary_scores(
    counts: Counts, class_names: Sequence[str], foreground: int, margins: MarginHistogram | None
) -> dict[str, Any]:
    recalls, predicted = class_accuracy(counts), counts[:, foreground].sum()
    return {
        "name": class_names[foreground],
        "sensitivity": _to_json(recalls[foreground]),
        "specificity": _to_json(recalls[1 - foreground]),
        "precision": _to_json(float(_divide(counts[foreground, foreground], predicted))),
        **{
            name: None if margins is None else _to_json(getattr(margins, name))
            for name in ("auc", "auc_error", "average_precision")
        },
    }


def _select_counted(
    prediction: Labels, labels: Labels, num_classes: int, ignore_index: int
) -> tuple[npt.NDArray[np.bool_], Labels, Labels]:
    """Return which pixels are not ignored, and the predicted and true classes there.

    Raises:
        InvalidArgumentError: The shapes differ, a dtype is not an integer, or a predicted class is not in 0..K-1.
        DataError: A label is neither `ignore_index` nor in 0..K-1.
    """
    for name, array in (("prediction", prediction), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise InvalidArgumentError(f"{name} is {describe_value(array)}, but must be integer class indices.")
    if prediction.shape != labels.shape:
        raise InvalidArgumentError(f"prediction {prediction.shape} and labels {labels.shape} must have the same shape.")
    counted = labels != ignore_index
    predicted, truth = prediction[counted], labels[counted]
    _require_labels(truth, num_classes, ignore_index)
    if (value := _find_invalid_class(predicted, num_classes)) is not None:
        raise InvalidArgumentError(
            f"prediction has the class {value}, but must be in 0..{num_classes - 1}: it is from another model."
        )
    return counted, predicted, truth


def _require_labels(truth: Labels, num_classes: int, ignore_index: int) -> None:
    """Raise DataError for a label that is not a class; ignored ones are left out."""
    if (value := _find_invalid_class(truth, num_classes)) is not None:
        raise DataError(
            f"Label {value} is neither a class, 0..{num_classes - 1}, nor the ignore index {ignore_index}. "
            "Map it to a class or ignore it."
        )


def _find_invalid_class(classes: Labels, num_classes: int) -> int | None:
    extremes = (int(classes.min()), int(classes.max())) if classes.size else ()
    return next((value for value in extremes if not 0 <= value < num_classes), None)


def _find_boundaries(classes: Labels, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return (H, W) with the class of each boundary pixel, -1 elsewhere."""
    boundary = np.zeros(classes.shape, np.bool_)
    usable = counted.copy()
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = classes[first] != classes[second]
        boundary[first] |= differ
        boundary[second] |= differ
        usable[first] &= counted[second]
        usable[second] &= counted[first]
    return np.where(boundary & usable, classes.astype(np.int32), np.int32(-1))


def _match_boundaries(truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the classes of the true boundary pixels that a maximum one-to-one matching pairs.

    A pixel is a boundary of its own class only, so one bipartite graph holds all classes. Its maximum matching is the
    maximum flow of source → true pixels → predicted pixels → sink. Dinic's algorithm is exact, and on these graphs many
    times faster than SciPy's `maximum_bipartite_matching`.
    """
    neighbors, degrees = _find_candidates(truth, predicted)
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
    matched: npt.NDArray[np.int32] = classes[flow.indices[source][flow.data[source] > 0] - 1]
    return matched


def _find_candidates(
    truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Return the predicted boundary pixels that each true one can be matched with, concatenated, and their numbers."""
    offsets = _list_offsets(*truth.shape)
    margin = int(np.abs(offsets).max())
    padded = np.pad(predicted, margin, constant_values=-1)
    width = padded.shape[1]
    classes_at, steps = padded.ravel(), offsets @ (width, 1)
    numbers = np.cumsum(classes_at >= 0, dtype=np.int32) - 1
    y, x = np.nonzero(truth >= 0)
    positions, classes = (y + margin) * width + x + margin, truth[y, x]
    candidates, degrees = [numbers[:0]], [np.zeros(0, np.intp)]
    rows = max(1, _BLOCK // len(steps))
    for start in range(0, positions.size, rows):
        block = slice(start, start + rows)
        around = positions[block, None] + steps
        match = classes_at[around] == classes[block, None]
        candidates.append(numbers[around[match]])
        degrees.append(np.count_nonzero(match, axis=1))
    return np.concatenate(candidates), np.concatenate(degrees)


def _list_offsets(height: int, width: int) -> npt.NDArray[np.intp]:
    """Return the (N, 2) row and column offsets up to 0.75 % (3 / 400) of the diagonal, in row-major order."""
    largest_square = 9 * (height**2 + width**2) // 400**2
    reach = math.isqrt(largest_square)
    y, x = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1) - reach
    return np.stack([y, x], axis=1)[y**2 + x**2 <= largest_square]


def _get_diagonal(counts: Counts) -> Counts:
    """Return the diagonal (K,) of the confusion matrix; raise InvalidArgumentError if it is none."""
    is_matrix = isinstance(counts, np.ndarray) and counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0
    if not is_matrix or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise InvalidArgumentError(
            f"counts is {describe_value(counts)}, but must be an array (K, K) of integers of at least 0."
        )
    return np.diag(counts)


def _divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> PerClass:
    """Divide, with `nan` where the denominator is 0."""
    bottom = np.asarray(denominator, np.float64)
    quotient: PerClass = np.full(bottom.shape, np.nan)
    np.divide(numerator, bottom, out=quotient, where=bottom != 0)
    return quotient


def _average(values: PerClass) -> float:
    """Return the mean of the values that are not `nan`, or `nan` without one."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _to_json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
