"""The keys and columns that the documents list are those of the files."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import pixelwise as pw
from pixelwise.data.io.images import write_png
from support.small_datasets import pairs

DOCS = Path(__file__).resolve().parents[1] / "docs"


def read_rows(page: str, heading: str) -> dict[str, set[str]]:
    """Return the first cell of each row of the first table with this heading, and the words of code in the second."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = lines.index(heading) + 2
    end = next(number for number, line in enumerate(lines) if number > start and not line.startswith("|"))
    cells = [line.strip("| ").split(" | ", 1) for line in lines[start:end]]
    return {first: set(re.findall(r"`(\w+)`", second)) for first, second in cells}


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("keys") / "m", classes={"names": ["road", "sky"]})


def write_images(folder: Path) -> Path:
    """Write an image, one with a place on the map, and one whose coordinate system has no code."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), np.uint8)
    write_png(folder / "plain.png", pixels)
    place = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 100.0, 200.0, 0.0), True)]
    code = [(34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32632), True)]
    tifffile.imwrite(folder / "placed.tif", pixels, photometric="rgb", extratags=[*place, *code])
    tifffile.imwrite(folder / "unnamed.tif", pixels, photometric="rgb", extratags=place)
    return folder


def test_outputs_of_predict(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save: Any = ["polygons", "table", "probabilities", "probabilities-tiff", "overlay"]
    pw.predict(model, write_images(tmp_path / "in"), out, save=save, device="cpu")
    polygons = {name: json.loads((out / f"{name}.geojson").read_text()) for name in ("plain", "placed", "unnamed")}
    properties = {name: set(content["features"][0]["properties"]) for name, content in polygons.items()}
    assert properties["placed"] == properties["unnamed"] == properties["plain"] | {"area"}
    assert set(polygons["placed"]) == {*polygons["plain"], "crs"}
    assert set(polygons["unnamed"]) == set(polygons["plain"])
    with (out / "table.csv").open() as file:
        columns = next(csv.reader(file))
    with np.load(out / "plain_probabilities.npz") as arrays, tifffile.TiffFile(out / "plain_probabilities.tif") as tiff:
        array_names, description = set(arrays.files), json.loads(tiff.pages[0].description)
    manifest = json.loads((out / "predict.json").read_text())
    assert read_rows("outputs.md", "| File | Keys or columns |") == {
        "`table.csv`": set(columns),
        "`STEM.geojson`": set(polygons["placed"]),
        "properties of each feature": properties["placed"],
        "`STEM_probabilities.npz`": array_names,
        "description of `STEM_probabilities.tif`": set(description),
        "`predict.json`": set(manifest),
        "each request": {key for request in manifest["requests"].values() for key in request},
        "each file": {key for record in manifest["files"] for key in record},
    }


def test_scores_of_evaluate(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["val"])
    pw.evaluate(model, data, choose_threshold="dice", json_path=tmp_path / "s.json", device="cpu")
    scores = json.loads((tmp_path / "s.json").read_text())
    page = (DOCS / "evaluate.md").read_text(encoding="utf-8")
    tables = [set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
              for table in re.findall(r"\| Key \| Meaning \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page)]  # fmt: skip
    assert tables[0] == set(scores) - {"written_by"}
    assert tables[1] == set(scores["binary"])
    (row,) = re.findall(r"\| `per_class` \| name → (.*) \|", page)
    assert set(re.findall(r"`(\w+)`", row)) == set(scores["per_class"]["sky"])


def test_findings_of_check(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train"])
    (data / "masks/train/a.png").unlink()
    pw.check(data, json_path=tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    page = (DOCS / "check.md").read_text(encoding="utf-8")
    (keys,) = re.findall(r"writes all findings with all file names \((.*?)\)", page, re.DOTALL)
    found = {*content, *content["findings"][0]} - {"written_by"}
    assert set(re.findall(r"`(\w+)`", keys)) == found


def test_a_missing_key_would_be_noticed() -> None:
    rows = read_rows("outputs.md", "| File | Keys or columns |")
    assert rows["properties of each feature"] == {"class", "color", "pixels", "area"}
