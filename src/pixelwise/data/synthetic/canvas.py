"""A canvas for street scenes: a camera, a light, and methods that draw into image and labels.

World points are integers (x, y, z) in centimeters: x to the right, y up from the road, z away from the camera.
The image is anti-aliased, the labels are not.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pixelwise.data.colors import Color
from pixelwise.errors import InvalidArgumentError

Points = npt.NDArray[np.int64]

SHIFT = 4  # OpenCV takes points in sixteenths of a pixel, which preserves the shape of distant objects


@dataclass(slots=True, frozen=True, kw_only=True)
class Camera:
    """A pinhole camera above the road. The street may bend and climb with the distance."""

    focal: int
    row: int
    column: int
    x: int
    height: int
    bend: int
    """Sideways shift of the street at a distance of 82 m, in centimeters; `climb` is the same upward."""
    climb: int
    roll: int
    """Rows by which the horizon falls per 256 columns."""

    def project(self, points: Points) -> npt.NDArray[np.int32]:
        """Project world points (..., 3) to (..., 2) column and row in sixteenths of a pixel."""
        z = points[..., 2]
        scale = (self.focal << 16) // z
        square = z * z >> 13
        projected = np.empty((*z.shape, 2), np.int32)
        across = (points[..., 0] - self.x + (self.bend * square >> 13)) * scale >> 12
        down = (self.height - points[..., 1] - (self.climb * square >> 13)) * scale >> 12
        projected[..., 0] = self.column * 16 + across
        projected[..., 1] = self.row * 16 + down + (self.roll * across >> 8)
        return projected


@dataclass(slots=True, frozen=True, kw_only=True)
class Light:
    """Brightness of the faces of a box, and haze that reduces the color of distant objects."""

    faces: tuple[int, ...]
    """Percent, in the order of `BOX_FACES`."""
    haze: Color
    visibility: int
    """Distance in centimeters at which only haze would be visible."""

    def shade(self, color: Color, depth: int, percent: int) -> Color:
        """Return a color at a brightness and a distance."""
        fog = min(100 * depth // self.visibility, 80)
        red, green, blue = (
            (min(part * percent // 100, 255) * (100 - fog) + haze * fog) // 100
            for part, haze in zip(color, self.haze, strict=True)
        )
        return red, green, blue


# Corners of a box are numbered by bits: 1 = right, 2 = up, 4 = far.
# Faces: left, right, near, far, top.
BOX_FACES = np.array([(4, 0, 2, 6), (1, 5, 7, 3), (0, 1, 3, 2), (5, 4, 6, 7), (2, 3, 7, 6)])


@dataclass(slots=True, frozen=True, kw_only=True)
class Canvas:
    """An image and its labels, into which world points are drawn."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    camera: Camera
    light: Light

    def fill(self, polygons: Points, color: Color | None, label: int | None, percent: int = 100) -> None:
        """Fill polygons (N, P, 3) in the image if there is a color, and in the labels if there is a label."""
        outlines = list(self.camera.project(polygons))
        self._fill_outlines(outlines, int(polygons[0, 0, 2]), color, label, percent)

    def stroke(self, lines: Points, width: int, color: Color, label: int | None, percent: int = 100) -> None:
        """Draw open lines (N, P, 3) that are `width` centimeters thick."""
        outlines, depth = list(self.camera.project(lines)), int(lines[0, 0, 2])
        pixels = max(1, (self.camera.focal * width + depth // 2) // depth)
        paint = self.light.shade(color, depth, percent)
        cv2.polylines(self.image, outlines, False, paint, pixels, cv2.LINE_AA, SHIFT)
        if label is not None:
            cv2.polylines(self.labels, outlines, False, (label,), pixels, cv2.LINE_8, SHIFT)

    def solid(self, corners: Points, color: Color, label: int, pane: Color | None = None) -> None:
        """Fill the visible faces of a box (8, 3), with panes in its sides."""
        faces = self.camera.project(corners)[BOX_FACES]
        diagonal, other = (faces[:, 2:] - faces[:, :2]).astype(np.int64).transpose(1, 0, 2)
        is_visible = diagonal[:, 0] * other[:, 1] < diagonal[:, 1] * other[:, 0]
        for index in np.flatnonzero(is_visible).tolist():
            face, depth = faces[index], int(corners[BOX_FACES[index, 0], 2])
            self._fill_outlines([face], depth, color, label, self.light.faces[index])
            if pane is not None and index < 4:
                inset = face + (face.sum(axis=0) // 4 - face) * 11 // 50
                self._fill_outlines([inset], depth, pane, None, self.light.faces[index])

    def _fill_outlines(
        self, outlines: list[npt.NDArray[np.int32]], depth: int, color: Color | None, label: int | None, percent: int
    ) -> None:
        if color is not None:
            paint = self.light.shade(color, depth, percent)
            cv2.fillPoly(self.image, outlines, paint, cv2.LINE_AA, SHIFT)
        if label is not None:
            cv2.fillPoly(self.labels, outlines, (label,), cv2.LINE_8, SHIFT)


def make_cuboid(x: tuple[int, int], y: tuple[int, int], z: tuple[int, int]) -> Points:
    """Return the corners (8, 3) of a box along the axes, numbered as `BOX_FACES` expects."""
    return np.array([(x[i & 1], y[i >> 1 & 1], z[i >> 2]) for i in range(8)])


def pick_color(rng: np.random.Generator, palette: tuple[Color, ...], spread: int = 22) -> Color:
    """Draw a color of the palette, up to `spread` lighter or darker, with a slight color cast."""
    choice, light, *casts = rng.random(5).tolist()
    base, change = palette[int(choice * len(palette))], spread * (2 * light - 1)
    red, green, blue = (
        min(max(int(part + change + 18 * cast) - 9, 8), 248) for part, cast in zip(base, casts, strict=True)
    )
    return red, green, blue


MIN_SIDE = 32
"""Smallest height and width of a drawn image."""


def require_valid_request(seed: int, size: tuple[int, int]) -> None:
    """Raise InvalidArgumentError for a negative seed or a size below 32."""
    if seed < 0:
        raise InvalidArgumentError(f"seed is {seed}. Expected 0 or more.")
    if min(size) < MIN_SIDE:
        raise InvalidArgumentError(f"size is {size}. Expected at least {MIN_SIDE}x{MIN_SIDE}.")


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], grain: int) -> npt.NDArray[np.float32]:
    """Draw noise (H, W) float32 with a std of about 1 and spots of about `grain` pixels."""
    if grain <= 1:
        return rng.standard_normal(size, dtype=np.float32)
    coarse = rng.standard_normal((size[0] // grain + 2, size[1] // grain + 2), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
