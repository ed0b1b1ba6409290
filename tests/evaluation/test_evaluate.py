import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.io.images import read_image, read_mask, write_png
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.evaluation.evaluate import evaluate, mean_iou_of
from pixelwise.inference.predictor import load
from pixelwise.metrics import ConfusionMatrix
from pixelwise.model_file import load_model
from pixelwise.progress import use_reporter
from support.small_sets import pairs

KEYS = {
    "mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1",
    "per_class", "confusion", "num_images", "split", "model", "data",
}  # fmt: skip


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "m", classes={"names": ["road", "sky"]})


def test_other_classes_are_refused(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    (data / "dataset.yaml").write_text("names: [road, tree]\n")
    with pytest.raises(InvalidArgumentError, match="has the classes road, tree, but the model knows road, sky"):
        evaluate(model, data, device="cpu")


def test_classes_of_the_same_names_may_be_coded_otherwise(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    before = evaluate(model, data, device="cpu")
    (data / "dataset.yaml").write_text("names: [road, sky]\nlabel_mapping: {10: 0, 20: 1}\n")
    for path in (data / "masks" / "test").iterdir():
        write_png(path, np.array([10, 20], np.uint8)[read_mask(path)])
    assert evaluate(model, data, device="cpu") == before


def test_an_image_of_another_kind_is_an_error_that_names_it(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    write_png(data / "images" / "test" / "b.png", np.zeros((8, 12), np.uint16))
    with pytest.raises(InvalidArgumentError, match=r"test/b\.png: the image is uint16"):
        evaluate(model, data, device="cpu")


def test_a_mask_of_another_size_is_an_error_that_names_it(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    write_png(data / "masks" / "test" / "b.png", np.zeros((8, 11), np.uint8))
    with pytest.raises(DataError, match=r"test/b\.png is 8x11, but its image .*test/b\.png is 8x12"):
        evaluate(model, data, device="cpu")


def test_scores_agree_with_a_count_by_hand(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    mask = data / "masks" / "test" / "a.png"
    ignored = read_mask(mask).copy()
    ignored[:3] = 255
    write_png(mask, ignored)
    predictor = load(model, device="cpu")
    confusion = [[0, 0], [0, 0]]
    for stem in ("a", "b"):
        predicted = predictor.predict(read_image(data / "images" / "test" / f"{stem}.png")).labels
        truth = read_mask(data / "masks" / "test" / f"{stem}.png")
        for y in range(8):
            for x in range(12):
                if truth[y, x] != 255:
                    confusion[truth[y, x]][predicted[y, x]] += 1
    (tn, fp), (fn, tp) = confusion
    scores = evaluate(model, data, device="cpu")
    assert scores["confusion"] == confusion
    assert scores["num_images"] == 2
    assert scores["global_accuracy"] == pytest.approx((tp + tn) / (tp + tn + fp + fn))
    assert scores["mean_iou"] == pytest.approx((tn / (tn + fp + fn) + tp / (tp + fp + fn)) / 2)
    sky = scores["per_class"]["sky"]
    assert sky["pixels"] == fn + tp
    assert sky["accuracy"] == pytest.approx(tp / (tp + fn))
    assert sky["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_json_holds_the_contracts_keys_and_what_is_returned(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["val"])
    path = tmp_path / "new" / "scores.json"
    scores = evaluate(model, data, json_path=path, device="cpu")
    written = json.loads(path.read_text())
    assert written == scores
    assert set(written) == KEYS
    assert set(written["per_class"]["road"]) == {"iou", "accuracy", "dice", "pixels"}
    assert (written["split"], written["model"], written["data"]) == ("val", str(model), str(data))


def test_what_is_undefined_is_null(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    for path in (data / "masks" / "test").iterdir():
        write_png(path, np.full((8, 12), 255, np.uint8))
    scores = evaluate(model, data, device="cpu")
    assert (scores["mean_iou"], scores["global_accuracy"], scores["boundary_f1"]) == (None, None, None)


def test_what_is_not_scored_is_said(model: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening:
        def log(self, message: str) -> None:
            said.append(message)

        def track(self, label: str, done: float, total: float, note: str = "") -> None: ...

    data = pairs(tmp_path / "data", ["val", "test"])
    (data / "masks" / "test" / "b.png").unlink()
    with use_reporter(Listening()):
        evaluate(model, data, device="cpu")
    assert said[0] == "scoring split 'test': 1 images, fp32"
    assert "1 image(s)" in said[1]
    assert "have no mask" in said[1]


def test_val_is_scored_as_training_stored_it(trained: Path, streets: Path) -> None:
    stored: Any = load_model(trained)[1].scores
    scores = evaluate(trained, streets, split="val", device="cpu", precision="fp32")
    assert {key: scores[key] for key in stored} == stored


def test_mean_iou_of_nothing_is_zero() -> None:
    assert mean_iou_of(ConfusionMatrix(2)) == 0
    assert mean_iou_of(ConfusionMatrix.from_counts([[1, 0], [0, 1]])) == 1


def test_files_of_one_stem_are_refused_by_name(trained: Path, streets: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(streets, data)
    shutil.copy(data / "images/test/0000.png", data / "images/test/0000.webp")
    with pytest.raises(DataError, match=r"same stem \(0000\.png, 0000\.webp\); rename or remove"):
        evaluate(trained, data, device="cpu")
