"""Predict many images: decode ahead in threads, and predict images of one size in batches."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError, PixelwiseError
from pixelwise.inference.predictor import Prediction, PredictionOptions, Predictor

Item = TypeVar("Item")
Extra = TypeVar("Extra")

MIN_AHEAD = 4
"""Images that are decoded before they are needed, at least; two batches of small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedImage(Generic[Item, Extra]):
    """An image and its prediction."""

    item: Item
    image: Array
    extra: Extra
    """Data that was read with the image, such as its labels."""
    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Generic[Item]):
    """An image that could not be read or predicted."""

    item: Item
    error: PixelwiseError | OSError


def predict_all(
    predictor: Predictor,
    items: Iterable[Item],
    read: Callable[[Item], tuple[Array, Extra]],
    *,
    options: PredictionOptions = PredictionOptions(),  # noqa: B008 - it is frozen
    keep_logits: bool = False,
    name: Callable[[Item], object] = str,
) -> Generator[PredictedImage[Item, Extra] | Failure[Item], None, None]:
    """Predict every item, in their order, with the results of `predictor.predict` for each.

    In float32 on the CPU the results are equal bit for bit. In batches they differ by rounding.

    Args:
        items: consumed as needed, so there may be any number. Errors of the iterable are raised.
        read: returns an image and its extra data; called in threads. It may raise PixelwiseError or OSError.
        options, keep_logits: as for `predict`. Images that are small enough for a batch are always predicted as a
            whole, and one by one with `tta` and `samples`.
        name: returns the name of an item for errors.
    """
    upcoming, ahead, num_single = iter(items), MIN_AHEAD, 0
    reading: deque[tuple[Item, Future[tuple[Array, Extra]]]] = deque()

    def fill() -> bool:
        for item in itertools.islice(upcoming, max(ahead - len(reading), 0)):
            reading.append((item, pool.submit(read, item)))
        return bool(reading)

    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        try:
            while fill():
                item, future = reading.popleft()
                fault = future.exception()
                if isinstance(fault, PixelwiseError | OSError):
                    yield Failure(item=item, error=fault)
                    continue
                shape = future.result()[0].shape
                limit = 1 if options.is_single or num_single > 0 else predictor.choose_batch_size((shape[0], shape[1]))
                num_single -= 1
                ahead = max(MIN_AHEAD, 2 * limit)  # few large images, because each takes memory
                batch = [(item, future)]
                while len(batch) < limit and fill() and _has_shape(reading[0][1], shape):
                    batch.append(reading.popleft())
                images = [future.result()[0] for _, future in batch]
                try:
                    if len(batch) > 1:
                        predictions = predictor.predict_images(images, keep_logits=keep_logits)
                    else:
                        predictions = [predictor.predict_array(images[0], options, keep_logits=keep_logits)]
                except PixelwiseError as error:
                    if len(batch) > 1:  # predict them one by one, so that only the image at fault fails
                        num_single = len(batch)
                        reading.extendleft(reversed(batch))
                    else:
                        yield Failure(item=item, error=InvalidArgumentError(f"{name(item)}: {error}"))
                    continue
                for item, future in batch:
                    image, extra = future.result()
                    yield PredictedImage(item=item, image=image, extra=extra, prediction=predictions.pop(0))
        finally:  # do not decode images that nobody will use
            for _, future in reading:
                future.cancel()


def _has_shape(future: Future[tuple[Array, Extra]], shape: tuple[int, ...]) -> bool:
    return future.exception() is None and future.result()[0].shape == shape
