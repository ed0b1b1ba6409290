import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelwise.errors import TrainingError
from pixelwise.evaluation.evaluate import ScoredImage
from pixelwise.metrics import ConfusionMatrix
from pixelwise.training import live_report as home
from pixelwise.training.live_report import LivePage, describe_status, make_cards
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import SigtermExit
from pixelwise.training.trainer import Trainer
from support.pages import Page, require_offline

TRAINED = {"step": 10, "progress": 0.25, "loss": 0.5, "lr": 0.01, "images_per_second": 20.0, "seconds": 60.0}
SCORED = {"step": 10, "progress": 0.25, "val": {"mean_iou": 0.4, "global_accuracy": None}, "seconds": 61.0}


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(home, "time", SimpleNamespace(monotonic=clock.monotonic, time=time.time))
    return clock


@pytest.fixture
def page(make_trainer: Callable[..., Trainer], clock: Clock, tmp_path: Any) -> LivePage:
    trainer = make_trainer()
    return LivePage(RunFolder(tmp_path), trainer.dataset, trainer.val_samples, "pixelwise train cars -o run --resume")


def score(page: LivePage) -> Iterator[ScoredImage]:
    """Yield the images of a page, with background as the prediction."""
    for sample in page.pictures:
        image, labels = page.dataset.read(sample)
        yield ScoredImage(
            sample=sample, image=image, labels=labels, prediction=np.zeros_like(labels), confusion=ConfusionMatrix(2)
        )


def read(page: LivePage) -> Page:
    return Page(page.run.live.read_bytes())


def write_evaluated(page: LivePage) -> Page:
    """Return the page after an evaluation of all of its images."""
    for line in (TRAINED, {**TRAINED, "step": 12}, SCORED):
        page.run.append_metrics(line)
    for scored in score(page):
        page.add_image(scored)
    page.show_evaluation(12, 0.25)
    return read(page)


def is_reloading(page: Page) -> bool:
    return 'http-equiv="refresh"' in page.source


def test_the_page_shows_progress_curves_and_images(page: LivePage) -> None:
    shown = write_evaluated(page)
    assert '<meta http-equiv="refresh" content="15">' in shown.source
    assert "step 10 · 25 % done · 61 s so far, about 3.0 min left" in shown.text
    for title in ("Training loss", "Learning rate", "Validation", "mean IoU"):
        assert title in shown.source
    assert [image["data-title"] for image in shown.images] == ["image", "truth", "prediction"] * 3
    assert "at step 12" in shown.text
    for name in page.dataset.classes.names:
        assert name in shown.text
    require_offline(shown)


def test_a_finished_run_links_its_report(page: LivePage) -> None:
    with page:
        write_evaluated(page)
        page.write(1.0, "scoring")
        assert is_reloading(read(page))
        page.early_stop = "stopped early: no better score"
    shown = read(page)
    assert not is_reloading(shown)
    assert "Finished" in shown.text
    assert "Stopped early: no better score." in shown.text
    assert shown.links == ["report.html"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SigtermExit()])
def test_an_interrupted_run_says_how_to_continue(page: LivePage, error: BaseException) -> None:
    write_evaluated(page)
    with pytest.raises(type(error)), page:
        raise error
    shown = read(page)
    assert not is_reloading(shown)
    assert "Interrupted" in shown.text
    assert "Continue the run with" in shown.text
    assert "pixelwise train cars -o run --resume" in shown.text
    assert len(shown.images) == 9
    assert shown.links == []


def test_a_failed_run_says_what_happened(page: LivePage) -> None:
    with pytest.raises(TrainingError), page:
        raise TrainingError("the loss is NaN in step 7. <b>Lower</b> optimizer.lr.")
    shown = read(page)
    assert not is_reloading(shown)
    assert "Failed" in shown.text
    assert "the loss is NaN in step 7. <b>Lower</b> optimizer.lr." in shown.text
    assert "pixelwise train cars -o run --resume" in shown.text


def test_a_full_disk_hides_no_error(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(home, "write_atomically", fail)
    with pytest.raises(TrainingError), page:
        raise TrainingError("the loss is NaN")


def test_the_page_of_a_resumed_run_runs_again(page: LivePage) -> None:
    with pytest.raises(KeyboardInterrupt), page:
        raise KeyboardInterrupt
    assert not is_reloading(read(page))
    with page:
        assert is_reloading(read(page))


def test_between_evaluations_it_is_written_every_30_seconds(page: LivePage, clock: Clock) -> None:
    written = []
    for now in range(0, 100, 10):
        clock.now = now
        page.run.live.unlink(missing_ok=True)
        page.write_if_due(0.1)
        written.append(page.run.live.exists())
    assert written == [False, False, False, True, False, False, True, False, False, True]


def test_a_page_that_takes_long_is_written_less_often(
    page: LivePage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> bytes:
        clock.now += 2.0
        return b""

    monkeypatch.setattr(home, "render_page", slow)
    page.write(0.1)
    assert page.next_time == 202.0


def test_large_images_are_shown_smaller(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_SIDE", 48)  # of 64 x 96
    for scored in score(page):
        page.add_image(scored)
    sizes = {(picture.height, picture.width) for pictures in page.pictures.values() for picture in pictures}
    assert sizes == {(32, 48)}


def test_before_anything_is_measured_the_page_says_so(page: LivePage) -> None:
    page.write(0.0)
    assert "no step yet" in page.run.live.read_text(encoding="utf-8")
    assert make_cards([]) == []


def test_no_time_is_left_at_the_end() -> None:
    assert describe_status([TRAINED], 1.0) == "step 10 · 100 % done · 60 s so far"


def test_the_best_score_is_named_with_its_step() -> None:
    better = {**SCORED, "step": 20, "val": {"mean_iou": 0.6}}
    worse = {**SCORED, "step": 30, "val": {"mean_iou": 0.5}}
    assert make_cards([SCORED, better, worse]) == [("best mean IoU", "60.0 %", "at step 20")]
