"""YOLO segmentation: a YAML file of names and folders, and one text file of polygons per image.

    data.yaml                       names: [car, road]; train: images/train; val: images/val
    images/train/0001.jpg           or train/images/0001.jpg
    labels/train/0001.txt           or images/train/0001.txt; lines `class x1 y1 x2 y2 x3 y3 ...`

Coordinates are fractions of width and height: 0 is the outer edge of the first pixel, 1 that of the last. Later lines
cover earlier ones. An image with an empty or missing text file is background, as in YOLO itself, but a split without
any text file is an error. Without data.yaml, the names are in classes.txt and the splits in the names of folders.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from os.path import abspath, exists
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.data.formats._documents import (
    format_value,
    get_integer,
    locate_errors,
    pair_coordinates,
    parse_integer,
    parse_text,
)
from pixelwise.data.formats._shapes import ImageShapes, ShapeClasses, ShapeReader, make_classes, make_index, name_sample
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    find_files,
    find_images,
    find_split,
    list_folders,
    list_path_endings,
    read_class_names,
    read_lines,
)
from pixelwise.data.formats.folder import LABEL_FOLDERS
from pixelwise.data.io.images import IMAGE_EXTENSIONS, read_size
from pixelwise.data.rasterize import DrawnShape, Polygon
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS, read_yaml
from pixelwise.shapes import Size

_SLACK = 0.5
"""Largest distance of a polygon from the image, in fractions; numbers further out are not fractions."""
_LINE = re.compile(r"\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){6,}", re.IGNORECASE)
_CLASSES_FILE = "classes.txt"


def can_read(root: Path) -> bool:
    return _find_description(root) is not None or _has_labels(root)


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of the folders in the YAML file; text files are read when their masks are read."""
    path = _find_description(root)
    if path is None and not _has_labels(root):
        raise DataError(f"{root} has no data.yaml with 'names' and 'train'. Create it, or export the dataset again.")
    description = read_yaml(path) if path else _describe_folders(root)
    with locate_errors(path or root):
        if "kpt_shape" in description:
            raise DataError("The file describes keypoints, not areas. Export the dataset for segmentation.")
        names = _parse_names(description)
        images = _find_split_images(root, description)
        if not images:
            raise DataError("'train', 'val' and 'test' name no folder with images. Correct them.")
    classes = make_classes(path or root, [(key, name, None) for key, name in names.items()])
    labels = _find_labels(root, images)
    samples = [
        Sample(name=name_sample(root, image), image_path=image, mask_path=label, split=images[image])
        for image in _drop_unlabeled_test(root, images, labels)
        for label in labels[image] or [_list_label_paths(root, image)[0]]
    ]
    used = {path for paths in labels.values() for path in paths}
    folders = {path.parent for path in used}
    index = make_index(
        samples,
        ShapeReader(partial(_read_shapes, classes=classes), classes),
        classes,
        masks_without_image=[
            path
            for path in find_files(root, (".txt",))
            if path.parent in folders and path not in used and not _is_list(path)
        ],
        outside_splits=[p for p in find_images(root) if p not in images and "images" in p.relative_to(root).parts],
    )
    unlabeled = images.keys() - {sample.image_path for sample in samples}
    return replace(index, has_lists=path is not None, unlabeled_images=tuple(sorted(unlabeled)))


def _find_description(root: Path) -> Path | None:
    """Find `data.yaml` or another file of its form; a dataset.yaml for Pixelwise has no `train`."""
    paths = sorted([*root.glob("*.yaml"), *root.glob("*.yml")], key=lambda p: (p.stem != "data", p))
    return next((path for path in paths if _is_description(path)), None)


