from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.classes import Classes
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.video import open_video
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.prediction.outputs import video as home
from pixelwise.prediction.outputs.video import (
    FrameList,
    LabeledVideo,
    draw_labeled_frame,
    is_frame_file,
    parse_frame_number,
    read_frame_numbers,
)
from support.films import TICK, read_film, scene, write_film
from support.predictions import ABC, CELLS, COLORS, make_labeled

av = pytest.importorskip("av")


def draw(labels: Any, classes: Classes = ABC) -> Any:
    image = np.zeros((*labels.shape, 3), np.uint8)
    return draw_labeled_frame(make_labeled(labels, classes=classes), image)


def test_a_frame_is_drawn_as_asked() -> None:
    labels = np.zeros((80, 80), np.uint8)
    labels[:, 40:] = 1
    image = np.full((80, 80, 3), 100, np.uint8)
    faint = draw_labeled_frame(replace(make_labeled(labels, classes=CELLS), opacity=0.1), image)
    assert [faint[5, column].tolist() for column in (5, 60)] == [[100, 100, 100], [110, 100, 90]]
    outline = draw_labeled_frame(replace(make_labeled(labels, classes=CELLS), overlay_style="outline"), image)
    assert [outline[5, column].tolist() for column in (39, 40, 60)] == [[100] * 3, COLORS[1], [100] * 3]


def copy_video(source: Path, target: Path) -> None:
    """Each frame of a video as it is, by the writer of labeled videos."""
    with source.open("rb") as file, open_video(file, "x") as video, LabeledVideo(target, video) as labeled:
        for frame in video.frames():
            labeled.add(labeled.convert(frame.to_array()), frame)


def test_uneven_times_and_durations_are_kept(tmp_path: Path) -> None:
    ticks = [1800, 3003, 9009, 9100, 30000]
    copy_video(write_film(tmp_path / "a.mp4", 5, ticks=ticks), tmp_path / "b.mp4")
    assert [time for time, _ in read_film(tmp_path / "b.mp4")] == [tick * TICK for tick in ticks]
    with av.open(str(tmp_path / "a.mp4")) as before, av.open(str(tmp_path / "b.mp4")) as after:
        last = list(before.decode(video=0))[-1]
        assert last.duration > 0
        stream = after.streams.video[0]
        assert abs(stream.duration * stream.time_base - (last.pts + last.duration - ticks[0]) * TICK) < 0.002


