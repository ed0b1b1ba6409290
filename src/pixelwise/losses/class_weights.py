"""Class weights from the frequencies of the classes."""

import numpy as np
import numpy.typing as npt

from pixelwise.arguments import NonNegative, check_arguments, describe_value
from pixelwise.errors import InvalidArgumentError


@check_arguments
def median_frequency_weights(
    class_pixels: npt.ArrayLike, image_pixels: npt.ArrayLike, power: NonNegative = 1.0
) -> npt.NDArray[np.float64]:
    """Compute ``(median f / f_c) ** power`` for each class: median frequency balancing.

    ``f_c = class_pixels[c] / image_pixels[c]`` is the share of class c in the images that contain it, ignored pixels
    included. A class that occurs in few images is therefore not treated as rare. The median is over the classes that
    occur. A class that does not occur gets weight 1, which is never used. Eigen, Fergus, "Predicting Depth, Surface
    Normals and Semantic Labels with a Common Multi-Scale Convolutional Architecture", ICCV 2015 (arXiv:1411.4734).

    Args:
        class_pixels: (K,) number of pixels of each class in the training set.
        image_pixels: (K,) number of all pixels of the training images that contain each class.
        power: Exponent of the weights: 1 balances fully, 0 gives 1 for every class.

    Returns:
        (K,) float64 weights, above 0.

    Raises:
        InvalidArgumentError: The lengths differ, or a class has more pixels than its images.

    Example:
        >>> from pixelwise.losses import median_frequency_weights
        >>> median_frequency_weights([800, 100, 50], [1000, 1000, 500]).round(3)
        array([0.125, 1.   , 1.   ])
    """
    pixels, totals = _to_counts("class_pixels", class_pixels), _to_counts("image_pixels", image_pixels)
    if pixels.shape != totals.shape:
        raise InvalidArgumentError(f"class_pixels {pixels.shape} and image_pixels {totals.shape} must both be (K,).")
    if np.any(pixels > totals):
        raise InvalidArgumentError(
            f"Class {int(np.argmax(pixels > totals))} has more class_pixels than the images that contain it. "
            "image_pixels must count all pixels of those images."
        )
    weights, occurs = np.ones_like(pixels), pixels > 0
    if occurs.any():
        frequencies = pixels[occurs] / totals[occurs]
        weights[occurs] = (np.median(frequencies) / frequencies) ** power
    return weights


@check_arguments
def inverse_log_weights(class_pixels: npt.ArrayLike, power: NonNegative = 1.0) -> npt.NDArray[np.float64]:
    """Compute ``(1 / ln(1.02 + p_c)) ** power`` for each class, the weights of ENet.

    ``p_c`` is the share of class c in all labeled pixels. With power 1, the weights are between 1.4, for a class with
    all pixels, and 50.5. Unlike median frequency weights they are bounded, so a class with very few pixels cannot
    dominate the loss. A class that does not occur gets weight 1, which is never used. Paszke et al., "ENet: A Deep
    Neural Network Architecture for Real-Time Semantic Segmentation", 2016 (arXiv:1606.02147).

    Args:
        class_pixels: (K,) number of pixels of each class in the training set.
        power: Exponent of the weights: 1 as published, 0 gives 1 for every class.

    Returns:
        (K,) float64 weights, above 0.

    Raises:
        InvalidArgumentError: `class_pixels` is not one-dimensional.

    Example:
        >>> from pixelwise.losses import inverse_log_weights
        >>> inverse_log_weights([900, 99, 1]).round(2)
        array([ 1.53,  8.89, 48.12])
    """
    pixels = _to_counts("class_pixels", class_pixels)
    shares = pixels / max(pixels.sum(), 1)
    weights: npt.NDArray[np.float64] = np.where(pixels > 0, (1 / np.log(1.02 + shares)) ** power, 1.0)
    return weights


def _to_counts(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return (K,) float64 numbers of pixels, or raise InvalidArgumentError."""
    try:
        counts = np.asarray(values)
    except (TypeError, ValueError):  # lists of different lengths, tensors of a GPU
        counts = np.asarray(None)
    if counts.ndim != 1 or not counts.size or counts.dtype.kind not in "iuf" or not np.all(counts >= 0):
        raise InvalidArgumentError(f"{name} is {describe_value(values)}, but must be (K,) numbers of at least 0.")
    return counts.astype(np.float64)
