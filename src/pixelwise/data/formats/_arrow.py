"""Single values of tables in Arrow and parquet files, the table itself left on disk."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from pixelwise.errors import DataError, missing_extra

MAX_GROUPS = 2
"""Row groups of parquet files kept: one that is read in order, and the one that follows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowFile:
    """A file whose rows are read one by one."""

    path: Path
    num_rows: int
    pictures: tuple[str, ...]
    """Columns of encoded pictures: bytes, or a struct of bytes and path."""
    features: Mapping[str, Any]
    """What `datasets` notes about each column; empty where it noted nothing."""
    value: Callable[[str, int], Any]
    """(column, row) → the plain value. DataError where it cannot be read."""


class RowGroups:
    """The row groups of parquet files last read: a file is read by groups, and mostly in order."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path, group: int, columns: tuple[str, ...]) -> Any:
        with self._lock:  # the threads that wait mostly want the same group
            if (path, group) not in self._kept:
                with _arrow().parquet.ParquetFile(path) as file:
                    self._kept[path, group] = file.read_row_group(group, columns=list(columns), use_threads=False)
            self._kept.move_to_end((path, group))
            while len(self._kept) > MAX_GROUPS:
                self._kept.popitem(last=False)
            return self._kept[path, group]


def open_parquet(path: Path, kept: RowGroups) -> ArrowFile:
    """A parquet file, of which the footer is read. DataError where it is none."""
    with _reading(path, "is no whole parquet file"), _arrow().parquet.ParquetFile(path) as file:
        schema, groups = file.schema_arrow, file.metadata.num_row_groups
        sizes = [file.metadata.row_group(group).num_rows for group in range(groups)]
    pictures = _pictures(schema)
    group_of_row = [(group, row) for group, size in enumerate(sizes) for row in range(size)]

    def value(column: str, row: int) -> Any:
        group, inner = group_of_row[row]
        with _reading(path, f"row {row}: {column}: cannot be read"):
            return kept.get(path, group, pictures).column(column)[inner].as_py()

    return ArrowFile(path=path, num_rows=sum(sizes), pictures=pictures, features=_features(schema), value=value)


def open_arrow(path: Path) -> ArrowFile:
    """A file of `save_to_disk`, mapped into memory, so that only what is used is ever read."""
    pa = _arrow()
    with _reading(path, "is no whole Arrow file"):
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()

    def value(column: str, row: int) -> Any:
        with _reading(path, f"row {row}: {column}: cannot be read"):
            return table.column(column)[row].as_py()

    return ArrowFile(
        path=path,
        num_rows=table.num_rows,
        pictures=_pictures(table.schema),
        features=_features(table.schema),
        value=value,
    )


def _pictures(schema: Any) -> tuple[str, ...]:
    types = _arrow().types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return tuple(field.name for field in schema if holds_bytes(field.type))


def _features(schema: Any) -> Mapping[str, Any]:
    """`datasets` keeps them in the schema's metadata, as JSON."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = noted["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


@contextmanager
def _reading(path: Path, fault: str) -> Iterator[None]:
    """Arrow's errors, which are of many kinds and may have several lines, become ours."""
    try:
        yield
    except (OSError, ValueError, _arrow().ArrowException) as error:
        raise DataError(f"{path}: {fault} ({' '.join(str(error).split())}); restore the file.") from error


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("reading parquet and Arrow files", "pyarrow", "parquet") from error
    return pyarrow
