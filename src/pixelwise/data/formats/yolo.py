"""YOLO segmentation: a YAML file of names and folders, and one text file of polygons an image.

    data.yaml                       names: [car, road]; train: images/train; val: images/val
    images/train/0001.jpg           or train/images/0001.jpg
    labels/train/0001.txt           lines `class x1 y1 x2 y2 x3 y3 ...`

Coordinates are fractions of width and height, 0 at the outer edge of the first pixel and 1 at that of the last.
Later lines lie over earlier ones. An image whose text file is empty or missing is background, as in YOLO itself.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from os.path import abspath
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.data.formats._documents import read_lines, well_formed
from pixelwise.data.formats._polygons import (
    Drawing,
    DrawingReader,
    DrawnClasses,
    drawn_classes,
    drawn_pairing,
    files_below,
    sample_name,
)
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import IMAGE_EXTENSIONS, read_size
from pixelwise.data.rasterize import DrawnShape, Polygon
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError
from pixelwise.files import read_bytes
from pixelwise.shapes import Size

_SLACK = 0.01
"""How far a polygon may stick out of the image, in fractions; further out the numbers are no fractions."""


def find_pairs(root: Path) -> DatasetIndex:
    """All images of the folders that the YAML file names. Text files are read when their masks are asked for."""
    path = _description_file(root)
    if path is None:
        raise DataError(f"{root} holds no data.yaml with 'names' and 'train'; write one.")
    description = _read(path)
    with well_formed(str(path)):
        if "kpt_shape" in description:
            raise DataError("describes keypoints, not areas; export the set for segmentation.")
        classes = drawn_classes(path, [(key, name, None) for key, name in _names(description).items()])
        images = _by_image(root, description)
    samples = [_sample(root, image, split) for image, split in images.items()]
    labels = {sample.label_path for sample in samples}
    folders = {path.parent for path in labels}
    return drawn_pairing(
        samples,
        DrawingReader(partial(_draw, classes=classes), classes),
        classes,
        masks_without_image=[p for p in _text_files(root) if p.parent in folders and p not in labels],
        outside_splits=[p for p in files_below(root) if p not in images and "images" in p.relative_to(root).parts],
    )


def _text_files(root: Path) -> list[Path]:
    """Less the lists of class names that some tools put beside them."""
    return [path for path in files_below(root, (".txt",)) if path.name != "classes.txt"]


def _description_file(root: Path) -> Path | None:
    """`data.yaml`, or another one of its kind; dataset.yaml is Pixelwise's own."""
    paths = sorted([*root.glob("*.yaml"), *root.glob("*.yml")], key=lambda p: (p.stem != "data", p))
    return next((path for path in paths if path.stem != "dataset" and _is_description(path)), None)


def _is_description(path: Path) -> bool:
    try:
        return {"names", "train"} <= _read(path).keys()
    except DataError:
        return path.stem == "data"  # what is wrong with it is said when it is read


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_bytes(path))
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; write it as YAML.") from error
    return content if isinstance(content, dict) else {}


def _names(description: Mapping[str, Any]) -> dict[int, str]:
    """Class number → name; both forms that YOLO has."""
    names = description["names"]
    listed = names if isinstance(names, dict) else dict(enumerate(names))
    count = description.get("nc", len(listed))
    if not listed or count != len(listed):
        raise DataError(f"'names' lists {len(listed)} classes, but 'nc' is {count}; make them agree.")
    return {int(key): str(listed[key]) for key in sorted(listed)}


def _by_image(root: Path, description: Mapping[str, Any]) -> dict[Path, Split]:
    images: dict[Path, Split] = {}
    for split in SPLITS:
        for image in _images(root, description, split):
            if images.setdefault(image, split) != split:
                raise DataError(f"{image} is in {images[image]} and in {split}; name folders that do not overlap.")
    return images


def _images(root: Path, description: Mapping[str, Any], split: Split) -> Iterator[Path]:
    given = description.get(split, description.get("valid") if split == "val" else None)
    for entry in given if isinstance(given, list) else [given] if given else []:
        place = _find(root, str(description.get("path") or "."), str(entry))
        if place is None:
            raise DataError(f"{split!r} names {entry!r}, which is not below {root}; correct it.")
        if place.is_dir():
            yield from files_below(place)
        else:
            yield from _images_of_list(root, place)


def _find(root: Path, base: str, entry: str) -> Path | None:
    """A folder or a list file. `path` and leading `../` are often those of the machine that wrote the file."""
    upward = entry
    while upward.startswith("../"):
        upward = upward[3:]
    return next(filter(None, (_below(root, Path(name)) for name in (f"{base}/{entry}", entry, upward))), None)


def _below(root: Path, name: Path) -> Path | None:
    """What lies below the root under a name, which may be absolute; links are not followed, as they may lead out."""
    place, top = Path(abspath(root / name)), Path(abspath(root))
    return root / place.relative_to(top) if place.is_relative_to(top) and place.exists() else None


def _images_of_list(root: Path, path: Path) -> Iterator[Path]:
    for name in filter(None, read_lines(path)):
        found = _below(root, Path(name)) or _below(root, path.parent.relative_to(root) / name)
        if found is None or found.suffix.lower() not in IMAGE_EXTENSIONS:
            raise DataError(f"{path.name} lists {name!r}, which is no image below {root}; correct it.")
        yield found


def _sample(root: Path, image: Path, split: Split) -> Sample:
    return Sample(name=sample_name(root, image), image_path=image, label_path=_label_file(root, image), split=split)


def _label_file(root: Path, image: Path) -> Path:
    """The last folder `images` becomes `labels`; without one the text file lies beside the image."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts)


def _draw(sample: Sample, classes: DrawnClasses) -> Drawing:
    size = read_size(sample.image_path)
    path = sample.label_path
    if not path.exists():
        return Drawing(size=size, shapes=())
    lines = read_lines(path)
    with well_formed(str(path)):
        return Drawing(size=size, shapes=list(_shapes(lines, size, classes)))


def _shapes(lines: list[str], size: Size, classes: DrawnClasses) -> Iterator[DrawnShape]:
    for number, line in enumerate(lines, 1):
        if words := line.split():
            with well_formed(f"line {number}"):
                yield _shape(words, size, classes)


def _shape(words: list[str], size: Size, classes: DrawnClasses) -> DrawnShape:
    key, numbers = int(words[0]), np.array(words[1:], float)
    if len(numbers) == 4:
        raise DataError("a class and 4 numbers are a detection box, not an outline; export the set for segmentation.")
    if len(numbers) % 2:
        raise DataError(f"{len(numbers)} numbers after the class, but x and y come in pairs; draw it once more.")
    if not ((numbers >= -_SLACK) & (numbers <= 1 + _SLACK)).all():
        raise DataError(f"{words[1]}, {words[2]}, ... are no fractions of width and height; export once more.")
    height, width = size
    return Polygon(value=classes.value(key), outline=numbers.reshape(-1, 2) * (width, height))


def can_read(root: Path) -> bool:
    return _description_file(root) is not None
