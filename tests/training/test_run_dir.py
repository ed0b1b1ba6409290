import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.training.run_dir import RunFolder, claim_default_folder

FILES = {
    "config": "config.yaml",
    "classes": "classes.yaml",
    "splits": "splits.yaml",
    "inventory": "files.json",
    "metrics": "metrics.jsonl",
    "events": "events",
    "last_checkpoint": "last.checkpoint",
    "previous_checkpoint": "previous.checkpoint",
    "model": "model.safetensors",
    "report": "report.html",
    "live": "live.html",
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_names_are_the_contracts(run: RunFolder, name: str, file: str) -> None:
    assert getattr(run, name) == run.path / file


def test_a_finished_run_holds_these_files_and_no_others(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == sorted(FILES.values())


@pytest.mark.parametrize(
    ("name", "file"),
    [("next_checkpoint", "next.checkpoint"), ("diverged", "diverged.checkpoint"), ("changes", "changes.yaml")],
)
def test_a_run_may_hold_more(run: RunFolder, name: str, file: str) -> None:
    assert getattr(run, name) == run.path / file
    assert run.path / file in run.contents


def test_a_run_with_exclusions_has_one_more_file(run: RunFolder) -> None:
    assert run.exclusions == run.path / "left_out.yaml"
    assert run.exclusions in run.contents
    run.exclusions.touch()
    run.discard()
    assert not run.path.exists()


def test_an_empty_or_new_folder_is_free(run: RunFolder) -> None:
    run.require_free()
    RunFolder(run.path / "new" / "one").require_free()
    (run.path / "photo.png").touch()
    run.require_free()


@pytest.mark.parametrize("path", RunFolder(Path()).contents)
def test_a_folder_with_a_file_that_a_run_writes_is_refused(run: RunFolder, path: Path) -> None:
    (run.path / path).touch()
    if path == RunFolder(Path()).unfinished:
        run.require_free()
        return
    message = rf"already contains {re.escape(path.name)}, which a run would replace\. Continue a run with --resume"
    with pytest.raises(InvalidArgumentError, match=message):
        run.require_free()


def test_a_description_that_a_killed_run_has_not_finished_may_be_replaced(run: RunFolder) -> None:
    for path in (run.unfinished, run.classes, run.splits):
        path.touch()
    run.require_free()
    run.report.touch()
    with pytest.raises(InvalidArgumentError, match=r"already contains report\.html"):
        run.require_free()


def test_a_new_description_has_nothing_of_an_unfinished_one(run: RunFolder) -> None:
    for path in (run.unfinished, run.classes, run.exclusions, run.path / "photo.png"):
        path.touch()
    run.begin_description()
    assert sorted(path.name for path in run.path.iterdir()) == [run.unfinished.name, "photo.png"]


def test_a_file_in_the_way_is_refused(run: RunFolder) -> None:
    (run.path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=r"is a file\. Choose a folder"):
        RunFolder(run.path / "file").require_free()


def test_metrics_are_read_back_in_order(run: RunFolder) -> None:
    assert list(run.read_metrics()) == []
    lines = [{"step": step, "loss": 0.1 * step} for step in range(5)]
    for line in lines:
        run.append_metrics(line)
    assert list(run.read_metrics()) == lines
    run.remove_metrics_after(2)
    assert list(run.read_metrics()) == lines[:3]


def test_a_line_cut_off_by_a_kill_is_forgotten(run: RunFolder) -> None:
    run.append_metrics({"step": 1})
    with run.metrics.open("a") as file:
        file.write('{"step": 2, "lo')
    run.remove_metrics_after(9)
    assert list(run.read_metrics()) == [{"step": 1}]


def test_forgetting_makes_an_empty_file(run: RunFolder) -> None:
    run.remove_metrics_after(0)
    assert run.metrics.read_text() == ""


def test_a_run_without_a_step_is_discarded(run: RunFolder) -> None:
    new = RunFolder(run.path / "new")
    new.path.mkdir()
    for name in ("config", "classes", "splits"):
        getattr(new, name).touch()
    new.events.mkdir()
    (new.events / "events.out.tfevents.1").touch()
    new.discard()
    assert not new.path.exists()


def test_taking_back_leaves_the_files_of_others(run: RunFolder) -> None:
    run.config.touch()
    (run.path / "photo.png").touch()
    run.discard()
    assert [path.name for path in run.path.iterdir()] == ["photo.png"]


def test_the_default_folder_is_the_first_that_is_free(tmp_path: Path) -> None:
    data, runs = tmp_path / "streets", tmp_path / "runs"
    for number in (1, 2, 4):
        (runs / f"streets-unet-{number}").mkdir(parents=True)
    with ExitStack() as claims:
        assert claim_default_folder([data], "unet", claims, runs) == runs / "streets-unet-3"
        assert claim_default_folder([data], "fcn", claims, runs) == runs / "streets-fcn-1"
        assert (runs / "streets-fcn-1").exists()
        assert claim_default_folder([data, Path("cells")], "fcn", claims, runs) == runs / "streets+cells-fcn-1"
    assert not (runs / "streets-fcn-1").exists()  # nothing was written


def test_the_default_folder_is_named_after_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells").mkdir()
    monkeypatch.chdir(tmp_path / "cells")
    with ExitStack() as claims:
        assert claim_default_folder([Path()], "unet", claims) == Path("runs/cells-unet-1")