def _is_description(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except READ_ERRORS:
        return path.stem == "data"  # its fault is reported when it is read
    return isinstance(content, dict) and {"names", "train"} <= content.keys()


def _has_labels(root: Path) -> bool:
    """Return whether folders named `labels` have text files of outlines, and no folder has masks."""
    parents, names = (root, *list_folders(root)), (*LABEL_FOLDERS, *map(str.capitalize, LABEL_FOLDERS))
    folders = [folder for parent in parents for name in names if (folder := parent / name).is_dir()]
    is_masked = any(any(find_images(folder)) for folder in folders)
    labels = [folder for folder in folders if folder.name.lower() == "labels"]
    texts = (path for folder in labels for path in find_files(folder, (".txt",)) if path.name != _CLASSES_FILE)
    return not is_masked and any(_is_label_file(path) for path in islice(texts, 20))


def _is_list(path: Path) -> bool:
    """Return whether a text file lists classes or the images of a split."""
    return path.name == _CLASSES_FILE or find_split([path.stem]) is not None


def _is_label_file(path: Path) -> bool:
    """Return whether the first line of a text file is that of an outline."""
    try:
        lines = read_lines(path)
    except READ_ERRORS:
        return False
    return bool(lines) and bool(_LINE.match(lines[0][1]))


def _describe_folders(root: Path) -> dict[str, Any]:
    """Describe a dataset without a YAML file as that file would."""
    folders: dict[str, list[str]] = {}
    for folder in sorted({path.parent.relative_to(root) for path in find_images(root)}):
        folders.setdefault(find_split(folder.parts) or "train", []).append(folder.as_posix())
    classes = next((path for path in find_files(root, (".txt",)) if path.name == _CLASSES_FILE), None)
    if classes is None:
        text = yaml.safe_dump({"names": ["name of class 0", "name of class 1"], **folders}, sort_keys=False)
        raise DataError(f"{root} has YOLO labels, but no data.yaml. Write it:\n\n{text}")
    return {"names": read_class_names(classes), **folders}


def _parse_names(description: Mapping[str, Any]) -> dict[int, str]:
    """Parse the names, a list or a mapping, to class number → name."""
    names = description.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, Mapping):
        raise DataError(f"'names' is {format_value(names)}. Expected a list of names, or class numbers with names.")
    parsed: dict[int, str] = {}
    for key, value in listed.items():
        number, name = parse_integer(key), parse_text(value)
        if number is None or number < 0 or name is None:
            raise DataError(
                f"'names' has the entry {format_value(key)}: {format_value(value)}. Expected a class number with its "
                f"name. Put names such as no, off and null in quotes."
            )
        parsed[number] = name
    count = get_integer(description, "nc", len(parsed))
    if not parsed:
        raise DataError("'names' lists no classes. Add their names.")
    if count != len(parsed):
        raise DataError(f"'names' lists {len(parsed)} classes, but 'nc' is {count}. Make them agree.")
    return dict(sorted(parsed.items()))


def _find_split_images(root: Path, description: Mapping[str, Any]) -> dict[Path, Split]:
    images: dict[Path, Split] = {}
    for split in SPLITS:
        for image in _find_images_of_split(root, description, split):
            if images.setdefault(image, split) != split:
                raise DataError(f"{image} is in {images[image]} and in {split}. Name folders that do not overlap.")
    return images


def _find_images_of_split(root: Path, description: Mapping[str, Any], split: Split) -> Iterator[Path]:
    """Yield the images of the folders and list files that the YAML file names for a split."""
    given = description.get(split, description.get("valid") if split == "val" else None)
    top = description.get("path")
    for entry in given if isinstance(given, list) else [given] if given else []:
        if not isinstance(entry, str):
            raise DataError(
                f"{split!r} is {format_value(entry)}. Expected a folder of images, or a file that lists them."
            )
        path = _find_below(root, f"{top}/{entry}" if isinstance(top, str) else entry)
        if path is None and split == "test":
            continue  # tools name it even if it was not exported
        if path is None:
            elsewhere = f" 'path' is {format_value(top)}: to read that folder, put this file there." if top else ""
            raise DataError(
                f"{split!r} names {format_value(entry)}, which does not exist below {root}. Correct it.{elsewhere}"
            )
        if path.is_dir():
            yield from find_images(path)
            continue
        for number, line in read_lines(path):
            image = _find_below(root, line) or _find_below(root, f"{path.parent.relative_to(root)}/{line}")
            if image is None or image.suffix.lower() not in IMAGE_EXTENSIONS:
                raise DataError(
                    f"{path.name}, line {number}: {format_value(line)} is not an image below {root}. Correct it."
                )
            yield image


