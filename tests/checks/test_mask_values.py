"""Masks whose values are not class ids: what `check` prints is followed literally, and the set is then read right."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

import pixelwise as pw
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, write_png
from pixelwise.errors import DataError
from pixelwise.planning.exclusions import exclude_invalid

GDAL_NODATA = 42113
SIZE = 64
NUM_OBJECTS = (4, 17, 9, 0, 22, 12, 6, 3)


def save_png(path: Path, mask: Array) -> None:
    write_png(path.with_suffix(".png"), mask)


def save_jpeg(path: Path, mask: Array) -> None:
    cv2.imwrite(str(path.with_suffix(".jpg")), mask, [cv2.IMWRITE_JPEG_QUALITY, 75])


def save_tiff(path: Path, mask: Array) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), mask, photometric="minisblack")


def save_geotiff(nodata: int) -> Callable[[Path, Array], None]:
    tags = [(GDAL_NODATA, "s", 0, str(nodata), True)]
    return lambda path, mask: tifffile.imwrite(path.with_suffix(".tif"), mask, photometric="minisblack", extratags=tags)


def draw_blobs(number: int, line: int = cv2.LINE_8) -> Array:
    """Draw one or two ellipses of 255 on 0."""
    rng = np.random.default_rng(number)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(1, 3)):
        center, axes = rng.integers(14, 50, 2).tolist(), rng.integers(6, 14, 2).tolist()
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 255, -1, line)
    return mask


def draw_objects(number: int, first: int = 1) -> Array:
    """Draw numbered squares, some of which touch, on 0."""
    mask = np.zeros((SIZE, SIZE), np.int64)
    for place in range(NUM_OBJECTS[number]):
        row, column = 12 * (place // 5) + 2, 12 * (place % 5) + 2
        mask[row : row + 10, column : column + 12 - place % 2] = first + place
    return mask


def soften(mask: Array) -> Array:
    return np.asarray(
        cv2.resize(cv2.resize(mask, (SIZE // 2, SIZE // 2)), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    )


def draw_areas(number: int) -> Array:
    """Draw circles of 80 and 160 on 0, which overlap."""
    rng = np.random.default_rng(number)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for value in (80, 160, 80):
        cv2.circle(mask, rng.integers(16, 48, 2).tolist(), int(rng.integers(10, 16)), value, -1)
    return mask


def compress(mask: Array) -> Array:
    content = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


def enlarge(mask: Array) -> Array:
    return np.asarray(cv2.resize(mask, None, fx=1.3, fy=1.3, interpolation=cv2.INTER_LINEAR))


def outline(mask: Array) -> Array:
    ring = cv2.morphologyEx(mask.astype(np.float64), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    return np.where(ring & (mask == 0), 255, mask)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Masks, what `check` says about them, and the labels after its lines are in dataset.yaml."""

    draw: Callable[[int], Array]
    save: Callable[[Path, Array], None] = save_png
    description: str = ""
    code: str
    severity: str = "error"
    lines: str
    labels: Callable[[Array], Any]
    """Mask as drawn → labels; pixels that are ignored or that compression may have changed are negative."""


def cut(mask: Array) -> Array:
    return mask >= 128


