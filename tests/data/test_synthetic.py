"""Laws of the drawn datasets: pure, of the promised form, as imbalanced as promised, hard."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelwise.data.synthetic import (
    CELL_COLORS,
    CELL_NAMES,
    STREET_COLORS,
    STREET_NAMES,
    SYNTHETIC_DATASETS,
    ImageAndLabels,
    cell_image,
    street_scene,
    write_dataset,
)
from pixelwise.data.synthetic.canvas import Camera, Canvas, Light, make_cuboid
from pixelwise.data.synthetic.streets import CYCLIST
from pixelwise.errors import InvalidArgumentError

Draw = Callable[[int, tuple[int, int]], ImageAndLabels]
DRAWS = pytest.mark.parametrize(
    ("draw", "channels", "num_classes"),
    [(street_scene, 3, len(STREET_NAMES)), (cell_image, 1, len(CELL_NAMES))],
    ids=["streets", "cells"],
)
SIDES = st.integers(32, 160)


@cache
def pictures(draw: Draw, count: int) -> list[ImageAndLabels]:
    return [draw(seed, (96, 128)) for seed in range(count)]


def class_shares(draw: Draw, count: int, num_classes: int) -> npt.NDArray[np.float64]:
    pixels = np.concatenate([labels.ravel() for _, labels in pictures(draw, count)])
    return np.bincount(pixels, minlength=num_classes) / pixels.size


def nearest_mean_color_mean_iou(draw: Draw, count: int, num_classes: int) -> float:
    """What a classifier that sees one pixel's color reaches on the images it was fitted to."""
    sample = pictures(draw, count)
    colors = np.concatenate([image.reshape(-1, image.shape[2]) for image, _ in sample]) / 1.0
    truth = np.concatenate([labels.ravel() for _, labels in sample])
    means = np.stack([colors[truth == index].mean(axis=0) for index in range(num_classes)])
    distances = np.stack([((colors - mean) ** 2).sum(axis=1) for mean in means])
    guess = distances.argmin(axis=0)
    confusion = np.bincount(truth * num_classes + guess, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes)
    hits = confusion.diagonal()
    return float((hits / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)).mean())


def files_of(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


# ---------------------------------------------------------------- the form of a picture


@DRAWS
@settings(deadline=None, max_examples=25)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**63))
def test_any_size_gives_arrays_of_the_documented_shape(
    draw: Draw, channels: int, num_classes: int, height: int, width: int, seed: int
) -> None:
    image, labels = draw(seed, (height, width))
    assert image.shape == (height, width, channels)
    assert labels.shape == (height, width)
    assert image.dtype == labels.dtype == np.uint8
    assert labels.max() < num_classes
    assert image.flags.c_contiguous
    assert image.std() > 1


@DRAWS
@pytest.mark.parametrize("size", [(32, 32), (32, 1024), (1024, 32), (1024, 1024)])
def test_extreme_sizes(draw: Draw, channels: int, num_classes: int, size: tuple[int, int]) -> None:
    image, labels = draw(3, size)
    assert image.shape == (*size, channels)
    assert 2 <= len(np.unique(labels)) <= num_classes


@DRAWS
def test_the_same_seed_gives_the_same_pixels_without_global_state(draw: Draw, channels: int, num_classes: int) -> None:
    first = draw(7, (64, 80))
    before = repr(np.random.get_state())
    cv2.setRNGSeed(11)
    second = draw(7, (64, 80))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert repr(np.random.get_state()) == before


@DRAWS
def test_returned_arrays_may_be_changed(draw: Draw, channels: int, num_classes: int) -> None:
    image, labels = draw(5, (48, 48))
    kept = image.copy(), labels.copy()
    image[:], labels[:] = 0, 0
    assert all(np.array_equal(*pair) for pair in zip(kept, draw(5, (48, 48)), strict=True))


@DRAWS
def test_different_seeds_give_different_pictures(draw: Draw, channels: int, num_classes: int) -> None:
    sample = pictures(draw, 50)
    assert len({image.tobytes() for image, _ in sample}) == len(sample)
    assert len({labels.tobytes() for _, labels in sample}) == len(sample)


@DRAWS
def test_seed_and_size_out_of_range_are_refused(draw: Draw, channels: int, num_classes: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"seed is -1. Expected 0 or more"):
        draw(-1, (64, 64))
    with pytest.raises(InvalidArgumentError, match=r"size is \(64, 31\). Expected at least 32x32"):
        draw(0, (64, 31))


# ---------------------------------------------------------------- the canvas


def plain_canvas(**changes: int) -> Canvas:
    flat = {"x": 0, "height": 150, "bend": 0, "climb": 0, "roll": 0}
    camera = Camera(focal=200, row=48, column=64, **(flat | changes))
    light = Light(faces=(100,) * 5, haze=(200, 200, 200), visibility=10_000)
    image, labels = np.zeros((96, 128, 3), np.uint8), np.zeros((96, 128), np.uint8)
    return Canvas(image=image, labels=labels, camera=camera, light=light)


