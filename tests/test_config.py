import dataclasses
import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.config import (
    AugmentationConfig,
    Config,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
    describe_keys,
    from_dict,
    load_config,
    parse_duration,
    parse_settings,
)
from pixelwise.errors import InvalidArgumentError, PathNotFoundError


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, exclude_min=True, exclude_max=True)


CONFIGS = st.builds(
    Config,
    data=st.builds(
        DataConfig,
        crop_size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
        rare_class_fraction=st.floats(0, 1),
        val_fraction=numbers(0, 1),
        group_by=st.none() | st.sampled_from([r"p(\d+)", "a: # b", "groups.csv:patient", "yes"]),
        max_val_images=st.none() | st.integers(1),
        cache_gib=numbers(0, 1e9),
    ),
    network=st.builds(
        NetworkConfig,
        name=st.sampled_from(["unet", "fcn-8s", "a:b", "my module:Net"]),
        encoder=st.sampled_from([None, "resnet34", "null", "1e3", "yes", "a: b", "# c"]),
        base_channels=st.integers(1, 512),
        depth=st.integers(1, 8),
        max_channels=st.integers(512),
        stem_stride=st.sampled_from([1, 2, 4]),
    ),
    optimizer=st.builds(
        OptimizerConfig,
        name=st.sampled_from(["adamw", "sgd", "muon"]),
        lr=numbers(0, 1e6),
        weight_decay=numbers(0, 1e6),
        momentum=numbers(0, 1),
        clip_norm=numbers(0, 1e6),
        ema=numbers(0, 1),
        freeze_stages=st.integers(0),
        layer_decay=numbers(0, 1),
    ),
    schedule=st.builds(
        ScheduleConfig,
        name=st.sampled_from(["cosine", "poly", "linear", "one_cycle", "constant"]),
        pct_start=numbers(0, 1),
        warmup=numbers(0, 1),
        final_lr_ratio=numbers(0, 1),
        start_scale=numbers(0, 1),
        full_scale_from=numbers(0, 1),
    ),
    loss=st.builds(
        LossConfig,
        name=st.sampled_from(["cross_entropy", "focal", "dice", "tversky", "lovasz"]),
        class_weights=st.sampled_from(["none", "median_frequency", "inverse_log"]),
        class_weight_power=numbers(0, 1),
        dice_weight=numbers(0, 1e6),
        lovasz_weight=numbers(0, 1e6),
        focal_gamma=numbers(0, 1e6),
        tversky_beta=numbers(0, 1),
        border_weight=numbers(0, 1e6),
        border_sigma=numbers(0, 1e6),
    ),
    augmentation=st.builds(
        AugmentationConfig,
        flip_horizontal=numbers(0, 1),
        flip_vertical=numbers(0, 1),
        scale=st.tuples(numbers(0, 1), numbers(1, 10)),
        rotate=numbers(0, 180),
        color=numbers(0, 1),
        elastic=numbers(0, 1e6),
    ),
    training=st.builds(
        TrainingConfig,
        batch_size=st.integers(1),
        gradient_accumulation_steps=st.just(1),
        activation_checkpointing=st.just(False),
        steps=st.none() | st.integers(1),
        budget_seconds=st.none() | numbers(0, 1e9),
        loggers=st.lists(st.sampled_from(["tensorboard", "mlflow", "wandb"])).map(tuple),
        init_from=st.none() | st.sampled_from(["runs/a b", "model.safetensors", "1"]),
        seed=st.integers(0),
        compile=st.booleans(),
        deterministic=st.booleans(),
        precision=st.sampled_from(["fp32", "bf16"]),
        num_evaluations=st.integers(1),
        images_per_evaluation=st.none() | st.integers(1),
        early_stopping_patience=st.none() | st.integers(0),
        checkpoint_interval_seconds=numbers(0, 1e9),
    ),
)


@given(CONFIGS)
def test_config_to_yaml_and_back(config: Config) -> None:
    assert from_dict(yaml.safe_load(config.to_yaml())) == config


@given(CONFIGS)
def test_config_to_dict_and_back(config: Config) -> None:
    assert from_dict(config.to_dict()) == config


