"""A model as a graph of standard operators, for images of any number, height and width.

Three modules say what a graph gives: `AnswerGraph` from pixels to labels, `LogitsGraph` from
(B, C, H, W) to logits, `NetworkGraph` what the network alone makes of frames. `capture` records each.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbols
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from pixelwise.errors import InvalidArgumentError
from pixelwise.lowering.pooling_rewrite import StandardPooling
from pixelwise.networks import Segmenter
from pixelwise.shapes import Size

INPUT = "images"
OUTPUTS = ("labels", "logits")

_CHECKS = ("aten::_assert_scalar", "aten::_assert_tensor_metadata", "aten::sym_constrain_range_for_size")


class LogitsGraph(nn.Module):
    """(B, C, H, W) of any type in raw units → logits (B, K, H, W) float32, as `Segmenter` gives them.

    Args:
        segmenter: copied, in evaluation mode.
        compute: type of the network's weights and arithmetic; normalization is in float32.
    """

    def __init__(self, segmenter: Segmenter, *, compute: torch.dtype = torch.float32) -> None:
        super().__init__()
        # Contiguous: a predictor keeps its weights channels_last, which files of torch.export hold with a warning.
        self.segmenter = copy.deepcopy(segmenter).eval().to(memory_format=torch.contiguous_format)
        self.segmenter.network.to(compute)
        self.compute = compute

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[2], images.shape[3])
        with StandardPooling():
            logits = self.segmenter.network(self._framed(images, size))
        return logits[:, :, : size[0], : size[1]].float()  # type: ignore[no-any-return]

    def _framed(self, images: Tensor, size: Size) -> Tensor:
        """Normalized, and of a legal size: rows and columns are looked up, as their number is no number yet."""
        x = self.segmenter.normalize(images).to(self.compute)
        if self.segmenter.margin or self.segmenter.multiple > 1:
            for dim, side in zip((2, 3), size, strict=True):
                x = x.index_select(dim, self.segmenter.padded_indices(side))
        return x


class NetworkGraph(nn.Module):
    """(B, C, H, W) float32, normalized and of a legal size → the network's own output.

    Args:
        network: in evaluation mode; it is not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with StandardPooling():
            output: Tensor = self.network(images)
        return output


class AnswerGraph(nn.Module):
    """(B, H, W, C) in the model's type → labels (B, H, W), and the logits while `with_logits` is set.

    Labels are uint8 class indices, uint16 above 256 classes; the first of equal logits wins.
    """

    def __init__(self, logits: LogitsGraph, *, num_classes: int) -> None:
        super().__init__()
        self.logits = logits
        self.label_type = torch.uint8 if num_classes <= 256 else torch.uint16
        self.with_logits = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.logits(images.permute(0, 3, 1, 2))
        labels = logits.argmax(1).to(self.label_type)
        return (labels, logits) if self.with_logits else (labels,)


def capture(module: nn.Module, example: Tensor, *, dynamic: tuple[int, ...]) -> ExportedProgram:
    """What a module of one image tensor does, as standard operators, for any size of the `dynamic` dimensions.

    Tracing takes it that no map is one pixel wide, and refuses what it cannot prove for all sizes. Both
    are left out here: whether the graph holds down to a single pixel is measured afterwards.

    Args:
        example: an image batch whose dynamic dimensions are all different and above 32.

    Raises:
        InvalidArgumentError: the module does something with its image that no graph can hold.
    """
    shapes: Mapping[str, Any] = {INPUT: dict.fromkeys(dynamic, Dim.DYNAMIC)}
    # Oblivious: maps of one row are not a case of their own.
    try:
        with torch.no_grad(), symbols.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(
                module.eval(),
                (example,),
                dynamic_shapes=shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # of PyTorch's tracer, which has many
        reason = str(error).strip().partition("\n")[0]
        raise InvalidArgumentError(
            f"the network cannot be recorded for images of any size ({type(error).__name__}: {reason}); predict with "
            f"--engine torch, and report this."
        ) from error
    _drop_checks(program)
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(1, int_oo)
    return program


def _drop_checks(program: ExportedProgram) -> None:
    """Removes assertions about sizes, and with them where in our source each step came from."""
    graph = program.graph
    for node in list(graph.nodes):
        name = getattr(node.target, "name", str)()
        if node.op == "call_function" and name.split(".")[0] in _CHECKS:
            graph.erase_node(node)
        node.meta.pop("stack_trace", None)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
