import copy
from fractions import Fraction

import pytest
import torch
import torchvision
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.backbones import build_caffenet_layers, build_fc_layers, build_vgg_layers
from pixelwise.networks.encoders import ChainEncoder, build_encoder
from pixelwise.networks.fcn import FCN
from pixelwise.networks.geometry.alignment import IMAGE, compute_alignment
from pixelwise.networks.geometry.layer_windows import get_windows, set_padding
from pixelwise.networks.segmenter import Segmenter
from support import contracts


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def released(num_classes: int, stride: int, *, name: str = "vgg16", grouped: bool = False) -> FCN:
    """Build a network of full width without memory for its weights."""
    with torch.device("meta"):
        encoder = build_encoder(name, in_channels=3, taps="pools", ceil_mode=True, first_padding=100)
        kernel = 7 if name == "vgg16" else 6
        head = build_fc_layers(encoder.out_channels[-1], kernel_size=kernel, padding=0)
        return FCN(3, num_classes, encoder=encoder, head=head, stride=stride, upsampling="frozen", grouped=grouped)


def small(
    stride: int = 8,
    *,
    padding: str = "same",
    num_classes: int = 2,
    upsampling: str = "learned",
    grouped: bool = True,
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> FCN:
    """The paper's VGG16, narrow."""
    layers = {"features": build_vgg_layers(3, channels=(4, 8, 8, 8, 8), batch_norm=batch_norm)}
    set_padding(layers, ceil_mode=padding == "released", first_padding=100 if padding == "released" else None)
    return FCN(
        3,
        num_classes,
        encoder=ChainEncoder(layers, taps="pools"),
        head=build_fc_layers(8, channels=16, padding=0 if padding == "released" else 3, dropout=dropout),
        stride=stride,
        upsampling=upsampling,
        grouped=grouped,
    )


def small_alexnet(stride: int = 32) -> FCN:
    layers = {"features": build_caffenet_layers(3, channels=(4, 8, 8, 8, 8))}
    set_padding(layers, ceil_mode=True, first_padding=100)
    return FCN(
        3,
        2,
        encoder=ChainEncoder(layers, taps="pools"),
        head=build_fc_layers(8, channels=16, kernel_size=6, padding=0),
        stride=stride,
    )


def shallow(stride: int = 2) -> FCN:
    """Build a network with three poolings, so that it can learn from 32 pixels."""
    encoder = ChainEncoder({"features": build_vgg_layers(3, channels=(16, 32, 32), depths=(2, 2, 2))}, taps="pools")
    return FCN(3, 2, encoder=encoder, head=build_fc_layers(32, channels=32, kernel_size=3, padding=1), stride=stride)


@torch.no_grad()
def randomize_scores(network: FCN) -> FCN:
    """Draw scores that are not all zero, as after training."""
    for parameter in network.score.parameters():
        parameter.normal_()
    return network


@pytest.mark.parametrize(
    ("num_classes", "stride", "dense", "grouped"),
    [
        (21, 32, 136_152_917, 134_432_597),
        (21, 16, 134_815_994, 134_379_194),
        (21, 8, 134_489_759, 134_368_799),
        (11, 32, 134_801_227, None),
        (11, 16, 134_437_094, None),
        (11, 8, 134_348_929, None),
    ],
)
def test_released_vgg16_has_the_published_parameters(num_classes, stride, dense, grouped):
    network = released(num_classes, stride)
    assert count(network) == dense
    if grouped:
        assert count(released(num_classes, stride, grouped=True)) == grouped


@pytest.mark.parametrize(("num_classes", "body"), [(21, 134_346_581), (11, 134_305_611)])
def test_released_body_has_the_published_parameters_and_16_layers(num_classes, body):
    network = released(num_classes, 32)
    assert count(network) - count(network.up) == body
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 16


def test_released_alexnet_has_the_published_parameters_and_8_layers():
    network = released(21, 32, name="caffenet")
    assert count(network) == 58_704_590
    assert count(network) - count(network.up) == 56_954_261
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 8
    (up,) = network.plan
    assert (up.kernel_size, up.offset) == (63, 18)


@pytest.mark.parametrize(
    ("stride", "kernels", "offsets"), [(32, [64], [19]), (16, [4, 32], [-5, 27]), (8, [4, 4, 16], [-5, -9, 31])]
)
def test_released_offsets(stride, kernels, offsets):
    network = released(21, stride)
    assert [up.kernel_size for up in network.plan] == kernels
    assert [up.offset for up in network.plan] == offsets
    assert network.size_multiple == 1


def test_same_padding_has_the_parameters_of_the_released_form():
    with torch.device("meta"):
        encoder = build_encoder("vgg16", in_channels=3, taps="pools")
        network = FCN(3, 21, encoder=encoder, head=build_fc_layers(512), stride=8, grouped=False)
    assert count(network) == 134_489_759
    assert network.size_multiple == 32


@pytest.mark.parametrize("padding", ["same", "released"])
def test_paper_s_layers(padding):
    network = small(padding=padding, num_classes=5)
    assert [type(layer).__name__ for layer in network.head] == ["Conv2d", "ReLU", "Dropout"] * 2
    assert [layer.p for layer in network.head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert list(network.score) == ["32", "16", "8"]
    assert list(network.up) == ["32to16", "16to8", "8to1"]
    assert all(not p.any() for p in network.score.parameters())
    assert all(up.bias is None for up in network.up.values())
    assert (network.head.fc6.padding, network.head.fc7.kernel_size) == (
        (0, 0) if padding == "released" else (3, 3),
        (1, 1),
    )


ENCODERS = ("resnet18", "resnet50", "densenet121", "googlenet", "mobilenet_v2", "convnext_tiny", "efficientnet_b0")


@pytest.mark.parametrize(
    "name", [*ENCODERS, "vgg11", "shufflenet_v2_x0_5", "mnasnet0_5", "timm:resnet18", "timm:convnext_atto"]
)
def test_every_sum_and_the_output_are_aligned(name):
    """Follow y = a x + b through the network; at the end a = 1 and b = 0."""
    with torch.device("meta"):
        encoder = build_encoder(name, in_channels=3)
        network = FCN(3, 5, encoder=encoder, stride=8)
    lines = [compute_alignment(path) for path in encoder.paths[::-1]][:3]
    (a, b) = lines[0]
    for (fine_a, fine_b), up in zip([*lines[1:], IMAGE], network.plan, strict=True):
        a, b = a * up.factor, b * up.factor + Fraction(up.kernel_size - 1, 2) - up.padding
        assert (a, b) == (fine_a, fine_b - up.finer_crop)
    assert (a, b) == (1, 0)


def tent(distance, stride):
    return (1 - distance.abs() / stride).clamp(min=0)


@pytest.mark.parametrize(
    ("network", "place"),
    [
        (small(8), 2),
        (small(8, padding="released"), 12),
        (small(16), 2),
        (small(16, padding="released"), 2),
        (small(32), 2),
        (small(32, padding="released"), 2),
        (small(8, grouped=False), 2),
        (small_alexnet(), 2),
    ],
)
def test_scores_of_a_cell_are_centered_on_its_pixels(network, place):
    """A score of one cell of the finest map gives a tent around the pixel of the algebra."""
    size = (96, 128)
    network.eval()
    stride = network.stride
    path = network.encoder.paths[network.encoder.strides.index(stride)]
    if stride == 32:
        path = (*path, *get_windows(network.head))
    line = compute_alignment(path)
    impulse = torch.zeros_like(network.compute_scores(torch.zeros(1, 3, *size)))
    impulse[0, 1, place, place + 1] = 1
    with torch.no_grad():
        logits = network.up[f"{stride}to1"](impulse)[:, :, : size[0], : size[1]]
    cut = sum_crops(network)
    centers = [float((cell + cut - line.offset) / line.scale) for cell in (place, place + 1)]
    rows, columns = (tent(torch.arange(side) - center, stride) for side, center in zip(size, centers, strict=True))
    assert rows.sum() > stride / 2
    torch.testing.assert_close(logits[0, 1], rows[:, None] * columns)
    assert not logits[0, 0].any()


def sum_crops(network):
    """Return the number of cells of the finest map that are cropped before its scores are added."""
    return network.plan[-2].finer_crop if len(network.plan) > 1 else 0


@pytest.mark.parametrize("padding", ["same", "released"])
def test_pool3_cell_is_scored_over_the_pixels_that_pooling_took_it_from(padding):
    """A class with scores where pool3 is bright has high logits where the image is bright."""
    network = small(8, padding=padding, num_classes=1, upsampling="frozen").eval()
    with torch.no_grad():
        for layer in network.encoder.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                layer.weight[:, :, 1, 1] = 1  # what comes in goes on
        network.score["8"].weight.fill_(1)
        image = torch.zeros(1, 3, 96, 96)
        image[:, :, 40:48, 56:64] = 1  # one 8x8 block, over cell (5, 7) of the same-padded form
        logits = network(image)[0, 0]
    y, x = torch.arange(96.0)[:, None], torch.arange(96.0)
    center = [float((logits * place).sum() / logits.sum()) for place in (y, x)]
    # Blocks of the released form begin at -100 + 1 + 8 n: the block lies over 2x2 of them, 3 + 5 pixels.
    assert center == pytest.approx([43.5, 59.5] if padding == "same" else [41.5 + 3, 57.5 + 3], abs=0.01)


@pytest.mark.parametrize("padding", ["same", "released"])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_frozen_upsampling_keeps_a_constant_inside(padding, stride):
    network = small(stride, padding=padding, upsampling="frozen").eval()
    with torch.no_grad():
        network.score["32"].bias.copy_(torch.tensor([3.0, -1.0]))
        logits = network(torch.randn(1, 3, 128, 160))
    inner = logits[:, :, 32:-32, 32:-32]  # pixels outside the outermost centers fade to zero
    torch.testing.assert_close(
        inner, torch.tensor([3.0, -1.0])[:, None, None].expand(inner.shape), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_frozen_weights_are_bilinear_within_a_class(grouped):
    network = small(8, num_classes=3, upsampling="frozen", grouped=grouped)
    weight = network.up["32to16"].weight
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for k in range(3):
        torch.testing.assert_close(weight[k, 0 if grouped else k], row[:, None] * row)
    assert weight.count_nonzero() == 3 * 16
    assert not any(p.requires_grad for p in network.up.parameters())
    assert all(p.requires_grad for p in small(8).up.parameters())


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 33), (47, 61)])
def test_released_form_takes_any_size(stride, size):
    network = small(stride, padding="released").eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.slow
