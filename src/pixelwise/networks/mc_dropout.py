"""Monte Carlo dropout: Kendall, Badrinarayanan, Cipolla, "Bayesian SegNet", BMVC 2017 (arXiv:1511.02680), after Gal,
Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016 (arXiv:1506.02142).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError


@torch.no_grad()
def sample_predictions(network: nn.Module, images: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return the mean of the class probabilities over passes with dropout, and their variance.

    The paper takes 50 samples, and finds that more than about 6 are better than one pass without dropout. The time is
    proportional to their number; the memory is not.

    Args:
        network: Maps images to logits (B, K, H, W); without dropout layers all passes are equal.
        images: (B, C, H, W).
        samples: Number of passes, at least 1.

    Returns:
        The mean softmax (B, K, H, W) float32, whose maximum is the prediction, and the variance (B, H, W) float32 over
        the samples (divided by their number), averaged over the classes.

    Raises:
        InvalidArgumentError: `samples` is below 1.
    """
    if samples < 1:
        raise InvalidArgumentError(f"samples is {samples}, but must be at least 1.")
    with enable_dropout_only(network):
        mean = network(images).float().softmax(1)
        # Welford's algorithm, because a difference of large sums would lose a small variance to rounding.
        squares = torch.zeros_like(mean)
        for number in range(2, samples + 1):
            probabilities = network(images).float().softmax(1)
            difference = probabilities - mean
            mean = mean + difference / number
            squares += difference * (probabilities - mean)
    return mean, (squares / samples).mean(1)


@contextmanager
def enable_dropout_only(network: nn.Module) -> Iterator[None]:
    """Put dropout layers into training mode and all others into evaluation mode, and restore the modes at the end."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, nn.Dropout)
        yield
    finally:
        for module, training in modes:
            module.training = training
