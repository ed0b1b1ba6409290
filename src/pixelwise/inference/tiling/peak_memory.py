"""How much memory a prediction takes, found by running the network without data."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef

from pixelwise.inference.tiling.row_ops import Rows
from pixelwise.inference.tiling.row_streaming import Program
from pixelwise.networks.geometry.tracer import OpObserver, find_tensors
from pixelwise.shapes import Size


def peak_bytes(skeleton: nn.Module, size: Size, *, channels: int) -> int:
    """Bytes of all tensors that live at once, at most, while float32 images of this size pass.

    Without weights and without what libraries take for themselves inside an operator.

    Args:
        skeleton: on the meta device, as `geometry.copy_to_meta` gives it.
        size: height and width, which the network must take.
    """
    living = _Living()
    with torch.inference_mode(), living:
        skeleton(torch.empty(1, channels, *size, device="meta"))
    return living.peak


def streamed_peak_bytes(program: Program, strips: Iterable[Rows], *, channels: int) -> int:
    """The same while an image passes strip by strip.

    Args:
        program: of a skeleton.
        strips: as many as are to be tried; the first takes most, as all halos are filled for it.
    """
    width, living = program.shapes[0].sides[3], _Living()

    def read(rows: Rows) -> Tensor:
        return torch.empty(1, channels, rows[1] - rows[0], width, device="meta")

    with torch.inference_mode(), living:
        deque(program.run(read, list(strips)), maxlen=0)
    return living.peak


class _Living(OpObserver):
    """Counts the memory of the tensors that are made while it is active, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak: int = 0
        self._blocks: dict[int, tuple[StorageWeakRef, int]] = {}

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        for tensor in find_tensors(result):
            block = tensor.untyped_storage()
            self._blocks[block._cdata] = StorageWeakRef(block), block.nbytes()  # type: ignore[no-untyped-call]
        self._blocks = {key: kept for key, kept in self._blocks.items() if not kept[0].expired()}  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(num_bytes for _, num_bytes in self._blocks.values()))
