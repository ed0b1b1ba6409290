"""Test pooling and unpooling against NumPy and PyTorch, and by their laws."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops import (
    MaxPoolWithSwitches,
    MaxUnpool,
    kernels,
    max_pool_with_switches,
    max_unpool,
    pack_switches,
    unpack_switches,
)
from pixelwise.ops.kernels import cpu, reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def _each_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with the compiled kernels and with plain PyTorch."""
    if request.param == "compiled" and cpu.load_library() is None:
        pytest.skip("the compiled kernels were not built: no C++ compiler at install time")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "choose", lambda device: cpu if request.param == "compiled" else reference)
        yield


def oracle(x: np.ndarray, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maxima and switches of one plane, window by window, in ceil mode."""
    rows, columns = (-(-side // kernel) for side in x.shape)
    pooled, switches = np.zeros((rows, columns)), np.zeros((rows, columns), np.uint8)
    for r, c in np.ndindex(rows, columns):
        window = x[r * kernel : (r + 1) * kernel, c * kernel : (c + 1) * kernel]
        nans = np.flatnonzero(np.isnan(window))
        dy, dx = divmod(int(nans[-1] if len(nans) else window.argmax()), window.shape[1])
        pooled[r, c], switches[r, c] = window[dy, dx], dy * kernel + dx
    return pooled, switches


maps = st.tuples(
    st.integers(0, 3),  # batch
    st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33, 64, 70]),  # channels: below, at and above a vector's length
    st.integers(1, 40),
    st.integers(1, 80),
    st.integers(2, 15),  # kernel
    st.sampled_from(DTYPES),
    st.sampled_from(FORMATS),
    st.integers(0, 2**32 - 1),  # seed
)


def draw(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Draw from few values, so that there are ties, with both zeros, infinities and NaN of both signs."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, 3.0, torch.inf, -torch.inf, torch.nan, -torch.nan])
    likely = torch.tensor([4.0, 4, 4, 4, 4, 4, 1, 0.1, 4, 0.1, 0.1])
    count = int(np.prod(shape))
    picked = torch.multinomial(likely, max(count, 1), replacement=True, generator=generator)[:count]
    return values[picked].view(shape).to(dtype)


def equal(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@given(maps)
def test_maxima_and_positions_match_oracle(case: tuple) -> None:
    batch, channels, height, width, kernel, dtype, memory_format, seed = case
    x = draw((batch, channels, height, width), dtype, seed).contiguous(memory_format=memory_format)
    pooled, switches = max_pool_with_switches(x, kernel, ceil_mode=True)
    for b, c in np.ndindex(min(batch, 2), min(channels, 3)):
        expected, positions = oracle(x[b, c].double().numpy(), kernel)
        equal(pooled[b, c].double(), torch.from_numpy(expected))
        equal(switches[b, c], torch.from_numpy(positions))
    if x.numel():
        equal(pooled, functional.max_pool2d(x, kernel, ceil_mode=True))
        # The sign of a zero shows which of two equal zeros was taken.
        assert torch.equal(
            max_unpool(pooled, switches, (height, width), kernel) == 0, unpooled_zeros(x, switches, kernel)
        )


def unpooled_zeros(x: Tensor, switches: Tensor, kernel: int) -> Tensor:
    """Return where the unpooled map must be zero: outside the switches, and at those of a zero."""
    chosen = torch.zeros(x.shape, dtype=torch.bool)
    for index in np.ndindex(*switches.shape):
        dy, dx = divmod(int(switches[index]), kernel)
        chosen[(*index[:2], index[2] * kernel + dy, index[3] * kernel + dx)] = True
    return ~chosen | (x == 0)


@given(maps, st.booleans())
def test_memory_formats_and_floor_mode(case: tuple, ceil_mode: bool) -> None:
    batch, channels, height, width, kernel, dtype, memory_format, seed = case
    height, width = height + kernel, width + kernel
    x = draw((batch, channels, height, width), dtype, seed)
    expected = max_pool_with_switches(x, kernel, ceil_mode=ceil_mode)
    results = max_pool_with_switches(x.contiguous(memory_format=memory_format), kernel, ceil_mode=ceil_mode)
    for result, wanted in zip(results, expected, strict=True):
        equal(result, wanted)
        assert result.is_contiguous(memory_format=memory_format)
    if not ceil_mode:
        whole = (height // kernel * kernel, width // kernel * kernel)
        for result, wanted in zip(
            max_pool_with_switches(x[:, :, : whole[0], : whole[1]], kernel), expected, strict=True
        ):
            equal(result, wanted)


@given(maps, st.data())
def test_unpooling_restores_positions(case: tuple, data: st.DataObject) -> None:
    batch, channels, height, width, kernel, dtype, memory_format, seed = case
    generator = torch.Generator().manual_seed(seed)
    rows, columns = -(-height // kernel), -(-width // kernel)
    clipped_size = (
        data.draw(st.integers((rows - 1) * kernel + 1, (rows + 1) * kernel - 1)),
        data.draw(st.integers((columns - 1) * kernel + 1, (columns + 1) * kernel - 1)),
    )
    pooled = torch.randn(batch, channels, rows, columns, generator=generator).to(dtype)
    dy = draw_positions(pooled.shape, rows, clipped_size[0], kernel, 2, generator)
    dx = draw_positions(pooled.shape, columns, clipped_size[1], kernel, 3, generator)
    switches = (dy * kernel + dx).to(torch.uint8)
    expected = torch.zeros(batch, channels, *clipped_size, dtype=dtype)
    for index in np.ndindex(*pooled.shape):
        place = (*index[:2], index[2] * kernel + int(dy[index]), index[3] * kernel + int(dx[index]))
        expected[place] = pooled[index]
    full = max_unpool(pooled.contiguous(memory_format=memory_format), switches, clipped_size, kernel)
    equal(full, expected)
    if pooled.numel() and rows * columns > 1:  # else both formats are one
        assert full.is_contiguous(memory_format=memory_format)
    equal(torch.ops.pixelwise.take_at_switches(full, switches, kernel), pooled)


def draw_positions(
    shape: torch.Size, windows: int, side: int, kernel: int, dim: int, generator: torch.Generator
) -> Tensor:
    """Draw random offsets inside windows; the last window can be incomplete."""
    room = torch.full((windows,), kernel).clamp(max=side - torch.arange(windows) * kernel)
    view = [1, 1, 1, 1]
    view[dim] = windows
    return (torch.rand(shape, generator=generator) * room.view(view)).long()


def test_vector_of_caffe() -> None:
    """The example of caffe-segnet's upsample layer: flat indices 2, 5, 12, 14 of a 4x4 map."""
    pooled = torch.tensor([[[[1.0, 2.0], [9.0, 4.0]]]])
    switches = torch.tensor([[[[1 * 2 + 1, 0], [2, 2]]]], dtype=torch.uint8)
    # Index 2 is (0, 2), of the second window: Caffe's positions are free, ours belong to their windows.
    full = max_unpool(pooled[..., [1, 0]][..., [1, 0]], switches, (4, 4))
    assert full[0, 0, 1, 1] == 1
    assert full[0, 0, 0, 2] == 2
    assert full[0, 0, 3, 0] == 9
    assert full[0, 0, 3, 2] == 4
    assert full.count_nonzero() == 4


@given(maps)
def test_pooling_inverts_unpooling_of_positive_values(case: tuple) -> None:
    batch, channels, height, width, kernel, dtype, memory_format, seed = case
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(batch, channels, height, width, generator=generator) + 0.1).to(dtype)
    y = y.contiguous(memory_format=memory_format)
    switches = torch.randint(0, kernel**2, y.shape, dtype=torch.uint8, generator=generator)
    full = max_unpool(y, switches, (height * kernel, width * kernel), kernel)
    assert torch.equal((full != 0).sum((2, 3)), torch.full((batch, channels), height * width))
    pooled, positions = max_pool_with_switches(full, kernel)
    equal(pooled, y)
    equal(positions, switches)


