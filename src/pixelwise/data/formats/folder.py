"""Folders of images and masks, paired by their names; masks may also be in the folder of the images.

    images/0001.jpg          images/train/0001.jpg      train/images/0001.jpg     train/0001.jpg
    masks/0001.png           masks/train/0001.png       train/masks/0001.png      train_labels/0001.png

`pairing` says which names belong together. All of this may be in one more folder, or in several.
"""

import csv
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pixelwise.data.classes import mask_values
from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SampleReader,
    SplitFiles,
    find_foreign_files,
    find_images,
    find_images_outside,
    find_split_paths,
    group_by_stem,
    list_folders,
    pair_files,
    parse_class_colors,
    read_class_names,
    read_lines,
    require_folder,
)
from pixelwise.data.formats.ignore_masks import find_named_folder
from pixelwise.data.formats.pairing import MIN_COVERAGE, NameGroup, Pairing, find_masks_among, pair_names
from pixelwise.data.io.images import IMAGE_EXTENSIONS, TYPE_NAMES, Array, read_mask
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError, PathAccessError
from pixelwise.files import READ_ERRORS

IMAGE_FOLDERS = ("images", "image", "img_dir", "imgs", "img", "original", "originals")
LABEL_FOLDERS = (
    *("masks", "labels", "annotations", "mask", "label", "ann_dir", "ground truth", "ground_truth", "groundtruth"),
    *("gt", "gts", "segmentation", "segmentations"),
)
MANUAL_FOLDERS = ("1st_manual", "manual1", "manual")
"""Masks drawn by experts, preferred to others: next to them, `mask` shows the field of view."""
LABEL_SUFFIXES = ("_labels", "_masks", "_label", "_mask", "_annotations", "_annot", "annot", "_gt")
"""Suffixes of a folder with the masks of a folder such as `train`."""
_LOSSY = (".jpg", ".jpeg", ".webp")
"""Extensions of photos, never of masks."""
_MAX_DEPTH = 3
"""Number of folders between a dataset and its folders of images."""
_Files = dict[str, list[Path]]
"""Name → its files; more than one if the name is ambiguous."""


def can_read(root: Path) -> bool:
    try:
        return bool(_find_folders(root))
    except READ_ERRORS:
        return False


def find_pairs(root: Path, masks: str | None = None) -> DatasetIndex:
    """Find all samples, with their masks in the folder `masks` if it is given."""
    pairs = _choose_labels(root, masks) if masks else _find_folders(root)
    used = {folder for pair in pairs for folder in (pair.images, pair.labels)}
    files = [_list_files(pair) for pair in pairs]
    if all(
        pair.prefix and len(images) == 1 for pair, (images, _) in zip(pairs, files, strict=True)
    ):  # each image has a folder with its masks
        files = [
            ({pair.prefix[:-1]: paths for paths in images.values()}, labels)
            for pair, (images, labels) in zip(pairs, files, strict=True)
        ]
    pairing = pair_names([NameGroup(images, labels) for images, labels in files])
    parts = [
        _apply_pairing(pairing, index, images, labels, pair.split)
        for index, (pair, (images, labels)) in enumerate(zip(pairs, files, strict=True))
    ]
    classes = ("background", *sorted(set(pairing.class_of.values())))
    values = {
        path: classes.index(pairing.class_of[name])
        for _, labels in files
        for name in labels.keys() & pairing.class_of.keys()
        for path in labels[name]
    }
    index = pair_files(parts)
    return replace(
        index,
        outside_splits=find_images_outside(dict.fromkeys(_find_known_folders(pairs)), used),
        foreign_files=tuple(path for path in find_foreign_files(sorted(used)) if path.parent != root),
        pairing_notes=tuple(_describe_pairing(index, pairing)),
        pairing_hint=_describe_suggestion(pairing, files),
        reader=MaskFilesReader(values) if any(part.more_labels for part in parts) or values else SampleReader(),
        description=DatasetDescription(names=classes, labels="found", coding="index") if values else _describe(root),
    )


