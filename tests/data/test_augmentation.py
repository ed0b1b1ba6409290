import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pixelwise.config import AugmentationConfig
from pixelwise.data.augmentation import Augmentation, _choose_range, apply_augmentation, draw_augmentation, move_crop
from pixelwise.data.io.images import Array

IDENTITY = Augmentation(
    scale=1.0,
    angle=0.0,
    flip_horizontal=False,
    flip_vertical=False,
    shift=(0.5, 0.5),
    brightness=1.0,
    contrast=1.0,
    saturation=1.0,
)
KINDS = [(channels, dtype) for channels in (1, 3, 4, 6) for dtype in (np.uint8, np.uint16, np.float32)]
NOTHING = AugmentationConfig(flip_horizontal=0, flip_vertical=0, scale=(1, 1), rotate=0, color=0)


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> Array:
    """Float noise has a mean of 0."""
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.normal(0, 300, (height, width, channels)).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def blocks(rows: int, columns: int, side: int, classes: int = 5) -> Array:
    """Return labels in squares, different from their neighbors."""
    small = (np.arange(rows)[:, None] * 2 + np.arange(columns)) % classes
    return np.kron(small, np.ones((side, side), int)).astype(np.uint8)


def bends(largest: float) -> st.SearchStrategy[tuple[float, ...]]:
    return st.just(()) | st.tuples(*[st.floats(-largest, largest)] * 18)


UNIT = st.floats(0, 1)
GEOMETRY = st.builds(
    Augmentation,
    scale=st.floats(0.2, 4),
    angle=st.floats(-math.pi, math.pi),
    flip_horizontal=st.booleans(),
    flip_vertical=st.booleans(),
    shift=st.tuples(UNIT, UNIT),
    brightness=st.just(1.0),
    contrast=st.just(1.0),
    saturation=st.just(1.0),
    displacements=bends(30),
)
FACTOR = st.floats(0, 2)
STILL = (0.0,) * 18
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


# Plans that can be worked by hand.


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 5), (1, 1)])
def test_the_identity_has_no_effect(size: tuple[int, int], channels: int, dtype: type) -> None:
    image, labels = noise(*size, channels, dtype), noise(*size, 1)[..., 0]
    warped, warped_labels = apply_augmentation(IDENTITY, image, labels, size)
    assert warped.dtype == dtype
    np.testing.assert_array_equal(warped, image)
    np.testing.assert_array_equal(warped_labels, labels)


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_flips_are_exact(size: tuple[int, int], channels: int, dtype: type) -> None:
    image, labels = noise(*size, channels, dtype), noise(*size, 1, np.uint16)[..., 0]
    plan = replace(IDENTITY, flip_horizontal=True)
    for flipped, expected in zip(apply_augmentation(plan, image, labels, size), (image, labels), strict=True):
        np.testing.assert_array_equal(flipped, expected[:, ::-1])
    plan = replace(IDENTITY, flip_vertical=True)
    for flipped, expected in zip(apply_augmentation(plan, image, labels, size), (image, labels), strict=True):
        np.testing.assert_array_equal(flipped, expected[::-1])


def test_a_quarter_turn_is_exact() -> None:
    image, labels = noise(9, 9), noise(9, 9, 1)[..., 0]
    turned, turned_labels = apply_augmentation(replace(IDENTITY, angle=math.pi / 2), image, labels, (9, 9))
    np.testing.assert_array_equal(turned, np.rot90(image))
    np.testing.assert_array_equal(turned_labels, np.rot90(labels))


@pytest.mark.parametrize(
    ("center", "top", "left"),
    [((2, 4), 0, 0), ((5, 10), 3, 6), ((9.5, 19), 6, 12), ((0, 8), 0, 4)],
)
def test_a_crop_is_centered_as_far_as_the_image_allows(center: tuple[float, float], top: int, left: int) -> None:
    image, labels = noise(10, 20), noise(10, 20, 1)[..., 0]
    plan = move_crop(IDENTITY, center, labels.shape, (4, 8))
    _, crop_labels = apply_augmentation(plan, image, labels, (4, 8))
    np.testing.assert_array_equal(crop_labels, labels[top : top + 4, left : left + 8])


