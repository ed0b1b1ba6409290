from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.io.images import encode_png, write_png
from pixelwise.errors import DataError, InvalidArgumentError, PathNotFoundError
from pixelwise.prediction.inputs import Input, VideoInput, find_inputs

fsspec = pytest.importorskip("fsspec")
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder of images that is nowhere on disk."""
    system = fsspec.filesystem("memory")
    for name in ("a.png", "trip/b.v2.png", "trip/.hidden.png", "notes.txt"):
        system.pipe(f"/photos/{name}", encode_png(PIXELS))
    yield "memory://photos"
    system.rm("/photos", recursive=True)


def test_results_inside_the_input_folder_are_not_inputs(tmp_path: Path) -> None:
    for name in ("a.png", "out/a.png", "output/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, np.zeros((2, 2), np.uint8))
    found = [str(item.stem) for item in find_inputs([tmp_path], tmp_path / "out")]
    assert found == ["a", "output/b"]
    inside = find_inputs([tmp_path / "out"], tmp_path / "out")
    assert [str(item.stem) for item in inside] == ["a"]


def test_links_to_folders_are_followed_and_files_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("store/b.png", "photos/site/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        write_png(tmp_path / name, PIXELS)
    (tmp_path / "photos/more").symlink_to(tmp_path / "store")
    (tmp_path / "photos/site/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/lost").symlink_to(tmp_path / "nowhere")
    for inputs in ([tmp_path / "photos"], [tmp_path / "photos", tmp_path / "store"], [f"{tmp_path}/photos/**"]):
        caplog.clear()
        assert [item.path.name for item in find_inputs(inputs)] == ["b.png", "a.png"]
        if inputs != [f"{tmp_path}/photos/**"]:
            assert f"{tmp_path}/photos/lost is a link to {tmp_path}/nowhere, which does not exist" in caplog.text
    assert [str(item.stem) for item in find_inputs([tmp_path / "photos"])] == ["more/b", "site/a"]


@pytest.fixture
def zarrs(tmp_path: Path) -> Path:
    """A folder of Zarrs with all kinds of things inside."""
    for name in ("a.zarr/zarr.json", "a.zarr/0/.zarray", "a.zarr/inner.png", "trip/b.ome.zarr/labels/c.zarr/x.png",
                 "plain/.zgroup", "plain/0/1.png", ".hidden.zarr/x.png", "trip/.hidden/d.zarr/x.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_zarr_is_one_image(zarrs: Path) -> None:
    found = [item.stem.as_posix() for item in find_inputs([zarrs])]
    assert found == ["a", "plain", "trip/b.ome"]
    assert [item.stem.name for item in find_inputs([zarrs / "a.zarr", zarrs / "plain"])] == ["a", "plain"]
    (inside,) = find_inputs([zarrs / "a.zarr" / "0"])
    assert inside.path == zarrs / "a.zarr" / "0"


@pytest.mark.parametrize("pattern", ["**", "**/*.zarr", "*"])
def test_a_pattern_does_not_look_into_a_zarr(pattern: str, zarrs: Path) -> None:
    found = {item.path.name for item in find_inputs([f"{zarrs}/{pattern}"])}
    assert found == {"a.zarr", "b.ome.zarr"} | ({"plain"} if pattern != "**/*.zarr" else set())


@pytest.mark.parametrize("name", ["a.zarr", "x.svs"])
def test_windowed_formats_are_never_read_as_a_whole(name: str, zarrs: Path) -> None:
    (zarrs / name).touch()
    (item,) = find_inputs([zarrs / name])
    with pytest.raises(DataError, match=rf"{name}: This format is only read window by window, .*\. Export a part"):
        item.read(3)


def test_an_image_behind_a_url(memory: str) -> None:
    (item,) = find_inputs([f"{memory}/a.png"])
    assert (item.name, item.stem, item.relative_name) == ("memory://photos/a.png", Path("a"), "a.png")
    np.testing.assert_array_equal(item.read(3)[0], PIXELS)
    with item.open() as file:
        assert file.read(4) == b"\x89PNG"


def test_a_folder_behind_a_url_keeps_its_structure(memory: str) -> None:
    items = find_inputs([memory])
    assert [item.relative_name for item in items] == ["a.png", "trip/b.v2.png"]
    np.testing.assert_array_equal(items[1].read(3)[0], PIXELS)


def test_a_pattern_behind_a_url(memory: str) -> None:
    assert [item.relative_name for item in find_inputs([f"{memory}/tr*/*.png"])] == ["b.v2.png"]


def test_a_url_of_a_file_is_the_file(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", PIXELS)
    (item,) = find_inputs([f"file://{tmp_path}/x.png"])
    np.testing.assert_array_equal(item.read(3)[0], PIXELS)
    assert [i.relative_name for i in find_inputs([f"file://{tmp_path}"])] == ["x.png"]


def test_a_query_is_not_part_of_the_name() -> None:
    (item,) = find_inputs(["https://nowhere.invalid/scenes/7.tif?key=1"])
    assert (item.stem, item.name) == (Path("7"), "https://nowhere.invalid/scenes/7.tif?key=1")


def test_nothing_behind_a_url_is_an_error(memory: str) -> None:
    with pytest.raises(InvalidArgumentError, match="No images found at 'memory://nowhere'"):
        find_inputs(["memory://nowhere"])


def test_a_url_that_cannot_be_listed_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"nothing://x cannot be listed \(.*\)\. Check the address"):
        find_inputs(["nothing://x"])


def test_an_image_that_cannot_be_fetched_is_a_data_error(memory: str) -> None:
    (item,) = find_inputs([f"{memory}/gone.png"])
    with pytest.raises(DataError, match=r"photos/gone\.png: The file cannot be read \(.*\)\. Check the address"):
        item.read(3)


def test_a_broken_image_behind_a_url_is_named(memory: str) -> None:
    fsspec.filesystem("memory").pipe("/photos/broken.png", b"\x89PNG\r\n\x1a\n broken")
    (item,) = find_inputs([f"{memory}/broken.png"])
    with pytest.raises(DataError, match=r"memory://photos/broken\.png: "):
        item.read(3)


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(
        InvalidArgumentError, match=r'fsspec, which is not installed. Install it: pip install "pixelwise\[remote\]"'
    ):
        find_inputs(["memory://photos"])


def test_videos_are_found_on_request(tmp_path: Path) -> None:
    for name in ("a.png", "trip/b.MP4", "trip/c.webm", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for given in (tmp_path, f"{tmp_path}/**"):
        found = find_inputs([given], videos=True)
        assert [(item.stem.as_posix(), isinstance(item, VideoInput)) for item in found] == [
            ("a", False),
            ("trip/b", True),
            ("trip/c", True),
        ]
        assert [item.stem.as_posix() for item in find_inputs([given])] == ["a"]
    with pytest.raises(PathNotFoundError, match=r"an image, a video, .*suffixes: \.png, .*\.mp4"):
        find_inputs([tmp_path / "nothing"], videos=True)
    with pytest.raises(PathNotFoundError, match=r"an image, a folder .*suffixes: [^4]*$"):
        find_inputs([tmp_path / "nothing"])


def test_a_video_behind_a_url_is_read_as_it_is_needed(memory: str) -> None:
    fsspec.filesystem("memory").pipe("/photos/sea.mp4", b"0123456789")
    (item,) = find_inputs([f"{memory}/*.mp4"], videos=True)
    assert (item.relative_name, isinstance(item, VideoInput)) == ("sea.mp4", True)
    with item.open() as file:
        file.seek(4)
        assert file.read(2) == b"45"
    assert [item.relative_name for item in find_inputs([memory], videos=True)] == ["a.png", "sea.mp4", "trip/b.v2.png"]
    assert [item.relative_name for item in find_inputs([memory])] == ["a.png", "trip/b.v2.png"]
    (gone,) = find_inputs([f"{memory}/gone.mp4"], videos=True)
    with pytest.raises(DataError, match=r"photos/gone\.mp4: The file cannot be read \(.*\)\. Check the address"):
        gone.open()


def test_a_drive_is_not_a_scheme() -> None:
    with pytest.raises(PathNotFoundError, match="No images found"):
        find_inputs(["C://photos"])


def test_a_file_has_no_url() -> None:
    item = Input(Path("trip/a.v2.png"), Path("a.v2"))
    assert (item.name, item.relative_name) == ("trip/a.v2.png", "a.v2.png")


def test_pictures_that_are_not_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.png", "sub/c.jpg"):
        write_png(tmp_path / name, PIXELS)
    for name in ("a.CR2", "sub/d.svg", "notes.txt"):
        (tmp_path / name).write_bytes(b"something")
    write_png(tmp_path / "e", PIXELS)
    np.save(tmp_path / "a.npy", PIXELS)
    for inputs in ([tmp_path], [f"{tmp_path}/**"]):
        caplog.clear()
        assert [item.path.name for item in find_inputs(inputs)] == ["a.png", "b.png", "c.jpg"]
        for line in (
            f"Develop raw photographs and save them as TIFF: {tmp_path}/a.CR2.",
            f"Export drawings and documents as PNG: {tmp_path}/sub/d.svg.",
            f"They are PNG files by their content. Let their names end in .png: {tmp_path}/e.",
            f"Give arrays next to pictures by their own paths: {tmp_path}/a.npy.",
        ):
            assert line in caplog.text
        assert "notes.txt" not in caplog.text
    assert [item.path.name for item in find_inputs([tmp_path / "a.npy"])] == ["a.npy"]


def test_a_folder_of_other_pictures_only_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.CR2").write_bytes(b"something")
    with pytest.raises(InvalidArgumentError, match=r"No images found at .* Develop raw photographs .*: .*a\.CR2\."):
        find_inputs([tmp_path])
