"""Touching cells under an electron microscope, drawn from a seed, with exact labels.

Read from `cell_image` down. Every pixel belongs to the nearest of many scattered ellipses, so cells of all sizes
touch. A membrane of varying thickness separates them. Organelles inside cells are as dark as membranes, but
belong to the cell.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from pixelwise.data.colors import choose_colors
from pixelwise.data.synthetic.canvas import require_valid_request, smooth_noise

Plane = npt.NDArray[np.float32]

CELL_NAMES: tuple[str, ...] = ("membrane", "cell")
CELL_COLORS = choose_colors(CELL_NAMES)
MEMBRANE, CELL = range(2)


def cell_image(seed: int, size: tuple[int, int] = (192, 192)) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a microscope image similar to those of the ISBI 2012 challenge (Arganda-Carreras et al. 2015).

    Args:
        seed: Seed, at least 0. The same arguments give identical pixels.
        size: Height and width, at least 32. Larger images have more cells of the same size.

    Returns:
        The image (H, W, 1) uint8 and the labels (H, W) uint8, indices into `CELL_NAMES`.
    """
    require_valid_request(seed, size)
    rng = np.random.default_rng(seed)
    diameter = min(int(rng.integers(20, 46)), min(size) // 2)
    cells = _tessellate(rng, size, diameter)
    distance = _distance_to_border(cells)
    thickness = np.clip(1.5 + 0.35 * smooth_noise(rng, size, diameter), 0.9, 4)
    thickness += 4 * np.clip(smooth_noise(rng, size, diameter // 2) - 1.9, 0, 1)  # membranes cut at an angle
    labels = np.where(distance < thickness, MEMBRANE, CELL).astype(np.uint8)
    image = _paint_cytoplasm(rng, cells, distance)
    _add_organelles(rng, image, distance, diameter)
    _stain_membranes(rng, image, distance, thickness)
    return _expose(rng, image)[..., None], labels


# Geometry of the cells.


def _tessellate(rng: np.random.Generator, size: tuple[int, int], diameter: int) -> npt.NDArray[np.int32]:
    """Return the number of the cell of each pixel, (H, W) int32."""
    seeds = _scatter_ellipses(rng, size, diameter)
    _, nearest = cv2.distanceTransformWithLabels(
        (seeds == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cell_of_pixel = np.zeros(int(nearest.max()) + 1, np.int32)
    inside = seeds > 0
    cell_of_pixel[nearest[inside]] = seeds[inside]
    return _ripple(rng, cell_of_pixel[nearest], diameter)


def _scatter_ellipses(rng: np.random.Generator, size: tuple[int, int], diameter: int) -> npt.NDArray[np.int32]:
    """Draw numbered ellipses on 0, large ones first; some images contain a bundle of fibers."""
    height, width = size
    seeds = np.zeros(size, np.int32)
    count = 4 + 3 * height * width // (2 * diameter * diameter)
    flow, fibers = float(rng.uniform(0, 180)), rng.random() < 0.5
    radii = np.sort(diameter * rng.lognormal(-1.5, 0.6, count))[::-1].clip(2, diameter)
    for number, radius in enumerate(radii.tolist(), start=1):
        column, row = int(rng.integers(width)), int(rng.integers(height))
        stretched = fibers and row > height * 2 // 3
        stretch = float(rng.uniform(2, 5) if stretched else rng.uniform(1, 1.8))
        angle = flow + float(rng.normal(0, 12)) if stretched else float(rng.uniform(0, 180))
        axes = (max(1, int(radius * stretch)), max(1, int(radius / math.sqrt(stretch))))
        cv2.ellipse(seeds, (column, row), axes, angle, 0, 360, (number,), -1)
    return seeds


def _ripple(rng: np.random.Generator, cells: npt.NDArray[np.int32], diameter: int) -> npt.NDArray[np.int32]:
    """Bend the straight borders by random displacements of a few pixels."""
    height, width = cells.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    for grain, strength in ((diameter // 2, diameter / 14), (5, 0.7)):
        columns += smooth_noise(rng, (height, width), grain) * np.float32(strength)
        rows += smooth_noise(rng, (height, width), grain) * np.float32(strength)
    near = cells.astype(np.float32)  # exact below 2**24 cells
    moved = cv2.remap(near, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.int32)


def _distance_to_border(cells: npt.NDArray[np.int32]) -> Plane:
    """Return the distance (H, W) float32 in pixels to the nearest pixel that touches another cell."""
    inside = np.ones(cells.shape, np.uint8)
    inside[:, 1:][cells[:, 1:] != cells[:, :-1]] = 0
    inside[1:][cells[1:] != cells[:-1]] = 0
    if inside.all():  # a single cell fills the image
        inside[0, 0] = 0
    return np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, 5), np.float32)


# Appearance.


def _paint_cytoplasm(rng: np.random.Generator, cells: npt.NDArray[np.int32], distance: Plane) -> Plane:
    """Paint each cell in its own gray, lighter toward the center, with granules."""
    grays = rng.normal(150, rng.uniform(5, 17), int(cells.max()) + 1).astype(np.float32)
    image = grays[cells] + np.minimum(distance, 12) * np.float32(rng.uniform(0, 1.5))
    size = (cells.shape[0], cells.shape[1])
    granules = smooth_noise(rng, size, 3) * np.float32(rng.uniform(3, 10))
    return np.asarray(image + granules, np.float32)


def _add_organelles(rng: np.random.Generator, image: Plane, distance: Plane, diameter: int) -> None:
    """Draw mitochondria, vesicles and filaments at a distance from the membranes."""
    layer = np.zeros(image.shape, np.uint8)
    area = image.size / diameter**2
    large_cells = np.argwhere(distance > max(4, diameter // 7))
    small_cells = np.argwhere(distance > 3.5)
    if len(large_cells):
        for row, column in large_cells[rng.integers(len(large_cells), size=int(rng.poisson(0.2 * area)))].tolist():
            _draw_mitochondrion(rng, layer, (column, row), float(distance[row, column]))
    if len(small_cells):
        for row, column in small_cells[rng.integers(len(small_cells), size=int(rng.poisson(1.6 * area)))].tolist():
            _draw_speck(rng, layer, (column, row))
    clear = np.clip((distance - 3) / 2, 0, 1) * np.float32(rng.uniform(0.35, 0.6))
    image -= cv2.GaussianBlur(layer, (3, 3), 0.8) * clear


def _draw_mitochondrion(
    rng: np.random.Generator, layer: npt.NDArray[np.uint8], center: tuple[int, int], max_radius: float
) -> None:
    """Draw a dark oval with a darker outline and stripes."""
    axes = (max(3, int(max_radius * rng.uniform(0.6, 1.1))), max(2, int(max_radius * rng.uniform(0.4, 0.7))))
    turn, gray = float(rng.uniform(0, 180)), int(rng.integers(60, 150))
    oval = np.zeros_like(layer)
    cv2.ellipse(oval, center, axes, turn, 0, 360, (1,), -1)
    stripes = np.zeros_like(layer)
    slope = math.tan(math.radians(turn / 2 - 45))
    for offset in range(-axes[0], axes[0] + 1, 3):
        x, y = center[0] + offset, center[1]
        span = int(axes[0] * slope)
        cv2.line(stripes, (x - axes[0], y - span), (x + axes[0], y + span), (70,), 1, cv2.LINE_AA)
    np.maximum(layer, oval * (gray + stripes), out=layer)
    cv2.ellipse(layer, center, axes, turn, 0, 360, (min(gray + 70, 255),), 1, cv2.LINE_AA)


def _draw_speck(rng: np.random.Generator, layer: npt.NDArray[np.uint8], center: tuple[int, int]) -> None:
    """Draw a vesicle (ring), a granule (dot) or a piece of a filament."""
    kind, gray = int(rng.integers(3)), (int(rng.integers(90, 256)),)
    if kind < 2:
        radius = int(rng.integers(1, 4))
        cv2.circle(layer, center, radius, gray, 1 if kind == 0 else -1, cv2.LINE_AA)
        return
    column, row = (int(part) for part in rng.integers(-9, 10, 2))
    cv2.line(layer, center, (center[0] + column, center[1] + row), gray, 1, cv2.LINE_AA)


def _stain_membranes(rng: np.random.Generator, image: Plane, distance: Plane, thickness: Plane) -> None:
    """Darken the membranes; the stain fades to the sides and varies along them."""
    size = (image.shape[0], image.shape[1])
    profile = np.exp(-((distance / (thickness + np.float32(0.6))) ** 2))
    uneven = 1 + np.float32(0.22) * smooth_noise(rng, size, 14)
    image -= profile * np.clip(uneven, 0.45, 1.5) * np.float32(rng.uniform(45, 95))


def _expose(rng: np.random.Generator, image: Plane) -> npt.NDArray[np.uint8]:
    """Apply uneven illumination, contrast, focus and detector noise."""
    size = (image.shape[0], image.shape[1])
    field = 1 + np.float32(0.06) * smooth_noise(rng, size, max(min(size) // 2, 8))
    exposed = image * field * np.float32(rng.uniform(0.65, 1.25)) + np.float32(rng.uniform(-25, 15))
    grain = rng.standard_normal(size, dtype=np.float32) * np.float32(rng.uniform(6, 18))
    blurred = cv2.GaussianBlur(exposed, (5, 5), float(rng.uniform(0.3, 1.0)))
    noise = cv2.GaussianBlur(grain, (3, 3), float(rng.uniform(0.2, 0.6)))
    return np.asarray(np.clip(blurred + noise, 0, 255), np.uint8)
