import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import build_network
from pixelwise.networks.registry import NETWORK_KEYS
from pixelwise.networks.weights import NetworkSpec, adapt_first_layer, load_model_weights

SMALL = NetworkConfig(base_channels=4, depth=2)
OLD, NEW = ("road", "sky", "tree"), ("car", "tree", "road", "dog")


def kind(network: NetworkConfig = SMALL, channels: int = 3, classes: tuple[str, ...] = OLD) -> NetworkSpec:
    return NetworkSpec(network=network, channels=channels, classes=classes)


def build(made: NetworkSpec, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(made.network, in_channels=made.channels, num_classes=len(made.classes))


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        NetworkConfig(base_channels=4, depth=2, stem_stride=2),
        NetworkConfig(name="segnet", base_channels=2),
        NetworkConfig(name="segnet-basic", base_channels=2),
        NetworkConfig(name="fcn-8s", encoder="resnet18"),
        NetworkConfig(name="unet", encoder="resnet18"),
    ],
    ids=lambda network: f"{network.name}-{network.encoder}-{network.stem_stride}",
)
def test_kept_classes_have_equal_logits(network: NetworkConfig) -> None:
    theirs, ours = kind(network), kind(network, classes=NEW)
    trained, fresh = build(theirs, 1).eval(), build(ours, 2).eval()
    carried = load_model_weights(fresh, ours, trained.state_dict(), theirs)
    assert (carried.kept, carried.new, carried.dropped) == (("tree", "road"), ("car", "dog"), ("sky",))
    assert 0 < carried.num_parameters < carried.total_parameters
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = trained(images), fresh(images)
    torch.testing.assert_close(after[:, [1, 2]], before[:, [2, 0]])


def test_weights_between_kept_classes_are_kept() -> None:
    theirs, ours = (
        kind(NetworkConfig(name="fcn-basic", base_channels=2)),
        kind(NetworkConfig(name="fcn-basic", base_channels=2), classes=NEW),
    )
    trained, fresh = build(theirs, 1), build(ours, 2)
    nn.init.normal_(trained.grow[0].weight)
    load_model_weights(fresh, ours, trained.state_dict(), theirs)
    found = fresh.grow[0].weight[[1, 2]][:, [1, 2]]
    assert torch.equal(found, trained.grow[0].weight[[2, 0]][:, [2, 0]])


def test_new_classes_start_fresh() -> None:
    theirs, ours = kind(), kind(classes=NEW)
    fresh, untouched = build(ours, 2), build(ours, 2)
    load_model_weights(fresh, ours, build(theirs, 1).state_dict(), theirs)
    assert torch.equal(fresh.classify.weight[[0, 3]], untouched.classify.weight[[0, 3]])


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_other_channels_adapt_the_first_layer(stem_stride: int) -> None:
    """A gray image repeated over all channels gives the same response as before."""
    network = NetworkConfig(base_channels=4, depth=2, stem_stride=stem_stride)
    theirs, ours = kind(network), kind(network, channels=1)
    trained, fresh = build(theirs, 1).eval(), build(ours, 2).eval()
    carried = load_model_weights(fresh, ours, trained.state_dict(), theirs)
    assert carried.adapted == (3, 1)
    assert "first layer adapted from 3 to 1 channels" in carried.summary()
    gray = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(fresh(gray), trained(gray.expand(1, 3, 16, 16)))
    if stem_stride == 1:
        assert torch.equal(fresh.first[0].weight, adapt_first_layer(trained.first[0].weight, 1))


def test_same_classes_are_all_kept() -> None:
    carried = load_model_weights(build(kind(), 2), kind(), build(kind(), 1).state_dict(), kind())
    assert carried.num_parameters == carried.total_parameters
    assert carried.summary().endswith("numbers kept; classes kept: road, sky, tree")


def test_summary_names_new_and_dropped_classes() -> None:
    theirs, ours = kind(), kind(classes=("car",))
    carried = load_model_weights(build(ours, 2), ours, build(theirs, 1).state_dict(), theirs)
    assert carried.summary().endswith("classes kept: none; new: car; dropped: road, sky, tree")


OTHER_VALUES: dict[str, object] = {
    "base_channels": 8,
    "depth": 3,
    "max_channels": 8,
    "stem_stride": 2,
    "encoder": "resnet18",
    "normalization": "group",
    "upsampling": "bilinear",
    "skips": "none",
}
"""Key of the network section → a value with other tensors than that of SMALL."""


def test_every_key_is_tried() -> None:
    assert {*OTHER_VALUES, "name", "encoder_weights"} == set(NetworkConfig.__dataclass_fields__)


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_a_key_with_other_tensors_raises_and_says_what_to_do(key: str) -> None:
    ours = kind(replace(SMALL, **{key: OTHER_VALUES[key]}, encoder_weights="imagenet"))  # type: ignore[arg-type]
    fresh = build(ours, 2)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    there, here = (re.escape(repr(value)) for value in (getattr(SMALL, key), OTHER_VALUES[key]))
    said = rf"^network\.{key} is {there} in the model, but {here} in the config \(\d+ tensors do not fit, such as "
    with pytest.raises(InvalidArgumentError, match=rf"{said}.*Omit network\.{key} to use the network of the model"):
        load_model_weights(fresh, ours, build(kind(), 1).state_dict(), kind())
    assert all(torch.equal(before[name], tensor) for name, tensor in fresh.state_dict().items())


@pytest.mark.parametrize(("key", "value"), [("upsampling", "nearest"), ("normalization", "batch"), ("stem_stride", 1)])
def test_a_key_with_the_same_tensors_is_taken(key: str, value: object) -> None:
    theirs = kind(replace(SMALL, upsampling="bilinear"))
    ours = kind(replace(theirs.network, **{key: value}))  # type: ignore[arg-type]
    report = load_model_weights(build(ours, 2), ours, build(theirs, 1).state_dict(), theirs)
    assert report.num_parameters == report.total_parameters


FAMILIES = ("unet", "unet-paper", "segnet", "segnet-basic", "bayesian-segnet-basic", "fcn", "fcn-32s", "fcn-alexnet")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_weights_of_another_network_are_taken_or_refused(name: str) -> None:
    networks = {}
    for other in FAMILIES:
        small = {"base_channels": 2} if "base_channels" in NETWORK_KEYS[other] else {}
        small |= {"encoder": "resnet18"} if "encoder" in NETWORK_KEYS[other] and other != "unet" else {}
        networks[other] = kind(NetworkConfig(name=other, **small))  # type: ignore[arg-type]
    with torch.device("meta"):
        theirs = build(networks[name], 1).state_dict()
        for other, ours in networks.items():
            fresh = build(ours, 2)
            shapes, own = ({key: t.shape for key, t in tensors.items()} for tensors in (theirs, fresh.state_dict()))
            if shapes == own:
                load_model_weights(fresh, ours, theirs, networks[name])
                continue
            said = f"^The model is a {name!r}, but the config asks for a {other!r}. Omit network.name "
            with pytest.raises(InvalidArgumentError, match=said):
                load_model_weights(fresh, ours, theirs, networks[name])


def test_weights_of_a_segnet_start_a_bayesian_one() -> None:
    theirs, ours = (kind(NetworkConfig(name=name, base_channels=2)) for name in ("segnet", "bayesian-segnet"))
    report = load_model_weights(build(ours, 2), ours, build(theirs, 1).state_dict(), theirs)
    assert report.num_parameters == report.total_parameters
