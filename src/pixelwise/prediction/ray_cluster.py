"""`predict --cluster ray`: predict in many processes, on any number of machines, with Ray Data.

The command divides the inputs into small chunks. Workers load the predictor once, write their own outputs and return
only status messages. The chunk of a lost worker is given to another one: every file appears complete or not at all,
and files that are written twice are equal.

Workers are processes that run tasks of Ray and keep their predictor, not actors. The chunks of an actor whose machine
is lost wait until it has restarted, which happens only after all other chunks are done (seen in Ray 2.60); a task
runs on any free worker.
"""

import functools
import logging
import math
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt
import torch

from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, PixelwiseError, explain_missing_extra
from pixelwise.inference.predictor import load
from pixelwise.model_file import read_checksum
from pixelwise.prediction.inputs import Input, RasterInput
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles
from pixelwise.prediction.predict import LocalExecutor
from pixelwise.prediction.rasters import remove_parts
from pixelwise.progress import use_reporter
from pixelwise.version import __version__

logger = logging.getLogger(__name__)

MAX_CPUS = 4
"""CPUs of one worker, at most: for images of common sizes, a second worker gains more than more threads."""
MAX_CHUNK = 16
"""Images in a chunk, at most. They are repeated if the machine of the worker is lost."""
MIN_CHUNKS_PER_WORKER = 4
"""Chunks for each worker, if there are enough images, so that all workers finish at about the same time."""
MAX_BLOCKS = 10_000
"""Blocks of Ray Data, each of which takes some kilobytes."""

NumberedInput = tuple[int, Input]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """The workers that fit on a cluster."""

    num_workers: int
    num_cpus: int
    """CPUs of each worker, and its number of threads."""
    num_gpus: int
    """GPUs of each worker: 0 or 1."""


