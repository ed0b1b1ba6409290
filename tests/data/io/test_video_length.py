import io
import struct
from pathlib import Path

import pytest

from pixelwise.data.io.video_length import missing_bytes
from support.films import write_film

KINDS = {"a.mp4": "libx264", "a.mov": "libx264", "a.mkv": "libx264", "a.webm": "libvpx", "a.avi": "mpeg4"}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_off_lacks_what_was_cut(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    content = write_film(tmp_path / name, codec=KINDS[name], container={"movflags": "faststart"}).read_bytes()
    assert missing_bytes(io.BytesIO(content)) == 0
    assert missing_bytes(io.BytesIO(content[:-100])) == 100


def test_the_file_is_left_at_its_beginning() -> None:
    file = io.BytesIO(b"RIFF" + struct.pack("<I", 100) + b"AVI ")
    assert missing_bytes(file) == 96
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
def test_what_says_no_length_lacks_nothing(content: bytes) -> None:
    assert missing_bytes(io.BytesIO(content)) == 0


def test_a_box_of_a_length_of_64_bit() -> None:
    content = struct.pack(">I4s", 8, b"wide") + struct.pack(">I4sQ", 1, b"mdat", 1 << 33)
    assert missing_bytes(io.BytesIO(content)) == 8 + (1 << 33) - 24


def test_a_segment_of_a_short_length() -> None:
    assert missing_bytes(io.BytesIO(b"\x1aE\xdf\xa3\x82ab\x18S\x80g\x8aonly5")) == 5