def test_a_centered_crop_is_zoomed() -> None:
    plan = move_crop(replace(IDENTITY, scale=2.0), (5, 10), (10, 20), (4, 8))
    assert plan.shift == (0.5, 0.5)
    plan = move_crop(replace(IDENTITY, scale=2.0), (2, 17.5), (10, 20), (4, 8))
    assert plan.shift == pytest.approx((2 / 16, 31 / 32))


def test_a_crop_larger_than_the_image_keeps_its_place() -> None:
    plan = replace(IDENTITY, shift=(0.25, 0.75))
    assert move_crop(plan, (1, 1), (10, 20), (12, 8)).shift == (0.25, 0.0)


@pytest.mark.parametrize(("shift", "top", "left"), [((0.0, 0.0), 0, 0), ((1.0, 1.0), 6, 12), ((0.5, 0.25), 3, 3)])
def test_the_shift_positions_the_crop(shift: tuple[float, float], top: int, left: int) -> None:
    image, labels = noise(10, 20), noise(10, 20, 1)[..., 0]
    crop, crop_labels = apply_augmentation(replace(IDENTITY, shift=shift), image, labels, (4, 8))
    np.testing.assert_array_equal(crop, image[top : top + 4, left : left + 8])
    np.testing.assert_array_equal(crop_labels, labels[top : top + 4, left : left + 8])


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_the_image_is_mirrored_at_its_border(channels: int, dtype: type) -> None:
    image, labels = noise(6, 8, channels, dtype), noise(6, 8, 1)[..., 0]
    wide, wide_labels = apply_augmentation(IDENTITY, image, labels, (10, 14))
    np.testing.assert_array_equal(wide, np.pad(image, ((2, 2), (3, 3), (0, 0)), "symmetric"))
    np.testing.assert_array_equal(wide_labels, np.pad(labels, ((2, 2), (3, 3)), "symmetric"))


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_scale_two_doubles_every_pixel_of_a_block_image(channels: int, dtype: type) -> None:
    labels = blocks(3, 4, 6)
    image: Array = np.stack([labels.astype(dtype) * 50 + c for c in range(channels)], -1)
    doubled, doubled_labels = apply_augmentation(replace(IDENTITY, scale=2.0), image, labels, (36, 48))
    np.testing.assert_array_equal(doubled_labels, np.kron(labels, np.ones((2, 2), np.uint8)))
    inner = np.zeros((12, 12), bool)
    inner[1:-1, 1:-1] = True  # bilinear lookup reaches one pixel over a border
    inside = np.tile(inner, (3, 4))
    expected = np.kron(image, np.ones((2, 2, 1), dtype))
    np.testing.assert_array_equal(doubled[inside], expected[inside])


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_averages(factor: int, channels: int, dtype: type) -> None:
    """Each pixel of shrunk noise is the mean of the pixels it covers, and not one of them."""
    image, labels = noise(16, 24, channels, dtype), blocks(16 // factor, 24 // factor, factor)
    size = (16 // factor, 24 // factor)
    small, small_labels = apply_augmentation(replace(IDENTITY, scale=1 / factor), image, labels, size)
    split = image.reshape(size[0], factor, size[1], factor, channels)
    np.testing.assert_allclose(small, split.mean((1, 3)), atol=1)
    np.testing.assert_array_equal(small_labels, labels[::factor, ::factor])


# Laws.


@given(GEOMETRY, SIZES, SIZES, st.sampled_from(KINDS))
def test_sizes_and_dtypes_are_kept_and_no_label_is_new(
    plan: Augmentation, source: tuple[int, int], size: tuple[int, int], kind: tuple[int, type]
) -> None:
    channels, dtype = kind
    of_labels = np.uint16 if dtype == np.uint16 else np.uint8
    image, labels = noise(*source, channels, dtype), noise(*source, 1, of_labels)[..., 0]
    warped, warped_labels = apply_augmentation(plan, image, labels, size)
    assert warped.shape == (*size, channels)
    assert warped_labels.shape == size
    assert (warped.dtype, warped_labels.dtype) == (dtype, of_labels)
    assert set(np.unique(warped_labels)) <= set(np.unique(labels))


@given(GEOMETRY, bends(3), st.floats(0.4, 4), st.integers(50, 70), st.integers(50, 70))
def test_image_and_labels_move_together(
    plan: Augmentation, displacements: tuple[float, ...], scale: float, height: int, width: int
) -> None:
    """With the labels drawn as the image, both must agree away from borders."""
    labels = blocks(3, 3, 24)[:height, :width]
    image = np.stack([labels * 50, 255 - labels * 50], -1)
    plan = replace(plan, scale=scale, displacements=displacements)
    warped, warped_labels = apply_augmentation(plan, image, labels, (48, 48))
    reach = 2 * math.ceil(max(scale, 1)) + 1  # how far averaging and lookup mix, in output pixels
    window = np.ones((2 * reach + 1,) * 2, np.uint8)
    inside = cv2.erode(warped_labels, window) == cv2.dilate(warped_labels, window)
    inside = inside[reach:-reach, reach:-reach]  # a class border may lie just outside
    warped = warped[reach:-reach, reach:-reach][inside]
    painted = warped_labels[reach:-reach, reach:-reach][inside].astype(int) * 50
    assert inside.any()
    np.testing.assert_allclose(warped[:, 0], painted, atol=1)
    np.testing.assert_allclose(warped[:, 1], 255 - painted, atol=1)


@pytest.mark.parametrize("scale", [0.23, 0.4, 0.61, 0.8, 1.3, 2.6])
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.5])
@pytest.mark.parametrize("elastic", [0.0, 2.0])
def test_image_and_labels_are_aligned_within_half_a_pixel(scale: float, angle: float, elastic: float) -> None:
    """The drawn labels, thresholded between two classes, equal the warped labels."""
    rows, columns = np.mgrid[:121, :137]
    disc = ((rows - 55.3) ** 2 + (columns - 71.8) ** 2 < 45**2).astype(np.uint8)
    displacements = draw_augmentation(replace(NOTHING, elastic=elastic), np.random.default_rng(3)).displacements
    plan = replace(IDENTITY, scale=scale, angle=angle, flip_horizontal=True, displacements=displacements)
    warped, labels = apply_augmentation(plan, disc[..., None] * 200, disc, (40, 40))
    cut = (warped[..., 0] >= 100).astype(np.uint8)
    differing = np.count_nonzero(cut != labels)
    border = np.count_nonzero(cv2.dilate(labels, np.ones((3, 3), np.uint8)) != labels)
    assert 0 < np.count_nonzero(labels) < labels.size or border == 0
    assert differing <= 0.35 * border
    if border:
        np.testing.assert_allclose(np.argwhere(cut).mean(0), np.argwhere(labels).mean(0), atol=0.3)


