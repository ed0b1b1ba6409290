from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from torch import nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops import transposed_convolution as transposed_conv_module
from pixelwise.ops.transposed_convolution import (
    TransposedConv,
    as_direct_conv,
    conv_matrix,
    has_uneven_overlap,
    overlap_counts,
    transposed_conv,
)
from pixelwise.shapes import compute_output_padding, compute_transposed_conv_side, to_pair

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMATS = [torch.contiguous_format, torch.channels_last]
BOTH = [transposed_conv, as_direct_conv]
# One that is computed as a 1x1 convolution, and one that is not.
TILING = {"stride": 2}, (4, 3, 2, 2)
OVERLAPPING = {"stride": (2, 1), "padding": (1, 2), "output_padding": (1, 0), "dilation": (1, 2)}, (4, 3, 3, 3)
every_path = pytest.mark.parametrize(("arguments", "shape"), [TILING, OVERLAPPING], ids=["tiling", "overlapping"])
every_layout = pytest.mark.parametrize("layout", FORMATS, ids=["contiguous", "channels_last"])


@dataclass(slots=True, frozen=True, kw_only=True)
class Case:
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output_padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def arguments(self):
        return {name: getattr(self, name) for name in ("stride", "padding", "output_padding", "dilation", "groups")}

    def output_size(self):
        return tuple(
            compute_transposed_conv_side(
                self.size[axis],
                self.kernel[axis],
                stride=self.stride[axis],
                padding=self.padding[axis],
                output_padding=self.output_padding[axis],
                dilation=self.dilation[axis],
            )
            for axis in (0, 1)
        )


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def cases(draw):
    stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3))
    added = tuple(draw(st.integers(0, max(both) - 1)) for both in zip(stride, dilation, strict=True))
    case = Case(
        size=draw(pairs(1, 6)),
        kernel=draw(pairs(1, 5)),
        stride=stride,
        padding=draw(pairs(0, 4)),
        output_padding=added,
        dilation=dilation,
        groups=draw(st.integers(1, 3)),
    )
    return case


def random(*shape, dtype=torch.float64, layout=torch.contiguous_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.empty(shape, dtype=dtype, memory_format=layout).copy_(values)


def inputs(shape, dtype=torch.float64, layout=torch.contiguous_format, size=(3, 4)):
    """Return x, weight and bias."""
    return (
        random(2, shape[0], *size, dtype=dtype, layout=layout),
        random(*shape, dtype=dtype, seed=1),
        random(shape[1], dtype=dtype, seed=2),
    )


@pytest.mark.parametrize("operator", BOTH)
def test_by_hand(operator):
    """Each value adds the kernel, two pixels apart; the kernels overlap in the middle column."""
    x = torch.tensor([[[[1.0, 10.0]]]])
    weight = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert operator(x, weight, stride=2).tolist() == [[[[1, 2, 13, 20, 30]]]]
    assert operator(x, weight, stride=2, padding=(0, 1)).tolist() == [[[[2, 13, 20]]]]
    # What is added at the end is the row that padding had cut off, not zeros.
    assert operator(x, weight, stride=2, padding=(0, 1), output_padding=(0, 1)).tolist() == [[[[2, 13, 20, 30]]]]
    assert operator(x, weight, torch.tensor([0.5])).tolist() == [[[[1.5, 12.5, 23.5, 30.5]]]]


@given(cases())
def test_both_equal_pytorch_and_the_formula_gives_the_size(case):
    x = random(2, 2 * case.groups, *case.size)
    weight = random(2 * case.groups, 3, *case.kernel, seed=1)
    bias = random(3 * case.groups, seed=2)
    if min(case.output_size()) < 1:
        for operator in BOTH:
            with pytest.raises(InvalidArgumentError, match=r"gives no output .*Use less padding"):
                operator(x, weight, bias, **case.arguments())
        return
    expected = functional.conv_transpose2d(x, weight, bias, **case.arguments())
    assert expected.shape[2:] == case.output_size()
    for operator in BOTH:
        torch.testing.assert_close(operator(x, weight, bias, **case.arguments()), expected)


@given(cases())
def test_matrix_equals_convolution_and_transposed_convolution(case):
    """The two satisfy <C x, y> = <x, C^T y>, and are the gradients of each other."""
    size = tuple(2 * side + 6 for side in case.size)
    weight = random(2 * case.groups, 3, *case.kernel, seed=1)
    convolution = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
    reach = [dilation * (kernel - 1) for dilation, kernel in zip(case.dilation, case.kernel, strict=True)]
    if any(side + 2 * padding <= far for side, padding, far in zip(size, case.padding, reach, strict=True)):
        with pytest.raises(InvalidArgumentError, match="must fit a kernel"):
            conv_matrix(weight, size, **convolution)
        return
    x = random(1, 3 * case.groups, *size).requires_grad_()
    z = functional.conv2d(x, weight, **convolution)
    y = random(*z.shape, seed=3).requires_grad_()
    added = tuple(
        compute_output_padding(
            size[a], case.kernel[a], stride=case.stride[a], padding=case.padding[a], dilation=case.dilation[a]
        )
        for a in (0, 1)
    )
    back = transposed_conv(y, weight, output_padding=added, **convolution)
    matrix = conv_matrix(weight, size, **convolution)
    assert matrix.shape == (z.numel(), x.numel())
    with torch.no_grad():
        torch.testing.assert_close(matrix @ x.flatten(), z.flatten())
        torch.testing.assert_close(matrix.t() @ y.flatten(), back.flatten())
        torch.testing.assert_close((z * y).sum(), (x * back).sum())
    torch.testing.assert_close(torch.autograd.grad(z, x, y.detach())[0], back.detach())
    torch.testing.assert_close(torch.autograd.grad(back, y, x.detach())[0], z.detach())


def test_matrix_by_hand():
    """A kernel of two has three positions on four pixels."""
    weight = torch.tensor([[[[1.0, 2.0]]]])
    assert conv_matrix(weight, (1, 4)).to_dense().tolist() == [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2]]
    padded = conv_matrix(weight, (1, 2), padding=(0, 1), stride=(1, 2))
    assert padded.to_dense().tolist() == [[2, 0], [0, 1]]
    assert padded.dtype == torch.float32
    assert padded._nnz() == 2


