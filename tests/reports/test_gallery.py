from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import choose_error_stripes, to_css_stripes
from pixelwise.evaluation.evaluate import ScoredImage
from pixelwise.metrics import ConfusionMatrix
from pixelwise.reports import gallery as home
from pixelwise.reports.gallery import (
    ImageGallery,
    build_image_table,
    draw_panels,
    list_panel_swatches,
    merge_galleries,
)

CLASSES = describe_classes(parse_description({"names": ["a", "b"]}))


def make_scored(number: int, right: int, image: Array | None = None) -> ScoredImage:
    """Return an image of 10 pixels of class a, of which `right` are predicted right; none are labeled if negative."""
    size = (2, 5) if image is None else image.shape[:2]
    counts = [[0, 0], [0, 0]] if right < 0 else [[right, 10 - right], [0, 0]]
    return ScoredImage(
        sample=Sample(name=f"{number:03}", image_path=Path("i.png"), mask_path=Path("m.png"), split="val"),
        image=np.zeros((*size, 3), np.uint8) if image is None else image,
        labels=np.zeros(size, np.uint8),
        prediction=np.zeros(size, np.uint8),
        confusion=ConfusionMatrix.from_counts(counts),
    )


def make_gallery(rights: list[int], first: int = 0) -> ImageGallery:
    gallery = ImageGallery(len(rights), CLASSES)
    for number, right in enumerate(rights, start=first):
        gallery.add(make_scored(number, right))
    return gallery


def test_images_are_listed_from_the_worst_to_those_without_labels() -> None:
    gallery = make_gallery([9, -1, 2, 5])
    assert [image.name for image in gallery.list_worst_first()] == ["002", "003", "000", "001"]


def test_of_many_images_the_worst_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_IMAGES", 3)
    drawn = make_gallery([9, 1, -1, 8, 7, 9, 0])
    assert [image.name for image in drawn.list_worst_first()] == ["006", "001", "004"]


def test_galleries_of_several_processes_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_IMAGES", 3)
    merged = merge_galleries([make_gallery([9, 1]), make_gallery([3, 2], first=2)])
    assert [image.name for image in merged.list_worst_first()] == ["001", "003", "002"]


def test_five_hundred_noisy_images_fit_into_ten_megabytes() -> None:
    """Noise is the worst case; a page of 500 images has 500 times the pictures of one."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    gallery = ImageGallery(500, CLASSES)
    gallery.add(make_scored(0, 5, noise))
    (image,) = gallery.images.values()
    assert image.size == "640 × 480"
    size = sum(len(picture.uri) for picture in image.pictures)
    assert 3_000 < size < 10_000_000 / 500


def test_few_images_are_large() -> None:
    gallery = ImageGallery(4, CLASSES)
    gallery.add(make_scored(0, 5, np.zeros((480, 800, 3), np.uint8)))
    (image,) = gallery.images.values()
    assert {(picture.height, picture.width) for picture in image.pictures} == {(384, 640)}
    assert [picture.title for picture in image.pictures] == ["image", "truth", "prediction", "errors"]


def test_the_table_names_the_class_with_the_lowest_iou() -> None:
    """Class b is not in the truth, but predicted: its IoU of 0 is a part of the mean."""
    table = build_image_table(make_gallery([4, -1]))
    assert table.titles == ("image", "mean IoU", "accuracy", "lowest class")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["000", "20.0 %", "40.0 %", "b 0.0 %"], ["001", "–", "–", "–"]
    ]  # fmt: skip
    assert [row[1].value for row in table.rows] == [pytest.approx(0.2), None]


def test_panels_leave_the_background_unpainted_and_the_legend_names_every_color() -> None:
    classes = describe_classes(parse_description({"names": ["background", "cell"]}))
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    labels, prediction = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    labels[5:15, 5:15], prediction[5:15, 8:20] = 1, 1
    panels = draw_panels(image, labels, prediction, classes)
    for name, drawn in (("truth", labels), ("prediction", prediction)):
        np.testing.assert_array_equal((panels[name] != image).any(-1), drawn == 1)
    stripes = choose_error_stripes(classes)
    is_striped = np.any([(panels["errors"] == color).all(-1) for color in stripes], axis=0)
    np.testing.assert_array_equal(is_striped, labels != prediction)
    assert list_panel_swatches(classes) == [
        ("background (not painted)", "transparent"),
        ("cell", "rgb(255, 140, 0)"),
        ("error", to_css_stripes(stripes)),
        ("ignored in errors", "rgb(96, 96, 96)"),
    ]
