"""A network for prediction alone: its batch normalizations folded into the convolutions before them.

In evaluation mode a batch normalization multiplies each channel by a number and adds another. A
convolution can do both: its weights take the factors, its bias the rest. Jacob et al.,
"Quantization and Training of Neural Networks", CVPR 2018, section 3.2.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from pixelwise.devices import Precision
from pixelwise.networks.geometry.tracer import OpObserver, copy_to_meta, find_tensors
from pixelwise.shapes import Size

_CAST_BY_AUTOCAST = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def for_prediction(network: nn.Module, size: Size, *, channels: int, precision: Precision) -> nn.Module:
    """A copy in evaluation mode that gives the same logits, up to rounding, and takes fewer operators.

    Args:
        network: is not changed.
        size: (height, width) that it takes.
        channels: C of its images.
        precision: with "bf16" the copy's layers hold what autocast would make of their weights at
            each call: the results are the same bit for bit.
    """
    folded = copy.deepcopy(network).eval()
    for pair in consecutive_pairs(network, size, channels=channels):
        _fold(folded, pair)
    if precision == "bf16":
        for module in folded.modules():
            if type(module) in _CAST_BY_AUTOCAST:
                module.to(torch.bfloat16)
    return folded.requires_grad_(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A convolution and the normalization that alone uses its output, by their names in the network."""

    convolution: str
    normalization: str


def consecutive_pairs(network: nn.Module, size: Size, *, channels: int) -> list[Pair]:
    """What can be folded, seen from a run without data: the order of modules tells nothing.

    Modules that run twice, or share their weights, are left out.
    """
    skeleton = copy_to_meta(network)
    uses = _Uses(skeleton)
    with torch.inference_mode(), uses:
        output = skeleton(torch.empty(1, channels, *size, device="meta"))
    return list(uses.pairs(output))


class _Uses(OpObserver):  # type: ignore[no-untyped-call]
    """Counts, while it is active, what uses the convolutions and their outputs."""

    def __init__(self, skeleton: nn.Module) -> None:
        super().__init__()
        modules = dict(skeleton.named_modules(remove_duplicate=False))
        convolutions = {name: m for name, m in modules.items() if isinstance(m, nn.Conv2d)}
        self._owners = {id(m.weight): name for name, m in convolutions.items()}
        norms = {name: m for name, m in modules.items() if _without_scaling(m) is not None}
        self._owners |= {id(m.running_mean): name for name, m in norms.items()}
        self._calls: dict[str, int] = {}
        # By identity; each tensor is kept, so that no other can take its id. Meta tensors hold no data.
        self._made: dict[int, tuple[Tensor, str]] = {}
        self._used_by: dict[int, list[str | None]] = {}

    def pairs(self, output: Tensor) -> Iterator[Pair]:
        """Of a run that gave `output`."""
        for made, (tensor, convolution) in self._made.items():
            users = self._used_by.get(made, [])
            normalization = users[0] if len(users) == 1 else None
            once = all(self._calls.get(name or "") == 1 for name in (convolution, normalization))
            if normalization and once and tensor is not output:
                yield Pair(convolution=convolution, normalization=normalization)

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        tensors = find_tensors((args, kwargs))
        owner = next((self._owners[id(tensor)] for tensor in tensors if id(tensor) in self._owners), None)
        if owner:
            self._calls[owner] = self._calls.get(owner, 0) + 1
        is_normalization = func._schema.name == "aten::batch_norm"
        for tensor in tensors:
            if id(tensor) in self._made:
                self._used_by.setdefault(id(tensor), []).append(owner if is_normalization else None)
        if owner and func._schema.name.startswith("aten::conv"):
            self._made[id(result)] = result, owner


def _fold(network: nn.Module, pair: Pair) -> None:
    convolution, normalization = (network.get_submodule(name) for name in (pair.convolution, pair.normalization))
    rest = _without_scaling(normalization)
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(normalization, nn.BatchNorm2d)
    assert rest is not None
    scale, shift = _scale_and_shift(normalization)
    if convolution.bias is not None:
        shift = shift + scale * _exact(convolution.bias)
    weight = _exact(convolution.weight) * scale[:, None, None, None]
    kind, memory_format = convolution.weight, torch.channels_last
    convolution.weight = nn.Parameter(weight.to(kind.dtype).to(kind.device, memory_format=memory_format))
    convolution.bias = nn.Parameter(shift.to(kind.dtype).to(kind.device))
    network.set_submodule(pair.normalization, rest)


def _scale_and_shift(normalization: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a normalization multiplies each channel by and adds to it."""
    assert normalization.running_mean is not None
    assert normalization.running_var is not None
    scale = (_exact(normalization.running_var) + normalization.eps).rsqrt()
    if normalization.weight is not None:
        scale = scale * _exact(normalization.weight)
    shift = -_exact(normalization.running_mean) * scale
    return scale, shift if normalization.bias is None else shift + _exact(normalization.bias)


def _exact(tensor: Tensor) -> Tensor:
    """In float64, so that one rounding is left; on the CPU, as not every device has it."""
    return tensor.detach().cpu().double()


def _without_scaling(module: nn.Module) -> nn.Module | None:
    """What a batch normalization does besides; None of a module that is none, or has no statistics."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return None
    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    # timm's holds the activation that follows; its package takes seconds to import.
    if type(module).__name__ == "BatchNormAct2d":
        return nn.Sequential(module.get_submodule("drop"), module.get_submodule("act"))
    return None
