"""Folder pairs: `images/` beside `masks/`, `labels/` or `annotations/`, one file of each stem.

Optionally under `train`, `val`, `test`, either way round:

    images/0001.jpg              images/train/0001.jpg        train/images/0001.jpg
    masks/0001.png               masks/train/0001.png         train/masks/0001.png
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixelwise.data.images import ENDINGS
from pixelwise.data.layouts.pairing import Layout, Pairing
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError

LABEL_FOLDERS = ("masks", "labels", "annotations")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A folder of images and the folder of their masks."""

    images: Path
    labels: Path
    split: Split | None


def find_pairs(root: Path) -> Pairing:
    """All pairs of a folder layout. Nothing is opened; nothing is dropped silently."""
    parts = _parts(root)
    samples: list[Sample] = []
    without_mask: list[Path] = []
    without_image: list[Path] = []
    same_stem: list[Path] = []
    for part in parts:
        images, labels = _by_stem(part.images), _by_stem(part.labels)
        for stem in _ambiguous(images) | _ambiguous(labels):
            for files in (images.pop(stem, []), labels.pop(stem, [])):
                same_stem += files if len(files) > 1 else []
        samples += [_sample(part, s, images[s][0], labels[s][0]) for s in images.keys() & labels.keys()]
        without_mask += [images[stem][0] for stem in images.keys() - labels.keys()]
        without_image += [labels[stem][0] for stem in labels.keys() - images.keys()]
    used = {folder for part in parts for folder in (part.images, part.labels)}
    lying = [path for folder in _all_folders(root, parts) for path in _files(folder)]
    return Pairing(
        samples=tuple(sorted(samples)),
        images_without_mask=tuple(sorted(without_mask)),
        masks_without_image=tuple(sorted(without_image)),
        same_stem=tuple(sorted(same_stem)),
        outside_splits=tuple(p for p in lying if _is_picture(p) and not used & set(p.parents)),
        foreign_files=tuple(p for p in lying if not _is_picture(p)),
    )


def _parts(root: Path) -> list[_Part]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds images/ and masks/.")
    splits = [split for split in SPLITS if (root / split / "images").is_dir()]
    if splits:
        return [_Part(images=root / s / "images", labels=_label_folder(root / s), split=s) for s in splits]
    images = root / "images"
    if not images.is_dir():
        raise DataError(
            f"{root} holds no folder 'images'; put the images into images/ and the masks of the "
            f"same stem into masks/, or use images/train and masks/train."
        )
    labels = _label_folder(root)
    splits = [split for split in SPLITS if (images / split).is_dir()]
    if splits:
        return [_Part(images=images / s, labels=labels / s, split=s) for s in splits]
    return [_Part(images=images, labels=labels, split=None)]


def _label_folder(parent: Path) -> Path:
    found = [parent / name for name in LABEL_FOLDERS if (parent / name).is_dir()]
    if not found:
        raise DataError(f"{parent} holds no folder of masks; name it {' or '.join(LABEL_FOLDERS)}.")
    if len(found) > 1:
        raise DataError(
            f"{parent} holds several folders of masks ({', '.join(p.name for p in found)}); "
            f"keep the one to train on and move the others away."
        )
    return found[0]


def _sample(part: _Part, stem: str, image: Path, label: Path) -> Sample:
    name = f"{part.split}/{stem}" if part.split else stem
    return Sample(name=name, image_path=image, label_path=label, split=part.split)


def _all_folders(root: Path, parts: list[_Part]) -> Iterator[Path]:
    """Every folder that looks like one of images or masks, whether a part reads it or not."""
    parents = [root]
    if parts[0].images.name == "images" and parts[0].split:  # train/images, not images/train
        parents += sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    for parent in parents:
        yield from (parent / n for n in ("images", *LABEL_FOLDERS) if (parent / n).is_dir())


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """Path below the folder without its ending → the files of that stem, one unless they clash."""
    files: dict[str, list[Path]] = {}
    for path in filter(_is_picture, _files(folder)):
        files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


def _ambiguous(files: dict[str, list[Path]]) -> set[str]:
    return {stem for stem, paths in files.items() if len(paths) > 1}


def _files(folder: Path) -> Iterator[Path]:
    """Every file below the folder, sorted; hidden ones are the system's, not the user's."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _recognizes(root: Path) -> bool:
    return any((root / part / "images").is_dir() for part in ("", *SPLITS))


FOLDER = Layout(recognizes=_recognizes, find=find_pairs)
