import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.inference.predictor import Predictor, load, make_predictor
from pixelwise.inference.tiling import planner as home
from pixelwise.inference.tiling.planner import measure_peak_bytes
from pixelwise.inference.tiling.tiled import ArraySource

SIZE = (150, 200)


@pytest.fixture(scope="module")
def predictor(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A U-Net whose labels differ from pixel to pixel."""
    network = NetworkConfig(name="unet", base_channels=4, depth=2)
    loaded = load(make_model(tmp_path_factory.mktemp("tiles") / "m", network=network), device="cpu", precision="fp32")
    with torch.no_grad():
        images = torch.from_numpy(make_noise(96, 96)).permute(2, 0, 1)[None]
        loaded.module.train()(images)  # sets the statistics of batch normalizations
        scores = loaded.module.eval()(images)
        next(p for p in reversed(list(loaded.module.parameters())) if p.dim() == 1).sub_(scores.mean((0, 2, 3)))
    return loaded


def make_noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def _little_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow memory for 96x96 pixels."""
    monkeypatch.setattr(home, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(home, "MAX_BYTES", 96 * 96 * predictor.tile_planner.bytes_per_pixel)


def test_image_is_whole_as_long_as_memory_allows(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predictor.tile_planner.is_whole(SIZE)
    monkeypatch.setattr(home, "WHOLE_PIXELS", 1000)
    assert predictor.tile_planner.is_whole(SIZE)
    monkeypatch.setattr(home, "MAX_BYTES", 64 * 64 * predictor.tile_planner.bytes_per_pixel)
    assert not predictor.tile_planner.is_whole(SIZE)
    assert predictor.tile_planner.is_whole((20, 50))


@pytest.mark.usefixtures("_little_memory")
def test_large_images_are_tiled_and_give_the_result_of_the_whole_image(predictor: Predictor) -> None:
    whole = predictor.predict(make_noise(*SIZE), tiling="none", keep_logits=True)
    plan = predictor.tile_planner.plan(SIZE)
    assert len(plan.rows) > 1
    assert len(plan.columns) > 1
    assert math.prod(plan.max_input_size) <= 96 * 96
    tiled = predictor.predict(make_noise(*SIZE), keep_logits=True)
    np.testing.assert_allclose(tiled.logits, whole.logits, rtol=0, atol=1e-5 * max(1, np.abs(whole.logits).max()))
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    np.testing.assert_array_equal(predictor.predict(make_noise(*SIZE)).labels, whole.labels)
    assert len(np.unique(whole.labels)) > 1


@pytest.mark.usefixtures("_little_memory")
def test_less_memory_gives_more_tiles(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = predictor.tile_planner.plan(SIZE)
    monkeypatch.setattr(home, "MAX_BYTES", 0.5 * home.MAX_BYTES)
    assert len(predictor.tile_planner.plan(SIZE)) > len(plan)
    whole = predictor.predict(make_noise(*SIZE), tiling="none")
    np.testing.assert_array_equal(predictor.predict(make_noise(*SIZE)).labels, whole.labels)


@pytest.mark.usefixtures("_little_memory")
def test_network_with_reflection_padding_is_tiled_exactly(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reflecting(nn.Module):
        size_multiple = 1

        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")[:, :, 1:-3, 2:-2]

    module = type(predictor.module)(Reflecting(), mean=[0.0] * 3, std=[1.0] * 3)
    reflecting = make_predictor(module, predictor.spec, predictor.device, "fp32")
    monkeypatch.setattr(home, "MAX_BYTES", 96 * 96 * reflecting.tile_planner.bytes_per_pixel)
    image = make_noise(*SIZE)
    assert len(reflecting.tile_planner.plan(SIZE)) > 1
    np.testing.assert_array_equal(reflecting.predict(image).labels, reflecting.predict(image, tiling="none").labels)


def test_bf16_takes_half_the_memory(predictor: Predictor) -> None:
    half = make_predictor(predictor.module, predictor.spec, predictor.device, "bf16").tile_planner
    assert half.bytes_per_pixel == predictor.tile_planner.bytes_per_pixel / 2


def test_only_tiles_that_are_not_done_are_predicted(predictor: Predictor) -> None:
    source, plan = ArraySource(make_noise(*SIZE)), predictor.tile_planner.plan(SIZE, (80, 100))
    labels = {tile.index: labels for tile, labels in predictor.label_tiles(source, plan)}
    assert sorted(labels) == [(row, column) for row in range(len(plan.rows)) for column in range(len(plan.columns))]
    done = set(sorted(labels)[: len(labels) // 2])
    rest = {tile.index: labels for tile, labels in predictor.label_tiles(source, plan, lambda tile: tile.index in done)}
    assert set(rest) == set(labels) - done
    for index, found in rest.items():
        np.testing.assert_array_equal(found, labels[index])


# Memory

MAP_SIZE = (10, 20)
MAP_BYTES = 4 * 10 * 20  # of one channel in float32


class Stack(nn.Module):
    """Layers of 4, 8 and 4 channels; a skip connection keeps the first four to the end."""

    def __init__(self, *, has_skip: bool) -> None:
        super().__init__()
        self.has_skip = has_skip
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in ((3, 4), (4, 8), (8, 4)))

    def forward(self, images: Tensor) -> Tensor:
        x = kept = self.layers[0](images)
        x = self.layers[1](x)
        if not self.has_skip:
            del kept
        x = self.layers[2](x)
        return x + kept if self.has_skip else x


def test_peak_bytes_count_tensors_until_they_are_freed() -> None:
    with torch.device("meta"):
        plain, skipping = Stack(has_skip=False), Stack(has_skip=True)
    assert measure_peak_bytes(plain, MAP_SIZE, channels=3) == (3 + 4 + 8) * MAP_BYTES
    assert measure_peak_bytes(skipping, MAP_SIZE, channels=3) == (3 + 4 + 8 + 4) * MAP_BYTES


def test_views_and_in_place_operators_take_no_memory() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (3, *MAP_SIZE)))
    assert measure_peak_bytes(network, MAP_SIZE, channels=3) == 3 * MAP_BYTES
