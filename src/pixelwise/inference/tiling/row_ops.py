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

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import find_tensors

Rows = tuple[int, int]
"""The first, and the one after the last."""

Take = Callable[[int, Rows], Tensor]
"""The rows asked for of the map of a number."""

Room = Callable[[int, Tensor, list[int]], Tensor | None]
"""Memory for the next rows of the map of a number, of the type of a tensor and with these sides; None: take new."""


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
class Uncut:
    """An operator that cuts rows off its result, above and below, and is told not to: its input may be lower."""

    rows: int
    arguments: Mapping[str, Any]
    """Those that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a network, on maps that lie on the image."""

    function: OpOverload
    arguments: Mapping[str, Any]
    """By their names in the operator's schema; a `MapNumber` for each map."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    axis: ReceptiveField
    """Which rows of its inputs a row of its outputs reads."""
    given: Shape
    """Of its inputs, which have the same rows."""
    made: Shape
    """Of its outputs, likewise."""
    form: Unpadded | Uncut | None
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
        return self.needs((done, done + self.turn))[0]

    def _reads(self, rows: Rows) -> Rows:
        first, last = self.axis.reach(*rows)
        return (first if isinstance(self.form, Unpadded) else first // self.axis.stride * self.axis.stride), last

    def run(self, rows: Rows, take: Take, room: Room) -> list[Tensor]:
        """Its outputs' `rows`.

        Args:
            take: gives its inputs' rows.
            room: may give memory for its outputs' rows.
        """
        if isinstance(self.form, Unpadded):
            return self._run_unpadded(self.form, rows, take)
        begin, end = self.needs(rows)
        before = begin // self.axis.stride * self.turn - (self.form.rows if self.form else 0)
        height = min((end - begin) * self.turn // self.axis.stride, self.made.rows - before)
        changed = self.form.arguments if self.form else self._sized(height)
        arguments = self._arguments(lambda index: take(index, (begin, end)), changed)
        written = self._written(arguments, height, room)
        if written is not None:
            return [written]
        results = find_tensors(self.function(**arguments))
        return [result.narrow(self.made.dim, rows[0] - before, rows[1] - rows[0]) for result in results]

    def _written(self, arguments: Mapping[str, Any], height: int, room: Room) -> Tensor | None:
        """The result where it is to lie, if that can be had; of operators that run row by row alone."""
        write = WRITTEN.get(self.function._schema.name)
        inputs = find_tensors(list(arguments.values()))
        if write is None or len({tensor.dtype for tensor in inputs}) > 1:
            return None
        sides = [*self.made.sides]
        sides[self.made.dim] = height
        out = room(self.outputs[0], inputs[0], sides)
        if out is not None:
            write(arguments, out)
        return out

    def _run_unpadded(self, unpadded: Unpadded, rows: Rows, take: Take) -> list[Tensor]:
        first, last = self._reads(rows)
        above, below = (min(max(beyond, 0), last - first) for beyond in (-first, last - self.given.rows))
        inside = last - first - above - below

        def filled(index: int) -> Tensor:
            dim, found = self.given.dim, take(index, self.needs(rows))
            return _filled(found.narrow(dim, 0, inside), dim, above, below, unpadded.value)

        return find_tensors(self.function(**self._arguments(filled, unpadded.arguments)))

    def _sized(self, height: int) -> Mapping[str, Any]:
        """The argument that tells the height of the result, for one of `height` rows."""
        name = SIZED.get(self.function._schema.name)
        if name is None or self.arguments[name] is None:  # an upsampling may be told its factor instead
            return {}
        size = [*self.made.sides]
        size[self.made.dim] = height
        return {name: size[-len(self.arguments[name]) :]}

    def _arguments(self, fill: Callable[[int], Tensor], changed: Mapping[str, Any]) -> dict[str, Any]:
        filled = {index: fill(index) for index in self.inputs}
        return {**{name: _with_maps(value, filled) for name, value in self.arguments.items()}, **changed}


def _with_maps(argument: Any, maps: Mapping[int, Tensor]) -> Any:
    """The maps in place of their numbers."""
    if isinstance(argument, MapNumber):
        return maps[argument.index]
    return [_with_maps(part, maps) for part in argument] if isinstance(argument, list) else argument


def _filled(inside: Tensor, dim: int, above: int, below: int, value: float) -> Tensor:
    """With rows of one value above and below."""
    if not above and not below:
        return inside

    def rows(count: int) -> Tensor:
        return inside.new_full([*inside.shape[:dim], count, *inside.shape[dim + 1 :]], value)

    return torch.cat([rows(above), inside, rows(below)], dim)


def form_of(name: str, arguments: Mapping[str, Any], given: Shape) -> Unpadded | Uncut | None:
    """How an operator on a map of this shape is told to leave its rows alone; None of one that does.

    Raises:
        InvalidArgumentError: it cannot be run on some rows of a map.
    """
    before = 2 * (len(given.sides) - 1 - given.dim)
    match name, arguments:
        case "aten::conv2d", {"padding": [*_, columns]}:
            return Unpadded(value=0.0, arguments={"padding": [0, columns]})
        case "aten::max_pool2d", {"padding": [*_, columns]}:
            return Unpadded(value=-torch.inf, arguments={"padding": [0, columns]})
        case "aten::conv_transpose2d", {"padding": [rows, *columns]} if _fills_turns(arguments):
            return Uncut(rows=rows, arguments={"padding": [0, *(columns or [rows])]})
        case "aten::slice", {"dim": dim} if dim % len(given.sides) == given.dim:
            return Unpadded(value=0.0, arguments={"start": 0, "end": given.rows})
        case (("aten::pad" | "aten::constant_pad_nd"), {"pad": [*pads]}):
            if not any(pads[before : before + 2]):
                return None
            if arguments.get("mode", "constant") == "constant":
                changed = [*pads[:before], 0, 0, *pads[before + 2 :]]
                return Unpadded(value=arguments["value"] or 0.0, arguments={"pad": changed})
        case other, _ if other not in _NOT_BY_ROWS and not _mixes_rows(name, arguments, given):
            return None
    raise InvalidArgumentError(f"{name} is not run on some rows of a map.")


def _fills_turns(arguments: Mapping[str, Any]) -> bool:
    """Whether a transposed convolution gives a whole stride of rows for its last row, too."""
    kernel = arguments["dilation"][0] * (arguments["weight"].shape[2] - 1) + 1
    return bool(kernel + arguments["output_padding"][0] >= arguments["stride"][0])


def _mixes_rows(name: str, arguments: Mapping[str, Any], given: Shape) -> bool:
    """What is only known by its arguments."""
    if name == "aten::squeeze":
        return arguments.get("dim") is None  # a single row would be dropped
    if name == "aten::avg_pool3d":
        return bool(arguments["kernel_size"][-2] > 1)
    return given.dim == 1 and name in _OF_CHANNELS


_OF_CHANNELS = {"aten::batch_norm", "aten::prelu", "aten::channel_shuffle", "aten::feature_dropout"}
"""Operators that take dimension 1 for the channels."""

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

WRITTEN: Mapping[str, Callable[[Mapping[str, Any], Tensor], object]] = {
    "aten::relu": lambda arguments, out: torch.clamp_min(arguments["self"], 0, out=out),
    "aten::cat": lambda arguments, out: torch.cat(arguments["tensors"], arguments["dim"], out=out),
}
"""Operators that can write where they are told. They stand before most convolutions, which read some rows of the
strip before: written behind these, both are read in one piece."""

_NOT_BY_ROWS = {
    *("aten::conv2d", "aten::conv_transpose2d", "aten::max_pool2d", "aten::max_pool2d_with_indices"),
    *("aten::narrow", "aten::unflatten", "aten::reflection_pad2d", "aten::replication_pad2d"),
    *("aten::adaptive_avg_pool2d", "aten::adaptive_max_pool2d"),
}
"""Unless they are named above: they depend on where in the map, or of which height, it is that they get."""
