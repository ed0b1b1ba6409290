"""What each of PyTorch's operators does to a map that lies on the image: one short rule for each.

A rule takes an operator's arguments and gives the dependence of its result. `RULES`, at the end,
says which operator has which rule; those it does not name and that PyTorch does not tag as
pointwise are an error that names them, as what is unknown must not be taken for harmless.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.receptive_field import (
    IMAGE,
    Reads,
    ReceptiveField,
    interpolated,
    is_border_outside_image,
    merge_fields,
    repeated,
    through,
    transposed,
    window,
)
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A tensor of which two dimensions lie on the image."""

    axes: tuple[ReceptiveField, ReceptiveField] = (IMAGE, IMAGE)
    """Of the rows and of the columns."""
    dims: tuple[int, int] = (2, 3)
    """Which dimensions are rows and columns."""


Followed = Map | None
"""None: the tensor knows of the image, but does not lie on it, as a mean over all pixels does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator at work."""

    name: str
    arguments: dict[str, Any]
    """By their names in the operator's schema; missing ones have their default."""
    maps: list[tuple[Tensor, Map]]
    """The inputs that lie on the image."""
    constants: list[Tensor]
    """The inputs that do not depend on the image: weights and the like."""
    output: Tensor
    image: Size

    @property
    def map(self) -> Map:
        return self.maps[0][1]

    def sizes(self) -> list[tuple[int, int, int]]:
        """Of the image, the input and the output, for rows and columns."""
        tensor, followed = self.maps[0]
        return [
            (side, tensor.shape[dim], self.output.shape[dim])
            for side, dim in zip(self.image, followed.dims, strict=True)
        ]


Rule = Callable[[Call], Followed]


def _read(call: Call, patterns: Iterable[Reads]) -> Map:
    """The map that reads `patterns` of rows and columns."""
    followed = call.map
    axes = []
    for axis, reads, sizes in zip(followed.axes, patterns, call.sizes(), strict=True):
        if not is_border_outside_image(axis, reads, sizes):
            raise InvalidArgumentError(
                "pads a map that was cropped before, so that its border lies inside the image, where no tile "
                "can find it again; crop after the last padding."
            )
        axes.append(through(axis, reads))
    return replace(followed, axes=(axes[0], axes[1]))


def _require_last(call: Call) -> None:
    """Kernels and factors are of the last two dimensions, so these must be rows and columns."""
    tensor, followed = call.maps[0]
    if followed.dims != (tensor.dim() - 2, tensor.dim() - 1):
        raise InvalidArgumentError(
            "has windows on a map that was turned, which geometry does not follow; turn it back first."
        )


def _pair(value: Any) -> tuple[int, int]:
    """Of rows and columns, from one number or a list that ends with them."""
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[-2], values[-1])


