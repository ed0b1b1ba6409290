"""Many images through one predictor: decoded ahead, in batches of one size, answered in their order."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError, PixelwiseError
from pixelwise.inference.predictor import Prediction, Predictor, Tiling

Item = TypeVar("Item")
Extra = TypeVar("Extra")

AHEAD = 4
"""Images that are decoded ahead of their use, at least; of small ones two batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Item, Extra]):
    """What became of one image."""

    item: Item
    image: Array
    extra: Extra
    """What was read with the image, such as its labels."""
    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Generic[Item]):
    """An image that could not be read or predicted."""

    item: Item
    error: PixelwiseError | OSError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read(Generic[Item, Extra]):
    item: Item
    image: Array
    extra: Extra
    batch: int
    """How many images like this one are predicted at once."""


def predict_all(
    predictor: Predictor,
    items: Iterable[Item],
    read: Callable[[Item], tuple[Array, Extra]],
    *,
    tiling: Tiling = "exact",
    keep_logits: bool = False,
    tta: Sequence[str] = (),
    name: Callable[[Item], object] = str,
) -> Iterator[Answer[Item, Extra] | Failure[Item]]:
    """One answer or failure for each item, in their order, as from `predictor.predict` one by one.

    In float32 on the CPU they are the same bit for bit; in batches they differ by rounding.

    Args:
        items: taken as they are needed, so there may be any number; an error of theirs ends all.
        read: gives the image and what else belongs to it; called in threads. It may raise
            PixelwiseError or OSError.
        tiling, keep_logits, tta: as for `predict`. Images that are small enough to share a batch are
            taken whole anyway; augmented ones go alone.
        name: what an error calls the item.
    """
    waiting: list[_Read[Item, Extra]] = []

    def answered() -> Iterator[Answer[Item, Extra] | Failure[Item]]:
        try:
            if len(waiting) > 1:
                predictions = predictor.predict_alike([one.image for one in waiting], keep_logits=keep_logits)
            else:
                image = waiting[0].image
                predictions = [predictor.predict(image, tiling=tiling, keep_logits=keep_logits, tta=tta)]
        except PixelwiseError as error:
            for one in waiting:
                failure = InvalidArgumentError(f"{name(one.item)}: {error}")
                failure.__cause__ = error
                yield Failure(item=one.item, error=failure)
        else:
            for one, prediction in zip(waiting, predictions, strict=True):
                yield Answer(item=one.item, image=one.image, extra=one.extra, prediction=prediction)
        waiting.clear()

    for found in _read_ahead(predictor, items, read, name):
        if waiting and not _joins(found, waiting):
            yield from answered()
        if isinstance(found, Failure):
            yield found
            continue
        waiting.append(found)
        if tta or len(waiting) >= found.batch:
            yield from answered()
    if waiting:
        yield from answered()


def _joins(found: _Read[Item, Extra] | Failure[Item], waiting: Sequence[_Read[Item, Extra]]) -> bool:
    return isinstance(found, _Read) and found.image.shape == waiting[0].image.shape


def _read_ahead(
    predictor: Predictor,
    items: Iterable[Item],
    read: Callable[[Item], tuple[Array, Extra]],
    name: Callable[[Item], object],
) -> Iterator[_Read[Item, Extra] | Failure[Item]]:
    """Each item as read, a few ahead of their use: of large images few, as each takes memory."""
    ahead = AHEAD
    upcoming = iter(items)
    reading: deque[tuple[Item, Future[tuple[Array, Extra]]]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        try:
            while True:
                for item in itertools.islice(upcoming, max(ahead - len(reading), 0)):
                    reading.append((item, pool.submit(read, item)))
                if not reading:
                    return
                item, future = reading.popleft()
                found = _checked(predictor, item, future, name)
                if isinstance(found, _Read):
                    ahead = max(AHEAD, 2 * found.batch)
                yield found
        finally:  # whoever stops listening does not wait for images that nobody will see
            for _, future in reading:
                future.cancel()


def _checked(
    predictor: Predictor, item: Item, future: Future[tuple[Array, Extra]], name: Callable[[Item], object]
) -> _Read[Item, Extra] | Failure[Item]:
    try:
        image, extra = future.result()
    except (PixelwiseError, OSError) as error:
        return Failure(item=item, error=error)
    try:
        predictor.checked(image)
    except PixelwiseError as error:
        failure = InvalidArgumentError(f"{name(item)}: {error}")
        failure.__cause__ = error
        return Failure(item=item, error=failure)
    return _Read(item=item, image=image, extra=extra, batch=predictor.batch_size((image.shape[0], image.shape[1])))
