"""WebDataset: tar shards that are read where they lie, for sets too large to be kept as single files.

    train-000000.tar      0001.jpg  0001.mask.png  0001.json  0002.jpg  0002.mask.png ...
    train-000001.tar
    val-000000.tar        or train/000000.tar, val/000000.tar; without a split, all is one set

A sample is what shares a key: the member's name up to the first dot of its last part. Its image ends
in `.jpg`, `.png`, ... (or `.image.png`), its mask in `.mask.png`, `.seg.png` or `.label.png`; other
members belong to other uses. One pass over the headers finds where each member lies.
"""

import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pixelwise.data.formats._shards import Shard, find_shards, used_shards
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.formats.folder import can_read as is_folder_dataset
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError

LABEL_WORDS = ("mask", "seg", "label", "labels", "masks", "segmentation", "annotation")
IMAGE_WORDS = ("image", "img", "rgb")
MAX_MEMBER_BYTES = 2**31
"""No image file is larger; a damaged header can claim any size."""

_BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a member lie in its shard."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarReader(SampleReader):
    """Reads members of tar files. Every read opens the file again, so threads share no position."""

    places: dict[tuple[Path, str], Place]

    def read_image_bytes(self, sample: Sample) -> bytes:
        return self._read(sample.image_path, sample.image_entry)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        return self._read(sample.label_path, sample.label_entry)

    def _read(self, path: Path, entry: str) -> bytes:
        place = self.places[path, entry]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(place.offset)
                content = file.read(place.size)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); replace or remove it.") from error
        if len(content) < place.size:
            raise DataError(f"{path}: {entry}: the shard ends before it does; restore the shard.")
        return content


def find_pairs(root: Path) -> DatasetIndex:
    """All pairs of all shards; only headers are read. DataError for a shard that is damaged or compressed."""
    shards, outside = used_shards(find_shards(root, ".tar"))
    for ending in _COMPRESSED:
        for shard in find_shards(root, ending):
            raise DataError(f"{shard.path}: is compressed, so that no sample can be found in it; decompress it.")
    if not shards:
        raise DataError(f"{root} holds no .tar file; give the folder of shards such as train-000000.tar.")
    places: dict[tuple[Path, str], Place] = {}
    pairs: list[tuple[Shard, str, str, str]] = []
    odd: dict[str, list[Path]] = defaultdict(list)
    for shard in shards:
        found = dict(_members(shard.path))
        for key, (images, labels) in _by_key(found).items():
            if len(images) == len(labels) == 1:
                places |= {(shard.path, entry): found[entry] for entry in (*images, *labels)}
                pairs.append((shard, key, images[0], labels[0]))
            else:
                odd[_fault(images, labels)] += [shard.path / entry for entry in (*images, *labels)]
    return DatasetIndex(
        samples=tuple(sorted(_samples(pairs))),
        images_without_mask=tuple(odd["no mask"]),
        masks_without_image=tuple(odd["no image"]),
        same_stem=tuple(odd["several"]),
        outside_splits=outside,
        reader=TarReader(places),
    )


def _members(path: Path) -> Iterator[tuple[str, Place]]:
    """Name and place of each file in a shard, by one pass over its headers."""
    end, seen = 0, set()
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if member.isdir():
                    continue
                _require_plain(path, member)
                if member.name in seen:
                    raise DataError(f"{path}: {member.name} occurs twice; write the shard anew.")
                seen.add(member.name)
                yield member.name, Place(member.offset_data, member.size)
        _require_end(path, end)
    except tarfile.TarError as error:
        raise DataError(f"{path}: is no whole, uncompressed tar file ({error}); restore it.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); replace or remove it.") from error


def _require_plain(path: Path, member: tarfile.TarInfo) -> None:
    if not member.isreg() or member.issparse():
        raise DataError(f"{path}: {member.name} is a link or device, no file; write the shard with the files.")
    if not 0 <= member.size <= MAX_MEMBER_BYTES:
        raise DataError(f"{path}: {member.name} claims {member.size:,} bytes, more than an image has; restore it.")


def _require_end(path: Path, end: int) -> None:
    """A damaged header ends the pass without a word; what follows the last member must be zeros or nothing."""
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK).strip(b"\0"):
            raise DataError(f"{path}: is damaged at byte {end:,}, so that what follows is lost; restore it.")


def _by_key(names: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Key → its images and its masks, one of each unless something is wrong."""
    keys: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in names:
        if match := re.fullmatch(r"(?:\./)?((?:.*/)?[^./]+)\.([^/]*)", name):
            kind, _, ending = f".{match[2].lower()}".rpartition(".")
            if f".{ending}" in IMAGE_EXTENSIONS and kind.strip(".") in ("", *IMAGE_WORDS):
                keys[match[1]][0].append(name)
            elif f".{ending}" in IMAGE_EXTENSIONS and kind.strip(".") in LABEL_WORDS:
                keys[match[1]][1].append(name)
    return keys


def _fault(images: list[str], labels: list[str]) -> str:
    if len(images) > 1 or len(labels) > 1:
        return "several"
    return "no mask" if images else "no image"


def _samples(pairs: list[tuple[Shard, str, str, str]]) -> Iterator[Sample]:
    """Keys count within a shard only: one that another shard of its split has too is called SHARD/KEY."""
    times = Counter((shard.split, key) for shard, key, _, _ in pairs)
    for shard, key, image, label in pairs:
        unique = key if times[shard.split, key] == 1 else f"{shard.path.stem}/{key}"
        yield Sample(
            name=f"{shard.split}/{unique}" if shard.split else unique,
            image_path=shard.path,
            label_path=shard.path,
            split=shard.split,
            image_entry=image,
            label_entry=label,
        )


def can_read(root: Path) -> bool:
    """Shards, and no folder without one: a tar file beside folders of images is their download."""
    shards = [shard.path for ending in (".tar", *_COMPRESSED) for shard in find_shards(root, ending)]
    holding = {path.relative_to(root).parts[0] for path in shards}
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return bool(shards) and folders <= holding and not is_folder_dataset(root)
