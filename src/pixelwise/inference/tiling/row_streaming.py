"""A network that takes an image strip by strip, each layer keeping the rows that its next strip needs.

Tiles compute what lies in their halos again. Here nothing is computed twice: rows of the image go in at the
top, and each layer computes the rows that became possible and no more. What later rows still need is kept,
all else is freed: memory grows with the width of the image and with the halo, not with the height. Hardware
knows it as line buffers, and as layer fusion (Alwani et al., "Fused-Layer CNN Accelerators", MICRO 2016).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pixelwise.inference.tiling.row_ops import Rows, Shape, Step
from pixelwise.shapes import round_up


@dataclass(frozen=True, slots=True)
class Program:
    """A network as steps from map 0, which is its image, to its output, for images of one size."""

    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]
    """Of all maps, by their numbers."""
    output: int

    def run(self, read: Callable[[Rows], Tensor], strips: Sequence[Rows]) -> Iterator[Tensor]:
        """(1, K, h, W) of the output for each of `strips`, which are in order and do not overlap.

        Args:
            read: gives (1, C, h, W) of the image; asked for all of its rows in order, each once.
        """
        kept = [_Kept(shape.dim) for shape in self.shapes]
        readers = [[step for step in self.steps if index in step.inputs] for index in range(len(self.shapes))]

        def take(index: int, rows: Rows) -> Tensor:
            return kept[index].take(rows)

        def room(index: int, like: Tensor, sides: list[int]) -> Tensor | None:
            return kept[index].room(like, sides)

        def forget(index: int) -> None:
            needed = [step.needs_from(kept[step.outputs[0]].stop) for step in readers[index]]
            if index != self.output:
                kept[index].forget(min(needed, default=kept[index].stop))

        for strip in strips:
            for due in self._due(kept, strip[1]):
                if due.step is None:
                    kept[0].add(read(due.rows))
                    continue
                results = due.step.run(due.rows, take, room)
                for index in due.step.outputs:
                    kept[index].add(results.pop(0))  # so that nothing here holds what is forgotten below
                for index in (*due.step.inputs, *due.step.outputs):
                    forget(index)
            yield kept[self.output].take(strip)
            kept[self.output].forget(strip[1])

    def _due(self, kept: Sequence["_Kept"], stop: int) -> list["_Due"]:
        """What is to be computed, in order, so that the output has its rows up to `stop`."""
        wanted = [0] * len(self.shapes)
        wanted[self.output] = stop
        due: list[_Due] = []
        for step in reversed(self.steps):
            done = kept[step.outputs[0]].stop
            # Whole turns of its pattern, so that no part of one is computed twice.
            until = min(round_up(max(wanted[index] for index in step.outputs), step.turn), step.made.rows)
            if until > done:
                due.append(_Due(step, (done, until)))
                _, last = step.needs((done, until))
                for index in step.inputs:
                    wanted[index] = max(wanted[index], last)
        if wanted[0] > kept[0].stop:
            due.append(_Due(None, (kept[0].stop, wanted[0])))
        return due[::-1]


@dataclass(frozen=True, slots=True)
class _Due:
    step: Step | None
    """None: rows of the image are to be read."""
    rows: Rows


@dataclass(slots=True)
class _Kept:
    """The rows of one map that are still needed."""

    dim: int
    stop: int = 0
    """How many rows there were, from the map's first on."""
    pieces: deque[Tensor] = field(default_factory=deque)
    """Of rows up to `stop`, one after the other."""
    given: Tensor | None = None
    """Rows of the last piece, behind `stop`, that are being filled."""

    def add(self, piece: Tensor) -> None:
        if piece is not self.given:
            self.pieces.append(piece)
        self.stop += piece.shape[self.dim]
        self.given = None

    def room(self, like: Tensor, sides: list[int]) -> Tensor | None:
        """Memory for rows right behind those that are there, to be filled and then added.

        None where it would move more rows than it saves from being moved, and for maps of another form.
        """
        there, count = sum(piece.shape[self.dim] for piece in self.pieces), sides[self.dim]
        if not 0 < there <= count or not like.is_contiguous(memory_format=torch.channels_last):
            return None
        sides = [*sides]
        sides[self.dim] = there + count
        whole = torch.empty(sides, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        whole.narrow(self.dim, 0, there).copy_(self.take((self.stop - there, self.stop)))
        self.pieces = deque([whole])
        self.given = whole.narrow(self.dim, there, count)
        return self.given

    def take(self, rows: Rows) -> Tensor:
        """Without a copy where they lie in one piece."""
        found, end = [], self.stop
        for piece in reversed(self.pieces):
            begin = end - piece.shape[self.dim]
            first, last = max(rows[0], begin), min(rows[1], end)
            if first < last:
                found.append(piece.narrow(self.dim, first - begin, last - first))
            end = begin
        return found[0] if len(found) == 1 else torch.cat(found[::-1], self.dim)

    def forget(self, before: int) -> None:
        """Rows before this one are not needed any more."""
        begin = self.stop - sum(piece.shape[self.dim] for piece in self.pieces)
        while self.pieces and begin + self.pieces[0].shape[self.dim] <= before:
            begin += self.pieces.popleft().shape[self.dim]
        if self.pieces and begin < before:
            first = self.pieces.popleft()
            rest = first.narrow(self.dim, before - begin, begin + first.shape[self.dim] - before)
            # A copy where only a few rows are left of what would be held for them.
            held = first.untyped_storage().nbytes()
            self.pieces.appendleft(rest.clone() if 2 * rest.nbytes < held else rest)