@given(GEOMETRY, FACTOR, FACTOR, FACTOR, st.sampled_from(KINDS))
def test_color_never_changes_labels_and_keeps_the_type(
    plan: Augmentation, brightness: float, contrast: float, saturation: float, kind: tuple[int, type]
) -> None:
    channels, dtype = kind
    image, labels = noise(9, 11, channels, dtype), noise(9, 11, 1)[..., 0]
    factors = (brightness, contrast, saturation)
    colored = replace(plan, brightness=brightness, contrast=contrast, saturation=saturation)
    plain, plain_labels = apply_augmentation(plan, image, labels, (8, 8))
    recolored, recolored_labels = apply_augmentation(colored, image, labels, (8, 8))
    np.testing.assert_array_equal(recolored_labels, plain_labels)
    assert recolored.shape == plain.shape
    assert recolored.dtype == dtype
    np.testing.assert_allclose(recolored, reference(plain, *factors), atol=2)


def reference(image: Array, brightness: float, contrast: float, saturation: float) -> Array:
    """Apply saturation around the luma, contrast around the mean and brightness, one after the other.

    Of float images, brightness is a shift in standard stds.
    """
    pixels = image.astype(np.float64)
    if image.shape[2] == 3:
        luma = (pixels @ [0.299, 0.587, 0.114])[..., None]
        pixels = luma + saturation * (pixels - luma)
    mean = pixels.mean((0, 1))
    if image.dtype == np.float32:
        return mean + contrast * (pixels - mean) + (brightness - 1) * image.std((0, 1))
    pixels = brightness * (mean + contrast * (pixels - mean))
    clipped: Array = np.clip(pixels, 0, np.iinfo(image.dtype).max)
    return clipped


