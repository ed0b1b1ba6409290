"""Which engine a job runs on: by times that are made up, as no test may measure any."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pixelwise.cli.main import main
from pixelwise.inference import engines as home
from pixelwise.inference.engines import (
    ENGINES,
    Engine,
    EngineTiming,
    choose_fastest,
    measure_engines,
    read_timings,
    select_engine,
    write_timings,
)
from pixelwise.inference.predictor import Predictor, load
from pixelwise.progress import use_reporter

MANY = home.MIN_IMAGES


def measured(
    engine: Any, start: float, image: float, agreement: float = 1.0, cached_start: float | None = None
) -> EngineTiming:
    return EngineTiming(
        engine=engine,
        start_seconds=start,
        cached_start_seconds=start if cached_start is None else cached_start,
        image_seconds=image,
        agreement=agreement,
    )


TORCH, ONNX = measured("torch", 0, 0.1), measured("onnxruntime", 7, 0.08, cached_start=6)
OPENVINO = measured("openvino", 8, 0.05, cached_start=1)
ALL = [TORCH, OPENVINO, ONNX]


@pytest.mark.parametrize(
    ("timings", "num_images", "expected"),
    [
        (ALL, 1, "torch"),
        (ALL, 159, "torch"),  # 15.9 s, and 15.95 s with OpenVINO
        (ALL, 161, "openvino"),
        ([TORCH, replace(OPENVINO, agreement=0.9949), ONNX], 1000, "onnxruntime"),
        ([TORCH, replace(OPENVINO, agreement=0.995)], 1000, "openvino"),
        ([replace(TORCH, agreement=0.9), ONNX], 1, "torch"),  # in bf16; whether it may, the model file says
        ([OPENVINO], 1, "openvino"),
        ([], 1000, "torch"),
    ],
)
def test_the_fastest_engine_that_agrees_is_chosen(
    timings: Sequence[EngineTiming], num_images: int, expected: str
) -> None:
    assert choose_fastest(timings, num_images) == expected


def test_a_started_engine_needs_no_start() -> None:
    assert choose_fastest(ALL, 2, started=("torch", "openvino")) == "openvino"


@pytest.mark.parametrize(
    ("num_images", "cached", "expected"),
    [(19, ("openvino",), "torch"), (21, ("openvino",), "openvino"), (21, ("onnxruntime",), "torch")],
)
def test_an_engine_in_the_cache_starts_sooner(num_images: int, cached: Any, expected: str) -> None:
    assert choose_fastest(ALL, num_images, cached=cached) == expected


def test_a_measurement_with_the_cache_counts_a_conversion(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, ticks: Callable[[], float]
) -> None:
    same = replace(ENGINES["openvino"], packages=(), build=lambda source, device, precision: source.optimize(precision))
    monkeypatch.setattr(home, "ENGINES", {"torch": ENGINES["torch"], "openvino": same})
    monkeypatch.setattr(home, "_is_cached", lambda name, predictor: name == "openvino")
    (_, found), _ = measure_engines(predictor, ("torch", "openvino"), ticks)
    assert (found.start_seconds, found.cached_start_seconds) == (1 + home.CONVERSION_SECONDS, 1)


@pytest.fixture
def predictor(make_model: Callable[..., Path], tmp_path: Path) -> Predictor:
    return load(make_model(tmp_path / "model.safetensors"), device="cpu", precision="fp32")


@pytest.fixture
def model(predictor: Predictor, tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The engines of each measurement; they are made up, and OpenVINO is the fastest."""
    asked: list[tuple[str, ...]] = []

    def made_up(predictor: Predictor, names: tuple[str, ...]) -> tuple[list[EngineTiming], dict[Any, Any]]:
        asked.append(names)
        return ALL, {"openvino": nn.Identity()}

    monkeypatch.setattr(home, "measure_engines", made_up)
    monkeypatch.setattr("pixelwise.inference.engines.find_spec", lambda package: object())
    monkeypatch.setattr(home, "get_installed_versions", lambda: {"openvino": "1"})
    monkeypatch.setattr(home, "_list_candidates", lambda predictor: ["openvino", "onnxruntime"])
    monkeypatch.setattr(home, "_is_cached", lambda name, predictor: False)
    return asked


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass


