"""Decoding of DICOM. Needs the extra `dicom`."""

from typing import Any, BinaryIO

import numpy as np

from pixelwise.data.io.decoded_image import Array, DecodedImage, add_channel_axis, require_size
from pixelwise.errors import DataError


def count_frames(file: BinaryIO) -> int:
    """Count the frames of a file."""
    return int(_read_dataset(file, stop_before_pixels=True).get("NumberOfFrames") or 1)


def decode_dicom(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode a frame; unless `as_stored`, in the units of its modality and in color.

    Rescale slope and intercept (or the modality's table) are applied wherever the file has them. The result is then
    float32 even if they change nothing, so that all files of a scanner have the same type.
    """
    dataset = _read_dataset(file)
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    require_size(int(dataset.Rows), int(dataset.Columns))
    pixels: Array = pixel_array(dataset, index=page)
    if not as_stored:
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
        if dataset.PhotometricInterpretation == "MONOCHROME1":  # 0 is white
            highest = -1 if pixels.dtype.kind == "i" else 2 ** int(dataset.BitsStored) - 1
            pixels = (highest - pixels).astype(pixels.dtype)
        if "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset:
            pixels = apply_modality_lut(pixels, dataset).astype(np.float32)
    return DecodedImage(pixels=add_channel_axis(pixels), alpha=False)


def _read_dataset(file: BinaryIO, *, stop_before_pixels: bool = False) -> Any:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise DataError(
            'DICOM needs pydicom, which is not installed. Install it: pip install "pixelwise[dicom]".'
        ) from error
    return dcmread(file, stop_before_pixels=stop_before_pixels)