def test_projection_computed_by_hand() -> None:
    # 100 cm right of the camera and 150 cm below it, 1000 cm ahead, focal length 200 pixels:
    # 20 columns right of column 64, 30 rows below row 48, in sixteenths.
    camera = plain_canvas().camera
    assert camera.project(np.array((0, 150, 5000))).tolist() == [64 * 16, 48 * 16]
    off = camera.project(np.array((100, 0, 1000))) - (84 * 16, 78 * 16)
    assert np.abs(off).max() <= 1
    # A street that drifts 164 cm over its first 8192 cm drifts a quarter of it over the first half.
    bent = plain_canvas(bend=164).camera.project(np.array((0, 150, 4096)))
    assert abs(int(bent[0]) - (64 * 16 + 41 * 200 * 16 // 4096)) <= 1


def test_haze_reduces_the_color_of_distant_objects() -> None:
    light = plain_canvas().light
    assert light.shade((100, 0, 50), 0, 100) == (100, 0, 50)
    assert light.shade((100, 0, 50), 5_000, 100) == (150, 100, 125)
    assert light.shade((100, 0, 50), 0, 50) == (50, 0, 25)


def test_labels_are_not_anti_aliased() -> None:
    canvas = plain_canvas()
    corners = make_cuboid((-130, 170), (20, 190), (800, 1100))
    canvas.solid(corners, (90, 60, 30), 6)
    canvas.stroke(np.array([[(-300, 0, 900), (-200, 330, 900)]]), 40, (90, 60, 30), 6)
    canvas.fill(np.array([[(200, 0, 900), (320, 80, 900), (230, 300, 900)]]), (90, 60, 30), 6)
    assert set(np.unique(canvas.labels)) == {0, 6}
    assert len(np.unique(canvas.image[..., 0])) > 3  # the image, by contrast, is anti-aliased
    painted = canvas.image.any(axis=2)
    assert (painted & (canvas.labels == 6)).sum() > 0.95 * (canvas.labels == 6).sum()


def test_only_visible_faces_of_a_box_are_drawn() -> None:
    light = Light(faces=(20, 40, 60, 80, 100), haze=(0, 0, 0), visibility=10**9)
    for x, seen in (((200, 300), {20, 60}), ((-300, -200), {40, 60}), ((-50, 50), {60})):
        canvas = replace(plain_canvas(), light=light)
        canvas.solid(make_cuboid(x, (0, 200), (800, 1200)), (100, 100, 100), 5)
        values, counts = np.unique(canvas.image[canvas.labels == 5][:, 0], return_counts=True)
        assert set(values[counts > 80].tolist()) == seen


# ---------------------------------------------------------------- what is in the pictures


def test_each_name_has_a_color() -> None:
    assert STREET_NAMES[:4] == ("sky", "building", "road", "pavement")
    assert STREET_NAMES[4:] == ("tree", "car", "cyclist", "pole")
    assert STREET_NAMES.index("cyclist") == CYCLIST
    assert CELL_NAMES == ("membrane", "cell")
    assert len(set(STREET_COLORS)) == len(STREET_NAMES)
    assert len(set(CELL_COLORS)) == len(CELL_NAMES)


@DRAWS
def test_every_class_occurs_within_fifty_seeds(draw: Draw, channels: int, num_classes: int) -> None:
    seen = [np.bincount(labels.ravel(), minlength=num_classes) > 0 for _, labels in pictures(draw, 50)]
    assert np.min(np.sum(seen, axis=0)) >= 20


BANDS = {
    "sky": (0.13, 0.22), "building": (0.20, 0.32), "road": (0.25, 0.37), "pavement": (0.04, 0.09),
    "tree": (0.07, 0.14), "car": (0.03, 0.07), "cyclist": (0.004, 0.013), "pole": (0.006, 0.018),
}  # fmt: skip


def test_street_classes_are_as_imbalanced_as_in_a_real_driving_dataset() -> None:
    shares = dict(zip(STREET_NAMES, class_shares(street_scene, 200, 8), strict=True))
    outside = {name: share for name, share in shares.items() if not BANDS[name][0] < share < BANDS[name][1]}
    assert not outside


def test_membranes_are_thin_and_cells_many() -> None:
    membrane, _ = class_shares(cell_image, 50, 2)
    assert 0.17 < membrane < 0.32


def test_sky_is_above_road() -> None:
    rows = np.arange(96)[:, None]
    for _, labels in pictures(street_scene, 50):
        sky, road = (np.broadcast_to(rows, labels.shape)[labels == index] for index in (0, 2))
        assert road.size > 0
        assert sky.size == 0 or sky.mean() < road.mean()
        assert not (labels[-1] == 0).any()


def test_membranes_are_darker_than_their_own_cells_in_every_image() -> None:
    for image, labels in pictures(cell_image, 50):
        assert image[labels == 0].mean() + 10 < image[labels == 1].mean()


@DRAWS
def test_color_is_not_sufficient_for_the_task(draw: Draw, channels: int, num_classes: int) -> None:
    ceiling = {8: 0.3, 2: 0.65}[num_classes]
    assert nearest_mean_color_mean_iou(draw, 50, num_classes) < ceiling


# ---------------------------------------------------------------- a dataset on disk


def test_a_dataset_on_disk_is_complete_and_exact(tmp_path: Path) -> None:
    root = tmp_path / "streets"
    write_dataset(root, "streets", num_train=3, num_val=2, num_test=0, size=(40, 56), seed=2)
    numbers = ["train/0000", "train/0001", "train/0002", "val/0000", "val/0001"]
    expected = [f"{folder}/{name}.png" for folder in ("images", "labels") for name in numbers]
    assert files_of(root) == sorted([*expected, "dataset.yaml"])
    assert not (root / "images" / "test").exists()
    for seed, name in enumerate(numbers, start=2_000_000):
        image, labels = street_scene(seed, (40, 56))
        with Image.open(root / f"images/{name}.png") as stored:
            assert stored.mode == "RGB"
            assert np.array_equal(np.asarray(stored), image)
        with Image.open(root / f"labels/{name}.png") as stored:
            assert stored.mode == "L"
            assert np.array_equal(np.asarray(stored), labels)


@pytest.mark.parametrize(
    ("kind", "names", "colors"),
    [("streets", STREET_NAMES, STREET_COLORS), ("cells", CELL_NAMES, CELL_COLORS)],
)
def test_dataset_yaml_lists_the_classes_and_labels_have_no_others(
    tmp_path: Path, kind: str, names: tuple[str, ...], colors: tuple[tuple[int, int, int], ...]
) -> None:
    write_dataset(tmp_path, kind, num_train=1, num_val=1, num_test=1, size=(64, 64))  # type: ignore[arg-type]
    description = yaml.safe_load((tmp_path / "dataset.yaml").read_text())
    assert description == {"names": list(names), "colors": [list(color) for color in colors]}
    for path in tmp_path.glob("labels/*/*.png"):
        with Image.open(path) as stored:
            assert set(np.unique(np.asarray(stored))) <= set(range(len(names)))


def test_cell_images_are_gray_files(tmp_path: Path) -> None:
    write_dataset(tmp_path, "cells", num_train=1, num_val=0, num_test=0, size=(48, 64))
    with Image.open(tmp_path / "images/train/0000.png") as stored:
        assert stored.mode == "L"
        assert np.array_equal(np.asarray(stored)[..., None], cell_image(0, (48, 64))[0])


@pytest.mark.parametrize("kind", sorted(SYNTHETIC_DATASETS))
def test_no_image_is_shared_between_splits_or_datasets(tmp_path: Path, kind: str) -> None:
    for seed in (0, 1):
        write_dataset(
            tmp_path / str(seed), kind, num_train=8, num_val=4, num_test=4, size=(32, 32), seed=seed  # type: ignore[arg-type]
        )  # fmt: skip
    files = list(tmp_path.glob("*/images/*/*.png"))
    assert len(files) == 32
    assert len({path.read_bytes() for path in files}) == 32


def test_invalid_arguments_are_refused(tmp_path: Path) -> None:
    def write(kind: str = "cells", num_train: int = 1, seed: int = 0, side: int = 32) -> None:
        write_dataset(
            tmp_path / "data", kind, num_train=num_train, num_val=0, num_test=0,  # type: ignore[arg-type]
            size=(32, side), seed=seed,
        )  # fmt: skip

    with pytest.raises(InvalidArgumentError, match=r"Unknown synthetic dataset 'street'.*'streets'"):
        write(kind="street")
    with pytest.raises(InvalidArgumentError, match="images are -1 train, 0 val, 0 test"):
        write(num_train=-1)
    with pytest.raises(InvalidArgumentError, match="images are 0 train, 0 val, 0 test"):
        write(num_train=0)
    with pytest.raises(InvalidArgumentError, match="1 to 1000000 in total"):
        write(num_train=1_000_001)
    with pytest.raises(InvalidArgumentError, match="seed is -3"):
        write(seed=-3)
    with pytest.raises(InvalidArgumentError, match=r"size is \(32, 16\)"):
        write(side=16)
    assert not (tmp_path / "data").exists()


def test_a_folder_with_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    for root in (tmp_path, tmp_path / "keep.txt"):
        with pytest.raises(InvalidArgumentError, match="already exists and is not empty"):
            write_dataset(root, "cells", num_train=1, num_val=0, num_test=0, size=(32, 32))
    assert files_of(tmp_path) == ["keep.txt"]
