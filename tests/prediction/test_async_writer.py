import numpy as np
import pytest
import torch

from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.batching import Answer, Failure
from pixelwise.inference.predictor import Prediction
from pixelwise.prediction import async_writer as home
from pixelwise.prediction.async_writer import told, written_behind


def answer(item: int, seam_score: float | None = None) -> Answer[int, None]:
    labels = np.zeros((2, 2), np.uint8)
    prediction = Prediction(labels=labels, _logits=lambda: torch.zeros(1, 2, 2), seam_score=seam_score)
    return Answer(item=item, image=np.zeros((2, 2, 3), np.uint8), extra=None, prediction=prediction)


@pytest.mark.parametrize("behind", [0, 8])
def test_all_is_told_in_its_order_failures_too(monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
    monkeypatch.setattr(home, "BEHIND", behind)
    unread = InvalidArgumentError("cannot be read")

    def write(one: Answer[int, None]) -> int:
        if one.item == 3:
            raise OSError("the disk is full")
        return 10 * one.item

    found = list(written_behind([answer(1), Failure(item=2, error=unread), answer(3), answer(4)], write))
    assert [str(one) for one in found] == ["10", "cannot be read", "the disk is full", "40"]


def test_few_wait_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "BEHIND", 2)
    taken: list[int] = []

    def answers() -> object:
        for item in range(9):
            taken.append(item)
            yield answer(item)

    outcomes = written_behind(answers(), lambda one: one.item)  # type: ignore[arg-type]
    assert next(outcomes) == 0
    assert taken == [0, 1, 2]
    assert list(outcomes) == list(range(1, 9))


def test_blended_tiles_are_told_of() -> None:
    said: list[tuple[int, str]] = []
    outcomes = [answer(1), answer(2, 1.25), Failure(item=3, error=InvalidArgumentError("x"))]
    assert list(told(outcomes, "exact", lambda item, words: said.append((item, words)))) == outcomes
    assert [item for item, _ in said] == [2]
    assert said[0][1].startswith("tiles are blended, as this network sees the whole image")
    assert said[0][1].endswith("seam score 1.25")
    list(told(outcomes, "blend", lambda item, words: said.append((item, words))))
    assert said[1][1] == "tiles are blended, as asked for; seam score 1.25"
