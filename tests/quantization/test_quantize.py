"""`quantize`: the images it uses, what it measures, what it writes and what it refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pixelwise
from pixelwise.api import evaluate
from pixelwise.data.dataset import Dataset
from pixelwise.data.synthetic import STREET_NAMES, write_dataset
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.int8_file import get_int8_path, read_int8
from pixelwise.inference.predictor import Prediction, Predictor, load
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.quantization import quantize as module
from pixelwise.quantization.quantize import draw_training_samples, measure_accuracy, read_training_images
from pixelwise.quantization.result import EngineAccuracy, Int8Accuracy, QuantizeResult

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model without its run."""
    path = tmp_path / MODEL_FILE_NAME
    path.write_bytes((trained / MODEL_FILE_NAME).read_bytes())
    return path


@pytest.fixture(scope="module")
def predictor(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("accuracy")
    path = make_model(folder / "model.safetensors", classes={"names": list(STREET_NAMES)})
    return load(path, device="cpu", precision="fp32")


@pytest.fixture
def dataset(streets: Path, predictor: Predictor) -> Dataset:
    return Dataset.load(streets, None).with_classes(predictor.classes, 3)


def select(dataset: Dataset, split: str) -> list[Any]:
    return [sample for sample in dataset.samples if sample.split == split]


def make_accuracy(mean_iou: float, model_mean_iou: float = 0.5, agreement: float = 0.9) -> dict[str, EngineAccuracy]:
    return {"onnxruntime": EngineAccuracy(mean_iou=mean_iou, agreement=agreement)}


@pytest.fixture
def set_mean_iou(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replace the measurement and the search for ranges; the model has a mean IoU of 0.5."""
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])).SerializeToString()
    monkeypatch.setattr(module, "NetworkSource", lambda **_: SimpleNamespace(onnx=b""))  # its export takes seconds
    monkeypatch.setattr(module, "quantize_graph", lambda *_: empty)
    monkeypatch.setattr(module, "make_int8_predictor", lambda reference, *_: reference)

    def set_value(mean_iou: float) -> None:
        monkeypatch.setattr(module, "measure_accuracy", lambda *_: (0.5, make_accuracy(mean_iou)))

    return set_value


class Shifted:
    """A predictor whose labels are the given number of classes after those of another one."""

    def __init__(self, predictor: Predictor, shift: int) -> None:
        self.predictor, self.shift = predictor, shift

    def predict(self, image: Any) -> Prediction:
        prediction, count = self.predictor.predict(image), len(self.predictor.classes.names)
        return Prediction(((prediction.labels.astype(int) + self.shift) % count).astype(np.uint8), lambda: None)  # type: ignore[arg-type,return-value]


@pytest.fixture(scope="module")
def quantized(trained: Path, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantizeResult]:
    path = tmp_path_factory.mktemp("quantized") / MODEL_FILE_NAME
    path.write_bytes((trained / MODEL_FILE_NAME).read_bytes())
    return path, pixelwise.quantize(path, streets, max_iou_drop=5)


def test_quantize_writes_one_file_that_evaluate_uses(quantized: tuple[Path, QuantizeResult], streets: Path) -> None:
    model, result = quantized
    assert result.file == get_int8_path(model)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.int8.onnx", "model.safetensors"]
    metadata = read_int8(model)[1]
    assert Int8Accuracy.from_dict(metadata["accuracy"]) == result.accuracy
    assert {"pixelwise", "onnx", "onnxruntime"} <= metadata["versions"].keys()
    assert (result.accuracy.num_validation_images, result.accuracy.num_training_images) == (4, 12)
    exact = evaluate(model, streets, split="val", device="cpu", precision="fp32")
    assert result.accuracy.model_mean_iou == exact.mean_iou
    assert "onnxruntime" in result.accuracy.engines
    for name, engine in result.accuracy.engines.items():
        scores = evaluate(model, streets, split="val", precision="int8", engine=name)
        assert scores.mean_iou == engine.mean_iou
        assert scores.confusion != exact.confusion
        assert 0.9 < engine.agreement < 1
        assert abs(result.accuracy.compute_iou_drop(name)) < 5


def test_the_same_data_gives_the_same_file(
    quantized: tuple[Path, QuantizeResult], streets: Path, tmp_path: Path
) -> None:
    model, result = quantized
    again = pixelwise.quantize(model, streets, tmp_path / "again" / "small.onnx", max_iou_drop=5).file
    assert again == tmp_path / "again" / "small.onnx"
    assert again.read_bytes() == result.file.read_bytes()


def test_a_drop_above_the_limit_is_refused_and_the_old_file_stays(
    model: Path, streets: Path, set_mean_iou: Callable[[float], None]
) -> None:
    set_mean_iou(0.495)
    assert pixelwise.quantize(model, streets).file.exists()
    before = get_int8_path(model).read_bytes()
    set_mean_iou(0.48)
    message = r"not written. On 4 .* is 0\.4800 in int8 \(onnxruntime\) and 0\.5000 in float32, 2 points lower\. "
    with pytest.raises(InvalidArgumentError, match=message + r"At most 1 .*--max-iou-drop"):
        pixelwise.quantize(model, streets)
    with pytest.raises(InvalidArgumentError, match=r"At most 1\.5 "):
        pixelwise.quantize(model, streets, max_iou_drop=1.5)
    set_mean_iou(float("nan"))
    with pytest.raises(InvalidArgumentError, match="is nan in int8"):
        pixelwise.quantize(model, streets)
    assert get_int8_path(model).read_bytes() == before
    set_mean_iou(0.48)
    pixelwise.quantize(model, streets, max_iou_drop=3)
    assert get_int8_path(model).read_bytes() != before


@pytest.mark.parametrize("points", [-1, 101])
def test_a_limit_outside_its_range_is_refused(model: Path, streets: Path, points: float) -> None:
    with pytest.raises(InvalidArgumentError, match=f"max_iou_drop is {points}, but must be from 0 to 100"):
        pixelwise.quantize(model, streets, max_iou_drop=points)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_a_missing_quantizer_is_an_error(
    model: Path, streets: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InvalidArgumentError, match=r'onnxruntime needs .*pip install "pixelwise\[onnx\]"'):
        pixelwise.quantize(model, streets)


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_file_of_the_user_is_not_replaced(model: Path, streets: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"small\.onnx exists, and Pixelwise did not write it"):
        pixelwise.quantize(model, streets, path)
    with pytest.raises(InvalidArgumentError, match=r"small\.tflite would be an ONNX file"):
        pixelwise.quantize(model, streets, path.with_suffix(".tflite"))
    assert path.read_bytes() == content


def test_training_samples_are_drawn_at_random_with_a_fixed_seed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = select(dataset, "train")
    assert sorted(draw_training_samples(train)) == sorted(train)
    monkeypatch.setattr(module, "NUM_TRAINING_IMAGES", 5)
    drawn = draw_training_samples(train)
    assert len(set(drawn)) == 5
    assert drawn != sorted(drawn)
    assert draw_training_samples(train) == drawn


def test_large_training_images_are_cropped(
    dataset: Dataset, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = select(dataset, "train")
    assert {image.shape for image in read_training_images(dataset, train, predictor)} == {(64, 96, 3)}
    monkeypatch.setattr(module, "MAX_IMAGE_SIZE", (80, 50))
    windows = list(read_training_images(dataset, train, predictor))
    assert {image.shape for image in windows} == {(64, 50, 3)}
    whole = dataset.read_image(train[0])
    assert any(np.array_equal(windows[0], whole[:, left : left + 50]) for left in range(47))


def test_accuracy_of_equal_and_of_other_labels(dataset: Dataset, predictor: Predictor) -> None:
    samples = select(dataset, "val")
    counts = ConfusionMatrix(len(STREET_NAMES))
    for sample in samples:
        image, labels = dataset.read(sample)
        counts.update(predictor.predict(image).labels, labels, ignore_index=predictor.classes.ignore_index)
    quantized: Any = {"onnxruntime": predictor, "openvino": Shifted(predictor, 1)}
    model_mean_iou, engines = measure_accuracy(dataset, samples, predictor, quantized)
    assert model_mean_iou == engines["onnxruntime"].mean_iou == mean_iou(counts.counts)
    assert engines["onnxruntime"].agreement == 1
    assert engines["openvino"].agreement == 0
    assert engines["openvino"].mean_iou != model_mean_iou


def test_the_drop_is_in_points_for_each_engine() -> None:
    accuracy = Int8Accuracy(
        model_mean_iou=0.52, engines=make_accuracy(0.5), num_validation_images=1, num_training_images=1
    )
    assert accuracy.compute_iou_drop("onnxruntime") == pytest.approx(2)


def test_the_worst_engine_decides(
    model: Path, streets: Path, set_mean_iou: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mean_iou(0.5)
    engines = {**make_accuracy(0.5), "openvino": EngineAccuracy(mean_iou=0.4, agreement=0.9)}
    monkeypatch.setattr(module, "measure_accuracy", lambda *_: (0.5, engines))
    with pytest.raises(InvalidArgumentError, match=r"in int8 \(openvino\).* 10 points lower"):
        pixelwise.quantize(model, streets)


def test_unlabeled_validation_images_are_refused(
    dataset: Dataset, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = np.full((64, 96), predictor.classes.ignore_index, np.uint8)
    monkeypatch.setattr(Dataset, "read_labels", lambda *_: ignored)
    with pytest.raises(InvalidArgumentError, match=r"No pixel of the 4 validation images .* is labeled"):
        measure_accuracy(dataset, select(dataset, "val"), predictor, {})


def test_an_image_that_cannot_be_read_is_an_error(
    dataset: Dataset, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise InvalidArgumentError("cannot be read")

    monkeypatch.setattr(Dataset, "read", fail)
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        measure_accuracy(dataset, select(dataset, "val"), predictor, {})


def test_a_dataset_without_a_validation_split_is_refused(model: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "few", "streets", num_train=2, num_val=0, num_test=1, size=(32, 32))
    with pytest.raises(InvalidArgumentError, match="has no split 'val'"):
        pixelwise.quantize(model, tmp_path / "few")


def test_other_classes_are_refused(model: Path, cells: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="has the classes"):
        pixelwise.quantize(model, cells)


def test_metadata_is_readable_without_pixelwise(
    model: Path, streets: Path, set_mean_iou: Callable[[float], None]
) -> None:
    set_mean_iou(0.5)
    (entry,) = onnx.load(pixelwise.quantize(model, streets).file).metadata_props
    metadata = json.loads(entry.value)
    assert entry.key == "pixelwise"
    assert metadata["format"] == 2
    assert metadata["accuracy"]["engines"]["onnxruntime"] == {"mean_iou": 0.5, "agreement": 0.9}
