"""The images an int8 file is made and judged with, and what is counted on them."""

import numpy as np
import pytest

from pixelwise.data.synthetic import STREET_NAMES
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.predictor import load
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.quantization import accuracy
from pixelwise.quantization.accuracy import Accuracy, calibration_images, measure_accuracy, open_trial


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("accuracy") / "model.safetensors", classes={"names": list(STREET_NAMES)})


@pytest.fixture
def predictor(model):
    return load(model, device="cpu", precision="fp32")


def labels_of(predictor, change=0):
    """What gives the model's labels, or the classes after them."""
    count = len(predictor.classes.names)
    return lambda image: ((predictor.predict(image).labels.astype(int) + change) % count).astype(np.uint8)


def test_scales_come_from_training_images_and_the_judgment_from_validation_images(streets, model, predictor):
    trial = open_trial(streets, None, model, predictor)
    assert {sample.split for sample in trial.calibration} == {"train"}
    assert {sample.split for sample in trial.validation} == {"val"}
    assert (len(trial.calibration), len(trial.validation)) == (12, 4)
    assert open_trial(streets, None, model, predictor) == trial


def test_few_of_many_training_images_are_drawn(streets, model, predictor, monkeypatch):
    monkeypatch.setattr(accuracy, "CALIBRATION_IMAGES", 5)
    drawn = open_trial(streets, None, model, predictor).calibration
    assert len(set(drawn)) == 5
    assert list(drawn) != sorted(drawn)


def test_calibration_reads_whole_images_and_of_large_ones_a_window(streets, model, predictor, monkeypatch):
    trial = open_trial(streets, None, model, predictor)
    assert {image.shape for image in calibration_images(trial, predictor)} == {(64, 96, 3)}
    monkeypatch.setattr(accuracy, "CALIBRATION_SIZE", (80, 50))
    windows = list(calibration_images(trial, predictor))
    assert {image.shape for image in windows} == {(64, 50, 3)}
    whole = trial.dataset.read_image(trial.calibration[0])
    assert any(np.array_equal(windows[0], whole[:, left : left + 50]) for left in range(47))


def test_the_models_own_labels_lose_nothing(streets, model, predictor):
    trial = open_trial(streets, None, model, predictor)
    found = measure_accuracy(trial, predictor, labels_of(predictor))
    counts = ConfusionMatrix(len(STREET_NAMES))
    for sample in trial.validation:
        image, labels = trial.dataset.read(sample)
        counts.update(predictor.predict(image).labels, labels, ignore_index=predictor.classes.ignore_index)
    assert found.model_mean_iou == found.mean_iou == mean_iou(counts.counts)
    assert (found.agreement, found.loss) == (1, 0)
    assert (found.validation_images, found.calibration_images) == (4, 12)


def test_other_labels_are_measured(streets, model, predictor):
    trial = open_trial(streets, None, model, predictor)
    found = measure_accuracy(trial, predictor, labels_of(predictor, change=1))
    assert found.agreement == 0
    assert found.mean_iou != found.model_mean_iou


def test_the_loss_is_in_points():
    found = Accuracy(mean_iou=0.5, model_mean_iou=0.52, agreement=1, validation_images=1, calibration_images=1)
    assert found.loss == pytest.approx(2)


def test_labels_that_are_all_ignored_are_refused(streets, model, predictor, monkeypatch):
    trial = open_trial(streets, None, model, predictor)
    ignored = np.full((64, 96), predictor.classes.ignore_index, np.uint8)
    monkeypatch.setattr(type(trial.dataset), "read_labels", lambda *_: ignored)
    with pytest.raises(InvalidArgumentError, match=r"no pixel of the 4 validation images .* is labeled"):
        measure_accuracy(trial, predictor, labels_of(predictor))


def test_a_file_that_cannot_be_read_ends_it(streets, model, predictor, monkeypatch):
    def fail(*_):
        raise InvalidArgumentError("cannot be read")

    trial = open_trial(streets, None, model, predictor)
    monkeypatch.setattr(type(trial.dataset), "read_pair", fail)
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        measure_accuracy(trial, predictor, labels_of(predictor))


def test_a_dataset_without_a_validation_split_is_refused(model, predictor, tmp_path):
    from pixelwise.data.synthetic import write_dataset

    write_dataset(tmp_path / "few", "streets", num_train=2, num_val=0, num_test=1, size=(32, 32))
    with pytest.raises(InvalidArgumentError, match="has no split 'val'"):
        open_trial(tmp_path / "few", None, model, predictor)


def test_other_classes_are_refused(cells, model, predictor):
    with pytest.raises(InvalidArgumentError, match="has the classes"):
        open_trial(cells, None, model, predictor)