def test_colors_are_kept_and_tagged(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (220, 40, 30), (20, 90, 240)
    path = write_film(tmp_path / "a.mp4", [picture] * 2)
    copy_video(path, tmp_path / "b.mp4")
    (_, found), _ = read_film(tmp_path / "b.mp4")
    for column, color in ((10, (220, 40, 30)), (50, (20, 90, 240))):
        assert np.abs(found[16, column].astype(int) - color).max() <= 6
    with av.open(str(tmp_path / "b.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.format.name, file.streams.video[0].codec_context.name) == ("yuv420p", "h264")
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited


@pytest.mark.parametrize(("rotation", "expected"), [(None, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_the_pixel_aspect_is_kept(tmp_path: Path, rotation: int | None, expected: Fraction) -> None:
    path = write_film(tmp_path / "a.mp4", 2, aspect=Fraction(4, 3), rotation=rotation)
    copy_video(path, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.streams.video[0].sample_aspect_ratio == expected


def test_without_h264_the_next_encoder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = [0, 3003, 9009, 9100, 30000]
    monkeypatch.setattr(home, "ENCODERS", home.ENCODERS[1:])
    copy_video(write_film(tmp_path / "a.mp4", 5, ticks=ticks), tmp_path / "b.mp4")
    frames = read_film(tmp_path / "b.mp4")
    for (time, pixels), tick, number in zip(frames, ticks, range(5), strict=True):
        assert abs(time - tick * TICK) <= Fraction(1, 65535)
        assert np.abs(pixels.astype(int) - scene(number)).mean() < 12


def test_without_any_encoder_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = home.VideoEncoder(name="libnothing", options={}, finest_tick=1)
    monkeypatch.setattr(home, "ENCODERS", (unknown,))
    with pytest.raises(InvalidArgumentError, match="A labeled video needs the encoder libnothing"):
        copy_video(write_film(tmp_path / "a.mp4", 1), tmp_path / "b.mp4")


def test_an_encoding_error_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = home.VideoEncoder(name="libx264", options={"preset": "none such"}, finest_tick=1 << 30)
    monkeypatch.setattr(home, "ENCODERS", (broken,))
    with pytest.raises(OSError, match="The labeled video cannot be written"):
        copy_video(write_film(tmp_path / "a.mp4", 1), tmp_path / "b.mp4")


def test_a_folder_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"The labeled video cannot be written \(it does not exist"):
        copy_video(write_film(tmp_path / "a.mp4", 1), tmp_path / "gone" / "b.mp4")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"The labeled video cannot be written .*no space is left"):
        copy_video(write_film(tmp_path / "a.mp4", 5), Path("/dev/full"))


def test_a_labeled_frame_is_the_overlay_above_a_legend(tmp_path: Path) -> None:
    one, other = np.zeros((60, 160), np.uint8), np.ones((60, 160), np.uint8)
    pictures = [draw(labels) for labels in (one, other)]
    assert pictures[0].shape == (60 + 24, 160, 3)
    np.testing.assert_array_equal(pictures[0][60:], pictures[1][60:])
    np.testing.assert_array_equal(pictures[1][30, 30], np.rint(np.array(COLORS[1]) / 2))
    swatches = {tuple(color) for color in pictures[0][60:].reshape(-1, 3).tolist()}
    assert {tuple(color) for color in COLORS} <= swatches


def test_a_legend_that_is_too_tall_is_omitted() -> None:
    labels = np.zeros((40, 160), np.uint8)
    assert draw(labels).shape == (40, 160, 3)
    many = describe_classes(parse_description({"names": [f"class {i}" for i in range(200)]}))
    assert draw(np.zeros((400, 160), np.uint8), many).shape == (400, 160, 3)


@pytest.mark.parametrize(("height", "width"), [(61, 161), (60, 161), (61, 160)])
def test_an_odd_side_is_padded_with_its_last_row_or_column(height: int, width: int) -> None:
    labels = np.zeros((height, width), np.uint8)
    labels[:, -1] = 1
    picture = draw(labels)
    assert picture.shape == (height + height % 2 + 24, width + width % 2, 3)
    np.testing.assert_array_equal(picture[5, -1], picture[5, width - 1])
    small = draw(labels[:21])  # without a legend
    assert small.shape == (22, width + width % 2, 3)
    np.testing.assert_array_equal(small[-1], small[-2])


def test_a_list_of_frames_has_their_times(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 3, ticks=[0, 3003, 9000])
    listed = tmp_path / "frames.csv"
    with path.open("rb") as file, open_video(file, "x") as video, FrameList(listed, video) as frames:
        for frame in video.frames():
            frames.add(frame)
    lines = (tmp_path / "frames.csv").read_text().splitlines()
    assert lines == ["frame,seconds", "000001,0.000000", "000002,0.033367", "000003,0.100000"]
    assert list(read_frame_numbers(tmp_path / "frames.csv")) == [1, 2, 3]


@pytest.mark.parametrize("text", ["frame\nx\n", "number\n1\n", None])
def test_another_file_is_not_read_as_a_list_of_frames(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(DataError, match=r"frames\.csv: The file is not a list of frames.* without --resume"):
        list(read_frame_numbers(tmp_path / "frames.csv"))


def test_files_of_frames_are_recognized_by_their_names() -> None:
    assert [parse_frame_number(name, ".png") for name in ("000012.png", "1234567.png", "12.png", "000012_x.png")] == [
        12,
        1234567,
        0,
        0,
    ]
    assert is_frame_file("000012_confidence.png")
    assert not is_frame_file("x000012.png")