def test_matrix_can_be_differentiated_by_the_weight():
    weight, x, y = random(2, 3, 2, 2).requires_grad_(), random(3, 4, 5), random(2, 3, 4, seed=1)
    (expected,) = torch.autograd.grad(functional.conv2d(x, weight), weight, y)
    (gradient,) = torch.autograd.grad(conv_matrix(weight, (4, 5)) @ x.flatten(), weight, y.flatten())
    torch.testing.assert_close(gradient, expected)


def test_one_channel_equals_scipy():
    """With stride 1 it is the full convolution of signal processing."""
    x, weight = random(1, 1, 5, 6), random(1, 1, 3, 2, seed=1)
    expected = signal.convolve2d(x[0, 0].numpy(), weight[0, 0].numpy(), mode="full")
    for operator in BOTH:
        np.testing.assert_allclose(operator(x, weight)[0, 0].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "counts"),
    [(2, 2, [1, 1]), (3, 2, [2, 1]), (4, 2, [2, 2]), (5, 2, [3, 2]), (6, 3, [2, 2, 2]), (2, 3, [1, 1, 0]), (3, 1, [3])],
)
def test_overlap_counts(kernel, stride, counts):
    assert overlap_counts(kernel, stride) == counts


@given(st.integers(1, 9), st.integers(1, 5))
def test_overlap_counts_equal_convolution_of_ones(kernel, stride):
    """The counts hold away from the border, and multiply in two dimensions."""
    ones = torch.ones(1, 1, 12, 12)
    y = transposed_conv(ones, torch.ones(1, 1, kernel, kernel), stride=stride)[0, 0]
    start = stride * -(-kernel // stride)
    inside = y[start : start + stride, start : start + stride]
    counts = torch.tensor(overlap_counts(kernel, stride), dtype=torch.float32)
    assert torch.equal(inside, torch.outer(counts, counts))
    assert has_uneven_overlap(kernel, stride) == bool(kernel % stride) == bool(inside.min() < inside.max())


@pytest.mark.parametrize("operator", BOTH)
@every_path
@every_layout
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout(operator, arguments, shape, layout, dtype):
    x, weight, bias = inputs(shape, dtype, layout)
    expected = functional.conv_transpose2d(x.double(), weight.double(), bias.double(), **arguments)
    eps = torch.finfo(dtype).eps
    for weight_layout in FORMATS:
        for requires_grad in (False, True):
            w = torch.empty_like(weight, memory_format=weight_layout).copy_(weight).requires_grad_(requires_grad)
            y = operator(x, w, bias, **arguments)
            assert y.dtype == dtype
            torch.testing.assert_close(y.detach().double(), expected, rtol=8 * eps, atol=16 * eps)
            if operator is transposed_conv:
                assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (2, 1, 3, 4), (1, 4, 1, 5)])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@every_layout
def test_small_shapes_keep_their_layout(shape, kernel, layout):
    x, weight = (
        random(*shape, dtype=torch.float32, layout=layout),
        random(shape[1], 3, kernel, kernel, dtype=torch.float32),
    )
    for stride in (1, 2, 3):
        y = transposed_conv(x, weight, stride=stride)
        torch.testing.assert_close(y, functional.conv_transpose2d(x, weight, stride=stride))
        assert shape[1] == 1 or y.is_contiguous(memory_format=layout)


