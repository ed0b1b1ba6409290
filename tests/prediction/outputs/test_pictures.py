from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.classes import Classes
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import read_image, read_mask
from pixelwise.data.visualization import overlay_labels
from pixelwise.prediction.outputs.pictures import (
    add_legend,
    compute_confidence,
    compute_entropy,
    draw_overlay,
    encode_confidence,
    encode_entropy,
    encode_labels,
    encode_overlay,
    encode_probabilities,
    encode_probabilities_tiff,
    get_painted_colors,
)
from support.predictions import ABC, CELLS, COLORS, make_labeled, make_prediction


def test_labels_are_a_palette_png_of_class_indices_in_the_class_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    (tmp_path / "x.png").write_bytes(encode_labels(tmp_path / "x.png", make_labeled(labels)))
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), labels)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(COLORS)[labels])


def test_more_than_256_classes_are_written_in_16_bit(tmp_path: Path) -> None:
    classes = describe_classes(parse_description({"names": [str(i) for i in range(300)]}))
    labels = np.array([[0, 299], [256, 1]], np.uint16)
    (tmp_path / "x.png").write_bytes(encode_labels(tmp_path / "x.png", make_labeled(labels, classes=classes)))
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), labels)


@pytest.mark.parametrize(
    "described",
    [
        {"names": ["a", "b", "c"], "label_mapping": {0: 0, 128: 1, 255: 2}},
        {"names": ["a", "b", "c"], "label_mapping": {7: 0, 1000: 1, 40000: 2}},
        {"names": ["a", "b", "c"], "colors": COLORS, "coding": "rgb"},
    ],
)
def test_mask_values_are_read_back_as_the_same_labels(tmp_path: Path, described: dict[str, Any]) -> None:
    classes = describe_classes(parse_description(described))
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    (tmp_path / "x.png").write_bytes(
        encode_labels(tmp_path / "x.png", make_labeled(labels, classes=classes, label_values="dataset"))
    )
    read, unlisted = classes.to_labels(read_mask(tmp_path / "x.png"))
    np.testing.assert_array_equal(read, labels)
    assert unlisted == []


def test_label_values_dataset_writes_mask_values(tmp_path: Path) -> None:
    classes = describe_classes(parse_description({"names": ["a", "b"], "label_mapping": {0: 0, 255: 1}}))
    (tmp_path / "x.png").write_bytes(
        encode_labels(tmp_path / "x.png", make_labeled([[0, 1]], classes=classes, label_values="dataset"))
    )
    assert read_mask(tmp_path / "x.png").tolist() == [[0, 255]]


def test_the_overlay_has_a_legend_of_the_classes_that_occur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        "pixelwise.prediction.outputs.pictures.add_legend",
        lambda picture, entries: shown.extend(entries) or add_legend(picture, entries),
    )
    image = np.zeros((10, 200, 3), np.uint8)
    labels = np.zeros((10, 200), np.uint8)
    labels[:, :150] = 2
    (tmp_path / "x.png").write_bytes(encode_overlay(make_labeled(labels), image))
    assert shown == [("c  75.0 %", (0, 0, 255)), ("a  25.0 %", (10, 20, 30))]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == 200
        assert picture.height > 10
        np.testing.assert_array_equal(np.asarray(picture)[:10], overlay_labels(image, labels, ABC))


def test_the_background_has_an_empty_swatch() -> None:
    picture = add_legend(np.zeros((4, 300, 3), np.uint8), [("background", None), ("cell", (255, 0, 0))])
    swatch = picture[9:22, 4:17]
    assert (swatch == 255).all(-1).sum() > 100  # white, with a line
    assert (np.diagonal(np.fliplr(swatch).transpose(2, 0, 1), axis1=1, axis2=2) == 90).all()
    assert get_painted_colors(CELLS) == [None, *CELLS.colors[1:]]


def test_an_overlay_is_drawn_as_asked() -> None:
    image, labels = np.full((30, 30, 3), 100, np.uint8), np.zeros((30, 30), np.uint8)
    labels[:, 15:] = 1
    faint = draw_overlay(replace(make_labeled(labels), opacity=0.1), image)
    outline = draw_overlay(replace(make_labeled(labels), overlay_style="outline"), image)
    assert faint[5, 25].tolist() == [110, 100, 90]
    assert outline[5, 25].tolist() == [100, 100, 100]
    assert outline[5, 15].tolist() == COLORS[1]


def test_a_legend_is_wrapped_and_never_narrower_than_its_texts() -> None:
    entries = [("a rather long name", (255, 0, 0)), ("b", (0, 255, 0)), ("c", (0, 0, 255))]
    narrow = add_legend(np.zeros((4, 1, 3), np.uint8), entries)
    wide = add_legend(np.zeros((4, 2000, 3), np.uint8), entries)
    assert narrow.shape[0] > wide.shape[0]
    assert wide.shape[1] == 2000
    for _, color in entries:
        assert (narrow == color).all(-1).any()
        assert (wide == color).all(-1).any()


def test_a_class_name_of_several_lines_is_shown_on_one(tmp_path: Path) -> None:
    classes = Classes(names=("two\nlines",), colors=((1, 2, 3),), label_mapping={0: 0})
    (tmp_path / "x.png").write_bytes(
        encode_overlay(make_labeled([[0, 0], [0, 0]], classes=classes), np.zeros((2, 2, 3), np.uint8))
    )
    assert (tmp_path / "x.png").exists()


LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5))


def test_probabilities_are_written_with_the_names(tmp_path: Path) -> None:
    prediction = make_prediction([[0, 2]])
    (tmp_path / "x.npz").write_bytes(encode_probabilities(prediction, ABC.names))
    with np.load(tmp_path / "x.npz") as stored:
        assert stored["names"].tolist() == ["a", "b", "c"]
        assert stored["probabilities"].dtype == np.float16
        np.testing.assert_allclose(stored["probabilities"], prediction.probabilities, atol=1e-3)


def test_probabilities_as_tiff_are_those_of_the_npz(tmp_path: Path) -> None:
    prediction = make_prediction(LOGITS.argmax(0), logits=LOGITS)
    (tmp_path / "x.tif").write_bytes(encode_probabilities_tiff(prediction, ABC.names))
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
    (tmp_path / "c.png").write_bytes(encode_confidence(prediction))
    (tmp_path / "e.png").write_bytes(encode_entropy(prediction))
    for name, values in (("c", compute_confidence), ("e", compute_entropy)):
        stored = read_mask(tmp_path / f"{name}.png")
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(stored / 65535, values(prediction.probabilities), atol=1e-5)


def test_a_certain_prediction_has_full_confidence_and_no_entropy(tmp_path: Path) -> None:
    prediction = make_prediction([[1, 2]], logits=[[[-99, -99]], [[99, -99]], [[-99, 99]]])
    (tmp_path / "c.png").write_bytes(encode_confidence(prediction))
    (tmp_path / "e.png").write_bytes(encode_entropy(prediction))
    assert read_mask(tmp_path / "c.png").tolist() == [[65535, 65535]]
    assert read_mask(tmp_path / "e.png").tolist() == [[0, 0]]
