"""The pooling operators as PyTorch knows them, `torch.ops.pixelwise.*`: what they compute, their
shapes for tracing, their gradients and batching rules. `ops/pooling.py` is their public face.

Each of the two maps is the other's gradient: pooling hands its gradient back through max_unpool,
unpooling through take, and those two through each other. Only the switches are saved for it.
"""

from typing import Any

import torch
from torch import Tensor

from pixelwise.errors import InvalidArgumentError
from pixelwise.ops import kernels
from pixelwise.ops.checks import memory_format_of
from pixelwise.ops.kernels import cpu
from pixelwise.shapes import Size, compute_pooled_size

_LIBRARY = torch.library.Library("pixelwise", "DEF")  # type: ignore[no-untyped-call]
_POOL = "max_pool_with_switches"
_UNPOOL = "max_unpool"
_TAKE = "take_at_switches"
_SCHEMAS = {
    _POOL: "(Tensor x, int kernel, bool ceil_mode) -> (Tensor, Tensor)",
    _UNPOOL: "(Tensor pooled, Tensor switches, SymInt[2] size, int kernel) -> Tensor",
    _TAKE: "(Tensor full, Tensor switches, int kernel) -> Tensor",
    f"{_POOL}.out": "(Tensor x, int kernel, bool ceil_mode, *, Tensor(a!) pooled, Tensor(b!) switches) -> ()",
    f"{_UNPOOL}.out": "(Tensor pooled, Tensor switches, SymInt[2] size, int kernel, *, Tensor(a!) full) -> ()",
}


def _new(like: Tensor, size: Size, memory_format: torch.memory_format, dtype: torch.dtype | None = None) -> Tensor:
    shape = (*like.shape[:2], *size)
    # Not new_empty: it cannot be told the format.
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=memory_format)


def _fresh(like: Tensor, size: Size, memory_format: torch.memory_format, dtype: torch.dtype | None = None) -> Tensor:
    fresh = _new(like, size, memory_format, dtype)
    return cpu.use_huge_pages(fresh) if like.is_cpu and cpu.library() else fresh


# ---- what they compute


def _pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    memory_format = memory_format_of(x)
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel, ceil_mode)
    pooled, switches = _fresh(x, size, memory_format), _fresh(x, size, memory_format, torch.uint8)
    kernels.choose(x.device).max_pool(x.contiguous(memory_format=memory_format), kernel, pooled, switches)
    return pooled, switches


def _pool_out(x: Tensor, kernel: int, ceil_mode: bool, *, pooled: Tensor, switches: Tensor) -> None:
    kernels.choose(x.device).max_pool(x.contiguous(memory_format=memory_format_of(x)), kernel, pooled, switches)


def _unpool(pooled: Tensor, switches: Tensor, size: list[int], kernel: int) -> Tensor:
    full = _fresh(pooled, (size[0], size[1]), memory_format_of(pooled))
    _unpool_out(pooled, switches, size, kernel, full=full)
    return full


def _unpool_out(pooled: Tensor, switches: Tensor, size: list[int], kernel: int, *, full: Tensor) -> None:
    memory_format = memory_format_of(pooled)
    pooled, switches = (t.contiguous(memory_format=memory_format) for t in (pooled, switches))
    if kernels.choose(pooled.device).max_unpool(pooled, switches, kernel, full):
        raise _astray(size, kernel)


def _take(full: Tensor, switches: Tensor, kernel: int) -> Tensor:
    memory_format = memory_format_of(full)
    pooled = _fresh(full, (switches.shape[2], switches.shape[3]), memory_format)
    full, switches = (t.contiguous(memory_format=memory_format) for t in (full, switches))
    if kernels.choose(full.device).take(full, switches, kernel, pooled):
        raise _astray(full.shape[2:], kernel)
    return pooled


def _astray(size: Any, kernel: int) -> InvalidArgumentError:
    height, width = size
    return InvalidArgumentError(
        f"switches hold places outside their {kernel}x{kernel} windows or outside {height}x{width}: "
        f"they were not recorded by max_pool_with_switches(kernel={kernel}) on a map of this size."
    )


