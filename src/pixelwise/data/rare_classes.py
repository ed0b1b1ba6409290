"""Samples drawn for a rare class, and the pixel around which they are cropped.

Random crops rarely show a class with few pixels. nnU-Net therefore centers a third of its crops on foreground (Isensee
et al. 2021), and LVIS repeats images by the square root of the inverse class frequency (Gupta et al. 2019).
"""

from dataclasses import dataclass

import numpy as np

from pixelwise.data.io.images import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RareClassSampler:
    """Draws a class in proportion to the square root of its inverse frequency, then a sample that contains it."""

    fraction: float
    """Fraction of the samples that are drawn for a class."""
    probabilities: Array
    """(K,) float64 probability of each class; 0 for classes without pixels."""
    samples: tuple[Array, ...]
    """Class → (N_k,) indices of the samples that contain it."""

    def draw(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Return (sample, class) for the given fraction of calls, else None."""
        if rng.random() >= self.fraction:
            return None
        index = int(rng.choice(len(self.probabilities), p=self.probabilities))
        return int(rng.choice(self.samples[index])), index


def make_rare_class_sampler(class_pixels: Array, fraction: float) -> RareClassSampler:
    """Make the sampler from the pixels of each class in each sample, (N, K) integer."""
    totals = class_pixels.sum(0)
    weights = np.where(totals > 0, np.maximum(totals, 1), np.inf) ** -0.5
    present = tuple(np.flatnonzero(column) for column in class_pixels.T)
    return RareClassSampler(fraction=fraction, probabilities=weights / weights.sum(), samples=present)


def find_crop_center(labels: Array, index: int, rng: np.random.Generator) -> tuple[float, float] | None:
    """Return the middle (row, column) of a random pixel of a class in labels (H, W); None if the class has none.

    The first pixel of the image has the middle (0.5, 0.5).
    """
    places = np.flatnonzero(labels == index)
    if not len(places):
        return None
    row, column = divmod(int(rng.choice(places)), labels.shape[1])
    return row + 0.5, column + 0.5
