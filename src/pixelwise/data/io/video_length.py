"""How long a video file says it is. One that was cut off is shorter; decoders read it without a word."""

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

_EBML = b"\x1aE\xdf\xa3"
_SEGMENT = b"\x18S\x80g"
_STREAMED = (0, 0xFFFFFFFF)
"""Lengths of an AVI that was written without going back to its beginning."""


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes an MP4, MOV, AVI, Matroska or WebM file lacks at its end; 0 where it does not say its length.

    The file can be sought in; it is left at its beginning.
    """
    there = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    declared = next((measure for begins, measure in _KINDS if begins(head)), lambda file, there: 0)
    try:
        return max(declared(file, there) - there, 0)
    finally:
        file.seek(0)


def _end_of_boxes(file: BinaryIO, there: int) -> int:
    """MP4 and MOV are boxes, one behind the other, each with its length and four letters."""
    end = 0
    while end + 8 <= there:
        file.seek(end)
        head = file.read(16)
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8 or not name.isalnum():  # 0 is a box to the end; what is no box is something put behind them
            return there
        end += size
    return end


def _end_of_riff(file: BinaryIO, there: int) -> int:
    """AVI: the length stands behind the first four letters."""
    file.seek(4)
    size = int.from_bytes(file.read(4), "little")
    return 0 if size in _STREAMED else 8 + size


def _end_of_segment(file: BinaryIO, there: int) -> int:
    """Matroska and WebM: a head and one segment, each with its length."""
    file.seek(len(_EBML))
    head = _read_length(file)
    if head is None:
        return 0
    file.seek(head, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    size = _read_length(file)
    return 0 if size is None else file.tell() + size


def _read_length(file: BinaryIO) -> int | None:
    """A number whose first byte says, by its leading zeros, how many bytes it has. All ones: it is not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    number = int.from_bytes(first + file.read(more)) - (1 << 7 * (more + 1))
    return None if number == (1 << 7 * (more + 1)) - 1 else number


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int]], ...] = (
    (lambda head: head[:4] == b"RIFF", _end_of_riff),
    (lambda head: head[:4] == _EBML, _end_of_segment),
    (lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), _end_of_boxes),
)
"""How the kinds of files begin, and where they say that they end."""