@dataclass(frozen=True)
class MaskFilesReader(SampleReader):
    """Reads masks from one file, or from several that are joined."""

    class_values: Mapping[Path, int]
    """Mask value of the only class in a file; empty if files have the values of all classes."""

    def read_mask(self, sample: Sample) -> Array:
        """Read the mask. Of overlapping classes, the one with fewer pixels in the image is on top."""
        if not self.class_values and not sample.more_mask_paths:
            return super().read_mask(sample)
        masks = {path: self._read_file(path) for path in (sample.mask_path, *sample.more_mask_paths)}
        shape = masks[sample.mask_path].shape
        for path, mask in masks.items():
            if mask.shape != shape:
                raise DataError(
                    f"{path}: The mask is {mask.shape[0]}x{mask.shape[1]}, but {sample.mask_path.name} of the same "
                    f"image is {shape[0]}x{shape[1]} (height x width). Save all masks of an image with the same size."
                )
        if not self.class_values:
            return np.asarray(np.maximum.reduce(list(masks.values())))
        regions: dict[int, Array] = defaultdict(lambda: np.zeros(shape, bool))
        for path, mask in masks.items():
            regions[self.class_values[path]] |= mask > 0
        values = np.zeros(shape, np.uint8 if len(set(self.class_values.values())) < 255 else np.uint16)
        for value, region in sorted(regions.items(), key=lambda item: -np.count_nonzero(item[1])):
            values[region] = value
        return values

    def _read_file(self, path: Path) -> Array:
        try:
            mask = mask_values(read_mask(path), "index")
        except DataError as error:
            raise DataError(str(error).replace(f"{path}: ", "")) from error
        if self.class_values and not ((mask == 0) | (mask == mask.max())).all():
            raise DataError(
                f"{path}: The mask has more than two values, but each class has masks of its own. Save it with 0 and "
                f"255, or move masks of another kind away."
            )
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class _FolderPair:
    """A folder of images and the folder of their masks, which may be the same."""

    images: Path
    labels: Path
    """May not exist for a test split, which is then unlabeled."""
    split: Split | None
    prefix: str = ""
    """Start of the names, where the dataset consists of several folders with images and masks each."""


def _find_folders(root: Path, depth: int = _MAX_DEPTH) -> list[_FolderPair]:
    """Find the folders of images and masks of each split, or of each folder below, down to a depth."""
    require_folder(root)
    folders = list_folders(root)
    splits = find_split_paths(folders)
    if inner := {split: images for split, folder in splits.items() if (images := _find_folder(folder, IMAGE_FOLDERS))}:
        return [
            _FolderPair(images=images, labels=_find_labels(images, split), split=split)
            for split, images in inner.items()
        ]
    if images := _find_folder(root, IMAGE_FOLDERS):
        labels = _find_labels(images)
        image_splits, label_splits = (find_split_paths(list_folders(_unwrap(path))) for path in (images, labels))
        return [  # folders of masks may use other names of the splits
            _FolderPair(images=path, labels=label_splits.get(split, _unwrap(labels) / path.name), split=split)
            for split, path in image_splits.items()
        ] or [_FolderPair(images=_unwrap(images), labels=_unwrap(labels), split=None)]
    for suffix in LABEL_SUFFIXES:
        labels_of = {folder: folder.with_name(folder.name + suffix) for folder in splits.values()}
        if any(labels.is_dir() for labels in labels_of.values()):
            return [_FolderPair(images=path, labels=labels_of[path], split=split) for split, path in splits.items()]
    if any(_has_masks(folder) for folder in splits.values()):
        return [_FolderPair(images=folder, labels=folder, split=split) for split, folder in splits.items()]
    if not _has_images(root) and depth and (deeper := _find_folders_below(folders, depth - 1)):
        return deeper
    if _has_masks(root):
        return [_FolderPair(images=root, labels=root, split=None)]
    if depth == _MAX_DEPTH and (pictures := _describe_pictures(root)):
        raise DataError(
            f"{root} has no folder 'images'. {pictures} Rename the folder of the images to 'images' and that of the "
            f"masks to 'masks', or name only the latter with --masks."
        )
    raise DataError(
        f"{root} contains no images ({TYPE_NAMES}). Expected images in images/ and masks of the same names in masks/, "
        f"or in images/train, images/val, masks/train and masks/val."
    )


def _describe_pictures(root: Path) -> str:
    """Return `Folders with pictures: Photos (12), Labels (12).`; empty if there are none."""
    counts = Counter(image.parent.relative_to(root).as_posix() for image in find_images(root))
    folders = [("the folder itself" if name == "." else name, count) for name, count in sorted(counts.items())]
    shown = ", ".join(f"{name} ({count})" for name, count in folders[:8])
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return f"Folders with pictures: {shown}{more}." if counts else ""


