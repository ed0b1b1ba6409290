from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.cvat import find_pairs
from pixelwise.errors import DataError
from support.shape_datasets import SIZE, get_finding, list_relative, make_mask, read_masks, run_check, write_image

LABELS = """<label><name>dog</name><color>#ff8c00</color><type>any</type><attributes></attributes></label>
<label><name>cat</name><color>#0000ff</color><attributes><attribute><name>age</name></attribute></attributes></label>
<label><name>paw</name><color>#00ff00</color><parent>cat</parent></label>"""
DOG, CAT = 1, 2
SQUARE = "1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00"
AREA = (slice(1, 3), slice(1, 4))


def shape(tag: str, label: str = "cat", z_order: int = 0, **attributes: object) -> str:
    more = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} label="{label}" source="manual" occluded="0" z_order="{z_order}" {more}></{tag}>'


def polygon(label: str = "cat", points: str = SQUARE, z_order: int = 0) -> str:
    return shape("polygon", label, z_order, points=points)


def image(*shapes: str, name: str = "a.png", size: tuple[int, int] = SIZE, subset: str = "") -> str:
    where = f'subset="{subset}"' if subset else ""
    return f'<image id="0" name="{name}" {where} width="{size[1]}" height="{size[0]}">{"".join(shapes)}</image>'


def document(*images: str, labels: str = LABELS) -> str:
    meta = f"<meta><task><name>t</name><labels>{labels}</labels></task><dumped>now</dumped></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{head}{meta}{''.join(images)}</annotations>"


def write(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_text(text, encoding="utf-8")
    return root


def plant(root: Path, *shapes: str) -> Path:
    write_image(root / "images/a.png")
    return write(root, document(image(*shapes)))


def mask(root: Path) -> list[list[int]]:
    values: list[list[int]] = read_masks(root, "cvat")["a"].tolist()
    return values


@pytest.mark.parametrize(
    "drawn",
    [
        polygon(),
        shape("box", xtl=1.0, ytl=1.0, xbr=4.0, ybr=3.0),
        shape("box", xtl=1.5, ytl=0.5, xbr=3.5, ybr=3.5, rotation=90.0),
        shape("mask", rle="0, 6", left=1, top=1, width=3, height=2),
        shape("mask", rle="5, 3, 1, 3, 4", left=0, top=0, width=4, height=4),
    ],
)
def test_coordinates_start_at_the_corner_of_the_first_pixel(tmp_path: Path, drawn: str) -> None:
    assert mask(plant(tmp_path, drawn)) == make_mask((CAT, *AREA))


def test_a_mask_is_cut_into_runs_along_the_rows(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, int)
    expected[2:4, 3:6] = np.array([[0, 1, 1], [1, 0, 0]]) * CAT
    assert mask(plant(tmp_path, shape("mask", rle="1, 3, 2", left=3, top=2, width=3, height=2))) == expected.tolist()


def test_an_ellipse(tmp_path: Path) -> None:
    drawn = shape("ellipse", cx=3.5, cy=2.5, rx=0.6, ry=2.1, rotation=90.0)
    assert mask(plant(tmp_path, drawn)) == make_mask((CAT, slice(2, 3), slice(1, 6)))


def test_shapes_are_ordered_by_z_order_and_then_by_position(tmp_path: Path) -> None:
    above, below = polygon("dog", z_order=3), polygon("cat", "0,0;6,0;6,5;0,5", z_order=-1)
    last = polygon("cat", "3,0;6,0;6,5;3,5", z_order=-1)
    assert mask(plant(tmp_path, above, below, last)) == make_mask((CAT, slice(0, 5), slice(0, 6)), (DOG, *AREA))


def test_labels_of_the_file_become_classes_with_their_colors(tmp_path: Path) -> None:
    dataset = Dataset.load(plant(tmp_path, polygon()))
    assert dataset.classes.names == ("background", "dog", "cat")
    assert dataset.classes.colors == ((0, 0, 0), (255, 140, 0), (0, 0, 255))
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((CAT, *AREA))


def test_tags_are_skipped_and_an_image_without_shapes_is_background(tmp_path: Path) -> None:
    assert mask(plant(tmp_path, '<tag label="cat" source="manual"></tag>')) == make_mask()


@pytest.mark.parametrize(
    ("name", "subset", "picture", "split"),
    [
        ("a.png", "Train", "images/a.png", "train"),
        ("a.png", "Validation", "images/a.png", "val"),
        ("a.png", "default", "images/a.png", None),
        ("Test/a.png", "", "images/Test/a.png", "test"),
        ("deep/a.png", "", "deep/a.png", None),
        ("somewhere/else/a.png", "", "images/a.png", None),
        ("Train\\a.png", "", "images/Train/a.png", "train"),
    ],
)
def test_locations_of_images(tmp_path: Path, name: str, subset: str, picture: str, split: str | None) -> None:
    write_image(tmp_path / picture)
    (sample,) = Dataset.load(write(tmp_path, document(image(name=name, subset=subset)))).samples
    assert (sample.image_path, sample.split) == (tmp_path / picture, split)


def test_images_and_entries_without_a_partner_are_listed(tmp_path: Path) -> None:
    root = plant(tmp_path)
    write_image(root / "images/b.png")
    write_image(root / "else/c.png")
    pairing = find_pairs(write(root, document(image(), image(name="gone.png"))))
    assert list_relative(root, pairing.images_without_mask) == ["images/b.png"]
    assert list_relative(root, pairing.masks_without_image) == ["images/gone.png"]
    assert list_relative(root, pairing.outside_splits) == ["else/c.png"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            polygon("cow"),
            r"polygon 'cow': The class 'cow' is not among those in annotations.xml \('dog', 'cat'\)",
        ),
        (polygon(points="1,1;2,2"), "shape 1, polygon 'cat': The number of points of a polygon is 2"),
        (polygon(points="1,1;2"), r"Point 2 of 'points' is \['2'\]. Expected two numbers, x and y"),
        (polygon(points="1,x;2,2"), r"Point 1 of 'points' is \['1', 'x'\]"),
        (shape("box", xtl=1), "'ytl' is missing. Expected a number. Export the annotations again"),
        (shape("mask", rle="3, 4", left=1, top=1, width=3, height=2), "do not add up to 6 pixels"),
        (shape("mask", rle="6", left=1, top=1, width=10**6, height=10**6), "is not between 1 and"),
        (shape("polyline", points=SQUARE), "shape 1, polyline 'cat': covers no pixels. Draw its area as a polygon"),
        (shape("points", points=SQUARE), "points 'cat': covers no pixels"),
        (shape("cuboid"), "cuboid 'cat': covers no pixels"),
        (shape("skeleton"), "skeleton 'cat': covers no pixels"),
        (shape("blob"), "'blob' is not a known type of shape. Draw its area as a polygon"),
        ("<polygon></polygon>", "'label' is missing"),
        (polygon(z_order="up"), "'z_order' is 'up'. Expected a whole number"),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_shape_is_an_error_and_a_finding(tmp_path: Path, fault: str, message: str) -> None:
    root = plant(tmp_path / "data", fault)
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=rf"annotations\.xml: images/a\.png: .*{message}"):
        dataset.read_mask(dataset.samples[0])
    assert get_finding(run_check(root, tmp_path), "unreadable_mask")["files"] == ["annotations.xml: images/a.png"]


