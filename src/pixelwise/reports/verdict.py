"""The verdict at the top of a report, in plain words: how good a model is, what is weak, and what to do next.

Each rule is a function from the facts to remarks. A further rule is one function in `RULES`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelwise.config import DEFAULT_BUDGET_SECONDS, Config
from pixelwise.progress import format_percent
from pixelwise.reports.commands import ModelCommands

GRADES = (
    (0.85, "very good", "good"),
    (0.70, "good", "good"),
    (0.50, "fair", "note"),
    (0.30, "weak", "warning"),
    (0.00, "poor", "error"),
)
"""Smallest mean IoU, its grade, and the color of the grade."""

GOOD_IOU = 0.7
"""IoU from which a class is outlined well."""
LOW_IOU = 0.5
"""IoU below which a class is a weakness."""
LARGE_CONFUSION = 0.1
"""Share of a class that is taken for another one, from which it is named."""
MAX_CONFUSIONS = 3
MAX_NAMES = 5
FEW_IMAGES = 10
"""Number of scored images below which the scores are uncertain."""
FEW_SAMPLES = 2000
"""Augmented samples that a network should have seen; the planner gives every run at least as many if time allows."""
RISE = 0.01
"""Mean IoU gained in the last quarter of the evaluations from which a score still rises."""
FALL = 0.03
"""Mean IoU lost since the best evaluation from which a run was too long."""
RARE_SHARE = 0.01
"""Share of the training pixels below which a class is rare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """A run, for the rules about training."""

    config: Config
    num_images: int
    """Training images."""
    class_shares: Mapping[str, float]
    """Share of each class among the training pixels."""
    metrics: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl."""
    has_test: bool = False
    """True if the dataset has test images."""

    @property
    def num_steps(self) -> int:
        return max((int(line["step"]) for line in self.metrics), default=0)

    @property
    def num_samples(self) -> int:
        """Samples seen in training."""
        return self.num_steps * self.config.training.batch_size

    @property
    def evaluations(self) -> list[tuple[int, float]]:
        """Step and mean IoU of each evaluation."""
        return [(line["step"], line["val"]["mean_iou"] or 0.0) for line in self.metrics if "val" in line]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFacts:
    """The numbers from which a verdict follows."""

    scores: Mapping[str, Any]
    """The result of `metrics.compute_scores`."""
    split: str
    commands: ModelCommands
    image_scores: Mapping[str, float]
    """Name of an image → its mean IoU, where it is defined."""
    training: TrainingFacts | None = None

    @property
    def images(self) -> str:
        """`validation images`, or those of another split."""
        return {"val": "validation images", "all": "images"}.get(self.split, f"{self.split} images")

    @property
    def found_classes(self) -> dict[str, Mapping[str, Any]]:
        """Scores of the classes of which at least one pixel is found."""
        return {name: row for name, row in self.scores["per_class"].items() if row["accuracy"]}

    @property
    def missed_classes(self) -> list[str]:
        """Classes in the images of which no pixel is found."""
        return [name for name, row in self.scores["per_class"].items() if row["pixels"] and not row["accuracy"]]

    @property
    def is_short(self) -> bool:
        """True if the run was too short to judge the classes; a very good model shows that it was not."""
        is_very_good = (self.scores["mean_iou"] or 0.0) >= GRADES[0][0]
        return self.training is not None and self.training.num_samples < FEW_SAMPLES and not is_very_good


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """A recommendation, with a command where one does it."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A weakness, and what to do about it."""

    text: str
    next_step: NextStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgment of a model: how good it is, what is weak, and what to do next."""

    grade: str
    severity: str
    """Color of the grade: `good`, `note`, `warning` or `error`."""
    good: tuple[str, ...]
    weak: tuple[Remark, ...]
    next: tuple[NextStep, ...]


def judge(facts: VerdictFacts) -> Verdict:
    """Judge a model by its scores."""
    mean = facts.scores["mean_iou"]
    grade, severity = next(((g, s) for least, g, s in GRADES if (mean or 0.0) >= least))
    if mean is None:
        grade, severity = "not scored", "error"
    weak = tuple(itertools.chain.from_iterable(rule(facts) for rule in RULES))
    steps: dict[str, NextStep] = {}
    uses = _list_uses(facts) if not weak or (mean or 0.0) >= GOOD_IOU else ()
    for step in [*(remark.next_step for remark in weak), *uses]:
        steps.setdefault(step.command or step.text, step)
    if facts.is_short:  # other weaknesses may go away
        steps = {"": _train_longer(facts)}
    return Verdict(
        grade=grade, severity=severity, good=tuple(describe_quality(facts)), weak=weak, next=tuple(steps.values())
    )


def describe_quality(facts: VerdictFacts) -> Iterator[str]:
    """Say in sentences what the mean IoU means for pixels and classes."""
    scores = facts.scores
    if scores["mean_iou"] is None:
        yield f"The {facts.images} have no labeled pixel, so nothing is scored."
        return
    yield (
        f"On {scores['num_images']:,} {facts.images}, prediction and truth overlap by "
        f"{format_percent(scores['mean_iou'])} (mean IoU, averaged over the classes). "
        f"{format_percent(scores['global_accuracy'])} of the pixels have the right class."
    )
    ious = {name: row["iou"] for name, row in scores["per_class"].items() if row["iou"] is not None}
    groups = {
        f"well (IoU of at least {100 * GOOD_IOU:.0f} %)": [n for n, iou in ious.items() if iou >= GOOD_IOU],
        f"roughly (at least {100 * LOW_IOU:.0f} %)": [n for n, iou in ious.items() if LOW_IOU <= iou < GOOD_IOU],
        f"poorly (below {100 * LOW_IOU:.0f} %)": [n for n, iou in ious.items() if iou < LOW_IOU],
    }
    parts = [
        f"{len(names)} {'is' if len(names) == 1 else 'are'} outlined {text}: {list_names(names)}"
        for text, names in groups.items()
        if names
    ]
    yield f"Of {len(ious)} classes, {'; '.join(parts)}."


def find_short_training(facts: VerdictFacts) -> Iterator[Remark]:
    """Report a run that saw too few samples."""
    if (training := facts.training) and facts.is_short:
        epochs = training.num_samples / max(training.num_images, 1)
        yield Remark(
            text=f"The run was short: in {training.num_steps:,} steps the network saw {training.num_samples:,} "
            f"samples, {epochs:.1f} for each training image. Fewer than {FEW_SAMPLES:,} samples rarely suffice.",
            next_step=_train_longer(facts),
        )


def find_rising_score(facts: VerdictFacts) -> Iterator[Remark]:
    """Report a score that still rose when the run ended."""
    if facts.training and len(scores := [score for _, score in facts.training.evaluations]) >= 4:
        before = max(scores[: -max(1, len(scores) // 4)])
        if scores[-1] == max(scores) and scores[-1] - before >= RISE:
            yield Remark(
                text=f"The score was still rising when the training ended: the mean IoU gained "
                f"{100 * (scores[-1] - before):.1f} points in the last quarter.",
                next_step=_train_longer(facts),
            )


def find_falling_score(facts: VerdictFacts) -> Iterator[Remark]:
    """Report a score that fell long before the run ended."""
    if facts.training and (evaluations := facts.training.evaluations):
        (step, best), (_, last) = max(evaluations, key=lambda pair: pair[1]), evaluations[-1]
        if best - last >= FALL:
            yield Remark(
                text=f"The mean IoU fell by {100 * (best - last):.1f} points after step {step:,}. The model is the one "
                f"of step {step:,}; more training does not help.",
                next_step=NextStep(text="Label more images, or images that differ more from each other."),
            )


def find_missed_classes(facts: VerdictFacts) -> Iterator[Remark]:
    """Report classes of which no pixel is found."""
    names = list(facts.scores["per_class"])
    counts = np.array(facts.scores["confusion"])
    training = facts.training
    for name in facts.missed_classes:
        row = counts[names.index(name)]
        other, share = names[int(row.argmax())], row.max() / row.sum()
        text = f"{name} is never found: {format_percent(share)} of its {row.sum():,} pixels are taken for {other}."
        step = NextStep(text=f"Label more images that show {name}.")
        if training and training.class_shares[name] < RARE_SHARE:
            text += f" It has {format_percent(training.class_shares[name])} of the training pixels."
            if training.config.loss.class_weights == "none":
                command = facts.commands.train_with("loss.class_weights=median_frequency")
                step = NextStep(text="Train with class weights, which make rare classes count more.", command=command)
        yield Remark(text=text, next_step=step)


def find_weakest_class(facts: VerdictFacts) -> Iterator[Remark]:
    """Report the class with the lowest IoU among those that are found."""
    rows = facts.found_classes
    name = min(rows, key=lambda name: rows[name]["iou"], default="")
    if name and rows[name]["iou"] < LOW_IOU:
        names = list(facts.scores["per_class"])
        counts = np.array(facts.scores["confusion"])
        index = names.index(name)
        wrong = 1 - counts[index, index] / counts[:, index].sum()
        yield Remark(
            text=f"{name} has the lowest IoU of the classes that are found, {format_percent(rows[name]['iou'])}: "
            f"{format_percent(rows[name]['accuracy'])} of its pixels are found, and {format_percent(wrong)} of the "
            f"pixels predicted as {name} are something else.",
            next_step=NextStep(text=f"Label more images that show {name}."),
        )


def find_confusions(facts: VerdictFacts) -> Iterator[Remark]:
    """Report pairs of classes that are often confused."""
    pairs = [pair for pair in list_confusions(facts.scores) if pair[1] not in facts.missed_classes]
    if found := [pair for pair in pairs if pair[0] >= LARGE_CONFUSION][:MAX_CONFUSIONS]:
        texts = [f"{format_percent(share)} of {truth} for {other}" for share, truth, other in found]
        yield Remark(
            text=f"Classes are confused: the model takes {'; '.join(texts)}.",
            next_step=NextStep(
                text=f"Compare the masks of {found[0][1]} and {found[0][2]} in the images with the lowest scores; "
                "the check looks for masks with exchanged classes.",
                command=facts.commands.check,
            ),
        )


def find_absent_classes(facts: VerdictFacts) -> Iterator[Remark]:
    """Report classes that no scored image shows. The mean counts a predicted one as 0."""
    rows = {name: row for name, row in facts.scores["per_class"].items() if not row["pixels"]}
    for is_predicted in (True, False):
        absent = [name for name, row in rows.items() if (row["iou"] is not None) == is_predicted]
        if not absent:
            continue
        one = len(absent) == 1
        effect = f"so nothing is known about {'this class' if one else 'these classes'}"
        if is_predicted:
            effect = f"but predicted there, so the mean IoU contains a 0 for {'it' if one else 'each of them'}"
        yield Remark(
            text=f"{list_names(absent)} {'is' if one else 'are'} in none of the {facts.images}, {effect}.",
            next_step=NextStep(text=f"Add images that show {list_names(absent)} to the {facts.images}."),
        )


def find_few_images(facts: VerdictFacts) -> Iterator[Remark]:
    """Report scores of few images."""
    count, values = facts.scores["num_images"], list(facts.image_scores.values())
    if 0 < count < FEW_IMAGES:
        spread = ""
        if len(values) > 1:
            low, high = format_percent(min(values)), format_percent(max(values))
            spread = f"; the mean IoU of single images is between {low} and {high}"
        step = NextStep(text=f"Label more {facts.images}.")
        if facts.training:
            step = NextStep(
                text="Use cross-validation, which scores every image once.", command=facts.commands.cross_validate
            )
        text = f"Only {count} {facts.images if count > 1 else facts.images[:-1]} {'are' if count > 1 else 'is'} scored"
        yield Remark(text=f"{text}, so the scores are uncertain{spread}.", next_step=step)


def find_outlying_image(facts: VerdictFacts) -> Iterator[Remark]:
    """Report the worst image if it is far below the others."""
    if len(scores := facts.image_scores) >= 4:
        worst, median = min(scores, key=scores.__getitem__), float(np.median(list(scores.values())))
        if scores[worst] < median / 2:
            yield Remark(
                text=f"The image {worst} is much worse than the others: its mean IoU is "
                f"{format_percent(scores[worst])}, the median is {format_percent(median)}.",
                next_step=NextStep(
                    text=f"Look at {worst} and its mask. The check looks for wrong masks.", command=facts.commands.check
                ),
            )


RULES: tuple[Callable[[VerdictFacts], Iterator[Remark]], ...] = (
    find_short_training,
    find_rising_score,
    find_missed_classes,
    find_weakest_class,
    find_confusions,
    find_outlying_image,
    find_absent_classes,
    find_falling_score,
    find_few_images,
)
"""The rules, the most urgent first."""


def list_confusions(scores: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """Return share of the true class, true class and predicted class of all confusions, the largest first."""
    names, counts = list(scores["per_class"]), np.array(scores["confusion"], np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    rows, columns = np.nonzero(shares)
    found = [(float(shares[i, j]), names[i], names[j]) for i, j in zip(rows, columns, strict=True)]
    return sorted(found, key=lambda pair: -pair[0])


def list_names(names: Sequence[str]) -> str:
    """Return `a, b and c`, or the first names and the number of the others."""
    shown = list(names)
    if len(shown) > MAX_NAMES:
        shown = [*shown[: MAX_NAMES - 1], f"{len(shown) - MAX_NAMES + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _train_longer(facts: VerdictFacts) -> NextStep:
    """Recommend twice the length; after a short run what `FEW_SAMPLES` need, or a new run with a usual budget.

    A short budget also made samples, batches and network small, and a resumed run would keep them.
    """
    training = facts.training
    assert training is not None
    config = training.config.training
    if facts.is_short and config.budget_seconds and config.steps is None:
        budget = max(2 * config.budget_seconds, DEFAULT_BUDGET_SECONDS)
        text = "Train a new model with more time, for which larger samples and a larger network can be chosen."
        return NextStep(text=text, command=facts.commands.train_anew(budget))
    factor = max(2, -(-FEW_SAMPLES // max((config.steps or training.num_steps) * config.batch_size, 1)))
    return NextStep(text="Train with more time.", command=facts.commands.train_longer(factor))


def _list_uses(facts: VerdictFacts) -> Iterator[NextStep]:
    """Yield what to do with a model without weaknesses."""
    if facts.training and facts.training.has_test:
        yield NextStep(
            text="Score the test images, which no choice depended on.", command=facts.commands.evaluate("test")
        )
    yield NextStep(text="Use the model on new images.", command=facts.commands.predict)
