"""The windows of modules: read off, padded otherwise, or spread by dilation."""

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.alignment import SlidingWindow, WindowPath

Layers = dict[str, nn.Module]
"""Modules that act one after the other; in a Sequential, each child is a layer of its own."""


def flatten_layers(layers: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """The layers in order with their names: `features.0`, `features.1`, ..., or `conv1`, `layer1.0`, ..."""
    for name, layer in layers.items():
        if _runs_in_order(layer):
            # Not named_children, which passes over a layer that occurs twice.
            yield from ((f"{name}.{inner}", child) for inner, child in layer._modules.items() if child is not None)
        else:
            yield name, layer


def find_first_convolution(layers: Mapping[str, nn.Module]) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, and its name."""
    modules = ((f"{top}.{name}".rstrip("."), m) for top, layer in layers.items() for name, m in layer.named_modules())
    return next((name, module) for name, module in modules if isinstance(module, nn.Conv2d))


def get_windows(layer: nn.Module) -> WindowPath:
    """The windows a map passes in a layer. Of parallel branches, which must agree, one is given.

    Raises:
        InvalidArgumentError: windows that are not square, or branches that look at different places.
    """
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return (_window(layer),)
    if _runs_in_order(layer):
        return tuple(window for _, child in flatten_layers({"": layer}) for window in get_windows(child))
    windows = [_window(module) for module in _windowed(layer)]
    steps = {(window.stride, window.first_center) for window in windows if window.stride > 1}
    centered = all(window.first_center == 0 for window in windows if window.stride == 1)
    if len(steps) > 1 or not centered:
        raise InvalidArgumentError(
            f"the branches of {type(layer).__name__} look at different places: it has no alignment."
        )
    return tuple(sorted({window for window in windows if window.stride > 1}))[-1:]


def compute_stride(path: WindowPath) -> int:
    """Pixels from one cell to the next."""
    return math.prod(window.stride for window in path)


def set_padding(layers: Mapping[str, nn.Module], *, ceil_mode: bool, first_padding: int | None) -> None:
    """Changes, in place, how max poolings round, and how far the first convolution pads."""
    if ceil_mode:
        for _, layer in flatten_layers(layers):
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
    if first_padding is not None:
        find_first_convolution(layers)[1].padding = (first_padding, first_padding)


def dilate(layers: Layers, output_stride: int) -> Layers:
    """Leaves out the last strides and spreads the windows behind them instead, in place.

    At every position that the strides would have kept, the same weights give the same values; the
    positions between are new. (Squeeze-and-excitation averages over these too, and so changes a
    little: EfficientNet, MobileNetV3, RegNetY.) The "holes" of Chen et al., "Semantic Image Segmentation with Deep
    Convolutional Nets and Fully Connected CRFs", ICLR 2015.

    Returns:
        The layers, of which poolings may be others than before.

    Raises:
        InvalidArgumentError: the strides do not lead to `output_stride`, or one that has to go belongs to
            an even or unpadded convolution, or to an average.
    """
    trunk = nn.ModuleDict(layers)
    stride = rate = 1
    for name, layer in flatten_layers(layers):
        step = compute_stride(get_windows(layer))
        if stride * step <= output_stride:
            stride *= step
            _spread(layer, rate, 1)
        elif isinstance(layer, nn.MaxPool2d):
            trunk.set_submodule(name, DenseMaxPool(_window(layer), rate))
            rate *= step
        else:
            _spread(layer, rate, step)
            rate *= step
    if stride != output_stride:
        raise InvalidArgumentError(
            f"the strides of this encoder lead to {stride}, but not to an output stride of {output_stride}."
        )
    return dict(trunk.items())


class DenseMaxPool(nn.MaxPool2d):
    """A max pooling without its stride: the same windows, `rate` times as wide, at every position.

    What does not fit is added at the bottom and right, so that the map keeps its size.
    """

    def __init__(self, window: SlidingWindow, rate: int) -> None:
        super().__init__(window.kernel, stride=1, dilation=rate)
        before = window.padding * rate
        after = rate * (window.kernel - 1) - before
        self.margins = (before, after, before, after)
        self.window = SlidingWindow(window.kernel, 1, before, rate, end_padding=after - before)

    def forward(self, x: Tensor) -> Tensor:
        padded: Tensor = functional.pad(x, self.margins, value=-math.inf)
        return super().forward(padded)  # type: ignore[no-any-return]


def _spread(layer: nn.Module, rate: int, step: int) -> None:
    """Spreads the windows by `rate`, and behind a stride of `step`, which is left out, by rate · step."""
    passed = False
    for module in _windowed(layer):
        window = _window(module)
        ours = rate * step if passed and window.stride == 1 else rate
        if step > 1 and window.stride > 1:
            module.stride, passed = (1, 1), True
        if window.kernel == 1 or (ours == 1 and step == 1):
            continue
        if window.first_center or isinstance(module, nn.AvgPool2d):
            raise InvalidArgumentError(
                "this encoder cannot be dilated: a window behind its last strides is even or an average."
            )
        module.dilation = (window.dilation * ours,) * 2
        module.padding = (window.padding * ours,) * 2


def _windowed(layer: nn.Module) -> Iterator[nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d]:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            yield module


def _window(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> SlidingWindow:
    if isinstance(module, DenseMaxPool):
        return module.window
    dilation = 1 if isinstance(module, nn.AvgPool2d) else module.dilation
    ceil_mode = False if isinstance(module, nn.Conv2d) else module.ceil_mode
    if isinstance(module.padding, str):
        raise InvalidArgumentError(f"padding={module.padding!r} of {module} has no number; give one.")
    return SlidingWindow(
        kernel=_side(module.kernel_size),
        stride=_side(module.stride),
        padding=_side(module.padding),
        dilation=_side(dilation),
        ceil_mode=ceil_mode,
    )


def _side(value: int | tuple[int, ...]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise InvalidArgumentError(f"a window of {value} is not square: the alignment of its map cannot be told.")
    return sides.pop()


def _runs_in_order(layer: nn.Module) -> bool:
    """A Sequential, also under another name; but nothing that has a forward of its own."""
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward
