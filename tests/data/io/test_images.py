import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.data.io.images import (
    FILE_TYPES,
    Array,
    decode_image,
    decode_image_bytes,
    encode_png,
    read_image,
    read_mask,
    read_mask_bytes,
    read_size,
    write_png,
)
from pixelwise.errors import DataError, PathNotFoundError

SIZE = (7, 11)
ORIENTATION = 0x0112


def noise(channels: int, dtype: type = np.uint8, high: int | None = None) -> Array:
    """(7, 11, C), or (7, 11) for one channel."""
    shape = (*SIZE, channels) if channels > 1 else SIZE
    top = high or np.iinfo(dtype).max
    return np.random.default_rng(channels).integers(0, top, shape, dtype, endpoint=True)


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def save_tiff(path: Path, pixels: Array, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


def save_png(path: Path, pixels: Array) -> Path:
    """Any depth that imagecodecs writes: 8 or 16 bit with 1 to 4 channels."""
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def save_shallow_png(path: Path, pixels: Array, bits: int) -> Path:
    """Gray of 1, 2 or 4 bits a pixel, which Pillow does not write."""
    height, width = pixels.shape
    spread = (pixels[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
    rows = np.packbits(spread.astype(np.uint8), axis=1)
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))
    return path


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def assert_image(path: Path, expected: Array) -> None:
    """Exactly these pixels, with an axis for the channels."""
    decoded = read_image(path)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert decoded.dtype == expected.dtype
    np.testing.assert_array_equal(decoded, expected)


def assert_mask(path: Path, expected: Array) -> None:
    decoded = read_mask(path)
    assert decoded.dtype == expected.dtype
    np.testing.assert_array_equal(decoded, expected)


# Formats, depths and channels.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(tmp_path: Path, dtype: type, channels: int) -> None:
    pixels = noise(channels, dtype)
    path = save_png(tmp_path / "a.png", pixels)
    assert_image(path, pixels)
    if channels == 1:
        assert_mask(path, pixels)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_alpha(tmp_path: Path, ending: str, dtype: type, channels: int) -> None:
    pixels, path = noise(channels, dtype), tmp_path / f"a{ending}"
    color = {"photometric": "minisblack" if channels == 2 else "rgb", "extrasamples": [2]}

    def write() -> None:
        if ending == ".png":
            save_png(path, pixels)
        else:
            save_tiff(path, pixels, planarconfig="contig", **color)

    write()
    assert decode_image(path).alpha
    with pytest.raises(DataError, match=f"The alpha channel varies.* or 'channels: {channels}' if alpha"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, channels), pixels)
    with pytest.raises(DataError, match=r"The mask's alpha channel varies\. Save masks without alpha"):
        read_mask(path)
    pixels[..., -1] = 77
    write()
    assert_image(path, pixels[..., :-1])
    np.testing.assert_array_equal(read_image(path, channels), pixels)
    if channels == 2:
        assert_mask(path, pixels[..., 0])


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_palette(tmp_path: Path, ending: str) -> None:
    indices, palette = noise(1, high=5), noise(3).reshape(-1, 3)[:6]
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    path = save(tmp_path / f"a{ending}", picture)
    assert_image(path, palette[indices])
    assert_mask(path, indices)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_of_few_bits(tmp_path: Path, bits: int) -> None:
    indices, palette = noise(1, high=2**bits - 1), noise(3).reshape(-1, 3)[: 2**bits]
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    path = save(tmp_path / "a.png", picture, bits=bits)
    assert path.read_bytes()[24] == bits
    assert_image(path, palette[indices])
    assert_mask(path, indices)