def test_reasons_are_comments_and_change_no_value() -> None:
    reasons = {"network.depth": "it fits: # really", "data.crop_size": "whole images"}
    text = dataclasses.replace(Config(), reasons=reasons).to_yaml()
    assert "  depth: 4                        # it fits: # really\n" in text
    assert "  crop_size: [256, 256]           # whole images\n" in text
    assert from_dict(yaml.safe_load(text)) == Config()


def test_load_config_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: {lr: 1e-3}\ndata: {crop_size: [64, 96]}\n", encoding="utf-8")
    config = load_config(path)
    assert config.optimizer.lr == 1e-3  # YAML reads 1e-3 as a text
    assert config.data.crop_size == (64, 96)
    assert config.training == TrainingConfig()


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    assert load_config(tmp_path / "config.yaml") == Config()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"training: {seed: 2001-99-99}", "is not valid YAML"),
        (b"- 1", "Expected sections such as 'network:'"),
        (b"network:", "Config section 'network' is None. Expected indented 'key: value'"),
        (b"netwrok: {depth: 3}", "Unknown config section 'netwrok'. Did you mean 'network'"),
        (b"1: {depth: 3}", "Unknown config section '1'"),
        (
            b"network: {base_chanels: 8}",
            "key of config section 'network': 'base_chanels'. Did you mean 'base_channels'",
        ),
        (b"network: {1: 8}", "Unknown key of config section 'network': '1'"),
        (b"network: {base_channels: -1}", "network.base_channels is -1, but must be >= 1"),
    ],
)
def test_an_invalid_file_raises_and_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_group_by_excludes_split_by() -> None:
    changes = {"data.group_by": "p", "data.split_by": "image"}
    with pytest.raises(InvalidArgumentError, match=r"data\.split_by is 'image', but must be 'auto' with data\.group"):
        Config().replace(changes)


