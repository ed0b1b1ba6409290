"""The border weights of U-Net (Ronneberger et al. 2015, equation 2): thin gaps between cells count more."""

import cv2
import numpy as np
import numpy.typing as npt

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError


def border_weights(
    labels: Array, *, ignore_index: int, background: int = 0, w0: float = 10.0, sigma: float = 5.0
) -> npt.NDArray[np.float32]:
    """Weight of each pixel in the loss: ``1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` on background, else 1.

    d1 and d2 are the distances of a background pixel to the nearest and to the second nearest cell, in
    pixels from center to center: both are 1 in the middle of a gap of one pixel. A cell is a connected
    region of foreground, that is of any class but background and of no ignored pixel. Regions that
    touch only at corners are two cells, as two sides of a slanting gap of one pixel are. Where there
    are fewer than two cells, nothing separates them and all weights are 1. Ignored pixels have weight
    1; it is the loss that leaves them out.

    The paper's balance of the classes, w_c, is the loss's ``class_weights``. They multiply these
    weights; with ``w0`` divided by the background's class weight, the product on background is the
    paper's sum ``w_c + w0 exp(...)``.

    Costs two distance transforms of the image for each bit of the number of cells: O(H W log cells).

    Args:
        labels: (H, W), any integer dtype.
        ignore_index: the label of pixels that belong neither to a cell nor to the background.
        background: the class between the cells.
        w0: what is added where two cells all but touch.
        sigma: decay, in pixels. Everywhere in a straight gap of g pixels d1 + d2 is g + 1: with 5, the
            gap counts 0.92 w0 more at 1 pixel and 0.09 w0 more at 10.

    Returns:
        (H, W) float32, at least 1.

    Raises:
        InvalidArgumentError: labels that are not (H, W), or a sigma that is not positive.
    """
    if labels.ndim != 2:
        raise InvalidArgumentError(
            f"labels must be (H, W), not {labels.shape}; weigh the images of a batch one by one."
        )
    if not sigma > 0:
        raise InvalidArgumentError(f"sigma is {sigma}, but must be a positive number of pixels.")
    between = labels == background
    weights = np.ones(labels.shape, np.float32)
    foreground = ~between & (labels != ignore_index)
    count, cells = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=4)
    if count > 2:  # number 0 is what is no cell
        nearest, second = _two_distances(cells, count - 1)
        weights[between] += w0 * np.exp(-((nearest + second)[between] ** 2) / (2 * sigma**2))
    return weights


def _two_distances(cells: Array, num_cells: int) -> tuple[Array, Array]:
    """(H, W) distances to the nearest and to the second nearest of the cells 1..num_cells, at least two.

    Each bit of their numbers parts the cells in two. The nearest cell lies in the nearer part; the
    farther part holds none but others, and any other cell differs from the nearest in some bit: the
    second distance is the smallest of the farther ones.
    """
    numbers = np.arange(num_cells)
    second = np.full(cells.shape, np.inf, np.float32)
    for bit in range((num_cells - 1).bit_length()):
        part = numbers >> bit & 1
        zeros, ones = _distance_to(cells, part == 0), _distance_to(cells, part == 1)
        nearest = np.minimum(zeros, ones)
        second = np.minimum(second, np.maximum(zeros, ones))
    return nearest, second


def _distance_to(cells: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    """(H, W) distance to the nearest pixel of a cell whose number less one is `chosen`."""
    elsewhere = np.concatenate([[True], ~chosen]).astype(np.uint8)[cells]
    distance: Array = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
