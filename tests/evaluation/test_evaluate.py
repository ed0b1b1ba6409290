import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.api import evaluate
from pixelwise.cli.results import print_evaluation
from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.file_records import record_files, write_file_records
from pixelwise.data.io.images import read_image, read_mask, write_png
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.evaluation import evaluate as evaluate_module
from pixelwise.evaluation.evaluate import EvaluationCounts, load_evaluation_data, score_samples
from pixelwise.inference import engines
from pixelwise.inference.engines import EngineTiming
from pixelwise.inference.predictor import Predictor, load
from pixelwise.model_file import MODEL_FILE_NAME, load_model
from pixelwise.progress import use_reporter
from pixelwise.training.validation import add_counts
from support.named_datasets import AREAS, NAMED_DATASETS, NamedDataset
from support.recorder import Recorder
from support.small_datasets import pairs

CASES = Path(__file__).parents[1] / "cases"
KEYS = {
    "mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1",
    "per_class", "binary", "confusion", "num_images", "split", "model", "data", "threshold", "chosen_threshold",
}  # fmt: skip


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "m", classes={"names": ["road", "sky"]})


def test_other_classes_are_an_error_whose_line_corrects_them(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    before = evaluate(model, data, device="cpu")
    names = "names: [road, Skyy]\n"
    (data / "dataset.yaml").write_text(names)
    with pytest.raises(InvalidArgumentError) as raised:
        evaluate(model, data, device="cpu")
    message, line = str(raised.value).splitlines()
    assert message == (
        f"{data} has the classes 'road', 'Skyy', but the model has 'road', 'sky'. Not in the model: 'Skyy'. Did you "
        f"mean 'sky' by 'Skyy'? Use data with the classes of the model, or write into the dataset.yaml of the dataset:"
    )
    (data / "dataset.yaml").write_text(names + line)
    assert evaluate(model, data, device="cpu") == before


def test_classes_with_other_mask_values_are_mapped(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    before = evaluate(model, data, device="cpu")
    (data / "dataset.yaml").write_text("names: [road, sky]\nlabel_mapping: {10: 0, 20: 1}\n")
    for path in (data / "masks" / "test").iterdir():
        write_png(path, np.array([10, 20], np.uint8)[read_mask(path)])
    assert evaluate(model, data, device="cpu") == before


def test_an_image_of_another_dtype_is_an_error(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    write_png(data / "images" / "test" / "b.png", np.zeros((8, 12), np.uint16))
    with pytest.raises(InvalidArgumentError, match=r"test/b\.png: The image is uint16"):
        evaluate(model, data, device="cpu")


def test_a_mask_of_another_size_is_an_error(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    write_png(data / "masks" / "test" / "b.png", np.zeros((8, 11), np.uint8))
    with pytest.raises(DataError, match=r"test/b\.png is 8x11, but its image .*test/b\.png is 8x12"):
        evaluate(model, data, device="cpu")


def test_scores_equal_a_manual_count(model: Path, tmp_path: Path) -> None:
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
    assert scores.confusion == confusion
    assert scores.num_images == 2
    assert scores.global_accuracy == pytest.approx((tp + tn) / (tp + tn + fp + fn))
    assert scores.mean_iou == pytest.approx((tn / (tn + fp + fn) + tp / (tp + fp + fn)) / 2)
    sky = scores.per_class["sky"]
    assert sky.pixels == fn + tp
    assert sky.accuracy == pytest.approx(tp / (tp + fn))
    assert sky.dice == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_json_has_the_documented_keys_and_equals_the_result(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["val"])
    path = tmp_path / "new" / "scores.json"
    scores = evaluate(model, data, json_path=path, device="cpu")
    written = json.loads(path.read_text())
    assert written.pop("written_by")["command"] == "evaluate"
    assert written == scores.to_dict()
    assert set(written) == KEYS
    assert set(written["per_class"]["road"]) == {"iou", "accuracy", "dice", "pixels"}
    assert (written["split"], written["model"], written["data"]) == ("val", str(model), str(data))


def test_undefined_scores_are_none(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["test"])
    for path in (data / "masks" / "test").iterdir():
        write_png(path, np.full((8, 12), 255, np.uint8))
    scores = evaluate(model, data, device="cpu")
    assert (scores.mean_iou, scores.global_accuracy, scores.boundary_f1) == (None, None, None)


def test_images_without_masks_are_reported(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["val", "test"])
    (data / "masks" / "test" / "b.png").unlink()
    recorder = Recorder()
    with use_reporter(recorder):
        evaluate(model, data, device="cpu")
    assert recorder.messages[0] == "Evaluating on split 'test': 1 image, fp32"
    assert recorder.messages[1] == f"1 image of {data} without a mask: left out"


def test_scores_of_val_equal_the_stored_ones(trained: Path, streets: Path) -> None:
    stored: Any = load_model(trained)[1].scores
    scores = evaluate(trained, streets, split="val", device="cpu", precision="fp32").to_dict()
    assert {key: scores[key] for key in stored} == stored


def test_files_with_the_same_stem_are_an_error(trained: Path, streets: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(streets, data)
    shutil.copy(data / "images/test/0000.png", data / "images/test/0000.webp")
    with pytest.raises(DataError, match=r"same stem \(0000\.png, 0000\.webp\)\. Rename or remove"):
        evaluate(trained, data, device="cpu")


def test_only_the_named_file_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not the measurement of the engines, which `predict` stores next to the model."""
    data = pairs(tmp_path / "data", ["test"])
    timing = EngineTiming(engine="torch", start_seconds=0, cached_start_seconds=0, image_seconds=1, agreement=1)
    measured = []
    monkeypatch.setattr(engines, "MIN_IMAGES", 1)
    monkeypatch.setattr(engines, "_list_candidates", lambda predictor: ["openvino"])
    monkeypatch.setattr(engines, "measure_engines", lambda *_: measured.append(1) or ([timing], {}))
    before = set(tmp_path.rglob("*"))
    evaluate(model, data, json_path=tmp_path / "scores.json", device="cpu")
    assert measured
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "scores.json"}


# Classes match by name, in every format.


def count_pixels(predictor: Predictor, dataset: Dataset, names: tuple[str, ...]) -> list[list[int]]:
    """Count the pixels of each true and each predicted class by the areas that every image shows."""
    order = predictor.classes.names
    truth = np.array([order.index(name) for name in names])[AREAS]
    counts = np.zeros((len(order), len(order)), int)
    for sample in dataset.samples:
        np.add.at(counts, (truth, predictor.predict(dataset.read_image(sample)).labels), 1)
    return counts.tolist()  # type: ignore[no-any-return]


@pytest.fixture
def messages() -> Iterator[list[str]]:
    recorder = Recorder()
    with use_reporter(recorder):
        yield recorder.messages


@pytest.mark.parametrize("made", NAMED_DATASETS.values(), ids=NAMED_DATASETS)
def test_classes_match_by_name(
    made: NamedDataset, make_model: Callable[..., Path], tmp_path: Path, messages: list[str]
) -> None:
    made.build(tmp_path / "data")
    dataset = Dataset.load(tmp_path / "data")
    split = dataset.samples[0].split and "train"
    for order in (1, -1):
        messages.clear()
        model = make_model(tmp_path / "m", classes={"names": [*dataset.classes.names, "more"][::order]}, seed=3)
        scores = evaluate(model, tmp_path / "data", split=split, device="cpu")
        assert scores.confusion == count_pixels(load(model, device="cpu"), dataset, made.names)
        assert np.sum(scores.confusion) == 4 * AREAS.size
        assert any("does not have these classes of the model: 'more'" in message for message in messages)


def write_case(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(CASES / name, folder / name))


def test_a_test_set_that_shows_one_class_is_scored_by_name(
    make_model: Callable[..., Path], tmp_path: Path, messages: list[str]
) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["background", "box", "disc"]}, seed=5)
    one, listed = (write_case(name, tmp_path) for name in ("c1-labelme-test-one-label", "c1b-labelme-yaml"))
    scores = evaluate(model, one, device="cpu")
    assert scores.confusion[1] == [0, 0, 0]
    assert sum(scores.confusion[2]) > 0
    assert any("does not have these classes of the model: 'box'" in message for message in messages)
    same = evaluate(model, listed, device="cpu")
    assert same.confusion == scores.confusion
    swapped = make_model(tmp_path / "swapped", classes={"names": ["disc", "background", "box"]}, seed=5)
    counts = np.array(evaluate(swapped, one, device="cpu").confusion)
    assert counts.sum(1).tolist() == np.array(scores.confusion).sum(1)[[2, 0, 1]].tolist()


def test_a_class_that_no_image_shows_need_not_be_in_the_model(
    make_model: Callable[..., Path], tmp_path: Path, messages: list[str]
) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["background", "disc"]})
    data = write_case("c1b-labelme-yaml", tmp_path)
    assert sum(map(sum, evaluate(model, data, device="cpu").confusion)) == 6 * 64 * 64
    assert "The model does not have these classes, which no image shows: 'box'" in messages


def test_a_class_that_an_image_shows_must_be_in_the_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["background", "box"]})
    data = write_case("c0-labelme-train", tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"Not in the model: 'disc'\.") as raised:
        evaluate(model, data, device="cpu")
    line = str(raised.value).splitlines()[-1]
    assert line == "rename: {disc: NAME}"
    (data / "dataset.yaml").write_text(line.replace("NAME", "ignore"))
    scores = evaluate(model, data, device="cpu")
    assert 0 < sum(map(sum, scores.confusion)) < 6 * 64 * 64


def read_margins(model: Path, data: Path, split: str) -> tuple[Any, Any]:
    """Return the margins of class 1 and the labels of all pixels of a split, without ignored ones."""
    predictor = load(model, device="cpu", precision="fp32")
    margins, labels = [], []
    for stem in ("a", "b"):
        logits = predictor.predict(read_image(data / "images" / split / f"{stem}.png")).logits
        truth = read_mask(data / "masks" / split / f"{stem}.png")
        margins.append((logits[1] - logits[0])[truth != 255])
        labels.append(truth[truth != 255])
    return np.concatenate(margins), np.concatenate(labels) == 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pairs of which some pixels are ignored."""
    root = pairs(tmp_path / "data", ["val", "test"])
    for path in (root / "masks").rglob("a.png"):
        mask = read_mask(path).copy()
        mask[:2] = 255
        write_png(path, mask)
    return root


@pytest.mark.parametrize("tile_size", [None, 4])
def test_scores_of_two_classes_equal_a_count_of_pixels(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tile_size: int | None
) -> None:
    predict = Predictor._predict
    monkeypatch.setattr(
        Predictor, "_predict", lambda self, pixels, tiling, _, keep: predict(self, pixels, tiling, tile_size, keep)
    )
    result = evaluate(model, data, device="cpu", precision="fp32")
    monkeypatch.undo()
    margins, truth = read_margins(model, data, "test")
    binary = result.binary
    assert binary is not None
    above = margins > 0
    assert binary.name == "sky"
    assert binary.sensitivity == pytest.approx(above[truth].mean())
    assert binary.specificity == pytest.approx((~above)[~truth].mean())
    assert binary.precision == pytest.approx(truth[above].mean())
    positive, negative = margins[truth][:, None], margins[~truth][None]
    assert abs(binary.auc - np.mean((positive > negative) + 0.5 * (positive == negative))) <= binary.auc_error < 1e-3


def test_other_numbers_of_classes_have_no_such_scores(trained: Path, streets: Path) -> None:
    assert evaluate(trained, streets, device="cpu").binary is None


def test_scores_follow_the_threshold(model: Path, data: Path) -> None:
    margins, truth = read_margins(model, data, "test")
    threshold = float(1 / (1 + np.exp(-np.median(margins))))
    result = evaluate(model, data, threshold=threshold, device="cpu", precision="fp32")
    above = margins >= np.median(margins)
    assert 0.3 < above.mean() < 0.7
    assert result.confusion == [
        [(~above & ~truth).sum(), (above & ~truth).sum()],
        [(~above & truth).sum(), (above & truth).sum()],
    ]
    assert result.threshold == threshold
    assert result.binary.sensitivity == pytest.approx(above[truth].mean())
    assert result.binary.auc == evaluate(model, data, device="cpu", precision="fp32").binary.auc


@pytest.mark.parametrize("criterion", ["dice", "youden"])
def test_a_threshold_is_chosen_on_val(
    model: Path, data: Path, criterion: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    with use_reporter(recorder):
        result = evaluate(model, data, choose_threshold=criterion, device="cpu", precision="fp32")
    chosen = result.chosen_threshold
    assert chosen is not None
    assert (result.split, chosen.split, chosen.criterion, result.threshold) == ("val", "val", criterion, None)
    assert not any("test split" in message for message in recorder.messages)
    used = evaluate(model, data, split="val", threshold=chosen.threshold, device="cpu", precision="fp32")
    assert used.per_class["sky"].dice == pytest.approx(chosen.dice, abs=0.02)
    assert used.binary.sensitivity == pytest.approx(chosen.sensitivity, abs=0.02)
    assert used.binary.specificity == pytest.approx(chosen.specificity, abs=0.02)
    if criterion == "dice":
        assert chosen.dice >= result.per_class["sky"].dice
    print_evaluation(result, {"model": "runs/a"})
    shown = capsys.readouterr().out
    assert f"threshold with the best {criterion} on split val: {chosen.threshold} (dice {chosen.dice:.4f}" in shown
    assert f"use it: pixelwise predict runs/a INPUT -o OUT --threshold {chosen.threshold}" in shown
    assert "sensitivity (recall)" in shown


def test_a_threshold_chosen_on_test_is_warned_about(model: Path, data: Path) -> None:
    recorder = Recorder()
    with use_reporter(recorder):
        result = evaluate(model, data, split="test", choose_threshold="dice", device="cpu")
    assert result.chosen_threshold is not None
    assert result.chosen_threshold.split == "test"
    assert any("The threshold is chosen on the test split" in message for message in recorder.messages)


def test_no_threshold_is_chosen_for_other_numbers_of_classes(trained: Path, streets: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="A threshold needs a model of two classes, but this one has"):
        evaluate(trained, streets, choose_threshold="dice", device="cpu")


def test_no_threshold_is_chosen_without_a_val_split(model: Path, tmp_path: Path) -> None:
    root = pairs(tmp_path / "data", ["test"])
    with pytest.raises(InvalidArgumentError, match=r"has no split 'val'\. It has: test"):
        evaluate(model, root, choose_threshold="dice", device="cpu")


def test_counts_of_parts_add_up(model: Path, data: Path) -> None:
    predictor = load(model, device="cpu", precision="fp32")
    dataset = Dataset.load(data).with_classes(predictor.classes, 3, predictor.spec.nodata)
    whole = score_samples(predictor, dataset, dataset.samples)
    parts = [score_samples(predictor, dataset, dataset.samples[i::3]) for i in range(3)]
    added = add_counts(parts, dataset.samples)
    names = predictor.classes.names
    assert added.compute_scores(names) == whole.compute_scores(names)
    assert added.choose_threshold("dice", "val") == whole.choose_threshold("dice", "val")


def test_predictions_do_not_wait_in_memory(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting is slower than predicting here."""
    data = pairs(tmp_path / "data", ["val", "test"])
    predictor = load(model, device="cpu", precision="fp32")
    dataset = Dataset.load(data).with_classes(predictor.classes, 3, predictor.spec.nodata)
    monkeypatch.setattr(evaluate_module, "MAX_PENDING", 1)
    done: list[int] = []
    seen: list[int] = []
    count = EvaluationCounts.count_details

    def count_slowly(self: EvaluationCounts, prediction: Any, labels: Any, classes: Any) -> None:
        time.sleep(0 if done else 2)
        count(self, prediction, labels, classes)
        done.append(1)

    monkeypatch.setattr(EvaluationCounts, "count_details", count_slowly)
    score_samples(predictor, dataset, dataset.samples, on_image=lambda *_: seen.append(len(done)))
    assert [number >= least for number, least in zip(seen, range(4), strict=True)] == [True] * 4


# The dataset of a run is read as by the run


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run that was trained on data/ with the masks of refined/."""
    data = pairs(tmp_path / "data", ["train", "val"])
    for path in (data / "masks").rglob("*.png"):
        refined = data / "refined" / path.relative_to(data / "masks")
        write_png(refined, 1 - read_mask(path))
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(model, folder / MODEL_FILE_NAME)
    config = Config().replace({"data.format": "folder", "data.masks": "refined"})
    (folder / "config.yaml").write_text(config.to_yaml())
    write_file_records(folder / "files.json", record_files(Dataset.load(data, "folder", "refined")))
    return folder


@pytest.mark.parametrize("given", ["run", f"run/{MODEL_FILE_NAME}"])
def test_the_dataset_of_a_run_is_read_with_its_masks(
    run: Path, tmp_path: Path, messages: list[str], given: str
) -> None:
    data = tmp_path / "data"
    refined = evaluate(tmp_path / given, data, masks="refined", device="cpu")
    assert evaluate(tmp_path / given, data, device="cpu").confusion == refined.confusion
    assert messages.count("The dataset is read as by the run: format folder, masks refined") == 1
    named = evaluate(tmp_path / given, data, masks="masks", device="cpu")
    assert np.sum(named.confusion, 1).tolist() == np.sum(refined.confusion, 1).tolist()[::-1]


def test_another_dataset_is_read_as_it_is(run: Path, tmp_path: Path, messages: list[str]) -> None:
    other = pairs(tmp_path / "other", ["val"], size=(9, 12))
    assert np.sum(evaluate(run, other, device="cpu").confusion) == 2 * 9 * 12
    assert not any("read as by the run" in message for message in messages)


def test_a_folder_of_a_joined_run_is_read_as_by_the_run(run: Path, tmp_path: Path) -> None:
    records = json.loads((run / "files.json").read_text())
    (run / "files.json").write_text(json.dumps({f"data/{name}": record for name, record in records.items()}))
    assert load_evaluation_data([tmp_path / "data"], run).reading_options == (
        "--format",
        "folder",
        "--masks",
        "refined",
    )
