"""Container files that hold many samples each, and the splits that their names tell."""

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
"""Words that container files and their folders use for the splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One container file."""

    path: Path
    split: Split | None


def find_shards(root: Path, ending: str) -> list[Shard]:
    """Container files of an ending in `root` and up to two folders below, sorted; hidden ones are left out."""
    paths = sorted(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*{ending}") if path.is_file())
    inner = [(path, path.relative_to(root)) for path in paths]
    return [
        Shard(path=path, split=split_named(below.parts))
        for path, below in inner
        if not any(part.startswith(".") for part in below.parts)
    ]


def split_named(parts: Sequence[str]) -> Split | None:
    """The split that a path names, its file before its folders.

    `("data", "train-00000-of-00002.parquet") → "train"`, `("validation", "0000.parquet") → "val"`.
    """
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def used_shards(shards: Sequence[Shard]) -> tuple[list[Shard], tuple[Path, ...]]:
    """Those that are read, and those that no split reads where others name one."""
    if not any(shard.split for shard in shards):
        return list(shards), ()
    return [s for s in shards if s.split], tuple(s.path for s in shards if not s.split)
