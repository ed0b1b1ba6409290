"""Class weights from how often the classes occur."""

import numpy as np
import numpy.typing as npt

from pixelwise.errors import InvalidArgumentError


def median_frequency_weights(
    class_pixels: npt.ArrayLike, image_pixels: npt.ArrayLike, power: float = 1.0
) -> npt.NDArray[np.float64]:
    """Class weights ``(median f / f_c) ** power`` (median frequency balancing, Eigen & Fergus 2015).

    ``f_c = class_pixels[c] / image_pixels[c]``: the pixels of class c over all pixels (ignored ones
    too) of the images in which c occurs, so that a class is not called rare for occurring in few
    images. The median is over the classes that occur. A class that never occurs gets weight 1: no
    pixel of it will ever be weighted.

    Args:
        class_pixels: (K,) pixels of each class in the training set.
        image_pixels: (K,) total pixels of the training images in which each class occurs.
        power: 1 balances fully, 0 not at all, 0.5 is a common middle.

    Raises:
        InvalidArgumentError: unequal lengths, or a class with more pixels than its images have.
    """
    pixels, totals = np.asarray(class_pixels, np.float64), np.asarray(image_pixels, np.float64)
    if pixels.shape != totals.shape or pixels.ndim != 1:
        raise InvalidArgumentError(f"class_pixels {pixels.shape} and image_pixels {totals.shape} must both be (K,).")
    if np.any(pixels > totals):
        raise InvalidArgumentError(
            f"class {int(np.argmax(pixels > totals))} has more pixels than the images it occurs in; "
            "image_pixels counts all pixels of those images."
        )
    weights, occurs = np.ones_like(pixels), pixels > 0
    if occurs.any():
        frequencies = pixels[occurs] / totals[occurs]
        weights[occurs] = (np.median(frequencies) / frequencies) ** power
    return weights


def inverse_log_weights(class_pixels: npt.ArrayLike, power: float = 1.0) -> npt.NDArray[np.float64]:
    """Class weights ``(1 / ln(1.02 + p_c)) ** power`` (ENet, Paszke et al. 2016, arXiv 1606.02147).

    ``p_c`` is the share of class c among all labeled pixels. The weights lie between 1.4, of a class
    that has all pixels, and 50.5; unlike those of median frequencies they have a ceiling, so that a
    class of hardly any pixels cannot rule the loss. A class that never occurs gets weight 1: no pixel
    of it will ever be weighted.

    Args:
        class_pixels: (K,) pixels of each class in the training set.
        power: 1 as published, 0 all weights 1.

    Raises:
        InvalidArgumentError: not one number a class.
    """
    pixels = np.asarray(class_pixels, np.float64)
    if pixels.ndim != 1:
        raise InvalidArgumentError(f"class_pixels must be (K,), not {pixels.shape}.")
    shares = pixels / max(pixels.sum(), 1)
    weights: npt.NDArray[np.float64] = np.where(pixels > 0, (1 / np.log(1.02 + shares)) ** power, 1.0)
    return weights
