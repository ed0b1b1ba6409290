"""Transposed convolution, the equal direct convolution, and the matrix of both.

A convolution is a linear map: y = C x with a sparse matrix C. The transposed convolution with the same weight
multiplies by the transpose of C. It is the gradient of the convolution and maps the size of y back to the size of x.
It is not an inverse: the values differ from those of x, so "deconvolution" is a misnomer. `conv_matrix` builds C, and
`as_direct_conv` computes the same result as an ordinary convolution of a map with zeros between its values.

Arithmetic: Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", 2016 (arXiv:1603.07285).
Checkerboards: Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill, 2016.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.upsampling import unpool_bed_of_nails
from pixelwise.shapes import Size, compute_conv_side, compute_transposed_conv_side
from pixelwise.tensors import DTYPES, check_int, check_map, check_pair, check_size, check_tensor, get_memory_format


class ConvArguments(NamedTuple):
    """Checked arguments of a transposed convolution, as (height, width) pairs, in the order of PyTorch."""

    stride: Size
    padding: Size = (0, 0)
    output_padding: Size = (0, 0)
    groups: int = 1
    dilation: Size = (1, 1)


def transposed_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Size = 1,
    padding: int | Size = 0,
    output_padding: int | Size = 0,
    groups: int = 1,
    dilation: int | Size = 1,
) -> Tensor:
    """Add each input value times the kernel to the output, `stride` pixels apart.

    The formula of the size is in Dumoulin, Visin, 2016 (arXiv:1603.07285). All arguments except `groups` take one
    number, or one for the height and one for the width.

    Args:
        x: (B, C_in, H, W) floating point, contiguous or channels_last.
        weight: (C_in, C_out / groups, k, k) in the dtype of `x`, as in PyTorch. It is the weight of the convolution
            from C_out to C_in channels whose transpose this is.
        bias: (C_out,).
        stride: Distance in the output of the contributions of neighboring inputs, in pixels.
        padding: Rows and columns to cut off at each border; the convolution would pad them.
        output_padding: Rows and columns to add at the bottom and right. A convolution with a stride maps several
            sizes to one, and this argument selects the one to return to. The added values are computed, not zero.
        groups: Number of groups of channels that are convolved separately.
        dilation: Distance of the taps of the kernel, in pixels.

    Returns:
        (B, C_out, H', W') in the dtype of `x`, with H' = s(H - 1) + d(k - 1) + 1 - 2p + output_padding.

    Raises:
        InvalidArgumentError: The tensors do not match, or the arguments give an empty output.

    Example:
        >>> import torch
        >>> from pixelwise.ops import transposed_conv
        >>> x, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 1, 3)
        >>> transposed_conv(x, weight, stride=(1, 2))  # the kernels overlap in the middle
        tensor([[[[1., 1., 3., 2., 2.]]]])
    """
    arguments = _check_arguments(stride, padding, output_padding, dilation, groups)
    return _transposed_conv(x, weight, bias, arguments)


def as_direct_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Size = 1,
    padding: int | Size = 0,
    output_padding: int | Size = 0,
    groups: int = 1,
    dilation: int | Size = 1,
) -> Tensor:
    """Compute `transposed_conv` as the ordinary convolution that it equals; slow, for learning and for tests.

    1. Insert s - 1 zeros between neighboring values.
    2. Pad d(k - 1) - p zeros at each border, so that each corner value meets the whole kernel; crop where that is
       negative. Add `output_padding` at the bottom and right.
    3. Convolve with stride 1 and the kernel rotated by 180 degrees, with its input and output channels exchanged
       within each group.

    A share of (s² - 1) / s² of the products is with the zeros. The steps follow Dumoulin, Visin, 2016
    (arXiv:1603.07285).

    Args:
        x: (B, C_in, H, W) floating point, contiguous or channels_last.
        weight: (C_in, C_out / groups, k, k) in the dtype of `x`.
        bias: (C_out,).
        stride: As in `transposed_conv`, in pixels.
        padding: As in `transposed_conv`, in pixels.
        output_padding: As in `transposed_conv`, in pixels.
        groups: Number of groups of channels that are convolved separately.
        dilation: As in `transposed_conv`, in pixels.

    Returns:
        (B, C_out, H', W') in the dtype of `x`, equal to `transposed_conv` up to rounding.

    Raises:
        InvalidArgumentError: The tensors do not match, or the arguments give an empty output.

    Example:
        >>> import torch
        >>> from pixelwise.ops import as_direct_conv, transposed_conv
        >>> x, weight = torch.rand(1, 4, 5, 5), torch.rand(4, 2, 3, 3)
        >>> torch.allclose(as_direct_conv(x, weight, stride=2), transposed_conv(x, weight, stride=2), atol=1e-5)
        True
    """
    arguments = _check_arguments(stride, padding, output_padding, dilation, groups)
    _check_tensors(x, weight, bias, arguments)
    rows, columns = arguments.stride
    height, width = x.shape[2:]
    spread = unpool_bed_of_nails(x, (rows, columns))[:, :, : (height - 1) * rows + 1, : (width - 1) * columns + 1]
    top, left = (arguments.dilation[axis] * (weight.shape[2 + axis] - 1) - arguments.padding[axis] for axis in (0, 1))
    added_rows, added_columns = arguments.output_padding
    padded = functional.pad(spread, (left, left + added_columns, top, top + added_rows))  # negative values crop
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    rotated = grouped.transpose(1, 2).flatten(0, 1).flip(2, 3)
    return functional.conv2d(padded, rotated, bias, dilation=arguments.dilation, groups=groups)


def conv_matrix(
    weight: Tensor,
    size: Size,
    stride: int | Size = 1,
    padding: int | Size = 0,
    dilation: int | Size = 1,
    groups: int = 1,
) -> Tensor:
    """Build the matrix C of an ordinary convolution: `conv2d(x, weight).flatten() == C @ x.flatten()`.

    Each row holds the kernel at one position of the output, each column the effect of one input value. C^T y is the
    transposed convolution of y with the same weight, and with the `output_padding` that restores `size`. Therefore
    <C x, y> = <x, C^T y>. The matrix is meant for small maps: it stores k² C_out C_in / groups values for each pixel
    of the output (Dumoulin, Visin, 2016, arXiv:1603.07285, section 4.1).

    Args:
        weight: (C_out, C_in / groups, k, k) of the convolution; `transposed_conv` reads the same tensor as
            (C_in, C_out / groups, k, k). The matrix is differentiable in it.
        size: (height, width) of x.
        stride: Stride of the convolution in pixels.
        padding: Padding of the convolution in pixels.
        dilation: Distance of the taps of the kernel in pixels.
        groups: Number of groups of channels that are convolved separately.

    Returns:
        (C_out · H' · W', C_in · H · W) sparse COO in the dtype of `weight`. Maps are flattened in the order channel,
        row, column.

    Raises:
        InvalidArgumentError: The kernel does not fit the size, or `groups` does not divide the channels.

    Example:
        >>> import torch
        >>> from pixelwise.ops import conv_matrix
        >>> conv_matrix(torch.tensor([[[[1.0, 2.0]]]]), (1, 4)).to_dense()
        tensor([[1., 2., 0., 0.],
                [0., 1., 2., 0.],
                [0., 0., 1., 2.]])
    """
    arguments = _check_arguments(stride, padding, 0, dilation, groups)
    _check_weight(weight, groups)
    if weight.is_meta:
        raise InvalidArgumentError("weight is on meta, but must have values: they decide which ones are stored.")
    size = check_size("size", size)
    out_channels, group_channels, *kernel_size = weight.shape
    out_rows, rows, rows_inside = _compute_taps(size[0], kernel_size[0], arguments, axis=0)
    out_columns, columns, columns_inside = _compute_taps(size[1], kernel_size[1], arguments, axis=1)
    out_channel = torch.arange(out_channels)
    group = out_channel // (out_channels // groups)
    channel = group[:, None] * group_channels + torch.arange(group_channels)

    # Axes from here on: output channel, input channel, kernel row and column, output row and column.
    row = (_expand(out_channel, 0) * out_rows + _expand(torch.arange(out_rows), 4)) * out_columns
    row = row + _expand(torch.arange(out_columns), 5)
    column = (_expand(channel, 0, 1) * size[0] + _expand(rows, 2, 4)) * size[1] + _expand(columns, 3, 5)
    all_taps = (*weight.shape, out_rows, out_columns)
    inside = (_expand(rows_inside, 2, 4) & _expand(columns_inside, 3, 5)).expand(all_taps)
    return torch.sparse_coo_tensor(
        torch.stack([row.expand(all_taps)[inside], column.expand(all_taps)[inside]]).to(weight.device),
        weight[..., None, None].expand(all_taps)[inside.to(weight.device)],
        (out_channels * out_rows * out_columns, groups * group_channels * size[0] * size[1]),
        check_invariants=False,
    ).coalesce()


def overlap_counts(kernel_size: int, stride: int) -> list[int]:
    """Count the inputs that reach each phase of the output of a transposed convolution, along one axis.

    Phase r is the output rows r, r + s, r + 2s, ... before `padding` crops any; the taps r, r + s, ... of the kernel
    contribute to it. In two dimensions the counts multiply. Unequal counts cause checkerboards: Odena, Dumoulin, Olah,
    Distill, 2016.

    Args:
        kernel_size: Side of the kernel in pixels, at least 1.
        stride: Stride in pixels, at least 1.

    Returns:
        `stride` counts, in the order of the phases.

    Raises:
        InvalidArgumentError: `kernel_size` or `stride` is below 1.

    Example:
        >>> from pixelwise.ops import overlap_counts
        >>> overlap_counts(4, 2), overlap_counts(3, 2), overlap_counts(6, 3)
        ([2, 2], [2, 1], [2, 2, 2])
    """
    check_int("kernel_size", kernel_size)
    check_int("stride", stride)
    return [len(range(phase, kernel_size, stride)) for phase in range(stride)]


def has_uneven_overlap(kernel_size: int, stride: int) -> bool:
    """Return whether some phases of the output get more inputs than others, which causes a checkerboard.

    This is the case where `stride` does not divide `kernel_size`. Trained weights can balance uneven counts, and can
    produce a checkerboard from even ones. Nearest-neighbor upsampling and a convolution start without one (Odena,
    Dumoulin, Olah, Distill, 2016).

    Args:
        kernel_size: Side of the kernel in pixels, at least 1.
        stride: Stride in pixels, at least 1.

    Returns:
        Whether the counts of `overlap_counts` differ.

    Raises:
        InvalidArgumentError: `kernel_size` or `stride` is below 1.

    Example:
        >>> from pixelwise.ops import has_uneven_overlap
        >>> has_uneven_overlap(3, 2), has_uneven_overlap(4, 2)
        (True, False)
    """
    return len(set(overlap_counts(kernel_size, stride))) > 1


class TransposedConv(nn.ConvTranspose2d):
    """The module form of `transposed_conv`, with the weights and the initialization of `nn.ConvTranspose2d`.

    State dicts of the two classes are interchangeable. All arguments except the channels and `groups` take one number,
    or one for the height and one for the width.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: Side of the kernel in pixels.
        stride: As in `transposed_conv`, in pixels.
        padding: As in `transposed_conv`, in pixels.
        output_padding: As in `transposed_conv`, in pixels.
        groups: Number of groups of channels that are convolved separately.
        bias: Whether a learned bias (C_out,) is added.
        dilation: As in `transposed_conv`, in pixels.

    Returns:
        `forward(x)` takes (B, C_in, H, W) and returns (B, C_out, H', W').

    Raises:
        InvalidArgumentError: `groups` does not divide the channels, or another argument is invalid.

    Example:
        >>> import torch
        >>> from pixelwise.ops import TransposedConv
        >>> TransposedConv(8, 4, 2, stride=2)(torch.rand(1, 8, 23, 30)).shape
        torch.Size([1, 4, 46, 60])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Size,
        stride: int | Size = 1,
        padding: int | Size = 0,
        output_padding: int | Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Size = 1,
    ) -> None:
        checked = _check_arguments(stride, padding, output_padding, dilation, groups)
        check_int("in_channels", in_channels)
        check_int("out_channels", out_channels)
        if in_channels % groups or out_channels % groups:
            raise InvalidArgumentError(
                f"groups is {groups}, but must divide in_channels {in_channels} and out_channels {out_channels}."
            )
        if not isinstance(bias, bool):
            raise InvalidArgumentError(f"bias is {describe_value(bias)}, but must be True or False.")
        super().__init__(
            in_channels, out_channels, check_pair("kernel_size", kernel_size), *checked[:4], bias, checked.dilation
        )
        self.arguments = checked

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the transposed convolution (B, C_out, H', W') of (B, C_in, H, W)."""
        return _transposed_conv(x, self.weight, self.bias, self.arguments)


def _transposed_conv(x: Tensor, weight: Tensor, bias: Tensor | None, arguments: ConvArguments) -> Tensor:
    _check_tensors(x, weight, bias, arguments)
    # Each input value fills one block of the output, without overlaps and gaps.
    has_disjoint_blocks = arguments == ConvArguments(stride=(weight.shape[2], weight.shape[3]))
    if has_disjoint_blocks and _is_pointwise_faster(x, weight):
        return _convolve_pointwise(x, weight, bias)
    if get_memory_format(x) == torch.contiguous_format:
        weight = weight.contiguous()  # a channels_last weight would make the output channels_last
    return functional.conv_transpose2d(x, weight, bias, *arguments)


def _is_pointwise_faster(x: Tensor, weight: Tensor) -> bool:
    """Return whether the 1x1 convolution is the faster algorithm for disjoint blocks.

    Measured by benchmarks/transposed.py for the four upsamplings of U-Net (batch of 4, kernel and stride 2) on 2 Zen 5
    cores with PyTorch 2.15. Time of the transposed convolution over that of the 1x1 convolution, fine to coarse:

                               float32                  bfloat16
        contiguous, forward    1.2  1.1  1.1  1.1       1.3  1.1  0.9  1.0
        contiguous, step       1.3  1.2  1.1  1.2       1.4  1.2  1.1  1.0
        channels_last, forward 0.8  0.8  0.9  1.1       0.7  0.8  0.8  0.9
        channels_last, step    2.6  1.8  1.4  1.4       3.7  1.8  1.3  1.1

    float64 and float16 gain in some cases and lose in others. Other devices are not measured. An exported graph keeps
    the operator that other engines know.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or torch.compiler.is_exporting():
        return False
    has_backward = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return has_backward or get_memory_format(x) == torch.contiguous_format