def test_palette_with_transparency(tmp_path: Path) -> None:
    indices, palette = noise(1, high=2), noise(3).reshape(-1, 3)[:3]
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    path = save(tmp_path / "a.png", picture, transparency=bytes([255, 255, 255]))
    assert_image(path, palette[indices])
    save(path, picture, transparency=bytes([0, 255, 255]))
    with pytest.raises(DataError, match="The alpha channel varies"):
        read_image(path)
    assert_mask(path, indices)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_png_of_few_bits(tmp_path: Path, bits: int) -> None:
    """Images use the whole range; masks keep their ids."""
    pixels = noise(1, high=2**bits - 1)
    path = save_shallow_png(tmp_path / "a.png", pixels, bits)
    assert_image(path, pixels * (255 // (2**bits - 1)))
    assert_mask(path, pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_gray_tiff_of_few_bits(tmp_path: Path, bits: int, photometric: str) -> None:
    pixels, top = noise(1, high=2**bits - 1), 2**bits - 1
    stored = imagecodecs.packints_encode(pixels, bits, runlen=SIZE[1])
    path = tmp_path / "a.tif"
    options = {"shape": SIZE, "dtype": "uint8", "bitspersample": bits, "rowsperstrip": SIZE[0]}
    tifffile.imwrite(path, iter([stored]), photometric=photometric, **options)  # type: ignore[arg-type]
    shown = top - pixels if photometric == "miniswhite" else pixels
    assert_image(path, shown * (255 // top))
    assert_mask(path, pixels)


def test_one_bit_bmp(tmp_path: Path) -> None:
    bits = noise(1, high=1)
    path = save(tmp_path / "a.bmp", Image.fromarray(bits.astype(bool)))
    assert_image(path, bits * 255)
    assert_mask(path, bits)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_zero_for_white(tmp_path: Path, dtype: type) -> None:
    pixels = noise(1, dtype)
    path = save_tiff(tmp_path / "a.tif", pixels, photometric="miniswhite")
    assert_image(path, np.iinfo(dtype).max - pixels)
    assert_mask(path, pixels)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("ending", "options"), [(".bmp", {}), (".webp", {"lossless": True})])
def test_exact_formats(tmp_path: Path, ending: str, options: dict[str, bool], mode: str) -> None:
    pixels = noise(3 if mode == "RGB" else 1)
    path = save(tmp_path / f"a{ending}", Image.fromarray(pixels), **options)
    gray_in_color = mode == "L" and ending == ".webp"
    assert_image(path, np.stack([pixels] * 3, -1) if gray_in_color else pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_what_pillow_shows(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(noise(3)).convert(mode)
    path = save(tmp_path / "a.jpg", picture)
    with Image.open(path) as stored:
        assert_image(path, np.asarray(stored.convert("RGB") if mode == "CMYK" else stored))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("format", ["contig", "separate"])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff(tmp_path: Path, dtype: type, channels: int, format: str, compression: str | None) -> None:
    pixels = noise(channels, dtype)
    options: dict[str, Any] = {"photometric": "rgb" if channels == 3 else "minisblack"}
    if channels > 1:
        options["planarconfig"] = format
    stored = np.moveaxis(pixels, -1, 0) if channels > 1 and format == "separate" else pixels
    path = save_tiff(tmp_path / "a.tif", stored, compression=compression, **options)
    assert_image(path, pixels)
    assert not decode_image(path).alpha


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}])
def test_tiff_in_other_containers(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = noise(3, np.uint16)
    assert_image(save_tiff(tmp_path / "a.tif", pixels, photometric="rgb", **options), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 9, 3), (1, 1, 6)])
def test_tiff_of_one_row_or_column(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    assert_image(
        save_tiff(
            tmp_path / "a.tif",
            pixels,
            photometric="minisblack",
            **({"planarconfig": "contig"} if len(shape) == 3 else {}),
        ),
        pixels,
    )


def test_only_the_last_band_of_a_tiff_can_be_alpha(tmp_path: Path) -> None:
    options = {"photometric": "rgb", "planarconfig": "contig", "extrasamples": [2, 0]}
    path = save_tiff(tmp_path / "a.tif", noise(5), **options)
    assert_image(path, noise(5))


def test_content_is_read_independent_of_the_extension(tmp_path: Path) -> None:
    pixels = noise(3)
    Image.fromarray(pixels).save(tmp_path / "a.tif", "PNG")
    assert_image(tmp_path / "a.tif", pixels)


# The EXIF rotation.


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_that_of_pillow(tmp_path: Path, ending: str, orientation: int) -> None:
    path = save(tmp_path / f"a{ending}", Image.fromarray(noise(3)), exif=exif(orientation))
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert expected.shape[:2] == (SIZE if orientation < 5 else SIZE[::-1])
    assert_image(path, expected)
    assert_mask(path, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit(tmp_path: Path, orientation: int) -> None:
    """As of 8 bit; the TIFF as a mask, too."""
    gray = Image.fromarray(noise(1, np.uint16))
    gray.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(gray))
    path = save_tiff(tmp_path / "a.tif", noise(1, np.uint16), extratags=[(ORIENTATION, 3, 1, orientation, True)])
    assert_image(path, expected)
    assert_mask(path, expected)
    path = save(tmp_path / "a.png", Image.fromarray(noise(1, np.uint16)), exif=exif(orientation))
    assert_image(path, expected)
    assert_mask(path, expected)


# Masks.


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_color_mask(tmp_path: Path, ending: str) -> None:
    assert_mask(save(tmp_path / f"a{ending}", Image.fromarray(noise(3))), noise(3))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int64, np.float32])
def test_a_tiff_mask_of_another_type_holds_ids(tmp_path: Path, dtype: type) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(1, np.uint16).astype(dtype))
    assert_mask(path, noise(1, np.uint16))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full(SIZE, 2**60, np.int64), "The mask contains 1152921504606846976. Save class ids between"),
        (np.full((*SIZE, 3), 256, np.uint16), "The mask contains 256. Save colors between 0 and 255"),
        (np.zeros((*SIZE, 4), np.uint8), "The mask has 4 channels. Save class ids in one channel"),
    ],
)
def test_pixels_that_are_not_a_mask_are_an_error(tmp_path: Path, pixels: Array, message: str) -> None:
    options: dict[str, Any] = {"planarconfig": "contig"} if pixels.ndim == 3 else {}
    photometric = "rgb" if pixels.shape[2:] == (3,) else "minisblack"
    path = save_tiff(tmp_path / "a.tif", pixels, photometric=photometric, **options)
    with pytest.raises(DataError, match=message) as caught:
        read_mask(path)
    assert str(caught.value).startswith(f"{path}: ")


