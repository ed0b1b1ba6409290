"""Register the pooling operators as `torch.ops.pixelwise.*`: kernels, output shapes, gradients and batching rules.

`ops/pooling.py` is the public interface. The gradient of pooling is max_unpool, the gradient of unpooling is take, and
those two are the gradients of each other. Only the switches are saved for the backward pass. `max_pool`, `unpool` and
`take` choose between the registered operators, which torch.compile and torch.export know, and the same operators as
functions that `torch.func` can transform: with a registered gradient, `torch.func.grad` fails and `jvp` returns zeros.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops import kernels
from pixelwise.ops.kernels import cpu
from pixelwise.shapes import Size, compute_pooled_size
from pixelwise.tensors import get_memory_format, is_transforming

_LIBRARY = torch.library.Library("pixelwise", "DEF")  # type: ignore[no-untyped-call]
_POOL = "max_pool_with_switches"
_UNPOOL = "max_unpool"
_TAKE = "take_at_switches"


def _allocate(like: Tensor, size: Size, memory_format: torch.memory_format, dtype: torch.dtype | None = None) -> Tensor:
    shape = (*like.shape[:2], *size)
    # new_empty takes no memory format.
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=memory_format)


def _allocate_output(
    like: Tensor, size: Size, memory_format: torch.memory_format, dtype: torch.dtype | None = None
) -> Tensor:
    result = _allocate(like, size, memory_format, dtype)
    return cpu.use_huge_pages(result) if like.is_cpu and cpu.load_library() else result


# ---- kernels


def _pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    memory_format = get_memory_format(x)
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel, ceil_mode)
    pooled, switches = _allocate_output(x, size, memory_format), _allocate_output(x, size, memory_format, torch.uint8)
    kernels.choose(x.device).max_pool(x.contiguous(memory_format=memory_format), kernel, pooled, switches)
    return pooled, switches


def _pool_out(x: Tensor, kernel: int, ceil_mode: bool, *, pooled: Tensor, switches: Tensor) -> None:
    kernels.choose(x.device).max_pool(x.contiguous(memory_format=get_memory_format(x)), kernel, pooled, switches)


def _unpool(pooled: Tensor, switches: Tensor, size: list[int], kernel: int) -> Tensor:
    full = _allocate_output(pooled, (size[0], size[1]), get_memory_format(pooled))
    _unpool_out(pooled, switches, size, kernel, full=full)
    return full


def _unpool_out(pooled: Tensor, switches: Tensor, size: list[int], kernel: int, *, full: Tensor) -> None:
    memory_format = get_memory_format(pooled)
    pooled, switches = (t.contiguous(memory_format=memory_format) for t in (pooled, switches))
    if kernels.choose(pooled.device).max_unpool(pooled, switches, kernel, full):
        raise _error_for_switches(size, kernel)


def _take(full: Tensor, switches: Tensor, kernel: int) -> Tensor:
    memory_format = get_memory_format(full)
    pooled = _allocate_output(full, (switches.shape[2], switches.shape[3]), memory_format)
    full, switches = (t.contiguous(memory_format=memory_format) for t in (full, switches))
    if kernels.choose(full.device).take(full, switches, kernel, pooled):
        raise _error_for_switches(full.shape[2:], kernel)
    return pooled


def _error_for_switches(size: Any, kernel: int) -> InvalidArgumentError:
    height, width = size
    return InvalidArgumentError(
        f"The switches point outside their {kernel}x{kernel} windows or outside the {height}x{width} map: "
        f"they were not recorded by max_pool_with_switches(kernel_size={kernel}) on a map of this size."
    )


# ---- output shapes, for tracing


def _pool_shape(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel, ceil_mode)
    return _allocate(x, size, get_memory_format(x)), _allocate(x, size, get_memory_format(x), torch.uint8)


def _unpool_shape(pooled: Tensor, switches: Tensor, size: list[int], kernel: int) -> Tensor:
    return _allocate(pooled, (size[0], size[1]), get_memory_format(pooled))


def _take_shape(full: Tensor, switches: Tensor, kernel: int) -> Tensor:
    return _allocate(full, (switches.shape[2], switches.shape[3]), get_memory_format(full))


# ---- gradients


def _save(ctx: Any, switches: Tensor) -> None:
    ctx.save_for_backward(switches)
    if is_transforming():
        ctx.save_for_forward(switches)


def _pool_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.kernel, _ = inputs
    ctx.size = x.shape[2:]
    _save(ctx, output[1])
    ctx.mark_non_differentiable(output[1])


def _pool_or_take_backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor, None, None]:
    return unpool(grad, ctx.saved_tensors[0], ctx.size, ctx.kernel), None, None


def _unpool_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, switches, ctx.size, ctx.kernel = inputs
    _save(ctx, switches)


def _unpool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return take(grad, ctx.saved_tensors[0], ctx.kernel), None, None, None


def _take_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    full, switches, ctx.kernel = inputs
    ctx.size = full.shape[2:]
    _save(ctx, switches)


# ---- batching rules: the batched dimension is merged with B


def _merge_batch(x: Tensor, dim: int | None, count: int) -> Tensor:
    x = x.unsqueeze(0).expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _pool_vmap(
    function: Callable[..., Any], info: Any, dims: tuple[Any, ...], x: Tensor, *sizes: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    results = function(_merge_batch(x, dims[0], info.batch_size), *sizes)
    return tuple(result.unflatten(0, (info.batch_size, -1)) for result in results), (0, 0)


def _switches_vmap(
    function: Callable[..., Any], info: Any, dims: tuple[Any, ...], x: Tensor, switches: Tensor, *sizes: Any
) -> tuple[Tensor, int]:
    merged = (_merge_batch(tensor, dim, info.batch_size) for tensor, dim in zip((x, switches), dims, strict=False))
    return function(*merged, *sizes).unflatten(0, (info.batch_size, -1)), 0


# ---- functional transforms, which cannot use registered gradients


class _PoolFunction(torch.autograd.Function):
    forward = staticmethod(lambda *inputs: torch.ops.pixelwise.max_pool_with_switches(*inputs))
    setup_context, backward = staticmethod(_pool_context), staticmethod(_pool_or_take_backward)
    jvp = staticmethod(lambda ctx, tangent, *_: (take(tangent, ctx.saved_tensors[0], ctx.kernel), None))
    vmap = staticmethod(lambda *arguments: _pool_vmap(max_pool, *arguments))


class _UnpoolFunction(torch.autograd.Function):
    forward = staticmethod(lambda *inputs: torch.ops.pixelwise.max_unpool(*inputs))
    setup_context, backward = staticmethod(_unpool_context), staticmethod(_unpool_backward)
    jvp = staticmethod(lambda ctx, tangent, *_: unpool(tangent, ctx.saved_tensors[0], ctx.size, ctx.kernel))
    vmap = staticmethod(lambda *arguments: _switches_vmap(unpool, *arguments))


class _TakeFunction(torch.autograd.Function):
    forward = staticmethod(lambda *inputs: torch.ops.pixelwise.take_at_switches(*inputs))
    setup_context, backward = staticmethod(_take_context), staticmethod(_pool_or_take_backward)
    jvp = staticmethod(lambda ctx, tangent, *_: take(tangent, ctx.saved_tensors[0], ctx.kernel))
    vmap = staticmethod(lambda *arguments: _switches_vmap(take, *arguments))


def max_pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """Return the maxima and the switches of a checked map."""
    operator = _PoolFunction.apply if is_transforming() else torch.ops.pixelwise.max_pool_with_switches
    return operator(x, kernel, ceil_mode)  # type: ignore[no-any-return]


def unpool(pooled: Tensor, switches: Tensor, size: Any, kernel: int) -> Tensor:
    """Return a map of `size` with each value at its switch."""
    operator = _UnpoolFunction.apply if is_transforming() else torch.ops.pixelwise.max_unpool
    return operator(pooled, switches, size, kernel)  # type: ignore[no-any-return]


def take(full: Tensor, switches: Tensor, kernel: int) -> Tensor:
    """Return the values of a map at the switches."""
    operator = _TakeFunction.apply if is_transforming() else torch.ops.pixelwise.take_at_switches
    return operator(full, switches, kernel)  # type: ignore[no-any-return]


# ---- registration


def _define(
    name: str, schema: str, kernel: Callable[..., Any], shape: Callable[..., Any] = lambda *args, **kwargs: None
) -> None:
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"pixelwise::{name}", shape, lib=_LIBRARY)


_POOL_SCHEMA = "Tensor x, int kernel, bool ceil_mode"
_UNPOOL_SCHEMA = "Tensor pooled, Tensor switches, SymInt[2] size, int kernel"
_define(_POOL, f"({_POOL_SCHEMA}) -> (Tensor, Tensor)", _pool, _pool_shape)
_define(_UNPOOL, f"({_UNPOOL_SCHEMA}) -> Tensor", _unpool, _unpool_shape)
_define(_TAKE, "(Tensor full, Tensor switches, int kernel) -> Tensor", _take, _take_shape)
_define(f"{_POOL}.out", f"({_POOL_SCHEMA}, *, Tensor(a!) pooled, Tensor(b!) switches) -> ()", _pool_out)
_define(f"{_UNPOOL}.out", f"({_UNPOOL_SCHEMA}, *, Tensor(a!) full) -> ()", _unpool_out)
for _name, _backward, _context, _vmap in (
    (_POOL, _pool_or_take_backward, _pool_context, partial(_pool_vmap, torch.ops.pixelwise.max_pool_with_switches)),
    (_UNPOOL, _unpool_backward, _unpool_context, partial(_switches_vmap, torch.ops.pixelwise.max_unpool)),
    (_TAKE, _pool_or_take_backward, _take_context, partial(_switches_vmap, torch.ops.pixelwise.take_at_switches)),
):
    torch.library.register_autograd(f"pixelwise::{_name}", _backward, setup_context=_context, lib=_LIBRARY)
    torch.library.register_vmap(f"pixelwise::{_name}", _vmap, lib=_LIBRARY)
