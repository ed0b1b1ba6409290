from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.inference.predictor import Predictor, load, make_predictor
from pixelwise.inference.tiling import planner as home
from pixelwise.inference.tiling.plan import StripPlan, TilePlan
from pixelwise.inference.tiling.tiled import Whole

SIZE = (150, 200)


@pytest.fixture(scope="module")
def predictor(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A U-Net whose answer differs from pixel to pixel."""
    network = NetworkConfig(name="unet", base_channels=4, depth=2)
    made = load(make_model(tmp_path_factory.mktemp("cut") / "m", network=network), device="cpu", precision="fp32")
    with torch.no_grad():
        images = torch.from_numpy(noise(96, 96)).permute(2, 0, 1)[None]
        made.module.train()(images)  # statistics of batch normalizations
        scores = made.module.eval()(images)
        next(p for p in reversed(list(made.module.parameters())) if p.dim() == 1).sub_(scores.mean((0, 2, 3)))
    return made


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def _little_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for 96x96 pixels at once."""
    monkeypatch.setattr(home, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(home, "MAX_BYTES", 96 * 96 * predictor.cutting.bytes_per_pixel)
    monkeypatch.setattr(home, "BAND_WIDTHS", (256, 128, 64))
    monkeypatch.setattr(home, "STRIP_PIXELS", 256 * 8)
    predictor.cutting._plans.clear()


def widest(plan: StripPlan) -> int:
    return max(span.write.stop - span.write.start for span in plan.columns)


def test_an_image_is_whole_as_long_as_memory_allows(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predictor.cutting.fits(SIZE)
    monkeypatch.setattr(home, "WHOLE_PIXELS", 1000)
    assert predictor.cutting.fits(SIZE)
    monkeypatch.setattr(home, "MAX_BYTES", 64 * 64 * predictor.cutting.bytes_per_pixel)
    assert not predictor.cutting.fits(SIZE)
    assert predictor.cutting.fits((20, 50))


@pytest.mark.usefixtures("_little_memory")
def test_large_images_are_cut_into_strips(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predictor.predict(noise(*SIZE), tiling="none", keep_logits=True)
    plan = predictor.cutting.plan(SIZE)
    assert isinstance(plan, StripPlan)
    assert len(plan.rows) > 4
    cut = predictor.predict(noise(*SIZE), keep_logits=True)
    np.testing.assert_allclose(cut.logits, whole.logits, rtol=0, atol=1e-5 * max(1, np.abs(whole.logits).max()))
    np.testing.assert_array_equal(cut.labels, whole.labels)
    np.testing.assert_array_equal(predictor.predict(noise(*SIZE)).labels, whole.labels)
    assert len(np.unique(whole.labels)) > 1


@pytest.mark.usefixtures("_little_memory")
def test_bands_are_as_wide_as_memory_allows(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = predictor.cutting.plan(SIZE)
    assert isinstance(wide, StripPlan)
    monkeypatch.setattr(home, "MAX_BYTES", 0.9 * predictor.cutting._bytes(wide, predictor.cutting._framed(SIZE)))
    predictor.cutting._plans.clear()
    narrow = predictor.cutting.plan(SIZE)
    assert isinstance(narrow, StripPlan)
    assert len(narrow.columns) > len(wide.columns)
    assert widest(narrow) < widest(wide)
    whole = predictor.predict(noise(*SIZE), tiling="none")
    np.testing.assert_array_equal(predictor.predict(noise(*SIZE)).labels, whole.labels)


@pytest.mark.usefixtures("_little_memory")
def test_in_tiles_where_strips_are_not_to_be_had(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predictor.predict(noise(*SIZE), tiling="none")
    apart = replace(predictor.cutting, by_strips=False).plan(SIZE)
    assert isinstance(apart, TilePlan)
    assert apart.largest[0] * apart.largest[1] <= 96 * 96
    monkeypatch.setattr(home, "BAND_WIDTHS", ())  # as where even the narrowest takes too much
    predictor.cutting._plans.clear()
    assert predictor.cutting.plan(SIZE) == apart
    np.testing.assert_array_equal(predictor.predict(noise(*SIZE)).labels, whole.labels)


@pytest.mark.usefixtures("_little_memory")
def test_a_network_with_an_operator_that_is_not_run_by_rows_is_cut_into_tiles(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reflecting(torch.nn.Module):
        size_multiple = 1

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")[:, :, 1:-3, 2:-2]

    module = type(predictor.module)(Reflecting(), mean=[0.0] * 3, std=[1.0] * 3)
    odd = make_predictor(module, predictor.spec, predictor.device, "fp32")
    monkeypatch.setattr(home, "MAX_BYTES", 96 * 96 * odd.cutting.bytes_per_pixel)
    assert isinstance(odd.cutting.plan(SIZE), TilePlan)
    np.testing.assert_array_equal(odd.predict(noise(*SIZE)).labels, odd.predict(noise(*SIZE), tiling="none").labels)


@pytest.mark.usefixtures("_little_memory")
def test_an_image_of_a_size_that_was_seen_is_not_planned_again(predictor: Predictor) -> None:
    assert predictor.cutting.plan(SIZE) is predictor.cutting.plan(SIZE)
    assert predictor.cutting.plan(SIZE) != predictor.cutting.plan((SIZE[0] + 8, SIZE[1]))


def test_bf16_takes_half_the_memory(predictor: Predictor) -> None:
    half = make_predictor(predictor.module, predictor.spec, predictor.device, "bf16").cutting
    assert half.bytes_per_pixel == predictor.cutting.bytes_per_pixel / 2


@pytest.mark.usefixtures("_little_memory")
def test_only_parts_that_are_not_done_are_given(predictor: Predictor) -> None:
    source = Whole(noise(*SIZE))
    for plan in (predictor.cutting.plan(SIZE), predictor.cutting.tiles((80, 100), SIZE)):
        parts = [part for part, _ in predictor.label_parts(source, plan)]
        assert sorted(parts) == [(row, column) for row in range(len(plan.rows)) for column in range(len(plan.columns))]
        done = set(parts[: len(parts) // 2])
        again = dict(predictor.label_parts(source, plan, done.__contains__))
        assert set(again) == set(parts) - done
        for part, labels in predictor.label_parts(source, plan):
            if part in again:
                np.testing.assert_array_equal(again[part], labels)
