"""Each rule of the verdict: when it fires, and when it does not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pixelwise.config import Config
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.verdict import (
    FEW_IMAGES,
    RULES,
    Remark,
    TrainingFacts,
    VerdictFacts,
    describe_quality,
    find_absent_classes,
    find_confusions,
    find_falling_score,
    find_few_images,
    find_missed_classes,
    find_outlying_image,
    find_rising_score,
    find_short_training,
    find_weakest_class,
    judge,
    list_confusions,
    list_names,
)

NAMES = ("road", "sky", "pole")
GOOD = [[95, 5, 0], [5, 95, 0], [0, 1, 19]]
CONFIG = Config().replace({"training.steps": 1000, "training.batch_size": 8, "loss.class_weights": "none"})
COMMANDS = ModelCommands(model="run", data="cars", image="a.png", page="run/evaluation.html", config=CONFIG)

Rule = Callable[[VerdictFacts], Iterator[Remark]]


def make_metrics(scores: Sequence[float | None], step: int = 100) -> list[Mapping[str, Any]]:
    return [{"step": step * i, "val": {"mean_iou": score}} for i, score in enumerate(scores, start=1)]


def make_facts(
    counts: Sequence[Sequence[int]] = GOOD,
    num_images: int = 40,
    scores: Sequence[float | None] = (0.5, 0.7, 0.8, 0.8),
    step: int = 250,
    shares: Sequence[float] = (0.5, 0.4, 0.1),
    **changes: Any,
) -> VerdictFacts:
    """Return the facts of a run without weaknesses, except for the arguments."""
    training = TrainingFacts(
        config=CONFIG,
        num_images=100,
        class_shares=dict(zip(NAMES, shares, strict=True)),
        metrics=make_metrics(scores, step),
        has_test=True,
    )
    facts = VerdictFacts(
        scores=compute_scores(ConfusionMatrix.from_counts(counts), None, NAMES, num_images=num_images),
        split="val",
        commands=COMMANDS,
        image_scores={f"{i}": 0.8 for i in range(num_images)},
        training=training,
    )
    return replace(facts, **changes)


MISSED = [[95, 5, 0], [5, 95, 0], [16, 4, 0]]
WEAK = [[95, 5, 0], [5, 95, 30], [0, 2, 18]]
CONFUSED = [[95, 5, 0], [5, 80, 15], [0, 0, 100]]
ABSENT = [[95, 5, 0], [5, 95, 0], [0, 0, 0]]
SPREAD = {"a": 0.8, "b": 0.7, "c": 0.75, "d": 0.1}

FIRES: dict[Rule, tuple[dict[str, Any], str, str]] = {
    find_short_training: (
        {"step": 5, "counts": WEAK}, "in 20 steps the network saw 160 samples, 1.6 for each", "--steps 2000"),
    find_rising_score: ({"scores": (0.5, 0.6, 0.7, 0.75)}, "gained 5.0 points in the last quarter", "--steps 2000"),
    find_falling_score: ({"scores": (0.5, 0.8, 0.7, 0.7)}, "fell by 10.0 points after step 500", "Label more images"),
    find_missed_classes: ({"counts": MISSED}, "pole is never found: 80.0 % of its 20 pixels are", "show pole"),
    find_weakest_class: (
        {"counts": WEAK}, "pole has the lowest IoU of the classes that are found, 36.0 %: 90.0 % of its pixels are "
        "found, and 62.5 % of the pixels predicted as pole are something else", "show pole"),
    find_confusions: ({"counts": CONFUSED}, "the model takes 15.0 % of sky for pole", "check cars"),
    find_absent_classes: ({"counts": ABSENT}, "pole is in none of the validation images", "show pole"),
    find_few_images: ({"num_images": FEW_IMAGES - 1}, "Only 9 validation images are scored", "train cars --folds 5"),
    find_outlying_image: ({"image_scores": SPREAD}, "The image d is much worse than the others", "check cars"),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_fires(rule: Rule) -> None:
    changes, text, action = FIRES[rule]
    (remark,) = rule(make_facts(**changes))
    assert text in remark.text
    assert action in f"{remark.next_step.text} {remark.next_step.command}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_fires_without_a_weakness(rule: Rule) -> None:
    assert list(rule(make_facts())) == []


BELOW: list[tuple[Rule, dict[str, Any]]] = [
    (find_short_training, {"step": 5}),  # the model is very good
    (find_rising_score, {"scores": (0.5, 0.6, 0.7, 0.705)}),
    (find_rising_score, {"scores": (0.5, 0.6, 0.7)}),
    (find_falling_score, {"scores": (0.5, 0.8, 0.78)}),
    (find_missed_classes, {"counts": ABSENT}),
    (find_weakest_class, {"counts": MISSED}),
    (find_confusions, {"counts": MISSED}),
    (find_few_images, {"num_images": FEW_IMAGES}),
    (find_outlying_image, {"image_scores": {"a": 0.8, "b": 0.1}}),
]


@pytest.mark.parametrize(("rule", "changes"), BELOW)
def test_a_rule_does_not_fire_below_its_limit(rule: Rule, changes: dict[str, Any]) -> None:
    assert list(rule(make_facts(**changes))) == []


@pytest.mark.parametrize("rule", [find_short_training, find_rising_score, find_falling_score])
def test_rules_about_training_need_a_run(rule: Rule) -> None:
    changes, _, _ = FIRES[rule]
    assert list(rule(make_facts(**changes, training=None))) == []


def test_an_absent_class_that_is_predicted_lowers_the_mean() -> None:
    (remark,) = find_absent_classes(make_facts([[95, 5, 0], [5, 90, 5], [0, 0, 0]]))
    assert remark.text == (
        "pole is in none of the validation images, but predicted there, so the mean IoU contains a 0 for it."
    )


def test_numbers_say_of_what_and_have_one_format() -> None:
    (remark,) = find_short_training(make_facts(WEAK, step=5))
    assert remark.text.endswith("Fewer than 2,000 samples rarely suffice.")
    (remark,) = find_few_images(make_facts(num_images=2, image_scores={"a": 0.97, "b": 0.9834}))
    assert remark.text.endswith("the mean IoU of single images is between 97.0 % and 98.3 %.")


def test_a_rare_class_is_weighted() -> None:
    (remark,) = find_missed_classes(make_facts(MISSED, shares=(0.5, 0.499, 0.001)))
    assert "It has 0.1 % of the training pixels." in remark.text
    assert remark.next_step.command == "pixelwise train cars --set loss.class_weights=median_frequency"


def test_a_short_run_only_needs_more_time() -> None:
    verdict = judge(make_facts(MISSED, step=5))
    assert len(verdict.weak) > 1
    assert [step.command for step in verdict.next] == [COMMANDS.train_longer()]


@pytest.mark.parametrize(("seconds", "budget"), [(60.0, "20m"), (900.0, "30m")])
def test_a_short_run_is_not_resumed_with_what_its_budget_forced(seconds: float, budget: str) -> None:
    facts = make_facts(MISSED, step=5)
    assert facts.training
    training = replace(facts.training, config=Config().replace({"training.budget_seconds": seconds}))
    (step,) = judge(replace(facts, training=training)).next
    assert step.command == f"pixelwise train cars --budget {budget}"


def test_a_short_run_is_recommended_steps_that_suffice() -> None:
    """30 steps of 8 samples: 9 times as many are above 2,000."""
    config = CONFIG.replace({"training.steps": 30})
    facts = make_facts(WEAK, step=5, commands=replace(COMMANDS, config=config))
    assert facts.training is not None
    verdict = judge(replace(facts, training=replace(facts.training, config=config)))
    assert verdict.next[0].command.endswith("--steps 270")


def test_a_step_is_proposed_once() -> None:
    verdict = judge(make_facts(CONFUSED, image_scores=SPREAD))
    commands = [step.command for step in verdict.next]
    assert commands == [COMMANDS.check, COMMANDS.evaluate("test"), COMMANDS.predict]


def test_a_model_that_is_not_good_is_not_used_yet() -> None:
    verdict = judge(make_facts(MISSED))
    assert verdict.grade == "fair"
    assert COMMANDS.predict not in [step.command for step in verdict.next]


def test_a_model_without_weakness_is_tested_and_used() -> None:
    verdict = judge(make_facts())
    assert (verdict.grade, verdict.severity, verdict.weak) == ("very good", "good", ())
    assert [step.command for step in verdict.next] == [COMMANDS.evaluate("test"), COMMANDS.predict]
    assert [step.command for step in judge(make_facts(training=None)).next] == [COMMANDS.predict]


@pytest.mark.parametrize(
    ("right", "grade"), [(93, "very good"), (85, "good"), (70, "fair"), (50, "weak"), (20, "poor")]
)
def test_the_grade_follows_from_the_mean_iou(right: int, grade: str) -> None:
    wrong = 100 - right
    counts = [[right, wrong, 0], [0, right, wrong], [wrong, 0, right]]
    assert judge(make_facts(counts)).grade == grade


def test_images_without_labels_are_not_graded() -> None:
    verdict = judge(make_facts([[0] * 3] * 3, image_scores={}))
    assert (verdict.grade, verdict.severity) == ("not scored", "error")
    assert verdict.good == ("The validation images have no labeled pixel, so nothing is scored.",)


def test_the_quality_is_said_in_words() -> None:
    first, second = describe_quality(make_facts(WEAK, split="test"))
    assert first.startswith("On 40 test images, prediction and truth overlap by 65.3 % (mean IoU")
    assert "83.2 % of the pixels have the right class" in first
    assert second == (
        "Of 3 classes, 1 is outlined well (IoU of at least 70 %): road; 1 is outlined roughly (at least 50 %): sky; "
        "1 is outlined poorly (below 50 %): pole."
    )


def test_confusions_are_sorted_by_their_share_of_the_class() -> None:
    assert list_confusions(make_facts(CONFUSED).scores) == [
        (0.15, "sky", "pole"), (0.05, "road", "sky"), (0.05, "sky", "road")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abcde"), "a, b, c, d and e"),
     (list("abcdefg"), "a, b, c, d and 3 more")],
)  # fmt: skip
def test_names_are_listed(names: list[str], text: str) -> None:
    assert list_names(names) == text
