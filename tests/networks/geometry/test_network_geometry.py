"""Compare the geometry with what networks compute: pixels that influence an output, tiles that equal the image."""

import copy
import doctest
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter, UNet
from pixelwise.networks.backbones import build_caffenet_layers, build_fc_layers, build_vgg_layers
from pixelwise.networks.encoders import ChainEncoder
from pixelwise.networks.fcn import FCN
from pixelwise.networks.geometry import Halo, NetworkGeometry, network_geometry, trace_geometry
from pixelwise.networks.geometry.layer_windows import set_padding
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import Tracer, copy_to_meta
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import TABLE_1
from pixelwise.shapes import round_up


class Averages(TorchFunctionMode):
    """Makes a network linear, with nothing that hides an influence: averages for maxima, unpooling to
    the whole window, no nonlinearity and no normalization.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name in ("relu", "relu_", "batch_norm", "local_response_norm", "dropout"):
            return args[0]
        if name == "max_pool2d":
            kwargs = {key: value for key, value in kwargs.items() if key not in ("dilation", "return_indices")}
            return functional.avg_pool2d(*args[:4], **kwargs)
        if "max_pool_with_switches" in name:
            x, kernel, ceil_mode = args
            pooled = functional.avg_pool2d(x, kernel, ceil_mode=ceil_mode)
            return pooled, torch.zeros_like(pooled, dtype=torch.uint8)
        if "max_unpool" in name:
            pooled, _, (height, width), kernel = args
            return functional.interpolate(pooled, scale_factor=kernel)[:, :, :height, :width]
        return func(*args, **kwargs)


def make_positive(network: nn.Module) -> nn.Module:
    """Set positive random weights in float64, so that influences add up and none cancels."""
    network = network.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            parameter.div_(parameter[0].numel() if parameter.dim() > 1 else 1)
    return network


def rows_that_influence(network: nn.Module, images: Tensor) -> Callable[[int], list[int]]:
    images = images.requires_grad_()
    with Averages():
        output = network(images)

    def of(row: int) -> list[int]:
        (gradient,) = torch.autograd.grad(output[:, :, row].sum(), images, retain_graph=True)
        return gradient.abs().sum((0, 1, 3)).nonzero().flatten().tolist()

    return of


def small_fcn(stride: int, *, released: bool) -> FCN:
    layers = {"features": build_vgg_layers(3, channels=(2,) * 5)}
    set_padding(layers, ceil_mode=released, first_padding=100 if released else None)
    encoder = ChainEncoder(layers, taps="pools")
    head = build_fc_layers(2, channels=2, padding=0 if released else 3)
    return FCN(3, 2, encoder=encoder, head=head, stride=stride, grouped=False)


def small_alexnet_fcn() -> FCN:
    layers = {"features": build_caffenet_layers(3, channels=(2,) * 5)}
    set_padding(layers, ceil_mode=True, first_padding=100)
    encoder = ChainEncoder(layers, taps="pools")
    return FCN(
        3, 2, encoder=encoder, head=build_fc_layers(2, channels=2, kernel_size=6, padding=0), stride=32, grouped=False
    )


def same_unet(**options: Any) -> UNet:
    return UNet(3, 2, base_channels=1, padding="same", normalization="batch", **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": same_unet,
    "unet-stem-2": lambda: same_unet(stem_stride=2, depth=3),
    "unet-stem-4": lambda: same_unet(stem_stride=4, depth=2),
    "unet-paper": lambda: UNet(3, 2, base_channels=1),
    "unet-paper-switches": lambda: UNet(3, 2, base_channels=2, depth=2, upsampling="switches", skips="none"),
    "unet-paper-bilinear": lambda: UNet(3, 2, base_channels=1, depth=2, upsampling="bilinear", skips="add"),
    "segnet": lambda: SegNet(3, 2, channels=(1,) * 5),
    **{
        f"segnet-{upsampling}-{skips}": lambda upsampling=upsampling, skips=skips: SegNet(
            3, 2, channels=(1,) * 3, depths=(1, 2, 1), upsampling=upsampling, skips=skips
        )
        for upsampling, skips in (("nearest", "none"), ("bilinear", "add"), ("transposed", "concat"))
    },
    **{name: lambda build=build: build(3, 2, base_channels=1) for name, build in TABLE_1.items()},
    **{f"fcn-{stride}s": lambda stride=stride: small_fcn(stride, released=False) for stride in (32, 16, 8)},
    "fcn-alexnet": small_alexnet_fcn,
    **{f"fcn-{stride}s-released": lambda stride=stride: small_fcn(stride, released=True) for stride in (32, 16, 8)},
}


@functools.cache
def trace_named(name: str) -> NetworkGeometry:
    return trace_geometry(NETWORKS[name](), in_channels=3)


def small_image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_receptive_field_is_what_influences_each_phase(name):
    network = make_positive(NETWORKS[name]())
    field = trace_named(name)
    assert field.is_local
    assert field.rows == field.columns
    stride, period = field.rows.stride, len(field.rows.intervals)
    # The first period whose receptive field is inside the image, and the first phase of the next.
    turn = -(min(first for first, _ in field.rows.intervals) // stride)
    places = range(turn * period, (turn + 1) * period + 1)
    size = field.compute_legal_size((field.rows.get_range(places.start, places.stop)[1], 1))
    influence = rows_that_influence(network, small_image(*size))
    for place in places:
        rows = influence(place)
        assert (rows[0], rows[-1]) == field.rows.get_interval(place)


@pytest.mark.parametrize("name", NETWORKS)
def test_tile_with_halo_equals_the_whole_image(name):
    """Compare also at the bottom, where the image ends anywhere, with maxima, switches and nonlinearities."""
    torch.manual_seed(0)
    network = NETWORKS[name]().double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    field = trace_named(name)
    stride, halo, margin = field.stride[0], field.halo, field.offset[0]
    start = 2 * stride  # of the tile, whose first row without the top border's influence is:
    window = start + round_up(max(halo.top - margin, 0), stride)
    height, width = field.compute_legal_size((window + 2 * stride + margin + halo.bottom + stride // 2, 1))
    image = small_image(height, width)
    with torch.no_grad():
        whole = network(image)
        bottom = network(image[:, :, start:])
        end, _ = field.compute_legal_size((height - start - stride, 1))
        inner = network(image[:, :, start : start + end])
    torch.testing.assert_close(bottom[:, :, window - start :], whole[:, :, window:], rtol=1e-9, atol=1e-12)
    stop = start + end - margin - halo.bottom
    assert stop > window
    torch.testing.assert_close(
        inner[:, :, window - start : stop - start], whole[:, :, window:stop], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_output_sizes_match_the_network(name):
    network = NETWORKS[name]().eval()
    field = trace_named(name)
    sides = range(field.min_size, field.min_size + 34, field.size_multiple)
    for side in sides[:: 5 if len(sides) > 5 else 1]:
        with torch.no_grad():
            output = network(torch.zeros(1, 3, side, field.min_size))
        assert output.shape[2:] == field.compute_output_size((side, field.min_size))


# Random stacks of layers with one channel.


class Crop(nn.Module):
    def __init__(self, top: int, left: int) -> None:
        super().__init__()
        self.top, self.left = top, left

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.top :, self.left :]


def convolutions(draw: st.DrawFn) -> nn.Module:
    dilation, stride = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    return nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


def poolings(draw: st.DrawFn) -> nn.Module:
    kernel = draw(st.integers(1, 3))
    padding = draw(st.integers(0, kernel // 2))
    return nn.AvgPool2d(kernel, draw(st.integers(1, 3)), padding, ceil_mode=draw(st.booleans()))


def transposed_convolutions(draw: st.DrawFn) -> nn.Module:
    stride = draw(st.integers(1, 3))
    kernel = draw(st.integers(stride, 5))
    dilation = draw(st.integers(1, 2 if stride == 1 else 1))
    padding = draw(st.integers(0, 2))
    return nn.ConvTranspose2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


def upsamplings(draw: st.DrawFn) -> nn.Module:
    return nn.Upsample(scale_factor=draw(st.integers(2, 3)), mode=draw(st.sampled_from(["nearest", "bilinear"])))


def shuffles(draw: st.DrawFn) -> nn.Module:
    if draw(st.booleans()):
        return nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2))
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 1))


def crops(draw: st.DrawFn) -> nn.Module:
    return Crop(draw(st.integers(0, 3)), draw(st.integers(0, 3)))


KINDS = [convolutions, poolings, transposed_convolutions, upsamplings, shuffles, crops]


@st.composite
def stacks(draw: st.DrawFn) -> nn.Sequential:
    return nn.Sequential(*(draw(st.sampled_from(KINDS))(draw) for _ in range(draw(st.integers(1, 4)))))


SIDE = 30


def trace(stack: nn.Module) -> tuple[tuple[ReceptiveField, ReceptiveField], torch.Size]:
    """Return the receptive fields of the outputs and their size; skip stacks that are invalid or unsupported."""
    image = torch.empty(1, 1, SIDE, SIDE, device="meta")
    try:
        with torch.inference_mode(), Tracer(image) as tracer:
            output = copy_to_meta(stack)(image)
    except (InvalidArgumentError, RuntimeError):
        assume(False)
    assume(min(output.shape) >= 1 and max(output.shape) <= 90)
    followed = tracer.get_map(output)
    assert followed is not None
    return followed.fields, output.shape[2:]


def image_of_one_channel() -> Tensor:
    return torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@given(stacks())
@settings(max_examples=60)
def test_receptive_field_of_random_stacks(stack):
    axes, size = trace(stack)
    image = image_of_one_channel().requires_grad_()
    output = make_positive(stack)(image)
    for dim, axis in zip((2, 3), axes, strict=True):
        for place in range(0, size[dim - 2], max(size[dim - 2] // 8, 1)):
            (gradient,) = torch.autograd.grad(output.select(dim, place).sum(), image, retain_graph=True)
            found = gradient.sum((0, 1, 5 - dim)).nonzero().flatten().tolist()
            first, last = axis.get_interval(place)
            if first >= 0 and last < SIDE:
                assert (found[0], found[-1]) == (first, last)
            assert all(first <= position <= last for position in found)


@given(stacks(), st.integers(0, 3), st.integers(1, 8))
@settings(max_examples=60)
def test_tiles_of_random_stacks_equal_the_whole_image(stack, turns, missing):
    """Compare a tile of any height that starts at a multiple of the stride."""
    (axis, _), size = trace(stack)
    start, offset, stop = turns * axis.stride, turns * len(axis.intervals), SIDE - missing
    assume(stop - start >= 8)
    stack, image = stack.double(), image_of_one_channel()
    with torch.no_grad():
        whole = stack(image)
        try:
            tile = stack(image[:, :, start:stop])
        except RuntimeError:
            assume(False)  # too small for the stack
    places = [
        place
        for place in range(offset, min(size[0], offset + tile.shape[2]))
        if axis.get_interval(place)[1] < stop and (axis.get_interval(place)[0] >= start or start == 0)
    ]
    torch.testing.assert_close(tile[:, :, [place - offset for place in places]], whole[:, :, places])


# Published numbers and cases computed by hand.


def test_paper_unet():
    field = trace_geometry(UNet(1, 2, base_channels=1), in_channels=1)
    assert (field.min_size, field.size_multiple) == (188, 16)
    assert field.stride == field.output_stride == (16, 16)
    assert field.compute_output_size((572, 700)) == (388, 516)
    assert field.offset == (92, 92)
    assert field.compute_legal_size((573, 1)) == (588, 188)
    assert field.compute_input_size((388, 389)) == (572, 588)
    network = UNet(1, 2, base_channels=1)
    contracting = [nn.Sequential(nn.MaxPool2d(2), down.block) for down in network.down]
    assert trace_geometry(nn.Sequential(network.first, *contracting), in_channels=1).receptive_field == (140, 140)


def test_halo_of_an_unpadded_network_is_at_least_its_size_loss():
    field = trace_geometry(nn.ConvTranspose2d(1, 1, 1, padding=1), in_channels=1)
    assert field.compute_output_size((9, 9)) == (7, 7)
    assert field.offset == (1, 1)
    assert field.halo == Halo(top=1, bottom=1, left=1, right=1)


@pytest.mark.parametrize(("pools", "pixels"), [(3, 44), (4, 100), (5, 212)])
def test_receptive_fields_of_vgg16_match_the_fcn_paper(pools, pixels):
    layers: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3)[:pools]:
        layers += [*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(convolutions)), nn.MaxPool2d(2)]
    field = trace_geometry(nn.Sequential(*layers), in_channels=1)
    assert field.receptive_field == (pixels, pixels)
    assert field.stride == (2**pools, 2**pools)
    assert field.output_stride == (1, 1)
    assert field.offset == (0, 0)
    assert field.compute_output_size((360, 480)) == (360 // 2**pools, 480 // 2**pools)


def test_receptive_field_of_segnet_basic_is_106_pixels():
    layers = [(nn.Conv2d(1, 1, 7, padding=3), nn.MaxPool2d(2)) for _ in range(4)]
    field = trace_geometry(nn.Sequential(*(layer for pair in layers for layer in pair)), in_channels=1)
    assert field.receptive_field == (106, 106)


def test_rows_and_columns_may_differ():
    field = trace_geometry(nn.Conv2d(1, 1, (3, 7), padding=(1, 3)), in_channels=1)
    assert field.receptive_field == (3, 7)
    assert field.halo == Halo(top=1, bottom=1, left=3, right=3)


def test_pixel_unshuffle_depends_on_the_whole_block():
    network = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(16, 16, 1), nn.PixelShuffle(4))
    field = trace_geometry(network, in_channels=1)
    assert field.stride == field.receptive_field == (4, 4)
    assert field.size_multiple == 4
    # Windows start at a multiple of 4, and may end after the first row of a block.
    assert field.halo == Halo(top=0, bottom=3, left=0, right=3)


def test_output_sizes_that_differ_in_size_loss():
    field = trace_geometry(nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), in_channels=1)
    assert (field.min_size, field.size_multiple) == (2, 1)
    assert [field.compute_output_size((side, 2))[0] for side in (2, 3, 4, 5, 45)] == [2, 2, 4, 4, 44]
    assert field.halo.bottom == 1


def test_illegal_sizes_are_an_error_that_lists_legal_ones():
    field = trace_geometry(UNet(1, 2, base_channels=1), in_channels=1)
    with pytest.raises(
        InvalidArgumentError, match=r"size is 572x571, but must have sides of 188 \+ 16k pixels \(188, 204, ...\)"
    ):
        field.compute_output_size((572, 571))


def test_network_is_not_changed():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)).train()
    before = copy.deepcopy(network.state_dict())
    trace_geometry(network, in_channels=1)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_half_precision_networks_and_segmenters():
    assert trace_geometry(nn.Conv2d(1, 1, 3).bfloat16(), in_channels=1).receptive_field == (3, 3)
    network = UNet(1, 2, base_channels=1, depth=1, padding="same")
    field = trace_geometry(Segmenter(network, mean=[0.0], std=[1.0]), in_channels=1)
    assert field.rows == trace_geometry(network, in_channels=1).rows
    assert (field.min_size, field.size_multiple) == (1, 1)


# Operators of other networks.


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def squeeze_excitation(x: Tensor) -> Tensor:
    return x * functional.adaptive_avg_pool2d(x, 1).sigmoid()


GLOBAL: dict[str, Callable[[Tensor], Tensor]] = {
    "aten::group_norm": lambda x: functional.group_norm(x, 1),
    "aten::instance_norm": functional.instance_norm,
    "aten::batch_norm": lambda x: functional.batch_norm(x, None, None, training=True),
    "aten::layer_norm": lambda x: functional.layer_norm(x, x.shape[2:]),
    "aten::adaptive_avg_pool2d": squeeze_excitation,
    "aten::matmul": lambda x: x + x @ x.transpose(2, 3),
    "aten::mean": lambda x: x - x.mean((2, 3), keepdim=True),
    "aten::amax": lambda x: x / x.amax(),
    "aten::softmax": lambda x: x + functional.softmax(x, 3).sum(3, keepdim=True).sum(2, keepdim=True),
    "aten::add": lambda x: x + torch.linspace(0, 1, x.shape[3], device=x.device),
    "aten::cat": lambda x: torch.cat([x, torch.ones_like(x).cumsum(2)], dim=1),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_ops_are_named(name):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Function(GLOBAL[name]))
    field = trace_geometry(network, in_channels=4)
    assert not field.is_local
    assert field.global_ops == (name,)
    assert field.receptive_field == (3, 3)


LOCAL: dict[str, Callable[[Tensor], Tensor]] = {
    "layer normalization of pixels": lambda x: functional.layer_norm(x.permute(0, 2, 3, 1), [4]).permute(0, 3, 1, 2),
    "linear layer of pixels": lambda x: (
        functional.linear(x.permute(0, 2, 3, 1), torch.ones(4, 4, device=x.device)).transpose(1, 3).transpose(2, 3)
    ),
    "response normalization": lambda x: functional.local_response_norm(x, 5),
    "channel shuffle": lambda x: functional.channel_shuffle(x, 2),
    "halves of the channels": lambda x: torch.cat(x.chunk(2, dim=1), dim=1),
    "mean of the channels": lambda x: x * x.mean(1, keepdim=True) + x.mean(1)[:, None] + x.amax(1).unsqueeze(1),
    "one channel": lambda x: x[:, 0].unsqueeze(1),
    "softmax": lambda x: x.softmax(1),
    "pad and crop": lambda x: functional.pad(x, (2, 1, 1, 2), mode="reflect")[:, :, 1:-2, 2:].narrow(3, 0, x.shape[3]),
    "nearest": lambda x: functional.avg_pool2d(functional.interpolate(x, scale_factor=2), 2),
    "stack": lambda x: torch.stack([x, x], dim=1).flatten(1, 2),
    "regrouped blocks": lambda x: torch.stack([x, x], 4).flatten(3)[:, :, :, ::2],
    "adaptive pooling to the same size": lambda x: functional.adaptive_avg_pool2d(x, x.shape[2:]),
}


@pytest.mark.parametrize("name", LOCAL)
def test_pixelwise_ops_do_not_change_the_receptive_field(name):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Function(LOCAL[name]))
    field = trace_geometry(network, in_channels=4)
    assert field.is_local
    assert field.receptive_field == (3, 3)
    assert field.stride == field.output_stride == (1, 1)


def test_blocks_unfolded_by_reshaping():
    def unfold(x: Tensor) -> Tensor:
        blocks = x.view(1, 4, x.shape[2] // 2, 2, x.shape[3] // 2, 2)
        return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    network = nn.Sequential(Function(unfold), nn.Conv2d(16, 4, 1))
    assert trace_geometry(network, in_channels=4).rows == ReceptiveField(2, ((0, 1),))


def bicubic(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bicubic")


def test_bicubic_upsampling_reads_four_pixels():
    assert trace_geometry(Function(bicubic), in_channels=1).receptive_field == (4, 4)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "unknown": (lambda x: x.cumsum(2), r"aten::cumsum on \(1, 4, 512, 512\) may mix pixels"),
    "flip": (lambda x: x.flip(2), "aten::flip on .* may mix pixels"),
    "factor": (
        lambda x: functional.interpolate(x, size=(640, 640)),
        "resizes 512x512 to 640x640, .* not an integer factor",
    ),
    "corners": (
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        "align_corners=True",
    ),
    "circular": (lambda x: functional.pad(x, (1, 1, 1, 1), mode="circular"), "pads in a way"),
    "resolution": (
        lambda x: x[:, :, ::2, ::2] + x[:, :, : x.shape[2] // 2, : x.shape[3] // 2],
        "aten::add .*joins maps of different resolution",
    ),
    "rows joined": (lambda x: torch.cat([x, x], dim=2), "joins maps along rows or columns"),
    "transposed": (lambda x: x + x.transpose(2, 3), "maps whose rows are different dimensions"),
    "rows split": (lambda x: x.split(8, dim=2)[0], "splits rows or columns"),
    "one row": (lambda x: x[:, :, 0][:, :, None], "selects one row or column"),
    "flat": (lambda x: x.flatten(2).view_as(x), "reshapes a map to .* mixes rows or columns"),
    "cropped, then padded": (lambda x: functional.pad(x[:, :, 3:, 3:], (1, 1, 1, 1)), "pads a map that was cropped"),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), "no rows and columns of the image .*aten::mean"),
    "constant": (lambda x: torch.zeros(1, 1, 4, 4, device=x.device), "no rows and columns of the image"),
    "two outputs": (lambda x: (x, x), "must return one tensor"),  # type: ignore[dict-item, return-value]
    "nothing legal": (lambda x: x.view(7, -1), "accepts no two sizes up to 1024x1024"),
    "offset by the size": (
        lambda x: functional.pad(x, (0, 0, x.shape[2] % 2, 0)),
        "differ between sides of 512 and 513",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_ops_are_an_error_that_names_them(name):
    function, message = REFUSED[name]
    with pytest.raises(InvalidArgumentError, match=message):
        trace_geometry(Function(function), in_channels=4)


def test_examples():
    result = doctest.testmod(network_geometry)
    assert result.attempted
    assert not result.failed
