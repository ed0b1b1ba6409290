"""`pixelwise predict`: files, folders, globs and URLs in, one set of outputs per image or video out."""

import functools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, PixelwiseError, unknown_name
from pixelwise.inference.batching import Answer, Failure, predict_all
from pixelwise.inference.engine_selection import for_job
from pixelwise.inference.predictor import Predictor, Tiling, load
from pixelwise.inference.tta import require_transforms
from pixelwise.model_file import read_checksum, read_spec
from pixelwise.prediction.async_writer import told, written_behind
from pixelwise.prediction.channel_groups import join_channels
from pixelwise.prediction.executor import Place, Task
from pixelwise.prediction.inputs import Input, find_inputs
from pixelwise.prediction.job_shard import parse_shard
from pixelwise.prediction.manifest import JobRequest, begin, require_resumable
from pixelwise.prediction.output_writer import Job, Outputs, Written
from pixelwise.prediction.outputs import LabelValues, require_kinds
from pixelwise.prediction.rasters import needs_windows, predict_raster
from pixelwise.prediction.videos import Videos, num_images
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictReport:
    """What a prediction job did."""

    written: tuple[Path, ...]
    """Files, and of each video the folder of its frames."""
    failures: tuple[tuple[Path, str], ...]
    """Inputs that could not be done, each with its reason."""
    skipped: int = 0
    """Images whose files `resume` found complete."""


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    save: Sequence[str] = ("labels",),
    tiling: Tiling = "exact",
    label_values: LabelValues = "index",
    min_area: int = 0,
    fill_holes: bool = False,
    tta: Sequence[str] = (),
    resume: bool = False,
    shard: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    open_place: Callable[[], Place] | None = None,
) -> PredictReport:
    """Writes what `save` names (`outputs.WRITERS`, `outputs.JOB_FILES`) of every input image below `output`.

    TIFFs too large for memory, JPEG 2000, whole slides and OME-Zarr are read window by window (`rasters.py`), their
    labels a GeoTIFF or an OME-Zarr. A video gives a labeled video and a folder of its frames' outputs (`videos.py`).
    For a model that was trained on images of one file a channel, STEM_0000.png, STEM_0001.png, ... are the image STEM.
    One bad file never stops the rest: it is listed among the failures. A request that cannot be
    done at all (nothing to predict, two inputs with one name, an unknown output) is a InvalidArgumentError
    before anything is written.

    Args:
        tta: flips, rotations, scales: the mean over transformed images, as in `Predictor.predict`.
        min_area: pixels; smaller regions take the label of a neighbor, as `tidying.tidy` says.
        fill_holes: likewise. Both change labels and all that is made from them; probabilities,
            confidence and entropy stay what the network says.
        resume: passes over images all of whose files an equal request has written; where the folder
            holds results of another one, it is a InvalidArgumentError.
        shard: "2/8" does the second of eight shares of the images, as eight jobs beside each other do
            that share the output folder. Files on all images are left to a job with `resume` alone.
        open_place: gives other processes that do the work; they decide device, precision and engine.
    """
    folder = Path(output)
    part = None if shard is None else parse_shard(shard)
    outputs = Outputs(
        folder=folder,
        kinds=tuple(dict.fromkeys(save)),
        label_values=label_values,
        min_area=min_area,
        fill_holes=fill_holes,
    )
    if tiling not in get_args(Tiling):
        raise unknown_name("tiling", tiling, get_args(Tiling))
    require_transforms(tta)
    for option, given in (("--resume", resume), ("--shard", part), ("--cluster", open_place)):
        if given:
            require_resumable(outputs.kinds, label_values, option)
    able = outputs.only_labels and tiling == "exact" and not tta
    found, spec = find_inputs(inputs, folder, videos=True), read_spec(model)
    if spec.channel_files:
        found = join_channels(found, spec.channels)
    images = [replace(item, windowed=not (item.url or item.files) and needs_windows(item.path, able)) for item in found]
    outputs.require_free(images)
    if part is not None:
        images = part.of(images)
        logger.info(f"shard {part}: {len(images)} of {len(found)} inputs")
        if not images:
            return PredictReport(written=(), failures=())
    place = open_place() if open_place else _open_here(model, device, precision, engine, images)
    require_kinds(outputs.kinds, place.classes)
    if part is not None:
        outputs = outputs.of_images()
    job = Job(outputs=outputs, classes=place.classes)
    request = _request(model, outputs, place.precision, tiling=tiling, tta=tta, engine=engine)
    resumed = begin(folder, request, outputs.all_paths(images), resume=resume)
    done = {item for item in images if resumed and outputs.are_there(item)}
    task = Task(outputs=outputs, request=request, tiling=tiling, tta=tuple(tta), able=able, resume=resumed)
    fresh = place.work(task, job, [item for item in images if item not in done])
    return _gathered(job, images, done, fresh)


