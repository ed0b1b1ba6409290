import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelwise.data.io.file_info import (
    detect_image_format,
    inspect_bytes,
    inspect_file,
    read_orientation,
)
from pixelwise.data.io.images import decode_image
from pixelwise.errors import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def pillow(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(**options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, IMAGE, photometric="rgb", **options)  # type: ignore[call-overload]
    return buffer.getvalue()


def with_preview() -> bytes:
    """As cameras write: a small JPEG, its end included, lies in the header of the large one."""
    preview = pillow("JPEG", quality=5)
    head = b"\xff\xe1" + (len(preview) + 8).to_bytes(2, "big") + b"Exif\0\0" + preview
    content = pillow("JPEG")
    return content[:2] + head + content[2:]


MOVIE = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\xff\xda\0\x08data \xff\xd8" + bytes(50)
"""A video, as motion photos have behind their end, with the marks of a JPEG."""

FILES = {
    "JPEG": pillow("JPEG"),
    "JPEG progressive": pillow("JPEG", progressive=True),
    "JPEG with preview": with_preview(),
    "JPEG with restarts": pillow("JPEG", restart_marker_blocks=2),
    "PNG": pillow("PNG"),
    "PNG 16": imagecodecs.png_encode(IMAGE.astype(np.uint16) * 257),
    "WebP": pillow("WEBP"),
    "BMP": pillow("BMP"),
    "TIFF": tiff(),
    "TIFF deflated": tiff(compression="zlib"),
    "GIF": pillow("GIF"),
    "AVIF": pillow("AVIF"),
    "PNM": pillow("PPM"),
    "JPEG 2000": bytes(imagecodecs.jpeg2k_encode(IMAGE, level=0)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_complete_file_is_recognized_by_its_content(name: str) -> None:
    content = inspect_bytes(FILES[name])
    assert content.format == ("JPEG 2000" if name == "JPEG 2000" else name.split()[0])
    assert not content.is_truncated


@pytest.mark.parametrize("name", FILES)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_truncated_anywhere_is_detected_or_cannot_be_decoded(
    name: str, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = FILES[name]
    cut = whole[: int(share * len(whole))]
    if inspect_bytes(cut).is_truncated:
        return
    path = tmp_path_factory.mktemp("cut") / "image.png"
    path.write_bytes(cut)
    with pytest.raises(DataError, match=r"image.png: "):
        decode_image(path)


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"JPEG 2000"}))  # its decoder reads to the end of the file
@pytest.mark.parametrize("tail", [MOVIE, bytes(100), b"\n", FILES["JPEG"]], ids=["movie", "zeros", "line", "image"])
def test_bytes_behind_the_end_are_not_read(name: str, tail: bytes, tmp_path: Path) -> None:
    """Motion photos, several pictures in one file, and blocks of phones."""
    path = tmp_path / "image.png"
    path.write_bytes(FILES[name])
    expected = decode_image(path).pixels
    path.write_bytes(FILES[name] + tail)
    assert not inspect_file(path).is_truncated
    np.testing.assert_array_equal(decode_image(path).pixels, expected)


@pytest.mark.parametrize("missing", [1, 12, 16])
def test_a_png_without_its_last_bytes_is_truncated(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(FILES["PNG"][:-missing])
    np.testing.assert_array_equal(decode_image(path).pixels, IMAGE)
    assert inspect_file(path).is_truncated


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG with preview", "PNG"])
def test_an_end_of_zeros_is_truncated(name: str) -> None:
    whole = FILES[name]
    assert inspect_bytes(whole[:-30] + bytes(30)).is_truncated


@pytest.mark.parametrize("content", [b"", b"B", b"a text", b"\x89PNG\r\n\x1a", b"RIFF1234WAVE"])
def test_other_files_have_no_format(content: bytes) -> None:
    assert detect_image_format(content) == ""
    assert inspect_bytes(content) == inspect_bytes(b"")


def test_alpha_and_palette() -> None:
    assert inspect_bytes(pillow("PNG", "RGBA")).alpha
    assert not inspect_bytes(pillow("PNG")).alpha
    assert inspect_bytes(pillow("PNG")).palette == b""
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([1, 2, 3, 4, 5, 6])
    buffer = io.BytesIO()
    for kind in ("PNG", "GIF"):
        palette.save(buffer, kind)
        content = inspect_bytes(buffer.getvalue())
        assert (content.get_color(0), content.get_color(1)) == ((1, 2, 3), (4, 5, 6))
        assert content.get_color(300) is None
        buffer = io.BytesIO()
    assert inspect_bytes(pillow("GIF", "L")).palette == b""


def test_only_image_files_are_opened(tmp_path: Path) -> None:
    """A sample's path may be an index of gigabytes, or a member of an archive."""
    index = tmp_path / "instances.json"
    index.write_bytes(FILES["PNG"])
    assert inspect_file(index).format == ""
    assert inspect_file(tmp_path / "archive.tar" / "0.png").format == ""


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientations(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.jpg"
    path.write_bytes(pillow("JPEG", exif=exif))
    assert read_orientation(path) == orientation


def test_unreadable_files_are_upright(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(b"a text")
    assert read_orientation(path) == 1
