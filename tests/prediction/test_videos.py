import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.api import predict
from pixelwise.data.io.images import read_mask, write_png
from pixelwise.data.io.video import Video, open_video
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.batching import PredictedImage
from pixelwise.inference.predictor import load
from pixelwise.prediction import videos as home
from pixelwise.prediction.inputs import VideoInput, find_inputs
from pixelwise.prediction.outputs import ENCODERS
from pixelwise.prediction.videos import count_frames
from pixelwise.progress import use_reporter
from support.films import TICK, read_film, scene, write_film, write_pieces

av = pytest.importorskip("av")
CLASSES = {"names": ["background", "cell", "nucleus"]}


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose labels are full of specks."""
    return make_model(tmp_path_factory.mktemp("videos") / "m", classes=CLASSES, seed=10)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video in a folder of a folder. Read only."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "trip").mkdir()
    write_film(folder / "trip" / "sea.mp4", 4, ticks=[0, 3003, 9009, 9100])
    return folder


def found(folder: Path) -> list[str]:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in files if name != "predict.json")


def broken(path: Path) -> Path:
    """A video of 20 frames of which a third is missing."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    write_film(path, noise, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def pictures_of(path: Path, channels: int = 3) -> list[Any]:
    with path.open("rb") as file, open_video(file, "x") as video:
        return [frame.to_array(channels) for frame in video.frames()]


