"""What becomes of predictions: told of, then encoded and written behind the network, in their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pixelwise.errors import PixelwiseError
from pixelwise.inference.batching import Answer, Failure
from pixelwise.inference.predictor import Tiling

Item = TypeVar("Item")
Done = TypeVar("Done")

BEHIND = 8
"""Predictions that may wait to be written; a batch of small ones."""
BEHIND_PIXELS = 8 << 20
"""Of images that may wait to be written, beyond the one: each keeps its pixels and its answer."""


def told(
    outcomes: Iterable[Answer[Item, None] | Failure[Item]],
    tiling: Tiling,
    tell: Callable[[Item, str], None],
) -> Iterator[Answer[Item, None] | Failure[Item]]:
    """The same outcomes; `tell` hears of each answer whose tiles were blended how well that went."""
    why = "as asked for" if tiling == "blend" else "as this network sees the whole image and has no exact ones"
    for outcome in outcomes:
        if isinstance(outcome, Answer) and outcome.prediction.seam_score is not None:
            tell(outcome.item, f"tiles are blended, {why}; seam score {outcome.prediction.seam_score:.2f}")
        yield outcome
        del outcome


def written_behind(
    outcomes: Iterable[Answer[Item, None] | Failure[Item]], write: Callable[[Answer[Item, None]], Done]
) -> Generator[Done | Exception, None, None]:
    """What `write` gave of each answer, or why there is nothing; encoded and written in threads, in their order."""
    behind: deque[tuple[Future[Done] | Exception, int]] = deque()

    def first() -> Done | Exception:
        future = behind.popleft()[0]
        if isinstance(future, Exception):
            return future
        try:
            return future.result()
        except (PixelwiseError, OSError) as error:
            return error

    with ThreadPoolExecutor(2, thread_name_prefix="encode") as pool:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                behind.append((outcome.error, 0))
            else:
                behind.append((pool.submit(write, outcome), outcome.prediction.labels.size))
            del outcome
            while len(behind) > BEHIND or (len(behind) > 1 and sum(size for _, size in behind) > BEHIND_PIXELS):
                yield first()
        while behind:
            yield first()
