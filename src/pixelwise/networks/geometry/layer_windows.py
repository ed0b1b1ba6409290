"""Sliding windows of modules: read them, change their padding, or dilate them."""

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.alignment import SlidingWindow, WindowPath

Layers = dict[str, nn.Module]
"""Modules that run one after the other; in a Sequential, each child is a layer of its own."""


def flatten_layers(layers: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers in order with their names: `features.0`, `features.1`, ..., or `conv1`, `layer1.0`, ..."""
    for name, layer in layers.items():
        if _is_sequential(layer):
            # Not named_children, which skips a layer that occurs twice.
            yield from ((f"{name}.{inner}", child) for inner, child in layer._modules.items() if child is not None)
        else:
            yield name, layer


def find_first_convolution(layers: Mapping[str, nn.Module]) -> tuple[str, nn.Conv2d]:
    """Return the first convolution and its name."""
    modules = ((f"{top}.{name}".rstrip("."), m) for top, layer in layers.items() for name, m in layer.named_modules())
    return next((name, module) for name, module in modules if isinstance(module, nn.Conv2d))


def get_windows(layer: nn.Module) -> WindowPath:
    """Return the windows of a layer, in order. Parallel branches must agree, and count once.

    Raises:
        InvalidArgumentError: A window is not square, or branches have different centers.
    """
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return (_get_window(layer),)
    if _is_sequential(layer):
        return tuple(window for _, child in flatten_layers({"": layer}) for window in get_windows(child))
    windows = [_get_window(module) for module in _find_windowed_modules(layer)]
    steps = {(window.stride, window.first_center) for window in windows if window.stride > 1}
    is_centered = all(window.first_center == 0 for window in windows if window.stride == 1)
    if len(steps) > 1 or not is_centered:
        raise InvalidArgumentError(
            f"The branches of {type(layer).__name__} have different centers: it has no alignment."
        )
    return tuple(sorted({window for window in windows if window.stride > 1}))[-1:]


def compute_stride(path: WindowPath) -> int:
    """Return the pixels from one cell to the next after a path."""
    return math.prod(window.stride for window in path)


def set_padding(layers: Mapping[str, nn.Module], *, ceil_mode: bool, first_padding: int | None) -> None:
    """Set, in place, ceil mode of all max poolings and the padding of the first convolution.

    Args:
        layers: The layers.
        ceil_mode: Whether max poolings round up; False leaves them unchanged.
        first_padding: Padding of the first convolution; None leaves it unchanged.
    """
    if ceil_mode:
        for _, layer in flatten_layers(layers):
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
    if first_padding is not None:
        find_first_convolution(layers)[1].padding = (first_padding, first_padding)


def dilate(layers: Layers, output_stride: int) -> Layers:
    """Remove the last strides and dilate the windows after them instead, in place.

    At every position that the strides would have kept, the same weights give the same values; the positions between
    are new. (Squeeze-and-excitation averages over these, too, and changes slightly: EfficientNet, MobileNetV3,
    RegNetY.) This is the "holes" algorithm of Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets
    and Fully Connected CRFs", ICLR 2015.

    Args:
        layers: The layers, which are changed.
        output_stride: Stride of the last map.

    Returns:
        The layers, in which some poolings are replaced.

    Raises:
        InvalidArgumentError: The strides do not lead to `output_stride`, or a stride to remove belongs to an even or
            unpadded convolution, or to an average.
    """
    trunk = nn.ModuleDict(layers)
    stride = rate = 1
    for name, layer in flatten_layers(layers):
        step = compute_stride(get_windows(layer))
        if stride * step <= output_stride:
            stride *= step
            _dilate_layer(layer, rate, 1)
        elif isinstance(layer, nn.MaxPool2d):
            trunk.set_submodule(name, DenseMaxPool(_get_window(layer), rate))
            rate *= step
        else:
            _dilate_layer(layer, rate, step)
            rate *= step
    if stride != output_stride:
        raise InvalidArgumentError(
            f"The strides of this encoder lead to {stride}, but not to an output stride of {output_stride}."
        )
    return dict(trunk.items())


class DenseMaxPool(nn.MaxPool2d):
    """A max pooling without its stride: the same windows, dilated by `rate`, at every position.

    Padding is added at the bottom and right, so that the map keeps its size.
    """

    def __init__(self, window: SlidingWindow, rate: int) -> None:
        super().__init__(window.kernel_size, stride=1, dilation=rate)
        before = window.padding * rate
        after = rate * (window.kernel_size - 1) - before
        self.margins = (before, after, before, after)
        self.window = SlidingWindow(window.kernel_size, 1, before, rate, end_padding=after - before)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C, H, W)."""
        padded: Tensor = functional.pad(x, self.margins, value=-math.inf)
        return super().forward(padded)  # type: ignore[no-any-return]


class EndPaddedConv2d(nn.Conv2d):
    """A convolution padded like TensorFlow's "SAME" where the sides of the map are multiples of its stride.

    At stride 2, a 3x3 kernel then needs no padding at the top and left and 1 at the bottom and right. TensorFlow and
    timm's `Conv2dSame` choose the padding by the size of the map. Here the padding at the top and left is always the
    same, and so is the alignment; at the bottom and right it is large enough to round odd sides up.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take the parameters of a convolution, not copies of them."""
        kernel_size, stride, rate = (
            _get_side(side) for side in (convolution.kernel_size, convolution.stride, convolution.dilation)
        )
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            kernel_size,
            stride,
            dilation=rate,
            groups=convolution.groups,
            bias=convolution.bias is not None,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        reach = rate * (kernel_size - 1)
        before = max(reach + 1 - stride, 0) // 2
        after = reach - before
        self.margins = (before, after, before, after)
        self.window = SlidingWindow(kernel_size, stride, before, rate, end_padding=after - before)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        return super().forward(functional.pad(x, self.margins))


def _dilate_layer(layer: nn.Module, rate: int, step: int) -> None:
    """Dilate the windows by `rate`, and those after a removed stride of `step` by rate · step."""
    is_after_stride = False
    for module in _find_windowed_modules(layer):
        window = _get_window(module)
        factor = rate * step if is_after_stride and window.stride == 1 else rate
        if step > 1 and window.stride > 1:
            module.stride, is_after_stride = (1, 1), True
        if window.kernel_size == 1 or (factor == 1 and step == 1):
            continue
        if window.first_center or isinstance(module, nn.AvgPool2d):
            raise InvalidArgumentError(
                "This encoder cannot be dilated: a window after its last strides is even or an average."
            )
        module.dilation = (window.dilation * factor,) * 2
        module.padding = (window.padding * factor,) * 2


def _find_windowed_modules(layer: nn.Module) -> Iterator[nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d]:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            yield module


def _get_window(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> SlidingWindow:
    if isinstance(module, DenseMaxPool | EndPaddedConv2d):
        return module.window
    if isinstance(module.padding, str):
        raise InvalidArgumentError(f"padding={module.padding!r} of {module} is not a number. Use a number.")
    return SlidingWindow(
        kernel_size=_get_side(module.kernel_size),
        stride=_get_side(module.stride),
        padding=_get_side(module.padding),
        dilation=1 if isinstance(module, nn.AvgPool2d) else _get_side(module.dilation),
        ceil_mode=False if isinstance(module, nn.Conv2d) else module.ceil_mode,
    )


def _get_side(value: int | tuple[int, ...]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise InvalidArgumentError(f"A window of {value} is not square, so its map has no single alignment.")
    return sides.pop()


def _is_sequential(layer: nn.Module) -> bool:
    """Return whether a layer is a Sequential, or a subclass that does not override `forward`."""
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward
