import pytest
import torch
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import NETWORKS, SegNet, UNet, build_network
from pixelwise.networks.summary import (
    LayerRow,
    count_gflops,
    count_saved_bytes,
    describe,
    describe_layers,
    describe_network,
)


def test_paper_s_unet_layer_by_layer():
    with torch.device("meta"):
        network = UNet(1, 2)
    rows = describe_layers(network, (572, 572), in_channels=1)
    assert all(row.shape[1] == row.shape[2] for row in rows)
    sides = [row.shape[1] for row in rows if row.operator not in ("crop", "cat")]
    down = [570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28]
    up = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
    assert sides == down + up
    assert [row.shape for row in rows if row.operator == "cat"] == [
        (1024, 56, 56), (512, 104, 104), (256, 200, 200), (128, 392, 392)
    ]  # fmt: skip
    crops = [(row.inputs, row.shape) for row in rows if row.operator == "crop"]
    assert crops == [
        (((512, 64, 64),), (512, 56, 56)), (((256, 136, 136),), (256, 104, 104)),
        (((128, 280, 280),), (128, 200, 200)), (((64, 568, 568),), (64, 392, 392)),
    ]  # fmt: skip
    assert sum(row.is_convolution for row in rows) == 23
    assert sum(row.parameters for row in rows) == 31_030_658
    assert rows[0].name == "first.0"
    assert rows[-1].shape == (2, 388, 388)


def test_costs_counted_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 2, 2, stride=2)
    )
    first, pool, last = describe_layers(network, (10, 20), in_channels=3)
    assert first == LayerRow(
        name="0",
        operator="conv2d",
        inputs=((3, 10, 20),),
        shape=(8, 10, 20),
        parameters=8 * 27 + 8,
        gflops=2 * 27 * 8 * 200 / 1e9,
        activation_mb=4 * 200 * (3 + 8) / 1e6,  # the image and the result of ReLU
        part=None,
    )
    # The pool stores the position of each maximum, in eight bytes.
    assert (pool.name, pool.operator, pool.shape, pool.activation_mb) == ("2", "max_pool2d", (8, 5, 10), 8 * 400 / 1e6)
    # Each of 5 x 10 pixels is multiplied by a kernel of 2 x 2 for each pair of channels.
    assert (last.operator, last.parameters, last.gflops) == ("conv_transpose2d", 66, 2 * 50 * 4 * 16 / 1e9)
    assert last.activation_mb == 4 * 400 / 1e6
    assert count_gflops(network, (5, 3, 10, 20)) == pytest.approx(5 * (first.gflops + last.gflops))


def test_normalization_is_listed_because_it_has_weights():
    network = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    rows = describe_layers(network, (8, 8), in_channels=1)
    assert [(row.name, row.operator, row.parameters) for row in rows] == [("0", "conv2d", 4), ("1", "batch_norm", 8)]


def test_weights_of_a_layer_that_runs_twice_count_once():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.layer(self.layer(x))

    rows = describe_layers(Twice(), (4, 4), in_channels=2)
    assert sum(row.parameters for row in rows) == 6
    assert sum(row.gflops for row in rows) == pytest.approx(2 * (2 * 4 * 16) / 1e9)


def test_memory_counts_each_block_once_and_no_weights():
    # The first convolution keeps the image; ReLU and the second keep the same result of ReLU.
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    images = torch.empty(1, 3, 10, 20)
    assert count_saved_bytes(network, images) == 4 * 200 * (3 + 8)


def test_network_is_not_changed():
    network = UNet(1, 2, base_channels=2).train()
    describe_layers(network, (188, 188), in_channels=1)
    assert network.training
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_every_network_has_a_row_and_a_paper():
    rows = describe(size=(45, 61), in_channels=1, num_classes=2)
    assert [row.name for row in rows] == list(NETWORKS)
    for row in rows:
        assert row.paper, f"cite the paper of {row.name} in describe.PAPERS"
        assert row.size[0] >= 45
        assert row.size[1] >= 61
        assert min(row.parameters, row.gflops, row.activation_mb, *row.stride) > 0


