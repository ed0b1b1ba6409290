from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.coco import can_read, find_pairs
from pixelwise.errors import DataError
from support.shape_datasets import (
    SIZE,
    get_finding,
    list_relative,
    make_mask,
    read_masks,
    run_check,
    write_image,
    write_json,
)

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
CAT, DOG = 1, 2


def image(name: str, number: int = 1, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": size[0], "width": size[1]}


def annotation(segmentation: Any, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": 17, "image_id": 1, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def document(*annotations: dict[str, Any], images: Any = None, categories: Any = None) -> dict[str, Any]:
    images = [image("a.png")] if images is None else images
    return {"images": images, "annotations": list(annotations), "categories": categories or CATEGORIES}


def plant(root: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    """One image beside its JSON file."""
    write_image(root / "a.png")
    write_json(root / "instances.json", document(*annotations, **more))
    return root


def mask(root: Path) -> list[list[int]]:
    values: list[list[int]] = read_masks(root, "coco")["a"].tolist()
    return values


# What is drawn.


def test_polygon_coordinates_start_at_the_corner_of_the_first_pixel(tmp_path: Path) -> None:
    assert mask(plant(tmp_path, annotation([SQUARE]))) == make_mask((CAT, slice(1, 3), slice(1, 4)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools beside NumPy 2
def test_integer_polygons_are_as_in_pycocotools(tmp_path: Path) -> None:
    (run,) = pycocotools.mask.frPyObjects([SQUARE], *SIZE)
    assert mask(plant(tmp_path, annotation([SQUARE]))) == (pycocotools.mask.decode(run) * CAT).tolist()


def test_an_annotation_may_have_several_parts(tmp_path: Path) -> None:
    parts = [SQUARE, [5, 0, 8, 0, 8, 2, 5, 2], [2, 2, 6, 2, 6, 3, 2, 3]]
    areas = (slice(1, 3), slice(1, 4)), (slice(0, 2), slice(5, 8)), (slice(2, 3), slice(2, 6))
    assert mask(plant(tmp_path, annotation(parts))) == make_mask(*((CAT, *area) for area in areas))


def test_categories_become_classes_in_ascending_order_of_their_ids(tmp_path: Path) -> None:
    dataset = Dataset.load(plant(tmp_path, annotation([SQUARE], 7)))
    assert dataset.classes.names == ("background", "cat", "dog")
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((DOG, slice(1, 3), slice(1, 4)))


def test_a_category_may_be_the_background(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "Background"}]
    below, above = annotation([SQUARE], 1), annotation([[2, 1, 4, 1, 4, 3, 2, 3]], 2)
    root = plant(tmp_path, below, above, categories=categories)
    assert Dataset.load(root).index.description.names == ("Background", "cat")
    assert mask(root) == make_mask((1, slice(1, 3), slice(1, 2)))


def test_more_than_255_classes_take_16_bit(tmp_path: Path) -> None:
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 301)]
    dataset = Dataset.load(plant(tmp_path, annotation([SQUARE], 255), annotation([SQUARE], 300), categories=categories))
    labels = dataset.read_labels(dataset.samples[0])
    assert labels.dtype == np.uint16
    assert labels.tolist() == make_mask((300, slice(1, 3), slice(1, 4)))
    assert dataset.classes.label_mapping[255] == 255


def test_later_annotations_cover_earlier_ones_and_crowds_are_below_all(tmp_path: Path) -> None:
    first, second = annotation([SQUARE], 3), annotation([[2, 1, 4, 1, 4, 3, 2, 3]], 7)
    crowd = annotation({"size": [*SIZE], "counts": [0, SIZE[0] * SIZE[1]]}, 3, iscrowd=1)
    expected = make_mask((CAT, slice(None), slice(None)), (DOG, slice(1, 3), slice(2, 4)))
    assert mask(plant(tmp_path, first, second, crowd)) == expected


def test_an_image_without_annotations_is_background(tmp_path: Path) -> None:
    assert mask(plant(tmp_path)) == make_mask()


def test_run_lengths_are_along_the_columns(tmp_path: Path) -> None:
    runs = {"size": [*SIZE], "counts": [6, 3, 39]}
    assert mask(plant(tmp_path, annotation(runs))) == make_mask((CAT, slice(0, 3), slice(1, 2)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_compressed_run_lengths_are_as_in_pycocotools(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    pixels = (np.random.default_rng(seed).random(SIZE) < share).astype(np.uint8)
    packed = pycocotools.mask.encode(np.asfortranarray(pixels))
    runs = {"size": [*SIZE], "counts": packed["counts"].decode()}
    assert mask(plant(tmp_path_factory.mktemp("coco"), annotation(runs))) == pixels.tolist()


def test_long_runs_are_packed_into_several_characters(tmp_path: Path) -> None:
    pixels = np.zeros((300, 500), np.uint8)
    pixels[17:212, 100:103] = pixels[250, 499] = 1
    packed = pycocotools.mask.encode(np.asfortranarray(pixels))
    write_image(tmp_path / "a.png", (300, 500))
    runs = {"size": [300, 500], "counts": packed["counts"].decode()}
    write_json(tmp_path / "a.json", document(annotation(runs), images=[image("a.png", size=(300, 500))]))
    np.testing.assert_array_equal(read_masks(tmp_path, "coco")["a"], pixels)


# What other tools write.


@pytest.mark.parametrize("size", [{}, {"height": None, "width": None}, {"height": 6}])
@pytest.mark.parametrize("segmentation", [[SQUARE], {"size": [*SIZE], "counts": [7, 2, 4, 2, 4, 2, 27]}])
def test_an_image_without_size_has_that_of_its_file(tmp_path: Path, size: dict[str, Any], segmentation: Any) -> None:
    root = plant(tmp_path, annotation(segmentation), images=[{"id": 1, "file_name": "a.png", **size}])
    assert mask(root) == make_mask((CAT, slice(1, 3), slice(1, 4)))


def test_run_lengths_of_another_size_are_an_error_where_the_image_has_none(tmp_path: Path) -> None:
    runs = [annotation({"size": size, "counts": [48]}) for size in ([8, 6], [6, 8])]
    root = plant(tmp_path / "data", runs[0], images=[{"id": 1, "file_name": "a.png"}])
    assert "is 8x6, but its image is 6x8" in get_finding(run_check(root, tmp_path), "transposed_mask")["message"]
    dataset = Dataset.load(plant(tmp_path / "both", *runs, images=[{"id": 1, "file_name": "a.png"}]))
    with pytest.raises(DataError, match=r"run lengths are for size \[6, 8\], but the image has \[8, 6\]"):
        dataset.read_mask(dataset.samples[0])


@pytest.mark.parametrize(("one", "other"), [("1", 1), (1, "1"), (1.0, 1), ("a-1", "a-1"), (2**60 + 1, str(2**60 + 1))])
def test_ids_may_be_texts_or_numbers(tmp_path: Path, one: Any, other: Any) -> None:
    root = plant(
        tmp_path,
        annotation([SQUARE], other, image_id=other),
        images=[{**image("a.png"), "id": one}],
        categories=[{"id": one, "name": "cat"}],
    )
    assert mask(root) == make_mask((CAT, slice(1, 3), slice(1, 4)))


def test_long_ids_stay_apart(tmp_path: Path) -> None:
    root = plant(tmp_path, images=[image("a.png", 2**60), image("b.png", 2**60 + 1)])
    write_image(root / "b.png")
    assert [sample.name for sample in Dataset.load(root).samples] == ["a", "b"]


OTHER = [5, 0, 8, 0, 8, 2, 5, 2]
RUNS = {"size": [*SIZE], "counts": [7, 2, 4, 2, 4, 2, 27]}


@pytest.mark.parametrize(
    "segmentation",
    [
        [*SQUARE],
        [str(number) for number in SQUARE],
        [SQUARE, [5, 0, 8, 2]],  # github.com/cocodataset/cocoapi/issues/348: a part of two points next to an area
        [SQUARE, [5, 0]],
        RUNS,
        [RUNS],
        {**RUNS, "counts": [float(run) for run in RUNS["counts"]]},
    ],
)
def test_forms_of_one_outline(tmp_path: Path, segmentation: Any) -> None:
    assert mask(plant(tmp_path, annotation(segmentation))) == make_mask((CAT, slice(1, 3), slice(1, 4)))


def test_a_file_of_via_is_read(tmp_path: Path) -> None:
    """As in github.com/matterport/Mask_RCNN/issues/1922: ids as texts, flat outlines, no class where none was set."""
    drawn = {"id": 0, "image_id": "1", "segmentation": SQUARE, "bbox": [1, 1, 3, 2], "iscrowd": 0}
    assert mask(plant(tmp_path, {**drawn, "category_id": 7})) == make_mask((DOG, slice(1, 3), slice(1, 4)))
    dataset = Dataset.load(plant(tmp_path, drawn))
    with pytest.raises(DataError, match=r"annotation 0: 'category_id' is missing\. Expected a whole number"):
        dataset.read_mask(dataset.samples[0])


def test_an_outline_and_run_lengths_may_be_parts_of_one_annotation(tmp_path: Path) -> None:
    areas = (CAT, slice(1, 3), slice(1, 4)), (CAT, slice(0, 2), slice(5, 8))
    assert mask(plant(tmp_path, annotation([RUNS, OTHER]))) == make_mask(*areas)


@pytest.mark.parametrize(
    ("crowd", "is_below"), [(1, True), (True, True), ("1", True), (0, False), (False, False), (None, False)]
)
def test_forms_of_iscrowd(tmp_path: Path, crowd: Any, is_below: bool) -> None:
    above, last = annotation([SQUARE], 3), annotation([[0, 0, 8, 0, 8, 6, 0, 6]], 7, iscrowd=crowd)
    areas = [(DOG, slice(None), slice(None)), (CAT, slice(1, 3), slice(1, 4))]
    assert mask(plant(tmp_path, above, last)) == make_mask(*(areas if is_below else areas[:1]))


def test_annotations_may_be_an_object(tmp_path: Path) -> None:
    """As in LIVECell."""
    root = plant(tmp_path)
    write_json(root / "livecell.json", document(annotation([SQUARE])) | {"annotations": {"17": annotation([SQUARE])}})
    (root / "instances.json").unlink()
    assert mask(root) == make_mask((CAT, slice(1, 3), slice(1, 4)))


def test_other_documents_with_objects_of_these_names_are_not_coco(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"images": {"size": 64}, "annotations": {"type": "mask"}})
    assert not can_read(tmp_path)


CHILD = {"id": 1, "name": "cat", "supercategory": "pets"}


@pytest.mark.parametrize(
    ("categories", "category", "names"),
    [
        ([{"id": 0, "name": "pets", "supercategory": "none"}, CHILD], 1, ("background", "cat")),
        ([{"id": 0, "name": "pets"}, CHILD], 1, ("background", "cat")),
        ([{"id": 0, "name": "pets", "supercategory": "none"}, CHILD], 0, ("background", "pets", "cat")),
        ([{"id": 0, "name": "cat"}, {**CHILD, "supercategory": "cat"}], 1, ("background", "cat")),
        ([{"id": 0, "name": "pets", "supercategory": "animals"}, CHILD], 1, ("background", "pets", "cat")),
        ([{"id": 0, "name": "dog", "supercategory": "none"}, CHILD], 1, ("background", "dog", "cat")),
    ],
)
def test_an_unused_parent_of_other_categories_is_not_a_class(
    tmp_path: Path, categories: Any, category: int, names: tuple[str, ...]
) -> None:
    root = plant(tmp_path, annotation([SQUARE], category), categories=categories)
    assert Dataset.load(root).classes.names == names


def test_categories_of_several_files_are_the_same_class_by_their_names(tmp_path: Path) -> None:
    for split, categories in (
        ("train", [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]),
        ("val", [{"id": 1, "name": "dog"}, {"id": 2, "name": "cow"}, {"id": 3, "name": "cat"}]),
    ):
        write_image(tmp_path / split / "a.png")
        (key,) = (c["id"] for c in categories if c["name"] == "dog")
        content = document(annotation([SQUARE], key), categories=categories)
        write_json(tmp_path / split / "_annotations.coco.json", content)
    dataset = Dataset.load(tmp_path)
    assert dataset.classes.names == ("background", "cat", "dog", "cow")
    assert [int(dataset.read_labels(sample).max()) for sample in dataset.samples] == [2, 2]


def test_drawn_annotations_of_labelme2coco_are_not_read(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "Visualization"):
        write_image(tmp_path / folder / "a.png")
    write_json(tmp_path / "annotations.json", document(annotation([SQUARE]), images=[image("JPEGImages/a.png")]))
    dataset = Dataset.load(tmp_path)
    assert [sample.name for sample in dataset.samples] == ["JPEGImages/a"]
    assert dataset.index.outside_splits == ()


def test_annotations_of_jpeg_images_are_not_jpeg_masks(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "a.png")
    Image.open(root / "a.png").save(root / "a.jpg")
    (root / "a.png").unlink()
    write_json(root / "instances.json", document(annotation([SQUARE]), images=[image("a.jpg")]))
    assert "jpeg_mask" not in {finding["code"] for finding in run_check(root, tmp_path)["findings"]}


# Where files lie.


@pytest.mark.parametrize(
    ("json_file", "folder", "name", "split"),
    [
        ("annotations/instances_train2017.json", "train2017", "a.png", "train"),
        ("annotations/instances_val2017.json", "images/val2017", "a.png", "val"),
        ("annotations/instances_default.json", "images", "a.png", None),
        ("annotations/instances_test.json", "images/test", "a.png", "test"),
        ("annotations/instances_Train.json", "images/Train", "a.png", "train"),
        ("train.json", "images", "a.png", "train"),
        ("my_set_validation.json", ".", "a.png", "val"),
        ("valid/_annotations.coco.json", "valid", "a.png", "val"),
        ("train/_annotations.coco.json", "train/images", "a.png", "train"),
        ("coco.json", "deep/er", "deep/er/a.png", None),
        ("coco.json", "images", "/home/else/where/a.png", None),
        ("coco.json", "images", "images\\a.png", None),
        ("annotations/coco.json", "pictures", "../pictures/a.png", None),
        ("coco.json", "train2017", "http://images.cocodataset.org/train2017/a.png", None),
        ("coco.json", "images", "https://host/bucket/images/a.png?token=1", None),
        # github.com/HumanSignal/label-studio/issues/7294
        ("result.json", "images", "..\\..\\label-studio\\media\\upload\\4\\a.png", None),
        # github.com/HumanSignal/label-studio-converter/issues/188
        ("result.json", "images", "images/1/a.png", None),
        # github.com/Koldim2001/COCO_to_YOLOv8/issues/2: CVAT keeps the folders of a task below its subset
        ("annotations/instances_Train.json", "images/Train/Data", "a.png", "train"),
        ("labels.json", "data", "a.png", None),  # FiftyOne
        ("livecell_coco_train.json", "images/livecell_train_val_images/A172", "a.png", "train"),
    ],
)
def test_locations_of_images(tmp_path: Path, json_file: str, folder: str, name: str, split: str | None) -> None:
    write_image(tmp_path / folder / "a.png")
    write_json(tmp_path / json_file, document(annotation([SQUARE]), images=[image(name)]))
    dataset = Dataset.load(tmp_path)
    (sample,) = dataset.samples
    assert (dataset.format, sample.split) == ("coco", split)
    assert sample.image_path == tmp_path / folder / "a.png"
    assert sample.mask_path == tmp_path / json_file


def test_coco_url_is_read_where_file_name_is_missing(tmp_path: Path) -> None:
    """As in LVIS."""
    write_image(tmp_path / "train2017/a.png")
    url = {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/a.png", "height": 6, "width": 8}
    write_json(tmp_path / "lvis_v1_train.json", document(annotation([SQUARE]), images=[url]))
    assert [(s.name, s.split) for s in Dataset.load(tmp_path).samples] == [("train2017/a", "train")]


@pytest.mark.parametrize("others", [["images/x/a.png", "images/y/a.png"], ["images/val/a.png"], ["elsewhere/a.png"]])
def test_an_image_in_a_deeper_folder_must_be_the_only_one_and_in_no_other_split(
    tmp_path: Path, others: list[str]
) -> None:
    for path in (*others, "images/b.png"):
        write_image(tmp_path / path)
    write_json(tmp_path / "train.json", document(images=[image("a.png"), image("b.png", 2)]))
    index = find_pairs(tmp_path)
    assert [sample.name for sample in index.samples] == ["b"]
    assert list_relative(tmp_path, index.masks_without_image) == ["a.png"]


def test_files_of_captions_and_keypoints_are_skipped(tmp_path: Path) -> None:
    write_image(tmp_path / "train2017/a.png")
    for kind in ("instances", "captions", "person_keypoints"):
        write_json(tmp_path / f"annotations/{kind}_train2017.json", document(annotation([SQUARE])))
    assert [s.name for s in Dataset.load(tmp_path).samples] == ["train2017/a"]


def test_splits_of_several_files(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / split / "a.png")
        write_json(tmp_path / f"annotations/instances_{split}.json", document(annotation([SQUARE])))
    assert [(s.name, s.split) for s in Dataset.load(tmp_path).samples] == [("train/a", "train"), ("val/a", "val")]


def test_unlisted_images_and_missing_files_are_listed(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.png", "extra/c.png", "test2017/d.png", "unlabeled2017/e.png"):
        write_image(tmp_path / name)
    images = [image("a.png"), image("gone.png", 2)]
    write_json(tmp_path / "annotations/instances_train.json", document(images=images))
    pairing = find_pairs(tmp_path)
    assert list_relative(tmp_path, pairing.images_without_mask) == ["train/b.png"]
    assert list_relative(tmp_path, pairing.masks_without_image) == ["train/gone.png"]
    assert list_relative(tmp_path, pairing.outside_splits) == ["extra/c.png"]
    answer = run_check(tmp_path, tmp_path)
    assert get_finding(answer, "missing_mask")["files"] == ["train/b.png"]
    assert get_finding(answer, "orphan_mask")["files"] == ["train/gone.png"]


def test_images_of_equal_stems_are_listed(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png")
    write_image(tmp_path / "a.bmp.png").rename(tmp_path / "a.bmp")
    plant(tmp_path, images=[image("a.png"), image("a.bmp", 2), image("b.png", 3)])
    pairing = find_pairs(tmp_path)
    assert list_relative(tmp_path, pairing.same_stem) == ["a.bmp", "a.png"]
    assert [sample.name for sample in pairing.samples] == ["b"]


# Faults of the file: nothing can be read.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(images=[image("x.png")]), "image 'x.png' and all others do not exist below .*. Put the images there"),
        (document(images=[]), "images do not exist below"),
        (
            document(images=[image("a.png"), image("b.png")]),
            "entry 2 of 'images': Another entry has the id 1",
        ),
        (
            document(images=[image("a.png"), image("./a.png", 2)]),
            r"a\.png is listed twice in .*instances\.json\. Keep only one entry\.",
        ),
        (document(images=[{"id": 1}]), "instances.json: image 1: 'file_name' is missing. Expected a text"),
        (document(annotation([SQUARE], image_id=9)), "annotation 17: belongs to image 9, which is not listed"),
        (
            document(*(annotation([SQUARE], image_id=9, id=n) for n in (17, 18))),
            "annotation 17: belongs to image 9, annotation 18: belongs to image 9, which is not listed",
        ),
        (
            document(annotation([SQUARE], segments_info=[])),
            "The file contains panoptic segments. Use the instances file",
        ),
        (document(categories=[{"id": 1, "name": "a"}] * 1 + [{"id": 2, "name": "a"}]), "lists the class 'a' twice"),
        (
            document(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
            "Another entry has the id 1, too. Give each its own",
        ),
        (
            document(categories=[{"id": 1}]),
            "category 1: 'name' is missing. Expected a text. Export",
        ),
        (document(categories=[None]), "Entry 1 of 'categories' is null. Expected an object"),
        ({"images": [], "categories": [], "annotations": []}, "lists no categories"),
        ({"images": [image("a.png")], "categories": CATEGORIES}, "'annotations' is missing"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, content: Any, message: str) -> None:
    plant(tmp_path)
    write_json(tmp_path / "instances.json", content)
    with pytest.raises(DataError, match=message):
        Dataset.load(tmp_path)


def test_a_broken_file_is_an_error_with_the_place(tmp_path: Path) -> None:
    path = plant(tmp_path) / "instances.json"
    path.write_text(path.read_text()[:-1] + ",", encoding="utf-8")
    with pytest.raises(
        DataError,
        match=r"instances.json: The file is not valid JSON \(line 1, column \d+: .*. Write or export it again",
    ):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("name", ["train/_annotations.coco.json", "annotations/instances_val.json"])
def test_a_damaged_file_with_the_usual_name_is_an_error(tmp_path: Path, name: str) -> None:
    root = plant(tmp_path, annotation([SQUARE]))
    (root / name).parent.mkdir()
    (root / name).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"json: The file is not valid JSON \(line 1"):
        Dataset.load(root)


def test_a_folder_without_such_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no COCO file. Put instances_train\.json"):
        Dataset.load(tmp_path, "coco")


# Faults of an image: the doctor names them all.


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (annotation([SQUARE], 5), r"The category 5 is not among those listed \(7, 3\)"),
        (annotation([]), "It has at most a box, but no segmentation. Draw its outline"),
        (annotation(None, bbox=[1, 1, 3, 2]), "It has at most a box, but no segmentation. Draw its outline"),
        (annotation([[1, 1], [4, 1], [4, 3]]), "The number of points of a polygon is 1. Expected 3 or more"),
        (
            annotation([[[1, 1], [4, 1], [4, 3], [1, 3]]]),
            "Point 1 of the polygon is a nested list. Expected",
        ),
        (annotation([SQUARE], iscrowd=2), "'iscrowd' is 2. Expected 0 or 1"),
        (
            annotation([[1, 2, 3, 4]]),
            "The number of points of a polygon is 2. Expected 3 or more. Draw its area, or remove it",
        ),
        (annotation([[1, 2, 3, 4, 5, 6, 7]]), "the polygon has an odd number of values, but x and y come in pairs"),
        (annotation([[1, 2, 3, 4, 5, "x"]]), r"Point 3 of the polygon is \[5, 'x'\]. Expected two numbers"),
        (annotation([[1, 2, 3, 4, 5, None]]), r"Point 3 of the polygon is \[5, null\]"),
        (annotation([7]), "the polygon has an odd number of values, but x and y come in pairs"),
        (annotation([SQUARE, 7]), "'segmentation' contains 7. Expected polygons x1, y1, x2, y2, ... or run lengths"),
        (
            annotation({"size": [8, 6], "counts": [48]}),
            r"The run lengths are for size \[8, 6\], but the image",
        ),
        (annotation({"size": [6, 8], "counts": [47]}), "The run lengths do not add up to 48 pixels"),
        (annotation({"size": [6, 8]}), "'counts' is missing"),
        (annotation({"size": [6, 8], "counts": "0"}), "The run lengths do not add up to 48 pixels"),
        (annotation({"size": [6, 8], "counts": "P"}), "The run lengths end within a number"),
        (annotation({"size": [6, 8], "counts": "P" * 40}), "are not run lengths in COCO's compressed form"),
        (annotation({"size": [6, 8], "counts": "1 2"}), "'1 2' are not run lengths in COCO's compressed form"),
        (annotation({"size": [6, 8], "counts": "é"}), "'é' are not run lengths in COCO's compressed form"),
    ],
)
def test_an_invalid_annotation_is_an_error_and_a_finding(tmp_path: Path, fault: Any, message: str) -> None:
    root = plant(tmp_path / "data", fault)
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=f"instances.json: .*a.png: annotation 17: .*{message}"):
        dataset.read_mask(dataset.samples[0])
    found = get_finding(run_check(root, tmp_path), "unreadable_mask")
    (file,) = found["files"]
    assert file.startswith("instances.json: ")
    assert "a.png: annotation 17" in found["message"]


@pytest.mark.parametrize("size", [(0, 8), (10**9, 10**9), (-6, -8)])
def test_an_impossible_size_is_an_error(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset = Dataset.load(plant(tmp_path, images=[image("a.png", size=size)]))
    with pytest.raises(DataError, match=r"The size .* \(height x width\) is not between 1 and"):
        dataset.read_mask(dataset.samples[0])


def test_a_size_other_than_the_images_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", images=[image("a.png", size=(8, 6))])
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=r"instances.json: .*a.png is 8x6, but its image .*a.png is 6x8"):
        dataset.read(dataset.samples[0])
    assert "is 8x6, but its image is 6x8" in get_finding(run_check(root, tmp_path), "transposed_mask")["message"]