def plan_workers(nodes: Iterable[Mapping[str, float]], device: str) -> WorkerPlan:
    """Plan one worker per GPU, or without GPUs one for every few CPUs of a machine.

    Args:
        nodes: the resources of each running machine, as Ray counts them: `{"CPU": 16.0, "GPU": 2.0, ...}`.
        device: "auto" uses GPUs if there are any.

    Raises:
        InvalidArgumentError: the cluster does not have the device.
    """
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    num_gpus = sum(gpus for _, gpus in machines)
    if device == "cuda" or (device == "auto" and num_gpus):
        if not num_gpus:
            raise InvalidArgumentError(
                "--device cuda: No machine of the cluster has a GPU. Use --device auto or --device cpu."
            )
        threads = min(cpus // gpus for cpus, gpus in machines if gpus)
        return WorkerPlan(num_workers=num_gpus, num_cpus=max(1, min(MAX_CPUS, threads)), num_gpus=1)
    if device not in ("auto", "cpu"):
        raise InvalidArgumentError(f"--device {device} is not supported on a cluster. Choose auto, cpu or cuda.")
    cpus = [cpus for cpus, _ in machines if cpus]
    if not cpus:
        raise InvalidArgumentError("No machine of the cluster offers CPUs. Start Ray with --num-cpus 1 or more.")
    each = min(MAX_CPUS, *cpus)
    return WorkerPlan(num_workers=sum(count // each for count in cpus), num_cpus=each, num_gpus=0)


def split_into_chunks(inputs: Sequence[Input], num_workers: int) -> list[list[NumberedInput]]:
    """Split inputs into chunks of consecutive ones with their numbers; an input that may take hours has its own."""
    size = max(1, min(MAX_CHUNK, math.ceil(len(inputs) / (MIN_CHUNKS_PER_WORKER * num_workers))))
    chunks: list[list[NumberedInput]] = []
    for number, item in enumerate(inputs):
        is_separate = item.is_long or (chunks and chunks[-1][-1][1].is_long)
        if not chunks or is_separate or len(chunks[-1]) == size:
            chunks.append([])
        chunks[-1].append((number, item))
    return chunks


def restore_order(rows: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Yield the values of (number, value) pairs, given in any order, from number 0 on."""
    waiting: dict[int, str] = {}
    upcoming = 0
    for number, value in rows:
        waiting[number] = value
        while upcoming in waiting:
            yield waiting.pop(upcoming)
            upcoming += 1


class LogCollector:
    """A reporter that keeps messages, for the process that shows them."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, message: str) -> None:
        self.messages.append(message)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass


@functools.lru_cache(maxsize=1)
def start_executor(executor: LocalExecutor, checksum: str, num_threads: int) -> LocalExecutor:
    """Load the predictor once per process. Raises InvalidArgumentError if this machine has another model."""
    torch.set_num_threads(num_threads)
    if read_checksum(executor.model) != checksum:
        raise InvalidArgumentError(
            f"{executor.model} on this machine is not the model of the command. Use a shared folder."
        )
    executor.start(0)
    return executor


def predict_chunks(
    batch: Mapping[str, npt.NDArray[Any]], *, writer: OutputWriter, executor: LocalExecutor, num_threads: int
) -> dict[str, list[Any]]:
    """Predict chunks on a worker; returns for each input its number, the error or "", and messages."""
    started = start_executor(executor, writer.manifest.request["model"], num_threads)
    columns: dict[str, list[Any]] = {"number": [], "error": [], "messages": []}
    for content in batch["chunk"]:
        chunk: list[NumberedInput] = pickle.loads(content)
        collector = LogCollector()
        with use_reporter(collector):
            results = list(started.run(writer, [item for _, item in chunk]))
        columns["number"] += [number for number, _ in chunk]
        columns["error"] += [str(one) or type(one).__name__ if isinstance(one, Exception) else "" for one in results]
        columns["messages"] += ["\n".join(collector.messages), *[""] * (len(chunk) - 1)]
    return columns


def inspect_worker(
    model: Path, device: str, precision: str, engine: str, threshold: float | None = None
) -> tuple[str, Precision] | PixelwiseError:
    """Return the version of Pixelwise on a machine, and the precision that its processor or GPU is fast in."""
    try:
        predictor = load(model, device=device, precision=precision, engine=engine, threshold=threshold)
        return __version__, predictor.precision
    except PixelwiseError as error:
        return error


@dataclass(kw_only=True)
class RayExecutor(LocalExecutor):
    """Predicts inputs on all machines of a Ray cluster.

    It uses the existing connection, else the cluster that RAY_ADDRESS names, else one that runs on this machine, else
    it starts one on this machine. With `engine="auto"` it uses torch: the fastest engine differs between machines, but
    the files must not.
    """

    writes_elsewhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.ray = _import_ray()
        self.model = Path(self.model).absolute()
        self.was_connected = bool(self.ray.is_initialized())

    def start(self, num_images: int) -> Precision:
        """Connect to the cluster, plan the workers, and return the precision that one of them computes in."""
        ray = self.ray
        if not self.was_connected:
            try:
                ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
            except ConnectionError as error:
                raise InvalidArgumentError(
                    f"No Ray cluster can be reached ({_describe_error(error)}). Check RAY_ADDRESS."
                ) from error
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            ray.data.DataContext.get_current().enable_progress_bars = False
        self.workers = plan_workers((node["Resources"] for node in ray.nodes() if node["Alive"]), self.device)
        self.worker_device = "cuda" if self.workers.num_gpus else "cpu"
        options = {"num_cpus": 0 if self.workers.num_gpus else 1, "num_gpus": self.workers.num_gpus}
        inspect = ray.remote(**options)(inspect_worker)
        try:
            found: tuple[str, Precision] | PixelwiseError = ray.get(
                inspect.remote(self.model, self.worker_device, self.precision, self.engine, self.threshold)
            )
        except ray.exceptions.RayError as error:
            raise InvalidArgumentError(
                f"A machine of the cluster cannot start ({_describe_error(error)}). "
                f"Install pixelwise {__version__} on each."
            ) from error
        if isinstance(found, PixelwiseError):
            raise found
        version, self.worker_precision = found
        if version != __version__:
            raise InvalidArgumentError(
                f"The cluster has pixelwise {version}, this machine {__version__}. Install the same version."
            )
        return self.worker_precision

    def run(self, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[WrittenFiles | Exception]:
        """Predict inputs on the workers; raises InvalidArgumentError if the cluster fails."""
        if not inputs:
            return
        if not writer.resumed:
            for item in inputs:
                if isinstance(item, RasterInput) and writer.only_labels and self.options.is_exact:
                    remove_parts(writer.list_paths(item)["labels"])
        try:
            errors = restore_order(self._collect(writer, inputs))
            for item, error in zip(inputs, errors, strict=True):
                # Workers return the message of an error, not the error.
                yield PixelwiseError(error) if error else WrittenFiles(tuple(writer.list_paths(item).values()))
        except self.ray.exceptions.RayError as error:
            raise InvalidArgumentError(
                f"The cluster failed ({_describe_error(error)}). Finished outputs stay. Continue with --resume."
            ) from error
        writer.manifest.remove_unfinished(path for item in inputs for path in writer.list_paths(item).values())

    def close(self) -> None:
        """Leave the cluster, unless the connection existed before."""
        if not self.was_connected:
            self.ray.shutdown()

    def _collect(self, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[tuple[int, str]]:
        """Predict on the workers; yields the number of each input and its error or ""."""
        workers = self.workers
        chunks = split_into_chunks([item.absolute() for item in inputs], workers.num_workers)
        logger.info(
            f"{len(inputs)} inputs in {len(chunks)} chunks, for {min(workers.num_workers, len(chunks))} workers"
        )
        executor = LocalExecutor(
            model=self.model,
            options=self.options,
            device=self.worker_device,
            precision=self.worker_precision,
            engine=self.engine,
            threshold=self.threshold,
        )
        # Parts of images are resumed: those that exist after the start belong to this job.
        folder = writer.folder.absolute()
        manifest = writer.manifest.for_worker(folder)
        theirs = replace(writer.without_summaries(), folder=folder, manifest=manifest, resumed=True)
        rows = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
        results = self.ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map_batches(
            predict_chunks,
            batch_size=1,
            fn_kwargs={"writer": theirs, "executor": executor, "num_threads": workers.num_cpus},
            num_cpus=None if workers.num_gpus else workers.num_cpus,
            num_gpus=workers.num_gpus or None,
        )
        for row in results.iter_rows():
            if row["messages"]:
                logger.info(row["messages"])
            yield int(row["number"]), row["error"]


def _import_ray() -> Any:
    with explain_missing_extra("--cluster ray", "ray", "ray"):
        import ray
        import ray.data
    return ray


def _describe_error(error: Exception) -> str:
    """Return the last line that names an error; before it is the traceback, after it advice on settings of Ray."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (named or lines)[-1].removeprefix("pixelwise.errors.")
