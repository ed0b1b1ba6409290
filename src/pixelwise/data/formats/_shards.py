"""Shards, files with many samples each, and the splits in their names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelwise.data.sample import Split

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
