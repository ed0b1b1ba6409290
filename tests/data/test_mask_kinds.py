from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.data.mask_kinds import describe_soft, find_soft_values, has_object_numbers, infer_classes
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import SampleStats, measure_values

SIZE = 96


def measure(masks: list[Array], name: str = "{}.png", declared: Classes | None = None) -> list[SampleStats]:
    stats = []
    for number, mask in enumerate(masks):
        path = Path(name.format(number))
        stats.append(SampleStats(sample=Sample(name=path.stem, image_path=path, mask_path=path, split=None)))
        measure_values(stats[-1], mask, mask, declared)
    return stats


# Soft edges.


def draw_binary(rng: np.random.Generator, line: int = cv2.LINE_8) -> Array:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(1, 4)):
        x, y, end_x, end_y = rng.integers(0, SIZE, 4).tolist()
        if rng.random() < 0.7:
            axes = rng.integers(6, 25, 2).tolist()
            cv2.ellipse(mask, (x, y), axes, float(rng.integers(180)), 0, 360, 255, -1, line)
        else:
            cv2.line(mask, (x, y), (end_x, end_y), 255, int(rng.integers(1, 5)), line)
    return mask


def compress(mask: Array, quality: int) -> Array:
    content = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


def resize(mask: Array, factor: float, interpolation: int) -> Array:
    return np.asarray(cv2.resize(mask, None, fx=factor, fy=factor, interpolation=interpolation))


