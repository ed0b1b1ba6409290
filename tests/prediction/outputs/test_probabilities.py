from pathlib import Path

import numpy as np
import pytest
import tifffile

from pixelwise.data.io.images import read_image, read_mask
from pixelwise.prediction.outputs.probabilities import (
    compute_confidence,
    compute_entropy,
    write_confidence,
    write_entropy,
    write_probabilities,
    write_probabilities_tiff,
)
from support.predictions import ABC, make_prediction

LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5))


def test_probabilities_are_written_with_the_names(tmp_path: Path) -> None:
    prediction = make_prediction([[0, 2]])
    write_probabilities(tmp_path / "x.npz", prediction, ABC.names)
    with np.load(tmp_path / "x.npz") as stored:
        assert stored["names"].tolist() == ["a", "b", "c"]
        assert stored["probabilities"].dtype == np.float16
        np.testing.assert_allclose(stored["probabilities"], prediction.probabilities, atol=1e-3)


def test_probabilities_as_tiff_are_those_of_the_npz(tmp_path: Path) -> None:
    prediction = make_prediction(LOGITS.argmax(0), logits=LOGITS)
    write_probabilities_tiff(tmp_path / "x.tif", prediction, ABC.names)
    expected = prediction.probabilities.astype(np.float16)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        np.testing.assert_array_equal(file.asarray(), expected)
        assert file.pages.first.description == '{"names": ["a", "b", "c"]}'
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected.transpose(1, 2, 0).astype(np.float32))


def test_confidence_is_the_highest_probability() -> None:
    assert compute_confidence(np.array([[[0.2, 0.5]], [[0.8, 0.5]]])).tolist() == [[0.8, 0.5]]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([0.5, 0.5], 1.0), ([1.0, 0.0], 0.0), ([0.25] * 4, 1.0), ([0.9, 0.1], 0.468996), ([1.0], 0.0)],
)
def test_entropy_is_1_for_equally_probable_classes(probabilities: list[float], expected: float) -> None:
    found = compute_entropy(np.array(probabilities, np.float32)[:, None, None])
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(expected, abs=1e-6)


def test_maps_are_16_bit_pictures(tmp_path: Path) -> None:
    prediction = make_prediction(LOGITS.argmax(0), logits=LOGITS)
    write_confidence(tmp_path / "c.png", prediction)
    write_entropy(tmp_path / "e.png", prediction)
    for name, values in (("c", compute_confidence), ("e", compute_entropy)):
        stored = read_mask(tmp_path / f"{name}.png")
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(stored / 65535, values(prediction.probabilities), atol=1e-5)


def test_a_certain_prediction_has_full_confidence_and_no_entropy(tmp_path: Path) -> None:
    prediction = make_prediction([[1, 2]], logits=[[[-99, -99]], [[99, -99]], [[-99, 99]]])
    write_confidence(tmp_path / "c.png", prediction)
    write_entropy(tmp_path / "e.png", prediction)
    assert read_mask(tmp_path / "c.png").tolist() == [[65535, 65535]]
    assert read_mask(tmp_path / "e.png").tolist() == [[0, 0]]
