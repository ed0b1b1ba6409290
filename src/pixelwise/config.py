"""The configuration of a run, on one page: frozen dataclasses, read from and written to YAML.

A config holds no time of day and no path, except a CSV file of groups and the model to start from. The same config on
the same data repeats the run.
"""

import ast
import dataclasses
import inspect
import itertools
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from pixelwise.arguments import (
    Count,
    Fraction,
    FractionBelowOne,
    Index,
    Names,
    NonNegative,
    OpenFraction,
    Positive,
    PositiveFraction,
    Range,
    check_arguments,
    convert,
    get_limit,
    get_members,
)
from pixelwise.errors import InvalidArgumentError, convert_os_error, describe_cause, unknown_name

_FORMATS = (
    *("folder", "voc", "camvid", "cityscapes", "ade20k", "nnunet", "huggingface", "webdataset", "coco", "cvat"),
    *("labelme", "supervisely", "yolo"),
)
_NETWORKS = (
    *("unet", "unet-paper", "segnet", "bilinear-interpolation", "segnet-basic", "segnet-basic-encoder-addition"),
    *("segnet-basic-single-channel-decoder", "fcn-basic", "fcn-basic-no-addition", "fcn-basic-no-dim-reduction"),
    *("fcn-basic-no-addition-no-dim-reduction", "bayesian-segnet", "bayesian-segnet-basic", "fcn", "fcn-32s"),
    *("fcn-16s", "fcn-8s", "fcn-paper", "fcn-alexnet"),
)
"""The names of `FORMATS` and `NETWORKS`, which are defined in layers above this one. A test compares them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The dataset: format, splits, sample size and cache."""

    format: Annotated[str, Names(kind="format", names=_FORMATS)] | None = None
    """Dataset format, a name of `pixelwise.data.formats.FORMATS`; None: detected."""
    masks: str | None = None
    """Folder of the masks, next to the images; None: as in dataset.yaml, or detected."""
    crop_size: tuple[int, int] = (256, 256)
    """Height and width of a training sample, in pixels of the (scaled) image."""
    rare_class_fraction: Fraction = 0.0
    """Fraction of the training samples that are drawn for a class, the rarer the more often, and cropped around one of
    its pixels; the others are drawn uniformly."""
    val_fraction: OpenFraction = 0.2
    """Fraction of the training images to validate on if the dataset has no val split."""
    split_by: Literal["auto", "image", "block"] = "auto"
    """Unit that a new split keeps together: an image, or a block of neighboring tiles or video frames, found by their
    names; auto: blocks if the names show many tiles or frames."""
    group_by: str | None = None
    """Rule that finds the group of an image: a regular expression on the names, whose first group (or whole match)
    is the group, or FILE.csv:COLUMN. A group stays in one split; None: see `split_by`."""
    max_val_images: Count | None = None
    """Number of validation images to score during training, drawn once with the seed; None: all."""
    cache_gib: NonNegative = 2.0
    """Memory for decoded images, in GiB; images that do not fit are decoded again in each epoch."""

    def __post_init__(self) -> None:
        _convert_fields(self, "data")
        _require(min(self.crop_size) >= 1, "data.crop_size", self.crop_size, "a height and a width of at least 1")
        has_one_rule = self.group_by is None or self.split_by == "auto"
        _require(has_one_rule, "data.split_by", self.split_by, "'auto' with data.group_by")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The network and its size."""

    name: Annotated[str, Names(kind="network", names=_NETWORKS, has_import_paths=True)] = "unet"
    """A name of `pixelwise.networks.NETWORKS`, or the import path of a class or function, such as my_module:MyNet."""
    base_channels: Count | None = None
    """Channels at the finest resolution, for networks with that choice; None: as published, 32 for unet. With an
    encoder, of the decoder's finest map; None: those of the encoder's maps."""
    depth: Annotated[int, Range(ge=1, le=8)] = 4
    """unet: number of times that the encoder halves the resolution."""
    max_channels: int = 512
    """unet: largest number of channels of a layer."""
    stem_stride: Literal[1, 2, 4] = 1
    """unet: stride of the first layer, in pixels."""
    encoder: str | None = None
    """unet, fcn: classifier to use as the encoder, such as resnet34 or timm:convnext_tiny; None: the network's own."""
    encoder_weights: Literal["none", "imagenet", "file"] = "none"
    """Initial weights of the encoder."""
    normalization: Literal["none", "batch", "group"] = "batch"
    """unet: normalization after each convolution."""
    upsampling: Literal["switches", "nearest", "bed_of_nails", "bilinear", "transposed"] | None = None
    """unet, segnet: how the decoder doubles the resolution; None: as published."""
    skips: Literal["none", "add", "concat"] | None = None
    """unet, segnet: how the decoder merges the encoder's features; None: as published."""

    def __post_init__(self) -> None:
        _convert_fields(self, "network")
        smallest = self.base_channels or 1
        _require(self.max_channels >= smallest, "network.max_channels", self.max_channels, ">= network.base_channels")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, weight averaging and layer-wise learning rates."""

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    """Optimization algorithm."""
    lr: Positive = 2e-3
    """Peak learning rate."""
    encoder_lr: Positive | None = None
    """Peak learning rate of the encoder, with AdamW where `name` is muon; None: as the rest."""
    weight_decay: NonNegative = 0.01
    """Decoupled (AdamW, Muon) or L2 (SGD); not applied to biases and normalization."""
    momentum: FractionBelowOne = 0.9
    """Momentum of SGD and Muon, beta1 of AdamW."""
    clip_norm: NonNegative = 5.0
    """Largest global gradient norm; 0 turns clipping off."""
    ema: FractionBelowOne = 0.02
    """Time constant of the moving average of the weights, as a fraction of the run; 0 turns averaging off."""
    freeze_stages: Index = 0
    """Number of encoder stages, from the first, whose weights and batch statistics are frozen."""
    layer_decay: PositiveFraction = 1.0
    """Learning rate of an encoder stage relative to that of the next deeper one; for the deepest, to the decoder's."""

    def __post_init__(self) -> None:
        _convert_fields(self, "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """The learning rate and the image scale over the run."""

    name: Literal["cosine", "poly", "linear", "one_cycle", "constant"] = "cosine"
    """Learning rate schedule."""
    warmup: FractionBelowOne = 0.05
    """Fraction of the run in which the learning rate rises linearly, from 1 % of its target."""
    pct_start: OpenFraction = 0.3
    """one_cycle: fraction of the run after the warmup in which the rate rises from 1/25 of the peak to the peak."""
    final_lr_ratio: Fraction = 0.01
    """Learning rate at the end, as a fraction of the peak."""
    start_scale: PositiveFraction = 1.0
    """Image scale at the start of the run; it grows to 1 (progressive resizing)."""
    full_scale_from: Fraction = 0.6
    """Fraction of the run after which samples have their full size."""

    def __post_init__(self) -> None:
        _convert_fields(self, "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """The loss and its weights."""

    name: Literal["cross_entropy", "focal", "dice", "tversky", "lovasz"] = "cross_entropy"
    """Main loss, a name of `pixelwise.losses.LOSSES`."""
    function: str | None = None
    """Import path of a function to use instead of `name`, such as my_module:my_loss."""
    class_weights: Literal["none", "median_frequency", "inverse_log"] = "none"
    """Formula of the class weights, from class frequencies."""
    class_weight_power: Fraction = 0.5
    """Exponent of the class weights; 1 gives them as published, 0 gives equal weights."""
    dice_weight: NonNegative = 0.0
    """Weight of an additional soft Dice loss."""
    lovasz_weight: NonNegative = 0.0
    """Weight of an additional Lovász loss, a surrogate of the mean IoU."""
    focal_gamma: NonNegative = 2.0
    """focal: exponent that reduces the loss of well classified pixels; 0 gives the cross-entropy."""
    tversky_beta: Fraction = 0.7
    """tversky: weight of false negatives; false positives have the weight 1 - beta."""
    border_weight: NonNegative = 0.0
    """Additional weight of class 0 pixels in a gap between two regions of other classes; w0 of U-Net, 10 there."""
    border_sigma: Positive = 5.0
    """Decay of `border_weight` with the distance to the two regions, in pixels."""

    def __post_init__(self) -> None:
        _convert_fields(self, "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training samples."""

    flip_horizontal: Fraction = 0.5
    """Probability of a left-right flip."""
    flip_vertical: Fraction = 0.0
    """Probability of a top-bottom flip."""
    scale: tuple[float, float] = (0.7, 1.5)
    """Range of the random zoom, drawn log-uniformly."""
    rotate: Annotated[float, Range(ge=0, le=180)] = 5.0
    """Largest rotation in either direction, in degrees."""
    color: Fraction = 0.3
    """Strength of brightness, contrast and saturation changes; 0 turns them off."""
    elastic: NonNegative = 0.0
    """Standard deviation of the displacements of a 3 x 3 grid of points, in pixels (10 in U-Net); 0 turns it off."""
    function: str | None = None
    """Import path of a function (image, labels, rng) → (image, labels) to apply afterwards, such as my_module:noise."""

    def __post_init__(self) -> None:
        _convert_fields(self, "augmentation")
        low, high = self.scale
        _require(0 < low <= high, "augmentation.scale", self.scale, "0 < low <= high")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Length, batches, memory, precision and evaluations of a run."""

    batch_size: Count = 8
    """Number of images per optimizer step, over all processes."""
    gradient_accumulation_steps: Count = 1
    """Number of parts into which a batch is divided to save memory; batch normalization sees one part at a time."""
    activation_checkpointing: bool = False
    """Recompute the activations inside network stages in the backward pass: less memory, more time, equal results."""
    compile: bool = False
    """Compile the network with torch.compile: faster steps, but the first one takes a minute or more."""
    sync_batch_norm: bool = False
    """Compute batch statistics over the images of all processes; GPUs only."""
    sharding: Literal["none", "fsdp"] = "none"
    """Storage of weights, gradients, averages and optimizer state: a copy per process, or a shard each (FSDP2)."""
    steps: Count | None = None
    """Length of the run in optimizer steps; None: as many as fit `budget_seconds`."""
    budget_seconds: Positive | None = None
    """Wall-clock time of the whole command, in seconds; None: `steps` decides."""
    init_from: str | None = None
    """Run folder or model file with the initial weights, as given to --init-from; None: random weights."""
    seed: Index = 0
    """Seed of splits, weights, sampling and augmentation."""
    deterministic: bool = False
    """Make the run repeatable bit for bit on a CPU: training does not read the clock."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numerical precision of the forward and backward pass; weights are always float32."""
    num_evaluations: Count = 5
    """Number of evaluations on the validation images, including the final one."""
    images_per_evaluation: Count | None = None
    """Number of validation images to score at each evaluation during the run, evenly spaced; None: all. The best model
    is scored on all of them."""
    early_stopping_patience: Index | None = None
    """Number of evaluations without a new best mean IoU after which the run ends; None or 0: never."""
    checkpoint_interval_seconds: Positive = 60.0
    """Seconds between checkpoints; longer if saving would take more than 2 % of the run."""
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Loggers in addition to metrics.jsonl, names of `pixelwise.training.loggers.LOGGERS`."""

    def __post_init__(self) -> None:
        _convert_fields(self, "training")
        parts = self.gradient_accumulation_steps
        key = "training.gradient_accumulation_steps"
        _require(parts <= self.batch_size, key, parts, "<= training.batch_size")
        recomputes = self.activation_checkpointing and self.compile
        _require(not recomputes, "training.activation_checkpointing", True, "false with training.compile")
        is_whole = self.sharding == "none" or not self.compile
        _require(is_whole, "training.sharding", self.sharding, "none with training.compile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration of a run. Every field has a default; the planner chooses better values for a dataset.

    Example:
        >>> config = Config().replace({"network.name": "segnet", "optimizer.lr": 1e-3})
        >>> config.network.name
        'segnet'
        >>> Config().replace({"optimizer.lr": -1})
        Traceback (most recent call last):
        pixelwise.errors.InvalidArgumentError: optimizer.lr is -1.0, but must be > 0.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """`section.key` → why the planner chose its value; comments of the YAML file."""
    estimate: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Lines with the planner's estimate of time and memory; comments at the top of the YAML file."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            convert(getattr(self, each.name), each.type, each.name)

    @check_arguments
    def replace(self, changes: Mapping[str, Any], reasons: Mapping[str, str] = types.MappingProxyType({})) -> "Config":
        """Return a copy with changed values.

        Args:
            changes: `{"section.key": value}`.
            reasons: `{"section.key": text}`, added to those of the keys that do not change.

        Raises:
            InvalidArgumentError: a key does not exist, or a value is out of range.
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        changed = _build(self, sections)
        kept = {
            key: reason
            for key, reason in self.reasons.items()
            if key not in changes or _value_at(self, key) == _value_at(changed, key)
        }
        return dataclasses.replace(changed, reasons={**kept, **reasons}, estimate=self.estimate)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain values by section and key, in the order of this page."""
        return {
            section: {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(values).items()}
            for section, values in _sections(self).items()
        }

    def to_yaml(self) -> str:
        """Return the config as YAML, with the estimate and the reasons as comments."""
        lines = [f"# {line}" for line in self.estimate]
        for section, values in self.to_dict().items():
            lines.append(f"{section}:")
            for key, value in values.items():
                text = yaml.safe_dump(value, default_flow_style=True, width=1000)
                line = f"  {key}: {text.splitlines()[0]}"
                reason = self.reasons.get(f"{section}.{key}")
                lines.append(f"{line:<32}  # {reason}" if reason else line)
        return "\n".join(lines) + "\n"

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return a JSON schema of `config.yaml`, for editors and validators."""
        sections: dict[str, Any] = {}
        for key in describe_keys():
            section, _, name = key.name.partition(".")
            default = list(key.default) if isinstance(key.default, tuple) else key.default
            entry = {"description": key.doc, "default": default, **_schema_of(key.hint)}
            sections.setdefault(section, {})[name] = entry
        closed = {"type": "object", "additionalProperties": False}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "config.yaml of Pixelwise",
            **closed,
            "properties": {section: {**closed, "properties": entries} for section, entries in sections.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """A key of the configuration."""

    name: str
    """`section.key`."""
    default: Any
    hint: Any
    """Annotation of its field."""
    doc: str

    @property
    def legal(self) -> str:
        """Its type, choices or range, as text."""
        return _legal_text(self.hint)


def describe_keys() -> list[ConfigKey]:
    """Return all keys in the order of this page, with default, legal values and documentation."""
    keys = []
    for section, values in _sections(Config()).items():
        docs = _docs(type(values))
        keys += [
            ConfigKey(name=f"{section}.{name}", default=getattr(values, name), hint=hint, doc=docs[name])
            for name, hint in _HINTS[section].items()
        ]
    return keys


@check_arguments
def from_dict(values: Mapping[str, Any]) -> Config:
    """Return the inverse of `Config.to_dict`; missing keys keep their defaults."""
    for section, content in values.items():
        if not isinstance(content, Mapping):
            raise InvalidArgumentError(
                f"Config section {section!r} is {content!r}. Expected indented 'key: value' lines below '{section}:'."
            )
    return _build(Config(), values)


@check_arguments
def load_config(path: str | os.PathLike[str]) -> Config:
    """Load a config from a YAML file, with its reasons.

    Raises:
        InvalidArgumentError: the file is not valid YAML, or a key or value in it is invalid.
        PathNotFoundError: The file does not exist.
        PathAccessError: the file is not readable.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except OSError as error:
        raise convert_os_error(error, f"Config {os.fspath(path)!r}", "be read") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: 2001-99-99 as a date
        raise InvalidArgumentError(
            f"Config {os.fspath(path)!r} is not valid YAML ({describe_cause(error)}). Correct it."
        ) from error
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"{path} is not a config. Expected sections such as 'network:'.")
    try:
        config = from_dict(values)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{path}: {error}") from error
    return dataclasses.replace(config, reasons=_read_reasons(text), estimate=_read_header(text))


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse the values of --set: `["optimizer.lr=0.001"]` → `{"optimizer.lr": 0.001}`."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or "." not in key:
            raise InvalidArgumentError(f"--set is {setting!r}. Expected section.key=value, such as optimizer.lr=0.001.")
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise InvalidArgumentError(
                f"The value of --set {setting!r} cannot be read ({describe_cause(error)}). Put it in quotes."
            ) from error
    return changes


_UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION_PART = re.compile(
    r"(\d{1,9}(?:\.\d*)?|\.\d+)\s*(days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])\s*"
)
_CLOCK = re.compile(r"(\d{1,9}):([0-5]\d):([0-5]\d)")


def parse_duration(text: str | float, name: str = "text") -> float:
    """Return the seconds of `90`, `90s`, `5min`, `1 h`, `0.5h`, `1h30m`, `1 hour 30 minutes` or `1:30:00`."""
    words = str(text).strip().lower()
    parts = _DURATION_PART.findall(words)
    units = [unit[0] for _, unit in parts]
    if re.fullmatch(r"\d{1,9}(\.\d*)?|\.\d+", words):
        seconds = float(words)
    elif clock := _CLOCK.fullmatch(words):
        seconds = float(sum(int(part) * factor for part, factor in zip(clock.groups(), (3600, 60, 1), strict=True)))
    elif parts and not _DURATION_PART.sub("", words) and units == sorted(set(units), key=list(_UNIT_SECONDS).index):
        seconds = sum(float(number) * _UNIT_SECONDS[unit[0]] for number, unit in parts)
    else:
        raise InvalidArgumentError(
            f"{name} is {text!r}, which is not a duration. Expected seconds, or numbers with units such as 90s, "
            "20m, 0.5h or 1h30m."
        )
    if seconds == 0:
        raise InvalidArgumentError(f"{name} is {text!r}, which is an empty duration. Expected one such as 20m.")
    return seconds


def _sections(config: Config) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.compare}


def _value_at(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


_HINTS: dict[str, dict[str, Any]] = {
    f.name: typing.get_type_hints(f.default_factory, include_extras=True)
    for f in dataclasses.fields(Config)
    if f.default_factory is not dataclasses.MISSING and f.compare
}
"""Section → key → annotation, with its `Range` or `Names`."""


def _docs(section: type) -> dict[str, str]:
    """Return field → the docstring below it, read from the source: Python keeps none for fields."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(section)).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(str(doc.value.value).split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
    }


def _require(condition: bool, key: str, value: object, legal: str) -> None:
    if not condition:
        raise InvalidArgumentError(f"{key} is {value!r}, but must be {legal}.")


def _convert_fields(section: Any, name: str) -> None:
    """Convert the values of a section to the types of its fields; YAML reads `1e-3` as a string."""
    for key, hint in _HINTS[name].items():
        path = f"{name}.{key}"
        value = convert(getattr(section, key), hint, path, parse_number=partial(_parse_number, path))
        object.__setattr__(section, key, value)


def _parse_number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        if key.endswith("_seconds"):
            return parse_duration(text, key)
        raise InvalidArgumentError(f"{key} is {text!r}, but must be a number.") from error


def _listed(choices: Iterable[Any]) -> str:
    return ", ".join(map(str, choices))


def _build(start: Config, sections: Mapping[str, Mapping[str, Any]]) -> Config:
    known = _sections(start)
    for section, values in sections.items():
        if section not in known:
            raise unknown_name("config section", str(section), known)
        hints = _HINTS[section]
        for key in values:
            if key not in hints:
                raise unknown_name(f"key of config section {section!r}:", str(key), hints)
        known[section] = dataclasses.replace(known[section], **values)
    return Config(**known)


def _legal_text(hint: Any) -> str:
    (part,) = get_members(hint)
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if limit := get_limit(part):
        text = str(limit)
    elif origin is Literal:
        text = _listed(arguments)
    elif origin is tuple:
        is_open = arguments[-1] is Ellipsis
        text = f"list of {_legal_text(arguments[0])}" if is_open else f"{len(arguments)} x {_legal_text(arguments[0])}"
    else:
        text = {int: "integer", float: "number", bool: "true, false", str: "string"}[part]
    return text if part is hint else f"{text} or null"


def _schema_of(hint: Any) -> dict[str, Any]:
    (part,) = get_members(hint)
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin is Literal:
        schema: dict[str, Any] = {"enum": list(arguments)}
    elif origin is tuple:
        size = {} if arguments[-1] is Ellipsis else {"minItems": len(arguments), "maxItems": len(arguments)}
        schema = {"type": "array", "items": _schema_of(arguments[0]), **size}
    else:
        plain = arguments[0] if origin is Annotated else part
        schema = {"type": {int: "integer", float: "number", bool: "boolean", str: "string"}[plain]}
    if isinstance(legal := get_limit(part), Range):
        names = {"minimum": legal.ge, "exclusiveMinimum": legal.gt, "maximum": legal.le, "exclusiveMaximum": legal.lt}
        schema |= {name: limit for name, limit in names.items() if limit is not None}
    return schema if part is hint else {"anyOf": [schema, {"type": "null"}]}


def _read_header(text: str) -> tuple[str, ...]:
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("# ")), len(lines))
    return tuple(line[2:] for line in lines[:end])


def _read_reasons(text: str) -> dict[str, str]:
    """Return the comments behind the values that `Config.to_yaml` has written."""
    reasons, section = {}, ""
    for line in text.splitlines():
        if match := re.match(r"(\w+):$", line):
            section = match[1]
        elif match := re.match(r"  (\w+): .*?  # (.*)$", line):
            reasons[f"{section}.{match[1]}"] = match[2]
    return reasons