@every_path
@every_layout
def test_maps_with_gaps_and_no_images(arguments, shape, layout):
    x, weight, bias = inputs(shape, torch.float32, layout, size=(7, 8))
    for crop in (x[:, :, 1:4, 2:6], x[:, :, ::2, ::3], x[::2], x.transpose(2, 3)):
        torch.testing.assert_close(
            transposed_conv(crop, weight, bias, **arguments),
            transposed_conv(crop.contiguous(), weight, bias, **arguments),
        )
    assert transposed_conv(x[:, :, 1:4], weight, bias, **arguments).is_contiguous(memory_format=layout)
    none = x[:0].requires_grad_()
    for operator in BOTH:
        y = operator(none, weight, bias, **arguments)
        assert y.shape == (0, *transposed_conv(x, weight, bias, **arguments).shape[1:])
        (gradient,) = torch.autograd.grad(y.sum(), none)
        assert gradient.shape == none.shape


@pytest.mark.parametrize(
    ("operator", "arguments", "shape"),
    [
        (transposed_conv, *OVERLAPPING),
        (as_direct_conv, *OVERLAPPING),
        (transposed_conv_module._convolve_pointwise, {}, TILING[1]),
    ],
)
@every_layout
def test_gradients(operator, arguments, shape, layout):
    tensors = tuple(tensor.requires_grad_() for tensor in inputs(shape, layout=layout, size=(2, 3)))
    assert torch.autograd.gradcheck(lambda *tensors: operator(*tensors, **arguments), tensors)
    assert torch.autograd.gradgradcheck(lambda *tensors: operator(*tensors, **arguments), tensors, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (2, 3), (4, 1)])
@pytest.mark.parametrize("biased", [True, False])
@every_layout
def test_pointwise_blocks_equal_transposed_convolution(dtype, kernel, biased, layout):
    x, weight, bias = inputs((4, 3, *kernel), dtype, layout)
    bias = bias if biased else None
    y = transposed_conv_module._convolve_pointwise(x, weight, bias)
    torch.testing.assert_close(y, functional.conv_transpose2d(x, weight, bias, stride=kernel))
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("layout", "dtype", "requires_grad", "stride", "expected"),
    [
        (torch.contiguous_format, torch.float32, False, 2, True),
        (torch.contiguous_format, torch.bfloat16, False, 2, True),
        (torch.channels_last, torch.float32, False, 2, False),
        (torch.channels_last, torch.bfloat16, True, 2, True),
        (torch.contiguous_format, torch.float64, True, 2, False),
        (torch.contiguous_format, torch.float32, True, 1, False),
    ],
)
def test_choice_of_algorithm(monkeypatch, layout, dtype, requires_grad, stride, expected):
    taken = []
    pointwise = transposed_conv_module._convolve_pointwise
    monkeypatch.setattr(
        transposed_conv_module, "_convolve_pointwise", lambda *tensors: taken.append(1) or pointwise(*tensors)
    )
    x, weight, bias = inputs((4, 3, 2, 2), dtype, layout)
    transposed_conv(x.requires_grad_(requires_grad), weight, bias, stride=stride)
    assert bool(taken) == expected
    taken.clear()
    with torch.no_grad():
        transposed_conv(x, weight, bias, stride=stride)
    assert bool(taken) == (expected and layout == torch.contiguous_format)