def test_a_small_job_measures_nothing(predictor: Predictor, model: Path, measurements: list[Any]) -> None:
    assert select_engine(predictor, model, num_images=MANY - 1) is predictor
    assert measurements == []
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_a_smaller_job_measures_with_a_network_in_the_cache(
    predictor: Predictor, model: Path, measurements: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_is_cached", lambda name, predictor: name == "openvino")
    assert select_engine(predictor, model, num_images=home.MIN_IMAGES_CACHED - 1) is predictor
    assert select_engine(predictor, model, num_images=home.MIN_IMAGES_CACHED).engine == "openvino"
    assert measurements == [("torch", "openvino", "onnxruntime")]


def test_a_large_job_measures_once(predictor: Predictor, model: Path, measurements: list[Any]) -> None:
    heard = Heard()
    with use_reporter(heard):
        first = select_engine(predictor, model, num_images=MANY)
    assert first.engine == "openvino"
    assert isinstance(first.engine_network, nn.Identity)  # which was measured, and is not made again
    assert heard.lines == ["Measuring the engines torch, openvino, onnxruntime once", "engine: OpenVINO, fp32"]
    assert model.with_name("model.engine.json").is_file()
    second = select_engine(predictor, model, num_images=MANY)
    assert (second.engine, second.engine_network) == ("openvino", None)
    assert select_engine(predictor, model.parent, num_images=1).engine == "torch"
    assert measurements == [("torch", "openvino", "onnxruntime")]


@pytest.mark.parametrize("change", ["model", "precision", "versions", "device"])
def test_a_measurement_of_another_setup_is_repeated(
    change: str,
    predictor: Predictor,
    model: Path,
    measurements: list[Any],
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    select_engine(predictor, model, num_images=MANY)
    if change == "model":
        make_model(model, seed=1)
    elif change == "precision":
        predictor = replace(predictor, precision="bf16")
    elif change == "versions":
        monkeypatch.setattr(home, "get_installed_versions", lambda: {"openvino": "2"})
    else:
        monkeypatch.setattr(home, "describe_device", lambda device: "another processor")
    select_engine(predictor, model, num_images=MANY)
    assert len(measurements) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"key": 1}', "\xff"])
def test_a_damaged_measurement_is_repeated(
    damage: str, predictor: Predictor, model: Path, measurements: list[Any]
) -> None:
    select_engine(predictor, model, num_images=MANY)
    kept = model.with_name("model.engine.json")
    sound = kept.read_text(encoding="utf-8")
    kept.write_bytes(damage.encode("latin-1"))
    select_engine(predictor, model, num_images=MANY)
    assert len(measurements) == 2
    assert kept.read_text(encoding="utf-8") == sound


@pytest.mark.parametrize("engines", [[{"engine": "torch"}], [1], [{}], 7])
def test_unknown_engines_are_not_read(tmp_path: Path, engines: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"key": {}, "engines": engines}), encoding="utf-8")
    assert read_timings(tmp_path / "x.json", {}) is None


def test_an_engine_of_another_version_is_not_read(tmp_path: Path) -> None:
    write_timings(tmp_path / "x.json", {}, [TORCH, replace(ONNX, engine="abacus")])  # type: ignore[arg-type]
    assert read_timings(tmp_path / "x.json", {}) is None


def test_a_read_only_folder_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write_timings(tmp_path / "file" / "x.json", {}, ALL)
    assert read_timings(tmp_path / "file" / "x.json", {}) is None


def test_a_predictor_on_another_engine_is_unchanged(
    predictor: Predictor, model: Path, measurements: list[tuple[str, ...]]
) -> None:
    small = replace(predictor, engine="onnxruntime", precision="int8")
    assert select_engine(small, model, num_images=MANY) is small
    assert measurements == []


