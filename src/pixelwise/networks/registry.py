"""NETWORKS: from the name of a network to what builds it. The one place where names meet numbers.

FCN and encoders are imported when one is built: torchvision and timm, which they cut into stages,
take seconds to import.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from torch import nn

from pixelwise.config import NetworkRecipe
from pixelwise.errors import RequestError, unknown_name
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import TABLE_1, SegNetBasic
from pixelwise.networks.unet import EncoderUNet, UNet

if TYPE_CHECKING:
    from pixelwise.networks.encoders import Encoder

NetworkBuilder = Callable[[int, int, NetworkRecipe], nn.Module]


def _unet(in_channels: int, num_classes: int, recipe: NetworkRecipe) -> nn.Module:
    if recipe.encoder:
        return EncoderUNet(
            in_channels,
            num_classes,
            encoder=_encoder(recipe.encoder, in_channels),
            normalization=recipe.normalization,
            upsampling=recipe.upsampling or "transposed",
            skips=recipe.skips or "concat",
        )
    return UNet(
        in_channels,
        num_classes,
        width=recipe.width or 32,
        depth=recipe.depth,
        max_width=recipe.max_width,
        padding="same",
        normalization=recipe.normalization,
        upsampling=recipe.upsampling or "transposed",
        skips=recipe.skips or "concat",
        stem_stride=recipe.stem_stride,
    )


def _unet_paper(in_channels: int, num_classes: int, recipe: NetworkRecipe) -> nn.Module:
    return UNet(in_channels, num_classes, width=recipe.width or 64, depth=recipe.depth)


def _segnet(in_channels: int, num_classes: int, recipe: NetworkRecipe, *, dropout: float = 0.0) -> nn.Module:
    width = recipe.width or 64
    return SegNet(
        in_channels,
        num_classes,
        widths=(width, 2 * width, 4 * width, 8 * width, 8 * width),
        upsampling=recipe.upsampling or "switches",
        skips=recipe.skips or "none",
        dropout=dropout,
    )


def _table_1(in_channels: int, num_classes: int, recipe: NetworkRecipe, *, row: str) -> nn.Module:
    return TABLE_1[row](in_channels, num_classes, width=recipe.width or 64)


def _bayesian_basic(in_channels: int, num_classes: int, recipe: NetworkRecipe) -> nn.Module:
    return SegNetBasic(in_channels, num_classes, width=recipe.width or 64, dropout=0.5)


def _fcn(
    in_channels: int,
    num_classes: int,
    recipe: NetworkRecipe,
    *,
    stride: int,
    form: Literal["same", "released", "alexnet"] = "same",
) -> nn.Module:
    """FCN on an encoder: VGG16 with fc6 and fc7 unless the recipe names another."""
    from pixelwise.networks.backbones import fc_layers
    from pixelwise.networks.encoders import build_encoder
    from pixelwise.networks.fcn import FCN, FIRST_PADDING

    name = recipe.encoder or ("caffenet" if form == "alexnet" else "vgg16")
    has_head = name.startswith(("vgg", "caffenet", "alexnet"))
    encoder = build_encoder(
        name,
        in_channels=in_channels,
        taps="pools" if has_head else "stages",
        ceil_mode=form != "same",
        first_padding=None if form == "same" else FIRST_PADDING,
    )
    head = None
    if has_head:
        kernel = 6 if form == "alexnet" else 7
        head = fc_layers(encoder.out_channels[-1], kernel=kernel, padding=3 if form == "same" else 0)
    return FCN(
        in_channels,
        num_classes,
        encoder=encoder,
        head=head,
        stride=stride,
        upsampling="learned" if form == "same" else "frozen",
        grouped=form == "same",
    )


def _encoder(name: str, in_channels: int) -> "Encoder":
    from pixelwise.networks.encoders import build_encoder

    return build_encoder(name, in_channels=in_channels)


NETWORKS: Mapping[str, NetworkBuilder] = {
    "unet": _unet,
    "unet-paper": _unet_paper,
    "segnet": _segnet,
    **{row: partial(_table_1, row=row) for row in TABLE_1},
    "bayesian-segnet": partial(_segnet, dropout=0.5),
    "bayesian-segnet-basic": _bayesian_basic,
    "fcn": partial(_fcn, stride=8),
    "fcn-32s": partial(_fcn, stride=32),
    "fcn-16s": partial(_fcn, stride=16),
    "fcn-8s": partial(_fcn, stride=8),
    "fcn-paper": partial(_fcn, stride=8, form="released"),
    "fcn-alexnet": partial(_fcn, stride=32, form="alexnet"),
}

CHOICES: Mapping[str, frozenset[str]] = {
    "unet": frozenset(
        ("width", "depth", "max_width", "stem_stride", "encoder", "weights", "normalization", "upsampling", "skips")
    ),
    "unet-paper": frozenset(("width", "depth")),
    "segnet": frozenset(("width", "weights", "upsampling", "skips")),
    "bayesian-segnet": frozenset(("width", "weights", "upsampling", "skips")),
    **dict.fromkeys(("bayesian-segnet-basic", *TABLE_1), frozenset(("width",))),
    **dict.fromkeys(("fcn", "fcn-32s", "fcn-16s", "fcn-8s"), frozenset(("encoder", "weights"))),
    "fcn-paper": frozenset(("weights",)),
    "fcn-alexnet": frozenset(),
}
"""Which keys of the recipe's network section say something to a network; the others must be left alone."""


def build_network(recipe: NetworkRecipe, *, in_channels: int, num_classes: int) -> nn.Module:
    """The network a recipe names, with fresh weights.

    Raises:
        RequestError: an unknown name (the choices are listed), or a key this network does not have.
    """
    if recipe.name not in NETWORKS:
        raise unknown_name("network", recipe.name, NETWORKS)
    default = NetworkRecipe()
    for key in NetworkRecipe.__dataclass_fields__.keys() - CHOICES[recipe.name] - {"name"}:
        if getattr(recipe, key) != getattr(default, key):
            raise RequestError(
                f"network.{key} means nothing to {recipe.name!r}, which has "
                f"{', '.join(sorted(CHOICES[recipe.name]))}; leave it out."
            )
    return NETWORKS[recipe.name](in_channels, num_classes, recipe)
