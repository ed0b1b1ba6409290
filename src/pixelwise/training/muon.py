"""The Muon optimizer, whose update of a kernel is a matrix with equal singular values."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from pixelwise.config import OptimizerConfig
from pixelwise.training.fsdp import gather_tensor, shard_like

MAX_SHORT_SIDE = 1024
"""Largest shorter side of a matrix that Muon orthogonalizes. The cost grows with its square: fc6 of FCN, 4096 x 25088,
would take 13 TFLOP per step, 50 times the cost of an image."""

MAX_BATCHED_VALUES = 2**16
"""Largest kernel whose products are computed in a batch with those of equal shape; larger ones gain nothing by it."""

STRIP_ROWS = 128
"""Rows of a symmetric product that are computed at once. Strips of half of them take longer than they save."""

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
            batches: dict[Any, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    is_small = parameter.numel() <= MAX_BATCHED_VALUES
                    key = (parameter.shape if is_small else parameter) if group["orthogonal"] else None
                    batches.setdefault(key, []).append(parameter)
            for parameters in batches.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, float]) -> None:
        """Update some parameters of a group; kernels with `orthogonal` have one shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = self._get_state(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))  # Nesterov
        rate = group["lr"]
        if group["orthogonal"]:
            updates = orthogonalize_kernels(updates, self.dtype)
        else:
            rate *= ADAM_LR_RATIO
            torch._foreach_div_(updates, self._compute_deviations(parameters, gradients))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-rate)

    def _get_state(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """Return an entry of the state of each parameter, which is 0 at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]

    def _compute_deviations(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return Adam's root of the mean squared gradient."""
        squares = self._get_state(parameters, "square")
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 0.01)
        corrections = []
        for parameter in parameters:
            steps = self.state[parameter]["steps"] = self.state[parameter].get("steps", torch.zeros(())) + 1
            corrections.append(1 - 0.99 ** steps.item())
        deviations = torch._foreach_sqrt(torch._foreach_div(squares, corrections))
        torch._foreach_add_(deviations, 1e-8)
        return list(deviations)


STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's a, b, c: a step maps a singular value s to a s + b s³ + c s⁵, so small ones grow fast."""
RESTART = 3
"""Number of steps in bfloat16 after which X Xᵀ is computed again. Rounding makes eigenvalues of 0 slightly negative,
and each step multiplies them by twelve; after three steps they are still below 1. In float32 all five steps have an
error of 1e-4."""


def orthogonalize_kernels(kernels: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return the orthogonal updates of kernels (C_out, C_in, k, k) of one shape, with products in `dtype`."""
    # Any order of the columns gives the same result; channels last, they are not copied.
    last = [gather_tensor(kernel).movedim(1, -1) for kernel in kernels]
    matrices = torch.empty(len(last), len(last[0]), last[0][0].numel(), dtype=dtype, device=last[0].device)
    torch._foreach_copy_(list(matrices), [kernel.reshape(len(kernel), -1) for kernel in last])
    scale = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
    # oneDNN multiplies a batch of one matrix more slowly than the matrix.
    orthogonal = orthogonalize(matrices.squeeze(0)).view(matrices.shape)
    updates = orthogonal.to(last[0].dtype).mul_(scale)
    return [
        shard_like(update.view(kernel.shape).movedim(-1, 1), like)
        for update, kernel, like in zip(updates, last, kernels, strict=True)
    ]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices (M, N) or (B, M, N) with nearly the same singular vectors and singular values near 1.

    Each of five Newton-Schulz steps multiplies X by a polynomial of G = X Xᵀ. The steps are computed on G, whose sides
    are the shorter side of X, and X is multiplied by their product. For a 3x3 kernel, nine times as wide as high, this
    takes less than half the arithmetic of steps on X, and it rounds less often in bfloat16.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for steps in (RESTART, STEPS - RESTART) if x.dtype == torch.bfloat16 else (STEPS,):
        x = _multiply_steps(_compute_gram(x), steps) @ x
    return x.mT if is_tall else x


def _compute_gram(x: Tensor) -> Tensor:
    """Return X Xᵀ for X (..., M, N). On a CPU, only half of this symmetric matrix is computed, in strips of rows."""
    rows = x.shape[-2]
    strip = STRIP_ROWS if x.is_cpu else rows
    gram = x.new_empty(*x.shape[:-1], rows)
    for start in range(0, rows, strip):
        end = min(start + strip, rows)
        gram[..., start:end, :end] = x[..., start:end, :] @ x[..., :end, :].mT
        gram[..., :start, start:end] = gram[..., start:end, :start].mT
    return gram


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
    multiply_add = torch.addmm if gram.ndim == 2 else torch.baddbmm
    factor: Tensor = multiply_add(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor
