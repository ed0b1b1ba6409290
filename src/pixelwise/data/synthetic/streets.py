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

from pixelwise.data.colors import Color
from pixelwise.data.synthetic.canvas import (
    SHIFT,
    Camera,
    Canvas,
    Light,
    Points,
    make_cuboid,
    pick_color,
    require_valid_request,
    smooth_noise,
)

STREET_NAMES: tuple[str, ...] = (
    "sky", "building", "road", "pavement", "tree", "car", "cyclist", "pole",
)  # fmt: skip
STREET_COLORS: tuple[Color, ...] = (
    (128, 128, 128), (128, 0, 0), (128, 64, 128), (60, 40, 222),
    (128, 128, 0), (64, 0, 128), (0, 128, 192), (192, 192, 128),
)  # fmt: skip
SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, CYCLIST, POLE = range(8)

NEAR, FAR = 220, 9000
GROUND_NEAR = 40  # the ground extends below the bottom row of every camera

SceneObject = tuple[int, Callable[[Canvas, np.random.Generator], None]]
"""Depth of an object, and a function that draws it."""


def street_scene(seed: int, size: tuple[int, int] = (192, 256)) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a street scene whose class frequencies are close to those of CamVid (Brostow et al. 2009).

    Args:
        seed: Seed, at least 0. The same arguments give identical pixels.
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
    [(16, 3, 0), (7, 6, 6), (8, 3, 5), (8, 5, 6), (8, 16, 16), (3, 3, 3), (3, 4, 5), (4, 4, 4)], np.float32
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


# Objects.

ToWorld = Callable[[Points], Points]
"""Transforms points of a vehicle, (across, up, along), to world points."""

# The palettes share their grays, browns and greens, so that the color does not determine the class.
STONE = ((150, 78, 62), (188, 164, 128), (205, 200, 190), (120, 112, 104), (92, 66, 54))
TILES = ((96, 72, 62), (78, 80, 86), (122, 70, 52))
FRAME = ((196, 192, 184), (120, 110, 100))
GLASS = ((38, 44, 52), (64, 74, 84), (24, 24, 28), (120, 132, 144), (190, 170, 120))
LEAF = ((62, 84, 40), (86, 104, 52), (44, 60, 38), (120, 96, 48), (104, 84, 66), (76, 92, 70))
BARK = ((74, 62, 52), (104, 98, 90))
METAL = ((70, 74, 78), (120, 122, 120), (44, 62, 50), (160, 160, 156), (92, 72, 56))
PAINT = ((190, 192, 196), (46, 48, 54), (120, 26, 28), (40, 62, 110), (96, 98, 100),
         (208, 204, 190), (62, 80, 62), (150, 130, 96))  # fmt: skip
CLOTH = ((40, 44, 60), (150, 50, 40), (196, 180, 60), (60, 90, 120), (110, 104, 96))
SKIN = ((196, 150, 120), (120, 84, 62), (60, 62, 66), (190, 60, 50))
RUBBER = (34, 34, 36)


# Houses and trees.


def draw_house(
    canvas: Canvas, rng: np.random.Generator, *, street_x: int, back_x: int, z: tuple[int, int], floors: int
) -> None:
    """Draw a house between two x positions, with up to `floors` floors."""
    storey = int(rng.integers(270, 340))
    count = int(rng.integers(min(2, floors), floors + 1))
    top, stone = count * storey + int(rng.integers(40, 120)), pick_color(rng, STONE)
    across = (min(street_x, back_x), max(street_x, back_x))
    if rng.random() < 0.55:
        _draw_roof(canvas, rng, across, top, z)
    canvas.solid(make_cuboid(across, (-60, top), z), stone, BUILDING)
    if z[0] < FAR // 3:
        _draw_windows(canvas, rng, x=street_x, z=z, rows=range(storey, count * storey, storey))
        _draw_shop(canvas, rng, x=street_x, z=z, top=storey - 50)


def _draw_roof(canvas: Canvas, rng: np.random.Generator, x: tuple[int, int], top: int, z: tuple[int, int]) -> None:
    """Draw a pitched roof (a box that narrows to a ridge) and a chimney."""
    rise, slope = int(rng.integers(120, 320)), (x[1] - x[0]) * 2 // 5
    corners = make_cuboid(x, (top, top + rise), z)
    corners[[2, 6], 0] += slope
    corners[[3, 7], 0] -= slope
    tiles = pick_color(rng, TILES)
    canvas.solid(corners, tiles, BUILDING)
    near, center = z[0] + (z[1] - z[0]) // 5, (x[0] + x[1]) // 2
    chimney = make_cuboid((center - 35, center + 35), (top, top + rise + 110), (near, near + 90))
    canvas.solid(chimney, pick_color(rng, STONE), BUILDING)


