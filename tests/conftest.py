"""Fixtures for several test files."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pixelwise.training.trainer import Trainer

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent

SLOW_PATHS = (
    *("api", "cli/test_bad_options.py", "cli/test_imports.py", "checks/test_planted.py"),
    "conversion/test_conversion.py",
    *("data/formats/test_malformed_annotations.py", "data/test_synthetic.py", "evaluation", "exporting"),
    *("inference/test_engine_selection.py", "inference/test_engines.py", "inference/test_int8_file.py"),
    *("inference/tiling/test_tiled.py", "lowering", "networks/geometry/test_network_geometry.py"),
    *("networks/test_activation_checkpointing.py", "networks/test_convolutionalize.py"),
    *("networks/test_encoders.py", "networks/test_fcn.py", "networks/test_mc_dropout.py"),
    *("networks/test_segnet_basic.py", "networks/test_weights.py"),
    *("networks/test_weights_from_classifier.py", "networks/test_weights_from_model.py", "ops/kernels"),
    *("ops/test_pooling.py", "ops/test_transposed_convolution.py", "ops/test_upsampling.py"),
    *("planning/test_memory_estimate.py", "planning/test_planner.py", "planning/test_planner_memory.py"),
    *("planning/test_planner_timing.py", "prediction/test_localize.py", "prediction/test_predict.py"),
    *("prediction/test_rasters.py", "prediction/test_ray_cluster.py", "prediction/test_stacks.py"),
    *("prediction/test_videos.py", "quantization", "reports/test_pages_in_browser.py"),
    *("test_bad_arguments.py", "test_docs.py", "test_docstrings.py", "test_end_to_end.py", "test_examples.py"),
    *("test_kill.py", "test_ownership.py", "test_public_api.py", "test_readme.py", "test_walk.py"),
    "training",
)
"""Paths that `--fast` skips: tests that train, start processes, export, compile or run large networks."""

NO_BROWSER = "no Chromium was found"
"""Reason of skipped tests of pages, which the summary repeats."""

SLOW_FIXTURES = {"trained", "tiny", "make_trainer"}
"""`--fast` skips the tests that use them, because they train."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="skip tests that train, start processes, export or compile")


def pytest_configure(config: pytest.Config) -> None:
    missing = [path for path in SLOW_PATHS if not (TESTS / path).exists()]
    if missing and config.getoption("fast"):
        raise pytest.UsageError(f"SLOW_PATHS in tests/conftest.py lists paths that do not exist: {missing}.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_slow = any(collection_path == TESTS / path for path in SLOW_PATHS)
    return True if is_slow and config.getoption("fast") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("fast"):
        is_slow = [bool(SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))) for item in items]
        config.hook.pytest_deselected(items=list(itertools.compress(items, is_slow)))
        items[:] = [item for item, slow in zip(items, is_slow, strict=True) if not slow]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any(NO_BROWSER in str(report.longrepr) for report in terminalreporter.getreports("skipped")):
        terminalreporter.write_line(
            f"PAGES NOT TESTED: {NO_BROWSER}, so tests/reports/test_pages_in_browser.py was skipped. Install it with "
            f"'apt-get install chromium' or '.venv/bin/playwright install chromium'.",
            red=True,
            bold=True,
        )


# No deadline, as the machine may be busy; every run tries the same examples.
settings.register_profile(
    "pixelwise", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("pixelwise"), max_examples=300, derandomize=False)
settings.load_profile("pixelwise")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Use the same number of threads everywhere: sums over more threads round differently."""
    import torch

    os.environ.setdefault("OMP_NUM_THREADS", "2")  # in other processes, and for small steps
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def _default_interrupt_handler() -> None:
    """Install Python's handler: tests that a shell starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_pretrained_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the same plans on every machine: no downloads, and no weights or converted networks of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXELWISE_OFFLINE", "1")
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch-home")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub-home")))
        patch.setenv("PIXELWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real datasets in a folder next to the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the datasets in {folder}, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 + 4 + 4 synthetic street scenes, RGB, 64 × 96, several classes. Read only."""
    return _synthetic(tmp_path_factory, "streets", (64, 96))


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 + 4 + 4 synthetic cell images, gray, 64 × 64, two classes. Read only."""
    return _synthetic(tmp_path_factory, "cells", (64, 64))


def _synthetic(factory: pytest.TempPathFactory, name: str, size: tuple[int, int]) -> Path:
    from pixelwise.data.synthetic import write_dataset

    root = factory.mktemp("synthetic") / name
    write_dataset(root, name, num_train=12, num_val=4, num_test=4, size=size, seed=0)
    return root


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Arguments of `train` for a deterministic run of about a second."""
    return {
        "settings": {
            "network.base_channels": 4,
            "network.depth": 2,
            "network.stem_stride": 1,
            "data.crop_size": [64, 96],
            "training.batch_size": 4,
            "training.num_evaluations": 2,
        },
        "steps": 6,
        "deterministic": True,
        "device": "cpu",
        "precision": "fp32",
    }


@pytest.fixture(scope="session")
def trained(streets: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `tiny` run on `streets`. Read only."""
    from pixelwise.api import train

    return train(streets, tmp_path_factory.mktemp("runs") / "trained", **tiny).run


@pytest.fixture(scope="session")
def make_trainer(streets: Path, tiny: dict[str, Any]) -> Callable[..., "Trainer"]:
    """Return `make_trainer(changes, **arguments)`: the trainer of a `tiny` run on `streets`, with another config."""
    import torch

    from pixelwise.config import Config
    from pixelwise.planning.prepare_data import prepare_data
    from pixelwise.training.trainer import Trainer

    data = prepare_data(streets, Config())
    config = Config().replace({**tiny["settings"], "training.steps": tiny["steps"]})

    def make(changes: Mapping[str, Any] = MappingProxyType({}), **arguments: Any) -> "Trainer":
        defaults = {**data.trainer_arguments(config.replace(changes)), "device": torch.device("cpu")}
        return Trainer(**{**defaults, **arguments})

    return make


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """`make_model(path, names=..., ...)` writes the file of a tiny model with random weights."""
    import torch

    from pixelwise.config import NetworkConfig
    from pixelwise.data.description import describe_classes, parse_description
    from pixelwise.data.io.nodata import parse_nodata
    from pixelwise.model_file import ModelSpec, save_model

    def make(
        path: Path,
        *,
        classes: Mapping[str, Any] = MappingProxyType({"names": ["road", "sky", "tree"]}),
        channels: int = 3,
        dtype: str = "uint8",
        scores: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        network: NetworkConfig | None = None,
        channel_files: bool = False,
        nodata: object = MappingProxyType({}),
    ) -> Path:
        spec = ModelSpec(
            network=network or NetworkConfig(base_channels=4, depth=2),
            classes=describe_classes(parse_description(classes)),
            channels=channels,
            dtype=dtype,
            mean=(100.0,) * channels,
            std=(50.0,) * channels,
            scores=dict(scores),
            channel_files=channel_files,
            nodata=parse_nodata(nodata),
        )
        torch.manual_seed(seed)
        save_model(path, spec, spec.build().state_dict())
        return path

    return make
