"""`predict --cluster ray`: the one predict path in many processes, on any number of machines, by Ray Data.

The command shares the images out in small parts. Workers, each with a predictor that is loaded once, write the
files and say in a few bytes what became of each image. The part of a worker that is lost is given to another one:
every file appears whole or not at all, and what is written twice is the same.

Workers are processes that run tasks of Ray and keep their predictor, not actors. The parts of an actor whose
machine is lost wait until it has started again, in a place that the others give up only when all else is done (seen
in Ray 2.60); a task goes to whoever is free.
"""

import functools
import logging
import math
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from pixelwise.data.classes import Classes
from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, PixelwiseError, missing_extra
from pixelwise.inference.predictor import Predictor, load
from pixelwise.model_file import read_checksum
from pixelwise.prediction.executor import Place, Task
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.output_writer import Job, Written
from pixelwise.prediction.predict import work_through
from pixelwise.prediction.rasters import forget_parts
from pixelwise.progress import use_reporter
from pixelwise.version import __version__

logger = logging.getLogger(__name__)

CPUS = 4
"""Of one worker, at most: images of common sizes gain more from a second worker than from more threads."""
PART = 16
"""Images that a worker is given at once, at most. They are done again when its machine is lost."""
PARTS_EACH = 4
"""Parts for each worker, at least, where there are images enough: so that all are done at about the same time."""
MOST_BLOCKS = 10_000
"""Of Ray Data, which holds some kilobytes for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers that a cluster has room for."""

    size: int
    cpus: int
    """Of each: its threads."""
    gpus: int
    """Of each: 0 or 1."""