def _convolution(call: Call) -> Followed:
    _require_last(call)
    given = call.arguments
    kernels, dilations = _pair(given["weight"].shape), _pair(given["dilation"])
    if given["padding"] == "same":
        paddings = _pair([d * (k - 1) // 2 for k, d in zip(kernels, dilations, strict=True)])
    else:
        paddings = (0, 0) if given["padding"] == "valid" else _pair(given["padding"])
    settings = zip(kernels, _pair(given["stride"]), paddings, dilations, strict=True)
    return _read(call, (window(k, stride=s, padding=p, dilation=d) for k, s, p, d in settings))


def _pooling(call: Call) -> Followed:
    _require_last(call)
    given = call.arguments
    kernels = _pair(given["kernel_size"])
    strides = _pair(given["stride"] or given["kernel_size"])
    settings = zip(kernels, strides, _pair(given["padding"]), _pair(given.get("dilation", 1)), strict=True)
    return _read(call, (window(k, stride=s, padding=p, dilation=d) for k, s, p, d in settings))


def _transposed_convolution(call: Call) -> Followed:
    _require_last(call)
    given = call.arguments
    names = ("stride", "padding", "dilation")
    settings = zip(_pair(given["weight"].shape), *(_pair(given[name]) for name in names), strict=True)
    return _read(call, (transposed(k, stride=s, padding=p, dilation=d) for k, s, p, d in settings))


def _factors(call: Call) -> tuple[int, int]:
    _require_last(call)
    (_, height, rows), (_, width, columns) = call.sizes()
    told = call.arguments.get("scale_factors") or (rows / height, columns / width)
    if rows % height or columns % width or tuple(told) != (rows // height, columns // width):
        raise InvalidArgumentError(
            f"resizes {height}x{width} to {rows}x{columns}, which is no whole factor and cannot be tiled; "
            "upsample by a whole factor, and crop."
        )
    return rows // height, columns // width


def _nearest(call: Call) -> Followed:
    return _read(call, map(repeated, _factors(call)))


def _interpolation(call: Call) -> Followed:
    if call.arguments["align_corners"]:
        raise InvalidArgumentError("interpolates with align_corners=True, whose grid depends on the size; use False.")
    reach = 2 if "bicubic" in call.name else 1
    return _read(call, (interpolated(factor, reach) for factor in _factors(call)))


def _shuffle(call: Call) -> Followed:
    _require_last(call)
    return _read(call, [repeated(call.arguments["upscale_factor"])] * 2)


def _unshuffle(call: Call) -> Followed:
    """Each block becomes the channels of one pixel, so that all of it counts from here on."""
    _require_last(call)
    factor = call.arguments["downscale_factor"]
    return _read(call, [window(factor, stride=factor)] * 2)


def _switch_pooling(call: Call) -> Followed:
    """The switches depend on the same windows as the maxima."""
    _require_last(call)
    return _read(call, [window(call.arguments["kernel"], stride=call.arguments["kernel"])] * 2)


def _unpooling(call: Call) -> Followed:
    """A value can be put anywhere in its window, and is missed where it is not."""
    _, (_, switches) = call.maps
    joint = replace(_join(call), dims=switches.dims)
    grown = replace(call, maps=[(call.maps[0][0], joint)])
    return _read(grown, [repeated(call.arguments["kernel"])] * 2)


def _padding(call: Call) -> Followed:
    pads, tensor = call.arguments.get("pad", call.arguments.get("padding")), call.maps[0][0]
    if pads is None or call.arguments.get("mode") == "circular":
        raise InvalidArgumentError("pads in a way that geometry does not know; use constant, replicate or reflect.")
    before = [2 * (tensor.dim() - 1 - dim) for dim in call.map.dims]
    return _read(call, (window(1, padding=pads[place] if place < len(pads) else 0) for place in before))


def _slice(call: Call) -> Followed:
    """`aten::slice`, also `aten::narrow`, along one dimension."""
    given, (tensor, followed) = call.arguments, call.maps[0]
    side = tensor.shape[given["dim"]]
    start, step = given["start"] or 0, given.get("step", 1)
    start = max(start + side, 0) if start < 0 else min(start, side)
    patterns = {given["dim"] % tensor.dim(): window(1, stride=step, padding=-start)}
    return _read(call, (patterns.get(dim, window(1)) for dim in followed.dims))


def _split(call: Call) -> Followed:
    tensor, followed = call.maps[0]
    if call.arguments["dim"] % tensor.dim() in followed.dims:
        raise InvalidArgumentError("splits rows or columns, which geometry does not follow; slice them.")
    return followed


def _same(call: Call) -> Followed:
    return call.map


def _mixing_one_dimension(call: Call) -> Followed:
    """Softmax, and a linear layer, which mixes the last dimension."""
    tensor, followed = call.maps[0]
    return None if call.arguments.get("dim", -1) % tensor.dim() in followed.dims else followed


def _join(call: Call) -> Map:
    """Sums, products and concatenations of maps that lie alike."""
    from_the_end = {tuple(dim - tensor.dim() for dim in followed.dims) for tensor, followed in call.maps}
    along = call.arguments["dim"] % call.output.dim() if call.name == "aten::cat" else None
    if len(from_the_end) > 1 or along in call.map.dims:
        raise InvalidArgumentError("joins maps along rows or columns, or such whose rows are different dimensions.")
    rows, columns = zip(*(followed.axes for _, followed in call.maps), strict=True)
    dims = tuple(dim + call.output.dim() for dim in from_the_end.pop())
    return Map(axes=(merge_fields(rows), merge_fields(columns)), dims=(dims[0], dims[1]))


def _stack(call: Call) -> Followed:
    new = call.arguments["dim"] % call.output.dim()
    rows, columns = (dim + (dim >= new) for dim in call.map.dims)
    return replace(_join(call), dims=(rows, columns))


def _reshape(call: Call) -> Followed:
    """Rows and columns stay, or take in the dimension behind them (its values lie side by side then),
    or give one off (whose values were side by side). Other dimensions may do what they want.
    """
    tensor, followed = call.maps[0]
    shapes = tensor.shape, call.output.shape
    found = {}
    for old, new in _regrouped(*shapes):
        inside = [dim for dim in old if dim in followed.dims]
        before, after = shapes[0][old[0]], shapes[1][new[0]]
        if inside == old[:1] and min(len(old), len(new)) == 1:
            pattern = repeated(after // before) if after > before else window(before // after, stride=before // after)
            found[old[0]] = pattern, new[0]
    if set(found) != set(followed.dims):
        raise InvalidArgumentError(f"reshapes them to {tuple(shapes[1])}, in which rows or columns are lost.")
    (row_reads, row_dim), (column_reads, column_dim) = (found[dim] for dim in followed.dims)
    rows, columns = followed.axes
    return Map(axes=(through(rows, row_reads), through(columns, column_reads)), dims=(row_dim, column_dim))


def _regrouped(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Which dimensions a reshape makes of which, in groups as small as possible.

    (2, 6, 5) → (12, 5): ([0, 1], [0]) and ([2], [1]).
    """
    old, new = ([dim for dim, side in enumerate(shape) if side > 1] for shape in (before, after))
    while old:
        left, right = [old.pop(0)], [new.pop(0)]
        while (sides := math.prod(before[d] for d in left)) != (target := math.prod(after[d] for d in right)):
            if sides < target:
                left.append(old.pop(0))
            else:
                right.append(new.pop(0))
        yield left, right


def _permutation(call: Call) -> Followed:
    given, (tensor, followed) = call.arguments, call.maps[0]
    order = list(range(tensor.dim()))
    if "dims" in given:
        order = [dim % tensor.dim() for dim in given["dims"]]
    else:
        one, other = given["dim0"], given["dim1"]
        order[one], order[other] = order[other], order[one]
    return replace(followed, dims=(order.index(followed.dims[0]), order.index(followed.dims[1])))


def _reduction(call: Call) -> Followed:
    """Means and maxima over channels keep the map; over rows or columns they see the whole image."""
    given, (tensor, followed) = call.arguments, call.maps[0]
    dims = given.get("dim")
    reduced = {dim % tensor.dim() for dim in ([dims] if isinstance(dims, int) else dims or range(tensor.dim()))}
    if reduced & set(followed.dims):
        return None
    return followed if given["keepdim"] else _without(followed, reduced)


def _select(call: Call) -> Followed:
    tensor, followed = call.maps[0]
    selected = call.arguments["dim"] % tensor.dim()
    if selected in followed.dims:
        raise InvalidArgumentError("takes one row or column, which geometry does not follow; slice it.")
    return _without(followed, {selected})


def _without(followed: Map, gone: set[int]) -> Map:
    """Without dimensions that are neither rows nor columns."""
    rows, columns = (dim - sum(other < dim for other in gone) for dim in followed.dims)
    return replace(followed, dims=(rows, columns))


def _adaptive_pooling(call: Call) -> Followed:
    return call.map if all(size == output for _, size, output in call.sizes()) else None


def _whole(call: Call) -> Followed:
    return None


def _unknown(call: Call) -> Followed:
    raise InvalidArgumentError(
        "may mix pixels in a way that geometry does not know; add its rule to networks/geometry/op_rules.py."
    )


def _rules(rule: Rule, names: str) -> dict[str, Rule]:
    return {name if "::" in name else f"aten::{name}": rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_rules(_convolution, "conv2d"),
    **_rules(_transposed_convolution, "conv_transpose2d"),
    **_rules(_pooling, "max_pool2d max_pool2d_with_indices avg_pool2d avg_pool3d"),
    **_rules(_switch_pooling, "pixelwise::max_pool_with_switches"),
    **_rules(_unpooling, "pixelwise::max_unpool"),
    **_rules(_nearest, "upsample_nearest2d _upsample_nearest_exact2d"),
    **_rules(_interpolation, "upsample_bilinear2d upsample_bicubic2d"),
    **_rules(_shuffle, "pixel_shuffle"),
    **_rules(_unshuffle, "pixel_unshuffle"),
    **_rules(_padding, "pad constant_pad_nd reflection_pad2d replication_pad2d"),
    **_rules(_slice, "slice narrow"),
    **_rules(_join, "cat"),
    **_rules(_stack, "stack"),
    **_rules(_select, "select"),
    **_rules(_split, "split split_with_sizes chunk"),
    **_rules(_reshape, "view reshape flatten unflatten squeeze unsqueeze"),
    **_rules(_permutation, "permute transpose"),
    **_rules(_same, "alias detach contiguous clone to _to_copy dropout dropout_ feature_dropout channel_shuffle"),
    **_rules(_same, "batch_norm prelu hardswish hardswish_ group_norm instance_norm layer_norm"),
    **_rules(_mixing_one_dimension, "softmax log_softmax linear"),
    **_rules(_reduction, "mean sum amax amin"),
    **_rules(_adaptive_pooling, "adaptive_avg_pool2d adaptive_max_pool2d"),
    **_rules(_whole, "matmul bmm baddbmm scaled_dot_product_attention"),
}
"""By operator, whatever its overload. Those that PyTorch tags as pointwise are joins as well."""

SHAPE_ONLY = {
    *("aten::zeros_like", "aten::ones_like", "aten::full_like"),
    *("aten::new_zeros", "aten::new_ones", "aten::new_full"),
}
"""Operators whose result has nothing of the image but its shape."""


def dependence(call: Call, *, pointwise: bool) -> Followed:
    """What the result of an operator depends on; `pointwise` where PyTorch tags it so."""
    return RULES.get(call.name, _join if pointwise else _unknown)(call)
