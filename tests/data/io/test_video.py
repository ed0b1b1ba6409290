import contextlib
import io
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pixelwise.data.io import video as home
from pixelwise.data.io.decoded_image import apply_orientation
from pixelwise.data.io.video import Video, VideoFrame, count_missing_bytes, open_video, parse_display_matrix
from pixelwise.errors import DataError, InvalidArgumentError
from support.films import TICK, scene, write_film, write_pieces

av = pytest.importorskip("av")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Video]:
    with path.open("rb") as file, open_video(file, str(path)) as video:
        yield video


def frames_of(path: Path) -> list[VideoFrame]:
    with opened(path) as video:
        return list(video.frames())


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")]
)
def test_all_frames_are_read_in_display_order(tmp_path: Path, name: str, codec: str) -> None:
    path = write_film(tmp_path / name, 5, codec=codec)
    with opened(path) as video:
        frames = list(video.frames())
        assert (video.num_frames, video.rate, video.pixel_aspect) == (5, 25, 1)
        times = [frame.ticks * video.tick for frame in frames]
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([float(time) for time in times], np.arange(5) / 25, atol=0.001)
    for number, frame in enumerate(frames):
        pixels = frame.to_array(3)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (48, 64, 3)
        assert np.abs(pixels[10:22, 4 * number + 2 : 4 * number + 14].astype(int) - (220, 40, 30)).mean() < 25


def test_a_model_of_one_channel_sees_the_brightness(tmp_path: Path) -> None:
    (frame,) = frames_of(write_film(tmp_path / "a.mp4", [np.full((16, 32, 3), 200, np.uint8)]))
    assert frame.to_array(1).shape == (16, 32, 1)
    assert np.abs(frame.to_array(1).astype(int) - 200).max() <= 1


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    ticks = [0, 3003, 9009, 9100, 30000]
    path = write_film(tmp_path / "a.mp4", 5, ticks=ticks)
    with opened(path) as video:
        assert video.tick == TICK
        assert [frame.ticks for frame in video.frames()] == ticks


def test_pixel_aspect_is_read(tmp_path: Path) -> None:
    with opened(write_film(tmp_path / "a.mp4", 1, aspect=Fraction(4, 3))) as video:
        assert video.pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize(("rotation", "orientation"), [(90, 8), (180, 3), (-90, 6)])
def test_a_rotated_video_is_upright(tmp_path: Path, rotation: int, orientation: int) -> None:
    plain = frames_of(write_film(tmp_path / "plain.mp4", 2))
    turned = frames_of(write_film(tmp_path / "turned.mp4", 2, rotation=rotation))
    assert {frame.orientation for frame in turned} == {orientation}
    np.testing.assert_array_equal(turned[1].to_array(), apply_orientation(plain[1].to_array(), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_display_matrix_is_understood(orientation: int) -> None:
    """A matrix takes column x and row y to (a x + c y, b x + d y), up to a shift."""
    (turn,) = (turn for turn, number in home._ORIENTATIONS.items() if number == orientation)
    a, b, c, d = turn
    picture = np.arange(6).reshape(2, 3, 1)
    shown = apply_orientation(picture, orientation)
    places = {(a * x + c * y, b * x + d * y): picture[y, x, 0] for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    for (x, y), value in places.items():
        assert shown[y - top, x - left, 0] == value
    assert parse_display_matrix(
        np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], np.int32).tobytes()
    ) == (orientation)


def test_a_video_rotated_by_other_than_right_angles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"near frame 1 \(it is scaled, or rotated by an angle that is not a multiple of 90"
    ):
        frames_of(write_film(tmp_path / "a.mp4", 2, rotation=30))
    with pytest.raises(DataError, match="it is scaled"):
        parse_display_matrix(np.array([70000, 0, 0, 0, 65536, 0, 0, 0, 1 << 30], np.int32).tobytes())


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4")]
)
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_a_video_that_is_cut_off_is_an_error_that_names_the_frame(
    tmp_path: Path, name: str, codec: str, share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    path = write_film(tmp_path / name, noise, codec=codec, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    seen = []
    with (
        opened(path) as video,
        pytest.raises(DataError, match=rf"{name}: The video cannot be decoded near frame \d+ \(.*\)"),
    ):
        seen += [frame.number for frame in video.frames()]
    assert len(seen) < 20


def test_a_video_damaged_in_its_middle_is_an_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    path = write_film(tmp_path / "a.avi", noise, codec="mpeg4")
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        place, size = packets[11].pos, packets[11].size
    content = bytearray(path.read_bytes())
    content[place + size // 4 : place + size] = b"\xff" * (size - size // 4)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.avi: The video cannot be decoded near frame (10|11|12) \(Invalid data found"
    ):
        frames_of(path)


def test_a_size_that_changes_is_an_error(tmp_path: Path) -> None:
    pieces = [[scene(0), scene(1)], [scene(2, 32, 32)]]
    with pytest.raises(DataError, match=r"near frame 3 \(the size changes from 48x64 to 32x32\)"):
        frames_of(write_pieces(tmp_path / "a.avi", pieces))


def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"a\.mp4: The file cannot be read as a video \(.*\). Replace or remove it"):
        frames_of(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="cannot be read as a video"), open_video(io.BytesIO(), "empty.mp4"):
        pass


def test_a_file_with_only_sound_is_an_error(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(DataError, match=r"cannot be read as a video \(it contains only audio\)"):
        frames_of(tmp_path / "a.mkv")


def test_a_video_without_frames_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Video, "_decode", lambda video: iter(()))
    with pytest.raises(DataError, match="The video has no frames"):
        frames_of(write_film(tmp_path / "a.mp4", 1))


def test_frames_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.data.io.decoded_image.MAX_PIXELS", 100)
    with pytest.raises(DataError, match="more than 100 pixels"):
        frames_of(write_film(tmp_path / "a.mp4", 1))


def test_missing_pyav_is_an_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InvalidArgumentError, match=r'a video needs av .*: pip install "pixelwise\[video\]"'):
        frames_of(path)


