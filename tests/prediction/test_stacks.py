import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.api import load, predict
from pixelwise.data.io.images import read_mask, write_png
from pixelwise.prediction import stacks as home

NUM = 6
PAGES = np.random.default_rng(0).integers(0, 255, (NUM, 20, 26), np.uint8)
CLASSES = {"names": ["background", "cell", "nucleus"]}


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("stacks") / "m", classes=CLASSES, channels=1, seed=3)


@pytest.fixture(scope="module")
def expected(model: Path) -> Any:
    predictor = load(model, device="cpu", precision="fp32")
    return np.stack([predictor.predict(page[..., None]).labels for page in PAGES])


def write_gif(path: Path) -> None:
    first, *others = map(Image.fromarray, PAGES)
    first.save(path, save_all=True, append_images=others)


def write_axes(path: Path, axes: str, *shape: int, **options: Any) -> None:
    tifffile.imwrite(path, PAGES.reshape(*shape, 20, 26), metadata={"axes": axes}, photometric="minisblack", **options)


STACKS: dict[str, tuple[Callable[[Path], Any], str, tuple[int, ...]]] = {
    "pages.tif": (lambda path: tifffile.imwrite(path, PAGES, metadata=None, photometric="minisblack"), "IYX", (NUM,)),
    "z.tif": (lambda path: write_axes(path, "ZYX", NUM, imagej=True), "ZYX", (NUM,)),
    "time.ome.tif": (lambda path: write_axes(path, "TYX", NUM), "TYX", (NUM,)),
    "both.tif": (lambda path: write_axes(path, "TZYX", 2, 3, imagej=True), "TZYX", (2, 3)),
    "a.npy": (lambda path: np.save(path, PAGES), "IYX", (NUM,)),
    "a.gif": (write_gif, "TYX", (NUM,)),
}


@pytest.mark.parametrize("name", STACKS)
def test_labels_have_the_axes_of_the_stack(name: str, model: Path, expected: Any, tmp_path: Path) -> None:
    write, axes, shape = STACKS[name]
    write(tmp_path / name)
    report = predict(model, [tmp_path / name], tmp_path / "out", device="cpu", precision="fp32")
    (written,) = report.written
    assert (written, report.failures) == (tmp_path / "out" / f"{name.rpartition('.')[0]}.tif", ())
    with tifffile.TiffFile(written) as file:
        assert (file.series[0].axes, file.series[0].shape) == (axes, (*shape, 20, 26))
        np.testing.assert_array_equal(file.asarray().reshape(expected.shape), expected)
    assert len(np.unique(expected)) > 1


def test_the_labels_of_a_stack_have_the_colors_of_the_classes(model: Path, tmp_path: Path) -> None:
    for name in ("pages.tif", "z.tif"):
        STACKS[name][0](tmp_path / name)
    predict(model, [tmp_path], tmp_path / "out", device="cpu")
    colors = load(model, device="cpu").classes.colors
    with tifffile.TiffFile(tmp_path / "out" / "pages.tif") as file:
        assert (file.pages[0].colormap.T[:3] >> 8).tolist() == [list(color) for color in colors]
    with tifffile.TiffFile(tmp_path / "out" / "z.tif") as file:
        assert np.reshape(file.imagej_metadata["LUTs"], (3, 256)).T[:3].tolist() == [list(color) for color in colors]


def test_other_outputs_are_written_for_each_page(model: Path, expected: Any, tmp_path: Path) -> None:
    STACKS["z.tif"][0](tmp_path / "z.tif")
    kinds = ["labels", "overlay", "confidence", "table", "coco"]
    report = predict(model, [tmp_path / "z.tif"], tmp_path / "out", save=kinds, device="cpu", precision="fp32")
    assert report.failures == ()
    pages = [f"z/page_{page:04d}_{kind}.png" for page in range(NUM) for kind in ("confidence", "overlay")]
    found = {path.relative_to(tmp_path / "out").as_posix() for path in report.written}
    assert found == {"z.tif", "table.csv", "coco.json", *pages}
    names = [image["file_name"] for image in json.loads((tmp_path / "out" / "coco.json").read_text())["images"]]
    assert names == [f"z/page_{page:04d}.tif" for page in range(NUM)]
    report = predict(model, [tmp_path / "z.tif"], tmp_path / "labels", save=["overlay"], device="cpu")
    assert len(report.written) == NUM
    assert not (tmp_path / "labels" / "z.tif").exists()


def test_a_stack_is_resumed_as_a_whole(model: Path, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        STACKS["z.tif"][0](tmp_path / name)
    options: dict[str, Any] = {"save": ["labels", "table", "overlay"], "device": "cpu"}
    predict(model, [tmp_path], tmp_path / "out", **options)
    table = (tmp_path / "out" / "table.csv").read_bytes()
    (tmp_path / "out" / "a" / "page_0002_overlay.png").unlink()
    report = predict(model, [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out", resume=True, **options)
    assert (report.skipped, report.failures) == (1, ())
    assert (tmp_path / "out" / "a" / "page_0002_overlay.png").exists()
    assert (tmp_path / "out" / "table.csv").read_bytes() == table


def test_a_broken_page_fails_the_stack_and_leaves_no_labels(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAGES, metadata=None, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages[4].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    write_png(tmp_path / "b.png", PAGES[0])
    report = predict(model, [tmp_path], tmp_path / "out", save=["labels", "table"], device="cpu")
    ((failed, reason),) = report.failures
    assert failed == path
    assert f"{path}: " in reason
    assert [file.name for file in (tmp_path / "out").rglob("*.*") if file.suffix in (".tif", ".png", ".part")] == [
        "b.png"
    ]
    assert "a/page" not in (tmp_path / "out" / "table.csv").read_text()


def test_pages_are_channels_for_a_model_of_as_many(
    make_model: Callable[..., Path], tmp_path: Path, expected: Any
) -> None:
    model = make_model(tmp_path / "m", channels=NUM)
    STACKS["pages.tif"][0](tmp_path / "a.tif")
    STACKS["z.tif"][0](tmp_path / "z.tif")
    report = predict(model, [tmp_path / "a.tif", tmp_path / "z.tif"], tmp_path / "out", device="cpu")
    assert [path.name for path in report.written] == ["a.png"]
    assert "z.tif: page 0" in report.failures[0][1]  # slices are not channels
    assert read_mask(tmp_path / "out" / "a.png").shape == (20, 26)


def test_a_page_with_the_name_of_an_output_is_not_predicted(model: Path, tmp_path: Path) -> None:
    STACKS["z.tif"][0](tmp_path / "a.tif")
    write_png(tmp_path / "a" / "page_0001.png", PAGES[0])
    report = predict(model, [tmp_path], tmp_path / "out", save=["overlay"], device="cpu")
    assert {path.name for path, _ in report.failures} == {"a.tif", "page_0001.png"}
    assert all("would also be written to a/page_0001_overlay.png" in reason for _, reason in report.failures)


def test_large_labels_are_bigtiff(model: Path, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "_LARGE_BYTES", 100)
    STACKS["z.tif"][0](tmp_path / "z.tif")
    predict(model, [tmp_path / "z.tif"], tmp_path / "out", device="cpu", precision="fp32")
    with tifffile.TiffFile(tmp_path / "out" / "z.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), expected)
