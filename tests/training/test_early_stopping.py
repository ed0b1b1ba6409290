from typing import Any

import pytest

from pixelwise.training.early_stopping import describe_early_stop, is_out_of_patience


def metrics(*scores: float | None) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: a loss, then an evaluation, of step 1, 2, ..."""
    lines: list[dict[str, Any]] = []
    for step, score in enumerate(scores, start=1):
        lines += [{"step": step, "loss": 1.0}, {"step": step, "val": {"mean_iou": score}}]
    return lines


@pytest.mark.parametrize(
    ("scores", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([None], 1, False),  # the first evaluation is a new best whatever it is
        ([0.5, 0.5], 1, True),  # as good is no better
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.45], 2, True),
        ([0.5, 0.4, 0.6, 0.5], 2, False),  # a new best begins the count anew
        ([0.5, None, None, None], 3, True),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 0, False),
        ([0.5, 0.4, 0.3, 0.2, 0.1], None, False),
    ],
)
def test_patience_counts_evaluations_without_a_new_best(
    scores: list[float | None], patience: int | None, over: bool
) -> None:
    assert is_out_of_patience(metrics(*scores), patience) is over
    assert (describe_early_stop(metrics(*scores), patience) is not None) is over


def test_the_note_names_the_best() -> None:
    note = describe_early_stop(metrics(0.25, 0.5, 0.4, 0.3), 2)
    assert note is not None
    assert note.endswith("evaluations without a better mean IoU than 0.5000, of step 2: 2")
