"""A network, a loss and an augmentation of one's own: trained, resumed, evaluated, predicted with, and missing."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.api import evaluate, predict, train
from pixelwise.config import load_config
from pixelwise.data.io.images import read_mask
from pixelwise.errors import InvalidArgumentError, ModelFileError
from pixelwise.import_paths import load_import_path, make_import_path
from pixelwise.model_file import MODEL_FILE_NAME, load_model
from pixelwise.training.trainer import Trainer
from support import own_parts
from support.own_parts import TinyNet, darken, double_focal

Arguments = dict[str, Any]


@pytest.fixture(scope="module")
def short(tiny: Arguments) -> Arguments:
    settings = {"data.crop_size": [64, 96], "training.batch_size": 4, "training.num_evaluations": 2}
    own = {"network": TinyNet, "loss": double_focal, "augment": darken}
    return {**tiny, "steps": 4, "settings": settings, **own}


@pytest.fixture(scope="module")
def own(streets: Path, short: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Read only."""
    return train(streets, tmp_path_factory.mktemp("own") / "run", **short).run


def test_own_parts_are_stored_by_import_path(own: Path) -> None:
    config = load_config(own / "config.yaml")
    assert config.network.name == "support.own_parts:TinyNet"
    assert config.loss.function == "support.own_parts:double_focal"
    assert config.augmentation.function == "support.own_parts:darken"
    module, spec = load_model(own)
    assert isinstance(module.network, TinyNet)
    assert spec.network.name == "support.own_parts:TinyNet"


def test_a_resumed_run_ends_in_the_same_model(
    own: Path, streets: Path, short: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Trainer.step, []

    def stop(self: Trainer, *arguments: Any) -> Any:
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(1)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(streets, tmp_path / "run", **short)
    train(streets, tmp_path / "run", resume=True, device="cpu")
    assert (tmp_path / "run" / MODEL_FILE_NAME).read_bytes() == (own / MODEL_FILE_NAME).read_bytes()


def test_the_model_is_evaluated_and_predicts(own: Path, streets: Path, tmp_path: Path) -> None:
    assert 0 <= evaluate(own, streets, device="cpu").mean_iou <= 1
    predict(own, [streets / "images" / "test"], tmp_path, device="cpu")
    assert read_mask(tmp_path / "0000.png").shape == (64, 96)


def test_parts_are_given_by_name_too(own: Path, streets: Path, short: Arguments, tmp_path: Path) -> None:
    by_name = {
        "network": "support.own_parts:TinyNet",
        "loss": "support.own_parts:double_focal",
        "augment": "support.own_parts:darken",
    }
    run = train(streets, tmp_path / "run", **{**short, **by_name}).run
    assert (run / MODEL_FILE_NAME).read_bytes() == (own / MODEL_FILE_NAME).read_bytes()


def test_each_part_changes_the_model(own: Path, streets: Path, short: Arguments, tmp_path: Path) -> None:
    for left_out in ("loss", "augment"):
        run = train(streets, tmp_path / left_out, **{**short, left_out: None}).run
        assert (run / MODEL_FILE_NAME).read_bytes() != (own / MODEL_FILE_NAME).read_bytes()


def test_a_missing_module_is_an_error_that_names_it(own: Path, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "support.own_parts", None)
    with pytest.raises(ModelFileError, match=r"'support\.own_parts:TinyNet', which cannot be imported .* PYTHONPATH"):
        load_model(own)
    (own / "report.html").rename(own / "moved.html")
    try:
        with pytest.raises(InvalidArgumentError, match="which cannot be imported"):
            train(streets, own, resume=True, device="cpu")
    finally:
        (own / "moved.html").rename(own / "report.html")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "support.own_parts:TinyNed"}, r"network\.name is .*cannot be imported"),
        ({"network": "no_such_module:Net"}, r"network\.name is .*No module named 'no_such_module'"),
        ({"network": "support.own_parts:no_network"}, r"returned str\. Expected a torch\.nn\.Module"),
        ({"network": "support.own_parts:darken"}, r"cannot be built .* parameters in_channels and num_classes"),
        ({"network": "support.own_parts:__doc__"}, "is not a class or function"),
        ({"network": TinyNet(3, 2)}, "network is an instance of TinyNet"),
        ({"loss": lambda logits, labels, **arguments: logits.sum()}, "loss is .*a lambda or local function"),
        ({"augment": own_parts.CallableObject()}, "augment is an instance of CallableObject"),
        ({"augment": own_parts.shrink}, "The augmentation returned an array"),
        ({"settings": {"network.depth": 2}}, r"network\.depth is 2, but .* does not use it"),
    ],
)
def test_invalid_parts_are_refused(
    streets: Path, short: Arguments, tmp_path: Path, changes: Arguments, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        train(streets, tmp_path / "run", **{**short, **changes})
    assert not (tmp_path / "run").exists()


def test_an_import_path_leads_back_to_the_function() -> None:
    path = make_import_path(torch.nn.functional.cross_entropy, "loss")
    assert load_import_path(path, "loss") is torch.nn.functional.cross_entropy


def test_functions_of_the_main_script_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darken, "__module__", "__main__")
    with pytest.raises(InvalidArgumentError, match="of the main script"):
        make_import_path(darken, "augment")