def plan_crew(nodes: Iterable[Mapping[str, float]], device: str) -> Crew:
    """One worker a GPU, or, without GPUs, one for each few CPUs of a machine.

    Args:
        nodes: what Ray counts on each machine that is there: `{"CPU": 16.0, "GPU": 2.0, ...}`.
        device: "auto" takes GPUs if there are any.

    InvalidArgumentError where the cluster has nothing of the kind.
    """
    rooms = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    gpus = sum(gpu for _, gpu in rooms)
    if device == "cuda" or (device == "auto" and gpus):
        if not gpus:
            raise InvalidArgumentError(
                "--device cuda, but no machine of the cluster has a GPU; use --device auto or cpu."
            )
        threads = min(cpu // gpu for cpu, gpu in rooms if gpu)
        return Crew(size=gpus, cpus=max(1, min(CPUS, threads)), gpus=1)
    if device not in ("auto", "cpu"):
        raise InvalidArgumentError(f"--device {device} cannot be asked of a cluster; choose auto, cpu or cuda.")
    cores = [cpu for cpu, _ in rooms if cpu]
    if not cores:
        raise InvalidArgumentError("no machine of the cluster offers CPUs; start Ray there with --num-cpus 1 or more.")
    each = min(CPUS, *cores)
    return Crew(size=sum(cpu // each for cpu in cores), cpus=each, gpus=0)


Numbered = tuple[int, Input]


def cut_in_parts(images: Sequence[Input], workers: int) -> list[list[Numbered]]:
    """Consecutive images with their numbers; a video, or what is read by windows, may take hours and is alone."""
    size = max(1, min(PART, math.ceil(len(images) / (PARTS_EACH * workers))))
    parts: list[list[Numbered]] = []
    for number, item in enumerate(images):
        alone = _is_long(item) or (parts and _is_long(parts[-1][-1][1]))
        if not parts or alone or len(parts[-1]) == size:
            parts.append([])
        parts[-1].append((number, item))
    return parts


def _is_long(item: Input) -> bool:
    return item.windowed or item.is_video


def in_order(rows: Iterable[tuple[int, str]]) -> Iterator[str]:
    """(number, what became of it) in any order → what became of each, from number 0 on."""
    waiting: dict[int, str] = {}
    upcoming = 0
    for number, outcome in rows:
        waiting[number] = outcome
        while upcoming in waiting:
            yield waiting.pop(upcoming)
            upcoming += 1


@dataclass(slots=True)
class _Notes:
    """Keeps what is said, for the process that shows it."""

    lines: list[str]

    def log(self, message: str) -> None:
        self.lines.append(message)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all workers are told; equal ones share a predictor."""

    model: Path
    checksum: str
    device: str
    precision: str
    engine: str
    threads: int


@functools.lru_cache(maxsize=1)
def predictor_of(setting: Setting) -> Predictor:
    """Loaded once in each process. PixelwiseError where this machine has another model in its place, or none."""
    torch.set_num_threads(setting.threads)
    if read_checksum(setting.model) != setting.checksum:
        raise InvalidArgumentError(
            f"{setting.model} is another model here than where the command was given; share one folder."
        )
    return load(setting.model, device=setting.device, precision=setting.precision, engine=setting.engine)


def do_parts(batch: Mapping[str, npt.NDArray[Any]], *, task: Task, setting: Setting) -> dict[str, list[Any]]:
    """Runs on a worker. Parts → a line for each image: its number, why it failed or "", what there is to say."""
    predictor = predictor_of(setting)
    job = Job(outputs=task.outputs, classes=predictor.classes)
    lines: dict[str, list[Any]] = {"number": [], "error": [], "said": []}
    for content in batch["part"]:
        part: list[Numbered] = pickle.loads(content)
        notes = _Notes([])
        with use_reporter(notes):
            outcomes = list(work_through(predictor, task, job, [item for _, item in part]))
        lines["number"] += [number for number, _ in part]
        lines["error"] += [str(one) or type(one).__name__ if isinstance(one, Exception) else "" for one in outcomes]
        lines["said"] += ["\n".join(notes.lines), *[""] * (len(part) - 1)]
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a worker finds before any work is given out."""

    classes: Classes
    precision: Precision
    version: str


def look(model: Path, device: str, precision: str, engine: str) -> Look | PixelwiseError:
    """Runs on a machine of the cluster: it knows which precision its processor or GPU is fast in."""
    try:
        predictor = load(model, device=device, precision=precision, engine=engine)
    except PixelwiseError as error:
        return error
    return Look(classes=predictor.classes, precision=predictor.precision, version=__version__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlace:
    """The machines of a cluster."""

    ray: Any
    model: Path
    crew: Crew
    engine: str
    found: Look

    @property
    def classes(self) -> Classes:
        return self.found.classes

    @property
    def precision(self) -> Precision:
        return self.found.precision

    def work(self, task: Task, job: Job, images: Sequence[Input]) -> Iterator[Written | Exception]:
        """As `Place.work`. InvalidArgumentError where the cluster gives up."""
        if not images:
            return
        if not task.resume:
            for target in (task.outputs.paths(item)["labels"] for item in images if item.windowed and task.able):
                forget_parts(target)
        lines = self._lines(_elsewhere(task), [_absolute(item) for item in images])
        try:
            for item, reason in zip(images, in_order(lines), strict=True):
                # What failed elsewhere is known by its words alone.
                yield PixelwiseError(reason) if reason else Written(tuple(task.outputs.paths(item).values()), None)
        except self.ray.exceptions.RayError as error:
            raise InvalidArgumentError(
                f"the cluster has given up ({_reason(error)}); what is written stays: go on with --resume."
            ) from error
        task.outputs.remove_unfinished(images)

    def _lines(self, task: Task, images: Sequence[Input]) -> Iterator[tuple[int, str]]:
        data, crew = self.ray.data, self.crew
        parts = cut_in_parts(images, crew.size)
        logger.info(f"{len(images)} images in {len(parts)} parts, for {min(crew.size, len(parts))} workers")
        setting = Setting(
            model=self.model,
            checksum=task.request.model,
            device="cuda" if crew.gpus else "cpu",
            precision=self.precision,
            engine=self.engine,
            threads=crew.cpus,
        )
        rows = [{"part": pickle.dumps(part)} for part in parts]
        made = data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            do_parts,
            batch_size=1,
            fn_kwargs={"task": task, "setting": setting},
            num_cpus=None if crew.gpus else crew.cpus,
            num_gpus=crew.gpus or None,
        )
        for line in made.iter_rows():
            if line["said"]:
                logger.info(line["said"])
            yield int(line["number"]), line["error"]


@contextmanager
def ray_cluster(model: str | Path, *, device: str, precision: str, engine: str) -> Iterator[Callable[[], Place]]:
    """Gives a function that connects to a cluster, and leaves the cluster at the end.

    The function takes the connection that is there, else the cluster that RAY_ADDRESS names, else one that
    runs on this machine, else starts one on this machine alone. On a cluster, `engine="auto"` is torch:
    which engine is fastest differs from machine to machine, and the files must not.
    """
    ray = _ray()
    connected = bool(ray.is_initialized())

    def connect() -> Place:
        if not connected:
            _connect(ray)
        crew = plan_crew((node["Resources"] for node in ray.nodes() if node["Alive"]), device)
        place = Path(model).absolute()
        wanted = ray.remote(num_cpus=0 if crew.gpus else 1, num_gpus=crew.gpus)(look)
        try:
            found = ray.get(wanted.remote(place, "cuda" if crew.gpus else "cpu", precision, engine))
        except ray.exceptions.RayError as error:
            raise InvalidArgumentError(
                f"a machine of the cluster cannot begin ({_reason(error)}); install pixelwise {__version__} on each."
            ) from error
        if isinstance(found, PixelwiseError):
            raise found
        if found.version != __version__:
            raise InvalidArgumentError(
                f"the cluster has pixelwise {found.version}, this machine {__version__}; install one."
            )
        return RayPlace(ray=ray, model=place, crew=crew, engine=engine, found=found)

    try:
        yield connect
    finally:
        if not connected:
            ray.shutdown()


def _connect(ray: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except ConnectionError as error:
        raise InvalidArgumentError(f"no Ray cluster can be reached ({_reason(error)}); check RAY_ADDRESS.") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_extra("--cluster ray", "ray", "ray") from error
    return ray


def _elsewhere(task: Task) -> Task:
    """As other processes need it: they stand in other folders, and see only some of the images.

    Parts of images are always taken up: what lies there once the work has begun is of this job.
    """
    outputs = replace(task.outputs.of_images(), folder=task.outputs.folder.absolute())
    return replace(task, outputs=outputs, resume=True)


def _absolute(item: Input) -> Input:
    files = tuple(map(_absolute, item.files))
    return replace(item, files=files) if item.url else replace(item, path=item.path.absolute(), files=files)


def _reason(error: Exception) -> str:
    """The last line that names an error: before it stands the way it has taken, after it advice on Ray's settings."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named or lines)[-1].removeprefix("pixelwise.errors.")
