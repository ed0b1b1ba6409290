import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image as PictureFile
from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import DataError, InvalidArgumentError, PathNotFoundError
from pixelwise.inference import predictor as home
from pixelwise.inference.predictor import Predictor, load, make_predictor
from pixelwise.model_file import load_model
from pixelwise.networks import Segmenter

MakeModel = Callable[..., Path]
Image = npt.NDArray[Any]


def image(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> Image:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)


@pytest.fixture(scope="module")
def model(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("predictor") / "rgb")


@pytest.fixture(scope="module")
def rgb(model: Path) -> Predictor:
    return load(model, device="cpu")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (31, 33), (32, 32)])
def test_labels_have_the_size_of_the_image(rgb: Predictor, size: tuple[int, int]) -> None:
    prediction = rgb.predict(image(*size))
    assert prediction.labels.shape == size
    assert prediction.labels.dtype == np.uint8
    assert prediction.labels.max() < 3


@pytest.mark.parametrize("keep", [True, False])
def test_probabilities_sum_to_one_and_agree_with_the_labels(rgb: Predictor, keep: bool) -> None:
    prediction = rgb.predict(image(33, 17), keep_logits=keep)
    assert prediction.probabilities.shape == prediction.logits.shape == (3, 33, 17)
    assert prediction.probabilities.dtype == prediction.logits.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(prediction.probabilities.argmax(0), prediction.labels)
    np.testing.assert_array_equal(prediction.logits.argmax(0), prediction.labels)


def test_kept_logits_need_no_second_run(rgb: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = Predictor._infer_image
    monkeypatch.setattr(Predictor, "_infer_image", lambda self, pixels: (runs.append(1), run(self, pixels))[1])
    kept = rgb.predict(image(8, 8), keep_logits=True)
    np.testing.assert_array_equal(kept.logits.argmax(0), kept.labels)
    assert kept.probabilities is kept.probabilities
    assert len(runs) == 1
    again = rgb.predict(image(8, 8))
    np.testing.assert_array_equal(again.logits, kept.logits)
    assert len(runs) == 3


def test_prediction_is_the_same_alone_and_repeated(rgb: Predictor) -> None:
    np.testing.assert_array_equal(rgb.predict(image(40, 24)).logits, rgb.predict(image(40, 24)).logits)


def test_gray_is_repeated_for_a_model_of_three_channels(rgb: Predictor) -> None:
    gray = image(16, 12, 1)
    expected = rgb.predict(np.repeat(gray, 3, axis=2)).logits
    np.testing.assert_array_equal(rgb.predict(gray).logits, expected)
    np.testing.assert_array_equal(rgb.predict(gray[..., 0]).logits, expected)


def test_a_read_only_array_is_predicted(rgb: Predictor) -> None:
    fixed = image(16, 16)[::-1, ::-1]
    expected = rgb.predict(fixed.copy()).labels
    fixed.flags.writeable = False
    np.testing.assert_array_equal(rgb.predict(fixed).labels, expected)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (5, "uint8"), (1, "uint16"), (3, "uint16")])
def test_images_of_other_kinds_are_labeled(make_model: MakeModel, tmp_path: Path, channels: int, dtype: str) -> None:
    predictor = load(make_model(tmp_path / "m", channels=channels, dtype=dtype), device="cpu")
    prediction = predictor.predict(image(9, 14, channels, dtype))
    assert prediction.labels.shape == (9, 14)


