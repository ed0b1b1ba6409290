"""Street scenes in perspective, drawn from a seed, with exact labels.

Read from `street_scene` down. Objects have world coordinates (integers, centimeters) and are drawn from far to
near, so that near objects hide far ones. Texture, exposure and sensor noise follow. Image and labels are drawn by
the same calls.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from pixelwise.data.classes import Color
from pixelwise.data.synthetic.canvas import (
    FAR,
    GROUND_NEAR,
    NEAR,
    PAVEMENT,
    ROAD,
    SHIFT,
    SKY,
    Camera,
    Canvas,
    Light,
    Points,
    pick_color,
    require_valid_request,
    smooth_noise,
)
from pixelwise.data.synthetic.objects import (
    draw_car,
    draw_cyclist,
    draw_garden,
    draw_house,
    draw_pole,
    draw_tree,
)

SceneObject = tuple[int, Callable[[Canvas, np.random.Generator], None]]
"""Depth of an object, and a function that draws it."""


def street_scene(seed: int, size: tuple[int, int] = (192, 256)) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a street scene whose class frequencies are close to those of CamVid (Brostow et al. 2009).

    Args:
        seed: Seed, at least 0. Equal arguments give equal pixels.
        size: Height and width, at least 32.

    Returns:
        The image (H, W, 3) uint8 RGB and the labels (H, W) uint8, indices into `STREET_NAMES`.
    """
    require_valid_request(seed, size)
    rng = np.random.default_rng(seed)
    street = _plan_street(rng)
    canvas = _make_canvas(rng, street, size)
    _draw_ground(canvas, street, rng)
    _cast_shadows(canvas, street, rng)
    objects = [*_place_backdrop(canvas, rng), *_place_buildings(street, rng), *_place_poles(street, rng)]
    objects += _place_traffic(street, rng)
    for _, draw in sorted(objects, key=lambda item: -item[0]):
        draw(canvas, rng)
    return _expose(canvas, rng), canvas.labels


@dataclass(slots=True, frozen=True, kw_only=True)
class Street:
    """Dimensions of a street in centimeters, and frequencies of objects in percent."""

    half_road: int
    half_span: int
    """Distance from the center of the road to the house fronts."""
    green: int
    """Share of the lots with trees instead of a house."""
    floors: int
    """Largest number of floors of a house."""
    traffic: int
    """Share of the parking spaces and road sections with a car."""
    sunny_side: int
    """-1: the sun is on the left, 1: on the right."""


# Layout.


def _plan_street(rng: np.random.Generator) -> Street:
    half_road = int(rng.integers(260, 490))
    return Street(
        half_road=half_road,
        half_span=half_road + int(rng.integers(200, 520)),
        green=int(rng.choice([0, 10, 25, 55])),
        floors=int(rng.integers(2, 6)),
        traffic=int(rng.choice([5, 20, 40])),
        sunny_side=int(rng.choice([-1, 1])),
    )


