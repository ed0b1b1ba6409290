"""How each of PyTorch's operators is run on some rows of its inputs to give some rows of its output.

Most run as they are on a slice that holds all that the wanted rows read, and rows that saw the slice's end
are cut off. Operators with a border of their own take it row by row: what lies beyond the map is filled in
here, and the operator is told to pad columns alone, so that no row is computed twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from pixelwise.errors import RequestError
from pixelwise.networks.dependence import Axis
from pixelwise.networks.watching import tensors_in

Rows = tuple[int, int]
"""The first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a map at the image's full height."""

    sides: tuple[int, ...]
    dim: int
    """Which dimension is the rows."""

    @property
    def rows(self) -> int:
        return self.sides[self.dim]


@dataclass(frozen=True, slots=True)
class MapNumber:
    """Stands for a map in the arguments of a step: its number among all maps."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpadded:
    """An operator that is handed exactly the rows that its results read, those beyond the map filled in.

    A crop counts as one that pads by a negative number.
    """

    value: float
    """Of the rows beyond the map."""
    arguments: Mapping[str, Any]
    """Those that differ, so that nothing is padded or cropped above and below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a network, on maps that lie on the image."""

    function: OpOverload
    arguments: Mapping[str, Any]
    """By their names in the operator's schema; a `MapNumber` for each map."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    axis: Axis
    """Which rows of its inputs a row of its outputs reads."""
    given: Shape
    """Of its inputs, which have the same rows."""
    made: Shape
    """Of its outputs, likewise."""
    unpadded: Unpadded | None
    """None: it runs as it is, on whole turns of its pattern."""

    @property
    def turn(self) -> int:
        """Output rows after which the pattern of what they read repeats."""
        return len(self.axis.intervals)

    def needs(self, rows: Rows) -> Rows:
        """The input rows that these output rows need, as far as the input has them."""
        first, last = self._reads(rows)
        begin = min(max(first, 0), self.given.rows - 1)
        return begin, max(min(last, self.given.rows), begin + 1)  # at least one: it tells type and width

    def needs_from(self, done: int) -> int:
        """The first input row that any output row from `done` on needs."""
        return self._reads((done, done + self.turn))[0]

    def _reads(self, rows: Rows) -> Rows:
        first, last = self.axis.reach(*rows)
        return (first if self.unpadded else first // self.axis.stride * self.axis.stride), last

    def run(self, rows: Rows, take: Callable[[int, Rows], Tensor]) -> list[Tensor]:
        """Its outputs' `rows`; `take` gives the rows asked for of the map of that number."""
        if self.unpadded:
            return self._run_unpadded(self.unpadded, rows, take)
        begin, end = self.needs(rows)
        before = begin // self.axis.stride * self.turn
        height = min((end - begin) * self.turn // self.axis.stride, self.made.rows - before)
        results = self._call(lambda index: take(index, (begin, end)), self._sized(height))
        return [result.narrow(self.made.dim, rows[0] - before, rows[1] - rows[0]) for result in results]

    def _run_unpadded(self, unpadded: Unpadded, rows: Rows, take: Callable[[int, Rows], Tensor]) -> list[Tensor]:
        first, last = self._reads(rows)
        above, below = (min(max(beyond, 0), last - first) for beyond in (-first, last - self.given.rows))
        inside = last - first - above - below

        def filled(index: int) -> Tensor:
            dim, found = self.given.dim, take(index, self.needs(rows))
            return _filled(found.narrow(dim, 0, inside), dim, above, below, unpadded.value)

        return self._call(filled, unpadded.arguments)

    def _sized(self, height: int) -> Mapping[str, Any]:
        """The argument that tells the height of the result, for one of `height` rows."""
        name = SIZED.get(self.function._schema.name)
        if name is None or self.arguments[name] is None:  # an upsampling may be told its factor instead
            return {}
        size = [*self.made.sides]
        size[self.made.dim] = height
        return {name: size[-len(self.arguments[name]) :]}

    def _call(self, fill: Callable[[int], Tensor], changed: Mapping[str, Any]) -> list[Tensor]:
        filled = {index: fill(index) for index in self.inputs}
        arguments = tree_map(
            lambda argument: filled[argument.index] if isinstance(argument, MapNumber) else argument,
            {**self.arguments, **changed},
        )
        return tensors_in(self.function(**arguments))


def _filled(inside: Tensor, dim: int, above: int, below: int, value: float) -> Tensor:
    """With rows of one value above and below."""
    if not above and not below:
        return inside
    counts = {"above": above, "below": below}
    rows = {
        side: inside.new_full([*inside.shape[:dim], count, *inside.shape[dim + 1 :]], value)
        for side, count in counts.items()
    }
    return torch.cat([rows["above"], inside, rows["below"]], dim)


def unpadded(name: str, arguments: Mapping[str, Any], given: Shape) -> Unpadded | None:
    """How an operator on a map of this shape is told not to pad or crop; None of one that does neither.

    Raises:
        RequestError: it cannot be run on some rows of a map.
    """
    before = 2 * (len(given.sides) - 1 - given.dim)
    match name, arguments:
        case "aten::conv2d", {"padding": [*_, columns]}:
            return Unpadded(value=0.0, arguments={"padding": [0, columns]})
        case "aten::max_pool2d", {"padding": [*_, columns]}:
            return Unpadded(value=-torch.inf, arguments={"padding": [0, columns]})
        case "aten::slice", {"dim": dim} if dim % len(given.sides) == given.dim:
            return Unpadded(value=0.0, arguments={"start": 0, "end": given.rows})
        case (("aten::pad" | "aten::constant_pad_nd"), {"pad": [*pads]}):
            if not any(pads[before : before + 2]):
                return None
            if arguments.get("mode", "constant") == "constant":
                changed = [*pads[:before], 0, 0, *pads[before + 2 :]]
                return Unpadded(value=arguments["value"] or 0.0, arguments={"pad": changed})
        case other, _ if other not in _NOT_BY_ROWS:
            return None
    raise RequestError(f"{name} is not run on some rows of a map.")


SIZED: Mapping[str, str] = {
    "pixelwise::max_unpool": "size",
    "aten::upsample_nearest2d": "output_size",
    "aten::_upsample_nearest_exact2d": "output_size",
    "aten::upsample_bilinear2d": "output_size",
    "aten::upsample_bicubic2d": "output_size",
    "aten::view": "size",
    "aten::reshape": "shape",
}
"""Operators that are told how high their result is, and in which argument."""

_NOT_BY_ROWS = {
    *("aten::conv2d", "aten::max_pool2d", "aten::max_pool2d_with_indices"),
    *("aten::narrow", "aten::unflatten", "aten::reflection_pad2d", "aten::replication_pad2d"),
    *("aten::adaptive_avg_pool2d", "aten::adaptive_max_pool2d"),
}
"""Unless they are named above: they depend on where in the map, or of which height, it is that they get."""