def test_odd_sizes_of_segnet() -> None:
    x = torch.rand(1, 2, 45, 60)
    small, switches = max_pool_with_switches(x, ceil_mode=True)
    smaller, switches_below = max_pool_with_switches(small, ceil_mode=True)
    assert (small.shape[2:], smaller.shape[2:]) == ((23, 30), (12, 15))
    back = max_unpool(max_unpool(smaller, switches_below, (23, 30)), switches, (45, 60))
    kept = back != 0
    assert torch.equal(back[kept], x[kept])


def test_switches_of_another_map_change_result() -> None:
    x, other = torch.rand(2, 1, 3, 8, 8)
    pooled, switches = max_pool_with_switches(x)
    _, foreign = max_pool_with_switches(other)
    assert not torch.equal(max_unpool(pooled, switches, (8, 8)), max_unpool(pooled, foreign, (8, 8)))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_match_pytorch(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 11).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    y = x.detach().clone().requires_grad_()
    weights = torch.randn(2, 3, 9, 11).to(dtype)
    pooled, switches = max_pool_with_switches(x, 2, ceil_mode=True)
    theirs, indices = functional.max_pool2d(y, 2, ceil_mode=True, return_indices=True)
    (max_unpool(pooled, switches, (9, 11)) * weights).sum().backward()
    (functional.max_unpool2d(theirs, indices, 2, output_size=(9, 11)) * weights).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    equal(x.grad, y.grad)


