"""Images that are the same picture, pixel for pixel."""

import hashlib

import numpy as np

from pixelwise.data.images import Array


def pixel_digest(pixels: Array) -> str:
    """Equal for equal pixels of one shape and type, and for no others in practice.

    The decoded pixels are hashed and not the file: a copy saved again as another PNG or as TIFF, or
    with other metadata, is still a copy. The survey has decoded them anyway.
    """
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
