"""What happens while a network runs, operator by operator."""

from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, is shown each of PyTorch's operators once it has run.

    Under `torch.inference_mode`, where operators arrive whole: elsewhere PyTorch takes convolutions,
    normalizations and linear layers apart before a mode can see them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def saw(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """An operator, what it was given and what it gave."""
        raise NotImplementedError

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.saw(func, args, kwargs or {}, result)
        return result


def tensors_in(values: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts, in their order."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
