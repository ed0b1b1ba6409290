"""Networks can be transformed by `torch.func`, as influence functions, per-sample gradients and attributions need."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

from pixelwise.losses import LOSSES, cross_entropy
from pixelwise.networks import SegNet, SegNetBasic, UNet

torch.manual_seed(0)
IMAGES, LABELS = torch.rand(3, 2, 16, 16), torch.randint(0, 2, (3, 16, 16))
NETWORKS = {
    "unet": lambda: UNet(2, 2, base_channels=4, depth=2, padding="same", normalization="batch", stem_stride=2),
    "unet-group": lambda: UNet(2, 2, base_channels=4, depth=2, padding="same", normalization="group"),
    "segnet": lambda: SegNet(2, 2, channels=(4, 8), depths=(1, 2)),
    "segnet-basic": lambda: SegNetBasic(2, 2, base_channels=4, depth=2),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


def compute_loss(parameters: Mapping[str, Tensor], network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(functional_call(network, dict(parameters), (images,)), labels, ignore_index=255)


def compute_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    cross_entropy(network(images), labels, ignore_index=255).backward()
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


def test_gradients_equal_those_of_autograd(network: nn.Module) -> None:
    found = grad(compute_loss)(dict(network.named_parameters()), network, IMAGES, LABELS)
    torch.testing.assert_close(found, compute_gradients(network, IMAGES, LABELS))


def test_per_sample_gradients(network: nn.Module) -> None:
    parameters = dict(network.named_parameters())

    def of_one(image: Tensor, label: Tensor) -> dict[str, Tensor]:
        return grad(compute_loss)(parameters, network, image[None], label[None])

    found = vmap(of_one)(IMAGES, LABELS)
    for index in range(len(IMAGES)):
        expected = compute_gradients(network, IMAGES[index : index + 1], LABELS[index : index + 1])
        torch.testing.assert_close({name: value[index] for name, value in found.items()}, expected)


def test_the_tangent_of_the_logits_is_the_jacobian_times_the_tangent(network: nn.Module) -> None:
    image, tangent = IMAGES[:1, :, :8, :8], torch.randn(1, 2, 8, 8)
    _, moved = jvp(network, (image,), (tangent,))
    jacobian = jacrev(network)(image).reshape(moved.numel(), tangent.numel())
    torch.testing.assert_close(moved.flatten(), jacobian @ tangent.flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_can_be_transformed(name: str) -> None:
    loss = LOSSES[name]
    logits, tangent = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.randn(3, 4, 5, 6, dtype=torch.float64)
    labels, class_weights = torch.randint(0, 4, (3, 5, 6)), torch.rand(4, dtype=torch.float64)
    labels[0, 0] = 255

    def compute(logits: Tensor, labels: Tensor) -> Tensor:
        return loss(logits, labels, ignore_index=255, class_weights=class_weights)

    def differentiate(logits: Tensor, labels: Tensor) -> Tensor:
        leaf = logits.clone().requires_grad_()
        return torch.autograd.grad(compute(leaf, labels), leaf)[0]

    expected = differentiate(logits, labels)
    torch.testing.assert_close(grad(compute)(logits, labels), expected)
    value, moved = jvp(lambda z: compute(z, labels), (logits,), (tangent,))
    torch.testing.assert_close(value, compute(logits, labels))
    torch.testing.assert_close(moved, (expected * tangent).sum())
    each = vmap(grad(lambda z, y: compute(z[None], y[None])))(logits, labels)
    torch.testing.assert_close(each, torch.cat([differentiate(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]))
