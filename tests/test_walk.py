"""How many functions a reader passes on the way of one image, as numbers that must not grow.

A stop is a function of more than four lines of source that is entered, counted once. A return is a stop in a file that
was left before. Both are counted along the functions in the order in which they are first entered, in all threads.

`predict`: from `api.predict` to the label file of one PNG. Stops are the functions of `api`, `prediction` and
`inference`, which decide what happens. What they use counts as one stop per destination, without its inner functions:

- the options: `OutputWriter` and `PredictionOptions` check theirs when they are made;
- the model: reading the model file, its config, and choosing device, precision and engine (`inference.predictor.load`);
- the image file: everything in `data` that decodes and encodes it, and `files`;
- the network: everything below `Predictor.predict_array`, which are the network, its operators, its geometry,
  batch-norm fusion and tiling.

They were twelve. The options are a stop since some exclude others, and `find_conflicts` is one since a name that two
inputs share is a failure of these inputs, not of the request.

`train`: from `api.train` to the first optimizer step, of a new run with a given config and `--steps`. Stops are the
functions of `api`, `planning` and `training` whose body has more than four lines of code, without docstring, comments
and signature. Destinations:

- the options: `api/train_options.py` and the config, where arguments become a config;
- the dataset: everything below `prepare_data`, which opens, scans, splits and checks it;
- the run folder: its paths, checkpoints and inventory, written by `write_description`;
- the model: the network with its operators, the loss and initial weights;
- the optimizer: optimizer, learning rate and averaged weights;
- the log: metrics.jsonl, loggers and the live page;
- the processes: the process group, decisions and signals.

Other packages (`errors`, `progress`, `shapes`) are not counted. `Walk.all_functions` counts every function of the
package with more than four lines without these rules: 174 before the roles of `predict` were merged, 141 after, and 176
since outputs have an owner and a manifest, and images have missing data, stacks and a place on the map.
"""

import ast
import inspect
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import pixelwise
from pixelwise.api import predict, train
from pixelwise.config import Config
from pixelwise.data.io.images import write_png

ROOT = Path(pixelwise.__file__).parent
MAX_LINES = 4


@dataclass
class Walk:
    """The functions of the package that were entered, in order, each with the destination that it belongs to."""

    destination_of: Callable[[str, str, bool], str | None]
    """(file, function, whether it is a caller) → the destination that is entered there, or None."""
    count_lines: Callable[[Any], int] = lambda code: len(inspect.getsourcelines(code)[0])
    """Code object → its length."""
    entered: list[tuple[str, str, str | None]] = field(default_factory=list)
    """File, function and destination."""
    lines: dict[Any, int] = field(default_factory=dict)

    def record(self, frame: FrameType, event: str, argument: object) -> None:
        """Receive an event of `sys.setprofile`."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        if code not in self.lines:
            self.lines[code] = self.count_lines(code)
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
def trace(destination_of: Callable[[str, str, bool], str | None], *arguments: Any) -> Iterator[Walk]:
    """Record the functions that are entered inside the block, in this thread and in those that it starts."""
    walk = Walk(destination_of, *arguments)
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
    if is_caller and name == "Predictor.predict_array":
        return "the network"
    if name in ("OutputWriter.__post_init__", "PredictionOptions.__post_init__"):
        return "the options"
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
    assert len(path) <= 14, "\n".join(map(str, path))
    assert count_returns(path) <= 4, "\n".join(map(str, path))
    assert len(walk.all_functions) <= 180, len(walk.all_functions)


TRAIN_DESTINATIONS: Mapping[str, str] = {
    "api/train_options.py": "the options",
    "config.py": "the options",
    "planning/prepare_data.py": "the dataset",
    "data/": "the dataset",
    "checks/": "the dataset",
    "training/run_dir.py": "the run folder",
    "training/checkpoint.py": "the run folder",
    "api/config_diff.py": "the run folder",
    "files.py": "the run folder",
    "training/optimizers.py": "the optimizer",
    "training/metrics_log.py": "the log",
    "training/live_report.py": "the log",
    "training/loggers.py": "the log",
    "training/distributed.py": "the processes",
    "training/signals.py": "the processes",
    "networks/": "the model",
    "ops/": "the model",
    "losses/": "the model",
    "model_file.py": "the model",
}


def find_train_destination(file: str, name: str, is_caller: bool) -> str | None:
    if name == "write_description" or (name == "explain_disk_errors" and not is_caller):
        return "the run folder"
    if name in ("load_initial_weights", "require_trainable"):
        return "the model"
    if is_caller and name in ("World.call_on_first", "explain_disk_errors", "open_world"):
        return None  # they call what the path continues with
    return next((where for prefix, where in TRAIN_DESTINATIONS.items() if file.startswith(prefix)), None)


def count_body_lines(code: Any) -> int:
    """Count the lines of code of a function, without docstring, comments and signature."""
    source = textwrap.dedent("".join(inspect.getsourcelines(code)[0]))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = source.splitlines()[body[0].lineno - 1 :] if body else []
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


def test_the_way_of_a_sample_through_train(streets: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(Config().replace(tiny["settings"]).to_yaml())
    options = {"config": tmp_path / "config.yaml", "steps": 1, "device": "cpu"}
    train(streets, tmp_path / "first", **options)  # imports
    with trace(find_train_destination, count_body_lines) as walk:
        train(streets, tmp_path / "run", **options)
    stops = walk.stops(("api", "planning", "training"))
    end = next(index for index, (_, name) in enumerate(stops) if name == "accumulate_gradients")
    path = stops[: end + 1]  # the optimizer follows
    assert len(path) <= 18, path
    assert count_returns(path) <= 3, path
    entered = walk.all_functions
    end = next(index for index, (_, name) in enumerate(entered) if name == "accumulate_gradients")
    assert end <= 265, end
