"""Thumbnails of dataset files: an image, and its mask over it, or the error that prevented reading."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pixelwise.data.classes import Classes, mask_values
from pixelwise.data.colors import WHITE, Color
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, decode_image, read_mask
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import find_suspects
from pixelwise.data.visualization import (
    blend_colors,
    choose_error_color,
    colorize_labels,
    mark_pixels,
    to_data_uri,
    to_display_image,
)
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS

MAX_SIDE = 256
MAX_CHARACTERS = 12_000
"""Largest length of a picture as a data URI, which bounds the size of a page."""
_ENCODINGS = ((MAX_SIDE, 82), (MAX_SIDE, 60), (192, 50), (128, 40), (96, 20))
"""Side and quality, tried in order until a picture has at most `MAX_CHARACTERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of a thumbnail, or the reason why there is none."""

    title: str
    uri: str = ""
    height: int = 3
    width: int = 4
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """The pictures of a pair, or of a file without a partner."""

    name: str
    """Path below the root of the dataset; of a pair, that of the image."""
    size: str
    """Width × height of this file in pixels; empty if it cannot be read."""
    panels: tuple[Panel, ...]
    labels: frozenset[int] = frozenset()
    """Class indices in the mask, and the ignore index."""
    has_unlisted: bool = False
    """True if some pixels of the mask belong to no class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SmallMask:
    """A mask at the size of a thumbnail."""

    labels: Array
    """(h, w) class indices; borders are drawn between them."""
    colors: Array
    """(h, w, 3) uint8, in which the background is painted, too."""
    present: frozenset[int] = frozenset()
    """Labels in the mask at full size."""
    background: int | None = None
    unlisted: Array | None = None
    """(h, w) bool, if the mask has unlisted pixels."""

    def draw_alone(self) -> Array:
        """Draw the mask without an image: (h, w, 4) uint8, in which the background is transparent, as in overlays."""
        is_painted = self.labels != self.background
        if self.unlisted is not None:
            is_painted |= self.unlisted
        return np.dstack([self.colors, 255 * is_painted.astype(np.uint8)])


def choose_unlisted_stripes(classes: Classes) -> tuple[Color, Color]:
    """Return the colors of pixels that belong to no class: visible on dark and on pale photos."""
    return choose_error_color(classes), WHITE


def draw_pair(dataset: Dataset, sample: Sample) -> Thumbnail:
    """Draw the image, and the mask over the image; if their sizes differ, the mask only."""
    image = _read(dataset, sample.image_path, lambda: dataset.decode_image(sample).pixels)
    mask = _read(dataset, sample.mask_path, lambda: dataset.read_mask(sample))
    picture = image if isinstance(image, str) else draw_image(image)
    if isinstance(mask, str):
        panels = (_make_panel("image", picture), _make_panel("mask", mask))
        return _make_thumbnail(dataset, sample.image_path, image, panels)
    small = _draw_mask(mask, dataset.resolved_classes)
    if isinstance(image, str) or isinstance(picture, str) or image.shape[:2] != mask.shape[:2]:
        second = _make_panel(f"mask, {_format_size(mask)}", small.draw_alone())
    else:
        overlay = blend_colors(picture, small.labels, small.colors, 0.6, small.background)
        if small.unlisted is not None and dataset.resolved_classes is not None:
            overlay = mark_pixels(overlay, small.unlisted, choose_unlisted_stripes(dataset.resolved_classes))
        second = _make_panel("mask over the image", overlay)
    return _make_thumbnail(dataset, sample.image_path, image, (_make_panel("image", picture), second), small)


def draw_file(dataset: Dataset, path: Path, *, is_mask: bool) -> Thumbnail:
    """Draw an image without a mask, or a mask without an image."""
    pixels = _read(dataset, path, lambda: read_mask(path) if is_mask else decode_image(path).pixels)
    small = None if isinstance(pixels, str) or not is_mask else _draw_mask(pixels, dataset.resolved_classes)
    picture = small.draw_alone() if small else pixels if isinstance(pixels, str) else draw_image(pixels)
    return _make_thumbnail(dataset, path, pixels, (_make_panel("mask" if is_mask else "image", picture),), small)


def _make_thumbnail(
    dataset: Dataset, path: Path, content: Array | str, panels: tuple[Panel, ...], mask: _SmallMask | None = None
) -> Thumbnail:
    return Thumbnail(
        name=dataset.get_relative_path(path),
        size="" if isinstance(content, str) else _format_size(content),
        panels=panels,
        labels=mask.present if mask else frozenset(),
        has_unlisted=mask is not None and mask.unlisted is not None,
    )


def _read(dataset: Dataset, path: Path, read: Callable[[], Array]) -> Array | str:
    """Return the pixels, or the message of the error without the path, which the thumbnail shows."""
    try:
        return read()
    except READ_ERRORS as error:
        return str(error).removeprefix(f"{path}: ").replace(f"{dataset.root}/", "")


def _make_panel(title: str, picture: Array | str) -> Panel:
    if isinstance(picture, str):
        return Panel(title=title, error=picture)
    for side, quality in _ENCODINGS:
        uri = to_data_uri(picture, side, quality)
        if len(uri) <= MAX_CHARACTERS:
            break
    return Panel(title=title, uri=uri, height=picture.shape[0], width=picture.shape[1])


def _format_size(pixels: Array) -> str:
    return f"{pixels.shape[1]} × {pixels.shape[0]}"


def shrink(pixels: Array, side: int, interpolation: int = cv2.INTER_AREA) -> Array:
    """Shrink to at most `side`; INTER_NEAREST does not mix values."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=interpolation)


def draw_image(image: Array, side: int = MAX_SIDE) -> Array:
    """Draw an image (H, W, C) of any type as (h, w, 3) uint8 of at most `side`."""
    if image.dtype.kind == "f":
        image = find_suspects(image, None)[3]  # values of missing data would take the whole range of grays
    return shrink(to_display_image(image), side)


def _draw_mask(mask: Array, classes: Classes | None) -> _SmallMask:
    """Draw a mask in the class colors; if they are unknown, as an image."""
    if classes is None or not classes.names:
        return _draw_mask_as_image(mask)
    try:
        labels, unlisted_values = classes.to_labels(mask)
    except DataError:  # colors instead of class ids, which is a finding of its own
        return _draw_mask_as_image(mask)
    small = shrink(labels, MAX_SIDE, cv2.INTER_NEAREST)
    colors = colorize_labels(small, classes)
    unlisted = None
    if unlisted_values:
        # A small pixel is marked if any of its pixels is unlisted, so that thin lines stay visible.
        is_unlisted = np.isin(mask_values(mask, classes.coding), unlisted_values)
        unlisted = shrink(is_unlisted.astype(np.float32), MAX_SIDE) > 0
        colors = mark_pixels(colors, unlisted, choose_unlisted_stripes(classes))
        labels = labels[~is_unlisted]
    present = frozenset(np.unique(labels).tolist())
    return _SmallMask(labels=small, colors=colors, present=present, background=classes.background, unlisted=unlisted)


def _draw_mask_as_image(mask: Array) -> _SmallMask:
    pixels = mask if mask.ndim == 3 else mask[..., None].astype(np.uint16)  # 16-bit values are stretched
    colors = shrink(to_display_image(pixels), MAX_SIDE, cv2.INTER_NEAREST)
    return _SmallMask(labels=np.zeros(colors.shape[:2], np.uint8), colors=colors)