SOFTEN = {
    "antialiased": lambda rng: draw_binary(rng, cv2.LINE_AA),
    **{f"JPEG {q}": lambda rng, q=q: compress(draw_binary(rng), q) for q in (30, 50, 75, 90, 95)},
    **{
        f"{name} x {factor}": lambda rng, factor=factor, kind=kind: resize(draw_binary(rng), factor, kind)
        for name, kind in (("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC), ("Lanczos", cv2.INTER_LANCZOS4))
        for factor in (0.5, 0.77, 1.5, 2, 3)
    },
    **{f"area x {f}": lambda rng, f=f: resize(draw_binary(rng), f, cv2.INTER_AREA) for f in (0.3, 0.5, 0.77)},
    "blurred": lambda rng: cv2.GaussianBlur(draw_binary(rng), (0, 0), 1.5),
    "resized JPEG": lambda rng: resize(compress(draw_binary(rng), 75), 0.5, cv2.INTER_LINEAR),
}


@pytest.mark.parametrize("soften", SOFTEN.values(), ids=SOFTEN)
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), unit=st.sampled_from([1, 257]))  # of 8 and of 16 bits
def test_soft_edges_are_found(soften: Callable[[np.random.Generator], Array], unit: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [soften(rng) for _ in range(8)]
    masks = [mask.astype(np.uint16) * unit if unit > 1 else mask for mask in masks]
    stats = measure(masks)
    assert find_soft_values(stats) == (0, 255 * unit)
    classes = infer_classes(stats, None)
    for mask in masks:
        labels, unlisted = classes.to_labels(mask)
        assert unlisted == []
        np.testing.assert_array_equal(labels, mask >= 128 * unit - unit // 2)


def test_the_threshold_is_in_the_middle() -> None:
    pairs = ((0, 255), (0, 254), (0, 65535), (10, 20))
    assert [describe_soft(pair, 255).threshold for pair in pairs] == [128, 127, 32768, 15]


@pytest.mark.parametrize("quality", [50, 75, 95])
@settings(max_examples=30)
@given(seed=st.integers(0, 1000))
def test_soft_edges_between_several_classes_are_found(quality: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    areas = [draw_areas(rng, [0, 85, 170, 255], 6) for _ in range(8)]
    stats = measure([compress(mask, quality) for mask in areas])
    values = find_soft_values(stats)
    assert values is not None
    np.testing.assert_allclose(values, [0, 85, 170, 255], atol=2)
    classes = infer_classes(stats, None)
    assert len(classes.names) == 4
    assert np.mean(classes.to_labels(compress(areas[0], quality))[0] == areas[0] // 85) > 0.9


def draw_areas(rng: np.random.Generator, values: list[int], num_areas: int) -> Array:
    """Divide a mask into areas (those nearest to random points), each with one of the values."""
    points = rng.integers(0, SIZE, (num_areas, 2))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    nearest = ((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)
    return np.asarray(rng.choice(values, num_areas), np.uint8)[nearest]


@given(
    seed=st.integers(0, 10_000), step=st.sampled_from([1, 8, 23]), count=st.integers(2, 11), areas=st.integers(2, 30)
)
def test_masks_of_classes_have_no_soft_edges(seed: int, step: int, count: int, areas: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [draw_areas(rng, [step * i for i in range(count)], areas) for _ in range(8)]
    assert find_soft_values(measure(masks)) is None
    assert infer_classes(measure(masks), None).names[0].isdecimal()
    for mask in masks:
        mask[cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0] = 255  # as in VOC
    assert find_soft_values(measure(masks)) is None


def draw_lines(rng: np.random.Generator, values: list[int]) -> Array:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(20):
        start, end = rng.integers(0, SIZE, (2, 2)).tolist()
        cv2.line(mask, start, end, int(rng.choice(values)), 1)
    return mask


@pytest.mark.parametrize("values", [[255], [1, 2, 3, 255], [50, 100, 150, 200, 250], [85, 170, 255]])
def test_masks_of_thin_lines_have_no_soft_edges(values: list[int]) -> None:
    rng = np.random.default_rng(0)
    assert find_soft_values(measure([draw_lines(rng, values) for _ in range(8)])) is None


def test_a_border_class_of_a_binary_mask_is_no_soft_edge() -> None:
    rng = np.random.default_rng(0)
    for width in (2, 3, 5):
        masks = [draw_binary(rng) for _ in range(8)]
        for mask in masks:
            mask[cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((width, width))) > 0] = 128
        assert find_soft_values(measure(masks)) is None


def test_pictures_and_ramps_have_no_soft_edges() -> None:
    rng = np.random.default_rng(0)
    pictures = [cv2.GaussianBlur(rng.integers(0, 256, (SIZE, SIZE), np.uint8), (0, 0), 2) for _ in range(8)]
    assert find_soft_values(measure(pictures)) is None
    assert find_soft_values(measure([np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1))])) is None


# Object numbers.


def draw_objects(numbers: list[int], dtype: type = np.uint16, *, touching: bool = False, side: int = 6) -> Array:
    """Draw a square for each number, in a grid."""
    columns = int(np.ceil(np.sqrt(max(len(numbers), 1))))
    step = side if touching else side + 2
    mask = np.zeros((step * columns + 2, step * columns + 2), dtype)
    for place, number in enumerate(numbers):
        row, column = place // columns * step, place % columns * step
        mask[row + 1 : row + 1 + side, column + 1 : column + 1 + side] = number
    return mask


@pytest.mark.parametrize("touching", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@given(seed=st.integers(0, 1000), gaps=st.sampled_from([0, 0.1]))
def test_object_numbers_are_found(dtype: type, touching: bool, seed: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    counts = [3, 12, 20, *rng.integers(0, 25, 7)]
    numbers = [[n for n in range(1, count + 1) if n == 1 or rng.random() >= gaps] for count in counts]
    stats = measure([draw_objects(n, dtype, touching=touching) for n in numbers])
    assert has_object_numbers(stats)
    assert infer_classes(stats, None).names == ("background", "foreground")
    assert len(infer_classes(stats, "semantic").names) > 2


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
@given(seed=st.integers(0, 1000), highest=st.sampled_from([500, 65_000, 2**31 - 1]), per_mask=st.integers(1, 9))
def test_numbers_that_do_not_start_again_are_found(dtype: type, seed: int, highest: int, per_mask: int) -> None:
    """Crops of one large mask, objects that are tracked, and one object per image."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(min(highest, np.iinfo(dtype).max) - 300, 10 * per_mask, replace=False) + 300
    masks = [draw_objects(part.tolist(), dtype) for part in np.split(numbers, 10)]
    assert has_object_numbers(measure(masks))


def test_thousands_of_objects_are_found_and_mapped() -> None:
    counts = [4000, 70_000, 300, 9000]
    masks = [draw_objects(list(range(1, n + 1)), np.int32, side=2) for n in counts]
    classes = infer_classes(measure(masks), None)
    assert len(classes.to_dict()["label_mapping"]) == 2
    for mask in masks:
        labels, unlisted = classes.to_labels(mask)
        assert unlisted == []
        np.testing.assert_array_equal(labels, mask > 0)


def test_the_file_names_of_cellpose_suffice() -> None:
    masks = [draw_objects([1, 2]), draw_objects([1])]
    assert has_object_numbers(measure(masks, "{}_cp_masks.png"))
    assert not has_object_numbers(measure(masks, "{}_masks.png"))
    assert not has_object_numbers(measure([draw_objects([1])] * 2, "{}_cp_masks.png"))


def test_few_stray_pixels_do_not_divide_an_object() -> None:
    masks = [draw_objects(list(range(1, n)), side=20) for n in (4, 12, 20)]
    for mask in masks:
        mask[-1, -1] = 1
    assert has_object_numbers(measure(masks))


@st.composite
def presences(draw: st.DrawFn) -> list[float]:
    """Probabilities of classes: equal, falling, with a long tail or any."""
    count = draw(st.integers(1, 30))
    kind = draw(st.sampled_from(["equal", "falling", "tail", "zipf", "any"]))
    share = draw(st.floats(0.05, 1))
    if kind == "equal":
        return [share] * count
    if kind == "falling":
        return [float(p) for p in np.linspace(1, share, count)]
    if kind == "tail":
        return [1.0] * (count // 2) + [0.5**i for i in range(1, count - count // 2 + 1)]
    if kind == "zipf":
        return [1 / i for i in range(1, count + 1)]
    return draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))


@given(presences(), st.integers(4, 40), st.integers(0, 10_000), st.sampled_from([np.uint8, np.int32]))
def test_classes_with_one_region_each_are_not_objects(
    shares: list[float], num_masks: int, seed: int, dtype: type
) -> None:
    rng = np.random.default_rng(seed)
    masks = [draw_objects([k for k, p in enumerate(shares, 1) if rng.random() < p], dtype) for _ in range(num_masks)]
    assert not has_object_numbers(measure(masks))


@given(st.integers(2, 100), st.integers(4, 60), st.integers(0, 1000))
def test_one_class_per_image_is_not_an_object(num_classes: int, num_masks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [draw_objects([int(rng.integers(1, num_classes + 1))], np.uint8) for _ in range(num_masks)]
    assert not has_object_numbers(measure(masks))


@given(st.integers(0, 1000), st.integers(4, 20))
def test_consecutive_parts_of_a_sequence_of_classes_are_not_objects(seed: int, num_masks: int) -> None:
    """Vertebrae and teeth: each image shows a part of the numbered sequence."""
    rng = np.random.default_rng(seed)
    parts = [sorted(rng.integers(1, 25, 2).tolist()) for _ in range(num_masks)]
    masks = [draw_objects(list(range(first, last + 1)), np.uint8) for first, last in parts]
    assert not has_object_numbers(measure(masks))


@given(seed=st.integers(0, 10_000), count=st.integers(2, 30), areas=st.integers(10, 60))
def test_classes_with_several_regions_are_not_objects(seed: int, count: int, areas: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [draw_areas(rng, list(range(count)), rng.integers(2, areas)) for _ in range(8)]
    assert not has_object_numbers(measure(masks))


def test_masks_without_objects_have_no_numbers() -> None:
    assert not has_object_numbers([])
    assert not has_object_numbers(measure([np.zeros((9, 9), np.uint8)] * 3))


# Backgrounds and borders.


def test_255_on_borders_is_no_object() -> None:
    masks = [draw_objects(list(range(1, n)), np.uint8, side=8) for n in (4, 12, 20)]
    for mask in masks:
        mask[(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0) & (mask == 0)] = 255
    assert has_object_numbers(measure(masks))
    assert infer_classes(measure(masks), None).ignore == (255,)
    many = [draw_objects(list(range(1, n)), np.uint8, side=2) for n in (4, 30, 256)]
    assert has_object_numbers(measure(many))
    assert infer_classes(measure(many), None).ignore == ()


def test_minus_1_is_the_background_of_objects_if_0_is_none() -> None:
    masks = [draw_objects(list(range(1, n)), np.int32) for n in (4, 12, 20)]
    stats = measure([np.where(mask == 0, -1, mask) for mask in masks])
    assert [infer_classes(stats, None).get_label(v) for v in (-1, 0, 1, 20)] == [0, 1, 1, 1]
    stats = measure([np.where(mask == 3, -1, mask) for mask in masks])
    assert [infer_classes(stats, None).get_label(v) for v in (-1, 0, 1, 20)] == [255, 0, 1, 1]
