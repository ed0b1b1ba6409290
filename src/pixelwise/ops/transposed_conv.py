"""Transposed convolution, and the two ways to see what it is.

A convolution is a linear map: y = C x with a sparse matrix C. The transposed convolution with the
same weight is multiplication by the transpose of C. It is therefore the convolution's gradient, and it
goes back from the size of y to the size of x; it is not an inverse, and the values it gives are
others ("deconvolution" is a misnomer). `conv_matrix` writes C down; `as_direct_conv` gives the same
map as an ordinary convolution of a map with zeros between its values.

Arithmetic: Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", 2016
(arXiv:1603.07285). Checkerboards: Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts",
Distill, 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.checks import check_map, memory_format_of
from pixelwise.ops.upsampling import unpool_bed_of_nails
from pixelwise.shapes import Size, compute_conv_side, compute_transposed_conv_side, pair


@dataclass(slots=True, frozen=True, kw_only=True)
class _Geometry:
    """The arguments after the tensors, (height, width) each."""

    stride: Size
    padding: Size = (0, 0)
    output_padding: Size = (0, 0)
    dilation: Size = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        if min(*self.stride, *self.dilation, self.groups) < 1 or min(self.padding) < 0:
            raise InvalidArgumentError(
                f"stride {self.stride}, dilation {self.dilation} and groups {self.groups} start at 1, "
                f"padding {self.padding} at 0."
            )
        for added, stride, dilation in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if not 0 <= added < max(stride, dilation):
                raise InvalidArgumentError(
                    f"output_padding {added} must be at least 0 and below the larger of stride {stride} and "
                    f"dilation {dilation}: more rows than that would stay empty."
                )


def transposed_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Size = 1,
    padding: int | Size = 0,
    output_padding: int | Size = 0,
    dilation: int | Size = 1,
    groups: int = 1,
) -> Tensor:
    """Each input value times the kernel, added into the output `stride` apart.

    Args:
        x: (B, C_in, H, W) floating point, contiguous or channels_last.
        weight: (C_in, C_out / groups, k, k) of the dtype of `x`, as in PyTorch: the weight of the
            convolution from C_out to C_in whose transpose this is.
        bias: (C_out,).
        stride: pixels between the places of neighboring inputs in the output.
        padding: rows cut off at each border, which are those the convolution would have padded.
        output_padding: rows more at the bottom and right. A convolution with stride takes several sizes
            to one; this says which to go back to. They are computed, not filled with zeros.
        dilation: pixels between the taps of the kernel.
        groups: parts of the channels that do not mix.
            All but `groups` are one number, or one for the height and one for the width.

    Returns:
        (B, C_out, H', W') as `x`, H' = s(H - 1) + d(k - 1) + 1 - 2p + a (`shapes.compute_transposed_conv_side`).

    Raises:
        InvalidArgumentError: tensors that do not fit together, or a geometry that gives no output.
    """
    geometry = _geometry(stride, padding, output_padding, dilation, groups)
    return _transposed_conv(x, weight, bias, geometry)


def as_direct_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Size = 1,
    padding: int | Size = 0,
    output_padding: int | Size = 0,
    dilation: int | Size = 1,
    groups: int = 1,
) -> Tensor:
    """`transposed_conv` as the ordinary convolution it equals, step by step; for learning, not for speed.

    1. Put s - 1 zeros between neighboring values: stride is what the *output* moves by.
    2. Pad d(k - 1) - p zeros at each border, so that each corner value meets the whole kernel; cut
       rows off where that is negative. `output_padding` is added at the bottom and right.
    3. Convolve with stride 1 and the kernel turned by 180 degrees, its input and output channels
       exchanged within each group: a value scattered through the kernel is, seen from the output,
       gathered through the turned kernel.

    Most of its products are with the zeros, (s² - 1) / s² of them.

    Args, returns and raises: as `transposed_conv`.
    """
    geometry = _geometry(stride, padding, output_padding, dilation, groups)
    _check(x, weight, bias, geometry)
    rows, columns = geometry.stride
    height, width = x.shape[2:]
    spread = unpool_bed_of_nails(x, (rows, columns))[:, :, : (height - 1) * rows + 1, : (width - 1) * columns + 1]
    (top, bottom), (left, right) = (_borders(weight, geometry, axis) for axis in (0, 1))
    padded = functional.pad(spread, (left, right, top, bottom))
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    turned = grouped.transpose(1, 2).flatten(0, 1).flip(2, 3)
    return functional.conv2d(padded, turned, bias, dilation=geometry.dilation, groups=groups)


def conv_matrix(
    weight: Tensor,
    size: Size,
    *,
    stride: int | Size = 1,
    padding: int | Size = 0,
    dilation: int | Size = 1,
    groups: int = 1,
) -> Tensor:
    """The matrix C of an ordinary convolution: `conv2d(x, weight).flatten() == C @ x.flatten()`.

    Each row holds the kernel at one place of the output, each column what one input value does. So
    C^T y is the transposed convolution of y with the same weight, with `output_padding` where that
    is needed to come back to `size`: one kernel, two directions, <C x, y> = <x, C^T y>.

    For small maps: it holds k² C_out C_in / groups values for each pixel of the output.

    Args:
        weight: (C_out, C_in / groups, k, k), and so (C_in, C_out / groups, k, k) to `transposed_conv`,
            which goes the other way. The matrix can be differentiated by it.
        size: (height, width) of x.
        stride, padding, dilation, groups: of the convolution.

    Returns:
        (C_out · H' · W', C_in · H · W) sparse COO, of the dtype of `weight`; maps are flattened in
        the order channel, row, column.

    Raises:
        InvalidArgumentError: a geometry that gives no output.
    """
    geometry = _geometry(stride, padding, 0, dilation, groups)
    _check_weight(weight, groups)
    out_channels, group_channels, *kernel = weight.shape
    out_rows, rows, rows_inside = _taps(size[0], kernel[0], geometry, axis=0)
    out_columns, columns, columns_inside = _taps(size[1], kernel[1], geometry, axis=1)
    out_channel = torch.arange(out_channels)
    group = out_channel // (out_channels // groups)
    channel = group[:, None] * group_channels + torch.arange(group_channels)

    # Axes of all that follows: output channel, input channel, kernel row and column, output row and column.
    row = (_axis(out_channel, 0) * out_rows + _axis(torch.arange(out_rows), 4)) * out_columns
    row = row + _axis(torch.arange(out_columns), 5)
    column = (_axis(channel, 0, 1) * size[0] + _axis(rows, 2, 4)) * size[1] + _axis(columns, 3, 5)
    all_taps = (*weight.shape, out_rows, out_columns)
    inside = (_axis(rows_inside, 2, 4) & _axis(columns_inside, 3, 5)).expand(all_taps)
    return torch.sparse_coo_tensor(
        torch.stack([row.expand(all_taps)[inside], column.expand(all_taps)[inside]]).to(weight.device),
        weight[..., None, None].expand(all_taps)[inside.to(weight.device)],
        (out_channels * out_rows * out_columns, groups * group_channels * size[0] * size[1]),
        check_invariants=False,
    ).coalesce()


def overlap_counts(kernel: int, stride: int) -> list[int]:
    """How many inputs reach each phase of a transposed convolution's output, along one axis.

    Phase r is output rows r, r + s, r + 2s, ... (counted before `padding` cuts any off); the taps r,
    r + s, ... of the kernel fall there. In two dimensions the counts multiply.

        k2 s2 [1, 1]   k3 s2 [2, 1]   k4 s2 [2, 2]   k5 s2 [3, 2]   k6 s3 [2, 2, 2]

    Raises:
        InvalidArgumentError: a kernel or stride below 1.
    """
    if kernel < 1 or stride < 1:
        raise InvalidArgumentError(f"kernel {kernel} and stride {stride} start at 1.")
    return [len(range(phase, kernel, stride)) for phase in range(stride)]


def has_uneven_overlap(kernel: int, stride: int) -> bool:
    """Whether some phases get more inputs than others, which draws a checkerboard: k is no multiple of s.

    Weights can learn to balance it, and can learn a checkerboard where it is even; nearest-neighbor
    upsampling followed by a convolution has none to begin with (Odena et al.).
    """
    return len(set(overlap_counts(kernel, stride))) > 1


class TransposedConv(nn.ConvTranspose2d):
    """`transposed_conv` as a module. Weights, their names and their initialization are
    `nn.ConvTranspose2d`'s, and so state dicts fit either.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Size,
        *,
        stride: int | Size = 1,
        padding: int | Size = 0,
        output_padding: int | Size = 0,
        dilation: int | Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        geometry = _geometry(stride, padding, output_padding, dilation, groups)
        if in_channels % groups or out_channels % groups:
            raise InvalidArgumentError(
                f"{in_channels} and {out_channels} channels cannot be divided into {groups} groups."
            )
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel),
            geometry.stride,
            geometry.padding,
            geometry.output_padding,
            groups,
            bias,
            geometry.dilation,
        )
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return _transposed_conv(x, self.weight, self.bias, self.geometry)