def test_sixteen_bits_are_not_reduced_to_eight(make_model: MakeModel, tmp_path: Path) -> None:
    predictor = load(make_model(tmp_path / "m", channels=1, dtype="uint16"), device="cpu")
    low, high = (np.full((8, 8, 1), value, np.uint16) for value in (7, 40007))
    assert not np.array_equal(predictor.predict(low).logits, predictor.predict(high).logits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_other_numbers_are_converted_to_float32(make_model: MakeModel, tmp_path: Path, dtype: type) -> None:
    predictor = load(make_model(tmp_path / "m", channels=6, dtype="float32"), device="cpu")
    values = np.random.default_rng(0).integers(-300, 300, (9, 14, 6))
    expected = predictor.predict(values.astype(np.float32)).logits
    np.testing.assert_array_equal(predictor.predict(values.astype(dtype)).logits, expected)


def test_values_that_are_not_finite_are_an_error(make_model: MakeModel, tmp_path: Path) -> None:
    """They would spread over all that the network sees together."""
    predictor = load(make_model(tmp_path / "m", channels=1, dtype="float32"), device="cpu")
    with pytest.raises(DataError, match="The image contains 1 NaN or infinite values"):
        predictor.predict(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize(("count", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_many_classes_need_wider_labels(make_model: MakeModel, tmp_path: Path, count: int, dtype: type) -> None:
    classes = {"names": [f"c{i}" for i in range(count)]}
    predictor = load(make_model(tmp_path / "m", classes=classes), device="cpu")
    prediction = predictor.predict(image(8, 8))
    assert prediction.labels.dtype == dtype
    np.testing.assert_array_equal(prediction.labels, prediction.logits.argmax(0))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (image(4, 4, 2), DataError, "he image has 2 channels, but 3 are expected"),
        (
            image(4, 4, 3, "uint16"),
            InvalidArgumentError,
            "trained on uint8. Use uint8 pixels, scaled as for training, or train on uint16",
        ),
        (image(4, 4).astype(np.float32) / 255, InvalidArgumentError, "The image is float32"),
        (image(4, 4).astype(np.int64), InvalidArgumentError, "The image is int64, but the model was trained on uint8"),
        (np.zeros((2, 3, 4, 5), np.uint8), InvalidArgumentError, r"shape \(2, 3, 4, 5\)"),
        (image(4, 4).transpose(2, 0, 1), InvalidArgumentError, r"shape \(3, 4, 4\)\. Expected the channels last"),
        (["a.tif"], InvalidArgumentError, "image is a list of paths, but must be one path or one array"),
        (np.zeros(3, np.uint8), InvalidArgumentError, r"Expected \(H, W\) or \(H, W, C\)"),
        (np.zeros((0, 3, 3), np.uint8), InvalidArgumentError, "with every side above 0"),
    ],
)
def test_an_image_of_another_kind_is_an_error(rgb: Predictor, given: Image, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        rgb.predict(given)


def test_three_channels_given_to_a_gray_model_are_an_error(make_model: MakeModel, tmp_path: Path) -> None:
    predictor = load(make_model(tmp_path / "m", channels=1), device="cpu")
    with pytest.raises(DataError, match="has 3 channels, but 1 are expected"):
        predictor.predict(image(4, 4))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"engine": "onnxruntimes"}, "Unknown engine 'onnxruntimes'. Did you mean 'onnxruntime'"),
        ({"precision": "fp8"}, r"Unknown precision 'fp8'.*: auto, bf16, fp32, int8\."),
        ({"device": "abacus"}, "Unknown device 'abacus'"),
    ],
)
def test_an_unknown_choice_is_an_error(model: Path, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        load(model, **arguments)  # type: ignore[arg-type]


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="does not exist"):
        load(tmp_path / "gone")


AGREES = {"agreement": 0.999, "mean_iou_difference": -0.001}


@pytest.mark.parametrize(
    ("fast", "measured", "expected"),
    [
        (True, AGREES, "bf16"),
        (False, AGREES, "fp32"),
        (True, None, "fp32"),
        (True, {**AGREES, "agreement": 0.994}, "fp32"),
        (True, {**AGREES, "mean_iou_difference": 0.004}, "fp32"),
        (True, {**AGREES, "mean_iou_difference": -0.004}, "fp32"),
        (True, {"agreement": 0.995, "mean_iou_difference": 0.003}, "bf16"),
    ],
)
def test_auto_chooses_bf16_only_if_it_is_fast_and_agrees(
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fast: bool,
    measured: dict[str, float] | None,
    expected: str,
) -> None:
    monkeypatch.setattr(home, "has_fast_bf16", lambda device: fast)
    path = make_model(tmp_path / "m", scores={"bf16": measured} if measured else {})
    assert load(path, device="cpu").precision == expected
    assert load(path, device="cpu", precision="fp32").precision == "fp32"
    assert load(path, device="cpu", precision="bf16").precision == "bf16"


def test_bf16_logits_are_float32(model: Path) -> None:
    prediction = load(model, device="cpu", precision="bf16").predict(image(20, 20), keep_logits=True)
    assert prediction.logits.dtype == np.float32
    np.testing.assert_array_equal(prediction.logits.argmax(0), prediction.labels)