def test_a_missing_file_raises_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"Config '.*absent\.yaml' does not exist"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [
        ("data.crop_size", (0, 8), "a height and a width of at least 1"),
        ("data.val_fraction", 0.0, "> 0 and < 1"),
        ("data.val_fraction", 1.0, "> 0 and < 1"),
        ("data.max_val_images", 0, ">= 1"),
        ("data.cache_gib", -1.0, ">= 0"),
        ("network.base_channels", 0, ">= 1"),
        ("network.max_channels", 0, ">= network.base_channels"),
        ("network.depth", 0, "from 1 to 8"),
        ("network.depth", 9, "from 1 to 8"),
        ("optimizer.lr", 0.0, "> 0"),
        ("optimizer.weight_decay", -0.1, ">= 0"),
        ("optimizer.momentum", 1.0, ">= 0 and < 1"),
        ("optimizer.clip_norm", -1.0, ">= 0"),
        ("optimizer.ema", 1.0, ">= 0 and < 1"),
        ("optimizer.freeze_stages", -1, ">= 0"),
        ("optimizer.layer_decay", 0.0, "> 0 and <= 1"),
        ("schedule.pct_start", 1.0, "> 0 and < 1"),
        ("schedule.warmup", 1.0, ">= 0 and < 1"),
        ("schedule.final_lr_ratio", 1.1, "from 0 to 1"),
        ("schedule.start_scale", 0.0, "> 0 and <= 1"),
        ("schedule.full_scale_from", -0.1, "from 0 to 1"),
        ("loss.class_weight_power", 1.5, "from 0 to 1"),
        ("loss.dice_weight", -1.0, ">= 0"),
        ("loss.lovasz_weight", -1.0, ">= 0"),
        ("loss.focal_gamma", -1.0, ">= 0"),
        ("loss.tversky_beta", 1.5, "from 0 to 1"),
        ("training.early_stopping_patience", -1, ">= 0"),
        ("loss.border_weight", -1.0, ">= 0"),
        ("loss.border_sigma", 0.0, "> 0"),
        ("augmentation.flip_horizontal", 1.5, "from 0 to 1"),
        ("augmentation.flip_vertical", -0.5, "from 0 to 1"),
        ("augmentation.scale", (0.0, 1.0), "0 < low <= high"),
        ("augmentation.scale", (1.5, 1.0), "0 < low <= high"),
        ("augmentation.rotate", 181.0, "from 0 to 180"),
        ("augmentation.color", 2.0, "from 0 to 1"),
        ("augmentation.elastic", -1.0, ">= 0"),
        ("training.batch_size", 0, ">= 1"),
        ("training.gradient_accumulation_steps", 9, "<= training.batch_size"),
        ("training.steps", 0, ">= 1"),
        ("training.budget_seconds", 0.0, "> 0"),
        ("training.num_evaluations", 0, ">= 1"),
        ("training.checkpoint_interval_seconds", 0.0, "> 0"),
    ],
)
def test_a_value_out_of_range_raises(key: str, value: object, legal: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Config().replace({key: value})
    assert str(caught.value) == f"{key} is {value!r}, but must be {legal}."


@pytest.mark.parametrize(
    ("key", "value", "legal"), [("activation_checkpointing", True, "false"), ("sharding", "fsdp", "none")]
)
def test_options_that_exclude_compile_raise(key: str, value: object, legal: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match=rf"training\.{key} is {value!r}, but must be {legal} with training\.compile"
    ):
        Config().replace({"training.compile": True, f"training.{key}": value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.base_channels", 8.0, "network.base_channels is 8.0, but must be an integer"),
        ("network.base_channels", True, "network.base_channels is True, but must be an integer"),
        ("network.depth", None, "network.depth is None, but must be an integer"),
        ("network.name", 3, "network.name is 3, but must be a string"),
        ("data.group_by", "", "data.group_by is '', but must not be empty"),
        ("optimizer.lr", "fast", "optimizer.lr is 'fast', but must be a number"),
        ("optimizer.lr", True, "optimizer.lr is True, but must be a number"),
        ("optimizer.lr", math.inf, "optimizer.lr is inf, but must be a number"),
        ("optimizer.lr", math.nan, "optimizer.lr is nan, but must be a number"),
        ("optimizer.lr", 10**400, "but must be a number"),
        ("optimizer.lr", [1], "but must be a number"),
        ("training.deterministic", 1, "training.deterministic is 1, but must be true or false"),
        ("training.steps", "10", "training.steps is '10', but must be an integer"),
        ("data.crop_size", 64, "data.crop_size is 64, but must be a list of 2 integers"),
        ("data.crop_size", [64], "must be a list of 2 integers"),
        ("data.crop_size", [64, 0.5], "data.crop_size is [64, 0.5], but must be a list of 2 integers"),
        ("optimizer.name", "adam", "Unknown value for optimizer.name: 'adam'. Did you mean 'adamw'"),
        ("network.stem_stride", 3, "network.stem_stride is 3, but must be one of 1, 2, 4"),
        ("optimizer.name", ["adamw"], "but must be one of adamw, sgd, muon"),
        (
            "training.loggers",
            "mlflow",
            "training.loggers is 'mlflow', but must be a list, each one of tensorboard, mlflow, wandb",
        ),
        ("training.loggers", ["mlfow"], "Unknown value for training.loggers: 'mlfow'. Did you mean 'mlflow'"),
        ("optimizer", 1, "Unknown key of config section 'optimizer': ''"),
    ],
)
def test_a_value_of_the_wrong_type_raises(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message.replace("[", r"\[")):
        Config().replace({key: value})


def test_replace_changes_only_the_given_keys() -> None:
    changed = Config().replace({"data.crop_size": [32, 64], "data.cache_gib": 1, "training.steps": 5})
    assert changed.data == DataConfig(crop_size=(32, 64), cache_gib=1.0)
    assert changed.training == TrainingConfig(steps=5)
    assert changed.replace({"training.steps": None}).training == TrainingConfig()
    assert changed.network == Config().network
    assert Config().replace({}) == Config()


def test_settings_are_parsed_as_yaml() -> None:
    settings = ["optimizer.lr=0.001", " data.crop_size = [32, 64]", "training.steps=null", "a.b=c=d"]
    expected = {"optimizer.lr": 0.001, "data.crop_size": [32, 64], "training.steps": None, "a.b": "c=d"}
    assert parse_settings(settings) == expected


@pytest.mark.parametrize("setting", ["lr=1", "optimizer.lr", "", "=1"])
def test_an_invalid_setting_raises(setting: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"--set is '{setting}'. Expected section.key=value"):
        parse_settings([setting])


@pytest.mark.parametrize("text", ["[1", "2001-99-99"])
def test_a_setting_with_an_invalid_value_raises(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"The value of --set .* cannot be read"):
        parse_settings([f"data.crop_size={text}"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        (90, 90),
        (90.0, 90),
        ("5min", 300),
        ("20m", 1200),
        ("1h30m", 5400),
        ("1h1s", 3601),
        (" 2h ", 7200),
        ("90m", 5400),
        ("90.5", 90.5),
        ("1 h", 3600),
        ("0.5h", 1800),
        (".5h", 1800),
        ("1.h", 3600),
        ("1H30M", 5400),
        ("1h 30m", 5400),
        ("1h30min", 5400),
        ("1 hour 30 minutes", 5400),
        ("2 hrs", 7200),
        ("20 mins", 1200),
        ("90 sec", 90),
        ("1.5 days", 129600),
        ("1:30:00", 5400),
    ],
)
def test_parse_duration(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == total


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "-5m", "30m1h", "1h2h", "9" * 400 + "h", "5 mm", "500ms", "soon", "1h, 30m", "inf", "nan", "1e3"),
        "1h30",  # minutes to one reader, seconds to another
        "1:30",
        "1,5h",
    ],
)
def test_an_invalid_duration_raises(text: str) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"is not a duration. Expected seconds, or numbers with units such as 90s, 20m, 0.5h or 1h30m",
    ):
        parse_duration(text)


