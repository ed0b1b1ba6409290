"""The folder that `ignore_masks` in dataset.yaml names: a mask of each image, whose zeros are ignored in the labels.

training/images/21_training.tif        images/train/7.png
training/mask/21_training_mask.gif     valid/train/7.png
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    IndexFault,
    find_images,
    find_split_paths,
    group_by_stem,
    list_folders,
)
from pixelwise.data.formats.pairing import NameGroup, pair_names
from pixelwise.data.io.decoded_image import NO_LABEL
from pixelwise.data.io.images import Array, read_mask
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError


def add_ignore_masks(root: Path, index: DatasetIndex, name: str) -> DatasetIndex:
    """Return the index with the ignore mask of each sample; images without one are a fault."""
    members: dict[Path, list[Sample]] = defaultdict(list)
    for sample in index.samples:
        folder = find_named_folder(root, sample.image_path, name, "ignore_masks")
        members[find_split_paths(list_folders(folder)).get(sample.split or "train", folder)].append(sample)
    groups = {folder: _name_images(samples) for folder, samples in members.items()}
    files = [group_by_stem(folder) for folder in groups]
    found = pair_names([NameGroup(images, masks) for images, masks in zip(groups.values(), files, strict=True)]).masks
    samples = [
        replace(sample, ignore_mask_path=masks[found[number, name][0]][0] if (number, name) in found else None)
        for number, (images, masks) in enumerate(zip(groups.values(), files, strict=True))
        for name, sample in images.items()
    ]
    fault = IndexFault(
        code="no_ignore_mask",
        files=tuple(s.image_path for s in samples if not s.ignore_mask_path),
        noun="image",
        problem=f"without a mask in the folder {name!r} of 'ignore_masks'",
        fix="Add a mask with the same name as the image: 0 where pixels are ignored, 255 elsewhere.",
    )
    faults = (*index.faults, *[fault] * bool(fault.files))
    return replace(index, samples=tuple(sorted(samples, key=lambda s: s.name)), faults=faults)


def _name_images(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Name images by their stem if it is unique, else by the path below their folder."""
    stems = {sample.image_path.stem: sample for sample in samples}
    return stems if len(stems) == len(samples) else {s.name.removeprefix(f"{s.split}/"): s for s in samples}


def find_named_folder(root: Path, path: Path, name: str, key: str) -> Path:
    """Find a folder by its name or path: next to an image or folder, or next to one of the folders above it.

    Raises:
        DataError: There is no such folder.
    """
    for parent in path.parents:
        if parent.is_relative_to(root) and (parent / name).is_dir():
            return parent / name
    folders = dict.fromkeys(image.parent.relative_to(root).as_posix() for image in find_images(root))
    raise DataError(
        f"{key!r} is {name!r}, but there is no such folder in {path.parent}, next to it or above it in the dataset. "
        f"Folders with images: {', '.join(list(folders)[:12])}."
    )


def ignore_pixels(mask: Array, path: Path) -> Array:
    """Replace the values of a mask by `NO_LABEL` where the ignore mask in a file is less than half of its maximum.

    Raises:
        DataError: The ignore mask cannot be read, or has another size.
    """
    valid = read_mask(path)
    valid = valid.max(2) if valid.ndim == 3 else valid
    if valid.shape != mask.shape[:2]:
        raise DataError(
            f"{path} is {valid.shape[0]}x{valid.shape[1]}, but the mask of its image is "
            f"{mask.shape[0]}x{mask.shape[1]} (height x width). Save both with the same size."
        )
    ignored = (valid == 0) | (2 * valid.astype(np.float64) < valid.max())
    wide = mask if mask.dtype.kind == "f" else mask.astype(np.result_type(mask.dtype, np.int32))
    return np.where(ignored[..., None] if mask.ndim == 3 else ignored, NO_LABEL, wide)
