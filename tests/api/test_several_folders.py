"""Commands on a dataset of several folders."""

from pathlib import Path

import pytest

import pixelwise as pw
from pixelwise.cli import main
from pixelwise.training.results import TrainResult
from support.mask_datasets import pairs

TINY = {"network.base_channels": 4, "network.depth": 1, "training.batch_size": 1}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for site in ("one", "two"):
        pairs(tmp_path / site, (0, 1), *((f"images/{name}.png", f"masks/{name}.png") for name in ("a", "b")))
    return [tmp_path / "one", tmp_path / "two"]


def test_train_resume_and_evaluate(folders: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = pw.train(folders, tmp_path / "run", network="unet", steps=1, settings=TINY, device="cpu")
    assert isinstance(run, TrainResult)
    lines = (tmp_path / "run/splits.yaml").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if line.startswith("- ")} == {"- one/a", "- one/b", "- two/a", "- two/b"}
    scores = pw.evaluate(run.run, folders, split="train", device="cpu")
    assert (scores.num_images, scores.data) == (3, f"{folders[0]} {folders[1]}")
    validated = [name for name in ("one", "two") if f"- {name}/" in "".join(lines[lines.index("val:") :])]
    for folder in folders:  # its images are known under their names in the run
        if folder.name in validated:
            assert pw.evaluate(run.run, folder, device="cpu").num_images == 1
        assert pw.evaluate(run.run, folder, split="train", device="cpu").num_images == 2 - (folder.name in validated)
    with caplog.at_level("INFO"):
        pw.train(folders, tmp_path / "run", resume=True, device="cpu")
    assert "is finished; nothing to do" in caplog.text


def test_train_on_folds(folders: list[Path], tmp_path: Path) -> None:
    run = pw.train(folders, tmp_path / "run", folds=2, network="unet", steps=1, settings=TINY, device="cpu")
    assert run.run == tmp_path / "run"


def test_convert(folders: list[Path], tmp_path: Path) -> None:
    assert pw.convert(folders, tmp_path / "out", to="folder").num_images == 4
    assert (tmp_path / "out/images/one/a.png").exists()


def test_the_command_line_takes_several_folders(
    folders: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    with pytest.raises(SystemExit) as end:
        main.main(["check", *map(str, folders)])
    assert not end.value.code
    assert "4 images" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main.main(["plan", *map(str, folders), "--budget", "0.5h", "--network", "unet", "--device", "cpu"])
    assert not end.value.code
    with pytest.raises(SystemExit) as end:
        main.main(["check", str(folders[0]), str(folders[0])])
    assert "its images would count twice" in capsys.readouterr().err


def test_evaluate_names_what_a_list_lacks(
    folders: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = pw.train(folders[0], tmp_path / "run", network="unet", steps=1, settings=TINY, device="cpu")
    assert isinstance(run, TrainResult)
    (folders[1] / "test.txt").write_text("a\ngone\n", encoding="utf-8")
    assert pw.evaluate(run.run, folders[1], device="cpu").num_images == 1
    assert "1 name in split lists that are of no image, or of several: test.txt: gone. Restore" in caplog.text
