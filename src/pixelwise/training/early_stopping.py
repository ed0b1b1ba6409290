"""Early stopping, read off the evaluations in metrics.jsonl, so that a resumed run counts alike."""

from collections.abc import Iterable, Mapping
from typing import Any

Metrics = Iterable[Mapping[str, Any]]


def out_of_patience(metrics: Metrics, patience: int | None) -> bool:
    """Whether the last `patience` evaluations brought no new best mean IoU; never with 0 or None."""
    return bool(patience) and _since_best(metrics)[0] >= (patience or 0)


def early_stop_note(metrics: Metrics, patience: int | None) -> str | None:
    """What the report says of a run that ended early; None of one that did not."""
    since, best, step = _since_best(metrics)
    if not patience or since < patience:
        return None
    best_so_far = f"{best:.4f}, of step {step}"
    reason = f"evaluations without a better mean IoU than {best_so_far}: {since}"
    return f"ended early (training.early_stopping_patience): {reason}"


def _since_best(metrics: Metrics) -> tuple[int, float, int]:
    """Evaluations since the best one, its mean IoU and its step."""
    since, best, step = 0, -1.0, 0
    for line in metrics:
        if "val" in line:
            score = line["val"]["mean_iou"] or 0.0
            since, best, step = (0, score, line["step"]) if score > best else (since + 1, best, step)
    return since, best, step
