import numpy as np
import pytest

from pixelwise.data.duplicates import pixel_digest
from pixelwise.data.images import Array

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_a_copy_has_the_same_digest_however_it_lies_in_memory() -> None:
    assert pixel_digest(PIXELS.copy()) == pixel_digest(PIXELS)
    assert pixel_digest(np.asfortranarray(PIXELS)) == pixel_digest(PIXELS)


@pytest.mark.parametrize(
    "other",
    [PIXELS ^ np.uint8(1), PIXELS.reshape(4, 2, 3), PIXELS.astype(np.uint16), PIXELS[:1], PIXELS[..., ::-1]],
    ids=["pixel", "shape", "type", "part", "channels"],
)
def test_another_image_has_another_digest(other: Array) -> None:
    assert pixel_digest(other) != pixel_digest(PIXELS)
