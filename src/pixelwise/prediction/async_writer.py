"""Encode and write predictions in background threads, in order."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pixelwise.errors import PixelwiseError
from pixelwise.inference.batching import Failure, PredictedImage
from pixelwise.inference.predictor import Tiling

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PENDING = 8
"""Predictions that may wait to be written: a batch of small ones."""
MAX_PENDING_PIXELS = 8 << 20
"""Total pixels of the images that may wait, if there are several: each keeps its image and its prediction."""


def write_in_background(
    predicted: Iterable[PredictedImage[Item, None] | Failure[Item]],
    write: Callable[[PredictedImage[Item, None]], Result],
) -> Generator[Result | Exception, None, None]:
    """Call `write` for each predicted image in threads; yields its result or the error, in order."""
    predictions = iter(predicted)
    pending: deque[tuple[Future[Result] | Exception, int]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="encode") as pool:
        while True:
            while len(pending) <= MAX_PENDING:
                if len(pending) > 1 and sum(pixels for _, pixels in pending) > MAX_PENDING_PIXELS:
                    break
                one = next(predictions, None)
                if one is None:
                    break
                if isinstance(one, Failure):
                    pending.append((one.error, 0))
                else:
                    pending.append((pool.submit(write, one), one.prediction.labels.size))
                del one  # the image and its logits belong to the thread
            if not pending:
                return
            first, _ = pending.popleft()
            try:
                result = first if isinstance(first, Exception) else first.result()
            except (PixelwiseError, OSError) as error:
                result = error
            yield result


def log_blending(name: str, seam_score: float, tiling: Tiling) -> None:
    """Log that the tiles of an image were blended, why, and how visible their seams are."""
    reason = "requested" if tiling == "blend" else "the network has a global receptive field, so no tile is exact"
    logger.info(f"{name}: tiles were blended ({reason}); seam score: {seam_score:.2f}")
