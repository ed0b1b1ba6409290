"""The whole answer, from image to label map, as one file that other programs run."""

from pixelwise.exporting.export import Exported, export

__all__ = ["Exported", "export"]
