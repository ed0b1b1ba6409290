"""What stands and moves in a drawn street: houses, trees, poles, cars, cyclists.

Each ``draw_*`` function takes the canvas, the generator, and where the object stands.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from pixelwise.data.synthetic.canvas import (
    BUILDING,
    CAR,
    CYCLIST,
    FAR,
    NEAR,
    POLE,
    TREE,
    Canvas,
    Color,
    Points,
    box,
    pick_color,
)  # fmt: skip

Place = Callable[[Points], Points]
"""Takes points of a vehicle, ``(across, up, along)``, to where it stands in the street."""

# The palettes share their grays, browns and greens, so that no class can be told by color alone.
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


# ---------------------------------------------------------------- houses and trees


def draw_house(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    street_x: int,
    back_x: int,
    z: tuple[int, int],
    floors: int,
) -> None:
    storey = int(rng.integers(270, 340))
    count = int(rng.integers(min(2, floors), floors + 1))
    top, stone = count * storey + int(rng.integers(40, 120)), pick_color(rng, STONE)
    across = (min(street_x, back_x), max(street_x, back_x))
    if rng.random() < 0.55:
        _draw_roof(canvas, rng, across, top, z)
    canvas.solid(box(across, (-60, top), z), stone, BUILDING)
    if z[0] < FAR // 3:
        _draw_windows(canvas, rng, x=street_x, z=z, rows=range(storey, count * storey, storey))
        _draw_shop(canvas, rng, x=street_x, z=z, top=storey - 50)


def _draw_roof(canvas: Canvas, rng: np.random.Generator, x: tuple[int, int], top: int, z: tuple[int, int]) -> None:
    """A pitched roof: a box that narrows to a ridge, and a chimney."""
    rise, slope = int(rng.integers(120, 320)), (x[1] - x[0]) * 2 // 5
    corners = box(x, (top, top + rise), z)
    corners[[2, 6], 0] += slope
    corners[[3, 7], 0] -= slope
    tiles = pick_color(rng, TILES)
    canvas.solid(corners, tiles, BUILDING)
    near, middle = z[0] + (z[1] - z[0]) // 5, (x[0] + x[1]) // 2
    chimney = box((middle - 35, middle + 35), (top, top + rise + 110), (near, near + 90))
    canvas.solid(chimney, pick_color(rng, STONE), BUILDING)


def _draw_windows(canvas: Canvas, rng: np.random.Generator, *, x: int, z: tuple[int, int], rows: range) -> None:
    """Rows of windows with frames on the street front; some reflect the sky, some are lit."""
    pitch, width, height = rng.integers((210, 80, 110), (380, 150, 190)).tolist()
    columns = np.arange(z[0] + 60, z[1] - width - 20, pitch)
    if not len(rows) or not len(columns):
        return
    heights = [(floor + 60, floor + 60 + height) for floor in rows]
    panes = np.concatenate([_front(x, y, columns, width - 8) for y in heights])
    margin = np.array([(0, -10, -8), (0, 10, -8), (0, 10, 8), (0, -10, 8)])
    percent = canvas.light.faces[1 if x < 0 else 0]
    canvas.fill(panes + margin, pick_color(rng, FRAME), None, percent)
    canvas.fill(panes, pick_color(rng, GLASS), None, percent)
    odd = rng.random(len(panes)) < 0.3
    if odd.any():
        canvas.fill(panes[odd], pick_color(rng, GLASS), None, percent)


def _draw_shop(canvas: Canvas, rng: np.random.Generator, *, x: int, z: tuple[int, int], top: int) -> None:
    """The ground floor: doors and windows of a dwelling, or a shop front with its sign."""
    if rng.random() < 0.5:
        _draw_windows(canvas, rng, x=x, z=z, rows=range(1))
        return
    percent = canvas.light.faces[1 if x < 0 else 0]
    lower = _front(x, (0, top), np.array([z[0] + 20]), z[1] - z[0] - 40)
    canvas.fill(lower, pick_color(rng, STONE), None, percent)
    sign = _front(x, (top - 55, top), np.array([z[0] + 60]), z[1] - z[0] - 120)
    canvas.fill(sign, pick_color(rng, CLOTH), None, percent)
    starts = np.arange(z[0] + 40, z[1] - 150, int(rng.integers(150, 330)))
    canvas.fill(_front(x, (40, top - 75), starts, 120), pick_color(rng, GLASS), None, percent)


def _front(x: int, y: tuple[int, int], starts: Points, length: int) -> Points:
    """Upright rectangles ``(N, 4, 3)`` in a wall along the street, one from each start."""
    corners = np.array([(x, y[0], 0), (x, y[1], 0), (x, y[1], length), (x, y[0], length)])
    return np.asarray(corners + starts[:, None, None] * np.array((0, 0, 1)))


def draw_garden(canvas: Canvas, rng: np.random.Generator, *, x: int, side: int, z: tuple[int, int]) -> None:
    """A hedge along the pavement with trees behind it."""
    for depth in sorted(rng.integers(z[0] + 150, z[1] + 150, 2).tolist(), reverse=True):
        draw_tree(canvas, rng, x=x + side * 260, z=depth, trunk=int(rng.integers(120, 260)))
    across = (min(x, x + side * 150), max(x, x + side * 150))
    hedge = box(across, (-20, int(rng.integers(70, 200))), z)
    canvas.solid(hedge, pick_color(rng, LEAF), TREE)


def draw_tree(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, trunk: int) -> None:
    radius, lean, width = rng.integers((130, -40, 16), (290, 41, 45)).tolist()
    bark, middle = pick_color(rng, BARK), np.array((x + lean, trunk + radius * 3 // 4, z))
    line = np.array([[(x, 0, z), (x + lean // 2, trunk // 2, z), middle]])
    canvas.stroke(line, width, bark, TREE)
    if rng.random() < 0.15:
        _draw_twigs(canvas, rng, middle, radius, bark)
    else:
        _draw_crown(canvas, rng, middle, radius)


def _draw_twigs(canvas: Canvas, rng: np.random.Generator, middle: Points, radius: int, bark: Color) -> None:
    """A tree without leaves: limbs, and twigs that leave them in wilder directions."""
    for start, count, width, wild in ((0.0, 9, 9, 0.0), (0.5, 24, 5, 0.5), (0.8, 40, 3, 0.9)):
        angles = rng.uniform(0.1, math.pi - 0.1, count)
        away = rng.uniform(start, start + 0.3, count) * radius if start else np.zeros(count)
        feet = middle + _around(angles, away)
        reach = rng.uniform(0.3, 0.5, count) * radius if start else np.full(count, 0.9 * radius)
        tips = feet + _around(angles + rng.normal(0, wild, count), reach)
        canvas.stroke(np.stack([feet, tips], axis=1), width, bark, TREE)


def _draw_crown(canvas: Canvas, rng: np.random.Generator, middle: Points, radius: int) -> None:
    """A ragged mass of leaves, dark below and lit above, with loose clumps at the rim."""
    leaf = pick_color(rng, LEAF)
    canvas.fill(_ragged(rng, middle[None], radius), leaf, TREE, 80)
    tones = ((85, 0, 8), (55, -30, 8), (85, 0, 10), (120, 35, 10))
    for percent, lift, count in tones if middle[2] < FAR // 3 else tones[3:]:
        away = radius * rng.uniform(0.2, 1.05, count)
        core = middle + np.array((0, lift * radius // 100, 0))
        clumps = core + _around(rng.uniform(0, 2 * math.pi, count), away)
        canvas.fill(_ragged(rng, clumps, radius // 4), leaf, TREE, percent)


def _ragged(rng: np.random.Generator, middles: Points, radius: int) -> Points:
    """Blobs ``(N, 13, 3)`` of uneven radius around ``(N, 3)`` middles, facing the camera."""
    reach = radius * rng.uniform(0.65, 1.15, (len(middles), 13))
    outlines = _around(np.arange(13) * (2 * math.pi / 13), reach)
    return np.asarray(middles[:, None] + outlines)


def _around(angles: npt.NDArray[np.floating], reach: npt.NDArray[np.floating]) -> Points:
    """Steps ``(..., 3)`` in the plane that faces the camera: ``reach`` away at each angle."""
    steps = np.zeros((*reach.shape, 3), np.int64)
    steps[..., 0] = reach * np.cos(angles)
    steps[..., 1] = reach * np.sin(angles)
    return steps


# ---------------------------------------------------------------- poles, cars, cyclists


def draw_pole(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, side: int) -> None:
    """A lamp post with its arm over the road, a signal, a plain mast, or a bollard."""
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
        case = box((head - 16, head + 16), (top - 20, top + 75), (z - 15, z + 15))
        canvas.solid(case, metal, POLE)


def _turned(points: Points, *, x: int, z: int, angle: float) -> Points:
    """A :data:`Place`: the vehicle stands at ``(x, z)``, turned right by ``angle`` radians."""
    across, along = points[..., 0], points[..., 2]
    world = points.copy()
    world[..., 0] = x + across * math.cos(angle) + along * math.sin(angle)
    depth = z - across * math.sin(angle) + along * math.cos(angle)
    world[..., 2] = np.maximum(depth, NEAR // 2)
    return world


def draw_car(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int, oncoming: bool) -> None:
    """Car, van or bus: a body, a narrower cabin with panes, wheels, lamps and the shadow below."""
    kind = int(np.searchsorted((0.78, 0.95), rng.random()))
    half, waist, roof = ((86, 88, 146), (96, 110, 215), (122, 140, 290))[kind]
    tail = int(rng.integers(190, 235)) if kind < 2 else 480
    angle = float(rng.normal(0, 0.05) if rng.random() < 0.85 else rng.uniform(-1.3, 1.3))
    place: Place = partial(_turned, x=x, z=z + tail - 150, angle=angle)
    paint, wide = pick_color(rng, PAINT), half + 12
    shadow = [(-wide, 1, -tail - 12), (wide, 1, -tail - 12), (wide, 1, tail), (-wide, 1, tail)]
    canvas.fill(place(np.array([shadow])), (26, 26, 28), None)
    near_side = 1 if (canvas.camera.x - x) * math.cos(angle) + z * math.sin(angle) > 0 else -1
    _draw_wheels(canvas, place, -near_side * (half - 8), tail * 3 // 5)
    canvas.solid(place(box((-half, half), (24, waist), (-tail, tail))), paint, CAR)
    _draw_wheels(canvas, place, near_side * (half - 8), tail * 3 // 5)
    cabin = _cabin(half - 4, (waist, roof), tail, 10 if kind else int(rng.integers(20, 70)))
    if oncoming and not kind:
        cabin[:, 2] += 100  # the hood of an oncoming car is at the near end
    canvas.solid(place(cabin), paint, CAR, pane=pick_color(rng, GLASS[:4]))
    if abs(angle) < 0.8:
        _draw_lamps(canvas, place, half, waist, tail, oncoming)


def _cabin(half: int, y: tuple[int, int], tail: int, slope: int) -> Points:
    """A box that narrows upward; sloping windshields leave room for a hood, steep ones do not."""
    cabin = box((-half, half), y, (8 - tail, tail - (110 if slope > 10 else 10)))
    cabin[[2, 3]] += np.array([(14, 0, slope), (-14, 0, slope)])
    cabin[[6, 7]] += np.array([(14, 0, -slope), (-14, 0, -slope)])
    return cabin


def _draw_wheels(canvas: Canvas, place: Place, across: int, axle: int) -> None:
    """Front and rear wheel of one side, as rings so thick that they close."""
    rings = np.stack([_wheel(along, 18) for along in (axle, -axle)]) + np.array((across, 15, 0))
    canvas.stroke(place(rings), 30, RUBBER, CAR)


def _wheel(along: int, radius: int) -> Points:
    """A closed circle ``(13, 3)`` that stands on the ground in the plane of travel."""
    angles = np.arange(13) * (math.pi / 6)
    rim = np.stack([0 * angles, 1 + np.cos(angles), np.sin(angles)], axis=1) * radius
    return np.asarray(rim.astype(np.int64) + np.array((0, 0, along)))


def _draw_lamps(canvas: Canvas, place: Place, half: int, waist: int, tail: int, oncoming: bool) -> None:
    """Lamps at both ends of the bumper, and the license plate between them."""
    color = (216, 214, 196) if oncoming else (168, 30, 26)
    for left, right, top, height, paint in (
        (-half, 34 - half, waist - 8, 18, color),
        (half - 34, half, waist - 8, 18, color),
        (-26, 26, waist - 34, 12, (206, 196, 120)),
    ):
        x, y, z = (left, right), (top - height, top), (-tail - 2, -tail)
        canvas.fill(place(box(x, y, z)[[[0, 1, 3, 2]]]), paint, None)


def draw_cyclist(canvas: Canvas, rng: np.random.Generator, *, x: int, z: int) -> None:
    """A rider on two wheels; wheels are labeled as full discs, as annotators do."""
    angle = float(rng.normal(0, 0.35) if rng.random() < 0.5 else rng.uniform(-1.6, 1.6))
    place: Place = partial(_turned, x=x, z=z, angle=angle)
    metal = pick_color(rng, METAL)
    for along in (52, -52):
        rim = place(_wheel(along, 34)[None])
        canvas.fill(rim, None, CYCLIST)
        canvas.stroke(rim, 6, RUBBER, CYCLIST)
    rear, saddle, head, pedals = (0, 34, -52), (0, 88, -20), (0, 84, 36), (0, 34, 0)
    frame = np.array([[rear, saddle, head, pedals, rear, pedals, saddle]])
    canvas.stroke(place(frame), 6, metal, CYCLIST)
    handlebar = np.array([[(-25, 104, 32), (25, 104, 32), (0, 100, 36), (0, 34, 52)]])
    canvas.stroke(place(handlebar), 5, metal, CYCLIST)
    _draw_rider(canvas, place, rng)


def _draw_rider(canvas: Canvas, place: Place, rng: np.random.Generator) -> None:
    trousers, jacket, skin = (pick_color(rng, palette) for palette in (CLOTH, CLOTH, SKIN))
    pedal, lean = rng.integers((-16, 4), (17, 34)).tolist()
    for side, turn in ((-11, pedal), (11, -pedal)):
        leg = np.array([[(side, 96, -18), (side, 66 + turn, 22), (side, 32 + turn, -2)]])
        canvas.stroke(place(leg), 14, trousers, CYCLIST)
        arm = np.array([[(side * 2, 138, lean - 10), (side * 2, 106, 34)]])
        canvas.stroke(place(arm), 10, jacket, CYCLIST)
    canvas.stroke(place(np.array([[(0, 100, -18), (0, 138, lean - 8)]])), 38, jacket, CYCLIST)
    canvas.stroke(place(np.array([[(0, 160, lean), (0, 166, lean + 2)]])), 21, skin, CYCLIST)
