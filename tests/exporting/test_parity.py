import numpy as np
import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.exporting.export import compare_with_model, draw_batches
from pixelwise.inference.predictor import load


@pytest.fixture
def predictor(make_model, tmp_path):
    return load(make_model(tmp_path / "m"), device="cpu", precision="fp32")


def predict(predictor, images, change=0):
    predictions = [predictor.predict(image, keep_logits=True) for image in images]
    return np.stack([p.labels for p in predictions]) + change, np.stack([p.logits for p in predictions]) + np.float32(
        change
    )


def test_the_model_agrees_with_itself(predictor):
    parity = compare_with_model(predictor, lambda x: predict(predictor, x), lambda x: predict(predictor, x))
    assert (parity.agreement, parity.largest_logit_gap) == (1, 0)
    assert parity.largest_logit > 0
    assert (1, 1) in parity.sizes


def test_a_difference_is_measured(predictor):
    parity = compare_with_model(predictor, lambda x: predict(predictor, x, 1), lambda x: predict(predictor, x, 1))
    assert parity.agreement == 0
    assert parity.largest_logit_gap == pytest.approx(1, abs=1e-4)


def test_nan_logits_are_an_infinite_gap(predictor):
    parity = compare_with_model(predictor, lambda x: predict(predictor, x), lambda x: predict(predictor, x, np.nan))
    assert parity.largest_logit_gap == np.inf


@pytest.mark.parametrize("change", [lambda x: x[:, :, :-1], lambda x: x.astype("int64")])
def test_labels_of_another_shape_or_dtype_are_an_error(predictor, change):
    def changed(images):
        labels, logits = predict(predictor, images)
        return change(labels), logits

    with pytest.raises(
        InvalidArgumentError, match=r"For images \(2, 1, 1, 3\) it gives labels .* expected \(2, 1, 1\) uint8"
    ):
        compare_with_model(predictor, changed, lambda x: predict(predictor, x))


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (5, "uint16"), (4, "float32")])
def test_images_have_the_dtype_and_mean_of_the_model(make_model, tmp_path, channels, dtype):
    spec = load(make_model(tmp_path / "m", channels=channels, dtype=dtype), device="cpu").spec
    batches = list(draw_batches(spec))
    assert {images.shape[3] for images in batches} == {channels}
    assert {str(images.dtype) for images in batches} == {dtype}
    assert {len(images) for images in batches} == {1, 2}
    assert float(batches[-1].mean()) == pytest.approx(100, abs=20)