NUMBER_TYPES = [np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", NUMBER_TYPES)
def test_minus_1_stays_and_nan_becomes_minus_1_in_masks_of_every_type(tmp_path: Path, dtype: type) -> None:
    expected = np.array([[-1, 0, 1], [2, -1, 100]])
    pixels = expected.astype(dtype)
    if np.dtype(dtype).kind == "f":
        pixels[0, 0] = np.nan
    assert_mask(save_tiff(tmp_path / "a.tif", pixels), expected.astype(np.int32))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, *NUMBER_TYPES])
def test_masks_in_npy_hold_the_same_values_as_in_tiff(tmp_path: Path, dtype: type) -> None:
    ids = np.array([[0, 1, 1], [1, 0, 1]] if dtype == np.bool_ else [[0, 1, 2], [3, 100, 1]], dtype)
    if np.dtype(dtype).kind == "f":
        ids[0, 0] = np.nan
    elif np.dtype(dtype).kind == "i":
        ids[0, 0] = -1
    np.save(tmp_path / "a.npy", ids)
    expected = [[-1 if np.isnan(v) else int(v) for v in row] for row in ids.tolist()]
    assert read_mask(tmp_path / "a.npy").tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, -np.finfo(np.float32).max])
@pytest.mark.parametrize("other", [2, 0.5])
def test_floats_that_are_no_number_of_a_class_are_no_label(tmp_path: Path, value: float, other: float) -> None:
    path = save_tiff(tmp_path / "a.tif", np.array([[0, value, other]], np.float32))
    expected = np.array([[0, -1, 2]], np.int32) if other == 2 else np.array([[0, np.nan, 0.5]])
    assert_mask(path, expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32, np.uint64, np.float64])
@pytest.mark.parametrize(("highest", "expected"), [(300, np.uint16), (70_000, np.int32), (2**40, np.int64)])
def test_masks_hold_numbers_of_any_size(tmp_path: Path, dtype: type, highest: int, expected: type) -> None:
    if np.dtype(dtype).kind != "f" and highest > np.iinfo(dtype).max:
        return
    ids = np.array([[0, 1], [2, highest]])
    assert_mask(save_tiff(tmp_path / "a.tif", ids.astype(dtype)), ids.astype(expected))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_of_fractions_are_read_as_stored(tmp_path: Path, dtype: type) -> None:
    pixels = np.array([[0, 0.25], [np.nan, 1]], dtype)
    assert_mask(save_tiff(tmp_path / "a.tif", pixels), pixels.astype(np.float64))


# Files that are at fault.


def test_a_stack_is_an_error(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", np.zeros((5, *SIZE), np.uint8), photometric="minisblack")
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"is a stack of 5 images \(axes QYX\), but one .* or write 'channels: 5'"):
            read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"a\.png: The file does not exist"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_mask, decode_image])
def test_an_empty_file_is_an_error(tmp_path: Path, read: Any) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: The file is empty. Replace or remove it"):
        read(tmp_path / "a.png")


ICON = io.BytesIO()
Image.new("L", (16, 16)).save(ICON, "ICO")


@pytest.mark.parametrize("content", [b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n", ICON.getvalue()])
def test_a_foreign_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    """By its content, also where Pillow would know it: EPS would run another program."""
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, read_mask):
        with pytest.raises(
            DataError,
            match=r"a\.png: The file is not an image of a known format \(PNG, .*. Replace",
        ):
            read(tmp_path / "a.png")


def encode(ending: str, pixels: Array) -> bytes:
    buffer = io.BytesIO()
    if ending == ".tif":
        tifffile.imwrite(buffer, pixels, photometric="rgb")
    elif ending == ".png16":
        return bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 257))
    else:
        Image.fromarray(pixels).save(buffer, ending[1:].replace("jpg", "jpeg"))
    return buffer.getvalue()


