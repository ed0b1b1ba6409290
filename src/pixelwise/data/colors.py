"""Colors of classes: a palette that color-blind readers can distinguish, and colors that differ from given ones."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Color = tuple[int, int, int]
Vision = Literal["normal", "protanopia", "deuteranopia", "tritanopia"]
Values = npt.NDArray[np.float64]

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
GRAY: Color = (96, 96, 96)
"""Default color of the background."""
PALETTE: tuple[Color, ...] = (
    (255, 140, 0), (40, 120, 255), (140, 255, 240), (140, 20, 160), (240, 240, 0), (180, 100, 0), (100, 200, 255),
    (255, 0, 180), (160, 20, 0), (20, 20, 255), (160, 200, 160), (160, 140, 240), (80, 180, 120), (240, 200, 80),
    (100, 140, 100), (200, 160, 200), (140, 100, 140), (180, 240, 160), (100, 40, 200), (200, 60, 220),
)  # fmt: skip
"""Default colors of classes. Simulated annealing maximized the least distance among the first 8, the first 12 and all
20, over all kinds of color vision. All are light enough to be blended with a photo, and differ from `GRAY`."""
MIN_LIGHTNESS = 0.45
"""Darker colors blacken a photo."""
MIN_DISTANCE = 0.065
"""Least distance of a color of the palette from the colors in use."""
MAX_DISTINCT = 1000
MARK_COLORS: tuple[Color, ...] = (
    (214, 0, 40), (255, 0, 110), (220, 0, 170), (0, 70, 230), (110, 0, 200), (0, 110, 70),
)  # fmt: skip
"""Colors for errors, in order of preference."""
MARK_LIGHTNESS = (0.35, 0.65)
"""Dark on a pale image, and lighter than its own stripes."""
MIN_MARK_DISTANCE = 0.1
"""Distance at which a color for errors is not taken for that of a class."""
BACKGROUND_NAMES = (
    *("0", "background", "backgroundclutter", "bg", "clutter", "clutterbackground", "nodata", "none", "nothing"),
    *("other", "otherbackground", "others", "rest", "unknown", "unlabeled", "unlabelled", "void"),
)
"""Names, in lower case and without punctuation, of a class for everything else; 0 is one without a name."""

VISIONS: Mapping[Vision, Values] = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
"""Kind of color vision → matrix for linear RGB. Machado et al., "A Physiologically-based Model for Simulation of Color
Vision Deficiency", IEEE TVCG 2009, severity 1."""
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""Matrices of OKLab (Ottosson 2020)."""


def is_background_name(name: str) -> bool:
    """Return whether a class of this name stands for everything that no other class names.

    >>> [is_background_name(name) for name in ("_background_", "Clutter/Background", "road")]
    [True, True, False]
    """
    return "".join(filter(str.isalnum, name)).casefold() in BACKGROUND_NAMES


def choose_colors(names: Sequence[str], given: Mapping[str, Color] | None = None) -> tuple[Color, ...]:
    """Return a color for each class: the given one, gray for a background, else the next distinct one of the palette.

    The same arguments give the same colors, which repeat above 1,000 classes.
    """
    colors = dict(given or {})
    if (background := next(filter(is_background_name, names), None)) is not None:
        colors.setdefault(background, GRAY)
    distinct = _iterate_distinct_colors((GRAY, *colors.values()))
    for name in names:
        if name not in colors:
            colors[name] = next(distinct)
    return tuple(colors[name] for name in names)


def is_light(color: Color) -> bool:
    """Return whether a photo blended with a color remains recognizable."""
    return bool(to_oklab([color])[0, 0] >= MIN_LIGHTNESS)


def choose_mark_color(colors: Sequence[Color]) -> Color:
    """Return a color for errors that differs from all of `colors`: red, unless one of them is similar."""
    candidates = (*MARK_COLORS, *_list_candidates(MARK_LIGHTNESS, 0.15))
    distances = np.linalg.norm(to_oklab(candidates)[:, None] - to_oklab(colors), axis=-1).min(1, initial=1)
    return candidates[int(np.minimum(distances, MIN_MARK_DISTANCE).argmax())]


def to_oklab(colors: Sequence[Color], vision: Vision = "normal") -> Values:
    """Convert sRGB (N, 3) to OKLab (N, 3), where distances are as large as they look; from black to white it is 1."""
    return np.cbrt(_see(colors, vision) @ _TO_LMS.T) @ _TO_LAB.T  # type: ignore[no-any-return]


def simulate_vision(colors: Sequence[Color], vision: Vision) -> list[Color]:
    """Return the colors that look to normal vision as the given ones look to another kind."""
    linear = _see(colors, vision)
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(red, green, blue) for red, green, blue in np.rint(255 * values).astype(int).tolist()]


def _see(colors: Sequence[Color], vision: Vision) -> Values:
    """Convert sRGB (N, 3) to linear RGB (N, 3) as someone sees it."""
    values = np.reshape(colors, (-1, 3)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return (linear @ VISIONS[vision].T).clip(0, 1)


@cache
def _to_views(colors: tuple[Color, ...]) -> Values:
    """Convert N colors to (V, N, 3): how they look to each kind of color vision."""
    return np.stack([to_oklab(colors, vision) for vision in VISIONS])


def _measure_distances(views: Values, others: Values) -> Values:
    """Return the distances (N, M), each the least over all kinds of color vision."""
    return np.linalg.norm(views[:, :, None] - others[:, None], axis=-1).min(0)  # type: ignore[no-any-return]


@cache
def _list_candidates(lightness: tuple[float, float], min_chroma: float) -> tuple[Color, ...]:
    """Return the colors of a grid within a range of lightness, without grays."""
    grid = list(itertools.product((*range(0, 250, 20), 255), repeat=3))
    lab = to_oklab(grid)
    is_in_range = (lab[:, 0] >= lightness[0]) & (lab[:, 0] <= lightness[1])
    return tuple(itertools.compress(grid, is_in_range & (np.hypot(lab[:, 1], lab[:, 2]) >= min_chroma)))


def _iterate_distinct_colors(taken: tuple[Color, ...]) -> Iterator[Color]:
    """Yield the colors of the palette that differ from all taken ones, then each time the most different color."""
    distances = _measure_distances(_to_views(PALETTE), _to_views(taken)).min(1)
    palette = tuple(itertools.compress(PALETTE, distances >= MIN_DISTANCE))
    yield from palette
    candidates = _list_candidates((MIN_LIGHTNESS, 0.93), 0.07)
    views = _to_views(candidates)
    distances = _measure_distances(views, _to_views(taken + palette)).min(1)
    chosen: list[Color] = []
    while len(chosen) < MAX_DISTINCT:
        farthest = int(distances.argmax())
        chosen.append(candidates[farthest])
        yield candidates[farthest]
        distances = np.minimum(distances, _measure_distances(views, views[:, farthest, None])[:, 0])
    yield from itertools.cycle(chosen)
