"""NETWORKS, the table from the name of a network to its builder: the only place where names meet numbers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import nn

from pixelwise.arguments import Count, check_arguments
from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError, describe_cause
from pixelwise.import_paths import is_import_path, load_import_path
from pixelwise.networks.backbones import build_fc_layers
from pixelwise.networks.encoders import build_encoder, find_encoder
from pixelwise.networks.fcn import FCN, FIRST_PADDING
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import TABLE_1, SegNetBasic
from pixelwise.networks.unet import EncoderUNet, UNet

NetworkBuilder = Callable[[int, int, NetworkConfig], nn.Module]


def _build_unet(in_channels: int, num_classes: int, config: NetworkConfig) -> nn.Module:
    decoder: Any = {
        "normalization": config.normalization,
        "upsampling": config.upsampling or "transposed",
        "skips": config.skips or "concat",
    }
    if config.encoder:
        encoder = build_encoder(config.encoder, in_channels=in_channels)
        decoder |= {"base_channels": config.base_channels, "max_channels": config.max_channels}
        return EncoderUNet(in_channels, num_classes, encoder=encoder, **decoder)
    return UNet(
        in_channels,
        num_classes,
        base_channels=config.base_channels or 32,
        depth=config.depth,
        max_channels=config.max_channels,
        padding="same",
        stem_stride=config.stem_stride,
        **decoder,
    )


def _build_paper_unet(in_channels: int, num_classes: int, config: NetworkConfig) -> nn.Module:
    return UNet(in_channels, num_classes, base_channels=config.base_channels or 64, depth=config.depth)


def _build_segnet(in_channels: int, num_classes: int, config: NetworkConfig, *, dropout: float = 0.0) -> nn.Module:
    return SegNet(
        in_channels,
        num_classes,
        channels=[factor * (config.base_channels or 64) for factor in (1, 2, 4, 8, 8)],
        upsampling=config.upsampling or "switches",
        skips=config.skips or "none",
        dropout=dropout,
    )


def _build_basic(
    in_channels: int, num_classes: int, config: NetworkConfig, *, build: Callable[..., nn.Module]
) -> nn.Module:
    return build(in_channels, num_classes, base_channels=config.base_channels or 64)


def _build_fcn(
    in_channels: int,
    num_classes: int,
    config: NetworkConfig,
    *,
    stride: int,
    form: Literal["same", "released", "alexnet"] = "same",
) -> nn.Module:
    """Build FCN on VGG16 with fc6 and fc7, or on the encoder of the config."""
    name = find_encoder(config.encoder or ("caffenet" if form == "alexnet" else "vgg16"))
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
        kernel_size = 6 if form == "alexnet" else 7
        head = build_fc_layers(encoder.out_channels[-1], kernel_size=kernel_size, padding=3 if form == "same" else 0)
    return FCN(
        in_channels,
        num_classes,
        encoder=encoder,
        head=head,
        stride=stride,
        upsampling="learned" if form == "same" else "frozen",
        grouped=form == "same",
    )


NETWORKS: Mapping[str, NetworkBuilder] = {
    "unet": _build_unet,
    "unet-paper": _build_paper_unet,
    "segnet": _build_segnet,
    **{name: partial(_build_basic, build=build) for name, build in TABLE_1.items()},
    "bayesian-segnet": partial(_build_segnet, dropout=0.5),
    "bayesian-segnet-basic": partial(_build_basic, build=partial(SegNetBasic, dropout=0.5)),
    "fcn": partial(_build_fcn, stride=8),
    "fcn-32s": partial(_build_fcn, stride=32),
    "fcn-16s": partial(_build_fcn, stride=16),
    "fcn-8s": partial(_build_fcn, stride=8),
    "fcn-paper": partial(_build_fcn, stride=8, form="released"),
    "fcn-alexnet": partial(_build_fcn, stride=32, form="alexnet"),
}
"""Name → function of in_channels, num_classes and the network section of a config."""

_UNET_KEYS = "base_channels depth max_channels stem_stride encoder encoder_weights normalization upsampling skips"
_SEGNET_KEYS = "base_channels encoder_weights upsampling skips"

NETWORK_KEYS: Mapping[str, frozenset[str]] = {
    name: frozenset(keys.split())
    for name, keys in {
        "unet": _UNET_KEYS,
        "unet-paper": "base_channels depth",
        **dict.fromkeys(("segnet", "bayesian-segnet"), _SEGNET_KEYS),
        **dict.fromkeys(("bayesian-segnet-basic", *TABLE_1), "base_channels"),
        **dict.fromkeys(("fcn", "fcn-32s", "fcn-16s", "fcn-8s"), "encoder encoder_weights"),
        "fcn-paper": "encoder_weights",
        "fcn-alexnet": "",
    }.items()
}
"""Name → the keys of the config's network section that the network uses; the others must keep their defaults."""


@check_arguments
def build_network(config: NetworkConfig | str, *, in_channels: Count, num_classes: Count) -> nn.Module:
    """Build the network of a config with random weights.

    Args:
        config: The `network` section of a config, or only its name; `config.name` is a key of `NETWORKS`, or the
            import path "module:name" of a class or function with the parameters in_channels and num_classes.
        in_channels: C of the images.
        num_classes: K of the logits.

    Returns:
        A module that maps images (B, C, H, W) to logits (B, K, H, W). `Segmenter` adds normalization and padding.

    Raises:
        InvalidArgumentError: The name is unknown, the network does not use a key that is set, or its values do not
            match; the message names the legal ones.

    Example:
        >>> import torch
        >>> from pixelwise.config import NetworkConfig
        >>> from pixelwise.networks import build_network
        >>> network = build_network(NetworkConfig(name="segnet", base_channels=8), in_channels=3, num_classes=5)
        >>> network(torch.rand(1, 3, 45, 61)).shape
        torch.Size([1, 5, 45, 61])
        >>> unet = build_network("unet", in_channels=3, num_classes=2)
    """
    config = NetworkConfig(name=config) if isinstance(config, str) else config
    keys, default = NETWORK_KEYS.get(config.name, frozenset()), NetworkConfig()
    for key in NetworkConfig.__dataclass_fields__.keys() - keys - {"name"}:
        if getattr(config, key) != getattr(default, key):
            raise InvalidArgumentError(
                f"network.{key} is {getattr(config, key)!r}, but {config.name!r} does not use it. Leave it out. "
                f"Its keys: {', '.join(sorted(keys)) or 'none'}."
            )
    if is_import_path(config.name):
        return _build_own_network(config.name, in_channels, num_classes)
    return NETWORKS[config.name](in_channels, num_classes, config)


def _build_own_network(path: str, in_channels: int, num_classes: int) -> nn.Module:
    """Build a network of the user; keywords, so that only a function with these parameters is called."""
    function = load_import_path(path, "network.name")
    try:
        network = function(in_channels=in_channels, num_classes=num_classes)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{path} cannot be built ({describe_cause(error)}). Expected a class or function with the parameters "
            f"in_channels and num_classes."
        ) from error
    if not isinstance(network, nn.Module):
        raise InvalidArgumentError(f"{path} returned {type(network).__name__}. Expected a torch.nn.Module.")
    return network