def test_first_and_second_derivatives() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    switches = max_pool_with_switches(x.detach(), 2, ceil_mode=True)[1]
    y = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def pool(x: Tensor) -> Tensor:
        return max_pool_with_switches(x, 2, ceil_mode=True)[0]

    def unpool(y: Tensor) -> Tensor:
        return max_unpool(y, switches, (5, 6))

    def take(x: Tensor) -> Tensor:
        return torch.ops.pixelwise.take_at_switches(x, switches, 2)  # type: ignore[no-any-return]

    for function, point in ((pool, x), (unpool, y), (take, x)):
        assert torch.autograd.gradcheck(function, point)
        assert torch.autograd.gradgradcheck(function, point)


def test_only_switches_are_saved_for_the_backward_pass() -> None:
    saved: list[Tensor] = []
    x = torch.randn(1, 2, 8, 8, requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pooled, switches = max_pool_with_switches(x)
        max_unpool(pooled, switches, (8, 8)).sum().backward()
    assert [(tensor.dtype, tensor.shape) for tensor in saved] == 2 * [(torch.uint8, (1, 2, 4, 4))]
    assert not switches.requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_with_gaps_and_mixed_memory_formats(dtype: torch.dtype) -> None:
    base = torch.randn(2, 12, 20, 22).to(dtype)
    for x in (base[:, ::2, 1:, 2:], base.to(memory_format=torch.channels_last)[:, :5], base.transpose(2, 3)):
        pooled, switches = max_pool_with_switches(x)
        for result, wanted in zip((pooled, switches), max_pool_with_switches(x.clone().contiguous()), strict=True):
            equal(result, wanted)
        size = (x.shape[2], x.shape[3])
        expected = max_unpool(pooled.contiguous(), switches.contiguous(), size)
        mixed = max_unpool(pooled.contiguous(memory_format=torch.channels_last), switches.contiguous(), size)
        equal(mixed, expected)
        assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_pooled_map_of_one_pixel_keeps_memory_format() -> None:
    x = torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last)
    full = max_unpool(*max_pool_with_switches(x), (2, 2))
    assert full.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_out_tensors(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 9, 10).contiguous(memory_format=memory_format)
    expected = max_pool_with_switches(x, 2, ceil_mode=True)
    kept = tuple(torch.full_like(tensor, 77) for tensor in expected)
    assert max_pool_with_switches(x, 2, ceil_mode=True, out=kept)[0] is kept[0]  # type: ignore[arg-type]
    for result, wanted in zip(kept, expected, strict=True):
        equal(result, wanted)
    full = torch.full_like(x, 77)
    assert max_unpool(*expected, (9, 10), out=full) is full
    equal(full, max_unpool(*expected, (9, 10)))