def test_colors_computed_by_hand() -> None:
    image = np.array([[[100, 100, 100], [200, 100, 0]]], np.uint8)
    labels = np.zeros((1, 2), np.uint8)

    def recolored(**factors: float) -> list[list[int]]:
        pixels, _ = apply_augmentation(replace(IDENTITY, **factors), image, labels, (1, 2))  # type: ignore[arg-type]
        listed: list[list[int]] = pixels[0].tolist()
        return listed

    assert recolored(brightness=1.5) == [[150, 150, 150], [255, 150, 0]]
    assert recolored(contrast=0.0) == [[150, 100, 50], [150, 100, 50]]
    assert recolored(saturation=0.0) == [[100, 100, 100], [118, 118, 118]]


@pytest.mark.parametrize(("channels", "dtype"), [*KINDS, (65, np.uint8), (224, np.float32)])
def test_a_sample_is_written_into_given_arrays(channels: int, dtype: type) -> None:
    """For any number of channels, the result is the same as in new arrays."""
    image, labels = noise(30, 40, channels, dtype), blocks(5, 8, 8)[:30, :40]
    plan = replace(IDENTITY, scale=0.7, angle=0.3, brightness=1.2, contrast=0.8, saturation=0.5)
    images, all_labels = np.zeros((3, 16, 24, channels), dtype), np.zeros((3, 16, 24), np.uint8)
    written = apply_augmentation(plan, image, labels, (16, 24), (images[1], all_labels[1]))
    assert np.shares_memory(written[0], images)
    assert np.shares_memory(written[1], all_labels)
    alone, alone_labels = apply_augmentation(plan, image, labels, (16, 24))
    np.testing.assert_array_equal(images[1], alone)
    np.testing.assert_array_equal(all_labels[1], alone_labels)
    assert not images[[0, 2]].any()
    assert not all_labels[[0, 2]].any()


@pytest.mark.parametrize("channels", [65, 224])
def test_each_of_many_channels_is_warped_like_a_single_one(channels: int) -> None:
    image, labels = noise(20, 30, channels, np.float32), blocks(5, 8, 8)[:20, :30]
    plan = replace(IDENTITY, scale=1.3, angle=0.3, brightness=1.2, contrast=0.8)
    warped, _ = apply_augmentation(plan, image, labels, (16, 24))
    for band in range(0, channels, 8):
        alone, _ = apply_augmentation(plan, np.ascontiguousarray(image[..., band : band + 1]), labels, (16, 24))
        # Of many bands, OpenCV rounds places to 1/32 of a pixel.
        np.testing.assert_allclose(warped[..., band], alone[..., 0], atol=60)


@given(st.integers(1, 60), st.floats(-150, 150), st.floats(0, 90), st.sampled_from([1, 2, 4, 8]))
def test_the_range_to_read_and_mirror_covers_the_crop(side: int, low: float, length: float, step: int) -> None:
    """Compare with NumPy's mirrored padding of the whole image, in multiples of the factor."""
    high = low + length
    inside, before, after = _choose_range(low, high, side, step)
    line = np.arange(side)
    read = np.pad(line[inside], (before, after), "symmetric")
    origin = inside.start - before
    assert origin % step == len(read) % step == 0
    assert origin <= math.floor(low + 1e-7) * step
    assert origin + len(read) >= (math.ceil(high - 1e-7) + 1) * step
    wanted = np.pad(line, 2000, "symmetric")[2000 + origin :][: len(read)]
    np.testing.assert_array_equal(read, wanted)


def test_only_the_crop_of_a_large_image_is_read() -> None:
    """OpenCV supports at most 32767 pixels per side."""
    image = np.zeros((8, 70_000, 3), np.uint8)
    image[:, 69_000:] = 9
    for displacements in ((), STILL):
        plan = replace(IDENTITY, shift=(0.5, 1.0), angle=0.01, displacements=displacements)
        warped, _ = apply_augmentation(plan, image, image[..., 0], (8, 64))
        assert (warped == 9).all()


def test_the_given_arrays_are_not_changed() -> None:
    """The cache uses them again."""
    image, labels = noise(9, 9), noise(9, 9, 1)[..., 0]
    image.flags.writeable = labels.flags.writeable = False
    warped, warped_labels = apply_augmentation(replace(IDENTITY, brightness=0.5), image, labels, (9, 9))
    assert not np.shares_memory(warped, image)
    assert not np.shares_memory(warped_labels, labels)


# Elastic deformation.


def displaced_by(rows: float, columns: float) -> tuple[float, ...]:
    return (rows,) * 9 + (columns,) * 9


