"""Weights of which each process holds a part (PyTorch's FSDP2), and the way between parts and whole tensors.

Files hold whole tensors in the form they have without sharding, so a run may go on with another number of
processes. Where nothing is sharded, every function here gives what it is given.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from pixelwise.networks import Segmenter
from pixelwise.networks.stages import get_encoder_stages

if TYPE_CHECKING:  # whose import takes a second
    from torch.distributed.tensor import DTensor


def shard(model: Segmenter, device: torch.device) -> None:
    """Leaves each process its part of every weight, on `device`; all of them call it, with equal weights.

    A stage of the encoder is whole only while it computes. What follows the encoder is whole from the forward to
    the backward pass. Gradients become their mean over all processes, cut alike; buffers are not cut.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Of logits cropped by a view; no loss changes logits in place, which is what is warned of.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for stage in get_encoder_stages(model.network):
        # A group stays whole until each of its modules has been called, and an encoder may pool by itself.
        weighted = [module for module in stage if next(module.parameters(), None) is not None]
        if weighted:
            fully_shard(weighted, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    return hasattr(tensor, "full_tensor")


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of it: the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The parts of all processes, which call this together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def cut_like(value: Any, like: Tensor | None) -> Any:
    """The inverse of `whole`: a tensor in the shape of `like`, cut and laid out in memory as that is.

    Anything else, such as an optimizer's count of steps, is left as it is.
    """
    if like is None or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    if is_sharded(like):
        from torch.distributed.tensor import distribute_tensor

        value = value.detach().to(like.device).contiguous()
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)  # nothing is sent
    # Fused optimizers take for granted that a weight and its numbers have the same strides.
    return value if value.stride() == like.stride() else torch.empty_like(like, requires_grad=False).copy_(value)


def cut_state_like(state: Mapping[str, Any], like: Mapping[str, Tensor]) -> dict[str, Any]:
    """`cut_like` of each entry, by name."""
    return {name: cut_like(value, like.get(name)) for name, value in state.items()}


def cut_optimizer_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`cut_like` of all that an optimizer's `state_dict` holds of its weights."""
    weights = dict(enumerate(weight for group in optimizer.param_groups for weight in group["params"]))
    numbers = {
        index: {name: cut_like(value, weights.get(index)) for name, value in of_weight.items()}
        for index, of_weight in state["state"].items()
    }
    return {**state, "state": numbers}


def gathered(value: Any, *, keep: bool) -> Any:
    """A state, of mappings and lists, with every sharded tensor whole on the CPU; all processes call this together.

    Those that do not `keep` it drop each tensor as it comes.
    """
    if isinstance(value, Tensor) and is_sharded(value):
        tensor = whole(value.detach())
        return tensor.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: gathered(one, keep=keep) for key, one in value.items()}
    return [gathered(one, keep=keep) for one in value] if isinstance(value, list) else value
