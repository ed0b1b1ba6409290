from typing import Any

import pytest
import torch

from pixelwise.errors import InvalidArgumentError
from pixelwise.lowering.graph import explain_compile_errors


def test_a_missing_compiler_is_an_error_that_names_it() -> None:
    def without_compiler(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    compiled = torch.compile(lambda x: x + 1, backend=without_compiler)
    message = r"No working C\+\+ compiler found.*training\.compile=false, --engine torch"
    with pytest.raises(InvalidArgumentError, match=message), explain_compile_errors():
        compiled(torch.ones(2))


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes of nothing"), explain_compile_errors():
        raise RuntimeError("shapes of nothing")