def test_colors_that_cannot_be_converted_are_an_error() -> None:
    class Odd:
        def to_ndarray(self, format: str) -> None:
            raise ValueError(f"no way to {format}")

    frame = VideoFrame(number=7, ticks=0, duration=0, orientation=1, coded=Odd())
    with pytest.raises(
        DataError, match=r"The colors of frame 7 cannot be converted to RGB \(no way to rgb24\). Convert the video"
    ):
        frame.to_array()


class _Coded:
    """What a decoder gives, of a file that says little."""

    height = width = 4
    is_corrupt = False
    duration = None
    side_data = ()

    def __init__(self, pts: int | None, dts: int | None = None) -> None:
        self.pts, self.dts = pts, dts


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(5, None), (9, None)], [5, 9]),
        ([(None, 3), (None, 4)], [3, 4]),
        ([(None, None), (None, None), (None, None)], [0, 1, 2]),
        ([(5, None), (5, None), (4, None), (9, None)], [5, 6, 7, 9]),
        ([(-3, None), (-1, None)], [-3, -1]),
    ],
)
def test_frame_times_increase_strictly(
    monkeypatch: pytest.MonkeyPatch, given: list[tuple[int | None, int | None]], expected: list[int]
) -> None:
    monkeypatch.setattr(Video, "_decode", lambda video: iter([_Coded(*times) for times in given]))
    video = Video(name="a.avi", container=None, stream=None, missing=0)
    assert [frame.ticks for frame in video.frames()] == expected


class _Packets:
    """A container of two packets of one frame each, of which the second is as its reader says."""

    def __init__(self, *, packet: bool, frame: bool) -> None:
        self.packet, self.frame = packet, frame

    def demux(self, stream: object) -> Iterator[SimpleNamespace]:
        for number, (cut, damaged) in enumerate(((False, False), (self.packet, self.frame))):
            coded = _Coded(number)
            coded.is_corrupt = damaged
            yield SimpleNamespace(is_corrupt=cut, decode=lambda coded=coded: [coded])


@pytest.mark.parametrize(
    ("packet", "frame", "reason"), [(True, False, "the file ends inside it"), (False, True, "the frame is damaged")]
)
def test_frames_marked_as_corrupt_are_an_error(packet: bool, frame: bool, reason: str) -> None:
    video = Video(name="a.avi", container=_Packets(packet=packet, frame=frame), stream=None, missing=0)
    with pytest.raises(DataError, match=rf"a\.avi: The video cannot be decoded near frame 2 \({reason}\)"):
        list(video.frames())


def test_a_file_cut_off_within_a_packet_is_an_error_without_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "count_missing_bytes", lambda file: 0)
    path = write_film(tmp_path / "a.mp4", 5, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"near frame \d \(the file ends inside it\)"):
        frames_of(path)


# The length that a file declares.

CODECS = {"a.mp4": "libx264", "a.mov": "libx264", "a.mkv": "libx264", "a.webm": "libvpx", "a.avi": "mpeg4"}


@pytest.mark.parametrize("name", CODECS)
def test_missing_bytes_of_a_truncated_file(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    content = write_film(tmp_path / name, codec=CODECS[name], container={"movflags": "faststart"}).read_bytes()
    assert count_missing_bytes(io.BytesIO(content)) == 0
    assert count_missing_bytes(io.BytesIO(content[:-100])) == 100


def test_counting_leaves_the_file_at_its_start() -> None:
    file = io.BytesIO(b"RIFF" + struct.pack("<I", 100) + b"AVI ")
    assert count_missing_bytes(file) == 96
    assert file.tell() == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video at all",
        b"RIFF",
        b"RIFF" + struct.pack("<I", 0) + b"AVI ",
        b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"AVI ",
        b"\x1aE\xdf\xa3",
        b"\x1aE\xdf\xa3\x82ab\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff",  # a segment of unknown length
        b"\x1aE\xdf\xa3\x82abcdefgh",
        struct.pack(">I4s", 0, b"mdat") + b"to the end",
        struct.pack(">I4s", 12, b"ftyp") + b"abcd" + b"\0" * 40,
        struct.pack(">I4s", 12, b"ftyp") + b"abcd" + b"\x01\x02\x03\x04-%&!" * 4,
        struct.pack(">I4s", 12, b"ftyp") + b"abcd" + b"xyz",
    ],
)
def test_a_file_without_a_length_lacks_nothing(content: bytes) -> None:
    assert count_missing_bytes(io.BytesIO(content)) == 0


def test_a_box_with_a_64_bit_length() -> None:
    content = struct.pack(">I4s", 8, b"wide") + struct.pack(">I4sQ", 1, b"mdat", 1 << 33)
    assert count_missing_bytes(io.BytesIO(content)) == 8 + (1 << 33) - 24


def test_a_segment_with_a_short_length() -> None:
    assert count_missing_bytes(io.BytesIO(b"\x1aE\xdf\xa3\x82ab\x18S\x80g\x8aonly5")) == 5
