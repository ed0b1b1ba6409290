"""`pixelwise predict`: files, folders, globs and URLs in, one set of outputs per image or video out."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pixelwise.data.images import Array
from pixelwise.errors import PixelwiseError, RequestError, unknown_name
from pixelwise.inference.batches import Answer, Failure, predict_all
from pixelwise.inference.behind import told, written_behind
from pixelwise.inference.engine_choice import for_job
from pixelwise.inference.inputs import Input, find_inputs
from pixelwise.inference.job import Job, Outputs, Written
from pixelwise.inference.outputs import Coding
from pixelwise.inference.predictor import Predictor, Tiling, load
from pixelwise.inference.rasters import needs_windows, predict_raster
from pixelwise.inference.resume import JobRequest, begin, require_resumable
from pixelwise.inference.transformed import require_transforms
from pixelwise.inference.videos import Videos, num_images
from pixelwise.model_file import stored_checksum
from pixelwise.progress import Progress, Silent


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
    coding: Coding = "index",
    min_area: int = 0,
    fill_holes: bool = False,
    tta: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    progress: Progress | None = None,
) -> PredictReport:
    """Writes what `save` names (`outputs.WRITERS`, `outputs.JOB_FILES`) of every input image below `output`.

    TIFFs too large for memory, JPEG 2000, whole slides and OME-Zarr are read window by window (`rasters.py`), their
    labels a GeoTIFF or an OME-Zarr. A video gives a labeled video and a folder of its frames' outputs (`videos.py`).
    One bad file never stops the rest: it is listed among the failures. A request that cannot be
    done at all (nothing to predict, two inputs with one name, an unknown output) is a RequestError
    before anything is written.

    Args:
        tta: flips, rotations, scales: the mean over transformed images, as in `Predictor.predict`.
        min_area: pixels; smaller regions take the label of a neighbor, as `tidying.tidy` says.
        fill_holes: likewise. Both change labels and all that is made from them; probabilities,
            confidence and entropy stay what the network says.
        resume: passes over images all of whose files an equal request has written; where the folder
            holds results of another one, it is a RequestError.
    """
    progress, folder = progress or Silent(), Path(output)
    outputs = Outputs(
        folder=folder, kinds=tuple(dict.fromkeys(save)), coding=coding, min_area=min_area, fill_holes=fill_holes
    )
    if tiling not in get_args(Tiling):
        raise unknown_name("tiling", tiling, get_args(Tiling))
    require_transforms(tta)
    if resume:
        require_resumable(outputs.kinds, coding)
    able = outputs.only_labels and tiling == "exact" and not tta
    images = [
        replace(item, windowed=not item.url and needs_windows(item.path, able))
        for item in find_inputs(inputs, folder, videos=True)
    ]
    outputs.require_free(images)
    predictor = load(model, device=device, precision=precision, engine=engine)
    if engine == "auto":
        predictor = for_job(predictor, model, num_images=sum(map(num_images, images)), progress=progress)
    job = Job(outputs=outputs, classes=predictor.classes)
    request = _request(model, outputs, predictor, tiling=tiling, tta=tta, engine=engine)
    resumed = begin(folder, request, outputs.all_paths(images), resume=resume)
    done = {item for item in images if resumed and outputs.are_there(item)}
    decoded = [item for item in images if not (item in done or item.windowed or item.is_video)]
    fresh = written_behind(
        _predicted(predictor, decoded, outputs, tiling, tta, progress),
        lambda answer: job.write(answer.item, answer.image, answer.prediction),
    )
    windows = _Windows(
        predictor=predictor, outputs=outputs, able=able, request=request, resume=resumed, progress=progress
    )
    videos = Videos(predictor=predictor, job=job, tiling=tiling, tta=tta, progress=progress)
    written: list[Path] = []
    failures: list[tuple[Path, str]] = []
    for count, item in enumerate(images, start=1):
        if item in done:
            outcome = _recalled(job, item)
        elif item.windowed:
            outcome = windows.write(item)
        elif item.is_video:
            outcome = videos.write(item)
        else:
            outcome = next(fresh)
        if isinstance(outcome, Exception):
            failures.append((item.path, str(outcome)))
        else:
            written += outcome.paths
            job.add(outcome)
        progress.track("predict", count, len(images))
    written += job.finish()
    return PredictReport(written=tuple(written), failures=tuple(failures), skipped=len(done))


def _request(
    model: str | Path, outputs: Outputs, predictor: Predictor, *, tiling: Tiling, tta: Sequence[str], engine: str
) -> JobRequest:
    """All that decides what the files hold."""
    settings = {
        "tiling": tiling,
        "coding": outputs.coding,
        "min_area": outputs.min_area,
        "fill_holes": outputs.fill_holes,
        "tta": sorted(set(tta)),
        "precision": predictor.precision,
        "engine": engine,  # as asked for: what "auto" takes gives the same labels
    }
    return JobRequest(model=stored_checksum(model), settings=settings)


def _predicted(
    predictor: Predictor,
    images: Sequence[Input],
    outputs: Outputs,
    tiling: Tiling,
    tta: Sequence[str],
    progress: Progress,
) -> Iterator[Answer[Input, None] | Failure[Input]]:
    """What the model says of each image, or why it says nothing."""

    def read(item: Input) -> tuple[Array, None]:
        return item.read(predictor.spec.channels), None

    outcomes = predict_all(
        predictor,
        images,
        read,
        tiling=tiling,
        keep_logits=outputs.need_probabilities,
        tta=tta,
        name=lambda item: item.name,
    )
    return told(outcomes, tiling, lambda item, words: progress.say(f"{item.name}: {words}"))


def _recalled(job: Job, item: Input) -> Written | Exception:
    try:
        return job.recall(item)
    except (PixelwiseError, OSError) as error:
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The images of a job that are never in memory as a whole."""

    predictor: Predictor
    outputs: Outputs
    able: bool
    """Whether windows can give what is asked for."""
    request: JobRequest
    resume: bool
    progress: Progress

    def write(self, item: Input) -> Written | Exception:
        if not self.able:
            return RequestError(
                f"{item.name}: is read window by window, which gives labels alone; ask for --save labels, without "
                f"--tiling, --coding, --min-area, --fill-holes and --tta."
            )
        target = self.outputs.paths(item)["labels"]
        request, track = self.request.to_dict(), functools.partial(self.progress.track, item.path.name)
        try:
            predict_raster(self.predictor, item.path, target, request=request, resume=self.resume, track=track)
        except (PixelwiseError, OSError) as error:
            return error
        return Written((target,), None)
