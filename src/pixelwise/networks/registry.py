"""NETWORKS: from the name of a network to what builds it. The one place where names meet numbers.

FCN and encoders are imported when one is built: torchvision and timm, which they cut into stages,
take seconds to import.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import TABLE_1, SegNetBasic
from pixelwise.networks.unet import EncoderUNet, UNet

if TYPE_CHECKING:
    from pixelwise.networks.encoders import Encoder

NetworkBuilder = Callable[[int, int, NetworkConfig], nn.Module]


def _unet(in_channels: int, num_classes: int, config: NetworkConfig) -> nn.Module:
    if config.encoder:
        return EncoderUNet(
            in_channels,
            num_classes,
            encoder=_encoder(config.encoder, in_channels),
            normalization=config.normalization,
            upsampling=config.upsampling or "transposed",
            skips=config.skips or "concat",
        )
    return UNet(
        in_channels,
        num_classes,
        base_channels=config.base_channels or 32,
        depth=config.depth,
        max_channels=config.max_channels,
        padding="same",
        normalization=config.normalization,
        upsampling=config.upsampling or "transposed",
        skips=config.skips or "concat",
        stem_stride=config.stem_stride,
    )


def _unet_paper(in_channels: int, num_classes: int, config: NetworkConfig) -> nn.Module:
    return UNet(in_channels, num_classes, base_channels=config.base_channels or 64, depth=config.depth)


def _segnet(in_channels: int, num_classes: int, config: NetworkConfig, *, dropout: float = 0.0) -> nn.Module:
    width = config.base_channels or 64
    return SegNet(
        in_channels,
        num_classes,
        widths=(width, 2 * width, 4 * width, 8 * width, 8 * width),
        upsampling=config.upsampling or "switches",
        skips=config.skips or "none",
        dropout=dropout,
    )


def _table_1(in_channels: int, num_classes: int, config: NetworkConfig, *, row: str) -> nn.Module:
    return TABLE_1[row](in_channels, num_classes, base_channels=config.base_channels or 64)


def _bayesian_basic(in_channels: int, num_classes: int, config: NetworkConfig) -> nn.Module:
    return SegNetBasic(in_channels, num_classes, base_channels=config.base_channels or 64, dropout=0.5)


def _fcn(
    in_channels: int,
    num_classes: int,
    config: NetworkConfig,
    *,
    stride: int,
    form: Literal["same", "released", "alexnet"] = "same",
) -> nn.Module:
    """FCN on an encoder: VGG16 with fc6 and fc7 unless the config names another."""
    from pixelwise.networks.backbones import build_fc_layers
    from pixelwise.networks.encoders import build_encoder
    from pixelwise.networks.fcn import FCN, FIRST_PADDING

    name = config.encoder or ("caffenet" if form == "alexnet" else "vgg16")
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
        head = build_fc_layers(encoder.out_channels[-1], kernel=kernel, padding=3 if form == "same" else 0)
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

NETWORK_KEYS: Mapping[str, frozenset[str]] = {
    "unet": frozenset(
        (
            "base_channels",
            "depth",
            "max_channels",
            "stem_stride",
            "encoder",
            "encoder_weights",
            "normalization",
            "upsampling",
            "skips",
        )
    ),
    "unet-paper": frozenset(("base_channels", "depth")),
    "segnet": frozenset(("base_channels", "encoder_weights", "upsampling", "skips")),
    "bayesian-segnet": frozenset(("base_channels", "encoder_weights", "upsampling", "skips")),
    **dict.fromkeys(("bayesian-segnet-basic", *TABLE_1), frozenset(("base_channels",))),
    **dict.fromkeys(("fcn", "fcn-32s", "fcn-16s", "fcn-8s"), frozenset(("encoder", "encoder_weights"))),
    "fcn-paper": frozenset(("encoder_weights",)),
    "fcn-alexnet": frozenset(),
}
"""Which keys of the config's network section say something to a network; the others must be left alone."""


def build_network(config: NetworkConfig, *, in_channels: int, num_classes: int) -> nn.Module:
    """The network a config names, with fresh weights.

    Raises:
        InvalidArgumentError: an unknown name (the choices are listed), or a key this network does not have.
    """
    if config.name not in NETWORKS:
        raise unknown_name("network", config.name, NETWORKS)
    default = NetworkConfig()
    for key in NetworkConfig.__dataclass_fields__.keys() - NETWORK_KEYS[config.name] - {"name"}:
        if getattr(config, key) != getattr(default, key):
            raise InvalidArgumentError(
                f"network.{key} means nothing to {config.name!r}, which has "
                f"{', '.join(sorted(NETWORK_KEYS[config.name]))}; leave it out."
            )
    return NETWORKS[config.name](in_channels, num_classes, config)
