"""`pixelwise predict`: files, folders and globs in, one set of outputs per image out."""

import glob
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pixelwise.data.images import ENDINGS, Array, read_image
from pixelwise.errors import PixelwiseError, RequestError, unknown_name
from pixelwise.inference.batches import Answer, Failure, predict_all
from pixelwise.inference.outputs import WRITERS, Coding
from pixelwise.inference.predictor import Prediction, Predictor, Tiling, load
from pixelwise.progress import Progress, Silent

BEHIND = 8
"""Predictions that may wait to be written; a batch of small ones."""
BEHIND_PIXELS = 8 << 20
"""Of images that may wait to be written, beyond the one: each keeps its pixels and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictReport:
    """What a prediction job did."""

    written: tuple[Path, ...]
    failures: tuple[tuple[Path, str], ...]
    """Inputs that could not be done, each with its reason."""


@dataclass(frozen=True, slots=True, order=True)
class Input:
    """One image and where its outputs go: the folder structure and the stem are kept."""

    path: Path
    stem: Path


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    save: Sequence[str] = ("labels",),
    tiling: Tiling = "exact",
    coding: Coding = "index",
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
) -> PredictReport:
    """Writes `labels`, `overlay` and/or `probabilities` of every input image below `output`.

    One bad file never stops the rest: it is listed among the failures. A request that cannot be
    done at all (nothing to predict, two inputs with one name, an unknown output) is a RequestError
    before anything is written.
    """
    progress = progress or Silent()
    kinds = list(dict.fromkeys(save))
    if not kinds:
        raise RequestError(f"nothing to save; name at least one of: {', '.join(sorted(WRITERS))}.")
    for kind in kinds:
        if kind not in WRITERS:
            raise unknown_name("output", kind, WRITERS)
    if tiling not in get_args(Tiling):
        raise unknown_name("tiling", tiling, get_args(Tiling))
    if coding not in ("index", "data"):
        raise unknown_name("coding", coding, ("index", "data"))
    images = find_inputs(inputs, Path(output))
    _require_distinct(images, kinds)
    _require_no_input(images, Path(output), kinds)
    predictor = load(model, device=device, precision=precision)
    written: list[Path] = []
    failures: list[tuple[Path, str]] = []

    def write(item: Input, image: Array, prediction: Prediction) -> list[Path]:
        return _write(prediction, predictor, item, image, Path(output), kinds, coding)

    outcomes = _answers(predictor, images, tiling, kinds)
    for done, (item, outcome) in enumerate(_written_behind(outcomes, write, progress, tiling), start=1):
        if isinstance(outcome, Exception):
            failures.append((item.path, str(outcome)))
        else:
            written += outcome
        progress.track("predict", done, len(images))
    return PredictReport(written=tuple(written), failures=tuple(failures))


def find_inputs(inputs: Sequence[str | Path], output: Path | None = None) -> list[Input]:
    """Files, folders (recursively) and globs → images in a fixed order. Nothing found is an error.

    An `output` folder inside an input folder is passed over: results are no inputs.
    """
    found: dict[Path, Input] = {}
    for given in inputs:
        matches = [item for item in _expand(str(given)) if not _is_result(item, Path(given), output)]
        if not matches:
            raise RequestError(
                f"{given} is no image, no folder with images and no pattern that matches one; "
                f"images end in {', '.join(ENDINGS)}."
            )
        for item in matches:  # a pattern such as photos/** names the folder before what is in it
            found.setdefault(item.path, item)
    return sorted(found.values())


def _is_result(item: Input, given: Path, output: Path | None) -> bool:
    if output is None or not given.is_dir():
        return False
    folder, inside = output.resolve(), item.path.resolve()
    return folder != given.resolve() and given.resolve() in folder.parents and folder in inside.parents


def _expand(given: str) -> Iterator[Input]:
    path = Path(given)
    if path.is_dir():
        yield from _inside(path)
    elif path.exists():
        yield Input(path, Path(path.stem))
    else:
        for match in map(Path, glob.iglob(given, recursive=True)):
            if match.is_dir():
                yield from _inside(match)
            elif match.suffix.lower() in ENDINGS:
                yield Input(match, Path(match.stem))


def _inside(folder: Path) -> Iterator[Input]:
    """Every image below a folder; hidden files and folders are the system's, not the user's."""
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if path.suffix.lower() in ENDINGS and not hidden and not path.is_dir():
            yield Input(path, inner.with_suffix(""))


def _require_no_input(images: Sequence[Input], output: Path, kinds: Sequence[str]) -> None:
    """No output may replace an image that it is made from."""
    given = {item.path.resolve() for item in images}
    for item in images:
        for kind in kinds:
            path = output / _output_name(item, kind)
            if path.resolve() in given:
                raise RequestError(
                    f"the {kind} of {item.path} would replace the image {path}; choose another folder with -o."
                )


def _output_name(item: Input, kind: str) -> Path:
    return item.stem.with_name(item.stem.name + WRITERS[kind][0])


def _require_distinct(images: Iterable[Input], kinds: Sequence[str]) -> None:
    """No two outputs may have one name; said before anything is written."""
    owners: dict[Path, Path] = {}
    for item in images:
        for kind in kinds:
            name = _output_name(item, kind)
            if name in owners:
                raise RequestError(
                    f"{owners[name]} and {item.path} would both be written to {name}; "
                    f"rename one, or predict them into different folders."
                )
            owners[name] = item.path


_Outcome = Answer[Input, None] | Failure[Input]


def _answers(predictor: Predictor, images: Sequence[Input], tiling: Tiling, kinds: Sequence[str]) -> Iterator[_Outcome]:
    def read(item: Input) -> tuple[Array, None]:
        return read_image(item.path, predictor.spec.channels), None

    keep_logits = "probabilities" in kinds
    return predict_all(predictor, images, read, tiling=tiling, keep_logits=keep_logits, name=lambda item: item.path)


def _written_behind(
    outcomes: Iterable[_Outcome],
    write: Callable[[Input, Array, Prediction], list[Path]],
    progress: Progress,
    tiling: Tiling,
) -> Iterator[tuple[Input, list[Path] | Exception]]:
    """What was written for each input, or why nothing was; encoded and written in threads, in their order."""
    behind: deque[tuple[Input, Future[list[Path]] | Exception, int]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="encode") as pool:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                behind.append((outcome.item, outcome.error, 0))
            else:
                item, prediction = outcome.item, outcome.prediction
                if prediction.seam_score is not None:
                    progress.say(f"{item.path}: {_blended_words(tiling)}; seam score {prediction.seam_score:.2f}")
                future = pool.submit(write, item, outcome.image, prediction)
                behind.append((item, future, prediction.labels.size))
            del outcome
            while len(behind) > BEHIND or (len(behind) > 1 and sum(size for *_, size in behind) > BEHIND_PIXELS):
                yield _finished(*behind.popleft()[:2])
        while behind:
            yield _finished(*behind.popleft()[:2])


def _finished(item: Input, outcome: Future[list[Path]] | Exception) -> tuple[Input, list[Path] | Exception]:
    if isinstance(outcome, Exception):
        return item, outcome
    try:
        return item, outcome.result()
    except (PixelwiseError, OSError) as error:
        return item, error


def _blended_words(tiling: Tiling) -> str:
    why = "as asked for" if tiling == "blend" else "as this network sees the whole image and has no exact ones"
    return f"tiles are blended, {why}"


def _write(
    prediction: Prediction,
    predictor: Predictor,
    item: Input,
    image: Array,
    output: Path,
    kinds: Sequence[str],
    coding: Coding,
) -> list[Path]:
    paths = []
    for kind in kinds:
        _, write = WRITERS[kind]
        path = output / _output_name(item, kind)
        write(path, image, prediction, predictor.classes, coding)
        paths.append(path)
    return paths
