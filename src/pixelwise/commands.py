"""Every command as a Python function of the same words.

`check`, `evaluate` and `predict` live with what they do. Here is what joins several parts: the
planner stands above the training loop, so what plans and then trains must stand above both.
"""

import dataclasses
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from pixelwise.data.doctor import check
from pixelwise.data.images import write_atomically
from pixelwise.data.splits import write_splits
from pixelwise.data.synthetic import write_dataset
from pixelwise.devices import choose_device, choose_precision, has_fast_bf16
from pixelwise.errors import CheckpointError, RequestError, unknown_name
from pixelwise.evaluation.evaluate import evaluate
from pixelwise.evaluation.report import Report, write_report
from pixelwise.inference.predict import predict
from pixelwise.model_file import load_model
from pixelwise.networks import NETWORKS
from pixelwise.ops import kernels
from pixelwise.planning.clock import measure_step, steps_within
from pixelwise.planning.draft import Plan
from pixelwise.planning.planner import DEFAULT_BUDGET_SECONDS, make_plan
from pixelwise.planning.prepare import Prepared, prepare
from pixelwise.progress import Progress, Silent
from pixelwise.recipe import Recipe, parse_duration, parse_settings, read_recipe
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.loop import train_model
from pixelwise.training.run_folder import RunFolder, default_run_folder
from pixelwise.training.trainer import Job
from pixelwise.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    run: Path
    model: Path
    report: Path
    scores: Mapping[str, Any]
    """On the validation images."""