@pytest.mark.parametrize("network", [small(8, padding="released"), small_alexnet()])
def test_released_forms_take_every_size_up_to_200(network):
    network.eval()
    with torch.no_grad():
        for side in range(1, 201):
            assert network(torch.zeros(1, 3, side, 201 - side)).shape[2:] == (side, 201 - side)


def test_same_padding_raises_for_illegal_sizes():
    with pytest.raises(InvalidArgumentError, match=r"multiples of 32, such as 64x64, not 64x60\. .*Segmenter"):
        small()(torch.zeros(1, 3, 64, 60))


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_any_stride_of_the_encoder(stride):
    encoder = build_encoder("resnet18", in_channels=1)
    network = FCN(1, 3, encoder=encoder, stride=stride).eval()
    assert list(network.score) == [str(s) for s in (32, 16, 8, 4, 2) if s >= stride]
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 96)).shape == (1, 3, 64, 96)


def test_dilation_replaces_strides():
    encoder = build_encoder("resnet18", in_channels=1, output_stride=8)
    network = FCN(1, 3, encoder=encoder, stride=8).eval()
    assert [up.factor for up in network.plan] == [8]
    assert network.compute_scores(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 8, 8)
    assert network(torch.zeros(1, 1, 64, 72)).shape == (1, 3, 64, 72)


