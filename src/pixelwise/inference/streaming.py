"""A network that takes an image strip by strip, each layer keeping the rows that its next strip needs.

Tiles compute what lies in their halos again. Here nothing is computed twice: rows of the image go in at the
top, and each layer computes the rows that became possible and no more. What later rows still need is kept,
all else is freed: memory grows with the width of the image and with the halo, not with the height, and the
maps of a strip are small enough for a processor's caches. Hardware knows it as line buffers, and as layer
fusion (Alwani et al., "Fused-Layer CNN Accelerators", MICRO 2016).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from pixelwise.errors import RequestError
from pixelwise.inference.row_operations import MapNumber, Rows, Shape, Step, form_of
from pixelwise.networks.geometry import skeleton_of
from pixelwise.networks.operations import SHAPES_ALONE, Call, Map, dependence
from pixelwise.networks.tracing import bind
from pixelwise.networks.watching import Watching, tensors_in
from pixelwise.shapes import Size, round_up


@dataclass(frozen=True, slots=True)
class Program:
    """A network as steps from map 0, which is its image, to its output, for images of one size."""

    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]
    """Of all maps, by their numbers."""
    output: int

    def run(self, read: Callable[[Rows], Tensor], strips: Sequence[Rows]) -> Iterator[Tensor]:
        """(1, K, h, W) of the output for each of `strips`, which are in order and do not overlap.

        Args:
            read: gives (1, C, h, W) of the image; asked for all of its rows in order, each once.
        """
        kept = [_Kept(shape.dim) for shape in self.shapes]
        readers = [[step for step in self.steps if index in step.inputs] for index in range(len(self.shapes))]

        def take(index: int, rows: Rows) -> Tensor:
            return kept[index].take(rows)

        def room(index: int, like: Tensor, sides: list[int]) -> Tensor | None:
            return kept[index].room(like, sides)

        def forget(index: int) -> None:
            needed = [step.needs_from(kept[step.outputs[0]].stop) for step in readers[index]]
            if index != self.output:
                kept[index].forget(min(needed, default=kept[index].stop))

        for strip in strips:
            for due in self._due(kept, strip[1]):
                if due.step is None:
                    kept[0].add(read(due.rows))
                    continue
                results = due.step.run(due.rows, take, room)
                for index, result in zip(due.step.outputs, results, strict=True):
                    kept[index].add(result)
                del results
                for index in (*due.step.inputs, *due.step.outputs):
                    forget(index)
            found = kept[self.output].take(strip)
            kept[self.output].forget(strip[1])
            yield found

    def _due(self, kept: Sequence["_Kept"], stop: int) -> list["_Due"]:
        """What is to be computed, in order, so that the output has its rows up to `stop`."""
        wanted = [0] * len(self.shapes)
        wanted[self.output] = stop
        due: list[_Due] = []
        for step in reversed(self.steps):
            done = kept[step.outputs[0]].stop
            # Whole turns of its pattern, so that no part of one is computed twice.
            until = min(round_up(max(wanted[index] for index in step.outputs), step.turn), step.made.rows)
            if until > done:
                due.append(_Due(step, (done, until)))
                _, last = step.needs((done, until))
                for index in step.inputs:
                    wanted[index] = max(wanted[index], last)
        if wanted[0] > kept[0].stop:
            due.append(_Due(None, (kept[0].stop, wanted[0])))
        return due[::-1]


@dataclass(frozen=True, slots=True)
class _Due:
    step: Step | None
    """None: rows of the image are to be read."""
    rows: Rows


@dataclass(slots=True)
class _Kept:
    """The rows of one map that are still needed."""

    dim: int
    stop: int = 0
    """How many rows there were, from the map's first on."""
    pieces: deque[Tensor] = field(default_factory=deque)
    """Of rows up to `stop`, one after the other."""
    given: Tensor | None = None
    """Rows of the last piece, behind `stop`, that are being filled."""

    def add(self, piece: Tensor) -> None:
        if piece is not self.given:
            self.pieces.append(piece)
        self.stop += piece.shape[self.dim]
        self.given = None

    def room(self, like: Tensor, sides: list[int]) -> Tensor | None:
        """Memory for rows right behind those that are there, to be filled and then added.

        None where it would move more rows than it saves from being moved, and for maps of another form.
        """
        there, count = sum(piece.shape[self.dim] for piece in self.pieces), sides[self.dim]
        if not 0 < there <= count or not like.is_contiguous(memory_format=torch.channels_last):
            return None
        sides = [*sides]
        sides[self.dim] = there + count
        whole = torch.empty(sides, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        whole.narrow(self.dim, 0, there).copy_(self.take((self.stop - there, self.stop)))
        self.pieces = deque([whole])
        self.given = whole.narrow(self.dim, there, count)
        return self.given

    def take(self, rows: Rows) -> Tensor:
        """Without a copy where they lie in one piece."""
        found, end = [], self.stop
        for piece in reversed(self.pieces):
            begin = end - piece.shape[self.dim]
            first, last = max(rows[0], begin), min(rows[1], end)
            if first < last:
                found.append(piece.narrow(self.dim, first - begin, last - first))
            end = begin
        return found[0] if len(found) == 1 else torch.cat(found[::-1], self.dim)

    def forget(self, before: int) -> None:
        """Rows before this one are not needed any more."""
        begin = self.stop - sum(piece.shape[self.dim] for piece in self.pieces)
        while self.pieces and begin + self.pieces[0].shape[self.dim] <= before:
            begin += self.pieces.popleft().shape[self.dim]
        if self.pieces and begin < before:
            first = self.pieces.popleft()
            rest = first.narrow(self.dim, before - begin, begin + first.shape[self.dim] - before)
            # A copy where only a few rows are left of what would be held for them.
            held = first.untyped_storage().nbytes()
            self.pieces.appendleft(rest.clone() if 2 * rest.nbytes < held else rest)


def record(network: nn.Module, size: Size, *, channels: int) -> Program:
    """Runs the network once without data and writes down its steps.

    Args:
        network: ready for prediction; the program uses its weights.
        size: (height, width) that it takes.
        channels: C of its images.

    Raises:
        RequestError: an operator that geometry does not know, or that cannot be run on some rows.
    """
    skeleton = skeleton_of(network)
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


class _Recorder(Watching):  # type: ignore[no-untyped-call]
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
            raise RequestError("the network's output is no map that lies on the image.")
        return self._maps[id(tensor)][2]

    def saw(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        arguments, outputs = bind(func, args, kwargs), tensors_in(result)
        inputs = tensors_in(list(arguments.values()))
        maps = [self._maps[id(tensor)] for tensor in inputs if id(tensor) in self._maps]
        filled = tree_map(self._stand_in, arguments)
        if maps:
            self._add_step(func, filled, maps, arguments, outputs)
        elif inputs:  # of weights alone: the result is one as well
            self._weights.update(zip(map(id, outputs), tensors_in(func(**filled)), strict=True))
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
            constants=[tensor for tensor in tensors_in(list(arguments.values())) if id(tensor) not in self._maps],
            output=outputs[0],
            image=(first.shape[followed.dims[0]], first.shape[followed.dims[1]]),
        )
        found = dependence(call, pointwise=torch.Tag.pointwise in func.tags)
        given = self.shapes[number]
        if found is None or call.name in SHAPES_ALONE or len({self.shapes[index].rows for _, _, index in maps}) > 1:
            raise RequestError(f"{call.name} is not run on some rows of a map.")
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

    def _stand_in(self, argument: Any) -> Any:
        """The place of a map, and a weight itself."""
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) in self._maps:
            return MapNumber(self._maps[id(argument)][2])
        if id(argument) not in self._weights:
            raise RequestError("the network makes a tensor that is neither a map nor a weight.")
        return self._weights[id(argument)]


def _in_new_memory(func: OpOverload) -> OpOverload:
    """The operator that gives what this one writes over its input: others may still read that."""
    name, overload = func._schema.name.split("::")[1], func._overloadname
    if not name.endswith("_"):
        return func
    found: OpOverload = getattr(getattr(torch.ops.aten, name[:-1]), overload)
    return found