def plan(
    data: str | Path,
    *,
    budget: str = "20m",
    layout: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """A recipe for a data set, this machine and a budget such as "20m", each choice with its reason."""
    started = time.monotonic()
    changes: dict[str, Any] = {
        "data.layout": layout,
        "training.budget_seconds": parse_duration(budget),
        "training.seed": seed,
    }
    prepared = prepare(data, Recipe().replace(changes))
    place = choose_device(device)
    made = make_plan(prepared, place, choose_precision(precision, place), changes, started, progress or Silent())
    if output:
        write_atomically(Path(output), made.to_yaml().encode())
    return made


def train(
    data: str | Path,
    output: str | Path | None = None,
    *,
    layout: str | None = None,
    recipe: str | Path | None = None,
    network: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    budget: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    settings: Sequence[str] = (),
    seed: int | None = None,
    deterministic: bool = False,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
    started: float | None = None,
) -> TrainResult:
    """Plans, trains, scores and reports: from a folder of images and masks to a model file.

    The whole takes the `budget` (default 20m), counted from `started` (time.monotonic) where the
    caller's own start is to be paid for; or it takes `steps` optimizer steps. `weights` are those of
    the `encoder`: "imagenet", "none" or a file of a classifier's weights. `recipe` replaces the plan;
    `settings` are "section.key=value" and win over both. The run folder is `output`, else
    `runs/DATA-NETWORK-N`; one that holds a run is refused without `resume`.
    """
    started = time.monotonic() if started is None else started
    progress = progress or Silent()
    if budget is not None and steps is not None:
        raise RequestError("--budget and --steps both say how long to train; give one of them.")
    if resume and output is None:
        raise RequestError("--resume needs the folder of the run: give it with -o.")
    changes = _changes(layout, network, encoder, weights, budget, steps, seed, deterministic, settings)
    run = RunFolder(Path(output)) if output else None
    if run and resume and run.recipe.exists():
        return _resume(run, Path(data), recipe, weights, changes, device, precision, progress, started)
    if run:
        run.require_free()
    place = choose_device(device)
    given = read_recipe(recipe) if recipe else None
    start = (given or Recipe()).replace(changes)
    # What can be refused at once is refused before the data is read.
    choose_precision(precision, place)
    if start.network.name not in NETWORKS:
        raise unknown_name("network", start.network.name, NETWORKS)
    if resume:
        progress.say(f"{output} holds no run yet: starting from the beginning")
    prepared = prepare(data, start)
    for note in prepared.notes:
        progress.say(note)
    made = _plan_or_take(prepared, given, changes, place, precision, started, progress)
    _require_network(made.recipe, prepared)
    job = _with_first_weights(prepared.job(made.recipe, place), weights, progress)
    run = run or RunFolder(default_run_folder(Path(data), made.recipe.network.name))
    _write_description(run, prepared, made)
    try:
        return _train_in(run, prepared, job, False, progress, started)
    except RequestError:
        if not run.last_checkpoint.exists():
            run.take_back()
        raise


DEMO_BUDGET = "100s"
_DEMO_MARK = ".pixelwise-demo"


def demo(
    output: str | Path = "runs/demo", *, progress: Progress | None = None, started: float | None = None
) -> TrainResult:
    """The whole job on generated street scenes: data, check, train, evaluate, predict, report.

    Writes a run folder that also holds `data/`, `evaluation.json` and `predictions/`. An earlier
    demo in the same folder is replaced; anything else there is refused.
    """
    progress = progress or Silent()
    folder = Path(output)
    _clear_demo(folder)
    data = folder / "data"
    progress.say(f"drawing street scenes into {data}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DEMO_MARK).touch()
    write_dataset(data, "streets", num_train=160, num_val=32, num_test=32, size=(192, 256))
    report = check(data)
    progress.say(f"check: {len(report.errors)} errors, {len(report.findings)} findings")
    # The same for everybody: nothing is downloaded, whatever the plan would choose.
    result = train(data, folder, weights="none", budget=DEMO_BUDGET, progress=progress, started=started)
    scores = evaluate(result.model, data, json_path=folder / "evaluation.json", progress=progress)
    progress.say(f"test mean IoU {scores['mean_iou']:.3f}, boundary F1 {scores['boundary_f1']:.3f}")
    predict(result.model, [data / "images" / "test"], folder / "predictions", save=("labels", "overlay"))
    progress.say(f"labels and overlays of the test images: {folder / 'predictions'}")
    return result


def _clear_demo(folder: Path) -> None:
    """Removes what an earlier demo wrote, known by its mark; a folder without the mark is refused."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / _DEMO_MARK).exists():
        raise RequestError(f"{folder} holds something that is no demo; choose another folder with -o.")
    made = [folder / name for name in ("data", "predictions", "evaluation.json")]
    for path in [*made, *RunFolder(folder).contents]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def info() -> dict[str, str]:
    """Versions, devices and threads: what a bug report needs."""
    place = choose_device("auto")
    names = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "pixelwise": __version__,
        **{name: _installed(name) for name in names},
        "device": str(place),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "bf16": "native" if has_fast_bf16(place) else "not native",
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels": kernels.describe(place),
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _changes(
    layout: str | None,
    network: str | None,
    encoder: str | None,
    weights: str | Path | None,
    budget: str | None,
    steps: int | None,
    seed: int | None,
    deterministic: bool,
    settings: Sequence[str],
) -> dict[str, Any]:
    """What the caller decided, as recipe keys."""
    changes: dict[str, Any] = parse_settings(settings)
    named = {
        "data.layout": layout,
        "network.name": network,
        "network.encoder": encoder,
        "network.weights": weights if weights in (None, "imagenet", "none") else "file",
        "training.steps": steps,
        "training.budget_seconds": parse_duration(budget) if budget else None,
        "training.seed": seed,
        "training.deterministic": True if deterministic else None,
    }
    return {**changes, **{key: value for key, value in named.items() if value is not None}}


def _plan_or_take(
    prepared: Prepared,
    given: Recipe | None,
    changes: dict[str, Any],
    place: torch.device,
    precision: str,
    started: float,
    progress: Progress,
) -> Plan:
    """The planned recipe, or the given one, with the caller's changes on top."""
    if given is None:
        if precision != "auto":
            changes = {"training.precision": choose_precision(precision, place), **changes}
        return make_plan(prepared, place, choose_precision(precision, place), changes, started, progress)
    taken = _taken(given, changes, precision)
    if taken.training.deterministic and taken.training.steps is None:
        budget = taken.training.budget_seconds
        assert budget is not None
        seconds = measure_step(prepared.job(taken, place))
        taken = taken.replace({"training.steps": steps_within(budget, seconds, started)})
    return Plan(recipe=taken, reasons={})


def _taken(given: Recipe, changes: Mapping[str, Any], precision: str) -> Recipe:
    """A given recipe with the caller's changes, and a length where neither names one."""
    if precision != "auto":
        changes = {**changes, "training.precision": precision}
    if "training.budget_seconds" in changes:
        changes = {"training.steps": None, **changes}
    taken = given.replace(changes)
    if taken.training.steps is None and taken.training.budget_seconds is None:
        taken = taken.replace({"training.budget_seconds": DEFAULT_BUDGET_SECONDS})
    return taken


def _with_first_weights(job: Job, weights: str | Path | None, progress: Progress) -> Job:
    """The job with the classifier's weights that its recipe asks for; says what fitted."""
    source = job.recipe.network.weights
    if source == "none":
        return job
    if source == "file" and weights in (None, "imagenet", "none"):
        raise RequestError("network.weights is 'file': say which, with --weights FILE.")
    from pixelwise.networks.transfer import transfer  # imports torchvision and timm: seconds

    network = job.spec.build().network
    coverage = transfer(network, job.recipe.network, "imagenet" if source == "imagenet" else Path(str(weights)))
    progress.say(f"weights: {coverage.summary()}")
    return dataclasses.replace(job, initial=network.state_dict())


def _require_network(recipe: Recipe, prepared: Prepared) -> None:
    """A network that cannot be built is an error before anything is written."""
    with torch.device("meta"):
        prepared.job(recipe, torch.device("meta")).spec.build()


def _require_unchanged(run: RunFolder, started_with: Recipe, asked: Recipe) -> None:
    before, now = started_with.to_dict(), asked.to_dict()
    keys = [f"{s}.{k}" for s, values in before.items() for k, v in values.items() if now[s][k] != v]
    if keys:
        raise CheckpointError(
            f"{run.path} was started with another {', '.join(keys)} (see {run.recipe}); resume "
            f"without changing it, or start a new run."
        )


def _resume(
    run: RunFolder,
    data: Path,
    given: str | Path | None,
    weights: str | Path | None,
    changes: Mapping[str, Any],
    device: str,
    precision: str,
    progress: Progress,
    started: float,
) -> TrainResult:
    """Goes on with the recipe and the splits that the folder holds."""
    recipe = read_recipe(run.recipe)
    fixed = {} if precision == "auto" else {"training.precision": precision}
    asked = _taken(read_recipe(given), changes, precision) if given else recipe.replace({**changes, **fixed})
    if asked.training.deterministic and asked.training.steps is None:
        asked = asked.replace({"training.steps": recipe.training.steps})  # measured when it began
    _require_unchanged(run, recipe, asked)
    checkpoint = load_checkpoint(run)
    if checkpoint and checkpoint.finished and run.report.exists():
        progress.say(f"{run.path} is finished; nothing to do.")
        return _result(run)
    prepared = prepare(data, recipe, made_splits=run.splits if run.splits.exists() else None)
    if run.classes.exists() and yaml.safe_load(run.classes.read_text()) != prepared.classes.to_dict():
        raise CheckpointError(
            f"the classes of {data} are not those that the run started with (see {run.classes}); "
            f"put them back, or start a new run."
        )
    job = prepared.job(recipe, choose_device(device))
    if not checkpoint:
        job = _with_first_weights(job, weights, progress)
    return _train_in(run, prepared, job, True, progress, started)


def _train_in(
    run: RunFolder,
    prepared: Prepared,
    job: Job,
    resume: bool,
    progress: Progress,
    started: float,
) -> TrainResult:
    recipe = job.recipe.training
    deadline = started + recipe.budget_seconds if recipe.budget_seconds and recipe.steps is None else None
    try:
        with _deterministic(recipe.deterministic):
            scored = train_model(job, run, deadline=deadline, resume=resume, progress=progress)
    except KeyboardInterrupt:
        progress.say(f"stopped; go on with: pixelwise train {prepared.dataset.root} -o {run.path} --resume")
        raise
    report = Report(
        title=run.path.name,
        dataset=prepared.dataset,
        splits=prepared.splits,
        class_shares=prepared.seen.class_shares,
        predictor=scored.predictor,
        tally=scored.tally,
        metrics=list(run.read_metrics()),
        recipe=run.recipe.read_text(encoding="utf-8"),
        notes=prepared.notes,
    )
    write_report(run.report, report)
    return _result(run)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Torch's deterministic algorithms, for this run only."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _write_description(run: RunFolder, prepared: Prepared, made: Plan) -> None:
    """What a run starts from, readable by people; recipe.yaml last, because it marks a run."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{run.path} cannot be made ({error.strerror}); choose another folder with -o.") from error
    classes = yaml.safe_dump(prepared.classes.to_dict(), sort_keys=False)
    write_atomically(run.classes, classes.encode())
    write_splits(run.splits, prepared.splits)
    write_atomically(run.recipe, made.to_yaml().encode())


def _result(run: RunFolder) -> TrainResult:
    _, spec = load_model(run.model)
    return TrainResult(run=run.path, model=run.model, report=run.report, scores=spec.scores)
