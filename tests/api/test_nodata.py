"""Missing data from the dataset to the labels: a value in dataset.yaml is as good as one in the files."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import yaml
from PIL import Image

from pixelwise.api import convert, evaluate, predict, train
from pixelwise.data.dataset import Dataset
from pixelwise.data.scan import compute_normalization, scan_dataset
from pixelwise.errors import DataError
from pixelwise.inference.predictor import load
from pixelwise.model_file import load_model
from pixelwise.prediction.rasters import predict_raster
from support.predictions import make_manifest

CASES = Path(__file__).parents[1] / "cases"

Arguments = dict[str, Any]
Array = npt.NDArray[Any]


def copy_case(name: str, folder: Path) -> Path:
    return shutil.copytree(CASES / name, folder / name)


@pytest.fixture(scope="module")
def undeclared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float images of which every second has -9999 in some columns, as dataset.yaml says."""
    root = copy_case("81-gtiff-nodata-undeclared", tmp_path_factory.mktemp("nodata"))
    (root / "dataset.yaml").write_text("nodata: -9999")
    return root


@pytest.fixture(scope="module")
def short(tiny: Arguments) -> Arguments:
    return tiny | {
        "steps": 2,
        "settings": tiny["settings"] | {"data.crop_size": [64, 64], "training.num_evaluations": 1},
    }


@pytest.fixture(scope="module")
def model(undeclared: Path, short: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(undeclared, tmp_path_factory.mktemp("runs") / "model", **short).run


def test_a_declared_and_an_undeclared_value_give_the_same_data(undeclared: Path, tmp_path: Path) -> None:
    declared = Dataset.load(copy_case("80-gtiff-nodata-declared", tmp_path))
    for (image, labels), (expected, expected_labels) in zip(Dataset.load(undeclared), declared, strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(labels, expected_labels)
    first, second = (scan_dataset(dataset) for dataset in (Dataset.load(undeclared), declared))
    for one, other in zip(first.stats, second.stats, strict=True):
        for name in ("mean", "square_mean", "num_valid", "low", "high", "thumbnail"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert (one.value_counts, one.suspects) == (other.value_counts, {})
    assert compute_normalization(first, first.samples) == compute_normalization(second, second.samples)


def test_a_declared_and_an_undeclared_value_give_the_same_model(model: Path, short: Arguments, tmp_path: Path) -> None:
    """And an undeclared value without dataset.yaml is refused."""
    declared = train(copy_case("80-gtiff-nodata-declared", tmp_path), tmp_path / "run", **short).run
    (one, spec), (other, expected) = load_model(model), load_model(declared)
    assert spec.nodata.to_plain() == [-9999]
    assert (spec.mean, spec.std, spec.scores) == (expected.mean, expected.std, expected.scores)
    for name, weights in other.state_dict().items():
        np.testing.assert_array_equal(one.state_dict()[name].numpy(), weights.numpy())
    message = (
        r"4 images with the value -9999, .* Write 'nodata: -9999' into a new file dataset\.yaml in the dataset folder\."
    )
    with pytest.raises(DataError, match=message):
        train(copy_case("81-gtiff-nodata-undeclared", tmp_path), tmp_path / "refused", **short)


def test_the_model_knows_the_value_where_dataset_yaml_is_absent(model: Path, undeclared: Path, tmp_path: Path) -> None:
    bare = copy_case("81-gtiff-nodata-undeclared", tmp_path)
    one, other = (evaluate(model, data, split="val", device="cpu") for data in (undeclared, bare))
    assert one.confusion == other.confusion
    dataset = Dataset.load(undeclared)
    held_out = yaml.safe_load((model / "splits.yaml").read_text())["val"]
    labels = [dataset.read(sample)[1] for sample in dataset.samples if sample.name in held_out]
    assert np.sum(one.confusion) == sum(int((label != 255).sum()) for label in labels)
    assert any((label == 255).any() for label in labels)


def test_files_windows_and_arrays_have_the_same_missing_pixels(model: Path, undeclared: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    predictor = load(model, device="cpu", precision="fp32")
    predict(model, [undeclared / "images"], tmp_path / "out", device="cpu", precision="fp32")
    for sample in Dataset.load(undeclared).samples:
        stored = tifffile.imread(sample.image_path)
        missing = (stored == -9999).all(2)
        expected = predictor.predict(stored).labels
        expected[missing] = 255
        (written,) = (tmp_path / "out").glob(f"{sample.name}.*")
        np.testing.assert_array_equal(_read_stored(written), expected)
        manifest = make_manifest(tmp_path, {})
        predict_raster(predictor, sample.image_path, tmp_path / "windows.tif", manifest=manifest)
        np.testing.assert_array_equal(_read_stored(tmp_path / "windows.tif"), expected)


def _read_stored(path: Path) -> Array:
    """Read a label file without giving a nodata value a meaning."""
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


def test_missing_pixels_belong_to_no_class_in_any_output(model: Path, undeclared: Path, tmp_path: Path) -> None:
    kinds = ["labels", "overlay", "table", "polygons", "labelme", "coco", "cvat", "confidence"]
    image = undeclared / "images/001.tif"
    report = predict(model, [image], tmp_path, save=kinds, min_area=9, fill_holes=True, device="cpu")
    assert report.failures == ()
    missing = (tifffile.imread(image) == -9999).all(2)
    with (tmp_path / "table.csv").open() as file:
        pixels = sum(int(row["pixels"]) for row in csv.DictReader(file))
    assert pixels == (~missing).sum()
    features = json.loads((tmp_path / "001.geojson").read_text())["features"]
    assert sum(feature["properties"]["pixels"] for feature in features) == pixels
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"]


def test_label_values_of_the_dataset_have_an_ignored_value(model: Path, undeclared: Path, tmp_path: Path) -> None:
    image = undeclared / "images/001.tif"
    predict(model, [image], tmp_path, label_values="dataset", device="cpu")
    (written,) = tmp_path.glob("001.*")
    missing = (tifffile.imread(image) == -9999).all(2)
    np.testing.assert_array_equal(_read_stored(written) == 255, missing)


@pytest.mark.parametrize("to", ["folder", "coco", "yolo", "webdataset", "voc"])
def test_a_converted_dataset_has_the_same_values(undeclared: Path, tmp_path: Path, to: str) -> None:
    if to == "coco":
        pytest.importorskip("pycocotools")
    converted = Dataset.load(convert(undeclared, tmp_path / "out", to=to).output)
    first, second = scan_dataset(Dataset.load(undeclared)), scan_dataset(converted)
    assert compute_normalization(first, first.samples) == compute_normalization(second, second.samples)
    for (image, labels), (expected, expected_labels) in zip(converted, Dataset.load(undeclared), strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(labels == 255, expected_labels == 255)