def test_keys_in_seconds_take_durations() -> None:
    config = Config().replace({"training.budget_seconds": "0.5h", "training.checkpoint_interval_seconds": "1e3"})
    assert config.training.budget_seconds == 1800
    assert config.training.checkpoint_interval_seconds == 1000
    with pytest.raises(InvalidArgumentError, match=r"training\.budget_seconds is 'soon', which is not a duration"):
        Config().replace({"training.budget_seconds": "soon"})


def test_an_empty_duration_raises() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"text is '0m', which is an empty duration. Expected one such as 20m"
    ):
        parse_duration("0m")


def test_an_estimate_is_comments_above_the_config() -> None:
    text = dataclasses.replace(Config(), estimate=("time: 20 min", "peak memory: 1 GiB")).to_yaml()
    assert text.startswith("# time: 20 min\n# peak memory: 1 GiB\ndata:\n")
    assert from_dict(yaml.safe_load(text)) == Config()


def test_a_choice_is_checked_by_the_constructor() -> None:
    with pytest.raises(InvalidArgumentError, match=r"network\.stem_stride is 3, but must be one of 1, 2, 4"):
        NetworkConfig(stem_stride=3)  # type: ignore[arg-type]


def test_reasons_and_estimate_survive_replace_and_the_file(tmp_path: Path) -> None:
    planned = Config().replace(
        {"network.depth": 3, "optimizer.lr": 0.1}, {"network.depth": "small", "optimizer.lr": "x"}
    )
    planned = dataclasses.replace(planned, estimate=("time: 20 min",))
    assert planned == Config().replace({"network.depth": 3, "optimizer.lr": 0.1})
    changed = planned.replace({"network.depth": 4, "optimizer.lr": 0.1})
    assert changed.reasons == {"optimizer.lr": "x"}
    (tmp_path / "config.yaml").write_text(planned.to_yaml(), encoding="utf-8")
    loaded = load_config(tmp_path / "config.yaml")
    assert (loaded, loaded.reasons, loaded.estimate) == (planned, planned.reasons, planned.estimate)


def test_each_key_has_a_doc_line() -> None:
    assert [key.name for key in describe_keys() if not key.doc] == []
    assert {key.name: key.legal for key in describe_keys()}["network.depth"] == "from 1 to 8"


def test_the_schema_has_a_type_and_a_default_for_each_key() -> None:
    schema = Config.json_schema()
    sections = schema["properties"]
    assert [f"{name}.{key}" for name, section in sections.items() for key in section["properties"]] == [
        key.name for key in describe_keys()
    ]
    assert sections["network"]["additionalProperties"] is False
    depth = sections["network"]["properties"]["depth"]
    assert (depth["type"], depth["minimum"], depth["maximum"], depth["default"]) == ("integer", 1, 8, 4)
    assert sections["optimizer"]["properties"]["name"]["enum"] == ["adamw", "sgd", "muon"]
    assert sections["training"]["properties"]["steps"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "null"}]
    assert sections["data"]["properties"]["crop_size"]["maxItems"] == 2
    json.dumps(schema)
