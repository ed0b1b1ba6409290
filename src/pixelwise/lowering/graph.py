"""Graphs of standard operators for any number, height and width of images.

`LabelGraph` maps pixels to labels. `FrameGraph` maps pixels to network inputs, and `NetworkGraph` is the network.
`capture.py` records them.

Max pooling with switches, and unpooling, become pooling, slices, comparisons and a reshape. Indices into a whole plane
are avoided, because runtimes gather and scatter on one core. Values equal those of `ops/pooling.py`, except for NaN.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import pixelwise.ops.pooling  # noqa: F401 registers torch.ops.pixelwise
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter
from pixelwise.networks.segmenter import DecisionRule
from pixelwise.shapes import Size, compute_pooled_size

INPUT = "images"
OUTPUTS = ("labels", "logits")


def max_pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """Pool (B, C, H, W) to maxima and switches dy · kernel + dx in uint8, both (B, C, H', W')."""
    batch, channels, height, width = x.shape
    rows, columns = compute_pooled_size((height, width), kernel, ceil_mode)
    # Separate from the search for switches, which a graph drops if its network does not use them.
    maxima = functional.max_pool2d(x, kernel, ceil_mode=ceil_mode)
    if ceil_mode:
        x = functional.pad(x, (0, columns * kernel - width, 0, rows * kernel - height), value=-torch.inf)
    windows = x[:, :, : rows * kernel, : columns * kernel].reshape(batch, channels, rows, kernel, columns, kernel)
    best = windows[:, :, :, 0, :, 0]
    # ONNX Runtime before 1.17 cannot compare uint8, and OpenCV 4 reads uint8 constants as int8.
    switches = torch.zeros_like(best, dtype=torch.int32)
    for switch in range(1, kernel**2):
        candidate = windows[:, :, :, switch // kernel, :, switch % kernel]
        # Strictly greater: the first of equal maxima wins.
        switches = torch.where(candidate > best, torch.full_like(switches, switch), switches)
        best = torch.maximum(best, candidate)
    return maxima, switches.to(torch.uint8)


def max_unpool(pooled: Tensor, switches: Tensor, size: Size, kernel: int) -> Tensor:
    """Place each value at its switch in zeros (B, C, *size)."""
    batch, channels, rows, columns = pooled.shape
    switches = switches.int()  # as in `max_pool`
    zeros = torch.zeros_like(pooled)
    cells = [torch.where(switches == switch, pooled, zeros) for switch in range(kernel**2)]
    lines = [torch.stack(cells[dy * kernel : (dy + 1) * kernel], dim=4) for dy in range(kernel)]
    full = torch.stack(lines, dim=3).reshape(batch, channels, rows * kernel, columns * kernel)
    # Ceil mode pooled up to kernel - 1 rows more than the image has, floor mode up to as many less.
    return functional.pad(full, (0, kernel - 1, 0, kernel - 1))[:, :, : size[0], : size[1]]


class StandardPooling(TorchFunctionMode):
    """A context in which the pooling operators of this package are computed and captured as standard ones."""

    replacements: Mapping[Any, Callable[..., Any]] = {
        torch.ops.pixelwise.max_pool_with_switches: max_pool,
        torch.ops.pixelwise.max_unpool: max_unpool,
    }

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.replacements.get(func, func)(*args, **(kwargs or {}))


class LabelGraph(nn.Module):
    """Pixels (B, H, W, C) in the model's dtype to labels (B, H, W), and logits (B, K, H, W) if `with_logits` is set.

    Labels are uint8 class indices, uint16 above 256 classes; without a threshold the first of equal logits wins.
    Logits are float32.

    Args:
        segmenter: copied, in evaluation mode.
        rule: how logits become labels.
        compute: dtype of the network; normalization is in float32.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        num_classes: int,
        rule: DecisionRule = DecisionRule(),  # noqa: B008 - immutable
        compute: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        # Contiguous: a predictor keeps its weights channels_last, which torch.export stores with a warning.
        self.segmenter = copy.deepcopy(segmenter).eval().to(memory_format=torch.contiguous_format)
        self.segmenter.network.to(compute)
        self.rule, self.compute = rule, compute
        self.label_type = torch.uint8 if num_classes <= 256 else torch.uint16
        self.with_logits = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with StandardPooling():
            output = self.segmenter.network(_frame_images(self.segmenter, images, self.compute))
        logits = output[:, :, : images.shape[1], : images.shape[2]].float()
        labels = self.rule.assign_labels(logits, 1).to(self.label_type)
        return (labels, logits) if self.with_logits else (labels,)


class FrameGraph(nn.Module):
    """Pixels (B, H, W, C) of any dtype to network inputs (B, C, h, w) float32, normalized and of a legal size."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        # The network is left out: its parameters would be written into the graph.
        self.segmenter = copy.deepcopy(segmenter, {id(segmenter.network): None}).eval()

    def forward(self, images: Tensor) -> Tensor:
        return _frame_images(self.segmenter, images, torch.float32)


class NetworkGraph(nn.Module):
    """Network inputs (B, C, h, w) float32 of a legal size to the network's own output.

    Args:
        network: in evaluation mode; not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with StandardPooling():
            output: Tensor = self.network(images)
        return output


def _frame_images(segmenter: Segmenter, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalize images (B, H, W, C) and pad them to a legal size, with rows and columns by index."""
    x = segmenter.normalize(images.permute(0, 3, 1, 2)).to(dtype)
    if segmenter.margin or segmenter.multiple > 1:
        for dim in (2, 3):
            x = x.index_select(dim, segmenter.compute_padded_indices(x.shape[dim]))
    return x


@contextmanager
def explain_compile_errors() -> Iterator[None]:
    """Turn errors of torch.compile into InvalidArgumentError, and hide its warning that CUDA was not found."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).strip().splitlines()[:2])  # the second names the backend error
        raise InvalidArgumentError(
            f"torch.compile failed ({reason}). It needs a C++ compiler on a CPU, and Triton and a C compiler on a GPU. "
            "Install them, or do not compile: training.compile=false, --engine torch."
        ) from error