def test_tracing() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.unpool = MaxPoolWithSwitches(ceil_mode=True), MaxUnpool()

        def forward(self, x: Tensor) -> Tensor:
            pooled, switches = self.pool(x)
            switches = unpack_switches(pack_switches(switches), x.shape[1])
            return self.unpool(pooled * 2, switches, (x.shape[2], x.shape[3]))  # type: ignore[no-any-return]

    stack, x = Stack(), torch.randn(1, 3, 9, 11)
    expected = stack(x)
    equal(torch.compile(stack, backend="aot_eager", fullgraph=True)(x), expected)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(stack, (x,), dynamic_shapes=(sides,)).module()
    equal(exported(x), expected)
    larger = torch.randn(1, 3, 14, 21)
    equal(exported(larger), stack(larger))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
@pytest.mark.parametrize("memory_format", FORMATS)
def test_operators_pass_opcheck(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 7).contiguous(memory_format=memory_format).requires_grad_()
    torch.library.opcheck(torch.ops.pixelwise.max_pool_with_switches.default, (x, 2, True))
    pooled, switches = max_pool_with_switches(x.detach(), 2, ceil_mode=True)
    torch.library.opcheck(torch.ops.pixelwise.max_unpool.default, (pooled.requires_grad_(), switches, [6, 7], 2))
    torch.library.opcheck(torch.ops.pixelwise.take_at_switches.default, (x, switches, 2))


def test_batching_rules() -> None:
    x = torch.randn(3, 2, 4, 6, 8)
    pooled, switches = torch.func.vmap(max_pool_with_switches, in_dims=1)(x)
    full = torch.func.vmap(lambda p, s: max_unpool(p, s, (6, 8)))(pooled, switches)
    for i in range(2):
        each = max_pool_with_switches(x[:, i])
        equal(pooled[i], each[0])
        equal(switches[i], each[1])
        equal(full[i], max_unpool(*each, (6, 8)))
    shared = torch.func.vmap(lambda p: max_unpool(p, switches[0], (6, 8)))(pooled)
    equal(shared[0], full[0])
    equal(torch.func.vmap(lambda f, s: torch.ops.pixelwise.take_at_switches(f, s, 2))(full, switches), pooled)


def pool_square_unpool(x: Tensor) -> Tensor:
    pooled, switches = max_pool_with_switches(x, 2, ceil_mode=True)
    return max_unpool(pooled**2, switches, (x.shape[2], x.shape[3]))


def test_forward_mode_and_batched_derivatives() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(pool_square_unpool, x, **checks)
    assert torch.autograd.gradgradcheck(pool_square_unpool, x, check_fwd_over_rev=True)


def test_tangents_are_taken_at_the_switches_and_unpooled() -> None:
    x, tangent = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 6)
    pool = partial(max_pool_with_switches, ceil_mode=True)
    (pooled, switches), (moved, none) = torch.func.jvp(pool, (x,), (tangent,))
    equal(moved, torch.ops.pixelwise.take_at_switches(tangent, switches, 2))
    assert not none.any()
    unpooled = torch.func.jvp(lambda y: max_unpool(y, switches, (5, 6)), (pooled,), (moved,))
    equal(unpooled[0], max_unpool(pooled, switches, (5, 6)))
    equal(unpooled[1], max_unpool(moved, switches, (5, 6)))


