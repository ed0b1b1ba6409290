"""Values of missing data that no file declares: found, and the fix followed as it is printed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from pixelwise.checks.runner import run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.scan import scan_dataset

Array = npt.NDArray[Any]
NAN, INF = float("nan"), float("inf")
GONE = np.s_[:, 14:]
CODES = {"undeclared_nodata", "not_finite"}


def write(root: Path, images: list[Array]) -> Path:
    for number, image in enumerate(images):
        mask = np.zeros((20, 20), np.uint8)
        mask[number + 2 : number + 9, 3:9] = 1
        write_png(root / f"masks/{number}.png", mask)
        (root / "images").mkdir(exist_ok=True)
        form = {"planarconfig": "contig"} if image.ndim == 3 else {}
        tifffile.imwrite(root / f"images/{number}.tif", image, photometric="minisblack", **form)
    return root


def draw(low: float, high: float, dtype: Any, channels: int = 1) -> list[Array]:
    """Four images with values in a range."""
    rng = np.random.default_rng(0)
    shape = (20, 20, channels) if channels > 1 else (20, 20)
    return [(rng.random(shape) * (high - low) + low).astype(dtype) for _ in range(4)]


def find(root: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return the files and the fix of each finding about missing data."""
    report = run_checks(scan_dataset(Dataset.load(root)))
    return {f.code: (f.files, f.fix) for f in report.findings if f.code in CODES}


def paste_line(root: Path, fix: str) -> None:
    """Follow a fix: write its line into dataset.yaml."""
    match = re.search(r"[Ww]rite '(nodata: [^']+)' into (?:a new file )?dataset\.yaml", fix)
    assert match is not None
    (root / "dataset.yaml").write_text(match[1], encoding="utf-8")


@pytest.mark.parametrize(
    ("images", "value", "line"),
    [
        (draw(0, 1, np.float32), -9999, "nodata: -9999"),
        (draw(0, 1, np.float32), -3.4028234663852886e38, "nodata: -3.4028235e+38"),
        (draw(0, 1, np.float32), -3.4e38, "nodata: -3.4e+38"),
        (draw(0, 1, np.float32), 1e20, "nodata: 1e+20"),
        (draw(0, 1, np.float32), 9.969209968386869e36, "nodata: 9.96921e+36"),
        (draw(0, 1, np.float32), -1e10, "nodata: -10000000000"),
        (draw(0, 1, np.float32), 1e10, "nodata: 10000000000"),
        (draw(0, 1, np.float32), -99, "nodata: -99"),
        (draw(280, 310, np.float32), -9999, "nodata: -9999"),
        (draw(-430, 8800, np.float32), -9999, "nodata: -9999"),
        (draw(-8000, -10, np.float32), -9999, "nodata: -9999"),
        (draw(-40, 10, np.float32), -32768, "nodata: -32768"),
        (draw(0, 1, np.float64), -9999, "nodata: -9999"),
        (draw(0, 1, np.float64), -1.7976931348623157e308, "nodata: -inf"),
        (draw(0, 1, np.float16), -999, "nodata: -999"),
        (draw(0, 9000, np.int16), -32768, "nodata: -32768"),
        (draw(0, 9000, np.int16), -9999, "nodata: -9999"),
        (draw(0, 100, np.int16), -28672, "nodata: -28672"),
        (draw(0, 9000, np.int32), -(2**31), "nodata: -2147483648"),
        (draw(0, 9000, np.int32), 2**31 - 1, "nodata: 2147483648"),
        (draw(0, 9000, np.uint32), 2**32 - 1, "nodata: 4294967296"),
        (draw(0, 1, np.float32), NAN, "nodata: nan"),
        (draw(0, 1, np.float32), INF, "nodata: inf"),
        (draw(0, 1, np.float32), -INF, "nodata: -inf"),
        (draw(0, 1, np.float32, channels=3), -9999, "nodata: -9999"),
    ],
)
def test_a_value_is_found_with_the_line_to_paste(tmp_path: Path, images: list[Array], value: float, line: str) -> None:
    for number in (1, 3):
        images[number] = images[number].copy()
        images[number][GONE] = value
    root = write(tmp_path, images)
    ((code, (files, fix)),) = find(root).items()
    assert code == ("not_finite" if "nan" in line or "inf" in line else "undeclared_nodata")
    assert files == ("images/1.tif", "images/3.tif")
    paste_line(root, fix)
    assert (root / "dataset.yaml").read_text() == line
    assert find(root) == {}
    dataset = Dataset.load(root)
    for sample in dataset.samples:
        image, labels = dataset.read(sample)
        assert np.isfinite(image).all()
        assert (labels[GONE] == 255).all() == (sample.name in "13")
        assert (labels[:, :14] != 255).all()