def test_displacements_are_normal_with_the_std_of_the_config() -> None:
    """As in the U-Net paper: 10 pixels on a 3 x 3 grid."""
    config = replace(NOTHING, elastic=10.0)
    plans = [draw_augmentation(config, np.random.default_rng(seed)) for seed in range(4000)]
    drawn = np.array([plan.displacements for plan in plans])
    assert drawn.shape == (4000, 2 * 3 * 3)
    np.testing.assert_allclose(drawn.std(0), 10, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.6)
    assert abs(np.mean(np.abs(drawn) < 10) - 0.6827) < 0.01  # of a normal distribution
    assert np.abs(np.corrcoef(drawn.T) - np.eye(18)).max() < 0.07


@given(st.integers(0, 2**32))
def test_an_elastic_deformation_changes_no_other_parameter(seed: int) -> None:
    plain = draw_augmentation(AugmentationConfig(), np.random.default_rng(seed))
    elastic = draw_augmentation(AugmentationConfig(elastic=10), np.random.default_rng(seed))
    assert plain.displacements == ()
    assert len(set(elastic.displacements)) == 18
    assert replace(elastic, displacements=()) == plain


def test_displacements_shrink_with_the_resolution() -> None:
    config = replace(NOTHING, elastic=10.0)
    full = draw_augmentation(config, np.random.default_rng(0))
    half = draw_augmentation(config, np.random.default_rng(0), resolution=0.5)
    np.testing.assert_allclose(half.displacements, np.array(full.displacements) / 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (14, 20), (1, 5), (1, 1)])
@pytest.mark.parametrize("turn", [0.0, math.pi / 2])
@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_zero_displacements_have_no_effect(size: tuple[int, int], turn: float, channels: int, dtype: type) -> None:
    image, labels = noise(9, 9, channels, dtype), noise(9, 9, 1)[..., 0]
    plan = replace(IDENTITY, angle=turn, flip_vertical=True, shift=(0.0, 0.0))
    for plain, bent in zip(
        apply_augmentation(plan, image, labels, size),
        apply_augmentation(replace(plan, displacements=STILL), image, labels, size),
        strict=True,
    ):
        np.testing.assert_array_equal(bent, plain)


def test_displacements_are_rows_then_columns() -> None:
    image, labels = noise(10, 20), noise(10, 20, 1)[..., 0]
    plan = replace(IDENTITY, displacements=displaced_by(2, -3))
    moved, moved_labels = apply_augmentation(plan, image, labels, (4, 8))
    np.testing.assert_array_equal(moved, image[5:9, 3:11])
    np.testing.assert_array_equal(moved_labels, labels[5:9, 3:11])


def test_displacements_are_in_pixels_of_the_sample() -> None:
    labels = blocks(3, 4, 6)
    plan = replace(IDENTITY, scale=2.0)
    _, plain = apply_augmentation(plan, labels[..., None], labels, (36, 48))
    _, moved = apply_augmentation(replace(plan, displacements=displaced_by(0, 6)), labels[..., None], labels, (36, 48))
    np.testing.assert_array_equal(moved[:, :-6], plain[:, 6:])


def test_a_deformed_crop_is_mirrored_outside_of_the_image() -> None:
    image, labels = noise(6, 8), noise(6, 8, 1)[..., 0]
    plan = replace(IDENTITY, displacements=displaced_by(-4, 5))
    moved, moved_labels = apply_augmentation(plan, image, labels, (6, 8))
    np.testing.assert_array_equal(moved, np.pad(image, ((4, 0), (0, 5), (0, 0)), "symmetric")[:6, 5:])
    np.testing.assert_array_equal(moved_labels, np.pad(labels, ((4, 0), (0, 5)), "symmetric")[:6, 5:])