@pytest.mark.parametrize("outer", [torch.func.jacfwd, torch.func.jacrev])
@pytest.mark.parametrize("inner", [torch.func.jacfwd, torch.func.jacrev])
def test_second_derivatives_by_functional_transforms(outer: Any, inner: Any) -> None:
    """The sum of p⁴ over the maxima p has the second derivative 12 p² at their positions."""
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    hessian = outer(inner(lambda x: pool_square_unpool(x).square().sum()))(x).reshape(16, 16)
    pooled, switches = max_pool_with_switches(x)
    expected = max_unpool(12 * pooled**2, switches, (4, 4)).flatten().diag()
    torch.testing.assert_close(hessian, expected)


def test_autocast_keeps_dtype() -> None:
    x = torch.randn(1, 2, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        pooled, switches = max_pool_with_switches(x)
        assert pooled.dtype == max_unpool(pooled, switches, (4, 4)).dtype == torch.float32


# ---- packing


@given(st.integers(0, 2), st.integers(0, 9), st.integers(1, 5), st.sampled_from(FORMATS))
def test_unpacking_inverts_packing(batch: int, channels: int, side: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    switches = torch.randint(0, 4, (batch, channels, side, 2 * side), dtype=torch.uint8)
    packed = pack_switches(switches.contiguous(memory_format=memory_format))
    assert packed.shape == (batch, -(-channels // 4), side, 2 * side)
    equal(unpack_switches(packed, channels), switches)


def test_bit_order() -> None:
    switches = torch.tensor([3, 0, 2, 1, 1], dtype=torch.uint8).view(1, 5, 1, 1)
    assert pack_switches(switches).flatten().tolist() == [0b01_10_00_11, 0b00_00_00_01]


def test_packed_size_of_segnet() -> None:
    """The switches of SegNet at 360x480 take 1.32 MB; int64 indices take 42.3 MB."""
    sizes = [(64, 180, 240), (128, 90, 120), (256, 45, 60), (512, 23, 30), (512, 12, 15)]
    switches = [torch.zeros(1, *size, dtype=torch.uint8) for size in sizes]
    assert sum(tensor.nbytes for tensor in switches) == 5_283_840
    assert sum(pack_switches(tensor).nbytes for tensor in switches) == 1_320_960


# ---- what is refused


def test_invalid_maps_and_kernel_sizes_raise() -> None:
    x = torch.randn(1, 1, 6, 6)
    for bad in (x[0], x.int(), x.to(torch.complex64)):
        with pytest.raises(InvalidArgumentError, match=r"must be \(B, C, H, W\) in float64"):
            max_pool_with_switches(bad)
        with pytest.raises(InvalidArgumentError, match=r"must be \(B, C, H, W\) in float64"):
            max_unpool(bad, torch.zeros(bad.shape, dtype=torch.uint8), (12, 12))
    for kernel in (0, 17, 2.5):
        for call in (
            lambda k: max_pool_with_switches(x, k),
            lambda k: max_unpool(x, x.byte(), (12, 12), k),
            MaxPoolWithSwitches,
            MaxUnpool,
        ):
            with pytest.raises(InvalidArgumentError, match="kernel_size is"):
                call(kernel)
    with pytest.raises(InvalidArgumentError, match=r"1x6 has no whole 2x2 window. Use ceil_mode"):
        max_pool_with_switches(x[:, :, :1])


def test_invalid_switches_raise() -> None:
    pooled, switches = max_pool_with_switches(torch.randn(1, 2, 8, 8))
    with pytest.raises(InvalidArgumentError, match=r"torch\.int64 on cpu, but must be uint8"):
        max_unpool(pooled, switches.long(), (8, 8))
    with pytest.raises(InvalidArgumentError, match="comes from another pooling"):
        max_unpool(pooled, switches[:, :, 1:], (8, 8))
    with pytest.raises(InvalidArgumentError, match="comes from another pooling"):
        max_unpool(pooled, switches.to("meta"), (8, 8))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 64])
def test_switches_out_of_range_raise(channels: int, memory_format: torch.memory_format) -> None:
    pooled = torch.randn(1, channels, 8, 40).contiguous(memory_format=memory_format)
    sound = torch.zeros(pooled.shape, dtype=torch.uint8)
    for index, place, size in (
        ((0, -1, 7, 39), 4, (16, 80)),
        ((0, 0, 7, 0), 2, (15, 80)),
        ((0, 0, 0, 39), 3, (16, 79)),
    ):
        switches = sound.clone()
        switches[index] = place
        with pytest.raises(InvalidArgumentError, match="point outside their 2x2 windows or outside"):
            max_unpool(pooled, switches, size)
        full = torch.zeros(1, channels, *size)
        with pytest.raises(InvalidArgumentError, match="point outside their 2x2 windows or outside"):
            torch.ops.pixelwise.take_at_switches(full, switches, 2)


@pytest.mark.parametrize(
    ("size", "message"),
    [((4, 8), "height of size .* It must be 7 to 9"), ((8, 10), "width of size .* It must be 7 to 9")],
)
def test_impossible_sizes_raise(size: tuple[int, int], message: str) -> None:
    pooled, switches = max_pool_with_switches(torch.randn(1, 2, 8, 8))
    for legal in (7, 9):
        max_unpool(pooled, torch.zeros_like(switches), (legal, legal))
    with pytest.raises(InvalidArgumentError, match=message):
        max_unpool(pooled, switches, size)


def test_invalid_out_raises() -> None:
    x = torch.randn(1, 2, 8, 8)
    pooled, switches = max_pool_with_switches(x)
    for out in (
        (pooled[:, :1], switches),
        (pooled, switches.int()),
        (pooled.to(memory_format=torch.channels_last), switches),
    ):
        with pytest.raises(InvalidArgumentError, match=r"out is .* but must be \(1, 2, 4, 4\)"):
            max_pool_with_switches(x, out=out)
    with pytest.raises(InvalidArgumentError, match=r"out is .* but must be \(1, 2, 8, 8\)"):
        max_unpool(pooled, switches, (8, 8), out=x[..., 1:])
    with pytest.raises(InvalidArgumentError, match="cannot be differentiated"):
        max_pool_with_switches(x.clone().requires_grad_(), out=(pooled, switches))
    with pytest.raises(InvalidArgumentError, match="cannot be differentiated"):
        max_unpool(pooled.clone().requires_grad_(), switches, (8, 8), out=x)


def test_invalid_packing_raises() -> None:
    switches = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(InvalidArgumentError, match=r"must be \(B, C, H, W\) in uint8"):
        pack_switches(switches.int())
    with pytest.raises(InvalidArgumentError, match=r"must be \(B, C, H, W\) in uint8"):
        unpack_switches(switches[0], 3)
    with pytest.raises(InvalidArgumentError, match="up to 8, but they must be 0 to 3"):
        pack_switches(switches + 8)
    with pytest.raises(InvalidArgumentError, match=r"num_channels is 5, .* must hold 1 to 4 channels"):
        unpack_switches(pack_switches(switches), 5)


@pytest.mark.slow
def test_more_than_2_to_the_32_elements() -> None:
    if kernels.choose(torch.device("cpu")) is reference:
        pytest.skip("the same PyTorch operators as ever, on several times the memory")
    x = torch.zeros(1, 1, 46_342, 46_344, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    x[0, 0, -1, -1] = 5
    pooled, switches = max_pool_with_switches(x)
    assert pooled[0, 0, -1, -1] == 5
    assert switches[0, 0, -1, -1] == 3
    del x
    full = max_unpool(pooled, switches, (46_342, 46_344))
    assert full[0, 0, -1, -1] == 5
    assert full.count_nonzero() == 1
