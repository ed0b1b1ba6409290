"""Trace the receptive fields of all tensors inside a network.

The network runs once on tensors without data (the meta device), and a dispatch mode observes each PyTorch operator
with its arguments. No graph is captured: tracing takes 10 to 100 ms, while `torch.export` takes seconds.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.op_rules import SHAPE_ONLY, FeatureMap, OpCall, is_global, trace_op
from pixelwise.shapes import Size


def copy_to_meta(network: nn.Module) -> nn.Module:
    """Return a float32 copy in evaluation mode on the meta device, which has all layers and shapes but no weights."""
    # `deepcopy` does not copy tensors that are already in its memo, so the weights are never copied.
    memo: dict[int, Tensor] = {id(b): b.to("meta") for b in network.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, memo).float().eval()


class OpObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager that calls `on_op` after each PyTorch operator inside the block.

    Use it under `torch.inference_mode`. Elsewhere PyTorch decomposes convolutions, normalizations and linear layers
    before a dispatch mode sees them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Handle one operator, its arguments and its result."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.on_op(func, args, kwargs or {}, result)
        return result


def find_tensors(values: Any) -> list[Tensor]:
    """Return all tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Tracer(OpObserver):  # type: ignore[no-untyped-call]
    """An observer that traces `image` (B, C, H, W) through all operators inside the block.

    Attributes:
        global_ops: The operators whose result depends on the whole image, such as "aten::group_norm".
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.global_ops: list[str] = []
        self._image_size: Size = (image.shape[2], image.shape[3])
        # Keyed by id. The tensors are kept so that ids stay unique; meta tensors take no memory.
        self._traced: dict[int, tuple[Tensor, FeatureMap | None]] = {id(image): (image, FeatureMap())}

    def get_map(self, tensor: Tensor) -> FeatureMap | None:
        """Return what is known of a tensor; None where its dimensions do not correspond to the image's."""
        return self._traced.get(id(tensor), (tensor, None))[1]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Trace one operator."""
        arguments = _bind_arguments(func, args, kwargs)
        inputs, outputs = find_tensors(list(arguments.values())), find_tensors(result)
        traced = [self._traced[id(tensor)] for tensor in inputs if id(tensor) in self._traced]
        if not traced or not outputs or func._schema.name in SHAPE_ONLY:
            return
        maps = [(tensor, feature_map) for tensor, feature_map in traced if feature_map]
        output_map = None
        if maps:
            call = OpCall(
                name=func._schema.name,
                arguments=arguments,
                maps=maps,
                constants=[tensor for tensor in inputs if id(tensor) not in self._traced],
                output=outputs[0],
                image_size=self._image_size,
            )
            output_map = self._trace(call, is_pointwise=torch.Tag.pointwise in func.tags)
        self._traced.update({id(output): (output, output_map) for output in outputs})

    def _trace(self, call: OpCall, *, is_pointwise: bool) -> FeatureMap | None:
        try:
            output_map = trace_op(call, is_pointwise=is_pointwise)
        except InvalidArgumentError as error:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor, _ in call.maps)
            raise InvalidArgumentError(f"{call.name} on {shapes} {error}") from None
        if output_map is None or is_global(call):
            self.global_ops.append(call.name)
        return output_map


def _bind_arguments(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, with the defaults of the operator's schema."""
    parameters = func._schema.arguments
    defaults = {parameter.name: parameter.default_value for parameter in parameters}
    return {**defaults, **{p.name: value for p, value in zip(parameters, args, strict=False)}, **kwargs}