def _transposed_conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
    _check(x, weight, bias, geometry)
    if _tiles(weight, geometry) and _pointwise_is_faster(x, weight):
        return _pointwise(x, weight, bias)
    if memory_format_of(x) == torch.contiguous_format:
        weight = weight.contiguous()  # a channels_last weight would make the output channels_last
    return functional.conv_transpose2d(
        x,
        weight,
        bias,
        geometry.stride,
        geometry.padding,
        geometry.output_padding,
        geometry.groups,
        geometry.dilation,
    )


def _tiles(weight: Tensor, geometry: _Geometry) -> bool:
    """Whether each input value makes one block of the output, and blocks neither overlap nor leave gaps."""
    return geometry == _Geometry(stride=(weight.shape[2], weight.shape[3]))


def _pointwise_is_faster(x: Tensor, weight: Tensor) -> bool:
    """Chosen by benchmarks/transposed.py, U-Net's four upsamplings in a batch of 4, kernel and stride 2, on 2
    Zen 5 cores with PyTorch 2.15. Its own time over that of the 1x1 convolution, finest level to coarsest:

                               float32                  bfloat16
        contiguous, forward    1.2  1.1  1.1  1.1       1.3  1.1  0.9  1.0
        contiguous, step       1.3  1.2  1.1  1.2       1.4  1.2  1.1  1.0
        channels_last, forward 0.8  0.8  0.9  1.1       0.7  0.8  0.8  0.9
        channels_last, step    2.6  1.8  1.4  1.4       3.7  1.8  1.3  1.1

    float64 and float16 gain in one case and lose in the next. Other devices are not measured, and an
    exported graph keeps the operator that other engines know.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or torch.compiler.is_exporting():
        return False
    backward = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return backward or memory_format_of(x) == torch.contiguous_format


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution to all pixels of a block, and the blocks put side by side.

    The order of the 1x1 convolution's channels is the one that keeps runs of memory longest.
    """
    in_channels, out_channels, rows, columns = weight.shape
    batch, _, height, width = x.shape
    if memory_format_of(x) == torch.channels_last:
        stacked = weight.permute(2, 3, 1, 0).reshape(-1, in_channels, 1, 1)
        blocks = functional.conv2d(x, stacked, None if bias is None else bias.repeat(rows * columns))
        pixels = blocks.permute(0, 2, 3, 1).reshape(batch, height, width, rows, columns, out_channels)
        return pixels.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    stacked = weight.permute(1, 2, 3, 0).reshape(-1, in_channels, 1, 1)
    blocks = functional.conv2d(x, stacked, None if bias is None else bias.repeat_interleave(rows * columns))
    pixels = blocks.reshape(batch, out_channels, rows, columns, height, width)
    return pixels.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


