"""A network as a list of operators that can be run strip by strip: one run without data, written down.

Which rows an operator reads is said by the rules of `networks/geometry/op_rules.py`, so only what geometry knows is
recorded; how it is run on some rows, by `row_operations.py`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.tiling.row_ops import MapNumber, Shape, Step, form_of
from pixelwise.inference.tiling.row_streaming import Program
from pixelwise.networks.geometry.op_rules import SHAPE_ONLY, Call, Map, dependence
from pixelwise.networks.geometry.tracer import OpObserver, bind, copy_to_meta, find_tensors, is_global
from pixelwise.shapes import Size


def record(network: nn.Module, size: Size, *, channels: int) -> Program:
    """Runs the network once without data and writes down its steps.

    Args:
        network: ready for prediction; the program uses its weights.
        size: (height, width) that it takes.
        channels: C of its images.

    Raises:
        InvalidArgumentError: an operator that geometry does not know, or that cannot be run on some rows.
    """
    skeleton = copy_to_meta(network)
    weights = _by_name(network)
    recorder = _Recorder({id(tensor): weights[name] for name, tensor in _by_name(skeleton).items()})
    with torch.inference_mode():
        image = torch.empty(1, channels, *size, device="meta").contiguous(memory_format=torch.channels_last)
        recorder.number(image, Map())
        with recorder:
            output = skeleton(image)
    found = recorder.number_of(output)
    return Program(tuple(_needed(recorder.steps, found)), tuple(recorder.shapes), found)


def _needed(steps: Sequence[Step], output: int) -> list[Step]:
    """Without those that nothing reads: what they would read could never be freed."""
    wanted, needed = {output}, []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(step.inputs)
            needed.append(step)
    return needed[::-1]


def _by_name(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


class _Recorder(OpObserver):  # type: ignore[no-untyped-call]
    """Numbers the maps and keeps a step for each operator that makes one.

    Args:
        weights: the network's own, by the identity of their stand-ins without data.
    """

    def __init__(self, weights: dict[int, Tensor]) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.shapes: list[Shape] = []
        self._weights = weights
        # By identity; each tensor is kept, so that no other can take its id. Meta tensors hold no data.
        self._maps: dict[int, tuple[Tensor, Map, int]] = {}
        self._derived: list[Tensor] = []

    def number(self, tensor: Tensor, followed: Map) -> int:
        """Takes a map in; its rows are counted from here on in its own."""
        index = len(self.shapes)
        self.shapes.append(Shape(tuple(tensor.shape), followed.dims[0]))
        self._maps[id(tensor)] = tensor, Map(dims=followed.dims), index
        return index

    def number_of(self, tensor: Tensor) -> int:
        if id(tensor) not in self._maps:
            raise InvalidArgumentError("the network's output is no map that lies on the image.")
        return self._maps[id(tensor)][2]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        arguments, outputs = bind(func, args, kwargs), find_tensors(result)
        inputs = find_tensors(list(arguments.values()))
        maps = [self._maps[id(tensor)] for tensor in inputs if id(tensor) in self._maps]
        filled = tree_map(self._stand_in, arguments)
        if func._schema.is_mutable:
            self._require_alone(func, arguments["self"] if "self" in arguments else outputs[0])
        if maps:
            self._add_step(func, filled, maps, arguments, outputs)
        elif inputs:  # of weights alone: the result is one as well
            self._weights.update(zip(map(id, outputs), find_tensors(func(**filled)), strict=True))
            self._derived += outputs

    def _add_step(
        self,
        func: OpOverload,
        filled: dict[str, Any],
        maps: Sequence[tuple[Tensor, Map, int]],
        arguments: dict[str, Any],
        outputs: Sequence[Tensor],
    ) -> None:
        first, followed, number = maps[0]
        call = Call(
            name=func._schema.name,
            arguments=arguments,
            maps=[(tensor, lies) for tensor, lies, _ in maps],
            constants=[tensor for tensor in find_tensors(list(arguments.values())) if id(tensor) not in self._maps],
            output=outputs[0],
            image=(first.shape[followed.dims[0]], first.shape[followed.dims[1]]),
        )
        found = dependence(call, pointwise=torch.Tag.pointwise in func.tags)
        given = self.shapes[number]
        other_heights = len({self.shapes[index].rows for _, _, index in maps}) > 1
        if found is None or is_global(call, found) or call.name in SHAPE_ONLY or other_heights:
            raise InvalidArgumentError(f"{call.name} is not run on some rows of a map.")
        made = tuple(self.number(output, found) for output in outputs)
        self.steps.append(
            Step(
                function=_in_new_memory(func),
                arguments=filled,
                inputs=tuple(dict.fromkeys(index for _, _, index in maps)),
                outputs=made,
                axis=found.axes[0],
                given=given,
                made=self.shapes[made[0]],
                form=form_of(call.name, arguments, given),
            )
        )

    def _require_alone(self, func: OpOverload, written: Tensor) -> None:
        """An operator that writes over its input is run as one that does not; so nothing else may lie there."""
        name = func._schema.name
        others = (tensor for tensor, _, _ in self._maps.values() if tensor is not written)
        block = written.untyped_storage()._cdata
        if (
            not name.endswith("_")
            or id(written) not in self._maps
            or any(other.untyped_storage()._cdata == block for other in others)
        ):
            raise InvalidArgumentError(f"{name} writes where something else is read.")

    def _stand_in(self, argument: Any) -> Any:
        """The place of a map, and a weight itself."""
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) in self._maps:
            return MapNumber(self._maps[id(argument)][2])
        if id(argument) not in self._weights:
            raise InvalidArgumentError("the network makes a tensor that is neither a map nor a weight.")
        return self._weights[id(argument)]


def _in_new_memory(func: OpOverload) -> OpOverload:
    """The operator that gives what this one writes over its input: others may still read that."""
    name, overload = func._schema.name.split("::")[1], func._overloadname
    if not name.endswith("_"):
        return func
    found: OpOverload = getattr(getattr(torch.ops.aten, name[:-1]), overload)
    return found