BINARY = "names: [background, foreground]\n"
KINDS = {
    "antialiased": Kind(
        draw=lambda i: draw_blobs(i, cv2.LINE_AA), code="soft_masks", lines=BINARY + "threshold: 128", labels=cut
    ),
    "resized": Kind(
        draw=lambda i: soften(draw_blobs(i)), code="soft_masks", lines=BINARY + "threshold: 128", labels=cut
    ),
    "JPEG": Kind(draw=draw_blobs, save=save_jpeg, code="soft_masks", lines=BINARY + "threshold: 128", labels=cut),
    "16 bits": Kind(
        draw=lambda i: draw_blobs(i, cv2.LINE_AA).astype(np.uint16) * 257,
        code="soft_masks",
        lines=BINARY + "threshold: 32768",
        labels=lambda mask: mask >= 32768,
    ),
    "soft, named": Kind(
        draw=lambda i: draw_blobs(i, cv2.LINE_AA),
        description="names: [intact, crack]\n",
        code="soft_masks",
        lines="threshold: 128",
        labels=cut,
    ),
    "soft, mapped": Kind(
        draw=lambda i: 255 - draw_blobs(i, cv2.LINE_AA),
        description="names: [intact, crack]\nlabel_mapping: {255: intact, 0: crack}\n",
        code="soft_masks",
        lines="label_mapping: {0-127: 1, 128-255: 0}",
        labels=lambda mask: mask < 128,
    ),
    **{
        f"three classes {name}": Kind(
            draw=lambda i, change=change: change(draw_areas(i)),  # type: ignore[misc]
            description=description,
            code="soft_masks",
            lines=("" if description else "names: ['0', '80', '160']\n")
            + "label_mapping: {0-39: 0, 40-119: 1, 120-255: 2}",
            labels=lambda mask: np.digitize(mask, [40, 120]),
        )
        for name, change, description in (
            ("compressed", compress, ""),
            ("resized", enlarge, ""),
            ("named", compress, "names: [a, b, c]\n"),
            ("mapped", compress, "names: [a, b, c]\nlabel_mapping: {0: a, 80: b, 160: c}\n"),
        )
    },
    "fractions": Kind(
        draw=lambda i: draw_blobs(i, cv2.LINE_AA).astype(np.float32) / 255,
        save=save_tiff,
        code="unreadable_mask",
        lines="threshold: 0.5",
        labels=lambda mask: mask >= 0.5,
    ),
    **{
        f"objects in {np.dtype(dtype)}": Kind(
            draw=lambda i, dtype=dtype: draw_objects(i).astype(dtype),  # type: ignore[misc]
            save=save_tiff,
            code="instance_masks",
            lines=BINARY + "mask_type: instances",
            labels=lambda mask: mask > 0,
        )
        for dtype in (np.uint8, np.uint16, np.int16, np.uint32, np.float32)
    },
    "objects, named": Kind(
        draw=lambda i: draw_objects(i).astype(np.uint16),
        description="names: [background, cell]\n",
        code="instance_masks",
        lines="mask_type: instances",
        labels=lambda mask: mask > 0,
    ),
    "objects, with other names": Kind(
        draw=lambda i: draw_objects(i).astype(np.uint16),
        description="names: [a, b, c]\n",
        code="instance_masks",
        lines=BINARY + "mask_type: instances",
        labels=lambda mask: mask > 0,
    ),
    "objects of a large mask": Kind(
        draw=lambda i: draw_objects(i, 100_000 + 100 * i).astype(np.uint32),
        save=save_tiff,
        code="instance_masks",
        lines=BINARY + "mask_type: instances",
        labels=lambda mask: mask > 0,
    ),
    "objects on -1": Kind(
        draw=lambda i: np.where(draw_objects(i) > 0, draw_objects(i), -1).astype(np.int32),
        save=save_tiff,
        code="instance_masks",
        lines=BINARY + "label_mapping: {-1: 0, '>=0': 1}",
        labels=lambda mask: mask > 0,
    ),
    "objects with borders": Kind(
        draw=lambda i: outline(draw_objects(i)).astype(np.uint8),
        code="instance_masks",
        lines=BINARY + "mask_type: instances\nignore: 255",
        labels=lambda mask: np.where(mask == 255, -1, mask > 0),
    ),
    **{
        f"nodata {nodata} of 0 and {high}": Kind(
            draw=lambda i, high=high: np.where(draw_blobs(i) > 0, high, 0).astype(np.uint8),  # type: ignore[misc]
            save=save_geotiff(nodata),
            code="mask_nodata",
            severity="warning",
            lines=BINARY + f"label_mapping: {{0: 0, {high}: 1}}",
            labels=lambda mask: mask > 0,
        )
        for nodata, high in ((0, 1), (0, 255), (255, 255))
    },
    "nodata 0, named": Kind(
        draw=lambda i: draw_blobs(i) // 255,
        save=save_geotiff(0),
        description="names: [land, building]\n",
        code="mask_nodata",
        severity="warning",
        lines="names: [land, building]\nlabel_mapping: {0: 0, 1: 1}",
        labels=lambda mask: mask > 0,
    ),
    "-100": Kind(
        draw=lambda i: np.where(np.arange(SIZE) < 5, np.int16(-100), draw_blobs(i) // 255),
        save=save_tiff,
        code="unlisted_values",
        lines="names: ['0', '1']\nlabel_mapping: {0: 0, 1: 1}\nignore: [-100]",
        labels=lambda mask: mask,
    ),
}


def write(root: Path, kind: Kind) -> list[Array]:
    """Write eight pairs, and return the masks as drawn."""
    masks = [kind.draw(number) for number in range(8)]
    rng = np.random.default_rng(0)
    (root / "masks").mkdir(parents=True)
    for number, mask in enumerate(masks):
        inside = np.asarray(kind.labels(mask)) > 0
        image = cv2.GaussianBlur(inside.astype(np.float32) * 90, (0, 0), 1) + rng.normal(60, 9, mask.shape)
        write_png(root / f"images/{number}.png", np.clip(image, 0, 255).astype(np.uint8))
        kind.save(root / f"masks/{number}", mask)
    if kind.description:
        (root / "dataset.yaml").write_text(kind.description)
    return masks


def paste(root: Path, lines: str) -> None:
    """Write lines into dataset.yaml; they replace its keys."""
    path = root / "dataset.yaml"
    keys = [line.split(":")[0] for line in lines.splitlines()]
    kept = path.read_text().splitlines() if path.exists() else []
    path.write_text("\n".join([*(line for line in kept if line.split(":")[0] not in keys), lines, ""]))


def get_lines(fix: str, code: str) -> str:
    """Return the lines that a fix says to write."""
    if code == "unreadable_mask":
        return fix.split("'")[1]
    return fix.split(":\n", 1)[1].split("\nIf the numbers")[0].split("\nPixels on a border")[0]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_following_the_fix_gives_a_clean_set_with_the_right_labels(tmp_path: Path, kind: Kind) -> None:
    root = tmp_path / "data"
    masks = write(root, kind)
    (finding,) = [f for f in pw.check(root).findings if f.code == kind.code]
    assert finding.severity == kind.severity
    assert get_lines(finding.fix, kind.code) == kind.lines
    if kind.description and kind.lines.split(":")[0] in kind.description:
        assert f", instead of its '{kind.lines.split(':')[0]}'" in finding.fix
    paste(root, kind.lines)
    report = pw.check(root)
    assert {f.code for f in report.findings} <= {"split_made", "empty_mask", "ids_compacted"}
    dataset = Dataset.load(root)
    for sample, mask in zip(dataset.samples, masks, strict=True):
        labels, expected = dataset.read_labels(sample), np.asarray(kind.labels(mask), np.int64)
        expected = np.where(expected < 0, dataset.classes.ignore_index, expected)
        np.testing.assert_array_equal(labels, expected)
    assert exclude_invalid(dataset)[1] == ()
    pw.convert(root, tmp_path / "out", to="folder")
    converted = Dataset.load(tmp_path / "out")
    assert converted.classes.names == dataset.classes.names
    for sample, copy in zip(dataset.samples, converted.samples, strict=True):
        np.testing.assert_array_equal(converted.read_labels(copy), dataset.read_labels(sample))


@pytest.mark.parametrize("name", ["antialiased", "JPEG", "objects in uint16"])
def test_skip_invalid_does_not_leave_out_masks_of_another_meaning(tmp_path: Path, name: str) -> None:
    write(tmp_path, KINDS[name])
    with pytest.raises(DataError, match=r"(?s)Write|write this into it instead.*--skip-invalid does not leave out"):
        exclude_invalid(Dataset.load(tmp_path))


def test_skip_invalid_leaves_out_few_soft_masks(tmp_path: Path) -> None:
    kind = Kind(
        draw=lambda i: draw_blobs(i, cv2.LINE_AA if i < 2 else cv2.LINE_8),
        code="",
        lines="",
        labels=lambda mask: mask > 0,
    )
    write(tmp_path, kind)
    dataset, exclusions = exclude_invalid(Dataset.load(tmp_path))
    assert [exclusion.file for exclusion in exclusions] == ["images/0.png", "images/1.png"]
    assert len(dataset) == 6


@pytest.mark.parametrize(("name", "values"), [("soft, mapped", {0, 255}), ("objects, named", {0, 1})])
def test_masks_are_written_in_values_of_the_dataset(tmp_path: Path, name: str, values: set[int]) -> None:
    write(tmp_path, KINDS[name])
    paste(tmp_path, KINDS[name].lines)
    dataset = Dataset.load(tmp_path)
    for sample in dataset.samples:
        labels = dataset.read_labels(sample)
        mask = dataset.classes.to_mask(labels)
        assert set(np.unique(mask).tolist()) <= values
        np.testing.assert_array_equal(dataset.classes.to_labels(mask)[0], labels)


def test_nothing_is_said_about_object_numbers_that_are_declared_to_be_classes(tmp_path: Path) -> None:
    write(tmp_path, KINDS["objects in uint16"])
    (tmp_path / "dataset.yaml").write_text("mask_type: semantic\n")
    report = pw.check(tmp_path)
    assert "instance_masks" not in {f.code for f in report.findings}
    assert report.classes == tuple(map(str, range(max(NUM_OBJECTS) + 1)))


@pytest.mark.parametrize("nodata", [200, 7])
def test_nodata_that_is_not_a_class_is_not_reported(tmp_path: Path, nodata: int) -> None:
    def draw(number: int) -> Array:
        mask = draw_blobs(number) // 255 * (1 + number % 2)
        mask[:5] = nodata
        return mask

    kind = Kind(draw=draw, save=save_geotiff(nodata), code="", lines="", labels=lambda mask: mask)
    write(tmp_path, kind)
    report = pw.check(tmp_path)
    assert report.classes == ("0", "1", "2")
    assert {f.code for f in report.findings} <= {"ids_compacted", "split_made"}


def test_compressed_masks_without_a_loss_are_no_finding(tmp_path: Path) -> None:
    kind = Kind(
        draw=lambda i: (
            np.where(np.arange(SIZE) < 8 + 8 * (i % 4), 255, 0).astype(np.uint8) * np.ones((SIZE, 1), np.uint8)
        ),
        save=save_jpeg,
        code="",
        lines="",
        labels=cut,
    )
    write(tmp_path, kind)
    assert {f.code for f in pw.check(tmp_path).findings} <= {"binary_masks", "split_made"}
