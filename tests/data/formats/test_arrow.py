from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixelwise.data.formats.huggingface import MAX_GROUPS, RowGroupCache, open_arrow, open_parquet


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """20 rows in 5 groups."""
    pictures = pa.array([{"bytes": b"%d" % row, "path": None} for row in range(20)])
    large = pa.array([b"%d" % row for row in range(20)], pa.large_binary())
    columns = {"image": pictures, "large": large, "name": pa.array(["a"] * 20)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=4)
    return tmp_path / "a.parquet"


def test_values_are_found_in_their_group(file: Path) -> None:
    opened = open_parquet(file, RowGroupCache())
    assert (opened.num_rows, opened.image_columns, opened.features) == (20, ("image", "large"), {})
    assert [opened.read_value("large", row) for row in range(20)] == [b"%d" % row for row in range(20)]
    assert opened.read_value("image", 13) == {"bytes": b"13", "path": None}


def test_few_row_groups_are_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting(pq.ParquetFile):  # type: ignore[misc]
        def read_row_group(self, group: int, **arguments: object) -> pa.Table:
            read.append(group)
            return super().read_row_group(group, **arguments)

    kept = RowGroupCache()
    opened = open_parquet(file, kept)
    monkeypatch.setattr(pq, "ParquetFile", Counting)
    for row in (0, 1, 4, 0, 8, 0, 4):
        opened.read_value("image", row)
    assert read == [0, 1, 2, 1]
    assert kept._read.cache_info().currsize == MAX_GROUPS


@pytest.mark.parametrize("noted", [b"[]", b"{", b"{}", b'{"info": {"features": []}}'])
def test_unreadable_features_are_empty(tmp_path: Path, noted: bytes) -> None:
    rows = pa.table({"image": [b"a"]}).replace_schema_metadata({"huggingface": noted})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_stream(out, rows.schema) as stream:
        stream.write_table(rows)
    opened = open_arrow(tmp_path / "a.arrow")
    assert (opened.features, opened.num_rows, opened.read_value("image", 0)) == ({}, 1, b"a")