def _gathered(
    job: Job, images: Sequence[Input], done: Collection[Input], fresh: Iterator[Written | Exception]
) -> PredictReport:
    """What was done before and what is done now, put together in the order of the images."""
    written: list[Path] = []
    failures: list[tuple[Path, str]] = []
    for count, item in enumerate(images, start=1):
        outcome = Written((), None) if item in done else next(fresh)
        if isinstance(outcome, Written) and outcome.labeled is None and not outcome.added:
            outcome = _recalled(job, item, outcome.paths)
        if isinstance(outcome, Exception):
            failures.append((item.path, str(outcome)))
        else:
            written += outcome.paths
            job.add(outcome)
        report_progress("predict", count, len(images))
    next(fresh, None)  # past the last one, whoever has worked puts its things in order
    written += job.finish()
    return PredictReport(written=tuple(written), failures=tuple(failures), skipped=len(done))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """This process."""

    predictor: Predictor

    @property
    def classes(self) -> Classes:
        return self.predictor.classes

    @property
    def precision(self) -> Precision:
        return self.predictor.precision

    def work(self, task: Task, job: Job, images: Sequence[Input]) -> Iterator[Written | Exception]:
        return work_through(self.predictor, task, job, images)


def _open_here(model: str | Path, device: str, precision: str, engine: str, images: Sequence[Input]) -> _Here:
    predictor = load(model, device=device, precision=precision, engine=engine)
    if engine == "auto":
        predictor = for_job(predictor, model, num_images=sum(map(num_images, images)))
    return _Here(predictor=predictor)


def work_through(predictor: Predictor, task: Task, job: Job, images: Sequence[Input]) -> Iterator[Written | Exception]:
    """Predicts and writes images. What was written of each, or why nothing was, in their order."""
    decoded = [item for item in images if not (item.windowed or item.is_video)]
    fresh = written_behind(
        _predicted(predictor, decoded, task),
        lambda answer: job.write(answer.item, answer.image, answer.prediction),
    )
    windows = _Windows(predictor=predictor, task=task)
    videos = Videos(predictor=predictor, job=job, tiling=task.tiling, tta=task.tta)
    for item in images:
        if item.windowed:
            yield windows.write(item)
        elif item.is_video:
            yield videos.write(item)
        else:
            yield next(fresh)


def _request(
    model: str | Path, outputs: Outputs, precision: Precision, *, tiling: Tiling, tta: Sequence[str], engine: str
) -> JobRequest:
    """All that decides what the files hold."""
    settings = {
        "tiling": tiling,
        "label_values": outputs.label_values,
        "min_area": outputs.min_area,
        "fill_holes": outputs.fill_holes,
        "tta": sorted(set(tta)),
        "precision": precision,
        "engine": engine,  # as asked for: what "auto" takes gives the same labels
    }
    return JobRequest(model=read_checksum(model), settings=settings)


def _predicted(
    predictor: Predictor, images: Sequence[Input], task: Task
) -> Iterator[Answer[Input, None] | Failure[Input]]:
    """What the model says of each image, or why it says nothing."""

    def read(item: Input) -> tuple[Array, None]:
        return item.read(predictor.spec.channels), None

    outcomes = predict_all(
        predictor,
        images,
        read,
        tiling=task.tiling,
        keep_logits=task.outputs.need_probabilities,
        tta=task.tta,
        name=lambda item: item.name,
    )
    return told(outcomes, task.tiling, lambda item, words: logger.info(f"{item.name}: {words}"))


def _recalled(job: Job, item: Input, paths: tuple[Path, ...]) -> Written | Exception:
    try:
        return job.recall(item, paths)
    except (PixelwiseError, OSError) as error:
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The images of a job that are never in memory as a whole."""

    predictor: Predictor
    task: Task

    def write(self, item: Input) -> Written | Exception:
        if not self.task.able:
            return InvalidArgumentError(
                f"{item.name}: is read window by window, which gives labels alone; ask for --save labels, without "
                f"--tiling, --label-values, --min-area, --fill-holes and --tta."
            )
        target = self.task.outputs.paths(item)["labels"]
        request, track = self.task.request.to_dict(), functools.partial(report_progress, item.path.name)
        try:
            predict_raster(self.predictor, item.path, target, request=request, resume=self.task.resume, track=track)
        except (PixelwiseError, OSError) as error:
            return error
        return Written((target,), None)