# ---- their shapes, for tracing


def _pool_shape(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel, ceil_mode)
    return _new(x, size, memory_format_of(x)), _new(x, size, memory_format_of(x), torch.uint8)


def _unpool_shape(pooled: Tensor, switches: Tensor, size: list[int], kernel: int) -> Tensor:
    return _new(pooled, (size[0], size[1]), memory_format_of(pooled))


def _take_shape(full: Tensor, switches: Tensor, kernel: int) -> Tensor:
    return _new(full, (switches.shape[2], switches.shape[3]), memory_format_of(full))


# ---- their gradients


def _pool_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.kernel, _ = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _pool_backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, None, None]:
    return torch.ops.pixelwise.max_unpool(grad, *ctx.saved_tensors, ctx.size, ctx.kernel), None, None


def _unpool_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, switches, _, ctx.kernel = inputs
    ctx.save_for_backward(switches)


def _unpool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return torch.ops.pixelwise.take_at_switches(grad, *ctx.saved_tensors, ctx.kernel), None, None, None


def _take_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    full, switches, ctx.kernel = inputs
    ctx.size = full.shape[2:]
    ctx.save_for_backward(switches)


def _take_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return torch.ops.pixelwise.max_unpool(grad, *ctx.saved_tensors, ctx.size, ctx.kernel), None, None


# ---- their batching rules: the batched dimension joins B


def _joined(x: Tensor, dim: int | None, count: int) -> Tensor:
    x = x.unsqueeze(0).expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _pool_vmap(info: Any, dims: tuple[Any, ...], x: Tensor, *sizes: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    results = torch.ops.pixelwise.max_pool_with_switches(_joined(x, dims[0], info.batch_size), *sizes)
    return tuple(result.unflatten(0, (info.batch_size, -1)) for result in results), (0, 0)


def _unpool_vmap(info: Any, dims: tuple[Any, ...], x: Tensor, switches: Tensor, *sizes: Any) -> tuple[Tensor, int]:
    joined = (_joined(tensor, dim, info.batch_size) for tensor, dim in zip((x, switches), dims, strict=False))
    return torch.ops.pixelwise.max_unpool(*joined, *sizes).unflatten(0, (info.batch_size, -1)), 0


def _take_vmap(info: Any, dims: tuple[Any, ...], x: Tensor, switches: Tensor, *sizes: Any) -> tuple[Tensor, int]:
    joined = (_joined(tensor, dim, info.batch_size) for tensor, dim in zip((x, switches), dims, strict=False))
    return torch.ops.pixelwise.take_at_switches(*joined, *sizes).unflatten(0, (info.batch_size, -1)), 0


def _register() -> None:
    computed = {_POOL: _pool, _UNPOOL: _unpool, _TAKE: _take, f"{_POOL}.out": _pool_out, f"{_UNPOOL}.out": _unpool_out}
    for name, schema in _SCHEMAS.items():
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
        _LIBRARY.impl(name, computed[name], "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    for name, shape in ((_POOL, _pool_shape), (_UNPOOL, _unpool_shape), (_TAKE, _take_shape)):
        torch.library.register_fake(f"pixelwise::{name}", shape, lib=_LIBRARY)
    for name in (f"{_POOL}.out", f"{_UNPOOL}.out"):
        torch.library.register_fake(f"pixelwise::{name}", lambda *args, **kwargs: None, lib=_LIBRARY)
    for name, backward, context, batched in (
        (_POOL, _pool_backward, _pool_context, _pool_vmap),
        (_UNPOOL, _unpool_backward, _unpool_context, _unpool_vmap),
        (_TAKE, _take_backward, _take_context, _take_vmap),
    ):
        qualified = f"pixelwise::{name}"
        torch.library.register_autograd(qualified, backward, setup_context=context, lib=_LIBRARY)
        torch.library.register_vmap(qualified, batched, lib=_LIBRARY)


_register()