def _find_below(root: Path, name: str) -> Path | None:
    """Return the longest end of a path of any machine that exists below the root; links are not followed.

    An end without the name of a split is another folder than one with it.
    """
    top, has_split = abspath(root), False
    for ending in list_path_endings(name):
        path = Path(abspath(f"{top}/{ending}"))
        names_split = find_split(ending.split("/")) is not None
        has_split = has_split or names_split
        if path.is_relative_to(top) and exists(path) and names_split == has_split:
            return root / path.relative_to(top)
    return None


def _find_labels(root: Path, images: Mapping[Path, Split]) -> dict[Path, list[Path]]:
    """Find the text files of each image; more than one is ambiguous. Folders and extensions may have any case."""
    texts: dict[tuple[str, str], list[Path]] = {}
    for path in find_files(root, (".txt",)):
        texts.setdefault(_fold_case(path), []).append(path)
    return {
        image: [path for expected in _list_label_paths(root, image) for path in texts.get(_fold_case(expected), ())]
        for image in images
    }


def _fold_case(path: Path) -> tuple[str, str]:
    return path.parent.as_posix().lower(), path.stem


def _list_label_paths(root: Path, image: Path) -> list[Path]:
    """List the paths that the text file of an image may have, the usual one first.

    The last folder `images` is replaced by `labels`, or the file is next to the image.
    """
    parts = list(image.relative_to(root).parent.parts)
    position = next((i for i in reversed(range(len(parts))) if parts[i].lower() == "images"), None)
    folders = [image.parent]
    if position is not None:
        folders.insert(0, root.joinpath(*parts[:position], "labels", *parts[position + 1 :]))
    return [folder / f"{name}.txt" for folder in folders for name in (image.stem, image.name)]


def _drop_unlabeled_test(root: Path, images: Mapping[Path, Split], labels: Mapping[Path, list[Path]]) -> Iterator[Path]:
    """Yield the images of the splits that have text files; another split than test without one is an error."""
    for split in SPLITS:
        found = [image for image in images if images[image] == split]
        if any(labels[image] for image in found):
            yield from found
        elif found and split != "test":
            expected = _list_label_paths(root, found[0])[0].relative_to(root)
            raise DataError(
                f"{root}: None of the {len(found)} images of {split} has a text file with its labels, such as "
                f"{expected}. Add them, with an empty file for an image without objects. To read masks, use "
                f"--format folder."
            )


def _read_shapes(sample: Sample, classes: ShapeClasses) -> ImageShapes:
    size, path, shapes = read_size(sample.image_path), sample.mask_path, []
    for number, line in read_lines(path) if path.exists() else ():
        with locate_errors(f"{path}: line {number}"):
            shapes.append(_parse_line(line.split(), size, classes))
    return size, shapes


def _parse_line(words: list[str], size: Size, classes: ShapeClasses) -> DrawnShape:
    key = parse_integer(words[0])
    if key is None:
        raise DataError(f"{format_value(words[0])} is not the number of a class. Export the dataset for segmentation.")
    if len(words) == 5:
        raise DataError("A class and 4 numbers are a box, not an outline. Export the dataset for segmentation.")
    points = pair_coordinates(words[1:], "the outline")
    if outside := points[(points < -_SLACK) | (points > 1 + _SLACK)].tolist():
        raise DataError(f"{outside[0]:g} is not a fraction of width or height. Export it again.")
    return Polygon(value=classes.get_value(key), outline=points * np.array([size[1], size[0]]))
