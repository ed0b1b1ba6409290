"""Labels as an OME-Zarr: in chunks, compressed, with names and colors, in as many resolutions as the image has."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters.ome_zarr_metadata import ZARR_FORMATS, Multiscale, label_attributes
from pixelwise.data.rasters.windows import BLOCK, in_blocks
from pixelwise.shapes import Size


def write_label_zarr(path: Path, strips: Iterable[Array], size: Size, classes: Classes, image: Multiscale) -> None:
    """Writes (h, W) labels, which come from the top, as a label image of the image's version in the same place."""
    import zarr

    group: Any = zarr.open_group(
        path,
        mode="w-",
        zarr_format=ZARR_FORMATS[image.version],  # type: ignore[arg-type]  # 2 or 3
        attributes=label_attributes(image, classes, path.stem),
    )
    finest = _create(group, "0", size, classes)
    for top, piece in in_blocks(strips):
        finest[top : top + len(piece)] = piece
    for level in range(1, len(image.levels)):
        finer = group[str(level - 1)]
        coarser = _create(group, str(level), tuple((side + 1) // 2 for side in finer.shape), classes)
        for top, piece in in_blocks(_every_second(finer)):
            coarser[top : top + len(piece)] = piece


def _create(group: Any, name: str, size: tuple[int, ...], classes: Classes) -> Any:
    two = group.metadata.zarr_format == 2
    return group.create_array(
        name,
        shape=size,
        chunks=(BLOCK, BLOCK),
        dtype=classes.dtype,
        chunk_key_encoding={"name": "v2" if two else "default", "separator": "/"},
        dimension_names=None if two else ("y", "x"),
    )


def _every_second(array: Any) -> Iterable[Array]:
    for top in range(0, array.shape[0], BLOCK):
        yield array[top : top + BLOCK][::2, ::2]
