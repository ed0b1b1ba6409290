"""The optimizer, the learning rate schedule and weight averaging."""

import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pixelwise.config import OptimizerConfig, ScheduleConfig
from pixelwise.devices import Precision
from pixelwise.training.fsdp import get_local, is_sharded
from pixelwise.training.muon import ADAM_LR_RATIO, Muon


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    precision: Precision = "fp32",
    scales: Mapping[Tensor, float] = MappingProxyType({}),
    encoder: Iterable[Tensor] = (),
) -> torch.optim.Optimizer:
    """Build AdamW, SGD or Muon over the parameters that need a gradient.

    Biases, normalization and depthwise kernels get no weight decay, and Muon updates them by AdamW: the kernel of one
    channel is not a matrix. With `encoder_lr`, Muon also updates the encoder by AdamW: orthogonal updates undo what
    Adam or SGD learned (Qu et al., "Can Muon Fine-tune Adam-Pretrained Models?", 2026, arXiv:2605.10468).

    Args:
        model: the network.
        config: algorithm and its numbers.
        precision: arithmetic of the matrix products in Muon; weights and momentum stay float32.
        scales: factors on the learning rate by parameter, 1 if missing; stored in the groups as `lr_scale`.
        encoder: parameters that `encoder_lr` is for.
    """
    is_muon = config.name == "muon"
    own_rate = set(encoder) if config.encoder_lr else set()
    encoder_scale = (config.encoder_lr or 0.0) / (config.lr * (ADAM_LR_RATIO if is_muon else 1))
    depthwise = set(find_depthwise_kernels(model))
    members: dict[tuple[float, bool, bool], list[Tensor]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            scale = scales.get(parameter, 1.0) * (encoder_scale if parameter in own_rate else 1.0)
            is_kernel = parameter.ndim >= 2 and parameter not in depthwise
            members.setdefault((scale, is_kernel, is_kernel and parameter not in own_rate), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if is_kernel else 0.0,
            "lr_scale": scale,
            **({"orthogonal": is_orthogonal} if is_muon else {}),
        }
        for (scale, is_kernel, is_orthogonal), parameters in sorted(members.items(), key=lambda item: item[0])[::-1]
    ]
    if is_muon:
        return Muon(groups, config, torch.bfloat16 if precision == "bf16" else torch.float32)
    if config.name == "sgd":
        # PyTorch 2.14 has no fused SGD of sharded tensors.
        fused = not any(is_sharded(parameter) for group in groups for parameter in group["params"])
        return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.99), fused=True)


def find_depthwise_kernels(model: nn.Module) -> Iterator[Tensor]:
    """Yield the kernels of the convolutions that have one for each channel."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and 1 < module.groups == module.in_channels:
            yield module.weight


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale the gradients so that their global norm is at most `max_norm`."""
    weights = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    # On a CPU, comparing costs nothing, and multiplying by 1 reads and writes all gradients. NaN passes on.
    if norm.device.type != "cpu" or is_sharded(norm) or not norm <= max_norm:
        torch.nn.utils.clip_grads_with_norm_(weights, max_norm, norm)


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
