import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import read_image, read_mask, write_png
from pixelwise.data.io.video import open_video
from pixelwise.errors import DataError, InvalidArgumentError, PathAccessError, PathNotFoundError
from pixelwise.inference.predictor import load
from pixelwise.model_file import load_model, save_model
from pixelwise.prediction import output_writer as home
from pixelwise.prediction.inputs import Input, find_inputs
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles
from pixelwise.prediction.outputs import ENCODERS
from pixelwise.prediction.postprocess import postprocess_labels
from pixelwise.prediction.predict import LocalExecutor, predict_files, take_share
from pixelwise.prediction.result import PredictReport
from pixelwise.progress import use_reporter
from support.films import write_film


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("predict") / "m")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images in two folders, a text beside them, and hidden files."""
    root = tmp_path / "photos"
    for name in ("one.png", "trip/two.v2.png", "trip/deep/one.png", ".cache/x.png", "trip/.y.png"):
        rng = np.random.default_rng(len(name))
        write_png(root / name, rng.integers(0, 255, (9, 13, 3), np.uint8))
    (root / "notes.txt").write_text("not an image")
    (root / "odd.png").mkdir()
    return root


def found(folder: Path) -> list[str]:
    """All results; the description of the job is no result."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in files if name != "predict.json")


def test_a_file_is_labeled(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = predict(model, [photos / "one.png"], out, device="cpu")
    assert report.written == (out / "one.png",)
    assert report.failures == ()
    expected = load(model, device="cpu").predict(read_image(photos / "one.png")).labels
    np.testing.assert_array_equal(read_mask(out / "one.png"), expected)


def test_a_folder_is_searched_and_its_structure_kept(model: Path, photos: Path, tmp_path: Path) -> None:
    report = predict(model, [photos], tmp_path / "out", device="cpu")
    assert found(tmp_path / "out") == ["one.png", "trip/deep/one.png", "trip/two.v2.png"]
    assert report.failures == ()


def test_a_pattern_finds_the_images_that_match(model: Path, photos: Path, tmp_path: Path) -> None:
    predict(model, [f"{photos}/*.*"], tmp_path / "out", device="cpu")
    assert found(tmp_path / "out") == ["one.png"]  # and neither notes.txt nor the folder odd.png


def test_a_recursive_pattern_keeps_the_structure(photos: Path) -> None:
    stems = [item.stem.as_posix() for item in find_inputs([f"{photos}/**"])]
    assert sorted(stems) == ["one", "trip/deep/one", "trip/two.v2"]


def test_a_folder_that_a_pattern_matches_is_searched(photos: Path) -> None:
    stems = [item.stem.as_posix() for item in find_inputs([f"{photos}/tr*"])]
    assert sorted(stems) == ["deep/one", "two.v2"]


def test_a_file_named_like_a_pattern_is_itself(photos: Path) -> None:
    write_png(photos / "a[1].png", np.zeros((2, 2, 3), np.uint8))
    assert [item.path.name for item in find_inputs([photos / "a[1].png"])] == ["a[1].png"]


def test_an_image_given_twice_is_done_once(photos: Path) -> None:
    assert len(find_inputs([photos / "one.png", photos / "one.png", f"{photos}/o*.png"])) == 1


def test_the_order_of_the_inputs_does_not_matter(photos: Path) -> None:
    assert find_inputs([photos / "one.png", photos / "trip"]) == find_inputs([photos / "trip", photos / "one.png"])


def test_each_output_has_its_own_name(model: Path, photos: Path, tmp_path: Path) -> None:
    kinds = ["labels", "overlay", "probabilities", "labels"]
    report = predict(model, [photos / "one.png"], tmp_path / "out", save=kinds, device="cpu")
    assert found(tmp_path / "out") == ["one.png", "one_overlay.png", "one_probabilities.npz"]
    assert [path.name for path in report.written] == ["one.png", "one_overlay.png", "one_probabilities.npz"]


def test_two_inputs_of_one_name_fail_and_the_others_are_predicted(model: Path, photos: Path, tmp_path: Path) -> None:
    inputs = [photos / "one.png", photos / "trip" / "deep" / "one.png"]
    report = predict(model, [*inputs, photos / "trip" / "two.v2.png"], tmp_path / "out", device="cpu")
    first, second = (reason for _, reason in report.failures)
    assert first.startswith(f"{inputs[0]} is not predicted, because {inputs[1]} would also be written to one.png. Re")
    assert second.startswith(f"{inputs[1]} is not predicted, because {inputs[0]} would also be written to one.png. Re")
    assert found(tmp_path / "out") == ["two.v2.png"]


def test_one_stem_of_two_endings_is_not_predicted(model: Path, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "one.bmp")
    report = predict(model, [photos], tmp_path / "out", device="cpu")
    assert {path.name for path, _ in report.failures} == {"one.bmp", "one.png"}
    assert found(tmp_path / "out") == ["trip/deep/one.png", "trip/two.v2.png"]


def test_outputs_of_two_kinds_that_collide_are_not_written(model: Path, photos: Path, tmp_path: Path) -> None:
    write_png(photos / "one_overlay.png", np.zeros((2, 2, 3), np.uint8))
    report = predict(model, [photos], tmp_path / "out", save=["labels", "overlay"], device="cpu")
    assert {path.name for path, _ in report.failures} == {"one_overlay.png", "one.png"}
    assert all("would also be written to one_overlay.png" in reason for _, reason in report.failures)


def test_an_output_never_replaces_an_input(model: Path, photos: Path) -> None:
    before = (photos / "one.png").read_bytes()
    with pytest.raises(InvalidArgumentError, match=r"The labels output of .*one\.png would replace the image"):
        predict(model, [photos / "one.png"], photos, device="cpu")
    assert (photos / "one.png").read_bytes() == before
    assert predict(model, [photos / "one.png"], photos, save=["overlay"], device="cpu").failures == ()


def test_a_bad_file_is_listed_and_the_others_are_predicted(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    write_png(photos / "deep16.png", np.zeros((3, 3), np.uint16))
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    report = predict(model, [photos], tmp_path / "out", device="cpu")
    failed = {path.name: reason for path, reason in report.failures}
    assert set(failed) == {"broken.png", "deep16.png", "gone.png"}
    assert "broken.png" in failed["broken.png"]
    assert "The image is uint16" in failed["deep16.png"]
    assert found(tmp_path / "out") == ["one.png", "trip/deep/one.png", "trip/two.v2.png"]


def test_a_named_file_that_is_not_an_image_is_listed(model: Path, photos: Path, tmp_path: Path) -> None:
    report = predict(model, [photos / "notes.txt", photos / "one.png"], tmp_path / "out", device="cpu")
    assert [path.name for path, _ in report.failures] == ["notes.txt"]
    assert len(report.written) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that is not writable")
def test_a_folder_that_is_not_writable_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(PathAccessError, match=r"out cannot be written to \(permission denied\)"):
        predict(model, [photos / "one.png"], out, device="cpu")


def test_a_link_to_nothing_is_listed(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    report = predict(model, [photos / "gone.png"], tmp_path / "out", device="cpu")
    assert len(report.failures) == 1


@pytest.mark.parametrize("given", ["nothing.png", "*.tif", "empty"])
def test_inputs_without_images_are_an_error(model: Path, tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    error = PathNotFoundError if given == "nothing.png" else InvalidArgumentError
    with pytest.raises(error, match=r"No images found at .* Expected an image, a video, a folder"):
        predict(model, [tmp_path / given], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_an_unknown_output_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown value for save: 'label'\. Did you mean 'labels'"):
        predict(model, [photos], tmp_path / "out", save=["label"], device="cpu")


def test_an_empty_list_of_outputs_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Nothing to save. Choose from: coco, confidence, .*, table"):
        predict(model, [photos], tmp_path / "out", save=[], device="cpu")


def test_unknown_label_values_are_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="Unknown value for label_values: 'color'"):
        predict(model, [photos], tmp_path / "out", label_values="color", device="cpu")  # type: ignore[arg-type]


def test_a_missing_model_writes_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="does not exist"):
        predict(tmp_path / "gone", [photos], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_progress_counts_every_input(model: Path, photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    class Counting:
        def log(self, message: str) -> None: ...

        def track(self, label: str, done: float, total: float, note: str = "") -> None:
            seen.append((done, total))

    (photos / "broken.png").write_bytes(b"x")
    with use_reporter(Counting()):
        predict(model, [photos], tmp_path / "out", device="cpu")
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_write_errors_are_listed_in_order(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing happens in threads; order and reasons are those of one after the other."""
    whole = ENCODERS["labels"][1]

    def fail_deep(path: Path, *arguments: Any) -> bytes:
        if "deep" in path.parts:
            raise OSError("the disk is full")
        return whole(path, *arguments)

    monkeypatch.setitem(ENCODERS, "labels", (".png", fail_deep))
    for behind in (0, 8):
        monkeypatch.setattr(home, "MAX_PENDING", behind)
        report = predict(model, [photos], tmp_path / f"out{behind}", device="cpu", precision="bf16")
        names = [path.relative_to(tmp_path / f"out{behind}").as_posix() for path in report.written]
        assert names == ["one.png", "trip/two.v2.png"]
        assert [(path.parent.name, reason) for path, reason in report.failures] == [("deep", "the disk is full")]


# What all outputs are made of, and going on


@pytest.fixture(scope="module")
def noisy(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of cells whose labels are full of specks."""
    classes = {"names": ["background", "cell", "nucleus"]}
    return make_model(tmp_path_factory.mktemp("predict") / "noisy", classes=classes, seed=10)


ALL = ["labels", "overlay", "confidence", "polygons", "labelme", "coco", "cvat", "table"]


def test_all_outputs_of_a_folder(noisy: Path, photos: Path, tmp_path: Path) -> None:
    report = predict(noisy, [photos], tmp_path / "out", save=ALL, device="cpu")
    names = found(tmp_path / "out")
    assert len(names) == 5 * 3 + 3
    assert {"coco.json", "cvat.xml", "table.csv", "trip/two.v2_confidence.png", "trip/deep/one.geojson"} <= set(names)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in report.written) == names
    images = json.loads((tmp_path / "out" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["one.png", "trip/deep/one.png", "trip/two.v2.png"]


def test_annotation_files_are_read_back_as_the_labels(noisy: Path, photos: Path, tmp_path: Path) -> None:
    predict(noisy, [photos], tmp_path / "out", save=["labels", "cvat"], min_area=4, device="cpu")
    (tmp_path / "set").mkdir()
    shutil.copytree(photos, tmp_path / "set" / "images", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(tmp_path / "out" / "cvat.xml", tmp_path / "set")
    dataset = Dataset.load(tmp_path / "set")
    assert dataset.classes.names == ("background", "cell", "nucleus")
    for sample in dataset.samples:
        inner = sample.image_path.relative_to(tmp_path / "set" / "images")
        np.testing.assert_array_equal(dataset.read(sample)[1], read_mask(tmp_path / "out" / inner))


@pytest.mark.parametrize("options", [{}, {"opacity": 0.9}, {"overlay_style": "outline"}])
def test_overlays_show_the_background_of_a_photo_exactly(
    options: dict[str, Any], make_model: Callable[..., Path], shared_data: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["background", "car", "road"]})
    photo = next(sample.image_path for sample in Dataset.load(shared_data / "camvid").samples)
    predict(model, [photo], tmp_path / "out", save=["labels-png", "overlay"], device="cpu", **options)
    pixels, labels = read_image(photo), read_mask(tmp_path / "out" / f"{photo.stem}.png")
    overlay = read_image(tmp_path / "out" / f"{photo.stem}_overlay.png")[: len(pixels)]
    assert 0.05 < (labels == 0).mean() < 0.95
    np.testing.assert_array_equal(overlay[labels == 0], pixels[labels == 0])
    assert (overlay[labels != 0] != pixels[labels != 0]).any(-1).mean() > 0.01


def test_an_overlay_of_another_opacity_is_another_request(model: Path, photos: Path, tmp_path: Path) -> None:
    def draw(*save: str, opacity: float) -> PredictReport:
        return predict(model, [photos / "one.png"], tmp_path / "out", save=save, opacity=opacity, device="cpu")

    draw("labels", opacity=0.5)
    draw("labels", opacity=0.3)  # labels do not depend on it
    predict(model, [photos / "one.png"], tmp_path / "overlay", save=["overlay"], device="cpu")
    with pytest.raises(InvalidArgumentError, match=r"opacity was 0\.5 and is 0\.3"):
        predict(model, [photos / "one.png"], tmp_path / "overlay", save=["overlay"], opacity=0.3, device="cpu")


def test_postprocessing_changes_labels_and_not_probabilities(noisy: Path, photos: Path, tmp_path: Path) -> None:
    kinds = ["labels", "probabilities", "table"]
    for name, options in (("plain", {}), ("tidy", {"min_area": 6, "fill_holes": True})):
        predict(noisy, [photos / "one.png"], tmp_path / name, save=kinds, device="cpu", **options)  # type: ignore[arg-type]
    plain, tidied = (read_mask(tmp_path / name / "one.png") for name in ("plain", "tidy"))
    assert (plain != tidied).any()
    np.testing.assert_array_equal(tidied, postprocess_labels(plain, min_area=6, fill_holes=True))
    one, other = (np.load(tmp_path / name / "one_probabilities.npz")["probabilities"] for name in ("plain", "tidy"))
    np.testing.assert_array_equal(one, other)
    rows = (tmp_path / "tidy" / "table.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[2]) for row in rows] == np.bincount(tidied.ravel(), minlength=3).tolist()


def test_a_geotiff_gives_polygons_on_the_map(model: Path, tmp_path: Path) -> None:
    tags = [(33550, 12, 3, (2.0, 2.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)]
    pixels = np.zeros((3, 4, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tags)
    predict(model, [tmp_path / "a.tif"], tmp_path / "out", save=["polygons", "table"], device="cpu")
    content = json.loads((tmp_path / "out" / "a.geojson").read_text())
    corners = [tuple(p) for f in content["features"] for ring in f["geometry"]["coordinates"] for p in ring]
    assert {(500.0, 900.0), (508.0, 894.0)} <= set(corners)
    rows = [row.split(",") for row in (tmp_path / "out" / "table.csv").read_text().splitlines()[1:]]
    assert sum(float(row[5]) for row in rows) == 48.0


SCALE, TIE = (33550, 12, 3, (2.0, 2.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)
WORLD_FILE = "2\n0\n0\n-2\n501\n899\n"


def test_every_georeferenced_image_gets_a_label_geotiff(model: Path, tmp_path: Path) -> None:
    """Small or large, with tags in the file or a world file next to it; other images get a PNG."""
    rasterio = pytest.importorskip("rasterio")
    folder, pixels = tmp_path / "in", np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", pixels, photometric="rgb", extratags=[SCALE, TIE])
    tifffile.imwrite(folder / "big.tiff", pixels, photometric="rgb", extratags=[SCALE, TIE], bigtiff=True)
    tifffile.imwrite(folder / "plain.tif", pixels, photometric="rgb")
    tifffile.imwrite(folder / "world.tif", pixels, photometric="rgb")
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(pixels).save(folder / "scan.png")
    for name in ("world.tfw", "scan.pgw"):
        (folder / name).write_text(WORLD_FILE)
    out = tmp_path / "out"
    assert predict(model, [folder], out, save=["labels", "labels-png", "table"], device="cpu").failures == ()
    names = ["a", "big", "scan", "world"]
    both = [f"{name}{suffix}" for name in names for suffix in (".png", ".tif")]
    assert found(out) == sorted([*both, "photo.png", "plain.png", "table.csv"])
    for name in names:
        with rasterio.open(out / f"{name}.tif") as file:
            assert file.transform[:6] == (2.0, 0.0, 500.0, 0.0, -2.0, 900.0)
            assert file.nodata is None
            np.testing.assert_array_equal(file.read(1), read_mask(out / "plain.png"))
        np.testing.assert_array_equal(read_mask(out / f"{name}.png"), read_mask(out / f"{name}.tif"))
    areas = {row.split(",")[0]: row.split(",")[5] != "" for row in (out / "table.csv").read_text().splitlines()[1:]}
    assert areas == {"a.tif": True, "big.tiff": True, "photo.png": False, "plain.tif": False} | {
        "scan.png": True, "world.tif": True
    }  # fmt: skip
    report = predict(model, [folder], out, save=["labels", "table"], resume=True, device="cpu")
    assert (report.skipped, len(report.written)) == (6, 1)


def test_pixels_without_data_are_nodata_in_a_label_geotiff(model: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(0).integers(1, 256, (9, 13, 3), np.uint8)
    pixels[:3] = 0
    tags = [SCALE, TIE, (42113, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tags)
    predict(model, [tmp_path / "a.tif"], tmp_path / "out", device="cpu")
    with rasterio.open(tmp_path / "out" / "a.tif") as file:
        assert file.nodata == 255
        labels = file.read(1)
    assert (labels[:3] == 255).all()
    assert (labels[3:] < 3).all()


def test_a_label_geotiff_never_replaces_its_image(model: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 13, 3), np.uint8), photometric="rgb", extratags=[SCALE, TIE])
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(InvalidArgumentError, match=r"The labels output of .*a\.tif would replace the image"):
        predict(model, [tmp_path / "a.tif"], tmp_path, overwrite=True, device="cpu")
    assert (tmp_path / "a.tif").read_bytes() == before


def test_a_damaged_world_file_is_listed(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "one.pgw").write_text("2")
    report = predict(model, [photos / "one.png"], tmp_path / "out", device="cpu")
    assert [reason for _, reason in report.failures] == [
        f"{photos / 'one.pgw'}: The file is not a world file of six numbers. Correct or remove it."
    ]


@pytest.mark.parametrize(("name", "owner"), [("predict", "the list of the outputs"), ("coco", "the coco file")])
def test_an_image_named_like_a_file_on_all_images_is_not_predicted(
    model: Path, tmp_path: Path, name: str, owner: str
) -> None:
    write_png(tmp_path / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    report = predict(model, [tmp_path / f"{name}.png"], tmp_path / "out", save=["labelme", "coco"], device="cpu")
    [(_, reason)] = report.failures
    assert f"{name}.png is not predicted, because {owner} would also be written to {name}.json. Rename" in reason


def test_reserved_names_are_refused_before_anything_is_written(
    make_model: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["road", "ignore"]})
    with pytest.raises(InvalidArgumentError, match="Readers of coco files ignore objects named 'ignore'"):
        predict(model, [photos], tmp_path / "out", save=["coco"], device="cpu")
    assert not (tmp_path / "out").exists()


def test_resume_predicts_missing_images_and_completes_summary_files(noisy: Path, photos: Path, tmp_path: Path) -> None:
    kinds = ["labels", "overlay", "coco", "table", "cvat"]
    predict(noisy, [photos], tmp_path / "whole", save=kinds, device="cpu")
    out = tmp_path / "out"
    predict(noisy, [photos], out, save=kinds, device="cpu")
    (out / "trip" / "two.v2_overlay.png").unlink()
    for name in ("coco.json", "table.csv", "cvat.xml"):
        (out / name).unlink()
    before = (out / "one.png").stat().st_mtime_ns
    report = predict(noisy, [photos], out, save=kinds, resume=True, device="cpu")
    assert report.skipped == 2
    assert len(report.written) == 2 + 3
    assert (out / "one.png").stat().st_mtime_ns == before
    assert found(out) == found(tmp_path / "whole")
    for name in found(out):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_resume_with_another_request_is_refused(model: Path, noisy: Path, photos: Path, tmp_path: Path) -> None:
    predict(noisy, [photos], tmp_path / "out", device="cpu")
    for resume in (True, False):
        with pytest.raises(InvalidArgumentError, match=r"another request \(another model\)\. .* true of 2 more files"):
            predict(model, [photos], tmp_path / "out", resume=resume, device="cpu")
        with pytest.raises(InvalidArgumentError, match=r"another request \(min_area was 0 and is 5\)"):
            predict(noisy, [photos], tmp_path / "out", min_area=5, resume=resume, device="cpu")
    assert predict(model, [photos], tmp_path / "out", overwrite=True, device="cpu").skipped == 0


def test_resume_does_not_use_outputs_of_another_request(model: Path, noisy: Path, photos: Path, tmp_path: Path) -> None:
    """The first model's labels of one image, the second one's of another, and then of both."""
    one, other = photos / "one.png", photos / "trip" / "two.v2.png"
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    predict(model, [one], out, device="cpu")
    predict(noisy, [other], out, device="cpu")
    with pytest.raises(InvalidArgumentError, match=r"one\.png was written by another request \(another model\)\. Use"):
        predict(noisy, [one, other], out, resume=True, device="cpu")
    report = predict(noisy, [one, other], out, resume=True, overwrite=True, device="cpu")
    predict(noisy, [one, other], fresh, device="cpu")
    assert report.skipped == 1
    for image in (one, other):
        assert (out / f"{image.stem}.png").read_bytes() == (fresh / f"{image.stem}.png").read_bytes()


def test_resume_of_a_table_without_labels_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--resume reads the finished images for table from label files"):
        predict(model, [photos], tmp_path / "out", save=["table"], resume=True, device="cpu")


def test_an_image_behind_a_url_is_labeled_and_a_bad_one_listed(model: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    urls = [f"file://{photos}/one.png", f"file://{photos}/gone.png"]
    report = predict(model, urls, tmp_path / "out", save=["labels", "labelme"], device="cpu")
    assert found(tmp_path / "out") == ["one.json", "one.png"]
    assert [reason.partition(": ")[0] for _, reason in report.failures] == [urls[1]]
    assert json.loads((tmp_path / "out" / "one.json").read_text())["imagePath"] == "one.png"


def test_augmented_labels_are_those_of_the_predictor(model: Path, photos: Path, tmp_path: Path) -> None:
    predict(model, [photos / "one.png"], tmp_path / "out", tta=["flips"], device="cpu")
    expected = load(model, device="cpu").predict(read_image(photos / "one.png"), tta=["flips"]).labels
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "one.png"), expected)


def test_an_unknown_augmentation_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="Unknown test-time augmentation 'flip'"):
        predict(model, [photos], tmp_path / "out", tta=["flip"], device="cpu")


def test_a_negative_area_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="min_area is -3"):
        predict(model, [photos], tmp_path / "out", min_area=-3, device="cpu")


# Shares of a job, and other processes


def same_files(one: Path, other: Path) -> bool:
    assert found(one) == found(other)
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in found(one))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_shards_together_are_the_whole_job(model: Path, photos: Path, tmp_path: Path, count: int) -> None:
    predict(model, [photos], tmp_path / "whole", device="cpu")
    for number in range(1, count + 1):
        report = predict(model, [photos], tmp_path / "out", shard=f"{number}/{count}", device="cpu")
        assert len(report.written) == len(range(number - 1, 3, count))
    assert same_files(tmp_path / "out", tmp_path / "whole")


def test_shards_of_another_request_that_start_at_once_do_not_disturb_each_other(
    model: Path, noisy: Path, photos: Path, tmp_path: Path
) -> None:
    predict(model, [photos], tmp_path / "out", device="cpu")
    predict(noisy, [photos], tmp_path / "whole", device="cpu")

    def start(number: int) -> PredictReport:
        return predict(noisy, [photos], tmp_path / "out", shard=f"{number}/3", overwrite=True, device="cpu")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, (1, 2, 3)))
    assert same_files(tmp_path / "out", tmp_path / "whole")
    assert predict(noisy, [photos], tmp_path / "out", resume=True, device="cpu").skipped == 3


def test_a_shard_only_removes_old_outputs_of_its_own_images(
    model: Path, noisy: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(model, [photos], out, device="cpu")
    (photos / "one.png").write_bytes(b"broken")
    (photos / "trip" / "deep" / "one.png").write_bytes(b"broken")
    assert len(predict(noisy, [photos], out, shard="1/3", overwrite=True, device="cpu").failures) == 1
    assert found(out) == ["trip/deep/one.png", "trip/two.v2.png"]
    report = predict(
        noisy, [photos], out, shard="2/3", resume=True, overwrite=True, device="cpu"
    )  # and those are not taken for done
    assert (report.skipped, len(report.failures)) == (0, 1)


def test_a_shard_without_an_image_is_logged(model: Path, photos: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening:
        def log(self, message: str) -> None:
            said.append(message)

        def track(self, label: str, done: float, total: float, note: str = "") -> None: ...

    with use_reporter(Listening()):
        report = predict(model, [photos], tmp_path / "out", shard="4/4")
    assert (report.written, report.failures, report.skipped) == ((), (), 0)
    assert said == ["shard 4/4: 0 of 3 inputs"]


def test_a_shard_checks_the_names_of_all_images(model: Path, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "one.bmp")
    reports = [predict(model, [photos], tmp_path / "out", shard=f"{i}/4", device="cpu") for i in range(1, 5)]
    assert sorted(path.name for report in reports for path, _ in report.failures) == ["one.bmp", "one.png"]
    assert found(tmp_path / "out") == ["trip/deep/one.png", "trip/two.v2.png"]


def test_summary_files_are_left_to_the_last_job(noisy: Path, photos: Path, tmp_path: Path) -> None:
    kinds = ["labels", "table", "coco"]
    predict(noisy, [photos], tmp_path / "whole", save=kinds, min_area=4, device="cpu")
    for number in (1, 2):
        predict(noisy, [photos], tmp_path / "out", save=kinds, min_area=4, shard=f"{number}/2", device="cpu")
        assert not {"table.csv", "coco.json"} & set(found(tmp_path / "out"))
    report = predict(noisy, [photos], tmp_path / "out", save=kinds, min_area=4, resume=True, device="cpu")
    assert report.skipped == 3
    assert same_files(tmp_path / "out", tmp_path / "whole")


def test_a_shard_with_a_summary_file_but_no_labels_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--shard reads the finished images for table from label files"):
        predict(model, [photos], tmp_path / "out", save=["table"], shard="1/2", device="cpu")


def test_a_shard_refuses_names_that_the_last_step_could_not_write(
    make_model: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m", classes={"names": ["road", "ignore"]})
    with pytest.raises(InvalidArgumentError, match="Readers of coco files ignore objects named 'ignore'"):
        predict(model, [photos], tmp_path / "out", save=["labels", "coco"], shard="1/2", device="cpu")


@dataclass(kw_only=True)
class RemoteExecutor(LocalExecutor):
    """Stands for other processes: the files exist at the end, and nothing else is known."""

    writes_elsewhere: ClassVar[bool] = True

    def run(self, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[WrittenFiles | Exception]:
        for result in super().run(writer.without_summaries(), inputs):
            yield result if isinstance(result, Exception) else WrittenFiles(result.paths)


def predict_remotely(model: Path, inputs: list[Path], output: Path, save: Sequence[str]) -> PredictReport:
    writer = OutputWriter(folder=output, kinds=tuple(save))
    return predict_files(inputs, writer, RemoteExecutor(model=model, device="cpu"))


def test_summary_files_are_made_from_the_files_of_other_processes(noisy: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"broken")
    write_film(photos / "trip.mp4", 3)
    kinds = ["labels", "overlay", "table", "cvat"]
    local = predict(noisy, [photos], tmp_path / "whole", save=kinds, device="cpu")  # type: ignore[arg-type]
    remote = predict_remotely(noisy, [photos], tmp_path / "out", kinds)
    assert same_files(tmp_path / "out", tmp_path / "whole")
    assert [path.name for path in remote.written] == [path.name for path in local.written]
    assert remote.failures == local.failures


def test_a_damaged_label_file_of_another_process_is_listed(
    noisy: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "labels", (".png", lambda *arguments: b"not an image"))
    report = predict_remotely(noisy, [photos / "one.png"], tmp_path / "out", ["labels", "table"])
    assert len(report.failures) == 1


def test_summary_files_without_labels_cannot_be_made_from_the_files_of_other_processes(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match="--cluster reads the finished images for table from label files"):
        predict_remotely(model, [photos], tmp_path / "out", ["table"])


@pytest.mark.parametrize(("shard", "names"), [("1/1", "abcdefg"), ("2/3", "be"), (" 12/12 ", ""), ("7/7", "g")])
def test_a_share_is_every_nth_input(shard: str, names: str) -> None:
    inputs = [Input(Path(name), Path(name)) for name in "abcdefg"]
    assert "".join(item.path.name for item in take_share(inputs, shard)) == names


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "3", "1/2/3", "-1/4", "a/b", ""])
def test_another_shard_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"--shard is '{text}'. Expected i/n with i from 1 to n"):
        take_share([], text)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_all_shares_together_have_each_input_once(count: int) -> None:
    inputs = [Input(Path(name), Path(name)) for name in "abcdefg"]
    shares = [take_share(inputs, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted((item for share in shares for item in share), key=lambda item: item.path) == inputs
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture(scope="module")
def of_two(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = {"names": ["background", "crack"]}
    return make_model(tmp_path_factory.mktemp("predict") / "two", classes=classes, seed=4)


def write_kind(kind: str, folder: Path) -> list[np.ndarray[Any, Any]]:
    """Write one input of a kind into a folder and return its images."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 36, 3), np.uint8)
    folder.mkdir()
    if kind == "image":
        write_png(folder / "x.png", pixels)
    elif kind == "stack":
        tifffile.imwrite(folder / "x.tif", np.stack([pixels, pixels[::-1]]), metadata=None, photometric="rgb")
        return [pixels, pixels[::-1]]
    elif kind == "raster":  # a JPEG 2000 is always read by windows
        rasterio = pytest.importorskip("rasterio")
        options = {"driver": "JP2OpenJPEG", "count": 3, "dtype": "uint8", "QUALITY": 100, "REVERSIBLE": "YES"}
        options["transform"] = rasterio.Affine(1, 0, 7, 0, -1, 9)
        with rasterio.open(folder / "x.jp2", "w", height=24, width=36, **options) as file:
            file.write(pixels.transpose(2, 0, 1))
    else:
        pytest.importorskip("av")
        write_film(folder / "x.mp4", 2)
        with open_video(io.BytesIO((folder / "x.mp4").read_bytes()), "x.mp4") as video:
            return [frame.to_array(3) for frame in video.frames()]
    return [pixels]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *[("image", {}), ("image", {"shard": "1/1"}), ("image", {"tta": ["flips"]}), ("image", {"tiling": "blend"})],
        *[("stack", {}), ("raster", {}), ("video", {})],
    ],
)
def test_a_threshold_decides_for_every_kind_of_input(
    of_two: Path, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    images = write_kind(kind, tmp_path / "in")
    given = {name: value for name, value in options.items() if name != "shard"}
    plain = load(of_two, device="cpu", precision="fp32").predict(images[0], **given)
    threshold = float(np.median(plain.probabilities[1]))
    predictor = load(of_two, device="cpu", precision="fp32", threshold=threshold)
    expected = [predictor.predict(pixels, **given).labels for pixels in images]
    assert (expected[0] != plain.labels).any()
    report = predict(
        of_two, [tmp_path / "in"], tmp_path / "out", threshold=threshold, device="cpu", precision="fp32", **options
    )
    assert report.failures == ()
    paths = sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".tif"))
    written = [tifffile.imread(path) if path.suffix == ".tif" else read_mask(path) for path in paths]
    np.testing.assert_array_equal(
        np.concatenate([labels.reshape(-1, images[0].shape[1]) for labels in written]), np.concatenate(expected)
    )


def test_outputs_and_postprocessing_follow_the_threshold(of_two: Path, tmp_path: Path) -> None:
    (pixels,) = write_kind("image", tmp_path / "in")
    threshold = float(np.median(load(of_two, device="cpu").predict(pixels).probabilities[1]))
    options: dict[str, Any] = {"save": ["labels", "table", "probabilities"], "threshold": threshold, "min_area": 20}
    predict(of_two, [tmp_path / "in"], tmp_path / "out", device="cpu", **options)
    labels = load(of_two, device="cpu", threshold=threshold).predict(pixels).labels
    cleaned = postprocess_labels(labels, 20)
    assert (cleaned != labels).any()
    np.testing.assert_array_equal(read_mask(tmp_path / "out/x.png"), cleaned)
    rows = (tmp_path / "out/table.csv").read_text().splitlines()
    assert rows[2].startswith(f"x.png,crack,{cleaned.sum()},")
    stored = np.load(tmp_path / "out/x_probabilities.npz")["probabilities"]
    expected = load(of_two, device="cpu").predict(pixels).probabilities
    np.testing.assert_array_equal(stored, expected.astype(np.float16))


def test_labels_of_another_threshold_are_not_resumed(of_two: Path, tmp_path: Path) -> None:
    write_kind("image", tmp_path / "in")
    predict(of_two, [tmp_path / "in"], tmp_path / "out", device="cpu", threshold=0.3)
    assert predict(of_two, [tmp_path / "in"], tmp_path / "out", device="cpu", threshold=0.3, resume=True).skipped == 1
    with pytest.raises(InvalidArgumentError, match="threshold"):
        predict(of_two, [tmp_path / "in"], tmp_path / "out", device="cpu", threshold=0.4, resume=True)


def test_the_table_tells_which_images_contain_a_class(of_two: Path, tmp_path: Path) -> None:
    write_kind("image", tmp_path / "in")
    for threshold, present in ((1e-9, "true"), (1 - 1e-9, "false")):
        out = tmp_path / present
        predict(of_two, [tmp_path / "in"], out, save=["table"], device="cpu", threshold=threshold)
        with (out / "table.csv").open() as file:
            rows = {row["class"]: row for row in csv.DictReader(file)}
        assert rows["crack"]["present"] == present
        assert float(rows["crack"]["share"]) == (present == "true")
        assert rows["background"]["present"] == ("false" if present == "true" else "true")


# The same labels from Python


def write_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Write image files of several kinds; returns the arguments of `make_model` for each."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (16, 23, 3), np.uint8)
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6  # rotated by a right angle
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(pixels[..., 0]).save(folder / "gray.png")
    Image.fromarray(pixels).quantize(16).save(folder / "palette.png")
    Image.fromarray(np.dstack([pixels, np.full((16, 23, 1), 255, np.uint8)])).save(folder / "opaque.png")
    tagged = pixels.copy()
    tagged[:4] = 0
    extratags = [(42113, "s", 0, "0", True)]  # GDAL_NODATA
    tifffile.imwrite(folder / "nodata.tif", tagged, photometric="rgb", extratags=extratags)
    np.save(folder / "float.npy", pixels.astype(np.float32))
    tifffile.imwrite(folder / "deep.tif", pixels.astype(np.uint16) * 200, photometric="rgb")
    bands = rng.integers(1, 255, (16, 23, 4), np.uint8)
    tifffile.imwrite(folder / "bands.tif", bands, photometric="rgb", extrasamples=["unassalpha"])
    return {
        "turned.jpg": {},
        "gray.png": {},
        "palette.png": {},
        "opaque.png": {},
        "nodata.tif": {},
        "float.npy": {"dtype": "float32"},
        "deep.tif": {"dtype": "uint16"},
        "bands.tif": {"channels": 4},
    }


def test_a_path_gives_the_labels_of_the_command(make_model: Callable[..., Path], tmp_path: Path) -> None:
    for name, arguments in write_files(tmp_path / "files").items():
        path = tmp_path / "files" / name
        model = make_model(tmp_path / "m", **arguments)
        report = predict(model, path, tmp_path / "out", device="cpu", overwrite=True)
        assert report.failures == (), name
        expected = read_mask(report.written[0])
        predictor = load(model, device="cpu")
        for given in (path, str(path)):
            prediction = predictor.predict(given)
            np.testing.assert_array_equal(prediction.labels, expected, err_msg=name)
            assert (prediction.labels.dtype, prediction.labels.size) == (np.uint8, 16 * 23), name
        has_missing = name == "nodata.tif"
        assert (expected[:4] == 255).all() == has_missing
        html = prediction._repr_html_()
        assert html is not None
        assert html.startswith("<img")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("gone.png", PathNotFoundError, r"gone\.png"),
        ("stack.tif", DataError, r"stack\.tif: The file is a stack of 2 images"),
        ("text.png", DataError, r"text\.png: The file is not an image of a known format"),
        ("alpha.png", DataError, r"alpha\.png: The alpha channel varies"),
        ("bands.tif", DataError, r"bands\.tif: .*channels"),
        ("folder", PathAccessError, r"folder: .*it is a folder"),
    ],
)
def test_a_path_that_is_not_one_image_raises(
    model: Path, tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, 8, 8, 3), np.uint8), photometric="rgb")
    (tmp_path / "text.png").write_text("text")
    alpha = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(np.dstack([alpha] * 4)).save(tmp_path / "alpha.png")
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((8, 8, 5), np.uint8), photometric="minisblack")
    (tmp_path / "folder").mkdir()
    with pytest.raises(error, match=said):
        load(model, device="cpu").predict(tmp_path / name)


# Monte Carlo dropout


@pytest.fixture(scope="module")
def bayesian(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = NetworkConfig(name="bayesian-segnet", base_channels=4)
    path = make_model(tmp_path_factory.mktemp("bayesian") / "m", network=network)
    module, spec = load_model(path)
    weights = module.state_dict()
    last = next(name for name in reversed(weights) if name.endswith("weight"))
    save_model(path, spec, {**weights, last: 1000 * weights[last]})  # or the samples would hardly differ
    return path


SAMPLED: dict[str, Any] = {"samples": 4, "save": ["labels", "variance", "probabilities"], "device": "cpu"}


def test_samples_give_their_mean_and_variance(bayesian: Path, photos: Path, tmp_path: Path) -> None:
    predict(bayesian, photos, tmp_path / "out", seed=3, **SAMPLED)
    prediction = load(bayesian, device="cpu").predict(photos / "one.png", samples=4, seed=3)
    np.testing.assert_array_equal(read_mask(tmp_path / "out/one.png"), prediction.labels)
    variance = np.asarray(Image.open(tmp_path / "out/one_variance.png"))
    assert prediction.variance is not None
    assert variance.dtype == np.uint16
    np.testing.assert_allclose(variance / 65535 / 4, prediction.variance, atol=1e-5)
    assert variance.max() > 0
    with np.load(tmp_path / "out/one_probabilities.npz") as file:
        np.testing.assert_allclose(file["probabilities"], prediction.probabilities, atol=1e-3)


def test_a_seed_gives_the_same_files_alone_in_shards_and_pages(bayesian: Path, photos: Path, tmp_path: Path) -> None:
    pages = np.stack([read_image(photos / name) for name in ("one.png", "trip/deep/one.png")])
    tifffile.imwrite(photos / "pages.tif", pages, photometric="rgb")
    predict(bayesian, photos, tmp_path / "all", **SAMPLED)
    for shard in ("1/2", "2/2"):
        predict(bayesian, photos, tmp_path / "shards", shard=shard, **SAMPLED)
    predict(bayesian, photos / "trip", tmp_path / "alone", **SAMPLED)
    assert found(tmp_path / "shards") == found(tmp_path / "all")
    for name in found(tmp_path / "all"):
        content = (tmp_path / "all" / name).read_bytes()
        assert (tmp_path / "shards" / name).read_bytes() == content
        if name.startswith("trip"):
            assert (tmp_path / "alone" / name.removeprefix("trip/")).read_bytes() == content
    page = (tmp_path / "all/pages/page_0000_variance.png").read_bytes()
    assert page == (tmp_path / "all/one_variance.png").read_bytes()
    predict(bayesian, photos, tmp_path / "other", seed=1, **SAMPLED)
    assert (tmp_path / "other/one_variance.png").read_bytes() != (tmp_path / "all/one_variance.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("model", {"samples": 4}, "The network 'unet' has no dropout, so all samples would be equal"),
        ("bayesian", {"samples": 4, "tta": "flips"}, "tta and samples both average predictions"),
        ("bayesian", {"samples": 4, "tiling": "blend"}, "samples are drawn for the whole image"),
        ("bayesian", {"samples": 0}, "samples is 0, but must be >= 1"),
        ("bayesian", {"save": "variance"}, "The output variance compares samples. Add --samples, such as --samples 50"),
    ],
)
def test_samples_that_cannot_be_drawn_raise_before_anything_is_written(
    request: pytest.FixtureRequest, photos: Path, tmp_path: Path, name: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        predict(request.getfixturevalue(name), photos, tmp_path / "out", device="cpu", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["masks", "masks/train", "Labels"])
def test_masks_of_a_dataset_are_not_mixed_with_predictions(model: Path, photos: Path, folder: str) -> None:
    data, out = photos.parent / "data", photos.parent / "data" / folder
    data.mkdir()
    photos.rename(data / "images")
    predict(model, [data / "images"], out, device="cpu")  # labels to correct, where there are no masks
    predict(model, [data / "images"], out, device="cpu", resume=True)
    write_png(out / "mine.png", np.zeros((9, 13), np.uint8))
    with pytest.raises(InvalidArgumentError, match=r"holds masks of a dataset, such as mine\.png\. .* Choose another"):
        predict(model, [data / "images/one.png"], out, save=["overlay"], device="cpu")


def count_points(path: Path) -> int:
    """Return the number of corners of all polygons in an output file."""
    if path.suffix == ".xml":
        return path.read_text().count(",")
    content = json.loads(path.read_text())
    if "shapes" in content:
        return sum(len(shape["points"]) for shape in content["shapes"])
    if "annotations" in content:
        return sum(len(part) // 2 for one in content["annotations"] for part in one["segmentation"])
    return sum(len(ring) for one in content["features"] for ring in one["geometry"]["coordinates"])


def test_simplified_polygons_have_fewer_corners_in_every_format(of_two: Path, tmp_path: Path) -> None:
    (pixels,) = write_kind("image", tmp_path / "in")
    threshold = float(np.median(load(of_two, device="cpu").predict(pixels).probabilities[1]))
    options: dict[str, Any] = {"threshold": threshold, "min_area": 20, "device": "cpu"}
    kinds = ["labels", "polygons", "labelme", "coco", "cvat"]
    predict(of_two, [tmp_path / "in"], tmp_path / "exact", save=kinds, **options)
    predict(of_two, [tmp_path / "in"], tmp_path / "simple", save=kinds, simplify=1, **options)
    for name in ("x.geojson", "x.json", "coco.json", "cvat.xml"):
        exact, simple = (count_points(tmp_path / folder / name) for folder in ("exact", "simple"))
        assert 3 <= simple < 0.7 * exact, name
    labels = read_mask(tmp_path / "simple/x.png")
    np.testing.assert_array_equal(labels, read_mask(tmp_path / "exact/x.png"))
    (tmp_path / "simple/x.png").unlink()
    shutil.copytree(tmp_path / "in", tmp_path / "set/images")
    shutil.copy(tmp_path / "simple/coco.json", tmp_path / "set")
    dataset = Dataset.load(tmp_path / "set")
    again = dataset.read(dataset.samples[0])[1]
    assert (again == labels).mean() > 0.9


@pytest.mark.parametrize("simplify", [-1, float("nan"), float("inf")])
def test_a_distance_to_simplify_is_a_number_from_zero(of_two: Path, tmp_path: Path, simplify: float) -> None:
    with pytest.raises(InvalidArgumentError, match="simplify is"):
        predict(of_two, [tmp_path], tmp_path / "out", save=["polygons"], simplify=simplify, device="cpu")


def test_simplify_without_polygons_is_an_error(of_two: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"--simplify changes only polygons\. Save one of coco, cvat, labelme"
    ):
        predict(of_two, [tmp_path], tmp_path / "out", simplify=1, device="cpu")


def test_polygons_of_another_distance_are_another_request(of_two: Path, tmp_path: Path) -> None:
    write_kind("image", tmp_path / "in")
    predict(of_two, [tmp_path / "in"], tmp_path / "out", save=["polygons"], simplify=1, device="cpu")
    with pytest.raises(InvalidArgumentError, match="simplify was 1"):
        predict(of_two, [tmp_path / "in"], tmp_path / "out", save=["polygons"], simplify=2, device="cpu")
