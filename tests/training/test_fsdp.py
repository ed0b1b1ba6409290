"""Sharded weights, in a group of one process; with two: `test_distribution.py`."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pixelwise.devices import Precision, autocast
from pixelwise.networks import Segmenter
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.stages import get_encoder_stages
from pixelwise.networks.unet import UNet
from pixelwise.training.distributed import Order, What, World
from pixelwise.training.fsdp import cut_like, gathered, is_sharded, own_part, shard, whole
from pixelwise.training.trainer import Job, Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def small_unet() -> nn.Module:
    return UNet(3, 4, base_channels=4, depth=2, padding="same", normalization="group")


def small_segnet() -> nn.Module:
    return SegNet(3, 4, channels=(4, 8), depths=(1, 2))


def vgg_with_switches() -> nn.Module:
    """Whose encoder calls its convolutions one by one, changes maps in place, and pools by itself."""
    from pixelwise.networks.encoders import ChainEncoder
    from pixelwise.networks.unet import EncoderUNet

    layers: dict[str, nn.Module] = {}
    for level, (inputs, outputs) in enumerate(((3, 4), (4, 8))):
        layers[f"conv{level}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
        layers[f"relu{level}"] = nn.ReLU(inplace=True)
        layers[f"pool{level}"] = nn.MaxPool2d(2)
    layers["conv2"] = nn.Conv2d(8, 8, 3, padding=1)
    return EncoderUNet(3, 4, encoder=ChainEncoder(layers), upsampling="switches", normalization="group")


def timm_resnet() -> nn.Module:
    from pixelwise.networks.encoders import TimmEncoder
    from pixelwise.networks.unet import EncoderUNet

    return EncoderUNet(3, 4, encoder=TimmEncoder("test_resnet", in_channels=3), normalization="group")


NETWORKS = (
    small_unet,
    small_segnet,
    pytest.param(vgg_with_switches, marks=pytest.mark.slow),
    pytest.param(timm_resnet, marks=pytest.mark.slow),
)


def segmenter(make: Callable[[], nn.Module]) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(make(), mean=[100.0] * 3, std=[50.0] * 3)


def gradients(model: nn.Module, precision: Precision = "fp32") -> dict[str, Tensor]:
    images = torch.randint(0, 256, (2, 3, 30, 32), generator=torch.Generator().manual_seed(0))
    with autocast(CPU, precision):
        logits = model(images)
    logits.float().square().mean().backward()
    return {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("frozen", [0, 1])
def test_gradients_are_those_of_whole_weights(make: Callable[[], nn.Module], frozen: int) -> None:
    plain, parted = segmenter(make), segmenter(make)
    shard(parted, CPU)
    for model in (plain, parted):
        for stage in get_encoder_stages(model.network)[:frozen]:
            for module in stage:
                module.requires_grad_(False)
    assert all(is_sharded(p) for p in parted.parameters())
    expected, found = gradients(plain), gradients(parted)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_gradients_of_reduced_precision_are_those_of_whole_weights() -> None:
    plain, parted = segmenter(small_unet), segmenter(small_unet)
    shard(parted, CPU)
    expected, found = gradients(plain, "bf16"), gradients(parted, "bf16")
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0, msg=name)


def test_each_stage_is_a_group_of_its_own() -> None:
    from torch.distributed.fsdp import FSDPModule

    model = segmenter(small_unet)
    shard(model, CPU)
    groups = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    assert groups == ["", "network.first", "network.down.0", "network.down.1"]


def test_cut_is_the_inverse_of_whole() -> None:
    model = segmenter(small_unet)
    shard(model, CPU)
    for parameter in model.parameters():
        back = cut_like(whole(parameter).detach() + 1, parameter)
        assert is_sharded(back)
        assert back.placements == parameter.placements
        assert torch.equal(own_part(back), own_part(parameter) + 1)


def test_what_is_no_weights_is_not_cut() -> None:
    model = segmenter(small_unet)
    shard(model, CPU)
    like, steps = next(model.parameters()), torch.ones(())
    assert cut_like(steps, like) is steps
    assert cut_like(None, like) is None
    assert cut_like(steps, None) is steps


def test_whole_weights_get_the_strides_of_those_they_replace() -> None:
    like = torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last)
    value = torch.arange(108.0).view(4, 3, 3, 3)
    back = cut_like(value, like)
    assert back.stride() == like.stride() != value.stride()
    assert torch.equal(back, value)
    assert cut_like(like, like) is like


@pytest.mark.parametrize("keep", [True, False])
def test_a_gathered_state_is_whole_where_it_is_kept(keep: bool) -> None:
    model = segmenter(small_unet)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shard(model, CPU)
    state = gathered({"list": [model.state_dict()], "number": 3}, keep=keep)
    assert state["number"] == 3
    for name, tensor in state["list"][0].items():
        if keep or name in ("mean", "std"):
            assert type(tensor) is Tensor
            assert torch.equal(tensor, before[name])
        else:
            assert tensor is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noting(World):
    """Two processes, of which the second one is left out, with what it is told."""

    orders: list[What] = field(default_factory=list)

    def lead(self, order: Order) -> None:
        self.orders.append(order.what)


@pytest.fixture
def trainer(make_job: Callable[..., Job]) -> Trainer:
    return Trainer(replace(make_job({"training.sharding": "fsdp"}), world=Noting(size=2)))


def orders(trainer: Trainer) -> list[What]:
    world: Any = trainer.job.world
    return list(world.orders)


def test_a_state_is_gathered_once_a_step(trainer: Trainer) -> None:
    # An interrupted evaluation saves while the other processes score and cannot be asked.
    batch = trainer.job.batches().make(0)
    trainer.step(batch, 0.0)
    trainer.update_average(0, 0.1)
    trainer.state()
    trainer.predictor()
    trainer.state()
    assert orders(trainer) == [What.AVERAGE, What.GATHER]
    trainer.step(batch, 0.1)
    trainer.state()
    assert orders(trainer)[2:] == [What.GATHER]
    trainer.update_average(1, 0.1)
    trainer.state()
    assert orders(trainer)[3:] == [What.AVERAGE, What.GATHER]


def test_a_state_that_was_put_back_is_the_same_again(trainer: Trainer) -> None:
    batch = trainer.job.batches().make(0)
    trainer.step(batch, 0.0)
    trainer.update_average(0, 0.1)
    state = deepcopy(trainer.state())  # a group of one gathers its own memory
    trainer.step(batch, 0.1)
    trainer.update_average(1, 0.1)
    changed = deepcopy(trainer.state())
    trainer.load_state(state)
    again = trainer.state()
    for part in ("model", "average"):
        for name, tensor in state[part].items():
            assert torch.equal(again[part][name], tensor), name
        assert not all(torch.equal(changed[part][name], tensor) for name, tensor in state[part].items())
    for index, numbers in state["optimizer"]["state"].items():
        for name, tensor in numbers.items():
            assert torch.equal(again["optimizer"]["state"][index][name], tensor), name


def test_a_process_alone_shards_nothing(make_job: Callable[..., Job]) -> None:
    trainer = Trainer(make_job({"training.sharding": "fsdp"}))
    assert not any(is_sharded(p) for p in trainer.model.parameters())
