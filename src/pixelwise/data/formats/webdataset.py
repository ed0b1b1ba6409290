"""WebDataset: tar shards read in place, for datasets that are too large for single files.

    train-000000.tar      0001.jpg  0001.mask.png  0001.json  0002.jpg  0002.mask.png ...
    train-000001.tar
    val-000000.tar        or train/000000.tar, val/000000.tar; or shards without a split

Members with one key are a sample: the name of a member up to the first dot of its last part. Images end in `.jpg`,
`.png`, ... (or `.image.png`), masks in `.mask.png`, `.seg.png` or `.label.png`; other members are not used. One pass
over the headers finds the positions of the members.
"""

import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader, list_folders, prefix_split
from pixelwise.data.formats.folder import can_read as is_folder_dataset
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.io.unread_files import ARRAY_EXTENSIONS
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError
from pixelwise.files import wrap_access_errors

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Names of splits in shards and their folders, as in Hugging Face `datasets`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataShard:
    """A file with many samples."""

    path: Path
    split: Split | None


def find_shards(root: Path, extension: str) -> list[DataShard]:
    """Find the shards in `root` and up to two folders below, sorted, without hidden ones."""
    shards = []
    for path in sorted(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*{extension}")):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            shards.append(DataShard(path=path, split=find_shard_split(parts)))
    return shards


def find_shard_split(parts: Sequence[str]) -> Split | None:
    """Return the split that a path names, in its file name or else in its folders.

    `("data", "train-00000-of-00002.parquet") → "train"`, `("validation", "0000.parquet") → "val"`.
    """
    words = (word for part in reversed(parts) for word in re.split(r"[^a-z]+", part.lower()))
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def select_shards(shards: Sequence[DataShard]) -> tuple[list[DataShard], tuple[Path, ...]]:
    """Separate the shards of splits from the paths of others; without splits, all shards are used."""
    if not any(shard.split for shard in shards):
        return list(shards), ()
    return [s for s in shards if s.split], tuple(s.path for s in shards if not s.split)


LABEL_WORDS = ("mask", "seg", "label", "labels", "masks", "segmentation", "annotation")
IMAGE_WORDS = ("image", "img", "rgb")
MAX_MEMBER_BYTES = 2**31
"""Upper limit for an image file; a damaged header can claim any size."""

MemberRange = tuple[int, int]
"""Offset and size of a member's bytes in its shard."""

_BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def can_read(root: Path) -> bool:
    """Return whether there are shards and no folder without one: shards next to images are their download."""
    shards = [shard.path for extension in (".tar", *_COMPRESSED) for shard in find_shards(root, extension)]
    with_shards = {path.relative_to(root).parts[0] for path in shards}
    folders = {path.name for path in list_folders(root)}
    return bool(shards) and folders <= with_shards and not is_folder_dataset(root)


def find_pairs(root: Path) -> DatasetIndex:
    """Find the pairs of all shards; only headers are read."""
    shards, outside = select_shards(find_shards(root, ".tar"))
    for extension in _COMPRESSED:
        for shard in find_shards(root, extension):
            raise DataError(
                f"{shard.path}: The shard is compressed, so samples cannot be read in place. Decompress it."
            )
    if not shards:
        raise DataError(f"{root} has no .tar file. Give the folder of shards such as train-000000.tar.")
    members: dict[tuple[Path, str], MemberRange] = {}
    pairs: list[tuple[DataShard, str, str, str]] = []
    without_mask, without_image, same_stem = [], [], []
    for shard in shards:
        shard_members = dict(_read_members(shard.path))
        for key, (images, labels) in _group_by_key(shard_members).items():
            paths = [shard.path / entry for entry in (*images, *labels)]
            if len(images) > 1 or len(labels) > 1:
                same_stem += paths
            elif images and labels:
                members |= {(shard.path, entry): shard_members[entry] for entry in (*images, *labels)}
                pairs.append((shard, key, images[0], labels[0]))
            elif images:
                without_mask += paths
            else:
                without_image += paths
    return DatasetIndex(
        samples=tuple(sorted(_make_samples(pairs))),
        images_without_mask=tuple(without_mask),
        masks_without_image=tuple(without_image),
        same_stem=tuple(same_stem),
        outside_splits=outside,
        reader=TarReader(members),
    )


@dataclass(frozen=True, slots=True)
class TarReader(SampleReader):
    """Reads members of shards. Every read opens the shard again, so threads share no position."""

    members: dict[tuple[Path, str], MemberRange]

    def read_image_bytes(self, sample: Sample) -> bytes:
        return self._read(sample.image_path, sample.image_entry)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        return self._read(sample.mask_path, sample.label_entry)

    def _read(self, path: Path, entry: str) -> bytes:
        offset, size = self.members[path, entry]
        with wrap_access_errors(path), path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise DataError(f"{path}: {entry}: The shard ends within this member. Restore the shard.")
        return content


def _read_members(path: Path) -> Iterator[tuple[str, MemberRange]]:
    """Yield name and range of each file in a shard."""
    end, names = 0, set()
    try:
        with wrap_access_errors(path), tarfile.open(path, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{path}: {member.name} is a link or device. Write the shard with regular files.")
                if not 0 <= member.size <= MAX_MEMBER_BYTES:
                    raise DataError(
                        f"{path}: {member.name} claims {member.size:,} bytes, more than an image has. Restore it."
                    )
                if member.name in names:
                    raise DataError(f"{path}: {member.name} occurs twice. Write the shard again.")
                names.add(member.name)
                yield member.name, (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(f"{path}: The shard is not a complete, uncompressed tar file. Restore it.") from error
    with wrap_access_errors(path), path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK).strip(b"\0"):  # a damaged header ends the pass without an error
            raise DataError(
                f"{path}: The shard is damaged at byte {end:,}, so the members after it are lost. Restore it."
            )


def _group_by_key(names: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Group members by their key: its images and its masks."""
    keys: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in names:
        if match := re.fullmatch(r"(?:\./)?((?:.*/)?[^./]+)\.([^/]*)", name):
            kind, _, extension = f".{match[2].lower()}".rpartition(".")
            if f".{extension}" in IMAGE_EXTENSIONS and kind.strip(".") in ("", *IMAGE_WORDS):
                keys[match[1]][0].append(name)
            elif f".{extension}" in IMAGE_EXTENSIONS and kind.strip(".") in LABEL_WORDS:
                keys[match[1]][1].append(name)
    return {key: (_drop_arrays(images), _drop_arrays(labels)) for key, (images, labels) in keys.items()}


def _drop_arrays(names: list[str]) -> list[str]:
    """Drop arrays next to a picture, such as its features."""
    return [name for name in names if not name.lower().endswith(ARRAY_EXTENSIONS)] or names


def _make_samples(pairs: list[tuple[DataShard, str, str, str]]) -> Iterator[Sample]:
    """Make the samples; a key that occurs in several shards of a split is named SHARD/KEY."""
    counts = Counter((shard.split, key) for shard, key, _, _ in pairs)
    for shard, key, image, label in pairs:
        unique_key = key if counts[shard.split, key] == 1 else f"{shard.path.stem}/{key}"
        yield Sample(
            name=prefix_split(shard.split, unique_key),
            image_path=shard.path,
            mask_path=shard.path,
            split=shard.split,
            image_entry=image,
            label_entry=label,
        )
