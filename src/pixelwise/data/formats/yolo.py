"""YOLO segmentation: a YAML file of names and folders, and one text file of polygons per image.

    data.yaml                       names: [car, road]; train: images/train; val: images/val
    images/train/0001.jpg           or train/images/0001.jpg
    labels/train/0001.txt           lines `class x1 y1 x2 y2 x3 y3 ...`

Coordinates are fractions of width and height: 0 is the outer edge of the first pixel, 1 that of the last. Later lines
cover earlier ones. An image with an empty or missing text file is background, as in YOLO itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from os.path import abspath
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.description import is_description_file
from pixelwise.data.formats._documents import locate_errors
from pixelwise.data.formats._shapes import ImageShapes, ShapeClasses, ShapeReader, make_classes, make_index, name_sample
from pixelwise.data.formats.dataset_index import DatasetIndex, find_files, find_images, read_lines
from pixelwise.data.io.images import IMAGE_EXTENSIONS, read_size
from pixelwise.data.rasterize import DrawnShape, Polygon
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS, read_yaml
from pixelwise.shapes import Size

_SLACK = 0.01
"""Largest distance of a polygon from the image, in fractions; numbers further out are not fractions."""


def can_read(root: Path) -> bool:
    return _find_description(root) is not None


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of the folders in the YAML file; text files are read when their masks are read."""
    path = _find_description(root)
    if path is None:
        raise DataError(f"{root} has no data.yaml with 'names' and 'train'. Write one.")
    description = read_yaml(path)
    with locate_errors(path):
        if "kpt_shape" in description:
            raise DataError("describes keypoints, not areas. Export the dataset for segmentation.")
        classes = make_classes(path, [(key, name, None) for key, name in _parse_names(description).items()])
        images = _find_split_images(root, description)
    samples = [
        Sample(name=name_sample(root, image), image_path=image, mask_path=_find_label_file(root, image), split=split)
        for image, split in images.items()
    ]
    labels = {sample.mask_path for sample in samples}
    folders = {path.parent for path in labels}
    index = make_index(
        samples,
        ShapeReader(partial(_read_shapes, classes=classes), classes),
        classes,
        masks_without_image=[
            path
            for path in find_files(root, (".txt",))
            if path.parent in folders and path not in labels and path.name != "classes.txt"  # names, by some tools
        ],
        outside_splits=[p for p in find_images(root) if p not in images and "images" in p.relative_to(root).parts],
    )
    return replace(index, has_lists=True)


def _find_description(root: Path) -> Path | None:
    """Find `data.yaml` or another file of its form; dataset.yaml is Pixelwise's own."""
    paths = sorted([*root.glob("*.yaml"), *root.glob("*.yml")], key=lambda p: (p.stem != "data", p))
    return next((path for path in paths if not is_description_file(path) and _is_description(path)), None)


def _is_description(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except READ_ERRORS:
        return path.stem == "data"  # its fault is reported when it is read
    return isinstance(content, dict) and {"names", "train"} <= content.keys()


def _parse_names(description: Mapping[str, Any]) -> dict[int, str]:
    """Parse the names, a list or a mapping, to class number → name."""
    names = description["names"]
    listed = names if isinstance(names, dict) else dict(enumerate(names))
    count = description.get("nc", len(listed))
    if not listed or count != len(listed):
        raise DataError(f"'names' lists {len(listed)} classes, but 'nc' is {count}. Make them agree.")
    return {int(key): str(listed[key]) for key in sorted(listed)}


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
    for entry in given if isinstance(given, list) else [given] if given else []:
        # `path` and leading `../` are often those of the machine that wrote the file.
        name, relative = str(entry), str(entry)
        while relative.startswith("../"):
            relative = relative[3:]
        candidates = (f"{description.get('path') or '.'}/{name}", name, relative)
        path = next(filter(None, (_find_below(root, Path(candidate)) for candidate in candidates)), None)
        if path is None:
            raise DataError(f"{split!r} names {name!r}, which does not exist below {root}. Correct it.")
        if path.is_dir():
            yield from find_images(path)
            continue
        for number, line in read_lines(path):
            image = _find_below(root, Path(line)) or _find_below(root, path.parent.relative_to(root) / line)
            if image is None or image.suffix.lower() not in IMAGE_EXTENSIONS:
                raise DataError(f"{path.name}, line {number}: {line!r} is not an image below {root}. Correct it.")
            yield image


def _find_below(root: Path, name: Path) -> Path | None:
    """Return an existing path below the root, which may be given as absolute; links are not followed."""
    path, top = Path(abspath(root / name)), Path(abspath(root))
    return root / path.relative_to(top) if path.is_relative_to(top) and path.exists() else None


def _find_label_file(root: Path, image: Path) -> Path:
    """Replace the last folder `images` by `labels`; without one, the text file is next to the image."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for position in reversed(range(len(parts) - 1)):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return root.joinpath(*parts)


def _read_shapes(sample: Sample, classes: ShapeClasses) -> ImageShapes:
    size, path, shapes = read_size(sample.image_path), sample.mask_path, []
    for number, line in read_lines(path) if path.exists() else ():
        with locate_errors(f"{path}: line {number}"):
            shapes.append(_parse_line(line.split(), size, classes))
    return size, shapes


def _parse_line(words: list[str], size: Size, classes: ShapeClasses) -> DrawnShape:
    key, numbers = int(words[0]), np.array(words[1:], float)
    if len(numbers) == 4:
        raise DataError("a class and 4 numbers are a box, not an outline. Export the dataset for segmentation.")
    if len(numbers) % 2:
        raise DataError(f"{len(numbers)} numbers follow the class, but x and y come in pairs. Draw it again.")
    if not ((numbers >= -_SLACK) & (numbers <= 1 + _SLACK)).all():
        raise DataError(f"{words[1]}, {words[2]}, ... are not fractions of width and height. Export it again.")
    height, width = size
    return Polygon(value=classes.get_value(key), outline=numbers.reshape(-1, 2) * (width, height))
