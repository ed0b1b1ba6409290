"""What joins several parts: planning, training, resuming, the demo and info."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

import pixelwise.commands as home
from pixelwise.commands import TrainResult, demo, info, plan, train
from pixelwise.data.dataset import open_dataset
from pixelwise.data.images import read_mask, write_png
from pixelwise.data.splits import read_splits
from pixelwise.errors import CheckpointError, DataError, RequestError
from pixelwise.folds import FoldsResult
from pixelwise.model_file import FILE_NAME, load_model
from pixelwise.progress import Silent
from pixelwise.recipe import read_recipe, to_yaml
from pixelwise.training.run_folder import RunFolder
from pixelwise.training.trainer import Trainer

Arguments = dict[str, Any]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run that may be written to."""
    return shutil.copytree(trained, tmp_path / "finished")


@pytest.fixture
def started(finished: Path) -> Path:
    """A run that was stopped before its first checkpoint."""
    for name in ("last.checkpoint", "previous.checkpoint", FILE_NAME, "report.html", "metrics.jsonl"):
        (finished / name).unlink()
    return finished


def test_a_run_leaves_what_it_says(trained: Path, streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(streets, tmp_path / "again", **tiny)
    assert result == TrainResult(
        run=tmp_path / "again",
        model=tmp_path / "again" / FILE_NAME,
        report=tmp_path / "again" / "report.html",
        scores=load_model(trained)[1].scores,
    )
    assert result.model.read_bytes() == (trained / FILE_NAME).read_bytes()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_recipe_of_a_run_repeats_it(trained: Path, streets: Path, tmp_path: Path) -> None:
    run = train(streets, tmp_path / "again", recipe=trained / "recipe.yaml", device="cpu").run
    assert (run / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()
    assert read_recipe(run / "recipe.yaml") == read_recipe(trained / "recipe.yaml")


def test_the_recipe_of_a_run_is_resolved_and_gives_reasons(trained: Path, tiny: Arguments) -> None:
    recipe = read_recipe(trained / "recipe.yaml")
    assert recipe.training.steps == tiny["steps"]
    assert recipe.training.budget_seconds is None
    assert recipe.data.crop == (64, 96)
    assert "# as asked for" in (trained / "recipe.yaml").read_text()


def test_a_run_writes_its_classes_and_splits(trained: Path, streets: Path) -> None:
    classes = yaml.safe_load((trained / "classes.yaml").read_text())
    assert classes["names"] == yaml.safe_load((streets / "dataset.yaml").read_text())["names"]
    splits = yaml.safe_load((trained / "splits.yaml").read_text())
    assert {name: len(names) for name, names in splits.items()} == {"train": 12, "val": 4, "test": 4}


def test_a_finished_run_resumed_changes_nothing(finished: Path, streets: Path, tiny: Arguments) -> None:
    before = contents(finished)
    for arguments in ({"resume": True}, {**tiny, "resume": True}):
        result = train(streets, finished, **arguments)
        assert result.scores == load_model(finished)[1].scores
    assert contents(finished) == before


def test_a_run_whose_report_is_missing_gets_it_and_keeps_its_model(
    finished: Path, trained: Path, streets: Path
) -> None:
    (finished / "report.html").unlink()
    train(streets, finished, resume=True, device="cpu")
    assert (finished / "report.html").read_bytes() != b""
    assert (finished / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()


def test_a_run_without_a_checkpoint_starts_from_the_beginning(started: Path, trained: Path, streets: Path) -> None:
    train(streets, started, resume=True, device="cpu")
    assert (started / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()
    assert sorted(p.name for p in started.iterdir()) == sorted(p.name for p in trained.iterdir())


def test_a_folder_that_was_stopped_before_its_recipe_starts_from_the_beginning(
    trained: Path, streets: Path, tiny: Arguments, tmp_path: Path
) -> None:
    shutil.copy(trained / "classes.yaml", tmp_path)
    train(streets, tmp_path, resume=True, **tiny)
    assert (tmp_path / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()


def test_a_folder_that_holds_a_run_is_refused(finished: Path, streets: Path, tiny: Arguments) -> None:
    before = contents(finished)
    with pytest.raises(RequestError, match=r"already holds a run .* continue it with --resume"):
        train(streets, finished, **tiny)
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 7}, r"training\.steps"),
        ({"seed": 1}, r"training\.seed"),
        ({"settings": ["optimizer.lr=0.5", "network.width=8"]}, r"network\.width, optimizer\.lr"),
        ({"budget": "20m"}, r"training\.budget_seconds"),
        ({"precision": "bf16"}, r"training\.precision"),
    ],
)
def test_another_recipe_is_refused(finished: Path, streets: Path, changes: Arguments, key: str) -> None:
    before = contents(finished)
    with pytest.raises(CheckpointError, match=f"was started with another {key} .* resume without changing it"):
        train(streets, finished, resume=True, **changes)
    assert contents(finished) == before


def test_another_recipe_file_is_refused_and_the_same_is_not(finished: Path, streets: Path, tmp_path: Path) -> None:
    recipe = read_recipe(finished / "recipe.yaml")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(to_yaml(recipe))
    other.write_text(to_yaml(recipe.replace({"optimizer.lr": 0.5})))
    train(streets, finished, resume=True, recipe=same)
    with pytest.raises(CheckpointError, match=r"was started with another optimizer\.lr"):
        train(streets, finished, resume=True, recipe=other)


def test_other_classes_are_refused(started: Path, streets: Path, tmp_path: Path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    text = (data / "dataset.yaml").read_text()
    (data / "dataset.yaml").write_text(text.replace("sky", "heaven"))
    with pytest.raises(CheckpointError, match=r"the classes of .* are not those that the run started with"):
        train(data, started, resume=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"budget": "20m", "steps": 5}, "--budget and --steps both say how long"),
        ({"budget": "soon"}, "'soon' is not a duration"),
        ({"steps": 0}, r"training\.steps is 0"),
        ({"settings": ["network.wings=2"]}, "unknown key of recipe section 'network'"),
        ({"settings": ["width=2"]}, "write section.key=value"),
        ({"network": "unett", "steps": 5}, r"unknown network 'unett'\. Did you mean 'unet"),
        ({"recipe": "no.yaml"}, r"no\.yaml is not a readable recipe"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"precision": "fp8", "steps": 5}, "fp8"),
        ({"budget": "1s", "device": "cpu"}, "the budget of 1 s|[Bb]udget"),
    ],
)
def test_what_cannot_be_done_leaves_no_folder(streets: Path, tmp_path: Path, arguments: Arguments, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        train(streets, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def faulty(streets: Path, tmp_path: Path) -> Path:
    """An image without a mask, and one that cannot be read."""
    data = shutil.copytree(streets, tmp_path / "faulty")
    (data / "images" / "train" / "0003.png").write_bytes(b"")
    (data / "labels" / "train" / "0001.png").unlink()
    return data


LEFT_OUT = [
    {"file": "images/train/0003.png", "reason": "the file is empty; replace or remove it."},
    {"file": "images/train/0001.png", "reason": "an image has no mask"},
]


def test_a_forced_run_names_what_it_leaves_out(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    class Listening(Silent):
        said: ClassVar[list[str]] = []

        def say(self, message: str) -> None:
            self.said.append(message)

    with pytest.raises(DataError, match="To train on what is sound: --force"):
        train(faulty, tmp_path / "run", **tiny)
    run = train(faulty, tmp_path / "run", **tiny, force=True, progress=Listening()).run
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    splits = yaml.safe_load((run / "splits.yaml").read_text())
    assert len(splits["train"]) == 10
    assert not {"train/0001", "train/0003"} & set(splits["train"])
    report = (run / "report.html").read_text(encoding="utf-8")
    for line in (
        "left out: images/train/0003.png: the file is empty; replace or remove it.",
        "left out: images/train/0001.png: an image has no mask",
    ):
        assert line in report
        assert Listening.said.count(line) == 1
    assert sum(line.startswith("error: ") for line in Listening.said) == 2


def test_a_forced_run_goes_on_without_what_it_left_out(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, force=True).run
    model = (run / FILE_NAME).read_bytes()
    for name in ("last.checkpoint", "previous.checkpoint", FILE_NAME, "report.html", "metrics.jsonl"):
        (run / name).unlink()
    train(faulty, run, resume=True, device="cpu")
    assert (run / FILE_NAME).read_bytes() == model
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    assert "left out: images/train/0001.png: an image has no mask" in (run / "report.html").read_text(encoding="utf-8")


def test_a_forced_run_stops_at_an_error_that_came_later(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, force=True).run
    for name in ("last.checkpoint", "previous.checkpoint", FILE_NAME, "report.html"):
        (run / name).unlink()
    (faulty / "images" / "train" / "0005.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0005\.png: the file is empty"):
        train(faulty, run, resume=True, device="cpu")


def test_a_run_is_not_forced_later(started: Path, streets: Path) -> None:
    with pytest.raises(CheckpointError, match="was started without --force; resume without it"):
        train(streets, started, resume=True, force=True)


def test_a_list_of_an_earlier_run_does_not_stay(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "left_out.yaml").write_text("[]\n")
    train(streets, tmp_path, **tiny)
    assert not (tmp_path / "left_out.yaml").exists()


def test_resume_needs_a_folder(streets: Path) -> None:
    with pytest.raises(RequestError, match="--resume needs the folder of the run"):
        train(streets, resume=True)


def test_unsound_data_is_refused(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    (data / "labels" / "train" / "0003.png").unlink()
    with pytest.raises(DataError, match=r"without a mask: images/train/0003\.png"):
        train(data, tmp_path / "run", **tiny)
    assert not (tmp_path / "run").exists()


def test_a_run_is_named_after_data_and_network(
    streets: Path, tiny: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "streets-unet-1").mkdir(parents=True)
    assert train(streets, **tiny).run == Path("runs/streets-unet-2")
    assert (tmp_path / "runs" / "streets-unet-2" / FILE_NAME).exists()


def test_gray_images_are_trained_on_and_labeled(cells: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(cells, tmp_path / "run", **tiny)
    spec = load_model(result.model)[1]
    assert spec.channels == 1
    assert 0 <= result.scores["mean_iou"] <= 1


def test_images_of_16_bit_without_splits_or_classes_are_trained_on(tiny: Arguments, tmp_path: Path) -> None:
    data, rng = tmp_path / "data", torch.Generator().manual_seed(0)
    for number in range(5):
        bright = torch.randint(0, 2, (40, 48), generator=rng).numpy()
        write_png(data / "images" / f"{number}.png", (bright * 3000 + 500).astype("uint16"))
        write_png(data / "masks" / f"{number}.png", (bright * 255).astype("uint8"))
    result = train(data, tmp_path / "run", **tiny)
    spec = load_model(result.model)[1]
    assert (spec.dtype, spec.channels, spec.classes.names) == ("uint16", 1, ("background", "foreground"))
    assert 500 < spec.mean[0] < 3500
    assert home.evaluate(result.run, data, device="cpu")["split"] == "val"
    home.predict(result.run, [data / "images"], tmp_path / "out", coding="data", device="cpu")
    assert set(read_mask(tmp_path / "out" / "0.png").ravel().tolist()) <= {0, 255}


def test_a_plan_is_written_with_its_reasons(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    made = plan(streets, budget="10m", output=tmp_path / "recipe.yaml", device="cpu", seed=3)
    assert read_recipe(tmp_path / "recipe.yaml") == made.recipe
    assert made.recipe.training.budget_seconds == 600
    assert made.recipe.training.seed == 3
    assert made.reasons["data.crop"] in (tmp_path / "recipe.yaml").read_text()


def test_a_given_recipe_without_a_length_takes_the_default_budget(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(home, "_train_in", lambda run, prepared, job, *rest: asked.append(job.recipe))
    (tmp_path / "r.yaml").write_text("network: {width: 4}\n")
    train(streets, tmp_path / "a", recipe=tmp_path / "r.yaml")
    train(streets, tmp_path / "b", recipe=tmp_path / "r.yaml", steps=9, precision="bf16")
    train(streets, tmp_path / "c", recipe=tmp_path / "b" / "recipe.yaml", budget="90s", settings=["network.width=8"])
    lengths = [(recipe.training.steps, recipe.training.budget_seconds) for recipe in asked]
    assert lengths == [(None, 1200), (9, None), (None, 90)]
    assert [recipe.network.width for recipe in asked] == [4, 4, 8]
    assert [recipe.training.precision for recipe in asked] == ["fp32", "bf16", "bf16"]


def test_a_deterministic_budget_is_resolved_to_steps(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether planned or given: the clock is looked at once, and then never again."""
    asked: list[Any] = []
    monkeypatch.setattr(home, "_train_in", lambda run, prepared, job, *rest: asked.append(job.recipe))
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    monkeypatch.setattr(home, "measure_step", lambda *arguments: 10.0)
    (tmp_path / "r.yaml").write_text("network: {width: 4, depth: 2}\n")
    train(streets, tmp_path / "a", budget="10m", deterministic=True, device="cpu")
    train(streets, tmp_path / "b", budget="10m", deterministic=True, recipe=tmp_path / "r.yaml", device="cpu")
    for recipe in asked:
        assert recipe.training.steps is not None
        assert 1 <= recipe.training.steps < 60


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, tiny: Arguments) -> None:
    """The demo with few small images and few steps."""
    write, run = home.write_dataset, home.train

    def few(root: Path, kind: Any, **_: Any) -> None:
        write(root, kind, num_train=6, num_val=2, num_test=2, size=(64, 96))

    def short(data: Path, folder: Path, **_: Any) -> TrainResult:
        return run(data, folder, **tiny)

    monkeypatch.setattr(home, "write_dataset", few)
    monkeypatch.setattr(home, "train", short)


def test_the_demo_does_the_whole_job_and_replaces_an_earlier_one(small_demo: None, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):
        result = demo(folder)
        assert result.report == folder / "report.html"
        assert (folder / "evaluation.json").exists()
        assert len(list((folder / "predictions").glob("*_overlay.png"))) == 2
        (folder / "evaluation.json").unlink()


def test_the_demo_refuses_a_folder_of_something_else(small_demo: None, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(RequestError, match="holds something that is no demo; choose another folder"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_info_names_what_a_bug_report_needs() -> None:
    found = info()
    assert {"python", "platform", "pixelwise", "torch", "numpy", "device", "threads"} <= found.keys()
    assert torch.__version__.startswith(found["torch"])
    assert all(found.values())


# Groups and folds.


@pytest.fixture(scope="module")
def folded(streets: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory) -> FoldsResult:
    """Three finished folds. Read only."""
    result = train(streets, tmp_path_factory.mktemp("folds") / "run", folds=3, **tiny)
    assert isinstance(result, FoldsResult)
    return result


def test_folds_are_runs_that_share_out_train_and_val(folded: FoldsResult, streets: Path) -> None:
    dataset = open_dataset(streets)
    splits = [read_splits(run / "splits.yaml", dataset.samples) for run in folded.folds]
    assert sorted(s for one in splits for s in one["val"]) == [s for s in dataset.samples if s.split != "test"]
    assert [len(one["test"]) for one in splits] == [4, 4, 4]
    assert sorted(path.name for path in folded.run.iterdir()) == [
        "fold-1",
        "fold-2",
        "fold-3",
        "folds.html",
        "folds.json",
    ]
    for run in folded.folds:
        assert (run / "report.html").exists()
    assert len({(run / "recipe.yaml").read_text() for run in folded.folds}) == 1
    assert len({load_model(run)[1].mean for run in folded.folds}) == 3


def test_the_scores_of_the_folds_are_those_of_their_models(folded: FoldsResult, streets: Path) -> None:
    stored = json.loads((folded.run / "folds.json").read_text())
    assert stored == {"num_folds": 3, "budget_seconds": None, **folded.scores}
    scored = [home.evaluate(run, streets, split="val", device="cpu", precision="fp32") for run in folded.folds]
    assert [s["confusion"] for s in scored] == [s["confusion"] for s in folded.scores["folds"].values()]
    assert folded.scores["pooled"]["num_images"] == 16
    assert folded.scores["mean"]["mean_iou"] == pytest.approx(sum(s["mean_iou"] for s in scored) / 3)


def test_finished_folds_resumed_change_nothing(folded: FoldsResult, streets: Path, tiny: Arguments) -> None:
    before = contents(folded.run)
    assert train(streets, folded.run, resume=True) == folded
    assert train(streets, folded.run, resume=True, folds=3, **tiny) == folded
    assert contents(folded.run) == before


def test_folds_that_were_interrupted_go_on(
    folded: FoldsResult, streets: Path, tiny: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the second: the first is not touched, the second goes on, and all is as if never stopped."""
    step: Callable[..., Any] = Trainer.step
    taken: list[int] = []

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 10:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(streets, tmp_path / "run", folds=3, **tiny)
    first = contents(tmp_path / "run" / "fold-1")
    result = train(streets, tmp_path / "run", resume=True, **tiny)
    assert contents(tmp_path / "run" / "fold-1") == first
    assert result.scores == folded.scores
    for run in folded.folds:
        assert (tmp_path / "run" / run.name / FILE_NAME).read_bytes() == (run / FILE_NAME).read_bytes()


def test_a_fold_that_finished_before_its_scores_were_written_is_scored_again(
    folded: FoldsResult, streets: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folded.run, tmp_path / "run")
    stored = json.loads((copy / "folds.json").read_text())
    del stored["folds"]["fold-2"]
    (copy / "folds.json").write_text(json.dumps(stored))
    before = contents(copy / "fold-2")
    result = train(streets, copy, resume=True, device="cpu")
    assert result.scores == folded.scores
    assert contents(copy / "fold-2") == before


def test_folds_without_their_mark_start_from_the_beginning(
    folded: FoldsResult, streets: Path, tiny: Arguments, tmp_path: Path
) -> None:
    """Stopped while they were described."""
    (tmp_path / "fold-1").mkdir()
    shutil.copy(folded.run / "fold-1" / "recipe.yaml", tmp_path / "fold-1")
    assert train(streets, tmp_path, resume=True, folds=3, **tiny).scores == folded.scores


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 4}, "was started with 3 folds, not 4; resume without"),
        ({"seed": 1}, r"was started with another training\.seed"),
        ({"budget": "20m"}, r"was started with another training\.budget_seconds"),
    ],
)
def test_other_folds_are_refused(folded: FoldsResult, streets: Path, changes: Arguments, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        train(streets, folded.run, resume=True, **changes)


def test_a_folder_of_folds_is_no_place_for_a_run_nor_the_reverse(
    folded: FoldsResult, trained: Path, streets: Path, tiny: Arguments
) -> None:
    for changes in ({}, {"folds": 3}):
        with pytest.raises(RequestError, match=r"already holds folds \(folds\.json\)"):
            train(streets, folded.run, **changes, **tiny)
    with pytest.raises(RequestError, match=r"already holds a run"):
        train(streets, trained, folds=3, **tiny)


def test_folds_share_the_budget(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its part of what planning leaves, and resuming compares the whole."""
    shares: list[Any] = []

    def take(folder: Any, folds: Any, prepared: Any, recipe: Any, *rest: Any) -> None:
        shares.append((folds.budget_seconds, recipe.training.budget_seconds))

    monkeypatch.setattr(home, "_train_folds", take)
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    (tmp_path / "r.yaml").write_text("network: {width: 4, depth: 2}\ntraining: {budget_seconds: 600}\n")
    given: Arguments = {"recipe": tmp_path / "r.yaml", "device": "cpu"}
    train(streets, tmp_path / "a", folds=2, budget="10m", device="cpu")
    train(streets, tmp_path / "b", folds=4, **given)
    train(streets, tmp_path / "b", folds=4, resume=True, budget="10m", **given)
    train(streets, tmp_path / "c", folds=2, steps=9, **given)
    for (total, share), parts in zip(shares[:3], (2, 4, 4), strict=True):
        assert total == 600
        assert 0.5 * 600 / parts < share < 600 / parts
    assert "# of 600 s for 2 folds" in (tmp_path / "a" / "fold-2" / "recipe.yaml").read_text()
    assert read_recipe(tmp_path / "c" / "fold-2" / "recipe.yaml").training.steps == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folds": 1}, "--folds is 1, but must be at least 2"),
        ({"folds": 2, "budget": "1s", "device": "cpu"}, "[Bb]udget"),
        ({"folds": 17, "steps": 2}, "17 folds need one each; make fewer folds"),
        ({"folds": 2, "steps": 2, "group": "zzz"}, r"--group 'zzz' does not match 16 of 16 names"),
    ],
)
def test_folds_that_cannot_be_made_leave_no_folder(
    streets: Path, tmp_path: Path, arguments: Arguments, said: str
) -> None:
    with pytest.raises((RequestError, DataError), match=said):
        train(streets, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_folds_whose_time_is_too_short_are_taken_back(streets: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("network: {width: 4, depth: 2}\n")
    with pytest.raises(RequestError, match=r"budget of .* ends before training could start"):
        train(streets, tmp_path / "run", folds=2, recipe=tmp_path / "r.yaml", budget="11s", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_group_is_kept_out_of_two_splits_and_written_down(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(streets, tmp_path / "run", folds=2, group=r"(\d)$", **tiny)
    assert isinstance(result, FoldsResult)
    assert r"group: (\d)$" in (result.folds[0] / "recipe.yaml").read_text()
    for run in result.folds:
        text = (run / "splits.yaml").read_text()
        assert "- train/0003  # 3\n" in text
        splits = yaml.safe_load(text)
        train_digits, val_digits = ({name[-1] for name in splits[split]} for split in ("train", "val"))
        assert train_digits.isdisjoint(val_digits)


def test_an_unreadable_checkpoint_is_named(finished: Path, streets: Path) -> None:
    (finished / "last.checkpoint").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last\.checkpoint cannot be read"):
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
    assert (tmp_path / "run" / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()


def test_the_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds something that is no demo; choose another folder"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_demo_replaces_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / home._DEMO_MARK).touch()
    (tmp_path / "data").mkdir()
    for name in ("data/old.png", "recipe.yaml", "report.html", "thesis.txt"):
        (tmp_path / name).write_text("")
    home._clear_demo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [home._DEMO_MARK, "thesis.txt"]
