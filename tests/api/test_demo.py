"""The whole job on drawn scenes, small."""

from pathlib import Path
from typing import Any

import pytest

from pixelwise.api import demo, train
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
    with pytest.raises(InvalidArgumentError, match=r"contains files that no demo wrote \(thesis\.txt\)"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    demo(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_the_demo_keeps_what_the_user_has_changed_in_an_earlier_one(small_demo: None, tmp_path: Path) -> None:
    demo(tmp_path)
    mask, own = tmp_path / "data/labels/train/0000.png", tmp_path / "data/images/train/mine.png"
    before = mask.read_bytes()
    mask.write_bytes(before + b"drawn by hand")
    with pytest.raises(InvalidArgumentError, match=r"labels/train/0000\.png was changed after Pixelwise wrote it"):
        demo(tmp_path)
    own.write_bytes(before)
    for overwrite in (False, True):
        with pytest.raises(
            InvalidArgumentError, match=r"images/train/mine\.png is in .* Pixelwise did not write it\. Move it, or"
        ):
            demo(tmp_path, overwrite=overwrite)
    assert own.read_bytes() == before
    own.unlink()
    demo(tmp_path, overwrite=True)
    assert mask.read_bytes() == before


def test_a_demo_that_was_interrupted_is_replaced(
    small_demo: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopped:
        stopped.setattr("pixelwise.api.training.evaluate", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo(tmp_path)
    assert (tmp_path / "report.html").exists()
    own = tmp_path / "data/images/train/mine.png"
    own.touch()
    with pytest.raises(InvalidArgumentError, match=r"mine\.png is in .* Pixelwise did not write it\. Move it, or"):
        demo(tmp_path)
    own.unlink()
    assert demo(tmp_path).report.exists()
    assert [path.name for path in tmp_path.glob(".pixelwise*")] == [".pixelwise-demo"]
