import doctest
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference import predictor as home
from pixelwise.inference.predictor import Predictor, load
from pixelwise.inference.tiling import planner, tiled
from pixelwise.inference.tiling.tiled import blend_tiles, compute_seam_score, plan_blend_windows
from pixelwise.networks import Segmenter

MakeModel = Callable[..., Any]
Image = npt.NDArray[np.uint8]

NETWORKS: Mapping[str, NetworkConfig] = {
    "unet": NetworkConfig(name="unet", base_channels=4, depth=2),
    "unet with a stem": NetworkConfig(name="unet", base_channels=4, depth=2, stem_stride=2, upsampling="bilinear"),
    "unet-paper": NetworkConfig(name="unet-paper", base_channels=2, depth=2),
    "segnet": NetworkConfig(name="segnet", base_channels=2),
    "segnet-basic": NetworkConfig(name="segnet-basic", base_channels=4),
    "fcn-8s": NetworkConfig(name="fcn-8s", encoder="resnet18"),
    "unet on an encoder": NetworkConfig(name="unet", encoder="resnet18"),
}


def image(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def predictors(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Predictor]:
    """Return a function from a name in NETWORKS to a predictor in which every layer affects the output."""

    @functools.cache
    def make(name: str) -> Predictor:
        folder = tmp_path_factory.mktemp("tiles") / re.sub(r"\W", "-", name)
        predictor = load(make_model(folder, network=NETWORKS[name]), device="cpu", precision="fp32")
        _randomize(predictor.module)
        return predictor

    return make


def _randomize(module: Segmenter) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.detach().any():  # FCN's score layers start at zero
            nn.init.normal_(parameter, std=0.1)
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8))
    module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_tiles_equal_the_whole_image(name: str, predictors: Callable[[str], Predictor]) -> None:
    predictor = predictors(name)
    for height, width, tile in ((70, 101, 32), (3, 90, 41), (1, 1, 4)):
        whole = predictor.predict(image(height, width), tiling="none", keep_logits=True)
        tiled = predictor.predict(image(height, width), tile_size=tile, keep_logits=True)
        tolerance = 1e-5 * max(1, np.abs(whole.logits).max())
        np.testing.assert_allclose(tiled.logits, whole.logits, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(tiled.labels, whole.labels)
        assert tiled.seam_score is None


@settings(max_examples=12)
@given(height=st.integers(1, 50), width=st.integers(1, 50), tile=st.integers(1, 40))
def test_any_size_of_image_and_tile(height: int, width: int, tile: int, predictors: Callable[[str], Predictor]) -> None:
    for name in ("unet", "unet-paper"):
        pixels = image(height, width)
        whole = predictors(name).predict(pixels, tiling="none")
        np.testing.assert_array_equal(predictors(name).predict(pixels, tile_size=tile).labels, whole.labels)


def test_labels_do_not_depend_on_keep_logits(predictors: Callable[[str], Predictor]) -> None:
    without = predictors("unet").predict(image(50, 40), tile_size=16)
    kept = predictors("unet").predict(image(50, 40), tile_size=16, keep_logits=True)
    np.testing.assert_array_equal(without.labels, kept.labels)
    np.testing.assert_array_equal(without.logits, kept.logits)
    np.testing.assert_array_equal(without.probabilities.argmax(0), kept.labels)


# Blending


class GlobalNetwork(nn.Module):
    """Subtracts the mean brightness of the image, so no tile is exact."""

    size_multiple = 4

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(1, keepdim=True)
        return torch.cat((bright - bright.mean((2, 3), keepdim=True), torch.zeros_like(bright)), 1)


@pytest.fixture
def global_predictor(predictors: Callable[[str], Predictor]) -> Predictor:
    spec = predictors("unet").spec
    module = Segmenter(GlobalNetwork(), mean=[0.0] * 3, std=[1.0] * 3)
    return home.make_predictor(module, spec, torch.device("cpu"), "fp32")


def test_a_global_network_is_blended_with_a_seam_score(global_predictor: Predictor) -> None:
    assert global_predictor.tile_planner.geometry is None
    prediction = global_predictor.predict(image(40, 40), tile_size=8)
    assert prediction.labels.shape == (40, 40)
    assert prediction.seam_score == pytest.approx(1, abs=0.2)  # noise has no seams
    assert global_predictor.predict(image(40, 40)).seam_score is None


def test_memory_limits_blended_tiles(global_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "WHOLE_PIXELS", 100)
    monkeypatch.setattr(planner, "MAX_BYTES", 20 * 20 * global_predictor.tile_planner.bytes_per_pixel)
    assert not global_predictor.tile_planner.is_whole((200, 100))
    assert global_predictor.tile_planner.blend_tile_size == (10, 10)


def test_blending_equal_windows_changes_nothing() -> None:
    pixels = image(33, 47)
    logits = blend_tiles(pixels, (8, 5), lambda seen: torch.from_numpy(seen).permute(2, 0, 1).float())
    np.testing.assert_allclose(logits.permute(1, 2, 0), pixels, rtol=1e-5)


def test_windows_overlap_by_half() -> None:
    assert plan_blend_windows(10, 4) == [slice(0, 6), slice(2, 10), slice(6, 10)]


def test_local_networks_are_blended_on_request(predictors: Callable[[str], Predictor]) -> None:
    prediction = predictors("unet").predict(image(60, 60), tiling="blend", tile_size=16)
    assert prediction.seam_score is not None
    np.testing.assert_array_equal(prediction.probabilities.argmax(0), prediction.labels)


def test_seam_score_of_a_visible_seam() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (40, 40))
    assert compute_seam_score(labels, (8, 8)) == pytest.approx(1, abs=0.2)
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 8:16] = 1
    labels[3, 20] = 1
    score = compute_seam_score(labels, (8, 8))
    assert score is not None
    assert score > 50


def test_seam_score_without_borders_is_none() -> None:
    assert compute_seam_score(np.eye(8, dtype=np.uint8), (8, 8)) is None
    assert compute_seam_score(np.zeros((16, 16), np.uint8), (8, 8)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"tiling": "exat"}, "exact"), ({"tile_size": 0}, "tile_size is 0, but must be >= 1")],
)
def test_invalid_arguments(arguments: Mapping[str, Any], message: str, predictors: Callable[[str], Predictor]) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        predictors("unet").predict(image(4, 4), **arguments)


def test_examples() -> None:
    result = doctest.testmod(tiled)
    assert result.attempted
    assert not result.failed
