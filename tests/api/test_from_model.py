"""Runs that start from the weights of another one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.api import train
from pixelwise.config import load_config
from pixelwise.errors import CheckpointError, InvalidArgumentError, ModelFileError, PathNotFoundError
from pixelwise.model_file import MODEL_FILE_NAME, load_model
from pixelwise.progress import use_reporter
from support.recorder import Recorder

Arguments = dict[str, Any]
TINY = {"data.crop_size": [64, 64], "training.batch_size": 2}


@pytest.fixture
def short(tiny: Arguments) -> Arguments:
    """Two steps that hardly move, and nothing named that the model knows itself."""
    settings = {
        "data.crop_size": [64, 64],
        "training.batch_size": 2,
        "training.num_evaluations": 1,
        "optimizer.lr": 1e-9,
    }
    return {**tiny, "steps": 2, "settings": settings}


def test_a_run_on_other_data_starts_from_the_model(
    trained: Path, cells: Path, short: Arguments, tmp_path: Path
) -> None:
    heard = Recorder()
    with use_reporter(heard):
        run = train(cells, tmp_path / "run", init_from=trained, **short).run
    module, spec = load_model(run)
    before, theirs = load_model(trained)
    assert (
        (spec.network.base_channels, spec.network.depth)
        == (theirs.network.base_channels, theirs.network.depth)
        == (4, 2)
    )
    assert (spec.channels, len(spec.classes.names)) == (1, 2)
    torch.testing.assert_close(module.network.up[1].block[0].weight, before.network.up[1].block[0].weight)
    assert spec.mean != theirs.mean  # of the new images
    (said,) = [line for line in heard.messages if line.startswith("weights of ")]
    assert "classes kept: none; new: " in said
    assert "adapted from 3 to 1 channels" in said
    config = load_config(run / "config.yaml")
    assert config.training.init_from == str(trained)
    assert str(trained.parent) not in (run / MODEL_FILE_NAME).read_bytes().decode("latin-1")


def test_the_same_seed_gives_the_same_model(trained: Path, cells: Path, short: Arguments, tmp_path: Path) -> None:
    files = [train(cells, tmp_path / name, init_from=trained, **short).model.read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_a_network_that_differs_is_refused_before_anything_is_written(
    trained: Path, streets: Path, short: Arguments, tmp_path: Path
) -> None:
    short["settings"]["network.base_channels"] = 8
    with pytest.raises(
        InvalidArgumentError,
        match=r"cannot be used for this run: network\.base_channels is 4 in the model, but 8 in the config",
    ):
        train(streets, tmp_path / "run", init_from=trained, **short)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["segnet", "unet-paper", "fcn-32s", "fcn-paper", "fcn-alexnet"])
def test_another_network_is_refused_by_its_name(trained: Path, streets: Path, tmp_path: Path, name: str) -> None:
    said = f"The model is a 'unet', but the config asks for a '{name}'. Omit network.name "
    with pytest.raises(InvalidArgumentError, match=said):
        train(streets, tmp_path / "run", init_from=trained, network=name, steps=2, settings=TINY, device="cpu")
    assert not (tmp_path / "run").exists()


def test_two_origins_are_refused(trained: Path, streets: Path, short: Arguments, tmp_path: Path) -> None:
    short["settings"]["network.encoder_weights"] = "imagenet"
    with pytest.raises(
        InvalidArgumentError, match=r"init_from and network\.encoder_weights both set the initial weights"
    ):
        train(streets, tmp_path / "run", init_from=trained, **short)


def test_a_model_that_is_none_is_an_error(streets: Path, short: Arguments, tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"does not exist\. Expected a run folder or a model file"):
        train(streets, tmp_path / "run", init_from=tmp_path / "absent", **short)


def test_weights_of_another_program_need_an_encoder(streets: Path, short: Arguments, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(ModelFileError, match=r"is not a model file.*--encoder NAME --weights FILE"):
        train(streets, tmp_path / "run", init_from=tmp_path / "resnet.pth", **short)


def test_a_resumed_run_keeps_its_origin(trained: Path, finished: Path, streets: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a different config:\n  training\.init_from: null → "):
        train(streets, finished, resume=True, init_from=trained)


def test_freezing_random_weights_is_a_warning(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    heard = Recorder()
    settings = {**tiny["settings"], "optimizer.freeze_stages": 1}
    with use_reporter(heard):
        train(streets, tmp_path / "run", **{**tiny, "settings": settings, "steps": 1})
    assert "warning: optimizer.freeze_stages freezes random weights. Give --weights or --init-from." in heard.messages