# Warm start.


def stages(*, padding: str, coarse: int, fine: int) -> tuple[FCN, FCN]:
    torch.manual_seed(0)
    coarser, finer = (
        small(stride, padding=padding, upsampling="frozen", dropout=0.0).eval() for stride in (coarse, fine)
    )
    randomize_scores(coarser)
    randomize_scores(finer)
    finer.start_from(coarser)
    return coarser, finer


@pytest.mark.parametrize("padding", ["same", "released"])
@pytest.mark.parametrize(("coarse", "fine"), [(32, 16), (16, 8), (32, 8)])
def test_finer_network_starts_with_scores_of_coarser(padding, coarse, fine):
    coarser, finer = stages(padding=padding, coarse=coarse, fine=fine)
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        scores = coarser.compute_scores(image)
        for stride in (16, 8):
            if fine <= stride < coarse:
                scores = finer.up[f"{2 * stride}to{stride}"](scores)
        torch.testing.assert_close(finer.compute_scores(image), scores)
    assert scores.std() > 0


def second_differences(x, dim):
    """Return the second differences at the cells, 0 at the borders."""
    d = x.diff(n=2, dim=dim).abs()
    return nn.functional.pad(d, (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1))


@pytest.mark.parametrize(("coarse", "fine"), [(32, 16), (16, 8)])
def test_even_kernels_cut_corners_near_cell_centers_only(coarse, fine):
    coarser, finer = stages(padding="same", coarse=coarse, fine=fine)
    scores = torch.randn(1, 2, 6, 7)
    up = finer.up[f"{coarse}to{fine}"]
    with torch.no_grad():
        before = coarser.up[f"{coarse}to1"](scores)
        after = finer.up[f"{fine}to1"](up(scores))
    height, width = before.shape[2:]
    # Distance to the nearest center, in cells; the outermost half cells have no neighbor on one side.
    rows, columns = (((torch.arange(side) + 0.5) / coarse % 1 - 0.5).abs() for side in (height, width))
    far = (rows[:, None] > 0.25) & (columns > 0.25)
    inner = torch.zeros(height, width, dtype=torch.bool)
    inner[coarse:-coarse, coarse:-coarse] = True
    difference = (after - before).abs()
    assert difference[:, :, far & inner].max() < 1e-5
    bound = (second_differences(scores, 2) + second_differences(scores, 3)).max() / 8
    # In two directions the cuts add up, and the one is made on the other's corners.
    assert 0.01 < difference[:, :, inner].max() <= 2 * bound


