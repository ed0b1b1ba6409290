import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from PIL import Image

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.data.io.images import read_image, read_mask
from pixelwise.data.rasters import ome_zarr, rasterio_reader
from pixelwise.data.rasters.ome_zarr import ZarrRaster
from pixelwise.data.rasters.rasterio_reader import needs_windows, use_gdal
from pixelwise.data.rasters.windows import BLOCK
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.inference.predictor import Predictor, load
from pixelwise.inference.tiling import planner
from pixelwise.inference.tiling.plan import Tile
from pixelwise.prediction import rasters as home
from pixelwise.prediction.inputs import RasterInput, make_input
from pixelwise.prediction.rasters import predict_raster, remove_parts
from pixelwise.progress import use_reporter
from support.predictions import make_manifest
from support.rasters import TILE, write_slide, write_zarr

rasterio = pytest.importorskip("rasterio")

Array = npt.NDArray[Any]
NETWORKS = {
    "padded": NetworkConfig(name="unet", base_channels=4, depth=2),
    "unpadded": NetworkConfig(name="unet-paper", base_channels=4, depth=2),
}
COLORS = [[10, 20, 30], [200, 100, 0], [0, 0, 255]]


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rasters")
    classes = {"names": ["a", "b", "c"], "colors": COLORS}
    return {name: make_model(folder / name, network=network, classes=classes) for name, network in NETWORKS.items()}


@pytest.fixture(scope="module")
def predictors(models: dict[str, Path]) -> dict[str, Predictor]:
    made = {name: load(path, device="cpu", precision="fp32") for name, path in models.items()}
    torch.manual_seed(0)
    for one in made.values():
        for parameter in one.module.parameters():
            if parameter.dim() == 1:  # biases all begin at zero, and a narrow network may die of it
                torch.nn.init.normal_(parameter, std=0.1)
        images = torch.from_numpy(noise(96, 96)).permute(2, 0, 1)[None]
        with torch.no_grad():
            one.module.train()(images)  # statistics of batch normalizations
            scores = one.module.eval()(images)
            next(p for p in reversed(list(one.module.parameters())) if p.dim() == 1).sub_(scores.mean((0, 2, 3)))
    return made


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tile small images, too."""
    monkeypatch.setattr(planner, "WINDOWED_BYTES", 1 << 20)


@pytest.fixture(params=NETWORKS)
def predictor(request: pytest.FixtureRequest, predictors: dict[str, Predictor]) -> Predictor:
    return predictors[request.param]


@pytest.fixture
def padded(predictors: dict[str, Predictor]) -> Predictor:
    return predictors["padded"]


def noise(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> Array:
    """Colored noise with large structures, so that labels differ from place to place."""
    rng = np.random.default_rng(height * 1000 + width)
    coarse = rng.integers(0, 200, (height // 9 + 1, width // 9 + 1, channels)).repeat(9, 0).repeat(9, 1)
    return (coarse[:height, :width] + rng.integers(0, 50, (height, width, channels))).astype(dtype)


def write(path: Path, image: Array, **options: Any) -> Path:
    """An image as GDAL writes it."""
    with (
        use_gdal(),
        rasterio.open(
            path,
            "w",
            height=image.shape[0],
            width=image.shape[1],
            count=image.shape[2],
            dtype=image.dtype.name,
            **options,
        ) as file,
    ):
        file.write(image.transpose(2, 0, 1))
    return path


class TrackReporter:
    """A reporter that calls a function with the progress."""

    def __init__(self, track: Callable[[float, float], None]) -> None:
        self.call = track

    def log(self, message: str) -> None: ...

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        self.call(done, total)


def labels_of(
    predictor: Predictor,
    path: Path,
    target: Path,
    *,
    request: Any = None,
    resume: bool = False,
    track: Callable[[float, float], None] = lambda done, total: None,
) -> Array:
    with use_reporter(TrackReporter(track)):
        predict_raster(predictor, path, target, manifest=make_manifest(target.parent, request), resume=resume)
    return read_labels(target)


def read_labels(target: Path) -> Array:
    if target.suffix != ".zarr":
        found: Array = tifffile.imread(target)
        return found
    zarr = pytest.importorskip("zarr")
    labels: Array = zarr.open_group(target, mode="r")["0"][...]
    return labels


@pytest.mark.parametrize("size", [(150, 230), (1, 90), (90, 1), (1, 1), (37, 64)])
def test_windows_give_what_the_whole_image_gives(predictor: Predictor, size: tuple[int, int], tmp_path: Path) -> None:
    image = noise(*size)
    plan = predictor.tile_planner.plan_windowed(size)
    found = labels_of(predictor, write(tmp_path / "x.tif", image), tmp_path / "labels.tif")
    np.testing.assert_array_equal(found, predictor.predict(image, tiling="none").labels)
    if size == (150, 230):
        assert len(plan.rows) > 1
        assert len(plan.columns) > 1
        assert len(np.unique(found)) > 1


def test_parts_and_blocks_may_end_at_different_rows(padded: Predictor, tmp_path: Path) -> None:
    """Parts and the GeoTIFF's own tiles do not end together."""
    image = noise(BLOCK + 70, 40)
    found = labels_of(padded, write(tmp_path / "x.tif", image), tmp_path / "labels.tif")
    np.testing.assert_array_equal(found, padded.predict(image).labels)


