"""Invalid arguments and paths of public functions raise Python's own errors, which are also PixelwiseErrors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pixelwise as pw
from pixelwise import losses, metrics, networks, ops
from pixelwise.data.io.images import write_png
from support.permissions import respect_permissions

Call = Callable[[dict[str, Any]], object]

WRONG_ARGUMENTS: dict[str, Call] = {
    "check-format": lambda p: pw.check(p["data"], format="foldr"),
    "check-resolution": lambda p: pw.check(p["data"], resolution=(0, 8)),
    "check-group_by": lambda p: pw.check(p["data"], group_by="("),
    "convert-to": lambda p: pw.convert(p["data"], p["out"], to="foldr"),
    "convert-output": lambda p: pw.convert(p["data"], p["data"], to="voc"),
    "convert-format": lambda p: pw.convert(p["data"], p["out"], to="voc", format="foldr"),
    "plan-budget": lambda p: pw.plan(p["data"], budget="soon"),
    "plan-network": lambda p: pw.plan(p["data"], network="unett"),
    "plan-settings": lambda p: pw.plan(p["data"], settings={"network.wings": 2}),
    "plan-device": lambda p: pw.plan(p["data"], device="abacus"),
    "train-network": lambda p: pw.train(p["data"], p["out"], network="unett", steps=1),
    "train-steps": lambda p: pw.train(p["data"], p["out"], steps=0),
    "train-budget": lambda p: pw.train(p["data"], p["out"], budget=-1),
    "train-folds": lambda p: pw.train(p["data"], p["out"], folds=1, steps=1),
    "train-resume": lambda p: pw.train(p["data"], resume=True),
    "train-devices": lambda p: pw.train(p["data"], p["out"], devices=0, steps=1),
    "train-device": lambda p: pw.train(p["data"], p["out"], device="abacus", steps=1),
    "train-precision": lambda p: pw.train(p["data"], p["out"], precision="fp8", steps=1),
    "train-output": lambda p: pw.train(p["data"], p["run"], steps=1),
    "evaluate-split": lambda p: pw.evaluate(p["run"], p["data"], split="holdout"),
    "evaluate-engine": lambda p: pw.evaluate(p["run"], p["data"], engine="steam"),
    "predict-save": lambda p: pw.predict(p["run"], [p["image"]], p["out"], save=["label"]),
    "predict-tiling": lambda p: pw.predict(p["run"], [p["image"]], p["out"], tiling="exat"),
    "predict-tta": lambda p: pw.predict(p["run"], [p["image"]], p["out"], tta=["flop"]),
    "predict-shard": lambda p: pw.predict(p["run"], [p["image"]], p["out"], shard="3/2"),
    "predict-min_area": lambda p: pw.predict(p["run"], [p["image"]], p["out"], min_area=-1),
    "predict-label_values": lambda p: pw.predict(p["run"], [p["image"]], p["out"], label_values="hue"),
    "predict-glob": lambda p: pw.predict(p["run"], ["nowhere/*.png"], p["out"]),
    "predict-inputs": lambda p: pw.predict(p["run"], [], p["out"]),
    "quantize-max_iou_drop": lambda p: pw.quantize(p["run"], p["data"], p["out"], max_iou_drop=-1),
    "export-format": lambda p: pw.export(p["run"], p["out"], format="onx"),
    "export-precision": lambda p: pw.export(p["run"], p["out"], precision="fp8"),
    "export-min_agreement": lambda p: pw.export(p["run"], p["out"], min_agreement=2),
    "localize-classifier": lambda p: pw.localize([p["image"]], p["out"], classifier="vgg17"),
    "demo-output": lambda p: pw.demo(p["data"]),
    "load-device": lambda p: pw.load(p["run"], device="abacus"),
    "load-precision": lambda p: pw.load(p["run"], precision="fp8"),
    "load-engine": lambda p: pw.load(p["run"], engine="steam"),
    "Config-key": lambda p: pw.Config().replace({"network.wings": 2}),
    "Config-value": lambda p: pw.Config().replace({"optimizer.lr": -1}),
    "Dataset-format": lambda p: pw.Dataset.load(p["data"], "foldr"),
    "Predictor-tiling": lambda p: pw.load(p["run"], device="cpu").predict(np.zeros((64, 96, 3), np.uint8), tiling="x"),
    "describe-name": lambda p: networks.describe("unett"),
    "describe-size": lambda p: networks.describe("unet", size=(0, 8)),
    "UNet-size": lambda p: networks.UNet(3, 5)(torch.zeros(1, 3, 37, 41)),
    "UNet-normalization": lambda p: networks.UNet(3, 5, normalization="layer"),
    "build_network-name": lambda p: networks.build_network(
        pw.Config().replace({"network.name": "unett"}).network, in_channels=3, num_classes=2
    ),
    "loss-shapes": lambda p: losses.cross_entropy(
        torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 5, dtype=torch.long), ignore_index=255
    ),
    "confusion-shapes": lambda p: metrics.ConfusionMatrix(2).update(
        np.zeros((4, 4), np.uint8), np.zeros((5, 5), np.uint8), ignore_index=255
    ),
    "pool-kernel_size": lambda p: ops.max_pool_with_switches(torch.zeros(1, 1, 4, 4), 0),
}
MISSING_PATHS: dict[str, Call] = {
    "check-data": lambda p: pw.check("nowhere"),
    "convert-data": lambda p: pw.convert("nowhere", p["out"], to="voc"),
    "plan-data": lambda p: pw.plan("nowhere"),
    "train-data": lambda p: pw.train("nowhere", p["out"], steps=1),
    "train-config": lambda p: pw.train(p["data"], p["out"], config="nowhere.yaml"),
    "train-init_from": lambda p: pw.train(p["data"], p["out"], init_from="nowhere", steps=1),
    "train-weights": lambda p: pw.train(p["data"], p["out"], encoder="resnet18", weights="nowhere.pth", steps=1),
    "evaluate-model": lambda p: pw.evaluate("nowhere", p["data"]),
    "evaluate-data": lambda p: pw.evaluate(p["run"], "nowhere"),
    "predict-model": lambda p: pw.predict("nowhere", [p["image"]], p["out"]),
    "predict-input": lambda p: pw.predict(p["run"], ["nowhere.png"], p["out"]),
    "localize-image": lambda p: pw.localize(["nowhere.png"], p["out"], classifier="resnet18"),
    "quantize-model": lambda p: pw.quantize("nowhere", p["data"]),
    "quantize-data": lambda p: pw.quantize(p["run"], "nowhere"),
    "export-model": lambda p: pw.export("nowhere", p["out"]),
    "localize-weights": lambda p: pw.localize([p["image"]], p["out"], classifier="resnet18", weights="nowhere.pth"),
    "load-model": lambda p: pw.load("nowhere"),
    "Dataset-path": lambda p: pw.Dataset.load("nowhere"),
}
UNREADABLE_PATHS: dict[str, Call] = {
    "check-data": lambda p: pw.check(p["locked"]),
    "convert-data": lambda p: pw.convert(p["locked"], p["out"], to="voc"),
    "plan-data": lambda p: pw.plan(p["locked"]),
    "train-config": lambda p: pw.train(p["data"], p["out"], config=p["locked"] / "config.yaml"),
    "train-output": lambda p: pw.train(p["data"], p["locked"] / "run", steps=1),
    "evaluate-model": lambda p: pw.evaluate(p["locked"] / "run", p["data"]),
    "predict-input": lambda p: pw.predict(p["run"], [p["locked"]], p["out"]),
    "load-model": lambda p: pw.load(p["locked"] / "run"),
    "Dataset-path": lambda p: pw.Dataset.load(p["locked"]),
}
ALL_CALLS = {**WRONG_ARGUMENTS, **MISSING_PATHS, **UNREADABLE_PATHS}


@pytest.fixture
def paths(streets: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "image.png", np.zeros((64, 96, 3), np.uint8))
    return {"data": streets, "run": trained, "image": tmp_path / "image.png", "out": tmp_path / "out"}


def require_error(call: Call, paths: dict[str, Any], kind: type[Exception]) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(kind) as caught:
        call(paths)
    assert isinstance(caught.value, pw.PixelwiseError), repr(caught.value)
    assert not isinstance(caught.value, pw.DataError | pw.ModelFileError)
    assert str(caught.value)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_a_wrong_argument_raises_a_value_error(name: str, paths: dict[str, Any]) -> None:
    require_error(WRONG_ARGUMENTS[name], paths, ValueError)


@pytest.mark.parametrize("name", MISSING_PATHS)
def test_a_missing_path_raises_a_file_not_found_error(name: str, paths: dict[str, Any]) -> None:
    require_error(MISSING_PATHS[name], paths, FileNotFoundError)


@pytest.fixture
def locked(paths: dict[str, Any], tmp_path: Path) -> Any:
    """Paths with a folder that is not readable."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    with respect_permissions():
        yield {**paths, "locked": folder}
    folder.chmod(0o700)


@pytest.mark.parametrize("name", UNREADABLE_PATHS)
def test_an_unreadable_path_raises_a_permission_error(name: str, locked: dict[str, Any]) -> None:
    with pytest.raises(PermissionError) as caught:
        UNREADABLE_PATHS[name](locked)
    assert isinstance(caught.value, pw.PixelwiseError)


def test_each_public_function_is_tested() -> None:
    functions = {name for name in pw.__all__ if callable(getattr(pw, name)) and name.islower()} - {"info"}
    tested = {name.partition("-")[0] for name in ALL_CALLS}
    assert functions - tested == set()
