"""Optimize a network for inference: fuse batch normalizations into the convolutions before them.

In evaluation mode, a batch normalization is a factor and an offset per channel, which the convolution can include.
Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, section 3.2.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from pixelwise.devices import Precision
from pixelwise.networks.geometry.tracer import find_tensors
from pixelwise.shapes import Size

ConvNormPair = tuple[str, str]
"""A convolution whose output is used only by a normalization, and the normalization, both given by name."""

_CAST_BY_AUTOCAST = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def optimize_for_inference(network: nn.Module, size: Size, *, channels: int, precision: Precision) -> nn.Module:
    """Return a copy in evaluation mode with fewer operators and, up to rounding, the same logits.

    Args:
        size: (height, width) that the network takes.
        channels: channels of its images.
        precision: with "bf16", the layers store the weights to which autocast would convert them in each call, so the
            results are equal bit for bit.
    """
    optimized = copy.deepcopy(network).eval()
    for pair in find_fusible_pairs(optimized, size, channels=channels):
        _fuse(optimized, pair)
    if precision == "bf16":
        for module in optimized.modules():
            if type(module) in _CAST_BY_AUTOCAST:
                module.to(torch.bfloat16)
    return optimized.requires_grad_(False)


def find_fusible_pairs(network: nn.Module, size: Size, *, channels: int) -> list[ConvNormPair]:
    """Find the pairs that can be fused, by a run on one image: the order of the modules is not reliable.

    Modules that run twice or share their weights are excluded.

    Args:
        network: in evaluation mode, in float32.
        size: (height, width) that the network takes; a small one takes milliseconds.
        channels: channels of its images.
    """
    uses = _ConvolutionUses(network)
    device = next((parameter.device for parameter in network.parameters()), None)
    image = torch.zeros(1, channels, *size, device=device)
    with torch.inference_mode(), uses:
        output = network(image)
    return list(uses.find_pairs(output))


class _ConvolutionUses(TorchFunctionMode):
    """Records, while it is active, which functions use the convolutions and their outputs.

    It sees calls in Python. A mode that sees the operators below them would import torch._dynamo, which takes seconds.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        modules = dict(network.named_modules(remove_duplicate=False))
        convolutions = {name: m for name, m in modules.items() if isinstance(m, nn.Conv2d)}
        self._owners = {id(m.weight): name for name, m in convolutions.items()}
        norms = {name: m for name, m in modules.items() if _find_replacement(m) is not None}
        self._owners |= {id(m.running_mean): name for name, m in norms.items()}
        self._calls: dict[str, int] = {}
        # By id; the tensors are kept so that ids stay unique.
        self._outputs: dict[int, tuple[Tensor, str]] = {}
        self._used_by: dict[int, list[str | None]] = {}

    def find_pairs(self, output: Tensor) -> Iterator[ConvNormPair]:
        """Yield the pairs that can be fused, given what was recorded while the network computed `output`."""
        for number, (tensor, convolution) in self._outputs.items():
            users = self._used_by.get(number, [])
            normalization = users[0] if len(users) == 1 else None
            is_single = all(self._calls.get(name or "") == 1 for name in (convolution, normalization))
            if normalization and is_single and tensor is not output:
                yield convolution, normalization

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if find_tensors(result):  # not a shape or a type
            self._record(func, find_tensors((args, kwargs)), result)
        return result

    def _record(self, func: Any, tensors: list[Tensor], result: Any) -> None:
        owner = next((self._owners[id(tensor)] for tensor in tensors if id(tensor) in self._owners), None)
        if owner:
            self._calls[owner] = self._calls.get(owner, 0) + 1
        is_normalization = func in (functional.batch_norm, torch.batch_norm)
        for tensor in tensors:
            if id(tensor) in self._outputs:
                self._used_by.setdefault(id(tensor), []).append(owner if is_normalization else None)
        if owner and func is torch.conv2d:
            self._outputs[id(result)] = result, owner


def _fuse(network: nn.Module, pair: ConvNormPair) -> None:
    convolution, norm = map(network.get_submodule, pair)
    replacement = _find_replacement(norm)
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert replacement is not None
    # In float64, so that there is only one rounding; on the CPU, because not every device has float64.
    tensors = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    exact: list[Any] = [None if tensor is None else tensor.detach().cpu().double() for tensor in tensors]
    weight, bias, mean, variance, factor, offset = exact
    weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, factor, offset)
    like = convolution.weight
    convolution.weight = nn.Parameter(weight.to(like.dtype).to(like.device, memory_format=torch.channels_last))
    convolution.bias = nn.Parameter(bias.to(like.dtype).to(like.device))
    network.set_submodule(pair[1], replacement)


def _find_replacement(module: nn.Module) -> nn.Module | None:
    """Return what replaces a fused batch normalization; None for other modules, and without running statistics."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return None
    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    # The class of timm includes the activation. Importing timm takes seconds.
    if type(module).__name__ == "BatchNormAct2d":
        return nn.Sequential(module.get_submodule("drop"), module.get_submodule("act"))
    return None
