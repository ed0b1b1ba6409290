"""Reading single values of the tables in Arrow and parquet files, without loading the tables."""

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
"""Number of row groups in memory: the current one and the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowFile:
    """An open table file."""

    path: Path
    num_rows: int
    image_columns: tuple[str, ...]
    """Columns of encoded images or masks: bytes, or a struct of bytes and path."""
    features: Mapping[str, Any]
    """Features of the columns as `datasets` stores them; empty if it stored none."""
    read_value: Callable[[str, int], Any]
    """(column, row) → the plain value; raises DataError."""


class RowGroupCache:
    """The most recent row groups of parquet files, which are read as a whole and mostly in order."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path, group: int, columns: tuple[str, ...]) -> Any:
        """Return a row group, from the cache or the file."""
        with self._lock:  # waiting threads mostly need the same group
            if (path, group) not in self._groups:
                with _arrow().parquet.ParquetFile(path) as file:
                    self._groups[path, group] = file.read_row_group(group, columns=list(columns), use_threads=False)
            self._groups.move_to_end((path, group))
            while len(self._groups) > MAX_GROUPS:
                self._groups.popitem(last=False)
            return self._groups[path, group]


def open_parquet(path: Path, cache: RowGroupCache) -> ArrowFile:
    """Open a parquet file by its footer; raise DataError for other files."""
    with _convert_errors(path, "is not a complete parquet file"), _arrow().parquet.ParquetFile(path) as file:
        schema, groups = file.schema_arrow, file.metadata.num_row_groups
        sizes = [file.metadata.row_group(group).num_rows for group in range(groups)]
    image_columns = _find_image_columns(schema)
    group_of_row = [(group, row) for group, size in enumerate(sizes) for row in range(size)]

    def read_value(column: str, row: int) -> Any:
        group, inner = group_of_row[row]
        with _convert_errors(path, f"row {row}: {column}: cannot be read"):
            return cache.get(path, group, image_columns).column(column)[inner].as_py()

    return ArrowFile(
        path=path,
        num_rows=sum(sizes),
        image_columns=image_columns,
        features=_read_features(schema),
        read_value=read_value,
    )


def open_arrow(path: Path) -> ArrowFile:
    """Open a file of `save_to_disk` as a memory map, so that only used values are read."""
    pa = _arrow()
    with _convert_errors(path, "is not a complete Arrow file"):
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()

    def read_value(column: str, row: int) -> Any:
        with _convert_errors(path, f"row {row}: {column}: cannot be read"):
            return table.column(column)[row].as_py()

    return ArrowFile(
        path=path,
        num_rows=table.num_rows,
        image_columns=_find_image_columns(table.schema),
        features=_read_features(table.schema),
        read_value=read_value,
    )


def _find_image_columns(schema: Any) -> tuple[str, ...]:
    types = _arrow().types

    def has_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and has_bytes(kind.field("bytes").type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return tuple(field.name for field in schema if has_bytes(field.type))


def _read_features(schema: Any) -> Mapping[str, Any]:
    """Read the features that `datasets` stores as JSON in the schema's metadata."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


@contextmanager
def _convert_errors(path: Path, fault: str) -> Iterator[None]:
    """Turn the errors of Arrow into DataError."""
    try:
        yield
    except (OSError, ValueError, _arrow().ArrowException) as error:
        raise DataError(f"{path}: {fault}. Restore the file.") from error


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("reading parquet and Arrow files", "pyarrow", "parquet") from error
    return pyarrow