def _convolve_pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute all pixels of each block as channels of a 1x1 convolution, then arrange the blocks.

    The order of those channels keeps the contiguous runs of memory as long as possible.
    """
    in_channels, out_channels, rows, columns = weight.shape
    batch, _, height, width = x.shape
    if get_memory_format(x) == torch.channels_last:
        stacked = weight.permute(2, 3, 1, 0).reshape(-1, in_channels, 1, 1)
        blocks = functional.conv2d(x, stacked, None if bias is None else bias.repeat(rows * columns))
        pixels = blocks.permute(0, 2, 3, 1).reshape(batch, height, width, rows, columns, out_channels)
        return pixels.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    stacked = weight.permute(1, 2, 3, 0).reshape(-1, in_channels, 1, 1)
    blocks = functional.conv2d(x, stacked, None if bias is None else bias.repeat_interleave(rows * columns))
    pixels = blocks.reshape(batch, out_channels, rows, columns, height, width)
    return pixels.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


def _compute_taps(side: int, kernel_size: int, arguments: ConvArguments, *, axis: int) -> tuple[int, Tensor, Tensor]:
    """Return the output side, the input pixel under each (tap, output pixel), and whether it is inside the map."""
    stride, padding, dilation = arguments.stride[axis], arguments.padding[axis], arguments.dilation[axis]
    out_side = compute_conv_side(side, kernel_size, stride=stride, padding=padding, dilation=dilation)
    if out_side < 1:
        raise InvalidArgumentError(
            f"A size of {side} pixels does not fit a kernel of {kernel_size} with dilation {dilation} and "
            f"padding {padding}."
        )
    pixels = torch.arange(kernel_size)[:, None] * dilation + torch.arange(out_side) * stride - padding
    return out_side, pixels, (pixels >= 0) & (pixels < side)


def _expand(values: Tensor, *axes: int) -> Tensor:
    """View `values` along the given axes of the six axes of `conv_matrix`."""
    shape = [1] * 6
    for axis, length in zip(axes, values.shape, strict=True):
        shape[axis] = length
    return values.view(shape)


def _check_arguments(
    stride: int | Size, padding: int | Size, output_padding: int | Size, dilation: int | Size, groups: int
) -> ConvArguments:
    arguments = ConvArguments(
        stride=check_pair("stride", stride),
        padding=check_pair("padding", padding, 0),
        output_padding=check_pair("output_padding", output_padding, 0),
        groups=check_int("groups", groups),
        dilation=check_pair("dilation", dilation),
    )
    for added, step, spread in zip(arguments.output_padding, arguments.stride, arguments.dilation, strict=True):
        if added >= max(step, spread):
            raise InvalidArgumentError(
                f"output_padding is {added}, but must be below the larger of stride {step} and dilation {spread}: "
                "more rows than that would stay empty."
            )
    return arguments


def _check_tensors(x: Tensor, weight: Tensor, bias: Tensor | None, arguments: ConvArguments) -> None:
    check_map("x", x)
    _check_weight(weight, arguments.groups)
    if weight.shape[0] != x.shape[1]:
        raise InvalidArgumentError(
            f"weight is {describe_value(weight)}, for {weight.shape[0]} channels, but x has {x.shape[1]}. It must be "
            "(C_in, C_out / groups, k, k), with the channels of x first."
        )
    out_channels = weight.shape[1] * arguments.groups
    if bias is not None:
        check_tensor("bias", bias, "(C,)", DTYPES)
        if bias.shape != (out_channels,):
            raise InvalidArgumentError(
                f"bias is {describe_value(bias)}, but must be ({out_channels},), one number per channel."
            )
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.device != x.device:
            raise InvalidArgumentError(f"{name} is on {given.device}, but must be on {x.device}, as x.")
        if given is not None and given.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InvalidArgumentError(f"{name} is {given.dtype}, but x is {x.dtype}. Convert one, or use autocast.")
    if torch.compiler.is_exporting():
        return  # sides are symbols there, and a check would limit the image size
    stride, padding, added, _, dilation = arguments
    settings = zip(x.shape[2:], weight.shape[2:], stride, padding, added, dilation, strict=True)
    if any(
        compute_transposed_conv_side(side, kernel, stride=s, padding=p, output_padding=a, dilation=d) < 1
        for side, kernel, s, p, a, d in settings
    ):
        raise InvalidArgumentError(
            f"{x.shape[2]}x{x.shape[3]} gives no output with a {weight.shape[2]}x{weight.shape[3]} kernel and "
            f"padding {arguments.padding}. Use less padding."
        )


def _check_weight(weight: Tensor, groups: int) -> None:
    check_tensor("weight", weight, "(C_in, C_out, k, k)", DTYPES)
    if min(weight.shape) < 1 or weight.shape[0] % groups:
        raise InvalidArgumentError(
            f"weight is {describe_value(weight)}, but must not be empty, and groups {groups} must divide its first "
            "dimension."
        )
