"""Sharded weights (PyTorch's FSDP2), and the conversion between shards and whole tensors.

Files store whole tensors in the same form as without sharding, so a run can be resumed with a different number of
processes. Tensors that are not sharded pass through every function unchanged.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from pixelwise.networks import Segmenter
from pixelwise.networks.stages import get_encoder_stages

if TYPE_CHECKING:  # importing it takes a second
    from torch.distributed.tensor import DTensor


def shard_model(model: Segmenter, device: torch.device) -> None:
    """Keep this process's shard of every weight, on `device`; all processes call it with equal weights.

    An encoder stage is whole only while it computes. The rest is whole from the forward to the backward pass.
    Gradients are averaged over all processes and sharded in the same way; buffers are not sharded.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # About logits cropped by a view; the warning concerns in-place changes, which no loss makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for stage in get_encoder_stages(model.network):
        # A group stays whole until all its modules were called, and an encoder may call its pooling elsewhere.
        with_weights = [module for module in stage if next(module.parameters(), None) is not None]
        if with_weights:
            fully_shard(with_weights, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Return whether each process has only its shard of the tensor."""
    return hasattr(tensor, "full_tensor")


def get_local(tensor: Tensor) -> Tensor:
    """Return this process's shard, in the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def gather_tensor(tensor: Tensor) -> Tensor:
    """Return the whole tensor; all processes call it together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def shard_like(value: Any, like: Tensor | None) -> Any:
    """Shard a whole tensor in the way of `like`, with its memory layout: the inverse of `gather_tensor`.

    A value of a different shape, such as an optimizer's step count, is returned unchanged.
    """
    if like is None or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    if is_sharded(like):
        from torch.distributed.tensor import distribute_tensor

        value = value.detach().to(like.device).contiguous()
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)  # nothing is sent
    # Fused optimizers assume that a weight and its optimizer state have equal strides.
    return value if value.stride() == like.stride() else torch.empty_like(like, requires_grad=False).copy_(value)


def shard_state_like(state: Mapping[str, Any], like: Mapping[str, Tensor]) -> dict[str, Any]:
    """Apply `shard_like` to each entry by name."""
    return {name: shard_like(value, like.get(name)) for name, value in state.items()}


def shard_optimizer_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Apply `shard_like` to the per-weight entries of an optimizer's `state_dict`."""
    weights = dict(enumerate(weight for group in optimizer.param_groups for weight in group["params"]))
    entries = {
        index: {name: shard_like(value, weights.get(index)) for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": entries}


def gather_state(value: Any, *, keep: bool) -> Any:
    """Return a nested state with every sharded tensor whole on the CPU; all processes call it together.

    Without `keep`, each whole tensor is dropped at once and replaced by None.
    """
    if isinstance(value, Tensor) and is_sharded(value):
        tensor = gather_tensor(value.detach())
        return tensor.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: gather_state(entry, keep=keep) for key, entry in value.items()}
    return [gather_state(entry, keep=keep) for entry in value] if isinstance(value, list) else value