def test_even_kernel_changes_corners_by_an_eighth_of_the_second_difference():
    coarser, finer = stages(padding="same", coarse=32, fine=16)
    scores = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).expand(1, 2, 5, 5).clone()
    with torch.no_grad():
        before = coarser.up["32to1"](scores)
        after = finer.up["16to1"](finer.up["32to16"](scores))
    difference = (before - after)[0, 0, 80]
    # No pixel lies on the center of an even number of them; the nearest are 1/2 pixel away.
    assert difference.max().item() == pytest.approx(2 / 8 * (1 - 0.5 / 8), abs=1e-5)
    assert difference[80 - 8 : 80 + 8].min() > 0
    assert difference[64 : 80 - 8].abs().max() < 1e-6


def test_linear_scores_are_preserved_inside():
    coarser, finer = stages(padding="same", coarse=32, fine=16)
    scores = (torch.arange(5.0)[:, None] - 2 * torch.arange(6.0)).expand(1, 2, 5, 6)
    with torch.no_grad():
        before = coarser.up["32to1"](scores)
        after = finer.up["16to1"](finer.up["32to16"](scores))
    torch.testing.assert_close(after[:, :, 32:-32, 32:-32], before[:, :, 32:-32, 32:-32])


def test_odd_kernels_change_no_logit():
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", in_channels=3)
    coarser, finer = (
        FCN(3, 2, encoder=copy.deepcopy(encoder), stride=stride, upsampling="frozen").eval() for stride in (32, 8)
    )
    randomize_scores(coarser)
    finer.start_from(coarser)
    image = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        before, after = coarser(image), finer(image)
    assert before.std() > 0
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_common_weights_are_copied():
    coarser, finer = small(16), small(8)
    with torch.no_grad():
        for parameter in [*coarser.parameters(), *finer.parameters()]:
            parameter.normal_()
    finer.start_from(coarser)
    for name, weight in finer.state_dict().items():
        if name in coarser.state_dict():
            torch.testing.assert_close(weight, coarser.state_dict()[name])
    assert not finer.score["8"].weight.any()
    assert finer.up["8to1"].weight.max() == small(8).up["8to1"].weight.max()


