"""Everything a run is told, on one page: frozen dataclasses, read from and written to YAML.

A config holds no path (but for a table of groups and the model it starts from) and no time of day:
the same config on the same data is the same run.
"""

import contextlib
import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pixelwise.errors import InvalidArgumentError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    format: str | None = None
    """How the dataset lies on disk, a name of `pixelwise.data.formats.FORMATS`; None: the one it looks like."""
    crop_size: tuple[int, int] = (256, 256)
    """Height and width of a training sample, in pixels of the (scaled) image."""
    val_fraction: float = 0.2
    """Share of the training images that validate where the dataset names no val split."""
    split_by: Literal["auto", "image", "block"] = "auto"
    """What a made split keeps together: single images, or blocks of neighbors (tiles of a raster, frames of a video)
    by their names; auto: blocks where the names tell of many tiles or frames."""
    group_by: str | None = None
    """What is never in two splits: a regular expression on the names, whose first group (else match) is the group,
    or FILE.csv:COLUMN; None: see `split_by`."""
    max_val_images: int | None = None
    """Validation images used while training, drawn once by seed; None: all of them."""
    cache_gib: float = 2.0
    """Memory for decoded images, in GiB; what does not fit is decoded again each time."""

    def __post_init__(self) -> None:
        _require(min(self.crop_size) >= 1, "data.crop_size", self.crop_size, "a height and a width of at least 1")
        _require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "0 < x < 1")
        _require(self.group_by != "", "data.group_by", self.group_by, "a regular expression or FILE.csv:COLUMN")
        alone = self.group_by is None or self.split_by == "auto"
        _require(alone, "data.split_by", self.split_by, "left at 'auto' where data.group_by decides")
        _require(
            self.max_val_images is None or self.max_val_images >= 1,
            "data.max_val_images",
            self.max_val_images,
            ">= 1",
        )
        _require(self.cache_gib >= 0, "data.cache_gib", self.cache_gib, ">= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    name: str = "unet"
    """A name of `pixelwise.networks.NETWORKS`."""
    base_channels: int | None = None
    """Channels of the finest level, where the network has that choice; None: as published, 32 for unet."""
    depth: int = 4
    """unet: how many times the contracting path halves the resolution."""
    max_channels: int = 512
    """unet: ceiling for the doubling of channels."""
    stem_stride: int = 1
    """unet: pixels of the image per pixel of the finest level, 1, 2 or 4."""
    encoder: str | None = None
    """unet, fcn: classifier that the images pass first, such as resnet34 or timm:convnext_tiny; None: its own."""
    encoder_weights: Literal["none", "imagenet", "file"] = "none"
    """Where the encoder's first weights are from."""
    normalization: Literal["none", "batch", "group"] = "batch"
    """unet: after each convolution."""
    upsampling: Literal["switches", "nearest", "bed_of_nails", "bilinear", "transposed"] | None = None
    """unet, segnet: how the decoder doubles its maps; None: the network's own way."""
    skips: Literal["none", "add", "concat"] | None = None
    """unet, segnet: what the decoder does with the encoder's maps; None: the network's own way."""

    def __post_init__(self) -> None:
        width = self.base_channels
        _require(width is None or width >= 1, "network.base_channels", width, ">= 1")
        _require(self.max_channels >= (width or 1), "network.max_channels", self.max_channels, ">= width")
        _require(1 <= self.depth <= 8, "network.depth", self.depth, "1 to 8")
        _require(self.stem_stride in (1, 2, 4), "network.stem_stride", self.stem_stride, "1, 2, 4")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    name: Literal["adamw", "sgd", "muon"] = "adamw"
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decoupled (AdamW, Muon) or L2 (SGD); not applied to biases and normalization."""
    momentum: float = 0.9
    """SGD's momentum, Muon's momentum and AdamW's beta1."""
    clip_norm: float = 5.0
    """Largest global gradient norm; 0 turns clipping off."""
    ema: float = 0.02
    """Memory of the averaged weights, as a share of the run; 0 turns averaging off."""
    freeze_stages: int = 0
    """So many of the encoder's first stages keep their weights and batch statistics."""
    layer_decay: float = 1.0
    """Share of the learning rate that each encoder stage has of the next coarser one, the coarsest of the decoder."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, "optimizer.lr", self.lr, "> 0")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 <= x < 1")
        _require(self.clip_norm >= 0, "optimizer.clip_norm", self.clip_norm, ">= 0")
        _require(0 <= self.ema < 1, "optimizer.ema", self.ema, "0 <= x < 1")
        _require(self.freeze_stages >= 0, "optimizer.freeze_stages", self.freeze_stages, ">= 0")
        _require(0 < self.layer_decay <= 1, "optimizer.layer_decay", self.layer_decay, "0 < x <= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    name: Literal["cosine", "poly", "linear", "one_cycle", "constant"] = "cosine"
    warmup: float = 0.05
    """Share of the run in which the learning rate rises linearly from 0."""
    pct_start: float = 0.3
    """one_cycle: share of the run after the warm-up, from a 25th of the peak up to it."""
    final_lr_ratio: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    start_scale: float = 1.0
    """Image scale at the start of the run; it grows to 1 (progressive resizing)."""
    full_scale_from: float = 0.6
    """Progress in [0, 1] from which samples have their full size."""

    def __post_init__(self) -> None:
        _require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "0 <= x < 1")
        _require(0 < self.pct_start < 1, "schedule.pct_start", self.pct_start, "0 < x < 1")
        _require(0 <= self.final_lr_ratio <= 1, "schedule.final_lr_ratio", self.final_lr_ratio, "0 <= x <= 1")
        _require(0 < self.start_scale <= 1, "schedule.start_scale", self.start_scale, "0 < x <= 1")
        _require(
            0 <= self.full_scale_from <= 1,
            "schedule.full_scale_from",
            self.full_scale_from,
            "0 <= x <= 1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    name: Literal["cross_entropy", "focal", "dice", "tversky", "lovasz"] = "cross_entropy"
    """The main loss, a name of `pixelwise.losses.LOSSES`."""
    class_weights: Literal["none", "median_frequency", "inverse_log"] = "none"
    class_weight_power: float = 0.5
    """Exponent on the class weights; 1 are the weights as published, 0 none."""
    dice_weight: float = 0.0
    """Weight of a soft Dice term beside the main loss."""
    lovasz_weight: float = 0.0
    """Weight of a Lovász term, which stands for the mean IoU, beside the main loss."""
    focal_gamma: float = 2.0
    """focal: how little pixels count that are right already; 0 is the cross-entropy."""
    tversky_beta: float = 0.7
    """tversky: what a missed pixel costs; one seen too much costs the rest to 1."""
    border_weight: float = 0.0
    """What a pixel of class 0 counts more in a gap that separates two regions of the others; U-Net's w0 is 10."""
    border_sigma: float = 5.0
    """How fast `border_weight` decays with the distance to the two regions, in pixels."""

    def __post_init__(self) -> None:
        _require(0 <= self.class_weight_power <= 1, "loss.class_weight_power", self.class_weight_power, "0 <= x <= 1")
        _require(self.dice_weight >= 0, "loss.dice_weight", self.dice_weight, ">= 0")
        _require(self.lovasz_weight >= 0, "loss.lovasz_weight", self.lovasz_weight, ">= 0")
        _require(self.focal_gamma >= 0, "loss.focal_gamma", self.focal_gamma, ">= 0")
        _require(0 <= self.tversky_beta <= 1, "loss.tversky_beta", self.tversky_beta, "0 <= x <= 1")
        _require(self.border_weight >= 0, "loss.border_weight", self.border_weight, ">= 0")
        _require(self.border_sigma > 0, "loss.border_sigma", self.border_sigma, "> 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    flip_horizontal: float = 0.5
    """Probability of a left-right flip."""
    flip_vertical: float = 0.0
    """Probability of a top-bottom flip."""
    scale: tuple[float, float] = (0.7, 1.5)
    """Range of the random zoom, drawn log-uniformly."""
    rotate: float = 5.0
    """Largest rotation either way, in degrees."""
    color: float = 0.3
    """Strength of brightness, contrast and saturation changes; 0 turns them off."""
    elastic: float = 0.0
    """Standard deviation of the displacements of 3 x 3 points of a sample, in pixels; U-Net's is 10, 0 turns it off."""

    def __post_init__(self) -> None:
        for name in ("flip_horizontal", "flip_vertical"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augmentation.{name}", value, "0 to 1")
        low, high = self.scale
        _require(0 < low <= high, "augmentation.scale", self.scale, "0 < low <= high")
        _require(0 <= self.rotate <= 180, "augmentation.rotate", self.rotate, "0 to 180")
        _require(0 <= self.color <= 1, "augmentation.color", self.color, "0 to 1")
        _require(self.elastic >= 0, "augmentation.elastic", self.elastic, ">= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    """Parts in which a batch passes the network, their gradients added up: less memory, nearly the same run. Batch
    normalization sees one part at a time."""
    activation_checkpointing: bool = False
    """Maps inside the network's stages are made again in the backward pass, not kept: less memory, more time, the same
    numbers."""
    compile: bool = False
    """The network is compiled by torch.compile: steps are faster, the first one takes a minute and more."""
    sync_batch_norm: bool = False
    """Batch normalization over the images of all processes, not of each alone; GPUs only."""
    sharding: Literal["none", "fsdp"] = "none"
    """What each of several processes holds of weights, gradients, averages and the optimizer's numbers: all of them, or
    with "fsdp" its part of each (FSDP2)."""
    steps: int | None = None
    """Length of the run in optimizer steps; None: as many as fit `budget_seconds`."""
    budget_seconds: float | None = None
    """Wall-clock time of the whole command; None: `steps` decides."""
    init_from: str | None = None
    """Run folder or model file whose weights the run begins with, as it was given to --init-from; None: fresh
    weights."""
    seed: int = 0
    deterministic: bool = False
    """Repeat bit for bit on CPU; the clock is not looked at while training."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights are always float32."""
    num_evaluations: int = 5
    """How often the validation images are scored, the end included."""
    early_stopping_patience: int | None = None
    """Evaluations without a new best mean IoU after which the run ends early; None or 0: never."""
    checkpoint_interval_seconds: float = 60.0
    """Time between checkpoints; longer where saving one takes so long that it would cost more than 2 % of the run."""
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where the curves go beside metrics.jsonl, names of `pixelwise.training.loggers.LOGGERS`."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "training.batch_size", self.batch_size, ">= 1")
        parts = self.gradient_accumulation_steps
        _require(
            1 <= parts <= self.batch_size,
            "training.gradient_accumulation_steps",
            parts,
            "from 1 to training.batch_size",
        )
        _require(
            not (self.compile and self.activation_checkpointing),
            "training.activation_checkpointing",
            True,
            "false with training.compile",
        )
        whole = self.sharding == "none"
        _require(whole or not self.compile, "training.sharding", self.sharding, "none with training.compile")
        _require(self.steps is None or self.steps >= 1, "training.steps", self.steps, ">= 1")
        _require(
            self.budget_seconds is None or self.budget_seconds > 0,
            "training.budget_seconds",
            self.budget_seconds,
            "> 0",
        )
        _require(self.num_evaluations >= 1, "training.num_evaluations", self.num_evaluations, ">= 1")
        _require(
            (self.early_stopping_patience or 0) >= 0,
            "training.early_stopping_patience",
            self.early_stopping_patience,
            ">= 0",
        )
        seconds = self.checkpoint_interval_seconds
        _require(seconds > 0, "training.checkpoint_interval_seconds", seconds, "> 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run. Every field has a default that works; the planner puts in what the data asks for."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def replace(self, changes: Mapping[str, Any]) -> "Config":
        """A copy with `{"section.key": value}` put in; InvalidArgumentError for a wrong key or value."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        return _build(self, sections)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, sections and keys in the order of this page."""
        plain = dataclasses.asdict(self)
        return {
            section: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            for section, values in plain.items()
        }


def from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `Config.to_dict`; keys left out keep their defaults."""
    for section, content in values.items():
        if not isinstance(content, Mapping):
            raise InvalidArgumentError(
                f"config section {section!r} holds {content!r}; write it as 'key: value' lines "
                f"indented below '{section}:'."
            )
    return _build(Config(), values)


def load_config(path: str | Path) -> Config:
    """A config from a YAML file; errors name the file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: 2001-99-99 as a date
        reason = " ".join(str(error).split())
        raise InvalidArgumentError(f"{path} is not a readable config: {reason}") from error
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"{path} is not a config: it must hold sections such as 'network:'.")
    try:
        return from_dict(values)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{path}: {error}") from error


def to_yaml(config: Config, reasons: Mapping[str, str] | None = None, header: Iterable[str] = ()) -> str:
    """The config as YAML, each key of `reasons` ("section.key") with its reason as a comment, below the
    lines of `header` as comments.
    """
    lines = [f"# {line}" for line in header]
    for section, values in config.to_dict().items():
        lines.append(f"{section}:")
        for key, value in values.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=1000)
            line = f"  {key}: {text.splitlines()[0]}"
            reason = (reasons or {}).get(f"{section}.{key}")
            lines.append(f"{line:<32}  # {reason}" if reason else line)
    return "\n".join(lines) + "\n"


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`["optimizer.lr=0.001"]` as given to --set → `{"optimizer.lr": 0.001}`."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or "." not in key:
            raise InvalidArgumentError(f"--set {setting!r}: write section.key=value, as optimizer.lr=0.001.")
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise InvalidArgumentError(f"--set {setting!r}: the value cannot be read: {error}") from error
    return changes


_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


def parse_duration(text: str) -> float:
    """`90s`, `20m`, `1h30m` → seconds."""
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise InvalidArgumentError(f"{text!r} is not a duration; write it as 90s, 20m or 1h30m.")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    if hours == minutes == seconds == 0:
        raise InvalidArgumentError(f"{text!r} is no time at all; give a budget such as 20m.")
    return float(3600 * hours + 60 * minutes + seconds)


def _require(condition: bool, key: str, value: object, legal: str) -> None:
    if not condition:
        raise InvalidArgumentError(f"{key} is {value!r}, but must be {legal}.")


def _build(start: Config, sections: Mapping[str, Mapping[str, Any]]) -> Config:
    known = {f.name: getattr(start, f.name) for f in dataclasses.fields(start)}
    for section, values in sections.items():
        if section not in known:
            raise unknown_name("config section", str(section), known)
        hints = typing.get_type_hints(type(known[section]))
        for key in values:
            if key not in hints:
                raise unknown_name(f"key of config section {section!r}:", str(key), hints)
        converted = {k: _convert(v, hints[k], f"{section}.{k}") for k, v in values.items()}
        known[section] = dataclasses.replace(known[section], **converted)
    return Config(**known)


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the type of its field; YAML's `1e-3` (a string) counts as a number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, arguments[0], key)
    if origin is Literal:
        if value not in arguments:
            raise unknown_name(f"value for {key}:", str(value), arguments)
        return value
    if origin is tuple and arguments[-1] is Ellipsis:
        if not isinstance(value, list | tuple):
            raise InvalidArgumentError(f"{key} is {value!r}, but must be a list, such as [{value}].")
        return tuple(_convert(v, arguments[0], key) for v in value)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            count = len(arguments)
            raise InvalidArgumentError(f"{key} is {value!r}, but must be a list of {count} numbers.")
        return tuple(_convert(v, a, key) for v, a in zip(value, arguments, strict=True))
    return _convert_plain(value, hint, key)


def _convert_plain(value: Any, kind: type, key: str) -> Any:
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    elif type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    raise InvalidArgumentError(f"{key} is {value!r}, but must be {names[kind]}.")
