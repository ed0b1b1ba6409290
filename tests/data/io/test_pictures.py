import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelwise.data.io import pictures
from pixelwise.data.io.decoded_image import ORIENTATION
from pixelwise.data.io.file_info import inspect_file
from pixelwise.data.io.images import Array, find_stack_axes, read_image, read_mask, read_size
from pixelwise.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 200, (8, 12, 3), np.uint8)
GRAY = NOISE[..., 0]
IDS = GRAY % 4
PALETTE = np.array([[10, 20, 30], [250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)


def palette_picture(indices: Array, palette: Array = PALETTE) -> Image.Image:
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    return picture


def test_a_gif_image_has_colors_and_a_mask_indices(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    palette_picture(IDS).save(path)
    np.testing.assert_array_equal(read_image(path), PALETTE[IDS])
    np.testing.assert_array_equal(read_mask(path), IDS)
    assert read_size(path) == (8, 12)


@pytest.mark.parametrize("ids", [np.where(GRAY > 99, 255, 0), np.choose(IDS, [0, 1, 2, 255]), np.choose(IDS, [7] * 4)])
def test_a_gray_gif_has_its_grays(tmp_path: Path, ids: Array) -> None:
    """Also with a sorted palette, in which the same gray has another index in each file."""
    path, grays = tmp_path / "a.gif", np.unique(ids)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    np.testing.assert_array_equal(read_mask(path), ids)
    np.testing.assert_array_equal(read_image(path)[..., 0], ids)
    palette_picture(np.searchsorted(grays, ids).astype(np.uint8)[:, ::-1], np.stack([grays] * 3, 1)).save(path)
    np.testing.assert_array_equal(read_mask(path), ids[:, ::-1])


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        (".gif", {}),
        (".png", {}),
        (".apng", {"format": "PNG"}),
        (".webp", {"lossless": True}),
        (".avif", {"quality": 100}),
    ],
)
def test_an_animation_is_a_stack(tmp_path: Path, ending: str, options: dict[str, Any]) -> None:
    path = tmp_path / f"a{ending}"
    frames = [np.full((8, 12, 3), color, np.uint8) for color in PALETTE]
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=100, **options)
    assert find_stack_axes(path) == (("T", 4),)
    for number, frame in enumerate(frames):
        read = read_image(path, page=number).astype(int)
        np.testing.assert_allclose(read, frame, atol=4 if ending == ".avif" else 0)
    for read in (read_image, read_mask):
        with pytest.raises(
            DataError, match=r"stack of 4 images \(axes TYX\), but one is expected\. Save one image per"
        ):
            read(path)


def test_the_frames_of_an_animated_mask(tmp_path: Path) -> None:
    masks = [np.roll(np.where(GRAY > 99, 255, 0).astype(np.uint8), shift, 1) for shift in range(3)]
    first, *others = map(Image.fromarray, masks)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(read_mask(tmp_path / "a.gif", number), mask)


def test_16_bit_animations_keep_their_values(tmp_path: Path) -> None:
    frames = np.stack([NOISE.astype(np.uint16) * 300, NOISE.astype(np.uint16) * 7])
    (tmp_path / "a.png").write_bytes(imagecodecs.apng_encode(frames))
    assert find_stack_axes(tmp_path / "a.png") == (("T", 2),)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", page=number), frame)