def test_the_geotiff_has_the_position_of_the_image(padded: Predictor, tmp_path: Path) -> None:
    transform = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
    image = write(tmp_path / "x.tif", noise(60, 70), crs="EPSG:32633", transform=transform)
    labels_of(padded, image, tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert file.transform == transform
        assert file.nodata is None
        assert file.profile["tiled"]
        assert file.block_shapes == [(BLOCK, BLOCK)]
        assert file.profile["compress"] == "deflate"
        assert [list(file.colormap(1)[i][:3]) for i in range(3)] == COLORS
    with Image.open(tmp_path / "labels.tif") as picture:
        assert picture.mode == "P"


def test_the_geotiff_has_the_ground_control_points_of_the_image(padded: Predictor, tmp_path: Path) -> None:
    corners = ((0, 0, 4e5, 5e6), (0, 70, 4.1e5, 5.01e6), (60, 0, 4.02e5, 4.9e6), (60, 70, 4.1e5, 4.9e6))
    points = [rasterio.control.GroundControlPoint(*corner) for corner in corners]
    labels_of(padded, write(tmp_path / "x.tif", noise(60, 70), gcps=points, crs="EPSG:32633"), tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as file:
        found, crs = file.gcps
        assert crs.to_epsg() == 32633
        assert [(point.row, point.col, point.x, point.y) for point in found] == list(corners)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("float32", float("nan")), ("float32", -9999.0)])