def _borders(weight: Tensor, geometry: _Geometry, axis: int) -> tuple[int, int]:
    """Zeros before and after, for `as_direct_conv`: negative ones cut."""
    border = geometry.dilation[axis] * (weight.shape[2 + axis] - 1) - geometry.padding[axis]
    return border, border + geometry.output_padding[axis]


def _taps(side: int, kernel: int, geometry: _Geometry, *, axis: int) -> tuple[int, Tensor, Tensor]:
    """Along one axis: places of the kernel, the pixel under (tap, place), and whether there is one."""
    stride, padding, dilation = geometry.stride[axis], geometry.padding[axis], geometry.dilation[axis]
    places = compute_conv_side(side, kernel, stride=stride, padding=padding, dilation=dilation)
    if places < 1:
        raise InvalidArgumentError(
            f"a kernel of {kernel} with dilation {dilation} and padding {padding} does not fit {side}."
        )
    pixels = torch.arange(kernel)[:, None] * dilation + torch.arange(places) * stride - padding
    return places, pixels, (pixels >= 0) & (pixels < side)


def _axis(values: Tensor, *axes: int) -> Tensor:
    """`values` laid along these of the six axes of `conv_matrix`."""
    shape = [1] * 6
    for axis, length in zip(axes, values.shape, strict=True):
        shape[axis] = length
    return values.view(shape)


