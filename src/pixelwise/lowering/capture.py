"""Record graphs with torch.export. What it needs takes as long to import as PyTorch itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbols
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from pixelwise.errors import InvalidArgumentError, describe_cause
from pixelwise.lowering.graph import INPUT

_CHECKS = ("aten::_assert_scalar", "aten::_assert_tensor_metadata", "aten::sym_constrain_range_for_size")


def capture(module: nn.Module, example: Tensor, *, dynamic: tuple[int, ...]) -> ExportedProgram:
    """Capture a module with one tensor input as standard operators, for any size of the `dynamic` dimensions.

    The tracer assumes that no feature map is one pixel wide and adds assertions for what it cannot prove. Both are
    removed here; the comparison after export covers single pixels.

    Args:
        example: a batch whose dynamic dimensions are all different and above 32.

    Raises:
        InvalidArgumentError: the module cannot be captured.
    """
    shapes: Mapping[str, Any] = {INPUT: dict.fromkeys(dynamic, Dim.DYNAMIC)}
    try:
        # Oblivious: a dimension of size 1 is not specialized.
        with torch.no_grad(), symbols.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(
                module.eval(),
                (example,),
                dynamic_shapes=shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # the tracer raises many types
        raise InvalidArgumentError(
            f"The network cannot be exported for images of any size ({describe_cause(error)}). Predict with --engine "
            f"torch, and report this."
        ) from error
    _drop_checks(program)
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(1, int_oo)
    return program


def _drop_checks(program: ExportedProgram) -> None:
    """Remove assertions about sizes, and the source location of each node."""
    graph = program.graph
    for node in list(graph.nodes):
        name = getattr(node.target, "name", str)()
        if node.op == "call_function" and name.split(".")[0] in _CHECKS:
            graph.erase_node(node)
        node.meta.pop("stack_trace", None)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
