"""Images and masks as GDAL writes them, at the same and at other places on the map."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pixelwise.checks.findings import Finding
from pixelwise.checks.runner import run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.joined_dataset import load_datasets
from pixelwise.data.rasters.rasterio_reader import use_gdal
from pixelwise.data.scan import scan_dataset

rasterio = pytest.importorskip("rasterio")

Array = npt.NDArray[Any]
PLACE = rasterio.Affine(10, 0, 500000, 0, -10, 5000000)
SIZE = (30, 40)


def draw(number: int) -> tuple[Array, Array]:
    """An image whose red channel is bright under the mask."""
    mask = np.zeros(SIZE, np.uint8)
    mask[3 + number : 12 + number, 5:20] = 1
    rng = np.random.default_rng(number)
    image = rng.integers(0, 100, (3, *SIZE)).astype(np.uint8)
    image[0] += mask * np.uint8(150)
    return image, mask


def save(path: Path, bands: Array, transform: Any, crs: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    with use_gdal(), rasterio.open(path, "w", driver="GTiff", transform=transform, crs=crs, **shape) as file:
        file.write(bands)


def write(
    root: Path,
    *,
    image_place: Any = PLACE,
    mask_place: Any = PLACE,
    image_crs: str | None = "EPSG:32633",
    mask_crs: str | None = "EPSG:32633",
    image_flips: tuple[int, ...] = (),
    mask_flips: tuple[int, ...] = (),
) -> Path:
    for number in range(4):
        image, mask = draw(number)
        save(root / f"images/{number}.tif", np.flip(image, [1 + axis for axis in image_flips]), image_place, image_crs)
        save(root / f"masks/{number}.tif", np.flip(mask, mask_flips)[None], mask_place, mask_crs)
    return root


def find(root: Path) -> dict[str, Finding]:
    findings = run_checks(scan_dataset(Dataset.load(root))).findings
    return {f.code: f for f in findings if f.code in ("misplaced_mask", "flipped_mask")}


def flip(axes: tuple[int, ...]) -> Any:
    """The place of an image whose rows (0) or columns (1) begin at the other end."""
    place = PLACE
    if 0 in axes:
        place = place @ rasterio.Affine(1, 0, 0, 0, -1, SIZE[0])
    if 1 in axes:
        place = place @ rasterio.Affine(-1, 0, SIZE[1], 0, 1, 0)
    return place


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask_place": PLACE @ rasterio.Affine.translation(0.5, -0.5)},
        {"mask_crs": None},
        {"image_crs": None, "mask_crs": None},
        {"image_crs": "EPSG:4326", "mask_crs": "EPSG:4326"},
        {"image_place": PLACE @ rasterio.Affine.rotation(30), "mask_place": PLACE @ rasterio.Affine.rotation(30)},
        {"mask_place": rasterio.Affine.identity(), "mask_crs": None},
    ],
    ids=["equal", "half a pixel", "no system of the mask", "no system", "degrees", "rotated", "no place of the mask"],
)
def test_the_same_place_has_no_finding(tmp_path: Path, options: dict[str, Any]) -> None:
    assert find(write(tmp_path, **options)) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mask_place": PLACE @ rasterio.Affine.translation(3, 0)},
            r"masks/0\.tif is at \(500030, 5000000\) to \(500430, 4999700\), "
            r"but its image at \(500000, 5000000\) to \(500400, 4999700\)",
        ),
        ({"mask_place": PLACE @ rasterio.Affine.translation(0, 1)}, r"is at \(500000, 4999990\)"),
        ({"mask_place": PLACE @ rasterio.Affine.scale(2)}, "in pixels of 20 x 20, .* in pixels of 10 x 10"),
        ({"mask_place": PLACE @ rasterio.Affine.scale(1.05)}, "in pixels of 10.5 x 10.5, .* in pixels of 10 x 10"),
        ({"mask_place": PLACE @ rasterio.Affine.rotation(30)}, r"is at \(500000, 5000000\)"),
        ({"mask_crs": "EPSG:32632"}, "in EPSG:32632, but its image at .* in EPSG:32633"),
        ({"mask_place": rasterio.Affine(1e-4, 0, 15, 0, -1e-4, 45), "mask_crs": "EPSG:4326"}, "x 0.0001, in EPSG:4326"),
        ({"mask_place": flip((0,)) @ rasterio.Affine.translation(0, 2), "mask_flips": (0,)}, r"\(500000, 4999720\)"),
    ],
    ids=["right", "down", "pixels", "slightly larger pixels", "rotated", "zone", "degrees", "south-up and elsewhere"],
)
def test_another_place_is_an_error_with_both_corners(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    finding = find(write(tmp_path, **options))["misplaced_mask"]
    assert finding.severity == "error"
    assert re.search(message, finding.message)
    assert finding.files == tuple(sorted(f"{kind}/{n}.tif" for kind in ("images", "masks") for n in range(4)))


def test_only_the_masks_at_fault_are_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    save(root / "masks/2.tif", draw(2)[1][None], PLACE @ rasterio.Affine.translation(9, 9), "EPSG:32633")
    assert find(root)["misplaced_mask"].files == ("images/2.tif", "masks/2.tif")


@pytest.mark.parametrize("image_flips", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("mask_flips", [(), (0,), (1,), (0, 1)])
def test_masks_are_brought_to_the_orientation_of_their_images(
    tmp_path: Path, image_flips: tuple[int, ...], mask_flips: tuple[int, ...]
) -> None:
    root = write(
        tmp_path,
        image_place=flip(image_flips),
        mask_place=flip(mask_flips),
        image_flips=image_flips,
        mask_flips=mask_flips,
    )
    found = find(root)
    if image_flips == mask_flips:
        assert found == {}
    else:
        assert found.keys() == {"flipped_mask"}
        assert found["flipped_mask"].files == tuple(f"masks/{number}.tif" for number in range(4))
    for number, (image, labels) in enumerate(Dataset.load(root)):
        np.testing.assert_array_equal(labels, np.flip(draw(number)[1], image_flips))
        assert ((image[..., 0] >= 150) == (labels == 1)).all()


def test_a_world_file_is_a_place_too(tmp_path: Path) -> None:
    root = write(tmp_path)
    for number in range(4):
        (root / f"masks/{number}.tif").unlink()
        write_png(root / f"masks/{number}.png", np.ascontiguousarray(draw(number)[1][::-1]))
        # The center of the first pixel, which is the southernmost one.
        (root / f"masks/{number}.pgw").write_text("10\n0\n0\n10\n500005\n4999705\n")
    assert find(root).keys() == {"flipped_mask"}
    for number, (_, labels) in enumerate(Dataset.load(root)):
        np.testing.assert_array_equal(labels, draw(number)[1])
    (root / "masks/2.pgw").write_text("10\n0\n0\n-10\n500105\n4999995\n")
    assert find(root)["misplaced_mask"].files == ("images/2.tif", "masks/2.png")


def test_masks_of_several_folders_are_flipped_once(tmp_path: Path) -> None:
    """Where names match by name, masks are read as labels of each folder first."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, names in zip(folders, ("[sky, tree]", "[tree, sky]"), strict=True):
        write(folder, mask_place=flip((0,)), mask_flips=(0,))
        (folder / "dataset.yaml").write_text(f"names: {names}")
    dataset = load_datasets(folders)
    for index, (image, labels) in enumerate(dataset):
        assert ((image[..., 0] >= 150) == (labels == (1 if index < 4 else 0))).all()


