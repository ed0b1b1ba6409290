import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.upsampling import (
    Interpolate,
    UnpoolBedOfNails,
    UnpoolNearest,
    bilinear_kernel,
    bilinear_weight,
    interpolate,
    unpool_bed_of_nails,
    unpool_nearest,
)

UNPOOLINGS = [unpool_nearest, unpool_bed_of_nails]
MODES = ["nearest", "bilinear", "bicubic"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMATS = [torch.contiguous_format, torch.channels_last]
OPERATORS = {
    "unpool_nearest": unpool_nearest,
    "unpool_bed_of_nails": unpool_bed_of_nails,
    **{mode: lambda x, mode=mode: interpolate(x, (5, 3), mode) for mode in MODES},
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def nearest_oracle(x, rows, columns):
    return np.kron(x, np.ones((rows, columns)))


def nails_oracle(x, rows, columns):
    out = np.zeros((*x.shape[:2], x.shape[2] * rows, x.shape[3] * columns))
    out[:, :, ::rows, ::columns] = x
    return out


def random_map(shape, dtype=torch.float32, layout=torch.contiguous_format):
    """Return a map whose strides have the layout also at 1x1 pixels and without images."""
    torch.manual_seed(0)
    return torch.empty(shape, dtype=dtype, memory_format=layout).copy_(torch.randn(shape))


@pytest.mark.parametrize(
    ("unpool", "expected"),
    [
        (unpool_nearest, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]),
        (unpool_bed_of_nails, [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]),
    ],
)
@pytest.mark.parametrize("layout", FORMATS)
def test_unpooling_by_hand(unpool, expected, layout):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 2, 2, 2).contiguous(memory_format=layout)
    assert unpool(x).tolist() == [[expected, expected]]


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    factor=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(FORMATS),
)
def test_unpooling_equals_the_oracle_and_keeps_layout_and_dtype(shape, factor, dtype, layout):
    x = random_map(shape, dtype, layout)
    for unpool, oracle in [(unpool_nearest, nearest_oracle), (unpool_bed_of_nails, nails_oracle)]:
        y = unpool(x, factor)
        np.testing.assert_array_equal(y.double().numpy(), oracle(x.double().numpy(), *factor))
        assert y.dtype == dtype
        assert not len(x) or y.is_contiguous(memory_format=layout)


@every_operator
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_every_dtype_and_layout(operator, dtype, layout, channels):
    x = random_map((2, channels, 6, 8), dtype, layout)
    y = operator(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    tolerance = 0 if dtype == torch.float64 else 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), operator(x.double()), rtol=tolerance, atol=tolerance * 4)


@every_operator
@pytest.mark.parametrize("layout", FORMATS)
def test_maps_with_gaps(operator, layout):
    x = random_map((2, 6, 9, 10), layout=layout)
    crops = [x[:, :, 1:5, 2:9], x[:, 1:4], x[:, :, ::2, ::3], x[::2], x.transpose(2, 3)]
    for crop in crops:
        torch.testing.assert_close(operator(crop), operator(crop.contiguous()))
    for crop in crops[:2]:
        assert operator(crop).is_contiguous(memory_format=layout)


@every_operator
def test_empty_batch(operator):
    x = torch.zeros(0, 3, 4, 5, requires_grad=True)
    y = operator(x)
    y.sum().backward()
    assert y.shape == (0, *operator(torch.zeros(1, 3, 4, 5)).shape[1:])
    assert x.grad.shape == x.shape


@every_operator
@pytest.mark.parametrize("layout", FORMATS)
def test_gradients(operator, layout):
    x = random_map((2, 2, 3, 4), torch.float64, layout).requires_grad_()
    assert torch.autograd.gradcheck(operator, x)
    assert torch.autograd.gradgradcheck(operator, x)


@every_operator
@pytest.mark.parametrize("layout", FORMATS)
def test_compile_and_export(operator, layout):
    x = random_map((2, 3, 4, 6), layout=layout).requires_grad_()

    class Wrapped(nn.Module):
        def forward(self, x):
            return operator(x)

    expected = operator(x)
    torch.compiler.reset()  # one function is compiled for every operator: more than the limit of its cache
    compiled = torch.compile(Wrapped(), backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected)
    assert compiled.stride() == expected.stride()
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    (gradient,) = torch.autograd.grad(compiled.square().sum(), x)
    torch.testing.assert_close(gradient, expected_gradient)
    torch.testing.assert_close(torch.export.export(Wrapped(), (x,)).module()(x), expected)


