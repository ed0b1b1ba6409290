import copy
from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.backbones import build_vgg_layers
from pixelwise.networks.encoders import (
    ChainEncoder,
    Encoder,
    build_encoder,
    get_classifier_layers,
    infer_map_shapes,
)
from pixelwise.networks.geometry.alignment import compute_alignment, compute_map_size
from pixelwise.networks.geometry.layer_windows import dilate, get_windows
from pixelwise.networks.library_encoders import list_encoders
from pixelwise.ops import max_pool_with_switches

# One network of each way that torchvision and timm build them, small ones.
SMALL = (
    *("vgg11_bn", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2"),
    *("mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5"),
    *("timm:convnext_atto", "timm:regnety_002", "timm:resnet18", "timm:efficientnet_b0", "tf_efficientnet_b0"),
    *("tf_efficientnet_lite0", "mobilenetv3_small_100", "mobilenetv4_conv_small", "timm:mnasnet_small"),
)


def up(side, stride):
    return -(-side // stride)


def down(side, stride):
    return side // stride


def densenet(side, stride):
    return up(side, stride) if stride <= 4 else up(side, 4) // (stride // 4)


def googlenet(side, stride):
    return {2: up(side, 2), 32: up(up(side, 2) // 8, 2)}.get(stride, up(side, 2) // (stride // 2))


ROUNDING = {"vgg": down, "convnext": down, "densenet": densenet, "googlenet": googlenet}


def rounding(name):
    name = name.removeprefix("timm:")
    return next((rule for start, rule in ROUNDING.items() if name.startswith(start)), up)


def on_meta(name: str, **options) -> Encoder:
    """Build an encoder on the meta device; torchvision's RegNets compute their widths with tensors, on the CPU."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build_encoder(name, in_channels=options.pop("in_channels", 3), **options)


def vgg(**options) -> ChainEncoder:
    taps = options.pop("taps", "stages")
    layers = build_vgg_layers(3, channels=(4, 6, 8), depths=(1, 2, 1), **options)
    return ChainEncoder({"features": layers}, taps=taps)


# The other RegNets differ in width and depth alone.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in list_encoders() if not name.startswith(("alexnet", "caffenet", "regnet"))] + ["regnet_x_400mf"],
)
def test_every_listed_encoder_gives_maps_of_its_strides_and_channels(name):
    encoder = on_meta(name, in_channels=5)
    assert encoder.in_channels == 5
    assert list(encoder.strides) == sorted(set(encoder.strides))
    assert encoder.strides[-1] == 32
    assert infer_map_shapes(encoder, 64, 160) == [
        (1, channels, 64 // stride, 160 // stride)
        for channels, stride in zip(encoder.out_channels, encoder.strides, strict=True)
    ]


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_are_rounded_as_documented(name):
    encoder = on_meta(name)
    rule = rounding(name)
    for size in [(64, 160), (97, 75), (61, 46)]:
        found = [shape[2:] for shape in infer_map_shapes(encoder, *size)]
        assert found == [tuple(rule(side, stride) for side in size) for stride in encoder.strides]
        if encoder.paths:
            assert found == [tuple(compute_map_size(path, side) for side in size) for path in encoder.paths]


@pytest.mark.parametrize(
    ("name", "side", "sizes"), [("alexnet", 224, [55, 27, 13, 6]), ("caffenet", 227, [55, 27, 13, 6])]
)
def test_alexnet_loses_pixels_at_the_border(name, side, sizes):
    assert [shape[2] for shape in infer_map_shapes(on_meta(name), side, side)] == sizes


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "alexnet", "caffenet"])
def test_ceil_mode_keeps_odd_pixels(name):
    encoder = on_meta(name, ceil_mode=True, first_padding=100)
    assert [shape[2] for shape in infer_map_shapes(encoder, 301, 301)] == [
        compute_map_size(path, 301) for path in encoder.paths
    ]
    if name.startswith("vgg"):
        assert [shape[2] for shape in infer_map_shapes(encoder, 301, 301)] == [
            up(499, stride) for stride in encoder.strides
        ]


@pytest.mark.parametrize(
    ("name", "centers"),
    [
        ("vgg16", [0, 0.5, 1.5, 3.5, 7.5, 15.5]),
        ("convnext_tiny", [1.5, 3.5, 7.5, 15.5]),
        ("timm:convnext_atto", [1.5, 3.5, 7.5, 15.5]),
        ("densenet121", [0, 0, 2, 6, 14]),
        ("googlenet", [0, 2, 6, 14, 22]),
        ("alexnet", [3, 7, 15, 31]),
        ("tf_efficientnet_lite0", [1, 3, 7, 15, 31]),
        *((name, [0] * 5) for name in ("resnet18", "resnet50", "mobilenet_v2", "timm:resnet18")),
        *((name, [0] * 5) for name in ("efficientnet_b0", "timm:efficientnet_b0")),
    ],
)
def test_centers_of_the_first_cells(name, centers):
    lines = [compute_alignment(path) for path in on_meta(name).paths]
    assert [float(-line.offset / line.scale) for line in lines] == centers


def positive(encoder: Encoder) -> Encoder:
    """Replace weights and activations, so that every input pixel contributes."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        elif isinstance(module, nn.ReLU | nn.ReLU6):
            module.forward = lambda x: x
        elif isinstance(module, nn.MaxPool2d):
            module.forward = lambda x, pool=module: _averaged(x, pool)
    return encoder.double().eval()


def _averaged(x, pool):
    sides = [get_windows(pool)[0].compute_output_size(side) for side in x.shape[2:]]
    end = pool.kernel_size if pool.ceil_mode else 0
    y = nn.functional.avg_pool2d(nn.functional.pad(x, (0, end, 0, end)), pool.kernel_size, pool.stride, pool.padding)
    return y[:, :, : sides[0], : sides[1]]


@pytest.mark.parametrize(
    ("name", "rows"),
    [("vgg11", 320), ("alexnet", 480), ("resnet18", 900), ("densenet121", 500)],
)
def test_cells_depend_on_pixels_around_their_center(name, rows):
    """The pixels with a gradient are an interval around the pixel of the algebra."""
    encoder = positive(build_encoder(name, in_channels=1))
    image = torch.rand(1, 1, rows, 63 if name == "alexnet" else 32, dtype=torch.float64, requires_grad=True)
    # The last maps of a DenseNet depend on 1000 and 2000 rows.
    last = 2 if name == "densenet121" else len(encoder.strides) - 1
    maps = encoder(image).maps
    for features, path in [(maps[place], encoder.paths[place]) for place in (last - 1, last)]:
        cell = features.shape[2] // 2
        (gradient,) = torch.autograd.grad(features[0, :, cell].sum(), image, retain_graph=True)
        seen = gradient[0, 0].abs().sum(1).nonzero()
        scale, offset = compute_alignment(path)
        assert seen.min() > 0
        assert seen.max() < rows - 1
        assert Fraction(int(seen.min() + seen.max()), 2) == (cell - offset) / scale


@pytest.mark.parametrize("taps", ["stages", "pools"])
def test_maps_of_a_vgg(taps):
    encoder = vgg(taps=taps)
    x, maps, pooled = torch.randn(2, 3, 24, 40), [], []
    features = encoder(x).maps
    for layer in encoder.features:
        if isinstance(layer, nn.MaxPool2d):
            maps.append(x)
            pooled.append(layer(x))
        x = layer(x)
    expected = pooled if taps == "pools" else [*maps, pooled[-1]]
    assert encoder.strides == ((2, 4, 8) if taps == "pools" else (1, 2, 4, 8))
    assert encoder.out_channels == ((4, 6, 8) if taps == "pools" else (4, 6, 8, 8))
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_switches_belong_to_the_maps():
    encoder = vgg()
    features = encoder(torch.randn(2, 3, 26, 40), with_switches=True)
    assert len(features.switches) == 3
    for index, switches in enumerate(features.switches):
        pooled, expected = max_pool_with_switches(features.maps[index], 2)
        torch.testing.assert_close(switches, expected)
        assert switches.dtype == torch.uint8
    torch.testing.assert_close(features.maps[-1], pooled)
    assert encoder(torch.randn(2, 3, 26, 40)).switches == []


def test_switches_round_as_the_pooling_does():
    encoder = vgg()
    for layer in encoder.features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    features = encoder(torch.randn(1, 3, 45, 45), with_switches=True)
    assert [switches.shape[2] for switches in features.switches] == [23, 12, 6]


def test_other_poolings_have_no_switches():
    encoder = build_encoder("resnet18", in_channels=3).eval()
    assert encoder(torch.randn(1, 3, 32, 32), with_switches=True).switches == []


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "mobilenet_v3_small", "densenet121", "googlenet", "convnext_tiny"]
)
def test_weights_of_torchvision_fit_entry_for_entry(name):
    """All tensors except the head of the classifier have a match."""
    with torch.device("meta"):
        options = {"init_weights": False} if name == "googlenet" else {}
        theirs = torchvision.models.get_model(name, **options).state_dict()
    ours = on_meta(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: theirs[key].shape for key in ours}
    heads = ("classifier.", "fc.", "aux1.", "aux2.")
    assert [key for key in theirs if key not in ours and not key.startswith(heads)] == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"])
def test_last_map_gives_logits_of_classifier(name):
    torch.manual_seed(0)
    classifier = torchvision.models.get_model(name, weights=None).eval()
    encoder = ChainEncoder(get_classifier_layers(classifier)).eval()
    image = torch.randn(2, 3, 64, 64)
    head = classifier.fc if hasattr(classifier, "fc") else classifier.classifier
    with torch.no_grad():
        torch.testing.assert_close(head(encoder(image).maps[-1].mean((2, 3))), classifier(image))


@pytest.mark.parametrize(
    "name", ["vgg11", "resnet18", "convnext_tiny", "mobilenet_v2", "timm:resnet18", "timm:convnext_atto"]
)
def test_first_layer_takes_any_number_of_channels_and_is_named(name):
    encoder, usual = (on_meta(name, in_channels=channels) for channels in (5, 3))
    weights, others = encoder.state_dict(), usual.state_dict()
    differing = [key for key in weights if weights[key].shape != others[key].shape]
    assert differing == [f"{encoder.first_layer}.weight"]
    assert weights[differing[0]].shape[1] == 5


def test_new_first_layer_has_he_initialization():
    torch.manual_seed(0)
    weight = build_encoder("resnet18", in_channels=8).conv1.weight
    assert weight.std().item() == pytest.approx((2 / (8 * 49)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("resnet18", 8),
        ("resnet50", 16),
        ("mobilenet_v2", 8),
        ("regnet_x_400mf", 16),
        ("shufflenet_v2_x0_5", 8),
    ],
)
def test_dilation_keeps_values_at_strided_positions(name, output_stride):
    torch.manual_seed(0)
    strided = build_encoder(name, in_channels=1).double().eval()
    dense = build_encoder(name, in_channels=1, output_stride=output_stride).double().eval()
    dense.load_state_dict(strided.state_dict())
    _assert_same_at_strides(strided, dense, torch.randn(1, 1, 96, 64, dtype=torch.float64))
    assert dense.strides[-1] == output_stride


@pytest.mark.parametrize("output_stride", [4, 2])
def test_dilation_of_a_vgg(output_stride):
    torch.manual_seed(0)
    strided = vgg().double()
    dense = ChainEncoder(dilate({"features": copy.deepcopy(strided.features)}, output_stride))
    _assert_same_at_strides(strided, dense, torch.randn(1, 3, 64, 48, dtype=torch.float64))
    assert dense.strides == tuple(stride for stride in (1, 2, 4) if stride <= output_stride)
    assert [shape[2:] for shape in infer_map_shapes(dense, 40, 56)] == [(40 // s, 56 // s) for s in dense.strides]


def _assert_same_at_strides(strided, dense, image):
    step = strided.strides[-1] // dense.strides[-1]
    with torch.no_grad():
        coarse, fine = strided(image).maps[-1], dense(image).maps[-1]
    assert coarse.std() > 0
    torch.testing.assert_close(fine[:, :, ::step, ::step], coarse)
    assert fine.shape[2:] == tuple(side * step for side in coarse.shape[2:])


@pytest.mark.parametrize("output_stride", [8, 16])
def test_timm_dilates_by_itself(output_stride):
    encoder = on_meta("timm:resnet18", output_stride=output_stride)
    assert encoder.strides[-1] == output_stride
    assert infer_map_shapes(encoder, 64, 64)[-1][2] == 64 // output_stride


def test_inferring_shapes_keeps_the_mode():
    encoder = vgg(batch_norm=True)
    assert encoder.training
    infer_map_shapes(encoder.eval(), 32, 32)
    assert not encoder.training


# Not a chain, branches that look elsewhere, padding by the image's size, and no odd sizes.
@pytest.mark.parametrize(
    "name",
    ["timm:resnet18d", "timm:resnetv2_50x1_bit", "timm:nfnet_l0", "timm:hrnet_w18_small"],
)
def test_unknown_alignment_is_none(name):
    assert on_meta(name).paths is None


def test_gradients_reach_every_weight():
    encoder = build_encoder("resnet18", in_channels=2)
    sum(features.square().mean() for features in encoder(torch.randn(2, 2, 64, 64)).maps).backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_unknown_names_list_the_nearest():
    with pytest.raises(
        InvalidArgumentError, match=r"Unknown encoder 'resnet35'. Did you mean 'resnet50'\? Choose one of: alexnet"
    ):
        build_encoder("resnet35", in_channels=3)
    with pytest.raises(InvalidArgumentError, match=r"Unknown timm encoder 'resnet17'. Did you mean 'resnet1\d'\?"):
        build_encoder("timm:resnet17", in_channels=3)
    with pytest.raises(InvalidArgumentError, match="Unknown classifier 'linear'"):
        get_classifier_layers(nn.Linear(1, 1))


def test_shifted_window_transformer_raises():
    with pytest.raises(InvalidArgumentError, match="is not an encoder for images of any size"):
        on_meta("timm:swin_tiny_patch4_window7_224")


@pytest.mark.parametrize("options", [{"taps": "pools"}, {"ceil_mode": True}, {"first_padding": 100}])
def test_unsupported_options_of_timm_raise(options):
    with pytest.raises(InvalidArgumentError, match="timm:resnet18 takes no taps, ceil_mode or first_padding"):
        build_encoder("timm:resnet18", in_channels=3, **options)


class ChannelsLast(nn.Module):
    """A network with (B, H, W, C) maps, as timm's transformers."""

    feature_info = timm.models._features.FeatureInfo([{"num_chs": 8, "reduction": 2, "module": "one"}], [0])

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 2, 2)

    def forward(self, x):
        return [self.one(x).permute(0, 2, 3, 1)]


def test_channels_last_features_of_timm_raise(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: ChannelsLast())
    with pytest.raises(InvalidArgumentError, match=r"does not return maps \(B, C, H, W\)"):
        build_encoder("timm:resnet18", in_channels=3)


def test_pool_taps_need_pools():
    with pytest.raises(InvalidArgumentError, match="needs an encoder that ends with a max pooling"):
        build_encoder("resnet18", in_channels=3, taps="pools")


def test_chain_may_end_with_a_convolution():
    layers = build_vgg_layers(3, channels=(4,), depths=(1,))[:2]
    assert ChainEncoder({"features": layers}).strides == (1,)


@pytest.mark.parametrize("name", ["resnet18", "timm:convnext_atto"])
def test_compiles_and_exports(name):
    encoder = build_encoder(name, in_channels=3).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = encoder(image).maps
        compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)(image).maps
        exported = torch.export.export(encoder, (image,)).module()(image).maps
    for a, b, c in zip(expected, compiled, exported, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-4)


def test_names_of_the_papers_and_of_today_are_known():
    assert {"vgg16", "alexnet", "caffenet", "googlenet", "resnet34", "convnext_tiny"} <= set(list_encoders())


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "efficientnet_b0", "tf_efficientnet_b0", "mobilenetv3_small_100"]
)
@pytest.mark.parametrize("output_stride", [None, 16])
def test_stages_of_timm_compute_what_timm_computes(name, output_stride):
    torch.manual_seed(0)
    encoder = build_encoder(f"timm:{name}", in_channels=3, output_stride=output_stride).eval()
    options = {} if output_stride is None else {"output_stride": output_stride}
    network = timm.create_model(name, features_only=True, **options).eval()
    network.load_state_dict(encoder.model.state_dict())
    images = torch.randn(1, 3, 64, 96)
    assert len(encoder.stages) == len(encoder.strides)
    with torch.no_grad():
        for ours, theirs in zip(encoder(images).maps, network(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_names_that_only_timm_has_need_no_prefix():
    assert type(on_meta("tf_efficientnet_lite0")) is type(on_meta("timm:tf_efficientnet_lite0"))
    assert isinstance(on_meta("resnet18"), ChainEncoder)  # torchvision's, as before