def test_the_fix_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the finding, for each mask of a label raster that was cut at another place."""
    from click.testing import CliRunner
    from rasterio.rio.main import main_group

    root = write(tmp_path, mask_place=PLACE @ rasterio.Affine.translation(4, 2))
    monkeypatch.chdir(root)
    match = re.search(r"'rio (warp [^']*)' \(pip install rasterio\)", find(root)["misplaced_mask"].fix)
    assert match is not None
    for number in range(4):
        command = shlex.split(match[1].replace("/0.tif", f"/{number}.tif"))
        assert CliRunner().invoke(main_group, command, catch_exceptions=False).exit_code == 0
        (root / "new.tif").replace(root / f"masks/{number}.tif")
    assert find(root) == {}
    for number, (_, labels) in enumerate(Dataset.load(root)):
        expected = np.full(SIZE, 255)
        expected[2:, 4:] = draw(number)[1][:-2, :-4]
        np.testing.assert_array_equal(labels, expected)


def test_the_fix_uses_a_value_that_is_no_class(tmp_path: Path) -> None:
    root = write(tmp_path, mask_place=PLACE @ rasterio.Affine.translation(4, 2))
    (root / "dataset.yaml").write_text("names: [a, b, c]\nlabel_mapping: {0: 0, 1: 1, 255: 2}")
    assert "--src-nodata 254 --dst-nodata 254" in find(root)["misplaced_mask"].fix
