"""A figure of an image and its class activation maps, with a color bar."""

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
"""Opacity of the colors at the lowest and at the highest logit."""
PANEL_INCHES = 4.0
"""Longest side of a panel: 600 pixels at 150 dpi."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """The activation map of one class in an image."""

    name: str
    probability: float
    """Probability of the class for the whole image."""
    logits: npt.NDArray[np.float32]
    """(H, W), high where the image shows the class."""

    @property
    def peak(self) -> tuple[int, int]:
        """Return row and column of the largest logit."""
        row, column = np.unravel_index(int(self.logits.argmax()), self.logits.shape)
        return int(row), int(column)


def draw_heatmaps(picture: npt.NDArray[np.uint8], heatmaps: Sequence[Heatmap]) -> bytes:
    """Draw a picture (H, W, 3) and one panel per class, with its map over the picture in gray.

    All panels share one color bar in logits, so that classes can be compared. A ring marks the maximum of each map.
    The same arguments give identical bytes.

    Returns:
        The content of a PNG file.
    """
    rows, columns = _choose_grid(1 + len(heatmaps), picture.shape[1] / picture.shape[0])
    width, height = _choose_panel_size(picture.shape[1] / picture.shape[0])
    figure = Figure((columns * width + 1.0, rows * (height + 0.35)), dpi=150, layout="constrained")
    axes: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in axes:
        panel.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("image", fontsize=11)
    scale = _make_scale(heatmaps)
    for panel, heatmap in zip(axes[1:], heatmaps, strict=False):
        panel.imshow(blend_heatmap(picture, heatmap.logits, scale))
        panel.plot(*heatmap.peak[::-1], "o", markersize=11, markerfacecolor="none", markeredgecolor="white")
        panel.set_title(f"{heatmap.name}  {heatmap.probability:.1%}", fontsize=11, parse_math=False)
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=axes, shrink=0.9, aspect=30, pad=0.02)
    bar.set_label("logit")
    buffer = io.BytesIO()
    # The version of the software would make equal pictures differ.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def blend_heatmap(
    picture: npt.NDArray[np.uint8], logits: npt.NDArray[np.float32], scale: Normalize
) -> npt.NDArray[np.uint8]:
    """Blend the colors of the logits with the picture in gray, so that every color is a logit."""
    gray = picture.mean(axis=2, keepdims=True)
    heat = np.asarray(scale(logits))
    opacity = (OPACITY[0] + (OPACITY[1] - OPACITY[0]) * heat)[..., None]
    colors = COLORS(heat)[..., :3] * 255
    blended: npt.NDArray[np.uint8] = np.rint(gray * (1 - opacity) + colors * opacity).astype(np.uint8)
    return blended


def _make_scale(heatmaps: Sequence[Heatmap]) -> Normalize:
    low, high = (float(edge) for edge in (min(h.logits.min() for h in heatmaps), max(h.logits.max() for h in heatmaps)))
    # Without a range, matplotlib would draw a color bar without numbers.
    return Normalize(low, high if high > low else low + 1)


def _choose_grid(panels: int, aspect: float) -> tuple[int, int]:
    """Return rows and columns: tall pictures in one row, very wide ones in one column."""
    columns = panels if aspect < 0.8 else 1 if aspect > 2.5 else min(panels, 2)
    return -(-panels // columns), columns


def _choose_panel_size(aspect: float) -> tuple[float, float]:
    """Return width and height of a panel, wide enough for its title."""
    return max(PANEL_INCHES * min(1, aspect), 1.8), max(PANEL_INCHES / max(1, aspect), 0.6)
