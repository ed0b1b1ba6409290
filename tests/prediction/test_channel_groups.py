import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pixelwise.api import predict
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.io.images import read_image, read_mask, write_png
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.inference.predictor import load
from pixelwise.prediction.inputs import ChannelGroup, find_inputs, group_channels


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("channels") / "m", channels=2, channel_files=True)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two images of two channels in two folders."""
    for seed, name in enumerate(("a_0000", "a_0001", "trip/b_1_0000", "trip/b_1_0001")):
        write_png(tmp_path / "scenes" / f"{name}.png", drawn(seed))
    return tmp_path / "scenes"


def drawn(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (9, 13), np.uint8)


def stacked(*paths: Path) -> Array:
    return np.concatenate([read_image(path) for path in paths], -1)


def group(folder: Path, num_channels: int = 2) -> list[Any]:
    return group_channels(find_inputs([folder], videos=True), num_channels)


def count_files(folder: Path) -> list[tuple[str, int]]:
    return [(str(item.stem), len(getattr(item, "files", ()))) for item in group(folder)]


# Which files are an image


def test_files_of_one_stem_are_an_image(scenes: Path) -> None:
    first, second = group(scenes)
    assert (first.stem, second.stem) == (Path("a"), Path("trip/b_1"))
    assert second.relative_name == "trip/b_1.png"
    assert [file.path.name for file in second.files] == ["b_1_0000.png", "b_1_0001.png"]
    np.testing.assert_array_equal(first.read(2)[0], stacked(scenes / "a_0000.png", scenes / "a_0001.png"))


def test_files_of_one_stem_in_two_folders_are_two_images(scenes: Path) -> None:
    shutil.copy(scenes / "trip/b_1_0000.png", scenes / "b_1_0000.png")
    assert [(str(item.stem), len(getattr(item, "files", ()))) for item in group(scenes)] == [
        ("a", 2),
        ("b_1", 1),
        ("trip/b_1", 2),
    ]


def test_files_given_one_by_one_are_an_image(scenes: Path) -> None:
    found = find_inputs([scenes / "trip/b_1_0001.png", f"{scenes}/trip/*_0000.png"])
    (item,) = group_channels(found, 2)
    assert isinstance(item, ChannelGroup)
    assert (item.stem, item.fault) == (Path("b_1"), "")


def test_videos_and_names_without_a_number_are_unchanged(scenes: Path) -> None:
    shutil.rmtree(scenes / "trip")
    for name in ("film_0000.mp4", "whole.png"):
        (scenes / name).touch()
    assert [(str(item.stem), len(getattr(item, "files", ()))) for item in group(scenes)] == [
        ("a", 2),
        ("film_0000", 0),
        ("whole", 0),
    ]


def test_channels_behind_urls_are_an_image(scenes: Path) -> None:
    pytest.importorskip("fsspec")
    first, second = group_channels(find_inputs([f"file://{scenes}"]), 2)
    assert (first.stem, second.stem) == (Path("a"), Path("trip/b_1"))
    np.testing.assert_array_equal(first.read(2)[0], stacked(scenes / "a_0000.png", scenes / "a_0001.png"))
    signed = [f"https://nowhere.invalid/x/7_{channel:04d}.tif?key={channel}/{channel}" for channel in range(2)]
    (item,) = group_channels(find_inputs(signed), 2)
    assert isinstance(item, ChannelGroup)
    assert [file.url for file in item.files] == signed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"a_0001.png": None},
            r"a_0000\.png: The image a\.png has the channels 0 to 1, but no file was given for channel 1\. Give",
        ),
        (
            {"a_0000.png": None},
            r"a_0001\.png: The image a\.png has the channels 0 to 1, but no file was given for channel 0",
        ),
        ({"a_0002.png": "a_0000.png"}, r"a_0000\.png: There is also a_0002\.png, .* channels 0 to 1\. Remove that"),
        ({"a_0001.bmp": "a_0001.png"}, r"Channel 1 of the image a\.png has two files, a_0001\.bmp and a_0001\.png"),
        (
            {"a_0001.png": None, "a_0001.svs": "a_0001.png"},
            r"a_0001\.svs is read window by window",
        ),
    ],
)
def test_a_fault_is_raised_when_the_image_is_read(scenes: Path, changes: dict[str, str | None], message: str) -> None:
    contents = {path.name: path.read_bytes() for path in scenes.glob("*.png")}
    for name, source in changes.items():
        if source is None:
            (scenes / name).unlink()
        else:
            (scenes / name).write_bytes(contents[source])
    first, second = group(scenes)
    with pytest.raises(DataError, match=message):
        first.read(2)
    assert second.read(2)[0].shape == (9, 13, 2)


def test_channels_of_different_sizes_are_an_error(scenes: Path) -> None:
    write_png(scenes / "a_0001.png", drawn(1)[1:])
    with pytest.raises(
        DataError, match=r"a_0001\.png: The file is 8x13 uint8, but channel 0 of the image is 9x13 uint8"
    ):
        group(scenes)[0].read(2)


def test_nan_is_an_error_that_names_the_file(scenes: Path) -> None:
    for channel in range(2):
        tifffile.imwrite(scenes / f"c_{channel:04d}.tif", np.full((9, 13), np.nan, np.float32))
    with pytest.raises(DataError, match=r"c_0000\.tif: The image contains 234 NaN"):
        group(scenes)[1].read(2)


def test_absolute_inputs_are_found_from_other_folders(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scenes)
    item = pickle.loads(pickle.dumps(group(Path("trip"))[0].absolute()))
    monkeypatch.chdir("/")
    assert item.read(2)[0].shape == (9, 13, 2)


# What is predicted


def test_an_image_gives_the_labels_of_its_stacked_channels(model: Path, scenes: Path, tmp_path: Path) -> None:
    whole = stacked(scenes / "a_0000.png", scenes / "a_0001.png")
    tifffile.imwrite(scenes / "whole.tif", whole, planarconfig="contig", photometric="minisblack")
    out = tmp_path / "out"
    report = predict(model, [scenes], out, save=["labels", "table", "labelme"], device="cpu")
    assert report.failures == ()
    predictor = load(model, device="cpu")
    expected = predictor.predict(whole).labels
    assert len(np.unique(expected)) > 1
    for name in ("a.png", "whole.png"):
        np.testing.assert_array_equal(read_mask(out / name), expected)
    second = predictor.predict(stacked(*sorted((scenes / "trip").iterdir()))).labels
    np.testing.assert_array_equal(read_mask(out / "trip/b_1.png"), second)
    lines = (out / "table.csv").read_text().splitlines()[1:]
    assert list(dict.fromkeys(line.partition(",")[0] for line in lines)) == ["a.png", "trip/b_1.png", "whole.tif"]
    assert '"../scenes/a_0000.png"' in (out / "a.json").read_text()


def test_complete_images_are_skipped_and_shares_count_images(model: Path, scenes: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        assert len(predict(model, [scenes], tmp_path / "out", shard=shard, device="cpu").written) == 1
    again = predict(model, [scenes], tmp_path / "out", resume=True, device="cpu")
    assert (again.skipped, again.written) == (2, ())


def test_a_fault_is_a_failure_of_its_image(model: Path, scenes: Path, tmp_path: Path) -> None:
    (scenes / "a_0001.png").unlink()
    write_png(scenes / "gray.png", drawn(9))
    report = predict(model, [scenes], tmp_path / "out", device="cpu")
    assert report.written == (tmp_path / "out/trip/b_1.png",)
    (first, missing), (second, gray) = report.failures
    assert (first, second) == (scenes / "a_0000.png", scenes / "gray.png")
    assert "but no file was given for channel 1" in missing
    assert "gray.png: The image has 1 channel, but the model was trained on images of 2 files" in gray


def test_a_channel_file_is_not_a_gray_image(make_model: Callable[..., Path], tmp_path: Path) -> None:
    gray = drawn(0)
    load(make_model(tmp_path / "plain"), device="cpu").predict(gray)
    predictor = load(make_model(tmp_path / "m", channel_files=True), device="cpu")
    with pytest.raises(
        InvalidArgumentError, match=r"has 1 channel.*of 3 files, one per channel\. Name them STEM_0000 to STEM_0002"
    ):
        predictor.predict(gray)


def test_no_channel_is_replaced_by_a_result(model: Path, scenes: Path) -> None:
    write_png(scenes / "x_0001_0000.png", drawn(4))
    write_png(scenes / "x_0001_0001.png", drawn(5))
    write_png(scenes / "x_0000.png", drawn(6))
    write_png(scenes / "x_0001.png", drawn(7))
    with pytest.raises(InvalidArgumentError, match=r"would replace the image .*x_0001\.png"):
        predict(model, [scenes / "x_0001_0000.png", scenes / "x_0001_0001.png", scenes / "x_0000.png",
                        scenes / "x_0001.png"], scenes, device="cpu")  # fmt: skip


def test_other_models_predict_each_channel_file(make_model: Callable[..., Path], scenes: Path, tmp_path: Path) -> None:
    predict(make_model(tmp_path / "plain"), [scenes], tmp_path / "out", device="cpu")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a_0000.png", "a_0001.png"]
