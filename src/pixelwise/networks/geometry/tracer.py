"""Trace the receptive fields of all tensors inside a network.

The network runs once on tensors without data (the meta device), and a dispatch mode observes each PyTorch operator
with its arguments. No graph is captured: tracing takes 10 to 100 ms, while `torch.export` takes seconds.

The second part has the receptive-field rules of PyTorch operators, one short function for each kind. A rule takes an
operator call and returns the feature map of its result. `RULES` at the end assigns the rules by operator name. An
operator that has no rule and that PyTorch does not tag as pointwise raises an error that names it, because an unknown
operator may mix pixels.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.receptive_field import (
    IDENTITY,
    ReadPattern,
    ReceptiveField,
    compose,
    is_border_outside_image,
    merge_fields,
)
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """A tensor with two dimensions that correspond to the rows and columns of the image."""

    fields: tuple[ReceptiveField, ReceptiveField] = (IDENTITY, IDENTITY)
    """Receptive fields of its rows and of its columns."""
    dims: tuple[int, int] = (2, 3)
    """The dimensions of its rows and columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCall:
    """One call of an operator in a network."""

    name: str
    arguments: dict[str, Any]
    """By name in the operator's schema, with defaults filled in."""
    maps: list[tuple[Tensor, FeatureMap]]
    """The inputs that are feature maps."""
    constants: list[Tensor]
    """The inputs that do not depend on the image, such as weights."""
    output: Tensor
    image_size: Size

    @property
    def map(self) -> FeatureMap:
        """The first feature map."""
        return self.maps[0][1]

    @property
    def input_size(self) -> Size:
        """Height and width of the first feature map."""
        tensor, feature_map = self.maps[0]
        return tensor.shape[feature_map.dims[0]], tensor.shape[feature_map.dims[1]]

    @property
    def output_size(self) -> Size:
        """Height and width of the result, if its dimensions are those of the first feature map."""
        return self.output.shape[self.map.dims[0]], self.output.shape[self.map.dims[1]]


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
        # On the meta device, PyTorch computes a batch normalization in Python, which takes longer than all the rest.
        is_norm = func is torch.ops.aten.batch_norm.default and args[0].is_meta
        result = torch.empty_like(args[0]) if is_norm else func(*args, **(kwargs or {}))
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
        """Trace one operator.

        Raises:
            InvalidArgumentError: The operator has no rule, or its rule does not cover these arguments.
        """
        parameters = func._schema.arguments
        arguments = {parameter.name: parameter.default_value for parameter in parameters}
        arguments |= {p.name: value for p, value in zip(parameters, args, strict=False)} | kwargs
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
            rule = RULES.get(call.name, _trace_join if torch.Tag.pointwise in func.tags else _refuse)
            try:
                output_map = rule(call)
            except InvalidArgumentError as error:
                shapes = " and ".join(str(tuple(tensor.shape)) for tensor, _ in maps)
                raise InvalidArgumentError(f"{call.name} on {shapes} {error}") from None
            if output_map is None or is_global(call):
                self.global_ops.append(call.name)
        self._traced.update({id(output): (output, output_map) for output in outputs})


# The rules of operators

Rule = Callable[[OpCall], FeatureMap | None]
"""None: the result depends on the image, but has no rows and columns, like a mean over all pixels."""


def is_global(call: OpCall) -> bool:
    """Return whether an operator normalizes over the whole image, or differs from position to position."""
    match call.name:
        case "aten::group_norm" | "aten::instance_norm":
            return True
        case "aten::batch_norm":
            return bool(call.arguments["training"])
        case "aten::layer_norm":  # over the channels of each pixel it is local, as in ConvNeXt
            return max(call.map.dims) >= call.maps[0][0].dim() - len(call.arguments["normalized_shape"])
    if call.name in RULES and call.name not in ("aten::cat", "aten::stack"):
        return False  # its constants are weights
    # Joined with a tensor that differs from pixel to pixel, such as a position embedding.
    tensor, feature_map = call.maps[0]
    dims = [dim - tensor.dim() for dim in feature_map.dims]
    return any(constant.shape[dim] > 1 for constant in call.constants for dim in dims if constant.dim() >= -dim)


