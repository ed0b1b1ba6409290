"""How data sets lie on disk: one short file a layout, one line each in `LAYOUTS`."""

from collections.abc import Callable
from pathlib import Path

from pixelwise.data.layouts.folder import Pairing, find_pairs

LAYOUTS: dict[str, Callable[[Path], Pairing]] = {
    "folder": find_pairs,
}
