"""Follows an image through a network and keeps, for each value, what it depends on.

The network runs once on tensors without data (the meta device), and a dispatch mode sees each of
PyTorch's operators with its arguments. This needs no graph capture: tracing a network takes as long
as a forward pass without arithmetic, 10 to 100 ms, where `torch.export` takes seconds.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.op_rules import RULES, SHAPE_ONLY, Call, Followed, Map, dependence
from pixelwise.shapes import Size


def copy_to_meta(network: nn.Module) -> nn.Module:
    """A float32 copy in evaluation mode on the meta device: every layer and shape, and no weights."""
    # What `deepcopy` finds in its memo it takes for already copied, so the weights never are.
    memo: dict[int, Tensor] = {id(b): b.to("meta") for b in network.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, memo).float().eval()


class OpObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, is shown each of PyTorch's operators once it has run.

    Under `torch.inference_mode`, where operators arrive whole: elsewhere PyTorch takes convolutions,
    normalizations and linear layers apart before a mode can see them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """An operator, what it was given and what it gave."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.on_op(func, args, kwargs or {}, result)
        return result


def find_tensors(values: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts, in their order."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Tracer(OpObserver):  # type: ignore[no-untyped-call]
    """While it is active, follows `image` (B, C, H, W) through all operators."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.global_operations: list[str] = []
        self._size: Size = (image.shape[2], image.shape[3])
        # By identity; each tensor is kept, so that no other can take its id. Meta tensors hold no data.
        self._followed: dict[int, tuple[Tensor, Followed]] = {id(image): (image, Map())}

    def map_of(self, tensor: Tensor) -> Followed:
        return self._followed.get(id(tensor), (tensor, None))[1]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        arguments = bind(func, args, kwargs)
        inputs, outputs = find_tensors(list(arguments.values())), find_tensors(result)
        followed = [self._followed[id(tensor)] for tensor in inputs if id(tensor) in self._followed]
        if followed and outputs and func._schema.name not in SHAPE_ONLY:
            call = Call(
                name=func._schema.name,
                arguments=arguments,
                maps=[(tensor, found) for tensor, found in followed if found],
                constants=[tensor for tensor in inputs if id(tensor) not in self._followed],
                output=outputs[0],
                image=self._size,
            )
            found = self._apply(call, torch.Tag.pointwise in func.tags) if call.maps else None
            self._followed.update({id(output): (output, found) for output in outputs})

    def _apply(self, call: Call, pointwise: bool) -> Followed:
        try:
            found = dependence(call, pointwise=pointwise)
        except InvalidArgumentError as error:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor, _ in call.maps)
            raise InvalidArgumentError(f"{call.name} on {shapes} {error}") from None
        if is_global(call, found):
            self.global_operations.append(call.name)
        return found


def is_global(call: Call, found: Followed) -> bool:
    """Whether an operator whose dependence was `found` mixes all pixels, or differs from place to place."""
    return found is None or _normalizes_maps(call) or _depends_on_place(call)


def _normalizes_maps(call: Call) -> bool:
    """Normalizations over the whole image. Over the channels of each pixel they are local (ConvNeXt)."""
    match call.name:
        case "aten::batch_norm":
            return bool(call.arguments["training"])
        case "aten::layer_norm":
            last = call.maps[0][0].dim()
            return max(call.map.dims) >= last - len(call.arguments["normalized_shape"])
    return call.name in ("aten::group_norm", "aten::instance_norm")


def _depends_on_place(call: Call) -> bool:
    """Joined with something that differs from pixel to pixel, such as an embedding of positions."""
    if call.name in RULES and call.name not in ("aten::cat", "aten::stack"):
        return False  # its constants are weights
    tensor, followed = call.maps[0]
    places = [dim - tensor.dim() for dim in followed.dims]
    return any(constant.shape[place] > 1 for constant in call.constants for place in places if constant.dim() >= -place)


def bind(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, with the defaults of the operator's schema."""
    parameters = func._schema.arguments
    defaults = {parameter.name: parameter.default_value for parameter in parameters}
    return {**defaults, **{p.name: value for p, value in zip(parameters, args, strict=False)}, **kwargs}
