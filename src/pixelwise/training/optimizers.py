"""The optimizer, the learning rate schedule and weight averaging."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pixelwise.config import OptimizerConfig, ScheduleConfig
from pixelwise.devices import Precision
from pixelwise.training.fsdp import get_local, is_sharded
from pixelwise.training.muon import Muon


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    precision: Precision = "fp32",
    scales: Mapping[Tensor, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Build AdamW, SGD or Muon over the parameters that need a gradient.

    Args:
        model: the network; weight decay is not applied to its biases and normalization.
        config: algorithm and its numbers.
        precision: arithmetic of the matrix products in Muon; weights and momentum stay float32.
        scales: factors on the learning rate by parameter, 1 if missing; stored in the groups as `lr_scale`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for scale in sorted({scales.get(p, 1.0) for p in trained}, reverse=True):
        members = [p for p in trained if scales.get(p, 1.0) == scale]
        groups += [
            {"params": [p for p in members if p.ndim >= 2], "weight_decay": config.weight_decay, "lr_scale": scale},
            {"params": [p for p in members if p.ndim < 2], "weight_decay": 0.0, "lr_scale": scale},
        ]
    groups = [group for group in groups if group["params"]]
    if config.name == "muon":
        return Muon(groups, config, torch.bfloat16 if precision == "bf16" else torch.float32)
    if config.name == "sgd":
        fused = not any(is_sharded(p) for p in trained)  # PyTorch 2.14 has no fused SGD of sharded tensors
        return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.99), fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


ONE_CYCLE_START = 1 / 25
"""Learning rate at the start of the one-cycle schedule, as a fraction of the peak; 25 as in fastai and PyTorch."""


def compute_lr_factor(progress: float, config: ScheduleConfig) -> float:
    """Return the learning rate as a fraction of the peak, at `progress` in [0, 1]."""
    peak_at = config.pct_start if config.name == "one_cycle" else 0.0
    start = ONE_CYCLE_START if peak_at else 1.0
    if progress < config.warmup:
        # Not from 0, which would waste the first step.
        return start * (0.01 + 0.99 * progress / config.warmup)
    done = min(1.0, (progress - config.warmup) / (1 - config.warmup))
    if done < peak_at:  # Smith, "Super-convergence", 2018; with cosines, as in fastai
        return start + (1 - start) * (0.5 - 0.5 * math.cos(math.pi * done / peak_at))
    left = (1 - done) / (1 - peak_at)
    cosine = 0.5 - 0.5 * math.cos(math.pi * left)
    shape = {
        "cosine": cosine,
        "poly": math.pow(left, 0.9),
        "linear": left,
        "one_cycle": cosine,
        "constant": 1.0,
    }[config.name]
    return config.final_lr_ratio + (1 - config.final_lr_ratio) * shape


def compute_resolution(progress: float, config: ScheduleConfig) -> float:
    """Return the sample size as a fraction of the crop, in steps of 1/8 so that sizes repeat."""
    if config.full_scale_from == 0 or progress >= config.full_scale_from:
        return 1.0
    grown = config.start_scale + (1 - config.start_scale) * progress / config.full_scale_from
    return min(1.0, math.floor(grown * 8) / 8) if config.start_scale < 1 else 1.0


class AveragedWeights:
    """Exponential moving average of weights and batch statistics.

    Its time constant is a fraction of the run, so that short and long runs average over the same part of it.
    """

    def __init__(self, model: nn.Module, time_constant: float) -> None:
        self.time_constant = time_constant
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, progress_of_step: float) -> None:
        """Update after an optimizer step, which took `progress_of_step` of the run."""
        keep = math.exp(-max(progress_of_step, 0.0) / self.time_constant) if self.time_constant else 0.0
        # At the start nearly a plain mean, to forget the initial weights fast.
        keep = min(keep, (step + 1) / (step + 10))
        current = model.state_dict()
        averaged = [get_local(t) for t in self.state.values() if t.is_floating_point()]
        newest = [get_local(current[n]) for n, t in self.state.items() if t.is_floating_point()]
        torch._foreach_lerp_(averaged, newest, 1 - keep)
        for name, tensor in self.state.items():
            if not tensor.is_floating_point():
                tensor.copy_(current[name])