def test_a_size_other_than_the_images_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    write_image(tmp_path / "data/images/a.png")
    root = write(tmp_path / "data", document(image(size=(8, 6))))
    assert (
        "annotations.xml: images/a.png is 8x6, but its image is 6x8"
        in get_finding(run_check(root, tmp_path), "transposed_mask")["message"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document(image())[:-5], r"annotations\.xml: The file is not valid XML \(line 4, column \d+: unclosed token\)"),
        (document(image(name="x.png")), r"image 'x\.png' and all others do not exist below"),
        (document(), "images do not exist below"),
        (document(image(), image()), r"a\.png is listed twice in .*annotations\.xml\. Keep only one entry\."),
        (document(image(), labels=""), "lists no labels. Export 'CVAT for images 1.1' again"),
        (
            document(image(), labels=LABELS.replace("#ff8c00", "orange")),
            "'orange' is not a color. Write one such as",
        ),
        (document("<image></image>"), "'name' is missing"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.load(write(plant(tmp_path), text))


def test_tracks_of_a_video_are_an_error_that_names_the_export_to_choose(tmp_path: Path) -> None:
    tracks = f'<track id="0" label="cat">{polygon()}</track>'
    with pytest.raises(DataError, match=r"xml has tracks of a video\. Export the task as 'CVAT for images 1\.1'"):
        Dataset.load(write(plant(tmp_path), document(tracks)))


def test_a_folder_without_such_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no CVAT XML file. Export 'CVAT for images 1\.1' into it"):
        Dataset.load(tmp_path, "cvat")
