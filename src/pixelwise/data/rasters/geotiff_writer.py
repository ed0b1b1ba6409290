"""Labels as a GeoTIFF: in tiles, compressed, in the class colors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters._gdal import use_gdal
from pixelwise.data.rasters.windows import BLOCK, in_blocks
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Geotiff:
    """What the file takes over from the image."""

    size: Size
    nodata: bool
    """Whether the ignore index is declared as the value of pixels that are not there."""
    crs: Any = None
    """rasterio's."""
    transform: Any = None
    """rasterio's; None where the image lies on no map."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """GDAL's names and values of further tags."""

    def write(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Writes (h, W) labels, which come from the top."""
        with use_gdal(), self._create(path, classes) as file:
            for top, piece in in_blocks(strips):
                file.write(piece, 1, window=((top, top + len(piece)), (0, self.size[1])))

    def _create(self, path: Path, classes: Classes) -> Any:
        import rasterio

        placed = {} if self.transform is None else {"transform": self.transform}
        file = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=self.size[0],
            width=self.size[1],
            count=1,
            dtype=np.dtype(classes.dtype).name,
            crs=self.crs,
            nodata=classes.ignore_index if self.nodata else None,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            bigtiff="if_safer",
            **placed,
        )
        file.update_tags(**self.tags)
        if classes.dtype is np.uint8:
            file.write_colormap(1, _colormap(classes.colors))
        return file


def _colormap(colors: Sequence[tuple[int, int, int]]) -> dict[int, tuple[int, int, int, int]]:
    return {index: (*color, 255) for index, color in enumerate(colors)}