def _draw_windows(canvas: Canvas, rng: np.random.Generator, *, x: int, z: tuple[int, int], rows: range) -> None:
    """Draw rows of windows with frames on the street front, some of another color."""
    pitch, width, height = rng.integers((210, 80, 110), (380, 150, 190)).tolist()
    columns = np.arange(z[0] + 60, z[1] - width - 20, pitch)
    if not len(rows) or not len(columns):
        return
    heights = [(floor + 60, floor + 60 + height) for floor in rows]
    panes = np.concatenate([_make_rectangles(x, y, columns, width - 8) for y in heights])
    margin = np.array([(0, -10, -8), (0, 10, -8), (0, 10, 8), (0, -10, 8)])
    percent = canvas.light.faces[1 if x < 0 else 0]
    canvas.fill(panes + margin, pick_color(rng, FRAME), None, percent)
    canvas.fill(panes, pick_color(rng, GLASS), None, percent)
    odd = rng.random(len(panes)) < 0.3
    if odd.any():
        canvas.fill(panes[odd], pick_color(rng, GLASS), None, percent)


def _draw_shop(canvas: Canvas, rng: np.random.Generator, *, x: int, z: tuple[int, int], top: int) -> None:
    """Draw the ground floor: windows, or a shop front with its sign."""
    if rng.random() < 0.5:
        _draw_windows(canvas, rng, x=x, z=z, rows=range(1))
        return
    percent = canvas.light.faces[1 if x < 0 else 0]
    lower = _make_rectangles(x, (0, top), np.array([z[0] + 20]), z[1] - z[0] - 40)
    canvas.fill(lower, pick_color(rng, STONE), None, percent)
    sign = _make_rectangles(x, (top - 55, top), np.array([z[0] + 60]), z[1] - z[0] - 120)
    canvas.fill(sign, pick_color(rng, CLOTH), None, percent)
    starts = np.arange(z[0] + 40, z[1] - 150, int(rng.integers(150, 330)))
    canvas.fill(_make_rectangles(x, (40, top - 75), starts, 120), pick_color(rng, GLASS), None, percent)


def _make_rectangles(x: int, y: tuple[int, int], starts: Points, length: int) -> Points:
    """Return vertical rectangles (N, 4, 3) in a wall along the street, one from each start."""
    corners = np.array([(x, y[0], 0), (x, y[1], 0), (x, y[1], length), (x, y[0], length)])
    return np.asarray(corners + starts[:, None, None] * np.array((0, 0, 1)))


def draw_garden(canvas: Canvas, rng: np.random.Generator, *, x: int, side: int, z: tuple[int, int]) -> None:
    """Draw a hedge along the pavement with trees behind it."""
    for depth in sorted(rng.integers(z[0] + 150, z[1] + 150, 2).tolist(), reverse=True):
        draw_tree(canvas, rng, x=x + side * 260, z=depth, trunk=int(rng.integers(120, 260)))
    across = (min(x, x + side * 150), max(x, x + side * 150))
    hedge = make_cuboid(across, (-20, int(rng.integers(70, 200))), z)
    canvas.solid(hedge, pick_color(rng, LEAF), TREE)


