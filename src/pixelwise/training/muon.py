"""The Muon optimizer, whose update of a kernel is a matrix with equal singular values."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pixelwise.config import OptimizerConfig
from pixelwise.training.fsdp import gather_tensor, shard_like

MAX_SHORT_SIDE = 1024
"""Largest shorter side of a matrix that Muon orthogonalizes. The cost grows with its square: fc6 of FCN, 4096 x 25088,
would take 13 TFLOP per step, 50 times the cost of an image."""


ADAM_LR_RATIO = 0.1
"""Learning rate of the parameters that AdamW updates, as a fraction of that of Muon."""


def compute_shorter_side(kernel: Tensor) -> int:
    """Return the shorter side of a kernel as a (C_out, C_in k k) matrix."""
    return min(kernel.shape[0], kernel.numel() // kernel.shape[0])


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for the groups with `orthogonal`, AdamW for the others.

    Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. The update of a kernel, as a
    (C_out, C_in k k) matrix, is replaced by the nearest matrix with equal singular values, found by five Newton-Schulz
    steps. Kernels whose matrix is larger than `MAX_SHORT_SIDE` on both sides also use AdamW.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], config: OptimizerConfig, dtype: torch.dtype = torch.float32
    ) -> None:
        self.dtype = dtype
        split: list[dict[str, Any]] = []
        for group in groups:
            large = [p for p in group["params"] if group["orthogonal"] and compute_shorter_side(p) > MAX_SHORT_SIDE]
            others = [p for p in group["params"] if not any(p is kernel for kernel in large)]
            split += [{**group, "params": others}] if others else []
            split += [{**group, "params": large, "orthogonal": False}] if large else []
        super().__init__(split, {"lr": config.lr, "momentum": config.momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, float]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient, momentum = parameter.grad, state["momentum"]
        assert gradient is not None
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"])  # Nesterov
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if group["orthogonal"]:
            flat = gather_tensor(update).reshape(len(update), -1)
            scale = max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
            orthogonal = orthogonalize(flat.to(self.dtype)).to(flat.dtype).view(update.shape) * scale
            update = shard_like(orthogonal, update)
        else:
            if "square" not in state:
                state["square"] = torch.zeros_like(parameter)
                state["steps"] = torch.zeros(())
            state["steps"] += 1
            state["square"].lerp_(gradient.square(), 0.01)
            corrected = state["square"] / (1 - 0.99 ** state["steps"].item())
            update = ADAM_LR_RATIO * update / (corrected.sqrt() + 1e-8)
        parameter.sub_(update, alpha=group["lr"])


STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's a, b, c: a step maps a singular value s to a s + b s³ + c s⁵, so small ones grow fast."""
RESTART = 3
"""Number of steps after which X Xᵀ is computed again. Rounding makes eigenvalues of 0 slightly negative, and each step
multiplies them by twelve; after three steps they are still below 1 in bfloat16."""


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix (M, N) with nearly the same singular vectors and singular values near 1.

    Each of five Newton-Schulz steps multiplies X by a polynomial of G = X Xᵀ. The steps are computed on G, whose sides
    are the shorter side of X, and X is multiplied by their product. For a 3x3 kernel, nine times as wide as high, this
    takes less than half the arithmetic of steps on X, and it rounds less often in bfloat16.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for steps in (RESTART, STEPS - RESTART):
        x = _multiply_steps(x @ x.T, steps) @ x
    return x.T if tall else x


def _multiply_steps(gram: Tensor, steps: int) -> Tensor:
    """Return the product of the factors of `steps` steps, where `gram` is X Xᵀ."""
    product = factor = _compute_factor(gram)
    for _ in range(steps - 1):
        gram = factor @ (gram @ factor)  # polynomials of one matrix commute
        factor = _compute_factor(gram)
        product = factor @ product
    return product


def _compute_factor(gram: Tensor) -> Tensor:
    """Return a + b G + c G², the factor of one step."""
    a, b, c = COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor
