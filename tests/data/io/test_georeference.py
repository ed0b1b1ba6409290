from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pixelwise.data.io.georeference import Georeference, read_georeference
from pixelwise.data.io.images import write_png

SCALE = (33550, 12, 3, (0.5, 2.0, 0.0))
TIE = (33922, 12, 6, (10.0, 20.0, 0.0, 1000.0, 5000.0, 0.0))


def keys(*pairs: tuple[int, int]) -> tuple[int, int, int, tuple[int, ...]]:
    entries = [number for key, value in pairs for number in (key, 0, 1, value)]
    return 34735, 3, 4 + len(entries), (1, 1, 0, len(pairs), *entries)


def read(path: Path, *tags: Any) -> Georeference | None:
    extratags = [(*tag, True) for tag in tags]
    tifffile.imwrite(path, np.zeros((4, 6), np.uint8), photometric="minisblack", extratags=extratags)
    with path.open("rb") as file:
        return read_georeference(file)


def test_scale_and_tie_point(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((1025, 1), (3072, 32633)))
    assert found is not None
    assert found.to_map(10, 20) == (1000.0, 5000.0)
    assert found.to_map(12, 21) == (1001.0, 4998.0)
    assert (found.epsg, found.pixel_area) == (32633, 1.0)


def test_coordinates_of_centers_are_shifted_by_half_a_pixel(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((1025, 2), (2048, 4326)))
    assert found is not None
    assert found.to_map(10.5, 20.5) == (1000.0, 5000.0)
    assert found.epsg == 4326


def test_a_transformation_may_rotate(tmp_path: Path) -> None:
    matrix = (0.0, 3.0, 0.0, 100.0, 2.0, 0.0, 0.0, 200.0, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0)
    found = read(tmp_path / "a.tif", (34264, 12, 16, matrix))
    assert found is not None
    assert found.to_map(1, 2) == (106.0, 202.0)
    assert (found.epsg, found.pixel_area) == (None, 6.0)


def test_a_custom_reference_system_has_no_code(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((3072, 32767)))
    assert found is not None
    assert found.epsg is None


@pytest.mark.parametrize(
    "tags",
    [
        (),
        (TIE,),
        (SCALE,),
        (SCALE, (33922, 12, 12, TIE[3] * 2)),
        ((33550, 12, 3, (0.0, 1.0, 0.0)), TIE),
        (SCALE, TIE, (274, 3, 1, 3)),
    ],
    ids=["plain", "no scale", "no tie point", "control points", "no width", "not upright"],
)
def test_rotated_images_and_control_points_have_no_georeference(tmp_path: Path, tags: tuple[Any, ...]) -> None:
    assert read(tmp_path / "a.tif", *tags) is None


def test_other_images_have_no_georeference(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((1, 1), np.uint8))
    with (tmp_path / "a.png").open("rb") as file:
        assert read_georeference(file) is None