def draw_tree(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, trunk: int) -> None:
    """Draw a tree with a trunk of a height in centimeters."""
    radius, lean, width = rng.integers((130, -40, 16), (290, 41, 45)).tolist()
    bark, center = pick_color(rng, BARK), np.array((x + lean, trunk + radius * 3 // 4, z))
    line = np.array([[(x, 0, z), (x + lean // 2, trunk // 2, z), center]])
    canvas.stroke(line, width, bark, TREE)
    if rng.random() < 0.15:
        _draw_twigs(canvas, rng, center, radius, bark)
    else:
        _draw_crown(canvas, rng, center, radius)


def _draw_twigs(canvas: Canvas, rng: np.random.Generator, center: Points, radius: int, bark: Color) -> None:
    """Draw limbs without leaves, and twigs at larger angles."""
    for start, count, width, wild in ((0.0, 9, 9, 0.0), (0.5, 24, 5, 0.5), (0.8, 40, 3, 0.9)):
        angles = rng.uniform(0.1, math.pi - 0.1, count)
        away = rng.uniform(start, start + 0.3, count) * radius if start else np.zeros(count)
        feet = center + _make_vectors(angles, away)
        reach = rng.uniform(0.3, 0.5, count) * radius if start else np.full(count, 0.9 * radius)
        tips = feet + _make_vectors(angles + rng.normal(0, wild, count), reach)
        canvas.stroke(np.stack([feet, tips], axis=1), width, bark, TREE)


def _draw_crown(canvas: Canvas, rng: np.random.Generator, center: Points, radius: int) -> None:
    """Draw leaves, dark below and light above, with loose clumps at the border."""
    leaf = pick_color(rng, LEAF)
    canvas.fill(_make_blobs(rng, center[None], radius), leaf, TREE, 80)
    tones = ((85, 0, 8), (55, -30, 8), (85, 0, 10), (120, 35, 10))
    for percent, lift, count in tones if center[2] < FAR // 3 else tones[3:]:
        away = radius * rng.uniform(0.2, 1.05, count)
        core = center + np.array((0, lift * radius // 100, 0))
        clumps = core + _make_vectors(rng.uniform(0, 2 * math.pi, count), away)
        canvas.fill(_make_blobs(rng, clumps, radius // 4), leaf, TREE, percent)


def _make_blobs(rng: np.random.Generator, centers: Points, radius: int) -> Points:
    """Return blobs (N, 13, 3) of uneven radius around centers (N, 3), facing the camera."""
    reach = radius * rng.uniform(0.65, 1.15, (len(centers), 13))
    outlines = _make_vectors(np.arange(13) * (2 * math.pi / 13), reach)
    return np.asarray(centers[:, None] + outlines)


def _make_vectors(angles: npt.NDArray[np.floating], reach: npt.NDArray[np.floating]) -> Points:
    """Return vectors (..., 3) of length `reach` at each angle, in the plane that faces the camera."""
    steps = np.zeros((*reach.shape, 3), np.int64)
    steps[..., 0] = reach * np.cos(angles)
    steps[..., 1] = reach * np.sin(angles)
    return steps


# Poles, cars and cyclists.


def draw_pole(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, side: int) -> None:
    """Draw a lamp post with its arm over the road, a signal, a mast or a bollard."""
    kind = ("lamp", "lamp", "signal", "mast", "bollard")[int(rng.integers(5))]
    tallest = {"lamp": 800, "signal": 380, "mast": 900, "bollard": 120}[kind]
    top, lean, width, percent = rng.integers((tallest * 2 // 3, -25, 7, 70), (tallest, 26, 14, 120)).tolist()
    metal, head = pick_color(rng, METAL), x + lean * top // 600
    canvas.stroke(np.array([[(x, 0, z), (head, top, z)]]), width, metal, POLE, percent)
    if kind == "lamp":
        tip = head - side * int(rng.integers(60, 180))
        canvas.stroke(np.array([[(head, top, z), (tip, top + 25, z)]]), 8, metal, POLE)
        lamp = np.array([[(tip, top + 20, z), (tip - side * 45, top + 24, z)]])
        canvas.stroke(lamp, 16, metal, POLE)
    if kind == "signal":
        case = make_cuboid((head - 16, head + 16), (top - 20, top + 75), (z - 15, z + 15))
        canvas.solid(case, metal, POLE)


def _transform(points: Points, *, x: int, z: int, angle: float) -> Points:
    """Transform points of a vehicle at (x, z) that is turned right by `angle` radians."""
    across, along = points[..., 0], points[..., 2]
    world = points.copy()
    world[..., 0] = x + across * math.cos(angle) + along * math.sin(angle)
    depth = z - across * math.sin(angle) + along * math.cos(angle)
    world[..., 2] = np.maximum(depth, NEAR // 2)
    return world


def draw_car(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, oncoming: bool) -> None:
    """Draw a car, van or bus: body, narrower cabin with panes, wheels, lamps and the shadow below."""
    kind = int(np.searchsorted((0.78, 0.95), rng.random()))
    half, waist, roof = ((86, 88, 146), (96, 110, 215), (122, 140, 290))[kind]
    tail = int(rng.integers(190, 235)) if kind < 2 else 480
    angle = float(rng.normal(0, 0.05) if rng.random() < 0.85 else rng.uniform(-1.3, 1.3))
    to_world: ToWorld = partial(_transform, x=x, z=z + tail - 150, angle=angle)
    paint, wide = pick_color(rng, PAINT), half + 12
    shadow = [(-wide, 1, -tail - 12), (wide, 1, -tail - 12), (wide, 1, tail), (-wide, 1, tail)]
    canvas.fill(to_world(np.array([shadow])), (26, 26, 28), None)
    near_side = 1 if (canvas.camera.x - x) * math.cos(angle) + z * math.sin(angle) > 0 else -1
    _draw_wheels(canvas, to_world, -near_side * (half - 8), tail * 3 // 5)
    canvas.solid(to_world(make_cuboid((-half, half), (24, waist), (-tail, tail))), paint, CAR)
    _draw_wheels(canvas, to_world, near_side * (half - 8), tail * 3 // 5)
    cabin = _make_cabin(half - 4, (waist, roof), tail, 10 if kind else int(rng.integers(20, 70)))
    if oncoming and not kind:
        cabin[:, 2] += 100  # the hood of an oncoming car faces the camera
    canvas.solid(to_world(cabin), paint, CAR, pane=pick_color(rng, GLASS[:4]))
    if abs(angle) < 0.8:
        _draw_lamps(canvas, to_world, half, waist, tail, oncoming)


def _make_cabin(half: int, y: tuple[int, int], tail: int, slope: int) -> Points:
    """Return a box that narrows upward; with sloping windshields it is shorter, for a hood."""
    cabin = make_cuboid((-half, half), y, (8 - tail, tail - (110 if slope > 10 else 10)))
    cabin[[2, 3]] += np.array([(14, 0, slope), (-14, 0, slope)])
    cabin[[6, 7]] += np.array([(14, 0, -slope), (-14, 0, -slope)])
    return cabin


def _draw_wheels(canvas: Canvas, to_world: ToWorld, across: int, axle: int) -> None:
    """Draw the wheels of one side, as rings that are thick enough to close."""
    rings = np.stack([_make_wheel(along, 18) for along in (axle, -axle)]) + np.array((across, 15, 0))
    canvas.stroke(to_world(rings), 30, RUBBER, CAR)


def _make_wheel(along: int, radius: int) -> Points:
    """Return a closed circle (13, 3) on the ground in the plane of travel."""
    angles = np.arange(13) * (math.pi / 6)
    rim = np.stack([0 * angles, 1 + np.cos(angles), np.sin(angles)], axis=1) * radius
    return np.asarray(rim.astype(np.int64) + np.array((0, 0, along)))


def _draw_lamps(canvas: Canvas, to_world: ToWorld, half: int, waist: int, tail: int, oncoming: bool) -> None:
    """Draw lamps at both ends of the bumper, and the license plate between them."""
    color = (216, 214, 196) if oncoming else (168, 30, 26)
    for left, right, top, height, paint in (
        (-half, 34 - half, waist - 8, 18, color),
        (half - 34, half, waist - 8, 18, color),
        (-26, 26, waist - 34, 12, (206, 196, 120)),
    ):
        x, y, z = (left, right), (top - height, top), (-tail - 2, -tail)
        canvas.fill(to_world(make_cuboid(x, y, z)[[[0, 1, 3, 2]]]), paint, None)


def draw_cyclist(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int) -> None:
    """Draw a rider on two wheels, which are labeled as full disks, as annotators do."""
    angle = float(rng.normal(0, 0.35) if rng.random() < 0.5 else rng.uniform(-1.6, 1.6))
    to_world: ToWorld = partial(_transform, x=x, z=z, angle=angle)
    metal = pick_color(rng, METAL)
    for along in (52, -52):
        rim = to_world(_make_wheel(along, 34)[None])
        canvas.fill(rim, None, CYCLIST)
        canvas.stroke(rim, 6, RUBBER, CYCLIST)
    rear, saddle, head, pedals = (0, 34, -52), (0, 88, -20), (0, 84, 36), (0, 34, 0)
    frame = np.array([[rear, saddle, head, pedals, rear, pedals, saddle]])
    canvas.stroke(to_world(frame), 6, metal, CYCLIST)
    handlebar = np.array([[(-25, 104, 32), (25, 104, 32), (0, 100, 36), (0, 34, 52)]])
    canvas.stroke(to_world(handlebar), 5, metal, CYCLIST)
    _draw_rider(canvas, to_world, rng)


def _draw_rider(canvas: Canvas, to_world: ToWorld, rng: np.random.Generator) -> None:
    trousers, jacket, skin = (pick_color(rng, palette) for palette in (CLOTH, CLOTH, SKIN))
    pedal, lean = rng.integers((-16, 4), (17, 34)).tolist()
    for side, turn in ((-11, pedal), (11, -pedal)):
        leg = np.array([[(side, 96, -18), (side, 66 + turn, 22), (side, 32 + turn, -2)]])
        canvas.stroke(to_world(leg), 14, trousers, CYCLIST)
        arm = np.array([[(side * 2, 138, lean - 10), (side * 2, 106, 34)]])
        canvas.stroke(to_world(arm), 10, jacket, CYCLIST)
    canvas.stroke(to_world(np.array([[(0, 100, -18), (0, 138, lean - 8)]])), 38, jacket, CYCLIST)
    canvas.stroke(to_world(np.array([[(0, 160, lean), (0, 166, lean + 2)]])), 21, skin, CYCLIST)