@every_path
@every_layout
def test_compile_and_export(arguments, shape, layout):
    x, weight, bias = inputs(shape, torch.float32, layout)
    module = TransposedConv(shape[0], shape[1], shape[2:], **arguments)
    module.load_state_dict({"weight": weight, "bias": bias})
    expected = module(x)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected)
    assert compiled.stride() == expected.stride()
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), expected)
    assert any("conv_transpose2d" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.parametrize("operator", BOTH)
@every_path
@every_layout
def test_vmap(operator, arguments, shape, layout):
    x, weight, bias = inputs(shape, torch.float32, layout)

    def call(x, weight):
        return operator(x, weight, bias, **arguments)

    maps, weights = torch.stack([x, 2 * x]), torch.stack([weight, -weight])
    torch.testing.assert_close(
        torch.func.vmap(call, (0, None))(maps, weight), torch.stack([call(m, weight) for m in maps])
    )
    both = [call(m, w) for m, w in zip(maps, weights, strict=True)]
    torch.testing.assert_close(torch.func.vmap(call)(maps, weights), torch.stack(both))
    gradient = torch.func.vmap(torch.func.grad(lambda x, weight: call(x, weight).square().sum()))(maps, weights)
    assert gradient.shape == maps.shape


@every_path
@every_layout
def test_autocast(arguments, shape, layout):
    x, weight, bias = inputs(shape, torch.float32, layout)
    expected = transposed_conv(x, weight, bias, **arguments)
    with torch.autocast("cpu", torch.bfloat16):
        for converted in (x, x.bfloat16()):
            for needs in (False, True):
                y = transposed_conv(converted, weight.detach().requires_grad_(needs), bias, **arguments)
                assert y.dtype == torch.bfloat16
                assert y.is_contiguous(memory_format=layout)
                torch.testing.assert_close(y.float(), expected, rtol=5e-2, atol=1e-1)


@given(cases())
def test_module_is_interchangeable_with_pytorch(case):
    channels = 2 * case.groups, 3 * case.groups
    torch.manual_seed(0)
    ours = TransposedConv(*channels, case.kernel, **case.arguments())
    torch.manual_seed(0)
    theirs = nn.ConvTranspose2d(*channels, case.kernel, **case.arguments())
    assert all(torch.equal(theirs.state_dict()[name], value) for name, value in ours.state_dict().items())
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    if min(case.output_size()) >= 1:
        x = random(1, channels[0], *case.size, dtype=torch.float32)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_module_without_bias():
    module = TransposedConv(4, 2, 3, stride=2, bias=False)
    assert list(module.state_dict()) == ["weight"]
    assert module(torch.zeros(1, 4, 3, 3)).shape == (1, 2, 7, 7)


@pytest.mark.parametrize("operator", BOTH)
@pytest.mark.parametrize(
    ("x", "weight", "arguments", "message"),
    [
        ((4, 3, 3), (4, 3, 2, 2), {}, r"x is \(4, 3, 3\) .* must be \(B, C, H, W\)"),
        ((1, 4, 3, 3), (4, 3, 2), {}, r"weight is \(4, 3, 2\) .* must be \(C_in, C_out, k, k\)"),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"groups": 3}, r"groups 3 must divide its first dimension"),
        ((1, 4, 3, 3), (3, 4, 2, 2), {}, r"for 3 channels, but x has 4. It must be \(C_in, C_out / groups"),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"bias": torch.zeros(4)}, r"bias is \(4,\) .* must be \(3,\)"),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"padding": 2}, r"3x3 gives no output with a 2x2 kernel .*Use less padding"),
        (
            (1, 4, 3, 3),
            (4, 3, 2, 2),
            {"stride": 0},
            r"stride is 0, but must be an integer of at least 1",
        ),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"dilation": (1, 0)}, r"dilation is 0, but must be an integer of at least 1"),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"groups": 0}, r"groups is 0, but must be an integer of at least 1"),
        ((1, 4, 3, 3), (4, 3, 2, 2), {"padding": -1}, r"padding is -1, but must be an integer of at least 0"),
        (
            (1, 4, 3, 3),
            (4, 3, 2, 2),
            {"stride": 2, "output_padding": 2},
            r"output_padding is 2, .* stride 2 and dilation 1",
        ),
        (
            (1, 4, 3, 3),
            (4, 3, 2, 2),
            {"output_padding": (0, -1)},
            r"output_padding is -1, but must be an integer of at least 0",
        ),
    ],
)
def test_invalid_arguments_raise(operator, x, weight, arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        operator(torch.zeros(x), torch.zeros(weight), **arguments)


@pytest.mark.parametrize("operator", BOTH)
def test_mixed_dtypes_raise(operator):
    with pytest.raises(InvalidArgumentError, match=r"weight is torch.float32, but x is torch.bfloat16"):
        operator(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), torch.zeros(1, 1, 2, 2))


def test_invalid_module_matrix_and_counts_raise():
    with pytest.raises(InvalidArgumentError, match=r"groups is 2, but must divide in_channels 4 and out_channels 3"):
        TransposedConv(4, 3, 2, groups=2)
    with pytest.raises(InvalidArgumentError, match=r"output_padding is 1, but must be"):
        TransposedConv(4, 3, 2, output_padding=1)
    with pytest.raises(InvalidArgumentError, match=r"A size of 4 pixels does not fit a kernel of 5"):
        conv_matrix(torch.zeros(1, 1, 5, 5), (4, 9))
    with pytest.raises(InvalidArgumentError, match=r"must be \(C_in, C_out, k, k\)"):
        conv_matrix(torch.zeros(1, 5, 5), (4, 9))
    for kernel, stride in [(0, 2), (2, 0)]:
        with pytest.raises(InvalidArgumentError, match=r"is 0, but must be an integer of at least 1"):
            overlap_counts(kernel, stride)


def test_one_number_stands_for_both_axes():
    x, weight, bias = inputs((4, 3, 3, 3))
    once = {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 1}
    twice = {name: to_pair(value) for name, value in once.items()}
    for operator in BOTH:
        assert torch.equal(operator(x, weight, bias, **once), operator(x, weight, bias, **twice))