@pytest.mark.parametrize("highest", [3, 255, 1000, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("is_text", [False, True])
def test_netpbm_keeps_its_values(tmp_path: Path, highest: int, channels: int, is_text: bool) -> None:
    values = np.random.default_rng(1).integers(0, highest, (8, 12, channels), endpoint=True)
    kind = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[channels, is_text]
    header = f"P{kind}\n# a comment\n12 8\n{highest}\n".encode()
    body = values.astype(">u2" if highest > 255 else "u1").tobytes()
    path = tmp_path / "a.ppm"
    path.write_bytes(header + (" ".join(map(str, values.ravel())).encode() if is_text else body))
    np.testing.assert_array_equal(read_image(path), values)
    assert read_image(path).dtype == (np.uint16 if highest > 255 else np.uint8)
    assert read_size(path) == (8, 12)
    if channels == 1:
        np.testing.assert_array_equal(read_mask(path), values[..., 0])


def test_netpbm_of_bits(tmp_path: Path) -> None:
    Image.fromarray(GRAY > 99).save(tmp_path / "a.pbm")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.pbm"), GRAY > 99)


@pytest.mark.parametrize("header", [b"P5 12 8 0\n", b"P5 12 8 70000\n"])
def test_netpbm_with_an_impossible_depth_is_an_error(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.pgm").write_bytes(header + bytes(200))
    with pytest.raises(DataError, match=r"a\.pgm: Its largest value is \d+, but must be 1 to 65535"):
        read_image(tmp_path / "a.pgm")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("ending", "codec"), [(".jp2", "jp2"), (".j2k", "j2k")])
def test_jpeg_2000_keeps_its_values(tmp_path: Path, ending: str, codec: str, channels: int, dtype: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (8, 12, channels), dtype)
    path = tmp_path / f"a{ending}"
    path.write_bytes(imagecodecs.jpeg2k_encode(pixels.squeeze(), level=0, codecformat=codec))
    np.testing.assert_array_equal(read_image(path), pixels)
    assert read_size(path) == (8, 12)
    if channels == 1:
        np.testing.assert_array_equal(read_mask(path), pixels[..., 0])


@pytest.mark.parametrize("ending", [".jfif", ".jpe"])
def test_other_names_of_jpeg(tmp_path: Path, ending: str) -> None:
    Image.fromarray(NOISE).save(tmp_path / f"a{ending}", "JPEG")
    with Image.open(tmp_path / f"a{ending}") as stored:
        np.testing.assert_array_equal(read_image(tmp_path / f"a{ending}"), np.asarray(stored))


def test_heic_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    colors = np.repeat(np.repeat(PALETTE.reshape(2, 2, 3), 32, 0), 48, 1)
    pillow_heif.from_pillow(Image.fromarray(colors)).save(tmp_path / "a.heic", quality=-1, exif=exif.tobytes())
    expected = np.rot90(colors, -1)
    assert read_image(tmp_path / "a.heic").shape == expected.shape
    np.testing.assert_allclose(read_image(tmp_path / "a.heic").astype(int), expected, atol=6)


def test_several_pictures_of_a_phone_are_one(tmp_path: Path) -> None:
    """JPEG files of two pictures (MPO), as of phones that store a map of the light behind the photograph."""
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(GRAY)])
    assert find_stack_axes(tmp_path / "a.jpg") == ()
    assert read_image(tmp_path / "a.jpg").shape == NOISE.shape


def add_chunks(content: bytes, *chunks: tuple[bytes, bytes], at: int = 33) -> bytes:
    added = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return content[:at] + b"".join(added) + content[at:]


TEXT = b"xml\0" + b" " * 2_000_000
LARGE_CHUNKS = [
    (b"tEXt", TEXT),
    (b"zTXt", b"xml\0\0" + zlib.compress(TEXT)),
    (b"iTXt", b"xml\0\1\0\0\0" + zlib.compress(TEXT)),
    (b"iCCP", b"icc\0\0" + zlib.compress(TEXT)),
]
MANY_CHUNKS = [(b"zTXt", b"xml\0\0" + zlib.compress(bytes(1_000_000)))] * 70
"""More than 64 MB of text in all, but no chunk of more than 1 MB."""