@pytest.mark.parametrize("axis", [0, 1])
def test_control_points_are_interpolated_bicubically(axis: int) -> None:
    """Rows (or columns) 0, 16 and 32 equal the points; row 8 has Keys' weights -1/16, 9/16, 9/16, -1/16."""
    ramp = np.arange(0, 64000, 1000, dtype=np.uint16)  # a sample shows the place it looks up, in thousandths
    image = np.broadcast_to(ramp[:, None, None], (64, 64, 1)).swapaxes(0, axis)
    points = np.zeros((2, 3, 3))
    points[axis] = np.array([2.0, -4.0, 8.0])[:, None] if axis == 0 else np.array([2.0, -4.0, 8.0])
    plan = replace(IDENTITY, displacements=tuple(points.ravel().tolist()))
    sample, _ = apply_augmentation(plan, image, np.zeros((64, 64), np.uint8), (33, 33))
    plain, _ = apply_augmentation(IDENTITY, image, np.zeros((64, 64), np.uint8), (33, 33))
    found = (sample[..., 0].astype(float) - plain[..., 0]) / 1000
    found = found if axis == 0 else found.T
    first, second = (9 * (2 - 4) - 2 - 8) / 16, (9 * (-4 + 8) - 2 - 8) / 16  # the ends count again beyond them
    np.testing.assert_allclose(found[[0, 8, 16, 24, 32]].T, [[2, first, -4, second, 8]] * 33, atol=1 / 32)


@pytest.mark.parametrize("seed", range(4))
def test_image_and_labels_are_sampled_at_the_same_positions(seed: int) -> None:
    """Compare with SciPy's sampling at the same positions, for the 10 pixels of the paper."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(120, 140)), 5)
    image = np.rint(np.interp(smooth, (smooth.min(), smooth.max()), (0, 255))).astype(np.uint8)
    labels = (image // 40).astype(np.uint8)
    plan = replace(draw_augmentation(replace(NOTHING, elastic=10.0), rng), shift=(0.5, 0.5))
    warped, warped_labels = apply_augmentation(plan, image[..., None], labels, (100, 110))
    at = np.indices((100, 110)) / np.array([99 / 2, 109 / 2])[:, None, None]
    field = np.stack([by_definition(points, at) for points in np.reshape(plan.displacements, (2, 3, 3))])
    places = np.indices((100, 110)) + np.array([10, 15])[:, None, None] + field
    expected = ndimage.map_coordinates(image.astype(float), places, order=1, mode="reflect")
    np.testing.assert_allclose(warped[..., 0], expected, atol=2)
    found = ndimage.map_coordinates(labels, places, order=0, mode="reflect")
    assert np.mean(found != warped_labels) < 0.01  # ties, rounded either way
    assert np.abs(field).max() > 5


def by_definition(points: Array, at: Array) -> Array:
    """Compute the cubic convolution of the 3 x 3 points with repeated ends, as a sum of 16 terms per position."""

    def kernel(d: Array) -> Array:
        d = np.abs(d)
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weights: Array = np.select([d <= 1, d <= 2], [near, far], 0.0)
        return weights

    total = np.zeros(at.shape[1:])
    for row in range(-1, 4):
        for column in range(-1, 4):
            value = points[np.clip(row, 0, 2), np.clip(column, 0, 2)]
            total += value * kernel(at[0] - row) * kernel(at[1] - column)
    return total


# Drawing a plan.


@given(st.integers(0, 2**32))
def test_drawn_parameters_are_within_the_config(seed: int) -> None:
    config = AugmentationConfig(scale=(0.5, 2.0), rotate=30, color=0.4)
    plan = draw_augmentation(config, np.random.default_rng(seed))
    assert 0.5 <= plan.scale <= 2.0
    assert abs(plan.angle) <= math.radians(30)
    assert all(0 <= share <= 1 for share in plan.shift)
    assert all(abs(f - 1) <= 0.4 for f in (plan.brightness, plan.contrast, plan.saturation))
    assert plan == draw_augmentation(config, np.random.default_rng(seed))
    half = draw_augmentation(config, np.random.default_rng(seed), resolution=0.5)
    assert half == replace(plan, scale=plan.scale * 0.5)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_have_the_given_probability(probability: float) -> None:
    config = replace(NOTHING, flip_horizontal=probability, flip_vertical=1 - probability)
    for seed in range(20):
        plan = draw_augmentation(config, np.random.default_rng(seed))
        assert (plan.flip_horizontal, plan.flip_vertical) == (probability == 1, probability == 0)


def test_scales_are_drawn_log_uniformly() -> None:
    rng = np.random.default_rng(0)
    config = replace(NOTHING, scale=(0.25, 4.0))
    scales = [draw_augmentation(config, rng).scale for _ in range(2000)]
    assert abs(np.mean(np.array(scales) < 1) - 0.5) < 0.04


def test_a_config_without_augmentation_draws_the_identity() -> None:
    plan = draw_augmentation(NOTHING, np.random.default_rng(0))
    assert replace(plan, shift=IDENTITY.shift) == IDENTITY