def _choose_labels(root: Path, masks: str) -> list[_FolderPair]:
    """Find the folders of images, and for each the folder `masks` next to it or to a folder above."""
    require_folder(root)
    folders = list_folders(root)
    splits = find_split_paths(folders)
    inner = {split: _find_folder(folder, IMAGE_FOLDERS) or folder for split, folder in splits.items()}
    outer = _find_folder(root, IMAGE_FOLDERS)
    if outer and not splits:
        inner = find_split_paths(list_folders(_unwrap(outer)))
    others = [f for f in folders if f.name != Path(masks).parts[0] and next(find_images(f), None)]
    images = outer or (others[0] if len(others) == 1 and not _has_images(root) else root)
    pairs = []
    for split, path in inner.items() if inner else [(None, _unwrap(images))]:
        labels = find_named_folder(root, path / "image", masks, "masks")
        labels = find_split_paths(list_folders(_unwrap(labels))).get(split or "train", _unwrap(labels))
        pairs.append(_FolderPair(images=path, labels=labels, split=split))
    return pairs


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_EXTENSIONS for path in folder.iterdir())


def _find_folders_below(folders: Sequence[Path], depth: int) -> list[_FolderPair]:
    """Find the pairs of folders in `folders`; their names start the names of samples if there are several."""
    found: dict[Path, list[_FolderPair]] = {}
    for folder in folders:
        try:
            found[folder] = _find_folders(folder, depth)
        except (DataError, PathAccessError):
            continue  # a folder of something else, or of another user
    if len(found) == 1:
        return next(iter(found.values()))
    return [replace(pair, prefix=f"{folder.name}/{pair.prefix}") for folder, pairs in found.items() for pair in pairs]


def _find_folder(parent: Path, names: Sequence[str]) -> Path | None:
    """Find the first of the folders with one of these names, in any case."""
    folders = {path.name.lower(): path for path in reversed(list_folders(parent))}
    return next((folders[name] for name in names if name in folders), None)


def _find_labels(images: Path, split: Split | None = None) -> Path:
    """Find the folder of masks next to a folder of images; that of a test split may not exist."""
    parent = images.parent
    if manual := _find_folder(parent, MANUAL_FOLDERS):
        return manual
    found = [folder for name in LABEL_FOLDERS if (folder := _find_folder(parent, [name]))]
    if len(found) > 1:  # such as masks/*.png and annotations/*.xml
        found = [folder for folder in found if any(find_images(folder))] or found
    if len(found) > 1:
        raise DataError(
            f"{parent} contains several mask folders ({', '.join(p.name for p in found)}). "
            f"Choose one with --masks {found[0].name}."
        )
    if found or _has_masks(images):
        return found[0] if found else images
    if split == "test":
        return parent / LABEL_FOLDERS[0]
    raise DataError(
        f"{parent} contains no mask folder. {_describe_pictures(parent)} Name the folder of the masks "
        f"{' or '.join(LABEL_FOLDERS[:3])}, or choose it with --masks."
    )


def find_mask_folder(folder: Path) -> Path | None:
    """Return the folder of masks, next to one of images, that a folder is or is in; None if there is none."""
    for path in (folder, *folder.parents[:2]):
        name = path.name.lower()
        if (name in LABEL_FOLDERS or name.endswith(LABEL_SUFFIXES)) and _find_folder(path.parent, IMAGE_FOLDERS):
            return path
    return None


def _unwrap(folder: Path) -> Path:
    """Return the folder of the same name that a folder may hold, as in `images/images`."""
    inner = _find_folder(folder, [folder.name.lower()])
    return _unwrap(inner) if inner else folder


def _has_masks(folder: Path) -> bool:
    return bool(_separate_masks(group_by_stem(folder))[1])


def _find_known_folders(pairs: list[_FolderPair]) -> Iterator[Path]:
    """Yield every folder with a name of images or masks next to those of splits, read or not."""
    parents = {pair.images.parent for pair in pairs}
    for pair in pairs:
        is_inner, is_outer = (path.name.lower() in IMAGE_FOLDERS for path in (pair.images, pair.images.parent))
        if pair.split and not (is_inner or is_outer):  # train/0001.jpg
            yield from list_folders(pair.images.parent)
        elif pair.split:
            top = pair.images.parent.parent
            for path in (path for parent in [top, *is_inner * list_folders(top)] for path in list_folders(parent)):
                is_label = path.name.lower() in LABEL_FOLDERS and path.parent not in parents
                if is_label or path.name.lower() in IMAGE_FOLDERS:
                    yield path