@pytest.mark.parametrize("ending", [".png", ".png16", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_truncated_file_is_an_error(tmp_path: Path, ending: str) -> None:
    content = encode(ending, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    path = tmp_path / "a"
    for share in (0.02, 0.1, 0.5, 0.9, 0.98):
        path.write_bytes(content[: int(share * len(content))])
        for read in (read_image, read_mask):
            with pytest.raises(DataError, match=r"/a: .*. Replace or remove it\."):
                read(path)


def refusal(read: Any, path: Path) -> str:
    try:
        read(path)
    except DataError as error:
        return str(error)
    return f"{path}: can be read"


@given(st.binary(max_size=64), st.sampled_from([".png", ".png16", ".tif", ".bmp", ".webp"]), st.data())
def test_random_bytes_raise_only_data_errors(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, ending: str, data: st.DataObject
) -> None:
    content = encode(ending, np.zeros((4, 4, 3), np.uint8))
    start = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content[:start] + noise + content[start + len(noise) :])
    for read in (read_image, read_mask):
        assert refusal(read, path).startswith(f"{path}: ")


@pytest.mark.parametrize("ending", [".png", ".png16", ".bmp", ".tif"])
def test_too_many_pixels_are_refused_before_decoding(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelwise.data.io.decoded_image.MAX_PIXELS", 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow refuses twice of this
    path = tmp_path / "a"
    path.write_bytes(encode(ending, np.zeros((10, 11, 3), np.uint8)))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"/a: The image has more than 100 pixels. Cut it into tiles"):
            read(path)


def test_the_pixel_limit_is_that_of_pillow() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


# Writing.


@pytest.mark.parametrize("pixels", [noise(1), noise(3), noise(1, np.uint16)])
def test_written_pngs_are_read_again(tmp_path: Path, pixels: Array) -> None:
    path = tmp_path / "new" / "a.png"
    write_png(path, pixels)
    assert_mask(path, pixels)
    assert_image(path, pixels)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pngs_of_several_channels_are_those_that_were_encoded(dtype: type, channels: int) -> None:
    pixels = noise(channels, dtype)
    decoded = cv2.imdecode(np.frombuffer(encode_png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][:channels]
    np.testing.assert_array_equal(decoded[..., order], pixels)


def test_a_written_palette_holds_indices_and_shows_colors(tmp_path: Path) -> None:
    indices = noise(1, high=2)
    palette = [(1, 2, 3), (255, 0, 9), (8, 8, 8)]
    write_png(tmp_path / "a.png", indices, palette)
    assert_mask(tmp_path / "a.png", indices)
    assert_image(tmp_path / "a.png", np.array(palette, np.uint8)[indices])


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_png(tmp_path / "a.png", gray)
    content = (tmp_path / "a.png").read_bytes()
    assert content == encode_png(gray)
    assert np.array_equal(decode_image_bytes(content, "row 1").pixels, gray[..., None])
    assert np.array_equal(read_mask_bytes(content, "row 1"), gray)


@pytest.mark.parametrize("read", [decode_image_bytes, read_mask_bytes])
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "The file is empty"), (b"no image", "The file is not an image")]
)
def test_errors_of_bytes_have_their_name(read: Any, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^a.tar: 1.png: {message}"):
        read(content, "a.tar: 1.png")


# Sizes alone, and images inside of other files.


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_the_size_is_that_of_the_decoded_image(tmp_path: Path, ending: str, orientation: int) -> None:
    options = {} if ending == ".bmp" else {"exif": exif(orientation)}
    path = save(tmp_path / f"a{ending}", Image.fromarray(noise(3)), **options)
    assert read_size(path) == read_image(path).shape[:2]


def test_the_size_of_an_image_of_many_bands(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(7), planarconfig="contig", photometric="minisblack")
    assert read_size(path) == SIZE


def test_the_size_of_a_file_that_is_not_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a\.png: The file is not an image of a known format"):
        read_size(tmp_path / "a.png")


def test_the_bytes_of_an_image_are_decoded_as_its_file(tmp_path: Path) -> None:
    path = save_png(tmp_path / "a.png", noise(3))
    np.testing.assert_array_equal(decode_image_bytes(path.read_bytes(), "x").pixels, read_image(path))
    with pytest.raises(DataError, match=r"^a part of a file: The file is not an image of a known format"):
        decode_image_bytes(b"text", "a part of a file")


def test_the_documentation_lists_all_types() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    for kind in FILE_TYPES:
        extensions = ", ".join(f"`{extension}`" for extension in kind.extensions)
        extra = re.sub(r"^\w+", r"`\g<0>` ", kind.extra).replace("  ", " ").rstrip()
        assert f"| {kind.name} | {extensions} | {kind.package} | {extra}{' ' if extra else ''}|" in page
