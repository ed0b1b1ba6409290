"""Sharded weights, in a group of one process; with two: `test_distribution.py`."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pixelwise.devices import Precision, autocast
from pixelwise.networks import Segmenter
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.stages import get_encoder_stages
from pixelwise.networks.unet import UNet
from pixelwise.training import trainer as home
from pixelwise.training.distributed import World
from pixelwise.training.fsdp import gather_state, gather_tensor, get_local, is_sharded, shard_like, shard_model
from pixelwise.training.trainer import Trainer

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
    from pixelwise.networks.library_encoders import TimmEncoder
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
    return {name: gather_tensor(p.grad) for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("frozen", [0, 1])
def test_gradients_are_those_of_whole_weights(make: Callable[[], nn.Module], frozen: int) -> None:
    plain, parted = segmenter(make), segmenter(make)
    shard_model(parted, CPU)
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
    shard_model(parted, CPU)
    expected, found = gradients(plain, "bf16"), gradients(parted, "bf16")
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0, msg=name)


def test_each_stage_is_a_group_of_its_own() -> None:
    from torch.distributed.fsdp import FSDPModule

    model = segmenter(small_unet)
    shard_model(model, CPU)
    groups = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    assert groups == ["", "network.first", "network.down.0", "network.down.1"]


def test_cut_is_the_inverse_of_whole() -> None:
    model = segmenter(small_unet)
    shard_model(model, CPU)
    for parameter in model.parameters():
        back = shard_like(gather_tensor(parameter).detach() + 1, parameter)
        assert is_sharded(back)
        assert back.placements == parameter.placements
        assert torch.equal(get_local(back), get_local(parameter) + 1)


def test_other_values_are_not_sharded() -> None:
    model = segmenter(small_unet)
    shard_model(model, CPU)
    like, steps = next(model.parameters()), torch.ones(())
    assert shard_like(steps, like) is steps
    assert shard_like(None, like) is None
    assert shard_like(steps, None) is steps


def test_whole_weights_get_the_strides_of_those_they_replace() -> None:
    like = torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last)
    value = torch.arange(108.0).view(4, 3, 3, 3)
    back = shard_like(value, like)
    assert back.stride() == like.stride() != value.stride()
    assert torch.equal(back, value)
    assert shard_like(like, like) is like


@pytest.mark.parametrize("keep", [True, False])
def test_a_gathered_state_is_whole_where_it_is_kept(keep: bool) -> None:
    model = segmenter(small_unet)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shard_model(model, CPU)
    state = gather_state({"list": [model.state_dict()], "number": 3}, keep=keep)
    assert state["number"] == 3
    for name, tensor in state["list"][0].items():
        if keep or name in ("mean", "std"):
            assert type(tensor) is Tensor
            assert torch.equal(tensor, before[name])
        else:
            assert tensor is None


@pytest.fixture
def gathers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Contains an entry for each time that a state is gathered."""
    calls: list[int] = []
    gather = home.gather_state
    monkeypatch.setattr(home, "gather_state", lambda *values, **options: calls.append(1) or gather(*values, **options))
    return calls


@pytest.fixture
def trainer(make_trainer: Callable[..., Trainer]) -> Trainer:
    """A trainer of two processes, of which the second one is missing."""
    return make_trainer({"training.sharding": "fsdp"}, world=World(size=2))


def test_a_state_is_gathered_once_a_step(trainer: Trainer, gathers: list[int]) -> None:
    # An interrupted evaluation saves while the other processes score.
    batch = trainer.batches.make(0)
    trainer.step(batch, 0.0)
    trainer.update_average(0, 0.1)
    trainer.state()
    trainer.state()
    assert len(gathers) == 1
    trainer.step(batch, 0.1)
    trainer.state()
    assert len(gathers) == 2
    trainer.update_average(1, 0.1)
    trainer.state()
    assert len(gathers) == 3


def test_a_state_that_was_put_back_is_the_same_again(trainer: Trainer) -> None:
    batch = trainer.batches.make(0)
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


def test_a_single_process_shards_nothing(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer({"training.sharding": "fsdp"})
    assert not any(is_sharded(p) for p in trainer.model.parameters())