def test_a_video_gives_a_labeled_video_and_a_folder_of_labels(model: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = predict(model, [films], out, save=["labels", "overlay"], device="cpu")
    assert report.failures == ()
    assert report.written == (out / "trip/sea_overlay.mp4", out / "trip/sea")
    labels = [f"trip/sea/00000{number}.png" for number in (1, 2, 3, 4)]
    assert found(out) == [*labels, "trip/sea/frames.csv", "trip/sea_overlay.mp4"]
    assert (out / "trip/sea/frames.csv").read_text().splitlines()[2] == "000002,0.033367"
    frames = read_film(out / "trip/sea_overlay.mp4")
    assert [time for time, _ in frames] == [tick * TICK for tick in (0, 3003, 9009, 9100)]
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frame_gives_the_labels_of_the_same_frame_as_an_image(
    model: Path, films: Path, tmp_path: Path, precision: str
) -> None:
    predict(model, [films / "trip"], tmp_path / "video", device="cpu", precision=precision)
    for number, picture in enumerate(pictures_of(films / "trip/sea.mp4"), start=1):
        write_png(tmp_path / "frames" / f"{number:06d}.png", picture)
    predict(model, [tmp_path / "frames"], tmp_path / "images", device="cpu", precision=precision)
    names = [f"00000{number}.png" for number in (1, 2, 3, 4)]
    labels = [read_mask(tmp_path / "images" / name) for name in names]
    assert (labels[0] != labels[3]).any()
    for name, expected in zip(names, labels, strict=True):
        np.testing.assert_array_equal(read_mask(tmp_path / "video/sea" / name), expected)


def test_a_model_of_gray_images_labels_the_brightness(
    make_model: Callable[..., Path], films: Path, tmp_path: Path
) -> None:
    gray = make_model(tmp_path / "gray", channels=1, classes=CLASSES, seed=3)
    report = predict(gray, [films], tmp_path / "out", save=["labels", "overlay"], device="cpu")
    assert report.failures == ()
    expected = load(gray, device="cpu").predict(pictures_of(films / "trip/sea.mp4", 1)[2]).labels
    np.testing.assert_array_equal(read_mask(tmp_path / "out/trip/sea/000003.png"), expected)


def test_a_model_of_other_pixels_lists_the_video(make_model: Callable[..., Path], films: Path, tmp_path: Path) -> None:
    deep = make_model(tmp_path / "deep", dtype="uint16")
    (failure,) = predict(deep, [films], tmp_path / "out", device="cpu").failures
    assert failure[0] == films / "trip/sea.mp4"
    assert "sea.mp4: frame 1: The image is uint8, but the model was trained on uint16" in failure[1]


def test_a_rotated_video_of_odd_sides_becomes_upright_and_even(model: Path, tmp_path: Path) -> None:
    picture = np.zeros((49, 65, 3), np.uint8)
    write_film(tmp_path / "a.mkv", [picture] * 2, codec="ffv1", pixel_format="bgr0")  # which can be odd
    write_film(tmp_path / "b.mp4", 2, rotation=90)
    report = predict(model, [tmp_path / "a.mkv", tmp_path / "b.mp4"], tmp_path / "out", save=["labels", "overlay"])
    assert report.failures == ()
    assert read_mask(tmp_path / "out/a/000001.png").shape == (49, 65)
    assert read_mask(tmp_path / "out/b/000001.png").shape == (64, 48)
    heights = [read_film(tmp_path / f"out/{name}_overlay.mp4")[0][1].shape for name in "ab"]
    assert all(height % 2 == 0 and width % 2 == 0 for height, width, _ in heights)
    assert heights[1][0] >= 64 > heights[0][0] >= 49


def test_a_broken_video_is_listed_and_leaves_no_files(model: Path, films: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "one.png", scene(0))
    broken(tmp_path / "in" / "cut.mp4")
    (tmp_path / "in" / "none.mp4").write_bytes(b"no video")
    (tmp_path / "in" / "sea.mp4").write_bytes((films / "trip/sea.mp4").read_bytes())
    kinds = ["labels", "overlay", "table", "coco", "cvat"]
    report = predict(model, [tmp_path / "in"], tmp_path / "out", save=kinds, device="cpu")
    failed = {path.name: reason for path, reason in report.failures}
    assert set(failed) == {"cut.mp4", "none.mp4"}
    assert "cannot be decoded near frame 1" in failed["cut.mp4"]
    names = {"one.png", "one_overlay.png", "sea_overlay.mp4", "coco.json", "cvat.xml", "table.csv"}
    frames = {f"sea/00000{number}.png" for number in (1, 2, 3, 4)}
    assert set(found(tmp_path / "out")) == {*names, *frames, "sea/frames.csv"}
    listed = ["one.png", *sorted(frames)]
    images = json.loads((tmp_path / "out/coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == listed
    rows = (tmp_path / "out/table.csv").read_text().splitlines()[1:]
    assert list(dict.fromkeys(row.split(",")[0] for row in rows)) == listed
    assert (tmp_path / "out/cvat.xml").read_text().count("<image ") == 5


def test_all_kinds_of_outputs_of_frames(model: Path, films: Path, tmp_path: Path) -> None:
    kinds = [kind for kind in ENCODERS if kind not in ("overlay", "variance")]
    predict(model, [films / "trip/sea.mp4"], tmp_path / "out", save=kinds, device="cpu")
    ends = {ENCODERS[kind][0] for kind in kinds}  # labels and labels-png are one file
    assert found(tmp_path / "out") == sorted(
        ["sea/frames.csv", *(f"sea/00000{number}{end}" for end in ends for number in (1, 2, 3, 4))]
    )
    assert json.loads((tmp_path / "out/sea/000002.json").read_text())["imagePath"] == "000002.png"


def test_small_regions_are_removed_from_frames(model: Path, films: Path, tmp_path: Path) -> None:
    predict(model, [films / "trip/sea.mp4"], tmp_path / "out", min_area=10**6, device="cpu")
    assert len(np.unique(read_mask(tmp_path / "out/sea/000001.png"))) == 1


def test_without_pyav_images_are_predicted_and_videos_listed(
    model: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "one.png", scene(0))
    monkeypatch.setitem(sys.modules, "av", None)
    report = predict(model, [tmp_path / "one.png", films], tmp_path / "out", device="cpu")
    assert report.written == (tmp_path / "out/one.png",)
    (failure,) = report.failures
    assert failure[0].name == "sea.mp4"
    assert 'pip install "pixelwise[video]"' in failure[1]
    assert found(tmp_path / "out") == ["one.png"]


def test_a_video_behind_a_url(model: Path, films: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    report = predict(model, [f"file://{films}"], tmp_path / "out", device="cpu")
    assert report.failures == ()
    assert len(found(tmp_path / "out")) == 5
    (failure,) = predict(model, [f"file://{films}/gone.mp4"], tmp_path / "out", device="cpu").failures
    assert "gone.mp4: The file cannot be read" in failure[1]


def test_resume_skips_a_complete_video_and_repeats_another(model: Path, films: Path, tmp_path: Path) -> None:
    kinds = ["labels", "overlay", "table", "cvat", "coco"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    (tmp_path / "in").mkdir()
    write_film(tmp_path / "in/b.mp4", 3)
    inputs = [films, tmp_path / "in"]
    predict(model, inputs, whole, save=kinds, device="cpu")
    predict(model, inputs, out, save=kinds, device="cpu")
    (out / "b/frames.csv").unlink()  # as if it had been interrupted
    before = (out / "trip/sea/000001.png").stat().st_mtime_ns
    for name in ("table.csv", "cvat.xml", "coco.json"):
        (out / name).unlink()
    report = predict(model, inputs, out, save=kinds, resume=True, device="cpu")
    assert (report.skipped, report.failures) == (1, ())
    assert (out / "trip/sea/000001.png").stat().st_mtime_ns == before
    assert found(out) == found(whole)
    for name in found(out):
        if not name.endswith(".mp4"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_resume_lists_a_video_without_its_labels(model: Path, films: Path, tmp_path: Path) -> None:
    predict(model, [films], tmp_path / "out", save=["labels", "table"], device="cpu")
    (tmp_path / "out/trip/sea/000003.png").unlink()
    report = predict(model, [films], tmp_path / "out", save=["labels", "table"], resume=True, device="cpu")
    assert "000003.png: The file does not exist" in report.failures[0][1]
    assert (tmp_path / "out/table.csv").read_text().splitlines() == ["image,class,pixels,share,regions,area,present"]


def test_frames_of_an_earlier_longer_video_are_removed(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_film(tmp_path / "a.mp4", 5)
    predict(model, [tmp_path / "a.mp4"], out, device="cpu")
    for name in ("notes.txt", "000009.jpg", "12.png"):
        (out / "a" / name).write_text("mine")
    write_film(tmp_path / "a.mp4", 2)
    predict(model, [tmp_path / "a.mp4"], out, device="cpu")
    assert found(out) == ["a/000001.png", "a/000002.png", "a/000009.jpg", "a/12.png", "a/frames.csv", "a/notes.txt"]


def test_files_of_a_killed_process_are_removed(model: Path, films: Path, tmp_path: Path) -> None:
    left = tmp_path / "out/trip/.sea.part"
    left.mkdir(parents=True)
    (left / "000009.png").write_text("half")
    assert predict(model, [films], tmp_path / "out", device="cpu").failures == ()
    assert not left.exists()
    assert "trip/sea/000009.png" not in found(tmp_path / "out")


def test_an_interruption_leaves_nothing_behind(
    model: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(home.FrameList, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [films], tmp_path / "out", save=["labels", "overlay"], device="cpu")
    assert found(tmp_path / "out") == []


def test_a_frame_that_cannot_be_written_ends_its_video(
    model: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ENCODERS["labels"][1]

    def encode(path: Path, *arguments: Any) -> bytes:
        if path.name == "000003.png":
            raise OSError("the disk is full")
        return whole(path, *arguments)

    monkeypatch.setitem(ENCODERS, "labels", (".png", encode))
    report = predict(model, [films], tmp_path / "out", save=["labels", "overlay"], device="cpu")
    assert [reason for _, reason in report.failures] == ["the disk is full"]
    assert found(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["a/000001.png", "a/000001.v2.png"])
def test_an_image_named_like_a_frame_is_not_predicted(model: Path, tmp_path: Path, name: str) -> None:
    write_film(tmp_path / "a.mp4", 1)
    write_png(tmp_path / name, scene(0))
    report = predict(model, [tmp_path], tmp_path / "out", device="cpu")
    assert {path for path, _ in report.failures} == {tmp_path / "a.mp4", tmp_path / name}
    assert all(f"would also be written to {name}" in reason for _, reason in report.failures)
    with pytest.raises(InvalidArgumentError, match=r"A frame of .*a\.mp4 might replace the image .*0001"):
        predict(model, [tmp_path / "a.mp4", tmp_path / name], tmp_path, device="cpu")
    assert predict(model, [tmp_path], tmp_path / "out", save=["overlay"], device="cpu").failures == ()


def test_an_image_next_to_the_frames_is_allowed(model: Path, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", 1)
    write_png(tmp_path / "a/sea.png", scene(0))
    predict(model, [tmp_path], tmp_path / "out", device="cpu")
    assert found(tmp_path / "out") == ["a/000001.png", "a/frames.csv", "a/sea.png"]


def test_two_videos_of_one_name_are_not_predicted(model: Path, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", 1)
    write_film(tmp_path / "a.mov", 1)
    report = predict(model, [tmp_path], tmp_path / "out", device="cpu")
    assert {path.name for path, _ in report.failures} == {"a.mp4", "a.mov"}
    assert all("would also be written to a/frames.csv" in reason for _, reason in report.failures)


def test_progress_counts_frames(model: Path, films: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float, float]] = []

    class Counting:
        def log(self, message: str) -> None: ...

        def track(self, label: str, done: float, total: float, note: str = "") -> None:
            seen.append((label, done, total))

    with use_reporter(Counting()):
        predict(model, [films], tmp_path / "out", device="cpu")
    assert seen == [*(("sea.mp4", done, 4) for done in (1, 2, 3, 4)), ("predict", 1, 1)]


def test_frames_are_counted_before_they_are_decoded(films: Path, tmp_path: Path) -> None:
    (item,) = find_inputs([films], videos=True)
    assert isinstance(item, VideoInput)
    assert count_frames(item) == 4
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert count_frames(VideoInput(tmp_path / "b.mp4", Path("b"))) == 1


def test_few_frames_are_in_memory_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded frames wait for the network, answers for the disk; both are few, however long the video is."""
    decoded: list[int] = []
    ahead: list[int] = []
    whole = Video.frames

    def frames(video: Any) -> Any:
        for frame in whole(video):
            decoded.append(frame.number)
            yield frame

    class Counting:
        def log(self, message: str) -> None: ...

        def track(self, label: str, done: float, total: float, note: str = "") -> None:
            if label == "a.mp4":
                ahead.append(len(decoded) - int(done))

    monkeypatch.setattr(Video, "frames", frames)
    write_film(tmp_path / "a.mp4", [scene(i % 8, 32, 32) for i in range(30)])
    with use_reporter(Counting()):
        predict(model, [tmp_path / "a.mp4"], tmp_path / "out", save=["overlay"], device="cpu")
    assert len(decoded) == len(ahead) == 30
    assert max(ahead) <= 4 + 8 + 2


def test_a_size_that_changes_lists_the_video(model: Path, tmp_path: Path) -> None:
    write_pieces(tmp_path / "a.avi", [[scene(0)], [scene(1, 32, 32)]])
    (failure,) = predict(model, [tmp_path / "a.avi"], tmp_path / "out", device="cpu").failures
    assert "near frame 2 (the size changes from 48x64 to 32x32)" in failure[1]


def test_blended_tiles_are_logged_once(
    model: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = home.predict_all

    def blended(*arguments: Any, **options: Any) -> Any:
        for answer in whole(*arguments, **options):
            assert isinstance(answer, PredictedImage)
            yield replace(answer, prediction=replace(answer.prediction, seam_score=1.5))

    monkeypatch.setattr(home, "predict_all", blended)
    said: list[str] = []

    class Listening:
        def log(self, message: str) -> None:
            said.append(message)

        def track(self, *_: object) -> None: ...

    with use_reporter(Listening()):
        predict(model, [films], tmp_path / "out", tiling="blend", device="cpu")
    assert [line.partition(": ")[2] for line in said] == [
        "first frame: tiles were blended (requested); seam score: 1.50"
    ]
