from pathlib import Path

import pytest

from pixelwise.data.formats.webdataset import DataShard, find_shard_split, find_shards, select_shards


def plant(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("parts", "split"),
    [
        (("train-00000-of-00002.parquet",), "train"),
        (("data", "validation-00000-of-00001.parquet"), "val"),
        (("default", "test", "0000.parquet"), "test"),
        (("ade20k_valid_0001.tar",), "val"),
        (("train", "val-000000.tar"), "val"),
        (("trainers.tar",), None),
        (("shard-000000.tar",), None),
    ],
)
def test_names_give_the_split(parts: tuple[str, ...], split: str | None) -> None:
    assert find_shard_split(parts) == split


def test_shards_are_found_up_to_two_folders_deep(tmp_path: Path) -> None:
    names = ["a.tar", "x/b.tar", "x/y/c.tar"]
    plant(tmp_path, *names, "x/y/z/d.tar", ".cache/e.tar", ".f.tar", "g.tar.gz", "h.png")
    (tmp_path / "folder.tar").mkdir()
    assert [shard.path.relative_to(tmp_path).as_posix() for shard in find_shards(tmp_path, ".tar")] == names


def test_shards_without_a_split_are_not_read_next_to_splits(tmp_path: Path) -> None:
    train, other = DataShard(path=tmp_path / "a", split="train"), DataShard(path=tmp_path / "b", split=None)
    assert select_shards([train, other]) == ([train], (other.path,))
    assert select_shards([other]) == ([other], ())
