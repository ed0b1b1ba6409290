"""Arguments of operators are named, ordered and checked as in PyTorch, and give the same results bit by bit."""

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from pixelwise import ops
from pixelwise.errors import InvalidArgumentError

POOLING = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
CONVOLUTION = ("bias", "stride", "padding", "output_padding", "groups", "dilation")

TWINS: list[tuple[Callable[..., Any], Callable[..., Any], tuple[str, ...]]] = [
    (ops.max_pool_with_switches, torch.max_pool2d, POOLING),
    (ops.MaxPoolWithSwitches, nn.MaxPool2d, POOLING),
    (ops.max_unpool, functional.max_unpool2d, ("kernel_size", "stride", "padding")),
    (ops.MaxUnpool, nn.MaxUnpool2d, ("kernel_size", "stride", "padding")),
    (ops.transposed_conv, torch.conv_transpose2d, CONVOLUTION),
    (ops.as_direct_conv, torch.conv_transpose2d, CONVOLUTION),
    (ops.TransposedConv, nn.ConvTranspose2d, ("in_channels", "out_channels", "kernel_size", *CONVOLUTION)),
    (ops.conv_matrix, torch.conv2d, ("stride", "padding", "dilation", "groups")),
    (ops.interpolate, functional.interpolate, ("size", "mode")),
]
BUILTINS: dict[Callable[..., Any], dict[str, Any]] = {  # functions in C++, which have no signature
    torch.max_pool2d: {"kernel_size": 2, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False},
    torch.conv2d: {"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    torch.conv_transpose2d: dict(zip(CONVOLUTION, (None, 1, 0, 0, 1, 1), strict=True)),
}


def get_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize(("ours", "theirs", "names"), TWINS, ids=lambda value: getattr(value, "__name__", ""))
def test_names_order_and_defaults_are_those_of_torch(
    ours: Callable[..., Any], theirs: Callable[..., Any], names: tuple[str, ...]
) -> None:
    own, others = get_defaults(ours), BUILTINS.get(theirs) or get_defaults(theirs)
    kept = {name for name in names if name in others}
    assert kept == set(names)
    assert [name for name in own if name in kept] == [name for name in others if name in kept]
    differing = {name for name in kept if own[name] != others[name]}
    # A window of two is the default; interpolation is bilinear, to a size.
    assert differing <= {"kernel_size", "mode", "size"}


@pytest.mark.parametrize("function", [*map(ops.__dict__.get, ops.__all__)], ids=lambda f: f.__name__)
def test_all_take_one_number_or_a_pair(function: Callable[..., Any]) -> None:
    along_one_axis = {ops.overlap_counts, ops.has_uneven_overlap}
    for name in {*POOLING, "output_padding"} - {"ceil_mode"}:
        if name in (parameters := inspect.signature(function).parameters) and function not in along_one_axis:
            assert re.match(r"int \| tuple\[", str(parameters[name].annotation))


X = torch.randn(2, 3, 13, 16, generator=torch.Generator().manual_seed(0))
WINDOWS = [
    {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    for kernel, stride, padding, dilation, ceil_mode in itertools.product(
        (1, 2, (2, 3), [3, 3], 16), (None, 1, (2, 1), 3), (0, 1, (1, 0)), (1, (1, 2)), (False, True)
    )
]


def test_pooling_is_that_of_torch_or_refused_with_it() -> None:
    counts = {True: 0, False: 0}
    for layout in (torch.contiguous_format, torch.channels_last):
        x = X.contiguous(memory_format=layout)
        for window in WINDOWS:
            try:
                expected, indices = functional.max_pool2d(x, **window, return_indices=True)  # type: ignore[arg-type]
            except RuntimeError:
                counts[False] += 1
                with pytest.raises(InvalidArgumentError):
                    ops.max_pool_with_switches(x, **window)  # type: ignore[arg-type]
                continue
            counts[True] += 1
            pooled, switches = ops.max_pool_with_switches(x, **window)  # type: ignore[arg-type]
            assert torch.equal(pooled, expected), window
            of_unpooling = {name: window[name] for name in ("kernel_size", "stride", "padding", "dilation")}
            full = ops.max_unpool(pooled, switches, (13, 16), **of_unpooling)  # type: ignore[arg-type]
            scattered = torch.zeros(2, 3, 13 * 16).scatter(2, indices.flatten(2), expected.flatten(2)).view_as(x)
            assert torch.equal(full, scattered), window
            assert full.is_contiguous(memory_format=layout)
    assert min(counts.values()) > 20


def test_unpooling_is_that_of_torch() -> None:
    for window in ({"kernel_size": 3}, {"kernel_size": (2, 3), "stride": (3, 3)}, {"kernel_size": 3, "padding": 1}):
        expected, indices = functional.max_pool2d(X, **window, return_indices=True)  # type: ignore[arg-type]
        pooled, switches = ops.max_pool_with_switches(X, **window)  # type: ignore[arg-type]
        full = functional.max_unpool2d(expected, indices, **window, output_size=(13, 16))  # type: ignore[arg-type]
        assert torch.equal(ops.max_unpool(pooled, switches, (13, 16), **window), full)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 0},
        {"kernel_size": -1},
        {"kernel_size": (2, 0)},
        {"kernel_size": (2, 2, 2)},
        {"kernel_size": 2.5},
        {"kernel_size": 2, "stride": 0},
        {"kernel_size": 2, "padding": -1},
        {"kernel_size": 2, "padding": 2},
        {"kernel_size": 4, "padding": (2, 3)},
        {"kernel_size": 2, "dilation": 0},
        {"kernel_size": 14},
    ],
    ids=str,
)
def test_illegal_windows_are_refused_as_in_torch(window: dict[str, Any]) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        functional.max_pool2d(X, **window)
    with pytest.raises(InvalidArgumentError):
        ops.max_pool_with_switches(X, **window)
    for module in (ops.MaxPoolWithSwitches, ops.MaxUnpool):
        if window != {"kernel_size": 14}:  # which is illegal for this map
            with pytest.raises(InvalidArgumentError):
                module(**window)


