"""Test that recomputing gives equal results bit by bit, and saves fewer bytes."""

import gc
import weakref
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.config import NetworkConfig
from pixelwise.devices import enable_deterministic_algorithms
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter, SegNet, SegNetBasic, UNet, build_network
from pixelwise.networks.backbones import build_fc_layers, build_vgg_layers
from pixelwise.networks.encoders import ChainEncoder, build_encoder
from pixelwise.networks.fcn import FCN
from pixelwise.networks.segnet_basic import FCNBasic
from pixelwise.networks.stages import enable_activation_checkpointing
from pixelwise.networks.summary import count_checkpointed_bytes, count_saved_bytes
from pixelwise.networks.unet import EncoderUNet

WIDTHS = (4, 8, 8)


def unet() -> nn.Module:
    return UNet(3, 4, base_channels=4, depth=2, padding="same", normalization="batch")


def segnet() -> nn.Module:
    return SegNet(3, 4, channels=WIDTHS, depths=(2, 2, 2))


def bayesian_segnet() -> nn.Module:
    return SegNet(3, 4, channels=WIDTHS, depths=(2, 2, 2), skips="concat", dropout=0.5)


def fcn() -> nn.Module:
    """Return an FCN with dropout in its head."""
    encoder = ChainEncoder({"features": build_vgg_layers(3, channels=WIDTHS, depths=(2, 2, 2))}, taps="pools")
    return FCN(3, 4, encoder=encoder, head=build_fc_layers(8, channels=16, kernel_size=3, padding=1), stride=2)


def unet_on_vgg() -> nn.Module:
    """Return a U-Net on VGG with switches."""
    layers = build_vgg_layers(3, channels=WIDTHS, depths=(2, 2, 2), batch_norm=True)
    return EncoderUNet(3, 4, encoder=ChainEncoder({"features": layers}), upsampling="switches")


def unet_on_timm() -> nn.Module:
    return EncoderUNet(3, 4, encoder=build_encoder("timm:test_resnet", in_channels=3))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "unet": unet,
    "segnet": segnet,
    "bayesian-segnet": bayesian_segnet,
    "segnet-basic": lambda: SegNetBasic(3, 4, base_channels=8, depth=3, dropout=0.5),
    "fcn": fcn,
    "fcn-basic": lambda: FCNBasic(3, 4, base_channels=8, depth=3),
    "unet on vgg": unet_on_vgg,
    "unet on timm": unet_on_timm,
}


def trained(name: str, *, again: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Return weights and statistics after three steps, and the next random numbers."""
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    if again:
        enable_activation_checkpointing(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    with enable_deterministic_algorithms(True):
        for _ in range(3):
            images = torch.randn(2, 3, 32, 32, generator=generator)
            labels = torch.randint(4, (2, 32, 32), generator=generator)
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.state_dict(), torch.rand(3)


@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_give_equal_weights_and_statistics(name: str) -> None:
    (kept, drawn), (again, drawn_again) = (trained(name, again=choice) for choice in (False, True))
    assert list(again) == list(kept)
    assert [key for key, tensor in kept.items() if not torch.equal(again[key], tensor)] == []
    assert torch.equal(drawn_again, drawn)


@pytest.mark.parametrize("name", NETWORKS)
def test_fewer_bytes_are_saved(name: str) -> None:
    network, images = NETWORKS[name]().train(), torch.randn(2, 3, 32, 32)
    before = count_saved_bytes(network, images)
    enable_activation_checkpointing(network)
    assert count_saved_bytes(network, images) < 0.6 * before


@pytest.mark.parametrize("name", NETWORKS)
def test_output_without_gradients_is_equal(name: str) -> None:
    network, images = NETWORKS[name]().eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = network(images)
        enable_activation_checkpointing(network)
        assert torch.equal(network(images), before)


def test_peak_by_hand() -> None:
    """The image, a map of each stage and the switches are stored between the stages. The largest stage is the step up,
    with the joined maps and the map after each of two convolutions.
    """
    with torch.device("meta"):
        network = UNet(3, 2, base_channels=4, depth=1, padding="same")
        segmenter = Segmenter(network, mean=[0.0] * 3, std=[1.0] * 3).train()
    between = 32 * 32 * 4 * (3 + 4 + 4) + 16 * 16 * (4 * 8 + 4)
    of_step_up = 32 * 32 * 4 * (8 + 4 + 4)
    assert count_checkpointed_bytes(segmenter, torch.empty(1, 3, 32, 32, device="meta")) == between + of_step_up


def test_network_is_freed_without_the_garbage_collector() -> None:
    network = unet()
    enable_activation_checkpointing(network)
    gone = weakref.ref(network.get_submodule("first"))
    gc.disable()
    try:
        del network
        assert gone() is None
    finally:
        gc.enable()


def test_network_without_stages_raises() -> None:
    with torch.device("meta"):
        network = build_network(NetworkConfig(encoder="timm:hrnet_w18_small"), in_channels=3, num_classes=2)
    with pytest.raises(
        InvalidArgumentError, match=r"training\.activation_checkpointing is true, but EncoderUNet has no encoder stages"
    ):
        enable_activation_checkpointing(network)