def _apply_patterns(call: OpCall, patterns: Iterable[ReadPattern]) -> FeatureMap:
    """Return the map that reads the first map by `patterns` of rows and columns."""
    fields = []
    for field, pattern, image, given, made in zip(
        call.map.fields, patterns, call.image_size, call.input_size, call.output_size, strict=True
    ):
        if not is_border_outside_image(field, pattern, image_size=image, input_size=given, output_size=made):
            raise InvalidArgumentError(
                "pads a map that was cropped before. The border of the crop is inside the image and differs "
                "between tiles. Crop after the last padding."
            )
        fields.append(compose(field, pattern))
    return replace(call.map, fields=(fields[0], fields[1]))


def _require_last_dims(call: OpCall) -> None:
    """Raise if rows and columns are not the last two dimensions, to which kernels and factors apply."""
    tensor, feature_map = call.maps[0]
    if feature_map.dims != (tensor.dim() - 2, tensor.dim() - 1):
        raise InvalidArgumentError("has windows on a permuted map, which is not supported. Permute it back first.")


def _get_pair(value: Any) -> tuple[int, int]:
    """Return the numbers of rows and columns, from one number or a list that ends with them."""
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[-2], values[-1])


def _trace_convolution(call: OpCall) -> FeatureMap:
    given = call.arguments
    kernels, dilations = _get_pair(given["weight"].shape), _get_pair(given["dilation"])
    if given["padding"] == "same":
        paddings = _get_pair([d * (k - 1) // 2 for k, d in zip(kernels, dilations, strict=True)])
    else:
        paddings = (0, 0) if given["padding"] == "valid" else _get_pair(given["padding"])
    return _trace_windows(call, kernels, _get_pair(given["stride"]), paddings, dilations)


def _trace_pooling(call: OpCall) -> FeatureMap:
    given = call.arguments
    kernels = _get_pair(given["kernel_size"])
    strides = _get_pair(given["stride"] or given["kernel_size"])
    return _trace_windows(call, kernels, strides, _get_pair(given["padding"]), _get_pair(given.get("dilation", 1)))


def _trace_windows(call: OpCall, kernels: Size, strides: Size, paddings: Size, dilations: Size) -> FeatureMap:
    _require_last_dims(call)
    settings = zip(kernels, strides, paddings, dilations, strict=True)
    return _apply_patterns(
        call, (ReadPattern.for_window(k, stride=s, padding=p, dilation=d) for k, s, p, d in settings)
    )


def _trace_transposed_convolution(call: OpCall) -> FeatureMap:
    _require_last_dims(call)
    given = call.arguments
    names = ("stride", "padding", "dilation")
    settings = zip(_get_pair(given["weight"].shape), *(_get_pair(given[name]) for name in names), strict=True)
    return _apply_patterns(
        call, (ReadPattern.for_transposed_window(k, stride=s, padding=p, dilation=d) for k, s, p, d in settings)
    )


def _compute_factors(call: OpCall) -> tuple[int, int]:
    """Return the integer factors of an upsampling."""
    _require_last_dims(call)
    (height, width), (rows, columns) = call.input_size, call.output_size
    factors = call.arguments.get("scale_factors") or (rows / height, columns / width)
    if rows % height or columns % width or tuple(factors) != (rows // height, columns // width):
        raise InvalidArgumentError(
            f"resizes {height}x{width} to {rows}x{columns}, which is not an integer factor and cannot be tiled. "
            "Upsample by an integer factor, and crop."
        )
    return rows // height, columns // width


def _trace_nearest(call: OpCall) -> FeatureMap:
    return _apply_patterns(call, map(ReadPattern.for_repetition, _compute_factors(call)))


def _trace_interpolation(call: OpCall) -> FeatureMap:
    if call.arguments["align_corners"]:
        raise InvalidArgumentError("uses align_corners=True, whose grid depends on the size. Use align_corners=False.")
    radius = 2 if "bicubic" in call.name else 1
    return _apply_patterns(call, (ReadPattern.for_interpolation(f, radius) for f in _compute_factors(call)))


def _trace_pixel_shuffle(call: OpCall) -> FeatureMap:
    _require_last_dims(call)
    return _apply_patterns(call, [ReadPattern.for_repetition(call.arguments["upscale_factor"])] * 2)


def _trace_blocks(call: OpCall) -> FeatureMap:
    """A position depends on its whole block: pixel unshuffle, and pooling with switches, like the maxima."""
    sides = (call.arguments.get("kernel") or call.arguments["downscale_factor"],) * 2
    return _trace_windows(call, sides, sides, (0, 0), (1, 1))


def _trace_unpooling(call: OpCall) -> FeatureMap:
    """A value may move to any position of its window, which also decides where there is none."""
    _, (_, switches) = call.maps
    joined = replace(_trace_join(call), dims=switches.dims)
    return _apply_patterns(
        replace(call, maps=[(call.maps[0][0], joined)]), [ReadPattern.for_repetition(call.arguments["kernel"])] * 2
    )


def _trace_padding(call: OpCall) -> FeatureMap:
    pads, tensor = call.arguments.get("pad", call.arguments.get("padding")), call.maps[0][0]
    if pads is None or call.arguments.get("mode") == "circular":
        raise InvalidArgumentError("pads in a way that has no rule. Use constant, replicate or reflect.")
    # Pads are listed from the last dimension to the first, two for each.
    indices = [2 * (tensor.dim() - 1 - dim) for dim in call.map.dims]
    return _apply_patterns(
        call, (ReadPattern.for_window(1, padding=pads[index] if index < len(pads) else 0) for index in indices)
    )


def _trace_slice(call: OpCall) -> FeatureMap:
    """Trace `aten::slice` and `aten::narrow`, which cut along one dimension."""
    given, (tensor, feature_map) = call.arguments, call.maps[0]
    side = tensor.shape[given["dim"]]
    start, step = given["start"] or 0, given.get("step", 1)
    start = max(start + side, 0) if start < 0 else min(start, side)
    sliced = given["dim"] % tensor.dim()
    return _apply_patterns(
        call,
        (
            ReadPattern.for_window(1, stride=step, padding=-start) if dim == sliced else ReadPattern.for_window(1)
            for dim in feature_map.dims
        ),
    )


def _trace_split(call: OpCall) -> FeatureMap:
    tensor, feature_map = call.maps[0]
    if call.arguments["dim"] % tensor.dim() in feature_map.dims:
        raise InvalidArgumentError("splits rows or columns, which is not supported. Slice them.")
    return feature_map


def _trace_mixing_one_dim(call: OpCall) -> FeatureMap | None:
    """Trace softmax, and a linear layer, which mixes the last dimension."""
    tensor, feature_map = call.maps[0]
    return None if call.arguments.get("dim", -1) % tensor.dim() in feature_map.dims else feature_map


def _trace_join(call: OpCall) -> FeatureMap:
    """Trace sums, products and concatenations of maps with the same rows and columns."""
    dims_from_end = {tuple(dim - tensor.dim() for dim in feature_map.dims) for tensor, feature_map in call.maps}
    along = call.arguments["dim"] % call.output.dim() if call.name == "aten::cat" else None
    if len(dims_from_end) > 1 or along in call.map.dims:
        raise InvalidArgumentError("joins maps along rows or columns, or maps whose rows are different dimensions.")
    rows, columns = zip(*(feature_map.fields for _, feature_map in call.maps), strict=True)
    row_dim, column_dim = (dim + call.output.dim() for dim in dims_from_end.pop())
    return FeatureMap(fields=(merge_fields(rows), merge_fields(columns)), dims=(row_dim, column_dim))


def _trace_stack(call: OpCall) -> FeatureMap:
    new = call.arguments["dim"] % call.output.dim()
    rows, columns = (dim + (dim >= new) for dim in call.map.dims)
    return replace(_trace_join(call), dims=(rows, columns))


def _trace_reshape(call: OpCall) -> FeatureMap:
    """Trace a reshape.

    Rows and columns may stay, absorb the dimension after them (whose values become neighbors), or split off such a
    dimension. All other dimensions may change.
    """
    tensor, feature_map = call.maps[0]
    shapes = tensor.shape, call.output.shape
    reads: dict[int, tuple[ReadPattern, int]] = {}
    for old, new in _match_dims(*shapes):
        inside = [dim for dim in old if dim in feature_map.dims]
        before, after = shapes[0][old[0]], shapes[1][new[0]]
        if inside == old[:1] and min(len(old), len(new)) == 1:
            pattern = (
                ReadPattern.for_repetition(after // before)
                if after > before
                else ReadPattern.for_window(before // after, stride=before // after)
            )
            reads[old[0]] = pattern, new[0]
    if set(reads) != set(feature_map.dims):
        raise InvalidArgumentError(f"reshapes a map to {tuple(shapes[1])}, which mixes rows or columns.")
    (row_reads, row_dim), (column_reads, column_dim) = (reads[dim] for dim in feature_map.dims)
    rows, columns = feature_map.fields
    return FeatureMap(fields=(compose(rows, row_reads), compose(columns, column_reads)), dims=(row_dim, column_dim))


def _match_dims(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of old and new dimensions of a reshape.

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


def _trace_permutation(call: OpCall) -> FeatureMap:
    given, (tensor, feature_map) = call.arguments, call.maps[0]
    order = list(range(tensor.dim()))
    if "dims" in given:
        order = [dim % tensor.dim() for dim in given["dims"]]
    else:
        one, other = given["dim0"], given["dim1"]
        order[one], order[other] = order[other], order[one]
    rows, columns = feature_map.dims
    return replace(feature_map, dims=(order.index(rows), order.index(columns)))


def _trace_reduction(call: OpCall) -> FeatureMap | None:
    """Trace a reduction: over channels it keeps the map, over rows or columns it depends on the whole image."""
    given, (tensor, feature_map) = call.arguments, call.maps[0]
    dims = given.get("dim")
    reduced = {dim % tensor.dim() for dim in ([dims] if isinstance(dims, int) else dims or range(tensor.dim()))}
    if reduced & set(feature_map.dims):
        return None
    return feature_map if given["keepdim"] else _drop_dims(feature_map, reduced)


def _trace_select(call: OpCall) -> FeatureMap:
    tensor, feature_map = call.maps[0]
    selected = call.arguments["dim"] % tensor.dim()
    if selected in feature_map.dims:
        raise InvalidArgumentError("selects one row or column, which is not supported. Slice it.")
    return _drop_dims(feature_map, {selected})


def _drop_dims(feature_map: FeatureMap, dropped: set[int]) -> FeatureMap:
    """Remove dimensions that are neither rows nor columns."""
    rows, columns = (dim - sum(other < dim for other in dropped) for dim in feature_map.dims)
    return replace(feature_map, dims=(rows, columns))


def _refuse(call: OpCall) -> FeatureMap:
    raise InvalidArgumentError(
        "may mix pixels: it has no receptive-field rule. Add one to networks/geometry/tracer.py."
    )


def _assign(rule: Rule, names: str) -> dict[str, Rule]:
    return {name if "::" in name else f"aten::{name}": rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_assign(_trace_convolution, "conv2d"),
    **_assign(_trace_transposed_convolution, "conv_transpose2d"),
    **_assign(_trace_pooling, "max_pool2d max_pool2d_with_indices avg_pool2d avg_pool3d"),
    **_assign(_trace_blocks, "pixelwise::max_pool_with_switches pixel_unshuffle"),
    **_assign(_trace_unpooling, "pixelwise::max_unpool"),
    **_assign(_trace_nearest, "upsample_nearest2d _upsample_nearest_exact2d"),
    **_assign(_trace_interpolation, "upsample_bilinear2d upsample_bicubic2d"),
    **_assign(_trace_pixel_shuffle, "pixel_shuffle"),
    **_assign(_trace_padding, "pad constant_pad_nd reflection_pad2d replication_pad2d"),
    **_assign(_trace_slice, "slice narrow"),
    **_assign(_trace_join, "cat"),
    **_assign(_trace_stack, "stack"),
    **_assign(_trace_select, "select"),
    **_assign(_trace_split, "split split_with_sizes chunk"),
    **_assign(_trace_reshape, "view reshape flatten unflatten squeeze unsqueeze"),
    **_assign(_trace_permutation, "permute transpose"),
    **_assign(
        lambda call: call.map,
        "alias detach contiguous clone to _to_copy dropout dropout_ feature_dropout channel_shuffle "
        "batch_norm prelu hardswish hardswish_ group_norm instance_norm layer_norm",
    ),
    **_assign(_trace_mixing_one_dim, "softmax log_softmax linear"),
    **_assign(_trace_reduction, "mean sum amax amin"),
    **_assign(
        lambda call: call.map if call.input_size == call.output_size else None,
        "adaptive_avg_pool2d adaptive_max_pool2d",
    ),
    **_assign(lambda call: None, "matmul bmm baddbmm scaled_dot_product_attention"),
}
"""By operator name, for all overloads. Operators that PyTorch tags as pointwise use `_trace_join`."""

SHAPE_ONLY = {
    *("aten::zeros_like", "aten::ones_like", "aten::full_like"),
    *("aten::new_zeros", "aten::new_ones", "aten::new_full"),
}
"""Operators whose result depends only on the shape of their input."""
