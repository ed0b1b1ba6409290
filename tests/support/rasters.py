"""Images as other programs leave them: OME-Zarrs and whole slides."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

Array = npt.NDArray[Any]
TILE = 32
"""Side of the chunks of a Zarr and of the tiles of a slide."""
KINDS_OF_AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def write_zarr(
    path: Path,
    image: Array,
    axes: str = "cyx",
    *,
    version: str = "0.5",
    levels: int = 1,
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    dtype: str | None = None,
) -> Path:
    """An (H, W, C) image as an OME-Zarr; axes that it lacks have length 1, and a coarser level holds zeros."""
    import zarr

    order = [axis for axis in axes if axis in "yxc"]
    pixels = (image if "c" in axes else image[..., 0]).transpose(["yxc".index(axis) for axis in order])
    pixels = pixels.reshape([pixels.shape[order.index(axis)] if axis in order else 1 for axis in axes])
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale or [1.0] * len(axes))}]
    if translation:
        steps.append({"type": "translation", "translation": list(translation)})
    multiscale = {
        "axes": [{"name": name, "type": KINDS_OF_AXES[name]} for name in axes],
        "datasets": [{"path": f"s{level}", "coordinateTransformations": steps} for level in range(levels)],
    }
    old = version < "0.5"
    described = {"multiscales": [{"version": version, **multiscale}]}
    attributes = described if old else {"ome": {"version": version, "multiscales": [multiscale]}}
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3, attributes=attributes)
    for level in range(levels):
        array = group.create_array(
            f"s{level}",
            shape=pixels.shape,
            chunks=tuple(TILE if axis in "yx" else 1 for axis in axes),
            dtype=np.dtype(dtype or pixels.dtype),
        )
        if level == 0:
            array[...] = pixels
    return path


def write_slide(path: Path, image: Array, missing: Sequence[tuple[int, int]] = (), microns: float = 0.5) -> Path:
    """An (H, W, 3) uint8 image as a slide of Aperio's kind.

    Args:
        missing: rows and columns of tiles that were not scanned.
    """
    height, width = image.shape[:2]

    def tiles() -> Iterator[Array | None]:
        for row in range(-(-height // TILE)):
            for column in range(-(-width // TILE)):
                tile = image[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                whole = np.zeros((TILE, TILE, 3), np.uint8)
                whole[: tile.shape[0], : tile.shape[1]] = tile
                yield None if (row, column) in missing else whole

    tifffile.imwrite(
        path,
        tiles(),
        shape=image.shape,
        dtype=np.uint8,
        photometric="rgb",
        tile=(TILE, TILE),
        compression="deflate",
        description=f"Aperio Image Library v11\n{width}x{height} |MPP = {microns}",
        metadata=None,
    )
    return path