@pytest.mark.parametrize(
    ("coarser", "named"),
    [
        (small(8), "up.8to1.weight|Different"),
        (small(16, num_classes=3), "score.32.weight"),
        (small(16, grouped=False), "up.32to16.weight"),
        (small(16, batch_norm=True), "running_mean"),
    ],
)
def test_start_from_needs_a_coarser_network_of_the_same_parts(coarser, named):
    with pytest.raises(InvalidArgumentError, match=rf"An FCN-8s cannot start from this FCN-\d+s.*({named})"):
        small(8).start_from(coarser)


# From a classifier.


def narrow_vgg(batch_norm: bool = False) -> nn.Module:
    with torch.device("meta"):
        classifier = torchvision.models.VGG(nn.Sequential(), init_weights=False)
    classifier.features = build_vgg_layers(3, channels=(4, 4, 8, 8, 8), batch_norm=batch_norm)
    fc = [nn.Linear(8 * 49, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 24), nn.ReLU(), nn.Dropout()]
    classifier.classifier = nn.Sequential(*fc, nn.Linear(24, 10))
    return classifier.eval()


def narrow_alexnet() -> nn.Module:
    with torch.device("meta"):
        classifier = torchvision.models.AlexNet()
    a, b = [nn.Conv2d(3, 8, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)], [nn.Conv2d(8, 8, 5, 1, 2), nn.ReLU()]
    classifier.features = nn.Sequential(*a, *b, nn.MaxPool2d(3, 2), nn.Conv2d(8, 8, 3, 1, 1), nn.MaxPool2d(3, 2))
    fc = [nn.Dropout(), nn.Linear(8 * 36, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 24), nn.ReLU()]
    classifier.classifier = nn.Sequential(*fc, nn.Linear(24, 10))
    return classifier.eval()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fc6_and_fc7_equal_hidden_layers_of_classifier(batch_norm):
    torch.manual_seed(0)
    classifier = narrow_vgg(batch_norm)
    network = FCN.from_classifier(classifier, 5).eval()
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        pooled = classifier.features(image)
        features = network.encoder(image).maps[-1]
        for last, name in [(1, "fc6"), (4, "fc7")]:
            hidden = classifier.classifier[:last](pooled.flatten(1))
            layers = network.head[: list(dict(network.head.named_children())).index(name) + 1]
            assert hidden.std() > 0
            torch.testing.assert_close(layers(features)[:, :, 3, 3], hidden, rtol=1e-4, atol=1e-5)


def test_class_layer_is_new_and_the_rest_is_copied():
    classifier = narrow_vgg()
    network = FCN.from_classifier(classifier, 5)
    assert network.score["32"].weight.shape == (5, 24, 1, 1)
    assert not network.score["32"].weight.any()
    torch.testing.assert_close(network.encoder.features.state_dict(), classifier.features.state_dict())
    with torch.no_grad():
        network.encoder.features[0].weight.zero_()
    assert classifier.features[0].weight.any()


@pytest.mark.parametrize(
    ("classifier", "padding", "offsets"),
    [
        (narrow_vgg(), None, [1, 1, 4]),
        (narrow_vgg(), "released", [-5, -9, 31]),
        (narrow_alexnet(), None, None),
        (torchvision.models.resnet18(), None, [1, 1, 7]),
    ],
)
def test_default_padding_fits_the_classifier(classifier, padding, offsets):
    network = FCN.from_classifier(classifier, 5, padding=padding).eval()
    if offsets:
        assert [up.offset for up in network.plan] == offsets
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64, 96)