def test_samples_of_a_bayesian_network(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model(tmp_path / "m", network=NetworkConfig(name="bayesian-segnet", base_channels=4))
    predictor = load(path, device="cpu", precision="fp32")
    torch.manual_seed(0)
    prediction = predictor.predict(image(37, 52), samples=5)
    assert prediction.variance is not None
    assert prediction.variance.shape == prediction.labels.shape == (37, 52)
    assert prediction.variance.dtype == np.float32
    assert prediction.variance.max() > 0
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(prediction.probabilities.argmax(0), prediction.labels)
    assert predictor.predict(image(37, 52)).variance is None


def test_samples_of_a_network_without_dropout_are_refused(model: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="'unet' has no dropout, so all samples would be equal"):
        load(model, device="cpu").predict(image(8, 8), samples=4)


class _PixelByPixel(nn.Conv2d):
    """A network that commutes with every flip and turn."""

    size_multiple = 1


@pytest.fixture
def pixel_by_pixel(model: Path) -> Predictor:
    torch.manual_seed(0)
    module = Segmenter(_PixelByPixel(3, 3, 1), mean=[100.0] * 3, std=[50.0] * 3)
    return make_predictor(module, load_model(model)[1], torch.device("cpu"), "fp32")


@pytest.mark.parametrize("tile_size", [None, 7])
@pytest.mark.parametrize("tta", [["flips"], ["rotations"]])
def test_augmentation_does_not_change_a_network_that_commutes_with_it(
    pixel_by_pixel: Predictor, tta: list[str], tile_size: int | None
) -> None:
    plain = pixel_by_pixel.predict(image(12, 17))
    mean = pixel_by_pixel.predict(image(12, 17), tta=tta, tile_size=tile_size)
    np.testing.assert_allclose(mean.probabilities, plain.probabilities, atol=1e-5)
    np.testing.assert_array_equal(mean.labels, plain.labels)


def test_augmented_probabilities_are_the_mean_and_tiles_change_nothing(rgb: Predictor) -> None:
    pixels = image(21, 17)
    mean = rgb.predict(pixels, tta=["flips"])
    turned = [rgb.predict(pixels[::a, ::b]).probabilities[:, ::a, ::b] for a in (1, -1) for b in (1, -1)]
    np.testing.assert_allclose(mean.probabilities, np.mean(turned, 0), atol=1e-5)
    np.testing.assert_array_equal(mean.labels, mean.probabilities.argmax(0))
    tiled = rgb.predict(pixels, tta=["flips"], tile_size=8)
    np.testing.assert_allclose(tiled.probabilities, mean.probabilities, atol=1e-5)


def test_scales_and_rotations_together_keep_the_size(rgb: Predictor) -> None:
    prediction = rgb.predict(image(9, 14), tta=["rotations", "scales"])
    assert prediction.labels.shape == (9, 14)
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tta": ["flips"], "samples": 3}, "tta and samples both average predictions"),
        ({"tta": "flip"}, r"Unknown test-time augmentation 'flip'.* Did you mean 'flips'"),
        ({"samples": 0}, "samples is 0, but must be >= 1"),
        ({"samples": 2, "tile_size": 8}, "samples are drawn for the whole image"),
    ],
)
def test_options_that_exclude_each_other_are_an_error(rgb: Predictor, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        rgb.predict(image(4, 4), **options)


def test_a_seed_repeats_samples_and_leaves_the_random_state(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model(tmp_path / "m", network=NetworkConfig(name="bayesian-segnet", base_channels=4))
    predictor, state = load(path, device="cpu", precision="fp32"), torch.get_rng_state()
    one, same, other = (predictor.predict(image(37, 52), samples=3, seed=seed).variance for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("size", "shown"), [((33, 17), (33, 17)), ((2050, 20), (513, 5))])
def test_a_prediction_shows_the_overlay_and_its_classes(
    rgb: Predictor, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    prediction = rgb.predict(image(*size))
    text = prediction._repr_html_()
    assert text is not None
    content = base64.b64decode(text.partition("base64,")[2].partition('"')[0])
    with PictureFile.open(io.BytesIO(content)) as picture:
        assert picture.size == shown[::-1]
    for label, name in enumerate(rgb.classes.names):
        assert (f"{name} " in text) == (label in prediction.labels)
    shares = [float(share) for share in re.findall(r"([\d.]+) %", text)]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_class_names_are_escaped_in_notebooks(make_model: MakeModel, tmp_path: Path) -> None:
    classes = {"names": ["<script>", "a & b"]}
    predictor = load(make_model(tmp_path / "m", channels=1, dtype="uint16", classes=classes), device="cpu")
    text = predictor.predict(image(8, 8, 1, "uint16")[..., 0])._repr_html_()
    assert text is not None
    assert "<script>" not in text
    assert "&lt;script&gt;" in text or "a &amp; b" in text


def test_notebooks_show_the_image_below_the_background(make_model: MakeModel, tmp_path: Path) -> None:
    predictor = load(make_model(tmp_path / "m", classes={"names": ["background", "a", "b"]}), device="cpu")
    pixels = image(24, 32)
    prediction = predictor.predict(pixels)
    text = prediction._repr_html_() or ""
    with PictureFile.open(io.BytesIO(base64.b64decode(text.partition("base64,")[2].partition('"')[0]))) as picture:
        shown = np.asarray(picture)
    is_background = prediction.labels == 0
    assert is_background.any()
    np.testing.assert_array_equal(shown[is_background], pixels[is_background])
    assert "background (not painted)" in text


WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "kept": {"keep_logits": True},
    "tiled": {"tile_size": 8},
    "tiled and kept": {"tile_size": 8, "keep_logits": True},
    "blended": {"tile_size": 8, "tiling": "blend"},
    "averaged": {"tta": ["flips"]},
}


@pytest.fixture(scope="module")
def of_two(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = {"names": ["background", "crack"]}
    return make_model(tmp_path_factory.mktemp("predictor") / "two", classes=classes, seed=4)


def choose_threshold(predictor: Predictor, pixels: Image) -> float:
    """Return a probability of the foreground that half of the pixels have, other than 0.5."""
    threshold = float(np.median(predictor.predict(pixels).probabilities[1]))
    assert abs(threshold - 0.5) > 0.01
    return threshold


@pytest.mark.parametrize("way", WAYS)
def test_a_threshold_decides_in_every_way_of_predicting(of_two: Path, way: str) -> None:
    pixels = image(24, 21)
    plain = load(of_two, device="cpu")
    threshold = choose_threshold(plain, pixels)
    prediction = load(of_two, device="cpu", threshold=threshold).predict(pixels, **WAYS[way])
    probability = plain.predict(pixels, **WAYS[way]).probabilities[1]
    np.testing.assert_array_equal(prediction.probabilities[1], probability)
    clear = abs(probability - threshold) > 1e-5
    np.testing.assert_array_equal(prediction.labels[clear], (probability >= threshold)[clear])
    assert 0.1 < prediction.labels.mean() < 0.9
    assert prediction.labels.dtype == np.uint8


def test_a_threshold_gives_the_same_labels_in_tiles_and_batches(of_two: Path) -> None:
    pixels = image(24, 21)
    predictor = load(of_two, device="cpu", threshold=choose_threshold(load(of_two, device="cpu"), pixels))
    whole = predictor.predict(pixels).labels
    np.testing.assert_array_equal(predictor.predict(pixels, tile_size=4).labels, whole)
    for prediction in predictor.predict_images([pixels, pixels]):
        assert (prediction.labels == whole).mean() > 0.99  # a batch rounds differently


def test_a_threshold_of_dropout_samples(make_model: MakeModel, tmp_path: Path) -> None:
    network = NetworkConfig(name="bayesian-segnet", base_channels=4)
    path = make_model(tmp_path / "m", network=network, classes={"names": ["background", "crack"]})
    torch.manual_seed(0)
    expected = load(path, device="cpu").predict(image(32, 32), samples=2).probabilities[1]
    torch.manual_seed(0)
    found = load(path, device="cpu", threshold=0.3).predict(image(32, 32), samples=2)
    clear = abs(expected - 0.3) > 1e-5
    np.testing.assert_array_equal(found.labels[clear], (expected >= 0.3)[clear])


def test_the_threshold_refers_to_the_class_that_is_not_the_background(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model(tmp_path / "m", classes={"names": ["crack", "background"]})
    pixels = image(24, 21)
    crack = load(path, device="cpu").predict(pixels).probabilities[0]
    threshold = float(np.median(crack))
    labels = load(path, device="cpu", threshold=threshold).predict(pixels).labels
    clear = abs(crack - threshold) > 1e-5
    np.testing.assert_array_equal((labels == 0)[clear], (crack >= threshold)[clear])
    assert 0.1 < labels.mean() < 0.9


def test_a_threshold_of_a_half_differs_from_none_only_where_both_logits_are_equal(of_two: Path) -> None:
    plain = load(of_two, device="cpu").predict(image(40, 40), keep_logits=True)
    half = load(of_two, device="cpu", threshold=0.5).predict(image(40, 40))
    unequal = plain.logits[0] != plain.logits[1]
    np.testing.assert_array_equal(half.labels[unequal], plain.labels[unequal])


def test_a_threshold_needs_two_classes(model: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="A threshold needs a model of two classes, but this one has 3"):
        load(model, device="cpu", threshold=0.3)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 30, float("nan")])
def test_a_threshold_is_a_probability(of_two: Path, threshold: float) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"threshold is {threshold}\. Expected a probability above 0"):
        load(of_two, device="cpu", threshold=threshold)
