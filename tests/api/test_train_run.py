"""A run gone on with."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixelwise.api import train
from pixelwise.api.config_diff import Change, compare_files, refuse_changes, require_same_config
from pixelwise.config import Config, load_config
from pixelwise.data.colors import PALETTE
from pixelwise.data.dataset import Dataset
from pixelwise.data.file_records import record_files, write_file_records
from pixelwise.data.io.images import read_image, write_png
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import CheckpointError, DataError, InvalidArgumentError, PathAccessError
from pixelwise.model_file import MODEL_FILE_NAME, load_model, read_spec
from pixelwise.progress import use_reporter
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.resource_errors import explain_disk_errors
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer
from support.folders import read_contents
from support.recorder import Recorder
from support.small_datasets import pairs

Arguments = dict[str, Any]

Arguments = dict[str, Any]


def test_a_finished_run_resumed_changes_nothing(finished: Path, streets: Path, tiny: Arguments) -> None:
    before = read_contents(finished)
    for arguments in ({"resume": True}, {**tiny, "resume": True}):
        result = train(streets, finished, **arguments)
        assert result.scores == load_model(finished)[1].scores
    assert read_contents(finished) == before


def test_a_run_whose_report_is_missing_gets_it_and_keeps_its_model(
    finished: Path, trained: Path, streets: Path
) -> None:
    (finished / "report.html").unlink()
    train(streets, finished, resume=True, device="cpu")
    assert (finished / "report.html").read_bytes() != b""
    assert (finished / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()


def test_a_run_without_a_checkpoint_starts_from_the_beginning(started: Path, trained: Path, streets: Path) -> None:
    train(streets, started, resume=True, device="cpu")
    assert (started / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert sorted(p.name for p in started.iterdir()) == sorted(p.name for p in trained.iterdir())


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"steps": 7}, r"training\.steps: 6 → 7"),
        ({"seed": 1}, r"training\.seed: 0 → 1"),
        (
            {"settings": {"optimizer.lr": 0.5, "network.base_channels": 8}},
            r"network\.base_channels: 4 → 8\n  optimizer\.lr: 0\.02 → 0\.5",
        ),
        ({"budget": "20m"}, r"training\.budget_seconds: null → 1200\.0"),
        ({"precision": "bf16"}, r"training\.precision: fp32 → bf16"),
    ],
)
def test_another_config_is_refused(finished: Path, streets: Path, changes: Arguments, shown: str) -> None:
    before = read_contents(finished)
    with pytest.raises(CheckpointError, match=f"with a different config:\n  {shown}\nResume without changing"):
        train(streets, finished, resume=True, **changes)
    assert read_contents(finished) == before


def test_another_network_or_optimizer_is_always_refused(finished: Path, streets: Path) -> None:
    changes = {"optimizer.name": "sgd", "optimizer.lr": 0.5}
    with pytest.raises(CheckpointError, match=r"optimizer\.name: \w+ → sgd\nThese cannot change within a run"):
        train(streets, finished, resume=True, allow_changes=True, settings=changes)


def test_allowed_changes_hold_from_there_on_and_are_written_down(finished: Path, streets: Path) -> None:
    settings = {"optimizer.lr": 0.003, "optimizer.weight_decay": 0.5}
    train(streets, finished, resume=True, allow_changes=True, steps=8, settings=settings, device="cpu")
    config = (finished / "config.yaml").read_text()
    assert load_config(finished / "config.yaml").training.steps == 8
    assert "# 6 until step 6" in config
    assert "# set by the user" in config  # the reasons of the rest
    changes = yaml.safe_load((finished / "changes.yaml").read_text())
    assert {"after_step": 6, "what": "optimizer.lr", "before": "0.02", "now": "0.003"} in changes
    assert "changed after step 6: optimizer.lr: 0.02 → 0.003" in (finished / "report.html").read_text(encoding="utf-8")
    checkpoint = load_checkpoint(RunFolder(finished))
    assert checkpoint is not None
    assert checkpoint.step == 8
    assert checkpoint.optimizer["param_groups"][0]["weight_decay"] == 0.5
    train(streets, finished, resume=True, steps=8)  # nothing is another any more


def test_activation_checkpointing_may_change_on_resume(started: Path, trained: Path, streets: Path) -> None:
    settings = {"training.activation_checkpointing": True}
    train(streets, started, resume=True, settings=settings, device="cpu")
    assert (started / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert load_config(started / "config.yaml").training.activation_checkpointing
    assert "training.activation_checkpointing: false → true" in (started / "report.html").read_text(encoding="utf-8")


def test_a_finished_run_ignores_activation_checkpointing(finished: Path, streets: Path) -> None:
    before = read_contents(finished)
    train(streets, finished, resume=True, settings={"training.activation_checkpointing": True}, device="cpu")
    assert read_contents(finished) == before


def test_a_run_without_changes_refuses_activation_checkpointing(tmp_path: Path) -> None:
    asked = Config().replace({"training.activation_checkpointing": True})
    require_same_config(RunFolder(tmp_path), Config(), asked)
    with pytest.raises(
        CheckpointError, match=r"activation_checkpointing: false → true\nResume without changing it, or"
    ):
        require_same_config(RunFolder(tmp_path), Config(), asked, is_changeable=False)


def test_changes_are_allowed_only_with_resume(streets: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="allow_changes has no effect without resume"):
        train(streets, tmp_path / "run", allow_changes=True)


@pytest.fixture
def other_data(streets: Path, tmp_path: Path) -> Path:
    """`streets` with a pair more, a pair less and an image of other contents."""
    data = shutil.copytree(streets, tmp_path / "other")
    for folder in ("images", "labels"):
        shutil.copy(data / folder / "train" / "0000.png", data / folder / "train" / "new.png")
        (data / folder / "train" / "0001.png").unlink()
    image = data / "images" / "train" / "0002.png"
    write_png(image, 255 - read_image(image))
    return data


def test_another_dataset_is_refused_with_its_differences(started: Path, other_data: Path) -> None:
    before = read_contents(started)
    with pytest.raises(CheckpointError, match="was started with a different dataset") as error:
        train(other_data, started, resume=True)
    lines = str(error.value).splitlines()
    assert lines[1].startswith("  images/train/0001.png: ")
    assert lines[1].endswith(" bytes → missing")
    assert lines[2].startswith("  images/train/0002.png: ")
    assert lines[3].startswith("  images/train/new.png: missing → ")
    assert lines[-1].startswith("Restore the dataset, accept it with --allow-changes, or")
    assert read_contents(started) == before


def test_another_dataset_is_accepted_with_allow_changes(started: Path, other_data: Path) -> None:
    with pytest.raises(DataError, match="0001"):  # were its names alone compared
        read_splits(started / "splits.yaml", Dataset.load(other_data).samples)
    train(other_data, started, resume=True, allow_changes=True, device="cpu")
    splits = yaml.safe_load((started / "splits.yaml").read_text())
    assert "train/new" in splits["train"]
    assert "train/0001" not in splits["train"]
    train(other_data, started, resume=True)


def test_a_damaged_list_of_files_is_named(started: Path, streets: Path) -> None:
    (started / "files.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"files\.json is damaged\. Restore or remove it\."):
        train(streets, started, resume=True)


def test_a_file_of_the_same_size_and_another_content_is_a_change(tmp_path: Path) -> None:
    data, run = pairs(tmp_path / "data", ["train"]), RunFolder(tmp_path / "run")
    write_file_records(run.inventory, record_files(Dataset.load(data)))
    assert compare_files(run, Dataset.load(data)) == []
    mask = data / "masks/train/a.png"
    mask.write_bytes(mask.read_bytes()[:-1] + b"x")
    size = f"{mask.stat().st_size} bytes"
    change = Change(what="masks/train/a.png", before=size, now=f"{size}, with other contents")
    assert compare_files(run, Dataset.load(data)) == [change]


def test_many_differences_are_counted(tmp_path: Path) -> None:
    changes = [Change(what=str(number), before="1", now="2") for number in range(13)]
    with pytest.raises(CheckpointError, match=r"  9: 1 → 2\n  and 3 more\nput them back"):
        refuse_changes(RunFolder(tmp_path), "dataset", changes, "put them back")


@pytest.mark.parametrize("name", ["next.checkpoint", MODEL_FILE_NAME, "report.html"])
def test_a_full_disk_is_one_error_and_the_run_can_be_resumed(
    started: Path, trained: Path, streets: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fsync = os.fsync

    def full(file: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = r"cannot be written \(no space is left on the device\)\. .* Free disk space, then resume with: "
        with pytest.raises(CheckpointError, match=message):
            train(streets, started, resume=True, device="cpu")
    assert not list(started.glob("*.part")) + list(started.glob(".*.part"))
    train(streets, started, resume=True, device="cpu")
    assert (started / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()


def test_other_system_errors_are_not_changed(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), explain_disk_errors(RunFolder(tmp_path), "resume"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_read(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("pixelwise.api.train_run.prepare_data", lambda *arguments, **more: pytest.fail("began"))
    with pytest.raises(
        PathAccessError,
        match=r"a/run cannot be created \(permission denied\)\. Change the permissions of the folder above it, or ",
    ):
        train(streets, tmp_path / "a" / "run", steps=1)


def test_a_folder_that_turns_out_read_only_is_an_error(
    streets: Path, tiny: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*arguments: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pixelwise.api.train_run.write_splits", read_only)
    with pytest.raises(
        PathAccessError, match=r"cannot be written to \(the file system is read-only\)\. Choose another path\."
    ):
        train(streets, tmp_path / "run", **tiny)


def test_another_config_file_is_refused_and_the_same_is_not(finished: Path, streets: Path, tmp_path: Path) -> None:
    config = load_config(finished / "config.yaml")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(config.to_yaml())
    other.write_text(config.replace({"optimizer.lr": 0.5}).to_yaml())
    train(streets, finished, resume=True, config=same)
    with pytest.raises(CheckpointError, match=r"optimizer\.lr: 0\.02 → 0\.5"):
        train(streets, finished, resume=True, config=other)


def test_other_classes_are_refused(started: Path, streets: Path, tmp_path: Path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    text = (data / "dataset.yaml").read_text()
    (data / "dataset.yaml").write_text(text.replace("sky", "heaven"))
    with pytest.raises(CheckpointError, match=r"The classes of .* differ from those of the run"):
        train(data, started, resume=True)


def test_a_run_can_be_resumed_with_other_colors(started: Path, streets: Path, tmp_path: Path) -> None:
    data, run = shutil.copytree(streets, tmp_path / "data"), shutil.copytree(started, tmp_path / "run")
    names = yaml.safe_load((data / "dataset.yaml").read_text())["names"]
    (data / "dataset.yaml").write_text(yaml.safe_dump({"names": names}))
    assert read_spec(train(data, run, resume=True).run).classes.colors == PALETTE[:8]


@pytest.fixture
def faulty(streets: Path, tmp_path: Path) -> Path:
    """An image without a mask, and one that cannot be read."""
    data = shutil.copytree(streets, tmp_path / "faulty")
    (data / "images" / "train" / "0003.png").write_bytes(b"")
    (data / "labels" / "train" / "0001.png").unlink()
    return data


LEFT_OUT = [
    {"file": "images/train/0003.png", "reason": "The file is empty. Replace or remove it."},
    {"file": "images/train/0001.png", "reason": "an image has no mask"},
]


def test_a_run_lists_the_files_that_it_excludes(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(DataError, match="Train without the invalid files: --skip-invalid"):
        train(faulty, tmp_path / "run", **tiny)
    with use_reporter(recorder):
        run = train(faulty, tmp_path / "run", **tiny, skip_invalid=True).run
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    splits = yaml.safe_load((run / "splits.yaml").read_text())
    assert len(splits["train"]) == 10
    assert not {"train/0001", "train/0003"} & set(splits["train"])
    report = (run / "report.html").read_text(encoding="utf-8")
    for line in (
        "excluded: images/train/0003.png: The file is empty. Replace or remove it.",
        "excluded: images/train/0001.png: an image has no mask",
    ):
        assert line in report
        assert recorder.messages.count(line) == 1
    assert sum(line.startswith("error: ") for line in recorder.messages) == 2


def test_a_resumed_run_excludes_the_same_files(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, skip_invalid=True).run
    model = (run / MODEL_FILE_NAME).read_bytes()
    for name in ("last.checkpoint", "previous.checkpoint", MODEL_FILE_NAME, "report.html", "metrics.jsonl"):
        (run / name).unlink()
    train(faulty, run, resume=True, device="cpu")
    assert (run / MODEL_FILE_NAME).read_bytes() == model
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    assert "excluded: images/train/0001.png: an image has no mask" in (run / "report.html").read_text(encoding="utf-8")


def test_a_resumed_run_stops_at_a_new_error(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, skip_invalid=True).run
    for name in ("last.checkpoint", "previous.checkpoint", MODEL_FILE_NAME, "report.html"):
        (run / name).unlink()
    (faulty / "images" / "train" / "0005.png").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"0005\.png: \d+ bytes → 0 bytes"):
        train(faulty, run, resume=True, device="cpu")
    with pytest.raises(DataError, match=r"0005\.png: The file is empty\. Replace or remove it\."):
        train(faulty, run, resume=True, allow_changes=True, device="cpu")


def test_skip_invalid_is_refused_for_a_run_without_it(started: Path, streets: Path) -> None:
    with pytest.raises(CheckpointError, match=r"was started without --skip-invalid\. Resume without it"):
        train(streets, started, resume=True, skip_invalid=True)


def test_a_list_of_another_run_is_not_replaced(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "left_out.yaml").write_text("[]\n")
    with pytest.raises(InvalidArgumentError, match=r"already contains left_out\.yaml, which a run would replace"):
        train(streets, tmp_path, **tiny)
    assert (tmp_path / "left_out.yaml").read_text() == "[]\n"


def test_unreadable_checkpoints_are_named(finished: Path, streets: Path) -> None:
    for name in ("last.checkpoint", "previous.checkpoint"):
        (finished / name).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"previous\.checkpoint cannot be read"):
        train(streets, finished, resume=True)


def test_an_interrupted_run_can_be_resumed(
    streets: Path, tiny: Arguments, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step: Callable[..., Any] = Trainer.step
    taken: list[int] = []

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(1)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(streets, tmp_path / "run", **tiny)
    assert RunFolder(tmp_path / "run").last_checkpoint.exists()
    train(streets, tmp_path / "run", resume=True, **tiny)
    assert (tmp_path / "run" / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
