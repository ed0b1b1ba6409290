"""Monte Carlo dropout: Kendall, Badrinarayanan, Cipolla, "Bayesian SegNet", BMVC 2017
(arXiv 1511.02680); the idea: Gal and Ghahramani, ICML 2016.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError


@torch.no_grad()
def sample_predictions(network: nn.Module, images: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The mean of the class probabilities over passes with dropout on, and how much they vary.

    The paper takes 50 samples and finds that more than about 6 beat a pass without dropout. Each
    costs a pass; memory does not grow with their number.

    Args:
        network: (B, C, H, W) → logits (B, K, H, W); without dropout layers all passes are alike.
        images: (B, C, H, W).
        samples: number of passes, at least 1.

    Returns:
        The mean softmax (B, K, H, W) float32, whose largest is the prediction, and the variance
        (B, H, W) float32 over the samples (divided by their number), averaged over the classes.
    """
    if samples < 1:
        raise InvalidArgumentError(f"samples is {samples}; predicting needs at least 1.")
    with enable_dropout_only(network):
        mean = network(images).float().softmax(1)
        # Welford's update: a difference of large sums would lose a small variance to rounding.
        squares = torch.zeros_like(mean)
        for number in range(2, samples + 1):
            probabilities = network(images).float().softmax(1)
            difference = probabilities - mean
            mean = mean + difference / number
            squares += difference * (probabilities - mean)
    return mean, (squares / samples).mean(1)


@contextmanager
def enable_dropout_only(network: nn.Module) -> Iterator[None]:
    """Dropout as in training, all else (batch normalization) as in evaluation; restored at the end."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, nn.Dropout)
        yield
    finally:
        for module, training in modes:
            module.training = training