def test_alexnet_s_fc6_sees_the_padded_image():
    torch.manual_seed(0)
    classifier = narrow_alexnet()
    network = FCN.from_classifier(classifier, 5, stride=32).eval()
    (up,) = network.plan
    assert (up.kernel_size, up.offset) == (63, 18)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features = network.encoder(image).maps[-1][:, :, :6, :6]
        hidden = classifier.classifier[:6](features.flatten(1))
        torch.testing.assert_close(network.head(network.encoder(image).maps[-1])[:, :, 0, 0], hidden)


@pytest.mark.parametrize(
    ("classifier", "padding"), [(narrow_alexnet(), "same"), (torchvision.models.resnet18(), "released")]
)
def test_unsupported_paddings_raise(classifier, padding):
    with pytest.raises(InvalidArgumentError, match=rf"does not support padding='{padding}'\. Use None\."):
        FCN.from_classifier(classifier, 5, padding=padding)


def test_other_classifiers_raise():
    with pytest.raises(InvalidArgumentError, match="Unknown classifier 'sequential'"):
        FCN.from_classifier(nn.Sequential(nn.Linear(1, 1)), 5)


# Guards.


def test_encoder_of_other_channels_raises():
    with pytest.raises(InvalidArgumentError, match="The encoder takes 3 channels, but in_channels is 1"):
        FCN(1, 2, encoder=small().encoder)


def test_unknown_stride_raises():
    with pytest.raises(InvalidArgumentError, match=r"stride is 64, but must be one of \(32, 16, 8, 4, 2\)"):
        FCN(3, 2, encoder=small().encoder, stride=64)


def test_alignment_must_be_known():
    encoder = small().encoder
    encoder.paths = None
    with pytest.raises(InvalidArgumentError, match=r"cannot be determined\. Choose another encoder"):
        FCN(3, 2, encoder=encoder)


def test_unknown_upsampling_lists_the_choices():
    with pytest.raises(InvalidArgumentError, match="Unknown value for upsampling: 'bilinear'"):
        FCN(3, 2, encoder=small().encoder, upsampling="bilinear")


@pytest.mark.parametrize("padding", [0, 2])
def test_fc6_without_scores_at_borders_raises(padding):
    with pytest.raises(InvalidArgumentError, match="does not reach the borders"):
        FCN(3, 2, encoder=small().encoder, head=build_fc_layers(8, channels=4, padding=padding), stride=32)


# The contract of all networks.


def randomize_and_wrap(network: FCN) -> Segmenter:
    """Wrap a network with random scores, because zero scores pass no gradient to the layers before them."""
    segmenter = Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)
    randomize_scores(network)
    return segmenter


def small_resnet() -> FCN:
    return FCN(3, 2, encoder=build_encoder("resnet18", in_channels=3), stride=4)


@pytest.mark.parametrize(
    "build",
    [
        lambda: small(8, dropout=0.0, batch_norm=True),
        lambda: small(8, padding="released", dropout=0.0, batch_norm=True),
        lambda: small(16, grouped=False, dropout=0.0, batch_norm=True),
        shallow,
        pytest.param(small_resnet, marks=pytest.mark.slow),
    ],
)
def test_contract(build):
    torch.manual_seed(0)
    contracts.assert_any_size(Segmenter(build(), mean=[128.0] * 3, std=[64.0] * 3), 3, 2)
    contracts.assert_every_parameter_learns(randomize_and_wrap(build()), 3, 2)
    contracts.assert_compiles_and_exports(randomize_and_wrap(build()), 3)


def test_zero_scores_learn_first_and_pass_gradients_from_the_second_step():
    torch.manual_seed(0)
    network = shallow()
    images, labels = torch.rand(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for expected in (False, True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        assert bool(network.encoder.features[0].weight.grad.any()) == expected
        assert network.score["8"].weight.grad.any()


def test_overfits_four_images():
    torch.manual_seed(0)
    contracts.assert_overfits_four_images(Segmenter(shallow(), mean=[128.0] * 3, std=[64.0] * 3), 3)
