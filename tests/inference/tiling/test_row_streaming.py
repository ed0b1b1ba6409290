import weakref
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.fuse_batchnorm import for_prediction
from pixelwise.inference.tiling.op_recorder import record
from pixelwise.inference.tiling.peak_memory import streamed_peak_bytes
from pixelwise.inference.tiling.row_ops import Room, Rows, Step, Take
from pixelwise.inference.tiling.row_streaming import Program
from pixelwise.networks import build_network
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.networks.geometry.tracer import copy_to_meta
from pixelwise.shapes import Size

NETWORKS: Mapping[str, NetworkConfig] = {
    **{
        f"unet {upsampling}": NetworkConfig(name="unet", base_channels=4, depth=2, upsampling=upsampling)
        for upsampling in ("switches", "nearest", "bed_of_nails", "bilinear", "transposed")
    },
    "unet with a stem": NetworkConfig(name="unet", base_channels=4, depth=2, stem_stride=2),
    "unet-paper": NetworkConfig(name="unet-paper", base_channels=2, depth=2),
    "unet on resnet18": NetworkConfig(name="unet", encoder="resnet18"),
    "unet on convnext": NetworkConfig(name="unet", encoder="timm:convnext_atto"),
    "segnet": NetworkConfig(name="segnet", base_channels=2),
    "segnet-basic": NetworkConfig(name="segnet-basic", base_channels=4),
    "fcn-8s": NetworkConfig(name="fcn-8s", encoder="resnet18"),
}


