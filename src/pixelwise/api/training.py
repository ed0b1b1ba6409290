"""Commands that train: train, demo."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pixelwise.api.datasets import check
from pixelwise.api.models import evaluate, predict
from pixelwise.api.options import (
    Data,
    Device,
    Format,
    GroupBy,
    Masks,
    NumFolds,
    Option,
    Overwrite,
    Precision,
    Seed,
    Settings,
    StrPath,
    to_paths,
)
from pixelwise.arguments import Count, check_arguments
from pixelwise.config import load_config, parse_duration
from pixelwise.errors import InvalidArgumentError, wrap_path_errors
from pixelwise.import_paths import make_import_path
from pixelwise.output_files import OutputClaim, OutputManifest, claim_output, remove_files, require_replaceable
from pixelwise.training.results import CrossValidationResult, TrainResult

logger = logging.getLogger(__name__)

DEMO_BUDGET = "100s"
_DEMO_MARK = ".pixelwise-demo"
_DEMO_UNFINISHED = ".pixelwise-demo-unfinished"
"""File in the folder of a demo that was interrupted."""


@check_arguments
@wrap_path_errors()
def train(
    data: Data,
    output: Annotated[StrPath | None, Option(help="Run folder.", short="-o", default="runs/DATA-NETWORK-N")] = None,
    *,
    format: Format = None,
    masks: Masks = None,
    group_by: GroupBy = None,
    folds: Annotated[
        NumFolds | None, Option(help="Number of cross-validation folds; one run each.", metavar="K")
    ] = None,
    config: Annotated[StrPath | None, Option(help="Config file to use instead of a plan.", metavar="FILE")] = None,
    network: Annotated[
        str | Callable[..., Any] | None,
        Option(help="Network, as listed by `networks`, or module:name.", metavar="NAME"),
    ] = None,
    encoder: Annotated[
        str | None, Option(help="Encoder of unet or fcn, such as resnet34 or timm:convnext_tiny.", metavar="NAME")
    ] = None,
    weights: Annotated[
        Literal["imagenet", "none"] | StrPath | None,
        Option(help="Initial weights of the encoder.", metavar="FILE|imagenet|none", default="none"),
    ] = None,
    init_from: Annotated[
        StrPath | None,
        Option(help="Run or model with the initial weights; its classes may differ.", metavar="MODEL"),
    ] = None,
    budget: Annotated[
        str | float | None, Option(help="Time for the whole command, such as 90s, 20m, 0.5h or 1h30m.", default="20m")
    ] = None,
    steps: Annotated[Count | None, Option(help="Number of optimizer steps, instead of a budget.")] = None,
    resume: Annotated[bool, Option(help="Continue the run in --output.")] = False,
    allow_changes: Annotated[bool, Option(help="With --resume: accept a changed config or dataset.")] = False,
    profile: Annotated[bool, Option(help="Profile a few steps before training; see profile.txt.")] = False,
    skip_invalid: Annotated[bool, Option(help="Leave out files with errors instead of stopping.")] = False,
    loss: str | Callable[..., Any] | None = None,
    augment: str | Callable[..., Any] | None = None,
    settings: Annotated[Mapping[str, object], Settings] = MappingProxyType({}),
    seed: Seed = None,
    deterministic: Annotated[bool, Option(help="Make the run repeatable bit for bit on a CPU.")] = False,
    devices: Annotated[Count | None, Option(help="Number of processes, each with its own device.", metavar="N")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> TrainResult | CrossValidationResult:
    """Train a network on a dataset, score it, and write a model and a report.

    Network, sample size and schedule are planned for the dataset, the machine and the budget. Every argument that
    is given overrides the plan. When torchrun has started several processes, each trains on its part of every batch,
    and all return the same result.

    Args:
        data: Dataset folder, or several, with classes matched by name.
        output: Run folder. Without `resume`, a folder that contains a run is refused. None: `runs/DATA-NETWORK-N`.
        format: Dataset format; None: detected.
        masks: Folder of the masks, next to the images; None: as in `dataset.yaml`, or detected.
        group_by: Rule that finds the group of an image: a regular expression on the names, or FILE.csv:COLUMN. A group
            stays in one split.
        folds: Number of folds for cross-validation. One run per fold in `output`/fold-1, ...; they share the budget.
        config: Config file to use instead of a plan.
        network: Network, a name of `pixelwise.networks.NETWORKS`, or a class or function of a module of your own with
            the parameters `in_channels` and `num_classes`. It is stored by its import path, "module:name".
        encoder: Classifier to use as the encoder of unet or fcn.
        weights: Initial weights of the encoder: "imagenet", "none" or a file.
        init_from: Run folder or model file with the initial weights; its network is used unless another is given.
        budget: Time for the whole command, in seconds or as text; None: "20m", unless `steps` is given.
        steps: Number of optimizer steps, instead of a budget.
        resume: Continue the run in `output` from its last checkpoint.
        allow_changes: With `resume`: accept a changed config or dataset, and list the changes in `changes.yaml`.
        profile: Profile a few steps before training: `profile.txt`, `profile.json.gz`.
        skip_invalid: Leave out files with errors; they are listed in `left_out.yaml`.
        loss: Loss function of your own, with the signature of `pixelwise.losses`; stored by its import path.
        augment: Function (image, labels, rng) → (image, labels) to apply after the augmentation of the config; stored
            by its import path.
        settings: Configuration values, `{"section.key": value}`; they override `config` and the plan.
        seed: Seed of splits, weights and augmentation; None: 0.
        deterministic: Make the run repeatable bit for bit on a CPU.
        devices: Number of processes, each with its own device. Only on the command line; in Python, use torchrun.
        device: Device of the network.
        precision: Numerical precision of the forward and backward pass.

    Returns:
        The run folder, the model file, the report and the scores on the validation images.

    Raises:
        PathNotFoundError: `data`, `config`, `weights` or `init_from` does not exist.
        DataError: `data` has errors that `check` reports.
        CheckpointError: the run in `output` cannot be resumed.
        TrainingError: the loss is NaN, or the device is out of memory.
        InvalidArgumentError: an unknown name, an invalid value, or arguments that exclude each other.

    Example:
        >>> result = pw.train(data, "run", network="unet", steps=2, device="cpu")
        >>> result.model.name
        'model.safetensors'
    """
    from pixelwise.api.train_folds import cross_validate
    from pixelwise.api.train_options import TrainOptions
    from pixelwise.api.train_run import make_result, prepare_run, train_run
    from pixelwise.training.distributed import open_world

    if budget is not None and steps is not None:
        raise InvalidArgumentError("budget and steps both set the length of the run. Choose one of them.")
    if resume and output is None:
        raise InvalidArgumentError("resume needs the run folder. Give it as output (-o).")
    if init_from is not None and weights not in (None, "none"):
        raise InvalidArgumentError("init_from and weights both set the initial weights. Choose one of them.")
    if allow_changes and not resume:
        raise InvalidArgumentError("allow_changes has no effect without resume. Give both, or neither.")
    named = {
        "data.format": format,
        "data.masks": masks,
        "data.group_by": group_by,
        "network.name": _get_import_path(network, "network"),
        "loss.function": _get_import_path(loss, "loss"),
        "augmentation.function": _get_import_path(augment, "augment"),
        "network.encoder": encoder,
        "network.encoder_weights": weights if weights in (None, "imagenet", "none") else "file",
        "training.init_from": None if init_from is None else str(init_from),
        "training.steps": steps,
        "training.budget_seconds": None if budget is None else parse_duration(budget, "budget"),
        "training.seed": seed,
        "training.deterministic": True if deterministic else None,
    }
    options = TrainOptions(
        data=to_paths(data),
        output=None if output is None else Path(output),
        changes={**settings, **{key: value for key, value in named.items() if value is not None}},
        config=None if config is None else load_config(config),
        weights=None if weights is None else os.fspath(weights),
        folds=folds,
        resume=resume,
        allow_changes=allow_changes,
        profile=profile,
        skip_invalid=skip_invalid,
        given_device=device,
        devices=devices,
        precision=precision,
    )
    with open_world(options.device_name) as world, ExitStack() as claims:
        if world.broadcast_object(options.is_cross_validation):
            return cross_validate(options, world, claims)
        run = world.call_on_first(lambda: prepare_run(options, world, claims))
        if run.arguments:
            train_run(run, options, world)
        return world.call_on_first(lambda: make_result(run.folder))


def _get_import_path(function: str | Callable[..., Any] | None, parameter: str) -> str | None:
    """Return a name as it is, and the import path of a class or function."""
    return function if function is None or isinstance(function, str) else make_import_path(function, parameter)


@check_arguments
@wrap_path_errors()
def demo(
    output: Annotated[StrPath, Option(help="Folder for the dataset, the run and the predictions.", short="-o")] = (
        "runs/demo"
    ),
    *,
    overwrite: Overwrite = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> TrainResult:
    """Generate a dataset of street scenes, then check, train, evaluate and predict, in under three minutes.

    Args:
        output: Folder for everything. An earlier demo in it is replaced.
        overwrite: Use a folder with other files, and replace what the user has changed in an earlier demo.
        device: Device of the network.
        precision: Numerical precision of the network.

    Returns:
        The result of `train`. The folder also holds `data/`, `evaluation.json` and `predictions/`.

    Raises:
        InvalidArgumentError: `output` holds other files, or another process writes to it.

    Example:
        >>> result = pw.demo("runs/demo")  # doctest: +SKIP
        >>> result.scores["mean_iou"] > 0.5  # doctest: +SKIP
        True
    """
    from pixelwise.data.synthetic import write_dataset
    from pixelwise.devices import choose_device, choose_precision
    from pixelwise.training.run_dir import RunFolder

    choose_precision(precision, choose_device(device))  # before the dataset is generated
    folder = Path(output)
    with claim_output(folder) as claim:
        manifest = OutputManifest(claim=claim, name=_DEMO_MARK, request={"command": "demo"})
        _clear_demo(folder, manifest, overwrite=overwrite)
        manifest.begin((), overwrite=overwrite)
        (folder / _DEMO_UNFINISHED).touch()
        data, part = folder / "data", folder / ".pixelwise-data"
        logger.info(f"generating street scenes in {data}")
        shutil.rmtree(part, ignore_errors=True)  # of an interrupted demo
        write_dataset(part, "streets", num_train=160, num_val=32, num_test=32, size=(192, 256))
        for path in _list_files(part):
            manifest.record(data / path.relative_to(part), path)
        part.rename(data)
        report = check(data)
        logger.info(f"check: {len(report.errors)} errors, {len(report.findings)} findings")
        # No pretrained weights: the demo downloads nothing and gives everybody the same plan.
        result = train(data, folder, weights="none", budget=DEMO_BUDGET, device=device, precision=precision)
        assert isinstance(result, TrainResult)
        scores = evaluate(result.model, data, json_path=folder / "evaluation.json", device=device, precision=precision)
        logger.info(f"test mean IoU: {scores.mean_iou:.3f}, boundary F1: {scores.boundary_f1:.3f}")
        images, predictions = data / "images" / "test", folder / "predictions"
        predict(result.model, [images], predictions, save=("labels", "overlay"), device=device, precision=precision)
        logger.info(f"labels and overlays of the test images: {predictions}")
        for path in _list_files(folder / "evaluation.json", *RunFolder(folder).contents):
            manifest.record(path, path)
        manifest.save()
        (folder / _DEMO_UNFINISHED).unlink(missing_ok=True)
        return result


def _clear_demo(folder: Path, manifest: OutputManifest, *, overwrite: bool) -> None:
    """Remove the files of an earlier demo; raise InvalidArgumentError for files that no demo wrote."""
    from pixelwise.prediction.output_writer import MANIFEST
    from pixelwise.training.run_dir import RunFolder

    others = [path for path in folder.iterdir() if not path.name.startswith(".pixelwise")]
    if others and not manifest.path.exists() and not overwrite:
        raise InvalidArgumentError(
            f"{folder} contains files that no demo wrote ({others[0].name}). Choose another folder with -o."
        )
    claim = OutputClaim(folder=folder / "predictions", stem=".pixelwise")
    predictions = OutputManifest(claim=claim, name=MANIFEST, request={})
    runs = list(_list_files(folder / "evaluation.json", *RunFolder(folder).contents))
    images = list(_list_files(folder / "data"))
    labels = [path for path in _list_files(folder / "predictions") if path != predictions.path]
    states = {path: manifest.find_state(path) for path in images} | {
        path: predictions.find_state(path) for path in labels
    }
    # The data and the predictions of the new demo must not be mixed with files of the user, even with `overwrite`.
    if foreign := next((path for path, (state, _) in states.items() if state == "foreign"), None):
        raise InvalidArgumentError(
            f"{foreign} is in the folder of an earlier demo, but Pixelwise did not write it. Move it, or choose "
            f"another folder with -o."
        )
    if not (folder / _DEMO_UNFINISHED).exists():  # else a demo was interrupted before the run was recorded
        states |= {path: manifest.find_state(path) for path in runs}
    require_replaceable({path: state for path, state in states.items() if state[0] != "other"}, overwrite=overwrite)
    remove_files([*runs, *images, *labels, predictions.path], folder)


def _list_files(*paths: Path) -> Iterator[Path]:
    """Yield files, and the files below folders."""
    for path in paths:
        yield from (file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
