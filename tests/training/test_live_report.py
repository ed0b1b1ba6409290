from collections.abc import Callable
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelwise.training import live_report as home
from pixelwise.training.live_report import LivePage, describe_status, make_cards
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer

TRAINED = {"step": 10, "progress": 0.25, "loss": 0.5, "lr": 0.01, "images_per_second": 20.0, "seconds": 60.0}
SCORED = {"step": 10, "progress": 0.25, "val": {"mean_iou": 0.4, "global_accuracy": None}, "seconds": 61.0}


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(home, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def page(make_trainer: Callable[..., Trainer], clock: Clock, tmp_path: Any) -> LivePage:
    trainer = make_trainer()
    return LivePage(RunFolder(tmp_path), trainer.dataset, trainer.val_samples)


def evaluated(page: LivePage) -> str:
    """The page after an evaluation of all of its images."""
    for line in (TRAINED, {**TRAINED, "step": 12}, SCORED):
        page.run.append_metrics(line)
    for sample in page.pictures:
        _, labels = page.dataset.read(sample)
        page.add_image(sample, labels, np.zeros_like(labels))
    page.show_evaluation(12, 0.25)
    return page.run.live.read_text(encoding="utf-8")


def test_the_page_shows_progress_curves_and_images(page: LivePage) -> None:
    text = evaluated(page)
    assert '<meta http-equiv="refresh" content="15">' in text
    assert "step 10 · 25% done · 61 s so far, about 3.0 min left" in text
    for title in ("Training loss", "Learning rate", "Validation", "mean IoU"):
        assert title in text
    assert text.count("data:image/webp;base64,") == 9
    assert "at step 12" in text
    for name in page.dataset.classes.names:
        assert name in text


def test_the_page_is_one_file_that_loads_nothing(page: LivePage) -> None:
    sources: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            sources.extend(value for key, value in attrs if key in ("src", "href") and tag not in ("use",))

    Parser().feed(evaluated(page))
    assert [source for source in sources if not source.startswith(("data:", "#"))] == []


@pytest.mark.parametrize(("state", "said"), [("ended", "Training has ended"), ("stopped", "--resume")])
def test_the_last_page_reloads_no_more(page: LivePage, state: Any, said: str) -> None:
    evaluated(page)
    page.write(1.0, state)
    text = page.run.live.read_text(encoding="utf-8")
    assert "http-equiv" not in text
    assert said in text


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
    monkeypatch.setattr(home, "MAX_SIDE", 40)  # of 64 x 96: every third pixel
    seen: list[Any] = []
    monkeypatch.setattr(
        home,
        "draw_panels",
        lambda image, *rest: (
            seen.append(image.shape) or dict.fromkeys(("image", "truth", "prediction"), np.zeros((2, 2, 3), np.uint8))
        ),
    )
    sample = next(iter(page.pictures))
    labels = np.zeros((64, 96), np.uint8)
    page.add_image(sample, labels, labels)
    assert seen == [(22, 32, 3)]


def test_before_anything_is_measured_the_page_says_so(page: LivePage) -> None:
    page.write(0.0)
    assert "no step yet" in page.run.live.read_text(encoding="utf-8")
    assert make_cards([]) == []


def test_no_time_is_left_at_the_end() -> None:
    assert describe_status([TRAINED], 1.0) == "step 10 · 100% done · 60 s so far"


def test_the_best_score_is_named_with_its_step() -> None:
    better = {**SCORED, "step": 20, "val": {"mean_iou": 0.6}}
    worse = {**SCORED, "step": 30, "val": {"mean_iou": 0.5}}
    assert make_cards([SCORED, better, worse]) == [("best mean IoU", "60.0 %", "at step 20")]