def test_nodata_becomes_the_ignore_index(
    dtype: str, nodata: float, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    predictor = load(make_model(tmp_path / "m", dtype=dtype, network=NETWORKS["padded"]), device="cpu")
    image = noise(90, 140, dtype=dtype) + np.ones((), dtype)
    image[20:60, 100:] = nodata  # nothing is there
    image[5, 5, 1] = nodata  # one channel of three
    path = write(tmp_path / "x.tif", image, nodata=nodata)
    found = labels_of(predictor, path, tmp_path / "labels.tif")
    expected = predictor.predict(read_image(path)).labels
    expected[20:60, 100:] = 255
    np.testing.assert_array_equal(found, expected)
    with use_gdal(), rasterio.open(tmp_path / "labels.tif") as file:
        assert file.nodata == 255


def test_labels_of_a_jpeg_2000_have_its_position(padded: Predictor, tmp_path: Path) -> None:
    """report: https://github.com/opengeos/geoai/issues/237"""
    image, transform = noise(80, 64), rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
    options = {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "yes", "crs": "EPSG:32633"}
    path = write(tmp_path / "x.jp2", image, transform=transform, **options)
    found = labels_of(padded, path, tmp_path / "labels.tif")
    np.testing.assert_array_equal(found, padded.predict(image).labels)
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert (file.crs.to_epsg(), file.transform) == (32633, transform)


def test_a_bigtiff_is_read(padded: Predictor, tmp_path: Path) -> None:
    image = noise(40, 50)
    path = write(tmp_path / "x.tif", image, bigtiff="yes", tiled=True, blockxsize=16, blockysize=16, compress="lzw")
    np.testing.assert_array_equal(labels_of(padded, path, tmp_path / "l.tif"), padded.predict(image).labels)


def test_tiles_inside_a_large_image_take_no_more_than_those_at_its_border(
    padded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = planner.WINDOWED_SIZE
    most = 1.005 * height * width  # just the whole of the image that tiles are chosen for
    monkeypatch.setattr(planner, "WINDOWED_BYTES", most * padded.tile_planner.bytes_per_pixel)
    plan = padded.tile_planner.plan_windowed((9000, 9000))
    assert 0.3 * most < math.prod(plan.max_input_size) <= most
    assert max(span.write.stop - span.write.start for span in plan.rows) <= height


# Stopped and continued.


class StopError(Exception):
    pass


@pytest.fixture
def stopped(padded: Predictor, tmp_path: Path) -> Path:
    """An image whose prediction was stopped in the middle."""

    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise StopError

    path = write(tmp_path / "x.tif", noise(220, 150))
    with pytest.raises(StopError):
        labels_of(padded, path, tmp_path / "labels.tif", track=stop)
    assert not (tmp_path / "labels.tif").exists()
    return path


def record_tiles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the indices of the tiles that are predicted."""
    indices: list[tuple[int, int]] = []
    write = home._TileFiles.write

    def spy(self: home._TileFiles, tile: Tile, labels: Array) -> None:
        indices.append(tile.index)
        write(self, tile, labels)

    monkeypatch.setattr(home._TileFiles, "write", spy)
    return indices


def test_an_interrupted_job_resumes_with_the_missing_parts(
    padded: Predictor, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {path.name for path in (tmp_path / ".labels.tif.part").glob("*.labels")}
    indices = record_tiles(monkeypatch)
    labels_of(padded, stopped, tmp_path / "labels.tif", resume=True)
    plan = padded.tile_planner.plan_windowed((220, 150))
    assert there
    assert len(indices) == len(plan) - len(there)
    labels_of(padded, stopped, tmp_path / "at_once.tif")
    assert (tmp_path / "labels.tif").read_bytes() == (tmp_path / "at_once.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["at_once.tif", "labels.tif", "x.tif"]


def test_a_damaged_part_is_named(padded: Predictor, stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".labels.tif.part"
    next(folder.glob("*.labels")).write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"\.labels\.tif\.part: A part of an interrupted prediction is damaged\. Remove the folder"
    ):
        labels_of(padded, stopped, tmp_path / "labels.tif", resume=True)


def test_removed_parts_are_predicted_again(
    padded: Predictor, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = record_tiles(monkeypatch)
    remove_parts(tmp_path / "labels.tif")
    labels_of(padded, stopped, tmp_path / "labels.tif", resume=True)
    assert (0, 0) in indices
    remove_parts(tmp_path / "labels.tif")  # there are none


@pytest.mark.parametrize("change", ["image", "request", "no resume"])
def test_parts_of_another_request_are_not_resumed(
    change: str, padded: Predictor, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "image":
        write(stopped, noise(220, 150)[::-1], compress="deflate")
    indices = record_tiles(monkeypatch)
    request = {"model": "another"} if change == "request" else {}
    found = labels_of(padded, stopped, tmp_path / "l.tif", request=request)
    indices.clear()
    kept = labels_of(padded, stopped, tmp_path / "labels.tif", request=request, resume=change != "no resume")
    plan = padded.tile_planner.plan_windowed((220, 150))
    assert len(indices) == len(plan)
    np.testing.assert_array_equal(kept, found)


def test_progress_counts_parts(padded: Predictor, tmp_path: Path) -> None:
    tracked: list[tuple[float, float]] = []
    path = write(tmp_path / "x.tif", noise(100, 150))
    labels_of(padded, path, tmp_path / "l.tif", track=lambda *both: tracked.append(both))
    plan = padded.tile_planner.plan_windowed((100, 150))
    assert [done for done, _ in tracked] == list(range(1, len(plan) + 1))
    assert tracked[-1][0] == tracked[-1][1]


# What cannot be done.


def test_a_network_with_a_global_receptive_field_is_refused(make_model: Callable[..., Path], tmp_path: Path) -> None:
    network = NetworkConfig(name="unet", base_channels=8, depth=2, normalization="group")
    predictor = load(make_model(tmp_path / "m", network=network), device="cpu")
    with pytest.raises(InvalidArgumentError, match=r"The network depends on the whole image, .* Cut the image"):
        labels_of(predictor, write(tmp_path / "x.tif", noise(8, 8)), tmp_path / "l.tif")


def test_an_image_that_does_not_fit_the_model_is_named(padded: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"x\.tif: The image is uint16, but the model was trained on uint8"):
        labels_of(padded, write(tmp_path / "x.tif", noise(8, 8, dtype="uint16")), tmp_path / "l.tif")


def test_a_broken_window_is_an_error_with_its_place(padded: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(64, 64), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tif: The image cannot be decoded in rows \d+ to \d+, columns .*. Replace"):
        labels_of(padded, path, tmp_path / "l.tif")
    assert not (tmp_path / "l.tif").exists()


# Which images are read by windows.


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An image that counts as large."""
    monkeypatch.setattr(rasterio_reader, "WINDOWED_PIXELS", 50 * 60 - 1)
    (tmp_path / "photos").mkdir()
    return write(tmp_path / "photos" / "x.tif", noise(50, 60))


def test_large_tiffs_and_jpeg_2000_are_read_by_windows(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, png = large.with_name("small.tif"), large.with_name("large.png")
    tifffile.imwrite(small, noise(50, 59), photometric="rgb")
    Image.fromarray(noise(90, 90)).save(png)
    broken = large.with_name("broken.tif")
    broken.write_bytes(b"II*\0")
    assert needs_windows(large, True)
    scene = Path("nowhere.JP2")
    assert (needs_windows(scene, True), needs_windows(scene, False)) == (True, False)
    assert not any(needs_windows(path, True) for path in (small, broken))
    assert not isinstance(make_input(png, "large"), RasterInput)
    assert not needs_windows(large, False)  # it can be decoded as a whole
    monkeypatch.setattr(rasterio_reader, "has_rasterio", lambda: False)
    assert not any(needs_windows(path, True) for path in (large, scene))
    monkeypatch.setattr(rasterio_reader, "MAX_PIXELS", 50 * 60 - 1)
    assert needs_windows(large, False)


def test_predict_chooses_windows_by_itself(large: Path, models: dict[str, Path], tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30)).save(large.with_name("small.png"))
    report = predict(models["padded"], [large.parent], tmp_path / "out", device="cpu")
    assert [path.name for path in report.written] == ["small.png", "x.tif"]
    assert report.failures == ()
    expected = load(models["padded"], device="cpu").predict(noise(50, 60)).labels
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "x.tif"), expected)
    again = predict(models["padded"], [large.parent], tmp_path / "out", device="cpu", resume=True)
    assert again.skipped == 2