def test_one_network():
    row = describe_network("unet", size=(360, 480))
    assert row.parameters == sum(layer.parameters for layer in describe("unet", size=(368, 480)))
    assert row.size == (368, 480)
    assert row.stride == (16, 16)
    assert row.receptive_field == (204, 204)
    assert "Ronneberger" in row.paper


def test_unknown_names_and_illegal_sizes_raise():
    with pytest.raises(InvalidArgumentError, match=r"Unknown network 'umet'. Did you mean 'unet'\?"):
        describe_network("umet")
    with pytest.raises(InvalidArgumentError, match=r"Unknown network 'umet'"):
        describe("umet", size=(32, 32))
    with pytest.raises(InvalidArgumentError, match=r"heights and widths of 16m\+60"):
        describe_layers(UNet(1, 2, base_channels=2), (571, 571), in_channels=1)


def test_the_layers_are_those_of_the_next_legal_size():
    first, *rest = describe("unet", size=(360, 480))
    assert (first.name, first.shape) == ("image", (3, 368, 480))
    assert rest[-1].shape == (11, 368, 480)
    assert describe("unet-paper", size=(572, 572), in_channels=1, num_classes=2)[-1].shape == (2, 388, 388)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_of_each_network_are_known(name):
    network = describe_network(name, size=(64, 64), num_classes=2)
    rows = describe(name, size=network.size, num_classes=2)
    assert rows[0].shape[1:] == network.size
    parts = [row.part for row in rows]
    assert parts == sorted(parts, key=["encoder", "decoder"].index)
    assert set(parts) == {"encoder", "decoder"}
    assert sum(row.activation_mb for row in rows) == network.activation_mb


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"), [("segnet", 13, 13), ("unet-paper", 10, 13), ("fcn-8s", 15, 6)]
)
def test_the_convolutions_of_the_papers_are_counted(name, encoder, decoder):
    rows = [row for row in describe(name) if row.is_convolution]
    assert [sum(row.part == part for row in rows) for part in ("encoder", "decoder")] == [encoder, decoder]


def test_sums_are_rows():
    rows = describe("segnet-basic-encoder-addition", size=(32, 32))
    assert [row.inputs for row in rows if row.operator == "add"] == [((64, s, s), (64, s, s)) for s in (4, 8, 16, 32)]


def test_memory_is_that_of_one_image_at_one_pixel():
    rows = describe("unet", size=(16, 16))  # one pixel at the bottom, of which no batch has a standard deviation
    assert 0 < sum(row.activation_mb for row in rows) < 1


@pytest.mark.parametrize("name", NETWORKS)
def test_each_name_builds_a_network(name):
    with torch.device("meta"):
        assert isinstance(build_network(name, in_channels=3, num_classes=2), nn.Module)


def test_printed_networks_show_pooling_and_unpooling():
    text = repr(build_network("segnet", in_channels=3, num_classes=2))
    assert (
        text.count("(pool): MaxPoolWithSwitches(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=True)") == 5
    )
    assert text.count("(unpool): MaxUnpool(kernel_size=2, stride=2, padding=0, dilation=1)") == 5
    assert "upsampling=switches, skips=none" in text
    assert "upsampling=transposed, skips=concat" in repr(build_network("unet", in_channels=3, num_classes=2))
    assert "(0-3): 4 x MaxUnpool(kernel_size=2, stride=2, padding=0, dilation=1)" in repr(
        build_network("segnet-basic", in_channels=3, num_classes=2)
    )


@pytest.mark.parametrize(
    ("upsampling", "layer"),
    [
        ("switches", "MaxUnpool(kernel_size=2, stride=2, padding=0, dilation=1)"),
        ("nearest", "UnpoolNearest(kernel_size=2)"),
        ("bed_of_nails", "UnpoolBedOfNails(kernel_size=2)"),
        ("bilinear", "Interpolate(mode=bilinear)"),
        ("transposed", "TransposedConv(4, 4, kernel_size=(2, 2), stride=(2, 2))"),
    ],
)
def test_each_upsampling_is_printed(upsampling, layer):
    assert layer in repr(SegNet(1, 2, channels=(4, 4), depths=(1, 1), upsampling=upsampling))
    assert layer in repr(UNet(1, 2, base_channels=4, max_channels=4, depth=1, upsampling=upsampling))