def test_gradients_through_overlapping_windows_are_those_of_torch() -> None:
    window: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1}
    ours, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
    ops.max_pool_with_switches(ours, **window)[0].square().sum().backward()
    functional.max_pool2d(theirs, **window).square().sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    # Gradients through unpooling are taken at the switches; here no two windows share a maximum.
    pooled, switches = ops.max_pool_with_switches(X[:1, :1].double(), (2, 3), padding=(1, 0))
    check = pooled.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: ops.max_unpool(y, switches, (13, 16), (2, 3), padding=(1, 0)), check)


def test_results_are_written_for_all_windows() -> None:
    pooled, switches = ops.max_pool_with_switches(X, (2, 3))
    out = torch.empty_like(pooled), torch.empty_like(switches)
    assert ops.max_pool_with_switches(X, (2, 3), out=out)[0] is out[0]
    assert torch.equal(out[0], pooled)
    assert torch.equal(out[1], switches)
    full = torch.empty_like(X)
    assert ops.max_unpool(pooled, switches, (13, 16), (2, 3), out=full) is full
    assert torch.equal(full, ops.max_unpool(pooled, switches, (13, 16), (2, 3)))


def test_switches_outside_of_windows_are_refused() -> None:
    pooled, switches = ops.max_pool_with_switches(X, (2, 3))
    with pytest.raises(InvalidArgumentError, match="switches point outside their 2x3 windows"):
        ops.max_unpool(pooled, torch.full_like(switches, 6), (13, 16), (2, 3))
    with pytest.raises(InvalidArgumentError, match="cannot have been pooled to 5 by windows of 3"):
        ops.max_unpool(pooled, switches, (13, 19), (2, 3))
    with pytest.raises(InvalidArgumentError, match="at most 256 positions, such as 16x16"):
        ops.max_pool_with_switches(X, 17)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 0},
        {"stride": (2, 0)},
        {"stride": -1},
        {"padding": -1},
        {"padding": 9},
        {"dilation": 0},
        {"output_padding": 1},
        {"stride": 2, "output_padding": 2},
        {"stride": 2, "output_padding": -1},
        {"groups": 0},
        {"groups": 2},
        {"stride": (1, 1, 1)},
        {"padding": 1.5},
    ],
    ids=str,
)
def test_illegal_convolutions_are_refused_as_in_torch(arguments: dict[str, Any]) -> None:
    weight = torch.ones(3, 2, 3, 3)
    with pytest.raises((RuntimeError, TypeError)):
        functional.conv_transpose2d(X[:, :, :4, :4], weight, **arguments)
    for function in (ops.transposed_conv, ops.as_direct_conv):
        with pytest.raises(InvalidArgumentError):
            function(X[:, :, :4, :4], weight, **arguments)


def test_transposed_convolutions_take_positions_as_in_torch() -> None:
    weight, bias = torch.randn(4, 2, 3, 2), torch.randn(4)
    x = torch.randn(1, 4, 5, 6)
    positions = (2, (1, 0), (1, 0), 2, (2, 1))
    expected = functional.conv_transpose2d(x, weight, bias, *positions)
    assert torch.equal(ops.transposed_conv(x, weight, bias, *positions), expected)
    torch.testing.assert_close(ops.as_direct_conv(x, weight, bias, *positions), expected, atol=1e-5, rtol=1e-5)
    ours = ops.TransposedConv(4, 4, (3, 2), 2, (1, 0), (1, 0), 2, True, (2, 1))
    theirs = nn.ConvTranspose2d(4, 4, (3, 2), 2, (1, 0), (1, 0), 2, True, (2, 1))
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))
    assert repr(ours).removeprefix("TransposedConv") == repr(theirs).removeprefix("ConvTranspose2d")


def test_unpooling_without_switches_takes_a_kernel_size() -> None:
    assert torch.equal(ops.unpool_nearest(X, 3), functional.interpolate(X, scale_factor=3.0))
    assert torch.equal(ops.unpool_nearest(X, (2, 3)), functional.interpolate(X, scale_factor=(2.0, 3.0)))
    nails = ops.unpool_bed_of_nails(X, (2, 3))
    assert torch.equal(ops.max_pool_with_switches(nails.abs(), (2, 3))[0], X.abs())
    assert ops.bilinear_kernel((1, 3)).tolist() == [[0.5, 1.0, 0.5]]
    assert ops.bilinear_weight(2, (1, 3), groups=2).shape == (2, 1, 1, 3)


@pytest.mark.parametrize("name", [name for name in ops.__all__ if inspect.isclass(getattr(ops, name))])
def test_modules_print_their_arguments(name: str) -> None:
    needed = (2, 2, 3) if name == "TransposedConv" else ()
    text = repr(getattr(ops, name)(*needed))
    own = set(get_defaults(getattr(ops, name))) & {*POOLING, "mode"}
    own -= {"padding", "dilation"} if name == "TransposedConv" else set()  # PyTorch prints those that are not default
    assert all(f"{parameter}=" in text for parameter in own)