def test_outputs_without_windows_only_fail_for_large_images(
    large: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasterio_reader, "MAX_PIXELS", 50 * 60 - 1)
    Image.fromarray(noise(20, 30)).save(large.with_name("small.png"))
    report = predict(models["padded"], [large.parent], tmp_path / "out", save=["labels", "overlay"], device="cpu")
    assert [path.name for path in report.written] == ["small.png", "small_overlay.png"]
    ((path, reason),) = report.failures
    assert path == large
    assert "which only gives labels. Use --save labels without" in reason


@pytest.mark.parametrize(
    "option", [{"min_area": 9}, {"fill_holes": True}, {"label_values": "dataset"}, {"tiling": "none"}]
)
def test_options_for_whole_images_exclude_windows(
    option: dict[str, Any], large: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    report = predict(models["padded"], [large], tmp_path / "out", device="cpu", **option)
    assert [path.name for path in report.written] == ["x.png"]


# OME-Zarr and whole slides.


@pytest.mark.parametrize("axes", ["cyx", "tczyx"])
def test_an_ome_zarr_gives_what_its_pixels_give(axes: str, predictor: Predictor, tmp_path: Path) -> None:
    image = noise(150, 230)
    path = write_zarr(tmp_path / "x.ome.zarr", image, axes, version="0.4" if axes == "cyx" else "0.5")
    found = labels_of(predictor, path, tmp_path / "labels.zarr")
    np.testing.assert_array_equal(found, predictor.predict(image, tiling="none").labels)
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_label_zarr_has_the_position_of_the_image(version: str, padded: Predictor, tmp_path: Path) -> None:
    scale, translation = (1, 0.5, 0.25), (0, 10, 20)
    image = write_zarr(tmp_path / "x.zarr", noise(60, 70), version=version, scale=scale, translation=translation)
    labels_of(padded, image, tmp_path / "labels.zarr")
    attributes = pytest.importorskip("zarr").open_group(tmp_path / "labels.zarr", mode="r").attrs
    described = attributes["ome"] if version == "0.5" else attributes
    steps = described["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert [step[step["type"]] for step in steps] == [[0.5, 0.25], [10, 20]]
    assert [color["rgba"][:3] for color in described["image-label"]["colors"]] == COLORS


def test_a_slide_gives_what_its_pixels_give(predictor: Predictor, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    image = noise(150, 230)
    path = write_slide(tmp_path / "x.svs", image, missing=[(1, 2), (4, 7)])
    image[TILE : 2 * TILE, 2 * TILE : 3 * TILE] = 255
    image[4 * TILE :, 7 * TILE :] = 255
    expected = predictor.predict(image, tiling="none").labels
    expected[TILE : 2 * TILE, 2 * TILE : 3 * TILE] = 255
    expected[4 * TILE :, 7 * TILE :] = 255
    np.testing.assert_array_equal(labels_of(predictor, path, tmp_path / "labels.tif"), expected)


def test_windows_are_no_larger_than_planned(padded: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    real = ZarrRaster.read

    def spy(image: ZarrRaster, rows: slice, columns: slice) -> Array:
        found = real(image, rows, columns)
        read.append(found.shape[:2])
        return found

    monkeypatch.setattr(ZarrRaster, "read", spy)
    labels_of(padded, write_zarr(tmp_path / "x.zarr", noise(150, 230)), tmp_path / "labels.zarr")
    plan = padded.tile_planner.plan_windowed((150, 230))
    most = plan.max_input_size
    assert len(read) > 1
    assert all(height <= most[0] and width <= most[1] for height, width in read)
    assert most[0] * most[1] < 150 * 230


@pytest.mark.parametrize("when", ["in the rows", "as it was put together"])
def test_an_interrupted_zarr_is_resumed(
    when: str, padded: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = write_zarr(tmp_path / "x.zarr", noise(420, 40)), tmp_path / "labels.zarr"

    def stop(done: float, total: float) -> None:
        if when == "in the rows" and done > total / 2:
            raise StopError

    def stop_late(folder: Path, *rest: Any) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise StopError

    with monkeypatch.context() as stopping:
        stopping.setattr(ome_zarr, "write_label_zarr", stop_late)
        with pytest.raises(StopError):
            labels_of(padded, path, target, track=stop)
    assert not target.exists()
    indices = record_tiles(monkeypatch)
    found = labels_of(padded, path, target, resume=True)
    assert (0, 0) not in indices
    assert bool(indices) == (when == "in the rows")
    np.testing.assert_array_equal(found, padded.predict(noise(420, 40)).labels)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["labels.zarr", "x.zarr"]
    assert not (target / "half").exists()


def test_a_changed_zarr_is_not_resumed(padded: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = write_zarr(tmp_path / "x.zarr", noise(420, 40)), tmp_path / "labels.zarr"

    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise StopError

    with pytest.raises(StopError):
        labels_of(padded, path, target, track=stop)
    pytest.importorskip("zarr").open_group(path)["s0"][0, :9, :9] = 0
    indices = record_tiles(monkeypatch)
    labels_of(padded, path, target, resume=True)
    assert (0, 0) in indices


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with an image of each kind."""
    pytest.importorskip("openslide")
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.fromarray(noise(20, 30)).save(folder / "small.png")
    write_zarr(folder / "field.ome.zarr", noise(50, 60))
    write_slide(folder / "slide.svs", noise(50, 60))
    return folder


def test_zarrs_and_slides_are_predicted_with_images(mixed: Path, models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = predict(models["padded"], [mixed], out, device="cpu")
    assert report.failures == ()
    assert [path.name for path in report.written] == ["field.ome.zarr", "slide.tif", "small.png"]
    expected = load(models["padded"], device="cpu").predict(noise(50, 60)).labels
    for name in ("field.ome.zarr", "slide.tif"):
        np.testing.assert_array_equal(read_labels(out / name), expected)
    assert predict(models["padded"], [mixed], out, device="cpu", resume=True).skipped == 3
    again = predict(models["padded"], [mixed], out, device="cpu")  # overwrites them
    assert again.failures == ()
    np.testing.assert_array_equal(read_labels(out / "field.ome.zarr"), expected)
    predict(models["padded"], [mixed], out, device="cpu", precision="bf16", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["field.ome.zarr", "predict.json", "slide.tif", "small.png"]


def test_zarrs_and_slides_have_no_overlay(mixed: Path, models: dict[str, Path], tmp_path: Path) -> None:
    report = predict(models["padded"], [mixed], tmp_path / "out", save=["overlay"], device="cpu")
    assert [path.name for path in report.written] == ["small_overlay.png"]
    assert [path.name for path, _ in report.failures] == ["field.ome.zarr", "slide.svs"]
    assert all("which only gives labels" in reason for _, reason in report.failures)


def test_a_broken_zarr_does_not_stop_the_others(mixed: Path, models: dict[str, Path], tmp_path: Path) -> None:
    (mixed / "field.ome.zarr" / "zarr.json").write_text("{")
    (mixed / "file.zarr").touch()
    report = predict(models["padded"], [mixed], tmp_path / "out", device="cpu")
    assert [path.name for path in report.written] == ["slide.tif", "small.png"]
    assert all("cannot be read as Zarr" in reason for _, reason in report.failures)


def test_another_folder_is_never_replaced(mixed: Path, models: dict[str, Path], tmp_path: Path) -> None:
    foreign = write_zarr(tmp_path / "out" / "field.ome.zarr", noise(8, 8))
    with pytest.raises(InvalidArgumentError, match=r"ome\.zarr is a folder, which is never replaced. Move it"):
        predict(models["padded"], [mixed], tmp_path / "out", device="cpu", overwrite=True)
    assert (foreign / "s0").exists()


@pytest.mark.parametrize("inside", [".", "labels"])
def test_an_image_that_is_a_folder_is_not_written_into(
    inside: str, mixed: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    image = mixed / "field.ome.zarr"
    before = sorted(image.rglob("*"))
    with pytest.raises(InvalidArgumentError, match=r"is inside an input. Choose another one with -o"):
        predict(models["padded"], [image], image / inside, device="cpu")
    assert sorted(image.rglob("*")) == before


# Memory. Peaks come from /proc: the one that getrusage tells includes the process that started this one.

MEASURE = """
import json, sys
from pathlib import Path
from pixelwise.inference.predictor import load
from pixelwise.prediction.rasters import predict_raster
from pixelwise.output_files import OutputClaim, OutputManifest

predictor = load(sys.argv[1], device="cpu", precision="fp32")
claim = OutputClaim(folder=Path(sys.argv[3]).parent, stem=".pixelwise")
manifest = OutputManifest(claim=claim, name="predict.json", request={})
predict_raster(predictor, Path(sys.argv[2]), Path(sys.argv[3]), manifest=manifest)
lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps(int(lines["VmHWM"].split()[0]) * 1024))
"""

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")


def peak_of(model: Path, side: int, folder: Path) -> int:
    """Bytes that a process holds at most while it predicts an image of zeros, of side² pixels."""
    path, target = folder / f"{side}.tif", folder / f"{side}_labels.tif"
    with use_gdal(), rasterio.open(
        path, "w", height=side, width=side, count=3, dtype="uint8", tiled=True, sparse_ok="true", bigtiff="if_safer",
        compress="deflate",
    ):  # fmt: skip
        pass
    peak = measured(model, path, target)
    with use_gdal(), rasterio.open(target) as file:
        assert file.shape == (side, side)
    return peak


def peak_of_zarr(model: Path, side: int, folder: Path) -> int:
    """The same of an OME-Zarr."""
    zarr = pytest.importorskip("zarr")
    path, target = write_zarr(folder / f"{side}.zarr", noise(1, 1)), folder / f"{side}_labels.zarr"
    zarr.open_group(path).create_array(
        "s0", shape=(3, side, side), chunks=(1, 512, 512), dtype="uint8", fill_value=9, overwrite=True
    )
    peak = measured(model, path, target)
    assert zarr.open_group(target, mode="r")["0"].shape == (side, side)
    return peak


def measured(model: Path, path: Path, target: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, model, path, target], capture_output=True, text=True, check=True
    )
    return int(json.loads(done.stdout))


@pytest.fixture
def tiny(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "tiny", network=NetworkConfig(name="unet", base_channels=2, depth=1))


@on_linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tiny: Path, tmp_path: Path) -> None:
    assert peak_of(tiny, 20000, tmp_path) < 1.1 * peak_of(tiny, 5000, tmp_path)


@on_linux
@pytest.mark.slow
def test_memory_does_not_grow_with_a_zarr(tiny: Path, tmp_path: Path) -> None:
    # Threads allocate in another order each time, which moves the peak by several percent.
    small, large = (
        min(peak_of_zarr(tiny, side, tmp_path / f"{side}_{attempt}") for attempt in range(3)) for side in (5000, 9000)
    )
    assert large < 1.1 * small


@on_linux
@pytest.mark.slow
def test_an_image_of_30000_by_30000_takes_less_than_2_gb(tiny: Path, tmp_path: Path) -> None:
    assert peak_of(tiny, 30000, tmp_path) < 2e9
