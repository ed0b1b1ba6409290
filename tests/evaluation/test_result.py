import json

from pixelwise.evaluation.result import ClassScores, EvaluationResult
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, compute_scores


def test_scores_are_attributes_and_to_dict_has_the_keys_of_the_scores() -> None:
    scores = compute_scores(ConfusionMatrix.from_counts([[3, 1], [0, 4]]), BoundaryScore(2), ["a", "b"], num_images=1)
    result = EvaluationResult.from_scores(scores, split="test", model="runs/a", data="street")
    assert result.per_class["a"] == ClassScores(iou=0.75, accuracy=0.75, dice=6 / 7, pixels=4)
    assert (result.mean_iou, result.boundary_f1, result.confusion[0]) == (0.775, None, [3, 1])
    assert result.to_dict() == {
        **scores,
        "split": "test",
        "model": "runs/a",
        "data": "street",
        "threshold": None,
        "chosen_threshold": None,
    }
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert repr(result) == "EvaluationResult(mean_iou=0.7750, split='test', num_images=1)"


def test_an_undefined_score_is_a_dash() -> None:
    scores = compute_scores(ConfusionMatrix(1), None, "a", num_images=0)
    result = EvaluationResult.from_scores(scores, split="all", model="m", data="d")
    assert repr(result) == "EvaluationResult(mean_iou=-, split='all', num_images=0)"
