"""Objects of a street scene: houses, trees, poles, cars and cyclists.

Each `draw_*` function takes the canvas, the generator and the position of the object.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from pixelwise.data.classes import Color
from pixelwise.data.synthetic.canvas import (
    BUILDING,
    CAR,
    CYCLIST,
    FAR,
    NEAR,
    POLE,
    TREE,
    Canvas,
    Points,
    make_box,
    pick_color,
)  # fmt: skip

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
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    street_x: int,
    back_x: int,
    z: tuple[int, int],
    floors: int,
) -> None:
    """Draw a house between two x positions, with up to `floors` floors."""
    storey = int(rng.integers(270, 340))
    count = int(rng.integers(min(2, floors), floors + 1))
    top, stone = count * storey + int(rng.integers(40, 120)), pick_color(rng, STONE)
    across = (min(street_x, back_x), max(street_x, back_x))
    if rng.random() < 0.55:
        _draw_roof(canvas, rng, across, top, z)
    canvas.solid(make_box(across, (-60, top), z), stone, BUILDING)
    if z[0] < FAR // 3:
        _draw_windows(canvas, rng, x=street_x, z=z, rows=range(storey, count * storey, storey))
        _draw_shop(canvas, rng, x=street_x, z=z, top=storey - 50)


def _draw_roof(canvas: Canvas, rng: np.random.Generator, x: tuple[int, int], top: int, z: tuple[int, int]) -> None:
    """Draw a pitched roof (a box that narrows to a ridge) and a chimney."""
    rise, slope = int(rng.integers(120, 320)), (x[1] - x[0]) * 2 // 5
    corners = make_box(x, (top, top + rise), z)
    corners[[2, 6], 0] += slope
    corners[[3, 7], 0] -= slope
    tiles = pick_color(rng, TILES)
    canvas.solid(corners, tiles, BUILDING)
    near, center = z[0] + (z[1] - z[0]) // 5, (x[0] + x[1]) // 2
    chimney = make_box((center - 35, center + 35), (top, top + rise + 110), (near, near + 90))
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
    hedge = make_box(across, (-20, int(rng.integers(70, 200))), z)
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
        case = make_box((head - 16, head + 16), (top - 20, top + 75), (z - 15, z + 15))
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
    canvas.solid(to_world(make_box((-half, half), (24, waist), (-tail, tail))), paint, CAR)
    _draw_wheels(canvas, to_world, near_side * (half - 8), tail * 3 // 5)
    cabin = _make_cabin(half - 4, (waist, roof), tail, 10 if kind else int(rng.integers(20, 70)))
    if oncoming and not kind:
        cabin[:, 2] += 100  # the hood of an oncoming car faces the camera
    canvas.solid(to_world(cabin), paint, CAR, pane=pick_color(rng, GLASS[:4]))
    if abs(angle) < 0.8:
        _draw_lamps(canvas, to_world, half, waist, tail, oncoming)


def _make_cabin(half: int, y: tuple[int, int], tail: int, slope: int) -> Points:
    """Return a box that narrows upward; with sloping windshields it is shorter, for a hood."""
    cabin = make_box((-half, half), y, (8 - tail, tail - (110 if slope > 10 else 10)))
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
        canvas.fill(to_world(make_box(x, y, z)[[[0, 1, 3, 2]]]), paint, None)


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
