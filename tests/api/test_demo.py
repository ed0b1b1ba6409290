"""The whole job on drawn scenes, small."""

from pathlib import Path
from typing import Any

import pytest

from pixelwise.api import demo, train
from pixelwise.api.training import _DEMO_MARK, _clear_demo
from pixelwise.data.synthetic import write_dataset
from pixelwise.errors import InvalidArgumentError
from pixelwise.training.results import TrainResult

Arguments = dict[str, Any]


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, tiny: Arguments) -> None:
    """The demo with few small images and few steps."""
    write, run = write_dataset, train

    def few(root: Path, kind: Any, **_: Any) -> None:
        write(root, kind, num_train=6, num_val=2, num_test=2, size=(64, 96))

    def short(data: Path, folder: Path, **_: Any) -> TrainResult:
        return run(data, folder, **tiny)

    monkeypatch.setattr("pixelwise.data.synthetic.write_dataset", few)
    monkeypatch.setattr("pixelwise.api.training.train", short)


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
    with pytest.raises(InvalidArgumentError, match=r"contains files that no demo wrote. Choose another folder"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidArgumentError, match=r"contains files that no demo wrote. Choose another folder"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_demo_replaces_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / _DEMO_MARK).touch()
    (tmp_path / "data").mkdir()
    for name in ("data/old.png", "config.yaml", "report.html", "thesis.txt"):
        (tmp_path / name).write_text("")
    _clear_demo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [_DEMO_MARK, "thesis.txt"]