def _make_canvas(rng: np.random.Generator, street: Street, size: tuple[int, int]) -> Canvas:
    """Create the canvas with camera, light and sky."""
    height, width = size
    overcast = bool(rng.random() < 0.4)
    shaded, lit = (78, 92) if overcast else (58, 118)
    top = pick_color(rng, ((176, 178, 182), (214, 216, 220)) if overcast else ((112, 152, 206), (150, 170, 196)))
    low = pick_color(rng, ((206, 206, 208), (232, 226, 214), (196, 204, 212)), 14)
    ramp = np.linspace(top, low, height).astype(np.uint8)
    camera = Camera(
        focal=int(math.isqrt(height * width) * rng.uniform(0.75, 1.1)),
        row=int(height * rng.uniform(0.38, 0.56)),
        column=int(width * rng.uniform(0.3, 0.7)),
        x=int(street.half_road * rng.uniform(-0.6, 0.6)),
        height=int(rng.integers(125, 240)),
        bend=int(rng.normal(0, 700)),
        climb=int(rng.normal(0, 120)),
        roll=int(rng.normal(0, 5)),
    )
    left = lit if street.sunny_side < 0 else shaded
    light = Light(
        faces=(left, lit + shaded - left, (lit + shaded) // 2, shaded, lit),
        haze=low,
        visibility=int(rng.choice([14_000, 30_000, 60_000])),
    )
    image = np.ascontiguousarray(np.broadcast_to(ramp[:, None], (height, width, 3)))
    return Canvas(image=image, labels=np.full(size, SKY, np.uint8), camera=camera, light=light)


def _place_backdrop(canvas: Canvas, rng: np.random.Generator) -> Iterator[SceneObject]:
    """Place houses and trees at the end of the street."""
    reach = FAR * canvas.labels.shape[1] // canvas.camera.focal
    x = -reach
    while x < reach:
        width = int(rng.integers(700, 2400))
        if rng.random() < 0.35:
            draw = partial(draw_tree, x=x + width // 2, z=FAR - 200, trunk=60)
        else:
            draw = partial(draw_house, street_x=x, back_x=x + width, z=(FAR, FAR + 800), floors=4)
        yield FAR + 900, draw
        x += width


def _place_buildings(street: Street, rng: np.random.Generator) -> Iterator[SceneObject]:
    """Place houses, gardens and side streets along both sides."""
    for side in (-1, 1):
        z = NEAR
        while z < FAR - 1200:
            end = z + int(rng.integers(500, 1900))
            setback = side * (street.half_span + int(rng.integers(0, 60)))
            if rng.random() * 100 < street.green:
                yield end, partial(draw_garden, x=setback, side=side, z=(z, end))
            else:
                back = setback + side * int(rng.integers(700, 1400))
                house = partial(draw_house, street_x=setback, back_x=back, z=(z, end))
                yield end, partial(house, floors=street.floors)
            z = end + (int(rng.integers(250, 800)) if rng.random() < 0.2 else 0)


def _place_poles(street: Street, rng: np.random.Generator) -> Iterator[SceneObject]:
    """Place poles and street trees at the curb, with a different spacing on each side."""
    for side in (-1, 1):
        x = side * (street.half_road + 45)
        z = int(rng.integers(350, 1200))
        while z < FAR // 2:
            if rng.random() < 0.28:
                trunk = int(rng.integers(200, 340))
                yield z, partial(draw_tree, x=x + side * 20, z=z, trunk=trunk)
            else:
                yield z, partial(draw_pole, x=x, z=z, side=side)
            z += int(rng.integers(450, 1700))


def _place_traffic(street: Street, rng: np.random.Generator) -> Iterator[SceneObject]:
    """Place parked cars along the curb, moving cars in the lanes, and cyclists between them."""
    for side in (-1, 1):
        lanes = ((street.half_road - 105, 3), (street.half_road // 2 - 40, 1))
        for lane, busy in lanes:
            z = int(rng.integers(500, 1500))
            while z < FAR // 2:
                if rng.random() * 100 < street.traffic * busy // 2:
                    x = side * lane + int(rng.integers(-15, 16))
                    yield z, partial(draw_car, x=x, z=z, oncoming=side > 0)
                z += int(rng.integers(560, 1500))
    for _ in range(int(rng.choice([0, 1, 1, 2]))):
        x, z = int(street.half_road * rng.uniform(-0.75, 0.75)), int(rng.integers(520, 2400))
        yield z, partial(draw_cyclist, x=x, z=z)


# Ground.


def _make_strip(x: tuple[int, int], z: tuple[int, int]) -> Points:
    """Return a ground strip (1, 2 P, 3) along the street, in sections so that it can follow the bend."""
    steps = 12 if z[1] > 2 * z[0] else 3
    depths = (z[0] * (z[1] / z[0]) ** (np.arange(steps) / (steps - 1))).astype(np.int64)
    strip = np.zeros((1, 2 * steps, 3), np.int64)
    strip[0, :steps, 0], strip[0, steps:, 0] = x
    strip[0, :steps, 2], strip[0, steps:, 2] = depths, depths[::-1]
    return strip


def _draw_ground(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    asphalt = pick_color(rng, ((84, 86, 90), (112, 112, 112), (136, 132, 126), (64, 66, 72)))
    slabs = pick_color(rng, ((132, 128, 122), (156, 150, 140), (104, 104, 106), (142, 120, 106)))
    paving, half = (GROUND_NEAR, FAR + 600), street.half_road
    canvas.fill(_make_strip((-8 * FAR, 8 * FAR), paving), slabs, PAVEMENT)
    canvas.fill(_make_strip((-half, half), paving), asphalt, ROAD)
    for z in rng.integers(700, 5000, int(rng.integers(0, 3))):  # side streets
        canvas.fill(_make_strip((-8 * FAR, 8 * FAR), (int(z), int(z) + 480)), asphalt, ROAD)
    _draw_repairs(canvas, half, asphalt, rng)
    _draw_markings(canvas, half, rng)
    for side in (-1, 1):
        edge = _make_strip((side * half, side * (half + 14)), paving)
        canvas.fill(edge, pick_color(rng, ((150, 148, 142), (110, 108, 104))), None)


def _draw_repairs(canvas: Canvas, half: int, asphalt: Color, rng: np.random.Generator) -> None:
    """Draw darker and lighter patches of asphalt."""
    for _ in range(int(rng.integers(0, 5))):
        x, z = int(rng.integers(-half, half - 100)), int(rng.integers(300, 2500))
        patch = _make_strip((x, min(x + int(rng.integers(60, 260)), half)), (z, z + 400))
        canvas.fill(patch, asphalt, None, int(rng.integers(75, 120)))


def _draw_markings(canvas: Canvas, half: int, rng: np.random.Generator) -> None:
    """Draw a broken center line, curb lines and sometimes a zebra crossing, all labeled as road."""
    white = pick_color(rng, ((200, 200, 196), (216, 190, 110)))
    if rng.random() < 0.75:
        period = int(rng.integers(300, 700))
        for z in range(NEAR, FAR // 2, period):
            canvas.fill(_make_strip((-8, 8), (z, z + period // 2)), white, None)
    if rng.random() < 0.4:
        for x in (30 - half, half - 42):
            canvas.fill(_make_strip((x, x + 12), (GROUND_NEAR, FAR)), white, None)
    if rng.random() < 0.25:
        z = int(rng.integers(500, 1600))
        for x in range(-half + 20, half - 60, 110):
            canvas.fill(_make_strip((x, x + 55), (z, z + 260)), white, None)


def _cast_shadows(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Darken the ground by the shadows of houses and trees on the sunny side."""
    shadow = np.zeros(canvas.labels.shape, np.uint8)
    z, side = GROUND_NEAR, street.sunny_side
    while z < FAR // 2:
        end = z + int(rng.integers(150, 900))
        if rng.random() < 0.6:
            reach = street.half_span - int(rng.integers(0, 2 * street.half_span))
            quad = _make_strip((side * 3 * street.half_span, side * reach), (z, end))
            cv2.fillPoly(shadow, list(canvas.camera.project(quad)), (255,), cv2.LINE_AA, SHIFT)
        z = end
    strength = float(rng.uniform(0.1, 0.55))
    kept = 1 - cv2.blur(shadow, (3, 3)).astype(np.float32) * np.float32(strength / 255)
    kept[canvas.labels == SKY] = 1
    np.multiply(canvas.image, kept[..., None], out=canvas.image, casting="unsafe")


# Weather, texture and sensor.

# Strength of coarse, medium and fine texture per class, in gray levels.
TEXTURE = np.array(
    [(16, 3, 0), (7, 6, 6), (8, 3, 5), (8, 5, 6), (8, 16, 16), (3, 3, 3), (3, 4, 5), (4, 4, 4)],
    np.float32,
)


def _expose(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Apply the texture of surfaces, then color cast, exposure, blur and noise of the camera."""
    size = canvas.labels.shape
    height, width = size
    short = min(height, width)
    strengths = TEXTURE * rng.uniform(0.4, 1.6, TEXTURE.shape).astype(np.float32)
    texture = np.zeros(size, np.float32)
    for column, grain in enumerate((max(short // 6, 4), max(short // 40, 2), 1)):
        texture += strengths[:, column][canvas.labels] * smooth_noise(rng, (height, width), grain)
    tint = rng.uniform(0.9, 1.1, 3) * rng.choice([0.5, 0.75, 0.95, 1.1, 1.25])
    image = (canvas.image + texture[..., None]) * tint.astype(np.float32)
    image = cv2.GaussianBlur(image, (5, 5), float(rng.uniform(0.3, 0.9)))
    image += rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(rng.uniform(1, 9))
    return np.asarray(np.clip(image, 0, 255), np.uint8)
