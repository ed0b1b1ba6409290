"""How many functions a reader passes on the way of one image, as numbers that must not grow.

A stop is a function of more than four lines of source that is entered, counted once. A return is a stop in a file that
was left before. Both are counted along the functions in the order in which they are first entered, in all threads.

`predict`: from `api.predict` to the label file of one PNG. Stops are the functions of `api`, `prediction` and
`inference`, which decide what happens. What they use counts as one stop per destination, without its inner functions:

- the model: reading the model file, its config, and choosing device, precision and engine (`inference.predictor.load`);
- the image file: everything in `data` that decodes and encodes it, and `files`;
- the network: everything below `Predictor.predict`, which are the network, its operators, its geometry, batch-norm
  fusion and tiling.

Other packages (`errors`, `progress`, `shapes`) are not counted. `Walk.all_functions` counts every function of the
package with more than four lines without these rules: 174 before the roles of `predict` were merged, 141 after.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import pixelwise
from pixelwise.api import predict
from pixelwise.data.io.images import write_png

ROOT = Path(pixelwise.__file__).parent
MAX_LINES = 4


@dataclass
class Walk:
    """The functions of the package that were entered, in order, each with the destination that it belongs to."""

    destination_of: Callable[[str, str, bool], str | None]
    """(file, function, whether it is a caller) → the destination that is entered there, or None."""
    entered: list[tuple[str, str, str | None]] = field(default_factory=list)
    """File, function and destination."""
    lines: dict[Any, int] = field(default_factory=dict)

    def record(self, frame: FrameType, event: str, argument: object) -> None:
        """Receive an event of `sys.setprofile`."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        if code not in self.lines:
            self.lines[code] = len(inspect.getsourcelines(code)[0])
        if self.lines[code] > MAX_LINES:
            self.entered.append((*_locate(frame), self._find_destination(frame)))

    def _find_destination(self, frame: FrameType) -> str | None:
        """Return the outermost destination among a function and its callers."""
        outermost = self.destination_of(*_locate(frame), False)
        caller = frame.f_back
        while caller is not None:
            if caller.f_code.co_filename.startswith(str(ROOT)):
                outermost = self.destination_of(*_locate(caller), True) or outermost
            caller = caller.f_back
        return outermost

    @property
    def all_functions(self) -> list[tuple[str, str]]:
        """Return every function that was entered, once."""
        return list(dict.fromkeys((file, name) for file, name, _ in self.entered))

    def stops(self, packages: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the functions of `packages`, and each destination instead of the functions below it."""
        stops = []
        for file, name, destination in self.entered:
            if destination is not None:
                stops.append((destination, ""))
            elif file.partition("/")[0] in packages:
                stops.append((file, name))
        return list(dict.fromkeys(stops))


def _locate(frame: FrameType) -> tuple[str, str]:
    return Path(frame.f_code.co_filename).relative_to(ROOT).as_posix(), frame.f_code.co_qualname


def count_returns(stops: list[tuple[str, str]]) -> int:
    """Count the stops in files that were left before."""
    left: set[str] = set()
    returns, previous = 0, ""
    for file, _ in stops:
        if file != previous:
            returns += file in left
            left.add(previous)
        previous = file
    return returns


@contextmanager
def trace(destination_of: Callable[[str, str, bool], str | None]) -> Iterator[Walk]:
    """Record the functions that are entered inside the block, in this thread and in those that it starts."""
    walk = Walk(destination_of)
    threading.setprofile(walk.record)
    sys.setprofile(walk.record)
    try:
        yield walk
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


PREDICT_DESTINATIONS: Mapping[str, str] = {
    "model_file.py": "the model",
    "data/": "the image file",
    "files.py": "the image file",
}


def find_predict_destination(file: str, name: str, is_caller: bool) -> str | None:
    if (file, name) == ("inference/predictor.py", "load"):
        return "the model"
    if is_caller and name == "Predictor.predict":
        return "the network"
    return next((where for prefix, where in PREDICT_DESTINATIONS.items() if file.startswith(prefix)), None)


def test_returns_are_stops_in_files_that_were_left() -> None:
    assert count_returns([("a", "1"), ("a", "2"), ("b", "1"), ("a", "3"), ("b", "2"), ("b", "3")]) == 2
    assert count_returns([("a", "1"), ("b", "1"), ("c", "1")]) == 0


def test_the_way_of_an_image_through_predict(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "m")
    write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    predict(model, [tmp_path / "a.png"], tmp_path / "first", device="cpu")  # imports, and caches of geometry
    with trace(find_predict_destination) as walk:
        report = predict(model, [tmp_path / "a.png"], tmp_path / "out", device="cpu")
    assert report.written == (tmp_path / "out" / "a.png",)
    stops = walk.stops(("api", "prediction", "inference"))
    end = next(index for index, (_, name) in enumerate(stops) if name == "OutputWriter.write")
    path = stops[: end + 1]  # it ends with the label file
    assert len(path) <= 12, path
    assert count_returns(path) <= 4, path
    assert len(walk.all_functions) <= 145