def ready(network: nn.Module, size: Size) -> nn.Module:
    """In evaluation mode and folded, no layer silent."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.detach().any():  # FCN's scores begin at zero
            nn.init.normal_(parameter, std=0.1)
    made = for_prediction(network, size, channels=3, precision="fp32")
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def image_of(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.randn(1, 3, *size, generator=generator).contiguous(memory_format=torch.channels_last)


def cut(height: int, strip: int) -> list[Rows]:
    return [(top, min(top + strip, height)) for top in range(0, height, strip)]


def streamed(network: nn.Module, image: Tensor, strip: int) -> Tensor:
    program = record(network, (image.shape[2], image.shape[3]), channels=image.shape[1])
    with torch.inference_mode():
        strips = cut(program.shapes[program.output].rows, strip)
        found = list(program.run(lambda rows: image[:, :, slice(*rows)], strips))
    assert [part.shape[2] for part in found] == [last - first for first, last in strips]
    return torch.cat(found, 2)


def assert_streams(network: nn.Module, size: Size, strip: int) -> None:
    image = image_of(size)
    with torch.inference_mode():
        whole = network(image)
    tolerance = 1e-5 * max(1.0, float(whole.abs().max()))
    torch.testing.assert_close(streamed(network, image, strip), whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_strips_give_what_the_whole_image_gives(name: str) -> None:
    network = build_network(NETWORKS[name], in_channels=3, num_classes=3).eval()
    field = trace_geometry(network, in_channels=3)
    size = field.legal_size((100, 50))
    made = ready(network, size)
    for strip in (16, 100):
        assert_streams(made, size, strip)


@pytest.mark.parametrize("name", ["fcn-alexnet", pytest.param("fcn-paper", marks=pytest.mark.slow)])
def test_the_published_fcns_whose_border_is_wider_than_the_image(name: str) -> None:
    network = build_network(NetworkConfig(name=name), in_channels=3, num_classes=2).eval()
    size = trace_geometry(network, in_channels=3).legal_size((64, 64))
    assert_streams(ready(network, size), size, 32)


@settings(max_examples=25)
@given(rows=st.integers(1, 12), columns=st.integers(1, 6), strip=st.integers(1, 50))
def test_any_height_and_any_strip(rows: int, columns: int, strip: int, unet: nn.Module) -> None:
    assert_streams(unet, (4 * rows, 4 * columns), strip)


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    network = build_network(NetworkConfig(name="unet", base_channels=2, depth=2), in_channels=3, num_classes=2)
    return ready(network.eval(), (32, 32))


def test_no_row_of_any_map_is_computed_twice_or_never(unet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: dict[int, list[Rows]] = {}
    run = Step.run

    def spy(step: Step, rows: Rows, take: Take, room: Room) -> list[Tensor]:
        computed.setdefault(step.outputs[0], []).append(rows)
        return run(step, rows, take, room)

    monkeypatch.setattr(Step, "run", spy)
    program = record(unet, (96, 32), channels=3)
    image = image_of((96, 32))
    with torch.inference_mode():
        list(program.run(lambda rows: image[:, :, slice(*rows)], cut(96, 16)))
    assert set(computed) == {step.outputs[0] for step in program.steps}
    for index, parts in computed.items():
        assert parts[0][0] == 0
        assert parts[-1][1] == program.shapes[index].rows
        assert all(before[1] == after[0] for before, after in pairwise(parts))
    assert max(map(len, computed.values())) == 6


def test_the_image_is_read_in_order_and_once(unet: nn.Module) -> None:
    asked: list[Rows] = []
    image = image_of((64, 32))

    def read(rows: Rows) -> Tensor:
        asked.append(rows)
        return image[:, :, slice(*rows)]

    with torch.inference_mode():
        answers = record(unet, (64, 32), channels=3).run(read, cut(64, 16))
        next(answers)
        assert asked[-1][1] < 64  # no more than the first strip needs
        list(answers)
    assert asked[0][0] == 0
    assert asked[-1][1] == 64
    assert all(before[1] == after[0] for before, after in pairwise(asked))


def test_memory_does_not_grow_with_the_height(unet: nn.Module) -> None:
    skeleton = copy_to_meta(unet)

    def peak(height: int) -> int:
        program = record(skeleton, (height, 64), channels=3)
        return streamed_peak_bytes(program, cut(height, 16), channels=3)

    assert peak(2048) == peak(512)
    assert peak(512) < 20 * 16 * 64 * 4 * 16  # tens of rows of the widest maps, not hundreds


def test_a_strip_is_not_held_while_the_next_is_made(unet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    strips: list[weakref.ref[Tensor]] = []
    held: list[bool] = []
    run = Step.run

    def spy(step: Step, rows: Rows, take: Take, room: Room) -> list[Tensor]:
        held.append(any(strip() is not None for strip in strips))
        return run(step, rows, take, room)

    monkeypatch.setattr(Step, "run", spy)
    image = image_of((64, 32))
    answers = record(unet, (64, 32), channels=3).run(lambda rows: image[:, :, slice(*rows)], cut(64, 16))
    with torch.inference_mode():
        for _ in range(4):
            strips.append(weakref.ref(next(answers)))
    assert len(held) > 4
    assert not any(held)


# Networks made to be difficult


class Network(nn.Module):
    """What `forward_of` makes of an image, with one 3x3 convolution of 3 channels at hand."""

    def __init__(self, forward_of: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.forward_of = forward_of

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_of(self.convolution, x)


def _in_place(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    x = convolution(x)
    before = convolution(x)  # reads rows of x that later strips need too
    return before + x.relu_()


def _branches_of_other_heights(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    halved = functional.max_pool2d(convolution(x), 3, stride=2, padding=1)
    averaged = functional.avg_pool2d(x, 3, stride=2, padding=1)
    wide = functional.interpolate(halved + averaged, scale_factor=2, mode="nearest")
    return torch.cat((wide, functional.pad(x, (0, 0, 2, 2))[:, :, 1:-3]), 1)


def _turned(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    turned = convolution(x).permute(0, 2, 3, 1)
    return functional.layer_norm(turned, (3,)).permute(0, 3, 1, 2)


def _weights_of_weights(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    weight = convolution.weight * convolution.weight.abs().mean()
    return functional.conv2d(x, weight, stride=2, padding=1, dilation=2)


def _dilated_and_transposed(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv_transpose2d(convolution(x), convolution.weight, stride=2, padding=1, output_padding=1)


def _transposed_far_inside(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    weight = convolution.weight.repeat_interleave(5, 2)
    return functional.conv_transpose2d(functional.pad(x, (9, 9, 9, 9)), weight, stride=4, padding=(21, 1))


@pytest.mark.parametrize(
    "forward_of",
    [
        _in_place,
        _transposed_far_inside,
        _branches_of_other_heights,
        _turned,
        _weights_of_weights,
        _dilated_and_transposed,
    ],
    ids=lambda function: function.__name__.strip("_"),
)
@pytest.mark.parametrize("strip", [1, 2, 7])
def test_operators_in_odd_company(forward_of: Callable[[nn.Conv2d, Tensor], Tensor], strip: int) -> None:
    torch.manual_seed(0)
    assert_streams(Network(forward_of).eval().requires_grad_(False), (24, 10), strip)


def _mean_of_all(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return x - x.mean((2, 3), keepdim=True)


def _indices(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    maxima, _ = functional.max_pool2d_with_indices(x, 2)
    return maxima


def _places(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return x * torch.arange(x.shape[3], device=x.device)


def _a_view_of_what_is_written(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    x = convolution(x)
    view = x.permute(0, 2, 3, 1)
    x.relu_()
    return x + view.permute(0, 3, 1, 2)


def _a_part_of_what_is_read(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    x = convolution(x)
    x.split([1, 2], 1)[0].sigmoid_()
    return x


def _written_elsewhere(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    x = x * 2
    before = convolution(x)
    torch.add(x, 1.0, out=x)
    return before + x


def _turned_before_a_window(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return convolution(x.transpose(2, 3)).transpose(2, 3)


def _gaps_between_rows(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv_transpose2d(x, convolution.weight[:, :, :1, :1], stride=2)


def _normalized_over_the_image(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.group_norm(convolution(x), 3)


def _without_sides_of_one(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return convolution(x).squeeze()[None]


def _channels_that_are_rows(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.prelu(x.permute(0, 2, 1, 3), convolution.weight[0, 0, 0, :1]).permute(0, 2, 1, 3)


def _pooled_in_three_dimensions(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.avg_pool3d(x[:, None], (1, 3, 3), stride=1, padding=(0, 1, 1))[:, 0]


def _written_weights(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.no_grad():
        convolution.weight.mul_(2)
    return convolution(x)


def _no_whole_factor(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.01, mode="bilinear")


@pytest.mark.parametrize(
    ("forward_of", "message"),
    [
        (_a_view_of_what_is_written, "aten::relu_ writes where something else is read"),
        (_a_part_of_what_is_read, "aten::sigmoid_ writes where something else is read"),
        (_written_elsewhere, "aten::add writes where something else is read"),
        (_turned_before_a_window, "windows on a map that was turned"),
        (_gaps_between_rows, "aten::conv_transpose2d is not run on some rows"),
        (_normalized_over_the_image, "aten::group_norm is not run on some rows"),
        (_without_sides_of_one, "aten::squeeze is not run on some rows"),
        (_channels_that_are_rows, "aten::prelu is not run on some rows"),
        (_pooled_in_three_dimensions, "aten::avg_pool3d is not run on some rows"),
        (_written_weights, "aten::mul_ writes where something else is read"),
        (_no_whole_factor, "which is no whole factor"),
        (_mean_of_all, "aten::mean is not run on some rows"),
        (_indices, "aten::max_pool2d_with_indices is not run on some rows"),
        (_places, "makes a tensor that is neither a map nor a weight"),
        (lambda convolution, x: functional.pad(x, (0, 0, 2, 2), mode="reflect"), "aten::pad is not run"),
        (lambda convolution, x: convolution.weight, "output is no map"),
    ],
)
def test_what_cannot_be_streamed_is_refused(forward_of: Callable[[nn.Conv2d, Tensor], Tensor], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        record(Network(forward_of).eval(), (24, 10), channels=3)


def test_a_program_says_what_it_is_made_of(unet: nn.Module) -> None:
    program: Program = record(unet, (32, 16), channels=3)
    names: list[Any] = [step.function._schema.name for step in program.steps]
    assert names.count("aten::conv2d") == sum(isinstance(module, nn.Conv2d) for module in unet.modules())
    assert not [name for name in names if name.endswith("_")]
    assert program.shapes[0].sides == (1, 3, 32, 16)
    assert program.shapes[program.output].sides == (1, 2, 32, 16)
