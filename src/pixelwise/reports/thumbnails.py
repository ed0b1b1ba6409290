"""Files of a dataset as small pictures: an image, and its mask over it. What cannot be read says why."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pixelwise.data.classes import Classes, Color, mask_values
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, decode_image, read_mask
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import blend_colors, colorize_labels, to_data_uri, to_display_image
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS

SIDE = 256
MAX_CHARACTERS = 12_000
"""Of one picture as text, so that the size of a page follows from how many it shows."""
UNLISTED: Color = (255, 0, 200)
"""Pixels whose value no class covers: a color that hardly any class has."""

_ATTEMPTS = ((SIDE, 82), (SIDE, 60), (192, 50), (128, 40), (96, 20))
"""Side and quality, one after the other until a picture is small enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture, or the reason why there is none."""

    what: str
    uri: str = ""
    height: int = 3
    width: int = 4
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """What there is to see of one pair, or of a file in no pair."""

    name: str
    """Path below the dataset's root, of the image if there is one."""
    size: str
    """Width × height in pixels, of the same file; empty where it cannot be read."""
    panels: tuple[Panel, ...]
    labels: frozenset[int] = frozenset()
    """Class indices that the mask shows, and the ignore index."""
    unlisted: bool = False
    """Whether it shows pixels that no class covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mask:
    """A mask, small, as it is drawn."""

    labels: Array
    """(h, w) class indices; borders run where they change."""
    colors: Array
    """(h, w, 3) uint8."""
    found: frozenset[int] = frozenset()
    unlisted: Array | None = None
    """(h, w) bool, where there are such pixels."""


def pair_thumbnail(dataset: Dataset, sample: Sample) -> Thumbnail:
    """The image beside its mask over it; beside the mask alone where their sizes differ."""
    image = _read(dataset, sample.image_path, lambda: dataset.decode_image(sample).pixels)
    mask = _read(dataset, sample.label_path, lambda: dataset.read_mask(sample))
    picture = image if isinstance(image, str) else _picture(image)
    if isinstance(mask, str):
        return _thumbnail(dataset, sample.image_path, image, [_panel("image", picture), _panel("mask", mask)])
    drawn = _draw(mask, dataset.resolved_classes)
    if isinstance(image, str) or isinstance(picture, str) or image.shape[:2] != mask.shape[:2]:
        second = _panel(f"mask, {_size(mask)}", drawn.colors)
    else:
        second = _panel("mask over the image", _over(picture, drawn))
    return _thumbnail(dataset, sample.image_path, image, [_panel("image", picture), second], drawn)


def image_thumbnail(dataset: Dataset, path: Path) -> Thumbnail:
    """An image that is in no pair."""
    image = _read(dataset, path, lambda: decode_image(path).pixels)
    picture = image if isinstance(image, str) else _picture(image)
    return _thumbnail(dataset, path, image, [_panel("image", picture)])


def mask_thumbnail(dataset: Dataset, path: Path) -> Thumbnail:
    """A mask that is in no pair."""
    mask = _read(dataset, path, lambda: read_mask(path))
    if isinstance(mask, str):
        return _thumbnail(dataset, path, mask, [_panel("mask", mask)])
    drawn = _draw(mask, dataset.resolved_classes)
    return _thumbnail(dataset, path, mask, [_panel("mask", drawn.colors)], drawn)


def _thumbnail(
    dataset: Dataset, path: Path, content: Array | str, panels: list[Panel], drawn: _Mask | None = None
) -> Thumbnail:
    return Thumbnail(
        name=dataset.get_relative_path(path),
        size="" if isinstance(content, str) else _size(content),
        panels=tuple(panels),
        labels=drawn.found if drawn else frozenset(),
        unlisted=drawn is not None and drawn.unlisted is not None,
    )


def _read(dataset: Dataset, path: Path, read: Callable[[], Array]) -> Array | str:
    """The pixels, or what stands in their way, without the path that stands beside it anyway."""
    try:
        return read()
    except READ_ERRORS as error:
        return str(error).removeprefix(f"{path}: ").replace(f"{dataset.root}/", "")


def _panel(what: str, picture: Array | str) -> Panel:
    if isinstance(picture, str):
        return Panel(what=what, trouble=picture)
    height, width = picture.shape[:2]
    return Panel(what=what, uri=_embed_small(picture), height=height, width=width)


def _embed_small(picture: Array) -> str:
    for side, quality in _ATTEMPTS:
        uri = to_data_uri(picture, side, quality)
        if len(uri) <= MAX_CHARACTERS:
            break
    return uri


def _size(pixels: Array) -> str:
    return f"{pixels.shape[1]} × {pixels.shape[0]}"


def _small_size(pixels: Array) -> tuple[int, int]:
    """Width and height, as OpenCV has them, of a picture that fits a thumbnail."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _picture(image: Array) -> Array:
    if image.dtype.kind == "f":
        image = np.nan_to_num(image, posinf=0, neginf=0)
    return _shrunk(to_display_image(image))


def _shrunk(picture: Array) -> Array:
    return cv2.resize(picture, _small_size(picture), interpolation=cv2.INTER_AREA)


def _picked(pixels: Array) -> Array:
    """Shrunk without mixing values."""
    return cv2.resize(pixels, _small_size(pixels), interpolation=cv2.INTER_NEAREST)


def _draw(mask: Array, classes: Classes | None) -> _Mask:
    """A mask in the colors of its classes; where they are unknown, as the picture that it is."""
    if classes is None or not classes.names:
        return _as_picture(mask)
    try:
        labels, unlisted = classes.to_labels(mask)
    except DataError:  # colors, where ids are expected: the doctor says so
        return _as_picture(mask)
    small = _picked(labels)
    colors = colorize_labels(small, classes)
    where = None
    if unlisted:
        # They may be a thin fringe: a small pixel is marked if any of its pixels is one of them.
        odd = np.isin(mask_values(mask, classes.coding), unlisted)
        where = _shrunk(odd.astype(np.float32)) > 0
        colors[where] = UNLISTED
        labels = labels[~odd]
    return _Mask(labels=small, colors=colors, found=frozenset(np.unique(labels).tolist()), unlisted=where)


def _as_picture(mask: Array) -> _Mask:
    pixels = mask if mask.ndim == 3 else mask[..., None].astype(np.uint16)  # wider than 8 bit is stretched
    colors = _picked(to_display_image(pixels))
    return _Mask(labels=np.zeros(colors.shape[:2], np.uint8), colors=colors)


def _over(picture: Array, mask: _Mask) -> Array:
    shown = blend_colors(picture, mask.labels, mask.colors, 0.6)
    if mask.unlisted is not None:
        shown[mask.unlisted] = UNLISTED
    return shown
