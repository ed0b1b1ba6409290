import pytest
import torch
from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import build_network
from pixelwise.networks.stages import compute_learning_rate_scales, get_encoder_stages, get_first_stages


def network(name: str, encoder: str | None = None) -> nn.Module:
    with torch.device("meta"):
        return build_network(NetworkConfig(name=name, encoder=encoder), in_channels=3, num_classes=2)


@pytest.mark.parametrize(
    ("name", "encoder", "count"),
    [
        ("unet", None, 5),
        ("unet-paper", None, 5),
        ("segnet", None, 5),
        ("segnet-basic", None, 4),
        ("fcn-basic", None, 4),
        ("fcn-8s", None, 5),
        ("unet", "resnet18", 5),
        ("fcn-8s", "resnet18", 5),
        ("unet", "timm:resnet18", 5),
    ],
)
def test_stages_cover_the_encoder_once(name: str, encoder: str | None, count: int) -> None:
    made = network(name, encoder)
    stages = get_encoder_stages(made)
    assert len(stages) == count
    found = [id(p) for stage in stages for module in stage for p in module.parameters()]
    own = (made.first, made.down) if name.startswith("unet") and not encoder else (made.encoder,)
    assert sorted(found) == sorted({id(p) for part in own for p in part.parameters()})


def test_stages_go_from_fine_to_coarse() -> None:
    stages = get_encoder_stages(network("unet", "resnet18"))
    widths = [[p.shape[0] for module in stage for p in module.parameters()][-1] for stage in stages]
    assert widths == [64, 64, 128, 256, 512]


def test_network_without_stages_raises() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"freeze_stages is 1, but Conv2d has 0 encoder stages. Set it to at most 0"
    ):
        get_first_stages(nn.Conv2d(1, 1, 1), 1)
    with pytest.raises(InvalidArgumentError, match=r"layer_decay is 0\.5, but Conv2d has no encoder stages"):
        compute_learning_rate_scales(nn.Conv2d(1, 1, 1), 0.5)
    assert get_first_stages(nn.Conv2d(1, 1, 1), 0) == []
    assert compute_learning_rate_scales(nn.Conv2d(1, 1, 1), 1.0) == {}