def _geometry(
    stride: int | Size, padding: int | Size, output_padding: int | Size, dilation: int | Size, groups: int
) -> _Geometry:
    return _Geometry(
        stride=pair(stride),
        padding=pair(padding),
        output_padding=pair(output_padding),
        dilation=pair(dilation),
        groups=groups,
    )


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> None:
    check_map("x", x)
    _check_weight(weight, geometry.groups)
    if weight.shape[0] != x.shape[1]:
        raise InvalidArgumentError(
            f"weight {tuple(weight.shape)} is for {weight.shape[0]} channels, but x has {x.shape[1]}; it must be "
            "(C_in, C_out / groups, k, k), with the channels of x first."
        )
    if weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise InvalidArgumentError(
            f"weight is {weight.dtype}, but x is {x.dtype}; convert one of them, or use torch.autocast."
        )
    out_channels = weight.shape[1] * geometry.groups
    if bias is not None and bias.shape != (out_channels,):
        raise InvalidArgumentError(
            f"bias is {tuple(bias.shape)}, but must be ({out_channels},), one for each output channel."
        )
    # In an exported graph sides are symbols, and a condition on them is one on the image.
    if not torch.compiler.is_exporting() and min(_output_size(x, weight, geometry)) < 1:
        raise InvalidArgumentError(
            f"{x.shape[2]}x{x.shape[3]} gives no output with a {weight.shape[2]}x{weight.shape[3]} kernel and "
            f"{geometry}; use less padding."
        )


def _check_weight(weight: Tensor, groups: int) -> None:
    if weight.dim() != 4 or min(weight.shape) < 1 or weight.shape[0] % groups:
        raise InvalidArgumentError(
            f"weight is {tuple(weight.shape)}, but must have four dimensions, and a first that {groups} groups divide."
        )


def _output_size(x: Tensor, weight: Tensor, geometry: _Geometry) -> Size:
    height, width = (
        compute_transposed_conv_side(
            x.shape[2 + axis],
            weight.shape[2 + axis],
            stride=geometry.stride[axis],
            padding=geometry.padding[axis],
            output_padding=geometry.output_padding[axis],
            dilation=geometry.dilation[axis],
        )
        for axis in (0, 1)
    )
    return height, width
