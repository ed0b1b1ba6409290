"""A picture beside maps of class activation laid over it, with a color bar."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

COLORS = colormaps["turbo"]
OPACITY = (0.2, 0.6)
"""Of the colors over the picture, at the lowest and at the highest logit."""
PANEL_INCHES = 4.0
"""Longest side of a panel: 600 pixels, at 150 to the inch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """What a classifier sees of one class in an image."""

    name: str
    probability: float
    """Of the image as a whole, in [0, 1]."""
    logits: npt.NDArray[np.float32]
    """(H, W): how much each place speaks for the class."""

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest logit."""
        row, column = np.unravel_index(int(self.logits.argmax()), self.logits.shape)
        return int(row), int(column)


def draw_heatmaps(picture: npt.NDArray[np.uint8], heats: Sequence[Heat]) -> bytes:
    """The picture (H, W, 3), then one panel for each class: its map over the picture in gray.

    One color bar, in logits, holds for all panels, so that classes can be compared. A ring marks each
    map's maximum. Equal arguments give equal bytes.

    Returns the content of a PNG file.
    """
    rows, columns = _grid(1 + len(heats), picture.shape[1] / picture.shape[0])
    width, height = _panel_inches(picture.shape[1] / picture.shape[0])
    figure = Figure((columns * width + 1.0, rows * (height + 0.35)), dpi=150, layout="constrained")
    axes: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in axes:
        panel.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("image", fontsize=11)
    scale = _scale(heats)
    for panel, heat in zip(axes[1:], heats, strict=False):
        panel.imshow(blend(picture, heat.logits, scale))
        panel.plot(*heat.peak[::-1], "o", markersize=11, markerfacecolor="none", markeredgecolor="white")
        panel.set_title(f"{heat.name}  {heat.probability:.1%}", fontsize=11, parse_math=False)
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=axes, shrink=0.9, aspect=30, pad=0.02)
    bar.set_label("logit")
    buffer = io.BytesIO()
    # The software's version would be the only thing in the file that is not the picture.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def blend(picture: npt.NDArray[np.uint8], logits: npt.NDArray[np.float32], scale: Normalize) -> npt.NDArray[np.uint8]:
    """The colors of the logits over the picture in gray: no color is the picture's own."""
    gray = picture.mean(axis=2, keepdims=True)
    heat = np.asarray(scale(logits))
    opacity = (OPACITY[0] + (OPACITY[1] - OPACITY[0]) * heat)[..., None]
    colors = COLORS(heat)[..., :3] * 255
    blended: npt.NDArray[np.uint8] = np.rint(gray * (1 - opacity) + colors * opacity).astype(np.uint8)
    return blended


def _scale(heats: Sequence[Heat]) -> Normalize:
    low, high = (float(edge) for edge in (min(h.logits.min() for h in heats), max(h.logits.max() for h in heats)))
    # A map of one value has no range; matplotlib would draw a bar without numbers.
    return Normalize(low, high if high > low else low + 1)


def _grid(panels: int, aspect: float) -> tuple[int, int]:
    """Rows and columns: upright pictures stand beside each other, very wide ones below each other."""
    columns = panels if aspect < 0.8 else 1 if aspect > 2.5 else min(panels, 2)
    return -(-panels // columns), columns


def _panel_inches(aspect: float) -> tuple[float, float]:
    """Width and height of a panel; a very narrow one is kept wide enough for its title."""
    return max(PANEL_INCHES * min(1, aspect), 1.8), max(PANEL_INCHES / max(1, aspect), 0.6)
