"""DICOM: single frames, in the units of their modality. Needs the extra `dicom`."""

import io

import numpy as np

from pixelwise.data.io.decoded import Array, Decoded, require_size, with_channels
from pixelwise.errors import DataError

ENDING = ".dcm"


def is_dicom(content: bytes) -> bool:
    return content[128:132] == b"DICM"


def decode_dicom(content: bytes, *, as_stored: bool) -> Decoded:
    """One frame. Stored values are those of a mask: not rescaled, inverted or colored.

    Rescale slope and intercept (or the modality's table) are applied wherever the file has them, and
    give float32 also where they change nothing, so that all files of a scanner are of one type.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError as error:
        raise DataError('DICOM needs one package more; install it: pip install "pixelwise[dicom]".') from error
    dataset = dcmread(io.BytesIO(content))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(f"the DICOM file holds {frames} frames; save one frame per file.")
    require_size(int(dataset.Rows), int(dataset.Columns))
    pixels: Array = pixel_array(dataset)
    if not as_stored:
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            pixels = _inverted(pixels, int(dataset.BitsStored))
        if "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset:
            pixels = apply_modality_lut(pixels, dataset).astype(np.float32)
    return Decoded(pixels=with_channels(pixels), alpha=False)


def _inverted(pixels: Array, bits: int) -> Array:
    """Stored with 0 for white; of signed values the two ends change places."""
    ends = -1 if pixels.dtype.kind == "i" else 2**bits - 1
    return (ends - pixels).astype(pixels.dtype)