def _list_files(pair: _FolderPair) -> tuple[_Files, _Files]:
    """List the images and the masks of a pair of folders by name."""
    images, labels = group_by_stem(pair.images), group_by_stem(pair.labels)
    if pair.images == pair.labels:
        images, labels = _separate_masks(images)
    elif pair.labels.is_relative_to(pair.images):
        images = {n: paths for n, paths in images.items() if not paths[0].is_relative_to(pair.labels)}
    for name, paths in list(images.items()):
        full_names = [name + path.suffix for path in paths]
        if len(paths) > 1 and all(full_name in labels for full_name in full_names):  # masks a.jpg.png and a.png.png
            del images[name]
            images |= {full_name: [path] for full_name, path in zip(full_names, paths, strict=True)}
    prefixed = [{pair.prefix + name: paths for name, paths in files.items()} for files in (images, labels)]
    return prefixed[0], prefixed[1]


def _separate_masks(files: _Files) -> tuple[_Files, _Files]:
    """Separate images and masks of one folder: by their names, or photos from files of the same name."""
    if masks := find_masks_among(files):
        return {n: paths for n, paths in files.items() if n not in masks}, {n: files[n] for n in masks}
    photos = {n: [path for path in paths if path.suffix.lower() in _LOSSY] for n, paths in files.items()}
    others = {n: [path for path in paths if path not in photos[n]] for n, paths in files.items()}
    num_pairs = sum(len(photos[name]) == len(others[name]) == 1 for name in files)
    if not files or num_pairs < MIN_COVERAGE * len(files):
        return files, {}
    return {n: paths for n, paths in photos.items() if paths}, {n: paths for n, paths in others.items() if paths}


def _apply_pairing(pairing: Pairing, index: int, images: _Files, labels: _Files, split: Split | None) -> SplitFiles:
    """Give masks the names of their images; a mask without an image keeps its name."""
    renamed: dict[str, list[Path]] = {}
    more_labels: dict[Path, tuple[Path, ...]] = {}
    left = set(labels)
    for key, names in itertools.chain(pairing.masks.items(), pairing.rivals.items()):
        if key[0] != index:
            continue
        paths = [path for name in names for path in labels[name]]
        if key in pairing.masks and len(paths) == len(names):
            if len(paths) > 1:
                more_labels[paths[0]] = tuple(paths[1:])
            paths = paths[:1]
        renamed[key[1]] = paths
        left.difference_update(names)
    for name in left:
        renamed[name] = [*renamed.get(name, ()), *labels[name]]
    return SplitFiles(images=images, labels=renamed, split=split, more_labels=more_labels)


def _describe_pairing(context: DatasetIndex, pairing: Pairing) -> Iterator[str]:
    """Describe what is not obvious about the names of pairs."""
    guessed = next(iter(context.samples), None)
    if pairing.is_guessed and not pairing.class_of and guessed:
        pair = f"{guessed.image_path.name} with {guessed.mask_path.name}"
        yield f"Images and masks have different names and were paired by one pattern, such as {pair}."
    if pairing.class_of:
        classes = ", ".join(sorted(set(pairing.class_of.values())))
        yield f"Each class has masks of its own: {classes}. Where classes overlap, the smaller region is on top."
    elif joined := [sample for sample in context.samples if sample.more_mask_paths]:
        files = " and ".join(path.name for path in joined[0].paths[1:3])
        yield f"Several masks of an image are joined, such as {files}. Images with several masks: {len(joined)}."


def _describe_suggestion(pairing: Pairing, files: Sequence[tuple[_Files, _Files]]) -> str:
    if pairing.suggestion is None:
        return ""
    count, image, mask = pairing.suggestion
    names = [
        next(found[name][0].name for found in groups if name in found)
        for groups, name in (([images for images, _ in files], image), ([labels for _, labels in files], mask))
    ]
    total = sum(len(images) for images, _ in files)
    return (
        f"The best pattern in the names, such as {names[0]} with {names[1]}, pairs {count} of {total} images; "
        f"{100 * MIN_COVERAGE:.0f} % are needed."
    )


def _describe(root: Path) -> DatasetDescription:
    """Describe the classes by the names in codes.txt, or the names and colors in class_dict.csv."""
    if (root / "codes.txt").is_file():
        return DatasetDescription(names=tuple(read_class_names(root / "codes.txt")))
    path = root / "class_dict.csv"
    if path.is_file():
        return parse_class_colors(path, read_lines(path)[1:], _split_row, "name,r,g,b")
    return DatasetDescription()


def _split_row(line: str) -> tuple[str, list[str]]:
    name, *color = next(csv.reader([line]))
    return name, color[:3]