@every_operator
@pytest.mark.parametrize("layout", FORMATS)
# PyTorch has no batching rule for its half-pixel nearest: it loops, says so, and is right.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap(operator, layout):
    stack = torch.stack([random_map((2, 3, 4, 6), layout=layout), torch.ones(2, 3, 4, 6)])
    torch.testing.assert_close(torch.func.vmap(operator)(stack), torch.stack([operator(x) for x in stack]))
    gradient = torch.func.vmap(torch.func.grad(lambda x: operator(x).square().sum()))(stack)
    assert gradient.shape == stack.shape


@every_operator
def test_autocast(operator):
    x = random_map((1, 2, 4, 6), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = operator(x)
    torch.testing.assert_close(y, operator(x), check_dtype=False, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("factor", [2, 3])
def test_nearest_is_interpolation_by_a_whole_factor(factor):
    x = random_map((1, 2, 5, 4))
    torch.testing.assert_close(unpool_nearest(x, factor), interpolate(x, (5 * factor, 4 * factor), "nearest"))


@pytest.mark.parametrize("size", [(10, 12), (7, 9), (3, 2), (5, 6), (1, 1)])
@pytest.mark.parametrize(("mode", "order"), [("nearest", 0), ("bilinear", 1)])
def test_interpolation_has_half_pixel_centers(mode, order, size):
    """SciPy reads the input at the positions in the docstring."""
    x = random_map((1, 1, 5, 6), torch.float64)
    places = [(np.arange(new) + 0.5) * old / new - (0.5 if order else 0) for new, old in zip(size, (5, 6), strict=True)]
    if order == 0:  # the pixel the center falls into; SciPy would round halves its own way
        places = [np.floor(place) for place in places]
    grid = np.meshgrid(*places, indexing="ij")
    expected = ndimage.map_coordinates(x[0, 0].numpy(), grid, order=order, mode="nearest")
    np.testing.assert_allclose(interpolate(x, size, mode)[0, 0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_bicubic_by_hand():
    """An impulse doubled: Keys' kernel with a = -0.75 at distances of 1/4, 3/4, 5/4 and 7/4 pixels."""
    x = torch.zeros(1, 1, 1, 9, dtype=torch.float64)
    x[..., 4] = 1

    def keys(t, a=-0.75):
        return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4)

    right = [keys(t) for t in (0.25, 0.75, 1.25, 1.75)]
    y = interpolate(x, (1, 18), "bicubic")[0, 0, 0]
    np.testing.assert_allclose(y[9:13], right, atol=1e-15)
    np.testing.assert_allclose(y[5:9], right[::-1], atol=1e-15)


def test_bilinear_downsampling_reads_only_the_middle():
    x = random_map((1, 1, 8, 8))
    torch.testing.assert_close(interpolate(x, (4, 4), "bilinear"), functional.avg_pool2d(x, 2))
    middle = x.view(1, 1, 2, 4, 2, 4)[:, :, :, 1:3, :, 1:3].mean((3, 5))
    torch.testing.assert_close(interpolate(x, (2, 2), "bilinear"), middle)


def test_bilinear_kernels_by_hand():
    assert (bilinear_kernel(4)[1] / 0.75).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert bilinear_kernel(3).tolist() == [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    assert bilinear_kernel(2).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert bilinear_kernel(1).tolist() == [[1]]
    assert bilinear_kernel(5, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("kernel", [3, 4, 7, 16, 63, 64])
def test_each_phase_of_a_bilinear_kernel_sums_to_one(kernel):
    stride = (kernel + 1) // 2
    weights = bilinear_kernel(kernel, dtype=torch.float64)
    for row in range(stride):
        for column in range(stride):
            assert weights[row::stride, column::stride].sum().item() == pytest.approx(1)
    assert weights.sum().item() == pytest.approx(stride**2)
    assert torch.equal(weights, weights.flip(0))
    assert weights.min() > 0


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kernel", [3, 4, 8])
def test_constant_stays_constant_in_the_interior(kernel, groups):
    stride = (kernel + 1) // 2
    x = torch.arange(1.0, 4).view(1, 3, 1, 1).expand(1, 3, 5, 6)
    y = functional.conv_transpose2d(x, bilinear_weight(3, kernel, groups=groups), stride=stride, groups=groups)
    inside = y[:, :, kernel - 1 : 1 - kernel, kernel - 1 : 1 - kernel]
    assert inside.numel() > 0
    torch.testing.assert_close(inside, torch.arange(1.0, 4).view(1, 3, 1, 1).expand_as(inside))


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_bilinear_transposed_convolution_interpolates(stride):
    x = random_map((2, 3, 5, 6), torch.float64)
    weight = bilinear_weight(3, 2 * stride, dtype=torch.float64)
    y = functional.conv_transpose2d(x, weight, stride=stride, padding=stride // 2)
    expected = interpolate(x, (5 * stride, 6 * stride), "bilinear")
    inside = slice(stride // 2, -stride // 2)
    torch.testing.assert_close(y[:, :, inside, inside], expected[:, :, inside, inside])


@pytest.mark.parametrize(("groups", "on_diagonal"), [(1, [0, 1, 2, 3]), (2, [0, 1, 0, 1]), (4, [0, 0, 0, 0])])
def test_bilinear_weight_is_on_the_diagonal_only(groups, on_diagonal):
    weight = bilinear_weight(4, 3, groups=groups)
    assert weight.shape == (4, 4 // groups, 3, 3)
    expected = torch.zeros_like(weight)
    for channel, place in enumerate(on_diagonal):
        expected[channel, place] = bilinear_kernel(3)
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("module", [UnpoolNearest(3), UnpoolBedOfNails(3)])
def test_modules_call_the_functions(module):
    x = random_map((1, 2, 3, 4))
    unpool = {UnpoolNearest: unpool_nearest, UnpoolBedOfNails: unpool_bed_of_nails}[type(module)]
    assert torch.equal(module(x), unpool(x, 3))
    assert not module.state_dict()


def test_interpolate_module():
    x = random_map((1, 2, 3, 4))
    assert torch.equal(Interpolate("bicubic")(x, (5, 6)), interpolate(x, (5, 6), "bicubic"))


@every_operator
def test_invalid_maps_raise(operator):
    with pytest.raises(
        InvalidArgumentError, match=r"x is \(3, 4, 5\) torch.float32 on cpu, but must be \(B, C, H, W\)"
    ):
        operator(torch.zeros(3, 4, 5))
    with pytest.raises(InvalidArgumentError, match=r"torch.int64 on cpu, but must be .* bfloat16 or float16"):
        operator(torch.zeros(1, 3, 4, 5, dtype=torch.int64))


@pytest.mark.parametrize("unpool", [*UNPOOLINGS, lambda x, kernel_size: UnpoolNearest(kernel_size)(x)])
@pytest.mark.parametrize("kernel_size", [0, (2, 0), -1])
def test_empty_blocks_raise(unpool, kernel_size):
    with pytest.raises(InvalidArgumentError, match=r"kernel_size is .*must be an integer of at least 1"):
        unpool(torch.zeros(1, 1, 2, 2), kernel_size)


def test_invalid_interpolation_raises():
    with pytest.raises(InvalidArgumentError, match=r"Unknown value for mode: 'linear'.*bicubic, bilinear, nearest"):
        interpolate(torch.zeros(1, 1, 2, 2), (4, 4), "linear")
    with pytest.raises(InvalidArgumentError, match=r"size is 0, but must be an integer of at least 1"):
        interpolate(torch.zeros(1, 1, 2, 3), (0, 4))
    with pytest.raises(InvalidArgumentError, match=r"x is \(1, 1, 0, 3\) .* must have at least one pixel"):
        interpolate(torch.zeros(1, 1, 0, 3), (4, 4))


def test_invalid_bilinear_kernels_raise():
    with pytest.raises(InvalidArgumentError, match=r"kernel_size is 0, but must be an integer of at least 1"):
        bilinear_kernel(0)
    with pytest.raises(InvalidArgumentError, match=r"groups is 3, but must divide the 4 channels"):
        bilinear_weight(4, 2, groups=3)
