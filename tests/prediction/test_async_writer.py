import numpy as np
import pytest
import torch

from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.batching import Failure, PredictedImage
from pixelwise.inference.predictor import Prediction, Tiling
from pixelwise.prediction import async_writer as home
from pixelwise.prediction.async_writer import log_blending, write_in_background


def answer(item: int) -> PredictedImage[int, None]:
    labels = np.zeros((2, 2), np.uint8)
    prediction = Prediction(labels=labels, _logits=lambda: torch.zeros(1, 2, 2))
    return PredictedImage(item=item, image=np.zeros((2, 2, 3), np.uint8), extra=None, prediction=prediction)


@pytest.mark.parametrize("behind", [0, 8])
def test_results_and_failures_keep_their_order(monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
    monkeypatch.setattr(home, "MAX_PENDING", behind)
    unread = InvalidArgumentError("cannot be read")

    def write(one: PredictedImage[int, None]) -> int:
        if one.item == 3:
            raise OSError("the disk is full")
        return 10 * one.item

    found = list(write_in_background([answer(1), Failure(item=2, error=unread), answer(3), answer(4)], write))
    assert [str(one) for one in found] == ["10", "cannot be read", "the disk is full", "40"]


def test_few_predictions_wait_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_PENDING", 2)
    taken: list[int] = []

    def answers() -> object:
        for item in range(9):
            taken.append(item)
            yield answer(item)

    outcomes = write_in_background(answers(), lambda one: one.item)  # type: ignore[arg-type]
    assert next(outcomes) == 0
    assert taken == [0, 1, 2]
    assert list(outcomes) == list(range(1, 9))


@pytest.mark.parametrize(("tiling", "reason"), [("exact", "global receptive field"), ("blend", "requested")])
def test_blending_is_logged_with_its_reason(tiling: Tiling, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        log_blending("a.png", 1.25, tiling)
    assert caplog.messages[0].startswith("a.png: tiles were blended (")
    assert reason in caplog.messages[0]
    assert caplog.messages[0].endswith("seam score: 1.25")
