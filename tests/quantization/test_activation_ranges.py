from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.evaluation.evaluate import evaluate
from pixelwise.inference.int8_file import int8_file, read_int8, write_int8
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.progress import use_reporter
from pixelwise.quantization import activation_ranges
from pixelwise.quantization.accuracy import Accuracy

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model, alone."""
    path = tmp_path / MODEL_FILE_NAME
    path.write_bytes((trained / MODEL_FILE_NAME).read_bytes())
    return path


def test_scales_are_found_once_and_stay_beside_the_model(
    model: Path, streets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate(model, streets, precision="int8", max_iou_drop=5)
    exact = evaluate(model, streets, device="cpu", precision="fp32")
    assert found["mean_iou"] == pytest.approx(exact["mean_iou"], abs=0.05)
    assert found["confusion"] != exact["confusion"]
    measured = Accuracy(**read_int8(model)[1]["accuracy"])
    assert (measured.validation_images, measured.calibration_images) == (4, 12)
    assert abs(measured.loss) < 5

    def fail(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(activation_ranges, "quantize", fail)
    assert evaluate(model, streets, precision="int8", max_iou_drop=5) == found


def test_what_was_made_under_another_limit_is_judged_by_this_one(model: Path, streets: Path) -> None:
    lossy = Accuracy(mean_iou=0.5, model_mean_iou=0.52, agreement=0.9, validation_images=4, calibration_images=12)
    write_int8(
        model,
        onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])).SerializeToString(),
        {"accuracy": asdict(lossy)},
    )
    with pytest.raises(
        InvalidArgumentError, match=r"model\.int8\.onnx loses 2 points of mean IoU, and 1 may be lost.*--max-iou-drop"
    ):
        evaluate(model, streets, precision="int8")


def test_a_damaged_file_is_made_again(model: Path, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    int8_file(model).write_bytes(b"damaged")
    equal = Accuracy(mean_iou=0.5, model_mean_iou=0.5, agreement=1, validation_images=4, calibration_images=12)
    monkeypatch.setattr(activation_ranges, "measure_accuracy", lambda *_, **__: equal)

    class Listening:
        def log(self, message: str) -> None:
            said.append(message)

        def track(self, label: str, done: float, total: float, note: str = "") -> None: ...

    with use_reporter(Listening()):
        evaluate(model, streets, precision="int8")
    assert "model.int8.onnx is damaged" in said[0]
    assert Accuracy(**read_int8(model)[1]["accuracy"]) == equal


def test_what_loses_too_much_is_not_kept(model: Path, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = Accuracy(mean_iou=0.5, model_mean_iou=0.52, agreement=0.9, validation_images=4, calibration_images=12)
    monkeypatch.setattr(activation_ranges, "measure_accuracy", lambda *_, **__: poor)
    with pytest.raises(
        InvalidArgumentError, match=r"is not written: on the 4 .* 0\.5000 .* 0\.5200, 2 points less, and 1"
    ):
        evaluate(model, streets, precision="int8")
    assert not int8_file(model).exists()


def test_an_engine_without_int8_is_refused_before_anything_is_made(model: Path, streets: Path) -> None:
    with pytest.raises(
        InvalidArgumentError, match="PyTorch computes in fp32 and bf16, not in int8; use --engine openvino or"
    ):
        evaluate(model, streets, precision="int8", engine="torch")
    assert not int8_file(model).exists()


@pytest.mark.parametrize("points", [-1, 101])
def test_a_limit_is_a_number_of_points(model: Path, streets: Path, points: float) -> None:
    with pytest.raises(InvalidArgumentError, match=f"max_iou_drop is {points}, but is a number of points of mean IoU"):
        evaluate(model, streets, precision="int8", max_iou_drop=points)