def test_several_values_are_in_one_line(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32)
    images[0][GONE], images[1][GONE], images[2][GONE] = -9999, NAN, -32768
    root = write(tmp_path, images)
    found = find(root)
    assert found["undeclared_nodata"][0] == ("images/0.tif", "images/2.tif")
    assert found["not_finite"][0] == ("images/1.tif",)
    for _, fix in found.values():
        assert "'nodata: [-32768, -9999, nan]'" in fix
    paste_line(root, found["not_finite"][1])
    assert find(root) == {}


def test_a_value_that_is_left_over_joins_those_of_dataset_yaml(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32, channels=2)
    images[0][GONE], images[1][GONE] = -9999, NAN
    root = write(tmp_path, images)
    (root / "dataset.yaml").write_text("nodata: {1: -9999, 2: -9999}")
    assert "'nodata: {1: [-9999, nan], 2: [-9999, nan]}'" in find(root)["not_finite"][1]


def test_one_pixel_far_enough_is_found(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32)
    images[2][0, 0] = -3.4028234663852886e38
    assert find(write(tmp_path, images))["undeclared_nodata"][0] == ("images/2.tif",)


def test_an_image_of_one_value_only_is_found(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32)
    images[2][...] = -9999
    assert find(write(tmp_path, images))["undeclared_nodata"][0] == ("images/2.tif",)


def test_a_declared_value_is_not_reported(tmp_path: Path) -> None:
    root = write(tmp_path, draw(0, 1, np.float32))
    image = draw(0, 1, np.float32)[0]
    image[GONE] = -9999
    tifffile.imwrite(root / "images/0.tif", image, extratags=[(42113, "s", 0, "-9999", True)])
    assert find(root) == {}


def test_an_empty_list_says_that_every_value_is_data(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32)
    images[0][GONE] = -9999
    root = write(tmp_path, images)
    assert "If the value is data, write 'nodata: []'" in find(root)["undeclared_nodata"][1]
    (root / "dataset.yaml").write_text("nodata: []")
    assert find(root) == {}
    assert Dataset.load(root)[0][0].min() == -9999


def saturate(images: list[Array], *values: float) -> list[Array]:
    """Fill an area of every image with each value."""
    for image in images:
        for number, value in enumerate(values):
            image[5 * number : 5 * number + 5, 15:] = value
    return images


@pytest.mark.parametrize(
    "make",
    [
        lambda: saturate(draw(50, 60, np.uint8), 0, 255),
        lambda: saturate(draw(1000, 1200, np.uint16), 0, 65535),
        lambda: saturate(draw(1000, 1200, np.uint16), 55537),
        lambda: saturate(draw(0.4, 0.6, np.float32), 0, 1, -1),
        lambda: saturate(draw(100, 120, np.float32), 0, 255),
        lambda: saturate(draw(100, 120, np.float32), 65535),
        lambda: saturate(draw(280, 310, np.float32), 0),
        lambda: saturate(draw(-200, 200, np.int16), 32767),
        lambda: saturate(draw(-32760, 32760, np.int16), -32768, 32767),
        lambda: saturate(draw(-20, 5, np.float32), -100),  # decibels of nothing
        lambda: saturate(draw(-1024, 3000, np.int16), -2000),  # around the round field of a CT
        lambda: saturate(draw(-12000, 3000, np.int16), -9999),  # a depth of the sea
        lambda: saturate(draw(0, 10980, np.int16), 9999),
        lambda: [*draw(0, 1, np.float32)[:3], np.full((20, 20), 5, np.float32)],
        lambda: [np.where(image > 0.5, 1, 0).astype(np.float32) for image in draw(0, 1, np.float32)],
        lambda: [np.where(image > 0.5, 0, -7).astype(np.float32) for image in draw(0, 1, np.float32)],
        lambda: [np.exp(60 * image) for image in draw(-1, 1, np.float32)],
        lambda: [np.random.default_rng(4).standard_cauchy((20, 20)).astype(np.float32)] * 4,
    ],
)
def test_data_is_not_reported(tmp_path: Path, make: Callable[[], list[Array]]) -> None:
    assert find(write(tmp_path, make())) == {}


def test_a_value_inside_the_range_of_other_images_is_data(tmp_path: Path) -> None:
    images = draw(0, 1, np.float32)
    images[0][GONE] = -9999
    images[1][...] = np.linspace(-12000, 0, 400).reshape(20, 20)
    assert find(write(tmp_path, images)) == {}