def test_without_other_engines_torch_is_used(
    predictor: Predictor, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelwise.inference.engines.find_spec", lambda package: None)
    assert select_engine(predictor, model, num_images=MANY) is predictor


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cpu", "fp32", ["openvino", "onnxruntime"]), ("cpu", "bf16", ["openvino"]), ("mps", "fp32", [])],
)
def test_candidates_support_device_and_precision(
    device: str, precision: Any, expected: list[str], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelwise.inference.engines.find_spec", lambda package: object())
    assert home._list_candidates(replace(predictor, device=torch.device(device), precision=precision)) == expected


class Turned(nn.Module):
    """Another network: its classes are in the opposite order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network(frames).flip(1)  # type: ignore[no-any-return]


def failing(*_: Any) -> nn.Module:
    raise ValueError("no rule for this operator")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock that goes on by one second whenever it is read, and small images."""
    monkeypatch.setattr(home, "IMAGE_SIZE", (32, 40))
    count = itertools.count()
    return lambda: float(next(count))


def test_agreement_is_measured_and_failures_are_excluded(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, ticks: Callable[[], float]
) -> None:
    def row(build: Any) -> Engine:
        return replace(ENGINES["openvino"], packages=(), build=build)

    monkeypatch.setattr(home, "_is_cached", lambda name, predictor: False)
    fakes = {
        "torch": ENGINES["torch"],
        "openvino": row(lambda source, device, precision: Turned(source.optimize(precision))),
        "onnxruntime": row(failing),
    }
    monkeypatch.setattr(home, "ENGINES", fakes)
    heard = Heard()
    with use_reporter(heard):
        found, running = measure_engines(predictor, tuple(fakes), ticks)
    assert found == [measured("torch", 1, 1), measured("openvino", 1, 1, found[1].agreement)]
    assert found[1].agreement < 0.9
    assert list(running) == ["torch", "openvino"]
    assert heard.lines == ["OpenVINO is not used: no rule for this operator"]


def test_the_export_counts_for_each_engine_that_needs_it(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, ticks: Callable[[], float]
) -> None:
    monkeypatch.setattr("pixelwise.inference.engines.NetworkSource.onnx", b"")
    same = replace(ENGINES["openvino"], build=lambda source, device, precision: source.optimize(precision))
    monkeypatch.setattr(home, "ENGINES", {"torch": ENGINES["torch"], "openvino": same, "onnxruntime": same})
    found, _ = measure_engines(predictor, ("torch", "openvino", "onnxruntime"), ticks)
    assert [one.start_seconds for one in found] == [1, 2, 2]


def test_a_failure_of_torch_is_an_error(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, ticks: Callable[[], float]
) -> None:
    monkeypatch.setattr(home, "ENGINES", {"torch": replace(ENGINES["torch"], build=failing)})
    with pytest.raises(ValueError, match="no rule"):
        measure_engines(predictor, ("torch",), ticks)


@pytest.mark.parametrize(("options", "asked"), [([], [3]), (["--engine", "torch"], [])])
def test_commands_measure_only_with_engine_auto(
    options: list[str],
    asked: list[int],
    trained: Path,
    streets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []

    def record_count(predictor: Predictor, model: Path, *, num_images: int, store: bool = True) -> Predictor:
        counts.append(num_images)
        return predictor

    monkeypatch.setattr("pixelwise.inference.predictor.select_engine", record_count)
    monkeypatch.setattr("pixelwise.inference.engines.select_engine", record_count)
    images = [str(path) for path in sorted((streets / "images").rglob("*.png"))[:3]]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(trained), *images, "-o", str(tmp_path), "--device", "cpu", *options])
    assert (ended.value.code, counts) == (None, asked)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(trained), str(streets), "--device", "cpu", *options])
    assert (ended.value.code, counts[1:]) == (None, [4] * len(asked))
