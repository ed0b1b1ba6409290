"""NETWORKS: from the name of a network to what builds it. The one place where names meet numbers."""

from collections.abc import Callable

from torch import nn

from pixelwise.errors import unknown_name
from pixelwise.networks.unet import UNet
from pixelwise.recipe import NetworkRecipe

NetworkBuilder = Callable[[int, int, NetworkRecipe], nn.Module]


def _unet(in_channels: int, num_classes: int, recipe: NetworkRecipe) -> nn.Module:
    return UNet(
        in_channels,
        num_classes,
        width=recipe.width,
        depth=recipe.depth,
        max_width=recipe.max_width,
        padding="same",
        normalization="batch",
        stem_stride=recipe.stem_stride,
    )


NETWORKS: dict[str, NetworkBuilder] = {
    "unet": _unet,
}


def build_network(recipe: NetworkRecipe, *, in_channels: int, num_classes: int) -> nn.Module:
    """The network a recipe names, with fresh weights. An unknown name lists the choices."""
    if recipe.name not in NETWORKS:
        raise unknown_name("network", recipe.name, NETWORKS)
    return NETWORKS[recipe.name](in_channels, num_classes, recipe)
