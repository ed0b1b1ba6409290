"""Every command as a Python function of the same words.

`evaluate` and `predict` live with what they do. Here is what joins several parts: `check` joins the
doctor and the page that shows what it found. The planner stands above the training loop, so what plans
and then trains must stand above both.
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

from pixelwise.data import doctor
from pixelwise.data.doctor import CheckReport
from pixelwise.data.images import write_atomically
from pixelwise.data.splits import require_folds, write_splits
from pixelwise.data.synthetic import write_dataset
from pixelwise.devices import choose_device, choose_precision, has_fast_bf16
from pixelwise.errors import CheckpointError, RequestError, unknown_name
from pixelwise.evaluation.check_page import write_check_page
from pixelwise.evaluation.evaluate import evaluate, score_samples
from pixelwise.evaluation.report import Report, write_report
from pixelwise.folds import (
    CLOSING_SECONDS,
    Folds,
    FoldsFolder,
    FoldsResult,
    read_folds,
    result_of,
    train_folds,
    write_folds,
)
from pixelwise.inference.predict import predict
from pixelwise.inference.predictor import load
from pixelwise.model_file import load_model
from pixelwise.networks import NETWORKS
from pixelwise.ops import kernels
from pixelwise.planning.clock import measure_step, steps_within
from pixelwise.planning.draft import Plan
from pixelwise.planning.forced import LeftOut, read_left_out, write_left_out
from pixelwise.planning.planner import DEFAULT_BUDGET_SECONDS, make_plan
from pixelwise.planning.prepare import Prepared, prepare, prepare_folds
from pixelwise.progress import Progress, Silent
from pixelwise.recipe import Recipe, parse_duration, parse_settings, read_recipe
from pixelwise.shapes import Size
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.loop import train_model
from pixelwise.training.run_folder import RunFolder, default_run_folder
from pixelwise.training.scoring import Scored
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


def check(
    data: str | Path,
    *,
    layout: str | None = None,
    resolution: Size | None = None,
    group: str | None = None,
    json_path: str | Path | None = None,
    html_path: str | Path | None = None,
) -> CheckReport:
    """Reads every file of a data set and says what is wrong with it, by name, with the cure.

    `resolution` is the height and width to which images are to be scaled for training; regions that
    would vanish there are told. None: images are not scaled, and nothing vanishes. `group` is what a
    split may not tear apart, as `data.group` of a recipe.
    `json_path` receives the report as JSON, `html_path` a page with pictures of what was found and of
    a random sample; both are written whatever the report says. Raises DataError where there is no data
    set at all.
    """
    report = doctor.check(data, layout=layout, resolution=resolution, group=group, json_path=json_path)
    if html_path:
        assert report.surveyed is not None
        write_check_page(Path(html_path), report, report.surveyed)
    return report


def plan(
    data: str | Path,
    *,
    budget: str = "20m",
    layout: str | None = None,
    group: str | None = None,
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
        **({"data.group": group} if group is not None else {}),
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
    group: str | None = None,
    folds: int | None = None,
    recipe: str | Path | None = None,
    network: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    budget: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    force: bool = False,
    settings: Sequence[str] = (),
    seed: int | None = None,
    deterministic: bool = False,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
    started: float | None = None,
) -> TrainResult | FoldsResult:
    """Plans, trains, scores and reports: from a folder of images and masks to a model file.

    The whole takes the `budget` (default 20m), counted from `started` (time.monotonic) where the
    caller's own start is to be paid for; or it takes `steps` optimizer steps. `weights` are those of
    the `encoder`: "imagenet", "none" or a file of a classifier's weights. `recipe` replaces the plan;
    `settings` are "section.key=value" and win over both. The run folder is `output`, else
    `runs/DATA-NETWORK-N`; one that holds a run is refused without `resume`.

    `group` is what may not be in two splits: a regular expression on the names, or FILE.csv:COLUMN.
    With `folds`, the training and validation images are dealt into so many folds, one run each in
    `output`/fold-1, ..., which share the budget; a FoldsResult says how the scores vary.
    Errors in the data stop, unless `force`: then each is said, the pairs they name are left out, listed
    in `left_out.yaml` and in the report, and the rest is trained on if it can be. A run that is resumed
    goes on with what it began with.
    """
    started = time.monotonic() if started is None else started
    progress = progress or Silent()
    if budget is not None and steps is not None:
        raise RequestError("--budget and --steps both say how long to train; give one of them.")
    if resume and output is None:
        raise RequestError("--resume needs the folder of the run: give it with -o.")
    if folds is not None:
        require_folds(folds)
    changes = _changes(layout, group, network, encoder, weights, budget, steps, seed, deterministic, settings)
    run = RunFolder(Path(output)) if output else None
    several = FoldsFolder(Path(output)) if output else None
    if several and resume and several.summary.exists():
        return _resume_folds(several, folds, Path(data), recipe, weights, changes, force, device, precision, progress)
    if several and (folds or several.summary.exists()):
        several.require_free()
    if run and resume and run.recipe.exists():
        return _resume(run, Path(data), recipe, weights, changes, force, device, precision, progress, started)
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
    if folds is not None:
        several = several or FoldsFolder(default_run_folder(Path(data), start.network.name))
        return _start_folds(several, folds, data, given, weights, changes, force, place, precision, progress, started)
    prepared = prepare(data, start, force=force, progress=progress)
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
    assert isinstance(result, TrainResult)
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
    group: str | None,
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
        "data.group": group,
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


def _left_out(run: RunFolder, force: bool) -> tuple[LeftOut, ...] | None:
    """What the run has left out; None if it was not forced."""
    if run.left_out.exists():
        return read_left_out(run.left_out)
    if force:
        raise CheckpointError(f"{run.path} was started without --force; resume without it, or start a new run.")
    return None


def _resume(
    run: RunFolder,
    data: Path,
    given: str | Path | None,
    weights: str | Path | None,
    changes: Mapping[str, Any],
    force: bool,
    device: str,
    precision: str,
    progress: Progress,
    started: float,
) -> TrainResult:
    """Goes on with the recipe and the splits that the folder holds, and without what it has left out."""
    recipe = read_recipe(run.recipe)
    _require_unchanged(run, recipe, _asked_again(recipe, given, changes, precision))
    left_out = _left_out(run, force)
    checkpoint = load_checkpoint(run)
    if checkpoint and checkpoint.finished and run.report.exists():
        progress.say(f"{run.path} is finished; nothing to do.")
        return _result(run)
    made_splits = run.splits if run.splits.exists() else None
    prepared = prepare(data, recipe, made_splits=made_splits, left_out=left_out)
    _require_same_classes(run, prepared)
    job = prepared.job(recipe, choose_device(device))
    if not checkpoint:
        job = _with_first_weights(job, weights, progress)
    return _train_in(run, prepared, job, True, progress, started)


def _asked_again(recipe: Recipe, given: str | Path | None, changes: Mapping[str, Any], precision: str) -> Recipe:
    """What a command that resumes asks for: the recipe of the run, unless it says otherwise."""
    fixed = {} if precision == "auto" else {"training.precision": precision}
    asked = _taken(read_recipe(given), changes, precision) if given else recipe.replace({**changes, **fixed})
    if asked.training.deterministic and asked.training.steps is None:
        asked = asked.replace({"training.steps": recipe.training.steps})  # measured when it began
    return asked


def _require_same_classes(run: RunFolder, prepared: Prepared) -> None:
    if run.classes.exists() and yaml.safe_load(run.classes.read_text()) != prepared.classes.to_dict():
        raise CheckpointError(
            f"the classes of {prepared.dataset.root} are not those that the run started with (see {run.classes}); "
            f"put them back, or start a new run."
        )


def _start_folds(
    folder: FoldsFolder,
    num_folds: int,
    data: str | Path,
    given: Recipe | None,
    weights: str | Path | None,
    changes: Mapping[str, Any],
    force: bool,
    place: torch.device,
    precision: str,
    progress: Progress,
    started: float,
) -> FoldsResult:
    """Plans once, describes every fold, and trains them."""
    asked = _taken(given or Recipe(), changes, precision)
    prepared = prepare_folds(data, asked, num_folds, force=force, progress=progress)
    for note in dict.fromkeys(note for one in prepared for note in one.notes):
        progress.say(note)
    made = _plan_fold(prepared, given, asked, changes, place, precision, progress, started)
    _require_network(made.recipe, prepared[0])
    for number, one in enumerate(prepared, start=1):
        _write_description(folder.fold(number), one, made)
    # Written last, because it marks folds that can be resumed.
    folds = Folds(num_folds=num_folds, budget_seconds=asked.training.budget_seconds)
    write_folds(folder, folds)
    try:
        return _train_folds(folder, folds, prepared, made.recipe, weights, place, progress)
    except RequestError:
        if not folder.fold(1).last_checkpoint.exists():
            folder.take_back(num_folds)
        raise


def _plan_fold(
    prepared: Sequence[Prepared],
    given: Recipe | None,
    asked: Recipe,
    changes: Mapping[str, Any],
    place: torch.device,
    precision: str,
    progress: Progress,
    started: float,
) -> Plan:
    """One recipe for all folds, so that they differ in nothing but their images; each has its share of the budget."""
    total = asked.training.budget_seconds if asked.training.steps is None else None
    changes = dict(changes)
    if total is not None:
        left = started + total - time.monotonic()
        changes["training.budget_seconds"] = max(left, 1.0) / len(prepared)
    made = _plan_or_take(prepared[0], given, changes, place, precision, time.monotonic(), progress)
    if total is None or made.recipe.training.steps is not None:
        return made
    share = (started + total - time.monotonic() - CLOSING_SECONDS) / len(prepared)
    if share <= 0:
        raise RequestError(f"the budget of {total:.0f} s ends before the first fold could start; give more.")
    reason = f"of {total:.0f} s for {len(prepared)} folds"
    recipe = made.recipe.replace({"training.budget_seconds": round(share, 1)})
    return Plan(recipe=recipe, reasons={**made.reasons, "training.budget_seconds": reason})


def _resume_folds(
    folder: FoldsFolder,
    num_folds: int | None,
    data: Path,
    given: str | Path | None,
    weights: str | Path | None,
    changes: Mapping[str, Any],
    force: bool,
    device: str,
    precision: str,
    progress: Progress,
) -> FoldsResult:
    """Goes on with the folds that are not done; those that are stay as they are."""
    folds = read_folds(folder)
    if num_folds not in (None, folds.num_folds):
        raise CheckpointError(
            f"{folder.path} was started with {folds.num_folds} folds, not {num_folds}; resume without "
            f"changing it, or start new folds elsewhere."
        )
    runs = [folder.fold(number) for number in range(1, folds.num_folds + 1)]
    recipe = read_recipe(runs[0].recipe)
    whole = recipe.replace({"training.budget_seconds": folds.budget_seconds})
    _require_unchanged(runs[0], whole, _asked_again(whole, given, changes, precision))
    if folds.finished and folder.page.exists():
        progress.say(f"{folder.path} is finished; nothing to do.")
        return result_of(folder, folds)
    made_splits = [run.splits for run in runs]
    prepared = prepare_folds(data, recipe, folds.num_folds, made_splits=made_splits, left_out=_left_out(runs[0], force))
    _require_same_classes(runs[0], prepared[0])
    return _train_folds(folder, folds, prepared, recipe, weights, choose_device(device), progress)


def _train_folds(
    folder: FoldsFolder,
    folds: Folds,
    prepared: Sequence[Prepared],
    recipe: Recipe,
    weights: str | Path | None,
    place: torch.device,
    progress: Progress,
) -> FoldsResult:
    def train_fold(number: int, started: float) -> Mapping[str, Any]:
        one = prepared[number - 1]
        job = one.job(recipe, place)
        return _train_fold(folder.fold(number), one, job, weights, progress, started)

    seconds = recipe.training.budget_seconds if recipe.training.steps is None else None
    classes = prepared[0].classes
    try:
        return train_folds(folder, folds, train_fold, seconds_each=seconds, classes=classes, progress=progress)
    except KeyboardInterrupt:
        root = prepared[0].dataset.root
        progress.say(f"all folds go on with: pixelwise train {root} -o {folder.path} --resume")
        raise


def _train_fold(
    run: RunFolder, prepared: Prepared, job: Job, weights: str | Path | None, progress: Progress, started: float
) -> Mapping[str, Any]:
    """The scores of one fold on its validation images, trained as far as it is not yet."""
    names = prepared.classes.names
    checkpoint = load_checkpoint(run)
    if checkpoint and checkpoint.finished and run.report.exists():  # stopped before its scores were written down
        predictor = load(run.path, device=str(job.device), precision="fp32")
        return score_samples(predictor, job.dataset, job.val_samples(), progress=progress).scores(names)
    if not checkpoint:
        job = _with_first_weights(job, weights, progress)
    return _train_and_report(run, prepared, job, True, progress, started).tally.scores(names)


def _train_in(
    run: RunFolder,
    prepared: Prepared,
    job: Job,
    resume: bool,
    progress: Progress,
    started: float,
) -> TrainResult:
    _train_and_report(run, prepared, job, resume, progress, started)
    return _result(run)


def _train_and_report(
    run: RunFolder,
    prepared: Prepared,
    job: Job,
    resume: bool,
    progress: Progress,
    started: float,
) -> Scored:
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
        notes=(*prepared.overruled, *prepared.notes),
    )
    write_report(run.report, report)
    return scored


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
    write_splits(run.splits, prepared.splits, prepared.groups)
    if prepared.left_out is None:
        run.left_out.unlink(missing_ok=True)  # of an earlier run that was cleared away in part
    else:
        write_left_out(run.left_out, prepared.left_out)
    write_atomically(run.recipe, made.to_yaml().encode())


def _result(run: RunFolder) -> TrainResult:
    _, spec = load_model(run.model)
    return TrainResult(run=run.path, model=run.model, report=run.report, scores=spec.scores)
