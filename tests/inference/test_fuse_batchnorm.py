from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.config import NetworkConfig
from pixelwise.inference.fuse_batchnorm import find_fusible_pairs, optimize_for_inference
from pixelwise.networks import build_network

SIZE = (64, 64)

NETWORKS = {
    "unet": NetworkConfig(base_channels=4, depth=2),
    "segnet": NetworkConfig(name="segnet", base_channels=2),
    "unet on resnet18": NetworkConfig(encoder="resnet18"),
    "unet on timm": NetworkConfig(encoder="timm:mobilenetv3_small_050"),  # its norms hold the activations
}


def randomize_norms(network: nn.Module) -> nn.Module:
    """Give the normalizations random factors and statistics."""
    torch.manual_seed(0)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(2):
            network(torch.randn(2, 3, *SIZE))
    return network.eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_optimized_network_gives_the_same(name: str) -> None:
    network = randomize_norms(build_network(NETWORKS[name], in_channels=3, num_classes=4))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimized = optimize_for_inference(network, SIZE, channels=3, precision="fp32")
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected, found = network(images), optimized(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1, float(expected.abs().max())))
    assert count_norms(network) > count_norms(optimized) == 0
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_bf16_weights_give_the_same_under_autocast() -> None:
    network = randomize_norms(build_network(NETWORKS["unet"], in_channels=3, num_classes=4))
    in_fp32, in_bf16 = (optimize_for_inference(network, SIZE, channels=3, precision=p) for p in ("fp32", "bf16"))
    assert next(in_bf16.parameters()).dtype == torch.bfloat16
    images = torch.randn(1, 3, *SIZE)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(in_fp32(images), in_bf16(images))


class Net(nn.Module):
    """A convolution and a normalization, applied by `use`."""

    def __init__(self, use: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.use = use
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.use(self, images)


def use_twice(net: Net, images: Tensor) -> Tensor:
    made = net.convolution(images)
    return net.norm(made) + made


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(use_twice, id="the output is used elsewhere"),
        pytest.param(lambda net, x: net.norm(functional.relu(net.convolution(x))), id="another operator in between"),
        pytest.param(lambda net, x: net.convolution(net.norm(x)), id="the other way round"),
        pytest.param(lambda net, x: net.norm(net.convolution(net.norm(net.convolution(x)))), id="both run twice"),
        pytest.param(lambda net, x: net.norm(net.convolution(x)) + net.norm(x), id="the norm runs twice"),
    ],
)
def test_other_combinations_are_not_fused(use: Callable[[Net, Tensor], Tensor]) -> None:
    network = randomize_norms(Net(use))
    assert find_fusible_pairs(network, SIZE, channels=3) == []
    optimized = optimize_for_inference(network, SIZE, channels=3, precision="fp32")
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(optimized(images), network(images), rtol=0, atol=0)


def test_the_order_of_the_modules_does_not_matter() -> None:
    network = Net(lambda net, x: net.norm(net.convolution(x)))
    network.norm, network.convolution = network.norm, network.convolution
    pair = ("convolution", "norm")
    assert find_fusible_pairs(network, SIZE, channels=3) == [pair]


def test_a_norm_without_statistics_is_not_fused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert find_fusible_pairs(network, SIZE, channels=3) == []


def test_factors_and_biases_may_be_missing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False))
    randomize_norms(network)
    optimized = optimize_for_inference(network, SIZE, channels=3, precision="fp32")
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(optimized(images), network(images), rtol=1e-5, atol=1e-5)
