"""Test class weights by hand and on CamVid."""

import numpy as np
import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.losses import inverse_log_weights, median_frequency_weights


def test_median_frequency_weights_by_hand() -> None:
    # Frequencies 1/2, 1/4, 1/10; the median is 1/4.
    assert median_frequency_weights([50, 10, 10], [100, 40, 100]) == pytest.approx([0.5, 1, 2.5])
    assert median_frequency_weights([50, 10, 10], [100, 40, 100], power=0.5) == pytest.approx(np.sqrt([0.5, 1, 2.5]))
    assert median_frequency_weights([50, 10, 10], [100, 40, 100], power=0) == pytest.approx([1, 1, 1])


def test_absent_classes_get_weight_1_and_do_not_change_median() -> None:
    weights = median_frequency_weights([50, 0, 10, 10, 0], [100, 0, 40, 100, 0])
    assert weights == pytest.approx([0.5, 1, 1, 2.5, 1])
    assert median_frequency_weights([0, 0], [0, 0]) == pytest.approx([1, 1])


def test_invalid_counts_raise() -> None:
    with pytest.raises(InvalidArgumentError, match=r"\(2,\) and image_pixels \(3,\) must both be \(K,\)"):
        median_frequency_weights([1, 2], [1, 2, 3])
    with pytest.raises(InvalidArgumentError, match="Class 1 has more class_pixels than the images that contain it"):
        median_frequency_weights([1, 3], [2, 2])


# Pixels of each class in CamVid's training images (367 of 360×480), and the images that show it.
CAMVID_TRAIN_PIXELS = [
    10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967,
]  # fmt: skip
CAMVID_TRAIN_IMAGES = [366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201]


def test_median_frequency_weights_of_camvid() -> None:
    weights = median_frequency_weights(CAMVID_TRAIN_PIXELS, np.array(CAMVID_TRAIN_IMAGES) * 360 * 480)
    expected = [0.2793, 0.2017, 4.7865, 0.1490, 1.0000, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    assert weights == pytest.approx(expected, abs=5e-5)


def test_inverse_log_weights_by_hand() -> None:
    expected = [1 / np.log(1.02 + share) for share in (0.75, 0.24, 0.01)]
    assert inverse_log_weights([75, 24, 1]) == pytest.approx(expected)
    assert inverse_log_weights([75, 24, 1], power=0.5) == pytest.approx(np.sqrt(expected))


def test_inverse_log_weights_are_bounded_and_1_for_absent_classes() -> None:
    assert inverse_log_weights([10**9, 1, 0]) == pytest.approx([1 / np.log(2.02), 1 / np.log(1.02), 1])
    assert inverse_log_weights([0, 0]) == pytest.approx([1, 1])


def test_inverse_log_weights_of_invalid_counts_raise() -> None:
    with pytest.raises(InvalidArgumentError, match=r"class_pixels is \[\[1, 2\]\], but must be \(K,\) numbers"):
        inverse_log_weights([[1, 2]])