@pytest.mark.parametrize("pixels", [NOISE, NOISE.astype(np.uint16) * 257], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("chunk", LARGE_CHUNKS, ids=lambda chunk: chunk[0].decode())
@pytest.mark.parametrize("is_last", [False, True])
def test_png_with_much_text_or_profile_is_read(
    tmp_path: Path, chunk: tuple[bytes, bytes], pixels: Array, is_last: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    content = bytes(imagecodecs.png_encode(pixels))
    content = add_chunks(content, chunk, at=len(content) - 12 if is_last else 33)
    path = tmp_path / "a.png"
    path.write_bytes(add_chunks(content, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    np.testing.assert_array_equal(read_image(path), pixels[::-1, ::-1])
    assert read_size(path) == (8, 12)


def test_png_with_many_texts_is_read(tmp_path: Path) -> None:
    """Report: https://github.com/d8ahazard/sd_dreambooth_extension/issues/1145."""
    content = add_chunks(bytes(imagecodecs.png_encode(NOISE)), *MANY_CHUNKS)
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), NOISE)
    assert read_size(tmp_path / "a.png") == (8, 12)
    assert find_stack_axes(tmp_path / "a.png") == ()


def test_an_animation_behind_much_text_is_a_stack(tmp_path: Path) -> None:
    content = add_chunks(bytes(imagecodecs.apng_encode(np.stack([NOISE, NOISE // 2]))), *LARGE_CHUNKS)
    (tmp_path / "a.png").write_bytes(content)
    assert find_stack_axes(tmp_path / "a.png") == (("T", 2),)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", page=1), NOISE // 2)


def encode(picture: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def orient(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif


LARGE = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8).repeat(7, 0).repeat(7, 1)
FAST = {
    "4:4:4.jpg": encode(Image.fromarray(LARGE), "JPEG", subsampling=0),
    "4:2:0.jpg": encode(Image.fromarray(LARGE), "JPEG", subsampling=2),
    "gray.jpg": encode(Image.fromarray(LARGE[..., 0]), "JPEG"),
    "progressive.jpg": encode(Image.fromarray(LARGE), "JPEG", progressive=True),
    "rotated.jpg": encode(Image.fromarray(LARGE), "JPEG", exif=orient(6)),
    "no-orientation.jpg": encode(Image.fromarray(LARGE), "JPEG", exif=orient(9)),
    "trailing.jpg": encode(Image.fromarray(LARGE), "JPEG") + b"video",
    "gray.png": encode(Image.fromarray(LARGE[..., 0]), "PNG"),
    "rgb.png": encode(Image.fromarray(LARGE), "PNG"),
    "rgba.png": encode(Image.fromarray(LARGE[..., [0, 1, 2, 0]]), "PNG"),
}
SLOW = {
    "cmyk.jpg": encode(Image.fromarray(LARGE).convert("CMYK"), "JPEG"),
    "truncated.jpg": FAST["4:4:4.jpg"][:-1],
    "rotated.png": encode(Image.fromarray(LARGE), "PNG", exif=orient(6)),
    "transparent-gray.png": encode(Image.fromarray(LARGE[..., 0]), "PNG", transparency=3),
    "bits.png": encode(Image.fromarray(LARGE[..., 0] > 99), "PNG"),
    "truncated.png": FAST["gray.png"][:-30],
    "damaged.png": FAST["rgb.png"][:200] + b"?" + FAST["rgb.png"][201:],
}


@pytest.mark.parametrize("as_stored", [False, True])
@pytest.mark.parametrize("name", [*FAST, *SLOW, "palette.png"])
def test_both_decoders_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch, name: str, as_stored: bool) -> None:
    content = {**FAST, **SLOW, "palette.png": encode(palette_picture(IDS, np.tile(PALETTE, (5, 1))), "PNG")}[name]
    is_fast = name in FAST or (name == "palette.png" and as_stored)
    assert (pictures._decode_jpeg(content) or pictures._decode_png(content, as_stored)) is not None or not is_fast
    if name in SLOW:
        assert pictures._decode_jpeg(content) is pictures._decode_png(content, as_stored) is None
    found = decode_or_error(content, as_stored)
    monkeypatch.setattr(pictures, "_decode_jpeg", lambda content: None)
    monkeypatch.setattr(pictures, "_decode_png", lambda content, as_stored: None)
    expected = decode_or_error(content, as_stored)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert not isinstance(found, str)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert (found.pixels.dtype, found.alpha) == (expected.pixels.dtype, expected.alpha)


def decode_or_error(content: bytes, as_stored: bool) -> pictures.DecodedImage | str:
    try:
        return pictures.decode_picture(io.BytesIO(content), page=None, as_stored=as_stored)
    except Exception as error:  # decoders raise errors of any type
        return repr(error)


@given(
    position=st.integers(2, 2000), value=st.integers(0, 255), length=st.integers(1, 2000), name=st.sampled_from([*FAST])
)
def test_damaged_pictures_are_refused_or_decoded_as_by_pillow(
    position: int, value: int, length: int, name: str
) -> None:
    content = bytearray(FAST[name])
    content[position % len(content)] = value
    damaged = bytes(content[: len(content) - length % 40]) if length % 2 else bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = decode_or_error(damaged, as_stored=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures, "_decode_jpeg", lambda content: None)
            patch.setattr(pictures, "_decode_png", lambda content, as_stored: None)
            expected = decode_or_error(damaged, as_stored=False)
    if isinstance(expected, str) or isinstance(found, str):
        assert isinstance(expected, str)
        assert isinstance(found, str)
    else:
        np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("number", [1, 2, 12])
@pytest.mark.parametrize("marker", [b"\xff\xd9", b"\xff\xdb"])
def test_jpeg_with_extra_bytes_before_a_marker_is_complete(tmp_path: Path, marker: bytes, number: int) -> None:
    """Reports: https://github.com/ultralytics/yolov5/issues/3450 and https://github.com/AlexeyAB/darknet/issues/5293."""
    Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    expected = read_image(tmp_path / "a.jpg")
    at = content.rindex(marker) if marker == b"\xff\xd9" else content.index(marker)
    (tmp_path / "a.jpg").write_bytes(content[:at] + bytes([17]) * number + content[at:])
    assert not inspect_file(tmp_path / "a.jpg").is_truncated
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


ENCODERS = {
    ".gif": lambda pixels: _save(pixels, "GIF"),
    ".avif": lambda pixels: _save(pixels, "AVIF"),
    ".ppm": lambda pixels: _save(pixels, "PPM"),
    ".jp2": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0),
    ".heic": lambda pixels: _save_heic(pixels),
}


def _save(pixels: Array, name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    return buffer.getvalue()


def _save_heic(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", ENCODERS)
def test_a_truncated_file_is_an_error(tmp_path: Path, ending: str) -> None:
    content = ENCODERS[ending](np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = tmp_path / f"a{ending}"
    for share in (0.02, 0.1, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        for read in (read_image, read_mask):
            with pytest.raises(DataError, match=rf"/a{ending}: .*\. Replace or remove it\."):
                read(path)


@pytest.mark.parametrize("ending", ENCODERS)
def test_too_many_pixels_are_refused_before_decoding(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(ENCODERS[ending](np.zeros((64, 65, 3), np.uint8)))
    monkeypatch.setattr("pixelwise.data.io.decoded_image.MAX_PIXELS", 64 * 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 32)
    with pytest.raises(DataError, match=rf"/a{ending}: The image has more than 4,096 pixels. Cut it into tiles"):
        read_image(path)


FUZZED = {
    **ENCODERS,
    ".npy": lambda pixels: _save_array(np.save, pixels),
    ".npz": lambda pixels: _save_array(np.savez_compressed, pixels),
    ".mat": lambda pixels: _save_array(lambda file, array: scipy.io.savemat(file, {"a": array}), pixels),
    ".apng": lambda pixels: imagecodecs.apng_encode(np.stack([pixels, pixels]).astype(np.uint16)),
}


def _save_array(save: Any, pixels: Array) -> bytes:
    buffer = io.BytesIO()
    save(buffer, pixels)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", FUZZED)
@given(st.binary(max_size=64), st.data())
def test_random_bytes_raise_only_data_errors(
    ending: str, tmp_path_factory: pytest.TempPathFactory, noise: bytes, data: st.DataObject
) -> None:
    content = bytes(FUZZED[ending](np.zeros((16, 16, 3), np.uint8)))
    start = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.getbasetemp() / f"fuzzed{ending}"
    path.write_bytes(content[:start] + noise + content[start + len(noise) :])
    for read in (read_image, read_mask, read_size, find_stack_axes):
        with contextlib.suppress(DataError):
            read(path)
