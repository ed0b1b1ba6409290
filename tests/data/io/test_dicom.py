import io
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from pixelwise.data.io.decoded_image import Array
from pixelwise.data.io.images import read_image, read_mask
from pixelwise.errors import DataError

STORED = np.random.default_rng(0).integers(0, 4096, (7, 11))


def write(path: Path, pixels: Array, bits: int = 0, photometric: str = "MONOCHROME2", **more: object) -> Path:
    """A file of one frame of `pixels`, (H, W) or (H, W, 3); `more` are elements of the dataset."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, np.uint16), (np.int16, np.float32)])
def test_pixels_are_as_stored_without_rescaling(tmp_path: Path, dtype: type, expected: type) -> None:
    stored = (STORED - (2048 if dtype == np.int16 else 0)).astype(dtype)
    read = read_image(write(tmp_path / "a.dcm", stored, bits=12))
    assert read.dtype == expected
    np.testing.assert_array_equal(read[..., 0], stored)


def test_eight_bit_and_color(tmp_path: Path) -> None:
    gray = (STORED // 16).astype(np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", gray))[..., 0], gray)
    color = np.stack([gray, gray // 2, 255 - gray], -1)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", color, photometric="RGB")), color)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (1, 0), (0.5, 10)])
def test_slope_and_intercept_give_the_units_of_the_modality(tmp_path: Path, slope: float, intercept: float) -> None:
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16), bits=12, RescaleSlope=slope, RescaleIntercept=intercept)
    read = read_image(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[..., 0], slope * STORED + intercept)


def test_zero_for_white_is_inverted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16), bits=12, photometric="MONOCHROME1")
    np.testing.assert_array_equal(read_image(path)[..., 0], 4095 - STORED)
    signed = (STORED - 2048).astype(np.int16)
    path = write(tmp_path / "a.dcm", signed, bits=12, photometric="MONOCHROME1")
    np.testing.assert_array_equal(read_image(path)[..., 0], -1 - signed)


def test_a_palette_gives_colors_and_a_mask_its_indices(tmp_path: Path) -> None:
    indices, colors = (STORED % 4).astype(np.uint8), np.random.default_rng(1).integers(0, 256, (4, 3), np.uint8)
    tables = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
        tables[f"{name}PaletteColorLookupTableData"] = colors[:, channel].tobytes()
    path = write(tmp_path / "a.dcm", indices, photometric="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(read_image(path), colors[indices])
    np.testing.assert_array_equal(read_mask(path), indices)


def test_a_mask_is_as_stored(tmp_path: Path) -> None:
    ids = (STORED % 5).astype(np.uint16)
    path = write(tmp_path / "a.dcm", ids, photometric="MONOCHROME1", RescaleSlope=2, RescaleIntercept=7)
    np.testing.assert_array_equal(read_mask(path), ids)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16), NumberOfFrames=3)
    with pytest.raises(
        DataError,
        match=r"a\.dcm: The file is a stack of 3 images \(axes ZYX\), but one is expected. Save one image per file\.",
    ):
        read_image(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.data.io.decoded_image.MAX_PIXELS", 70)
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16))
    with pytest.raises(DataError, match=r"a\.dcm: The image has more than 70 pixels. Cut it into tiles"):
        read_image(path)


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"a\.dcm: The file cannot be decoded"):
        read_image(path)


def test_missing_pydicom_is_an_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        DataError,
        match=r'a\.dcm: DICOM needs pydicom, which is not installed. Install it: pip install "pixelwise\[dicom\]"',
    ):
        read_image(path)
