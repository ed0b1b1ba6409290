"""Early stopping, computed from the evaluations in metrics.jsonl, so that a resumed run stops at the same point."""

from collections.abc import Iterable, Mapping
from typing import Any

Metrics = Iterable[Mapping[str, Any]]
"""Lines of metrics.jsonl."""


def is_out_of_patience(metrics: Metrics, patience: int | None) -> bool:
    """Return whether the last `patience` evaluations had no new best mean IoU; False for 0 and None."""
    return bool(patience) and _find_best(metrics)[0] >= (patience or 0)


def describe_early_stop(metrics: Metrics, patience: int | None) -> str | None:
    """Return a note for the report of a run that stopped early; None for other runs."""
    since, best, step = _find_best(metrics)
    if not patience or since < patience:
        return None
    best_so_far = f"{best:.4f}, of step {step}"
    reason = f"evaluations without a better mean IoU than {best_so_far}: {since}"
    return f"stopped early (training.early_stopping_patience): {reason}"


def _find_best(metrics: Metrics) -> tuple[int, float, int]:
    """Return the number of evaluations since the best one, its mean IoU and its step."""
    since, best, step = 0, -1.0, 0
    for line in metrics:
        if "val" in line:
            score = line["val"]["mean_iou"] or 0.0
            since, best, step = (0, score, line["step"]) if score > best else (since + 1, best, step)
    return since, best, step
