"""Hugging Face `datasets` as files: parquet shards, or the output of `save_to_disk`. One row is one pair.

    data/train-00000-of-00002.parquet      train/data-00000-of-00001.arrow    with dataset_dict.json
    data/validation-00000-of-00001.parquet validation/...                     and state.json in each

One column contains encoded images, another encoded masks (`image` and `label`, `mask`, `annotation`, ...). Names of
classes are from `id2label.json`, or from a column that lists the classes of each image. Only pyarrow is needed;
`datasets` would first copy everything into a cache.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats._documents import get_text, locate_errors
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader, prefix_split
from pixelwise.data.formats.folder import can_read as is_folder_dataset
from pixelwise.data.formats.webdataset import DataShard, find_shard_split, find_shards, select_shards
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError, explain_missing_extra
from pixelwise.files import read_json

IMAGE_COLUMNS = ("image", "images", "img", "pixel_values", "input")
LABEL_COLUMNS = ("label", "mask", "annotation", "segmentation", "labels", "masks", "annotations", "segmentation_mask")
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
        self._read = lru_cache(MAX_GROUPS)(_read_row_group)
        self._lock = Lock()

    def get(self, path: Path, group: int, columns: tuple[str, ...]) -> Any:
        """Return a row group, from the cache or the file."""
        with self._lock:  # waiting threads mostly need the same group
            return self._read(path, group, columns)


def _read_row_group(path: Path, group: int, columns: tuple[str, ...]) -> Any:
    with _arrow().parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=list(columns), use_threads=False)


def can_read(root: Path) -> bool:
    if _is_saved(root):
        return True
    has_image_files = (root / "images").is_dir() or is_folder_dataset(root)
    return not has_image_files and bool(find_shards(root, ".parquet"))


def find_pairs(root: Path) -> DatasetIndex:
    """Find the rows; only footers and descriptions are read. InvalidArgumentError without pyarrow."""
    is_saved = _is_saved(root)
    shards, outside = select_shards(_read_saved_shards(root) if is_saved else find_shards(root, ".parquet"))
    if not shards:
        raise DataError(f"{root} has no tables. Give the folder of parquet files or of dataset_dict.json.")
    cache = RowGroupCache()
    files = [(shard, open_arrow(shard.path) if is_saved else open_parquet(shard.path, cache)) for shard in shards]
    image, label = _find_columns(files[0][1])
    for _, file in files:
        if missing := {image, label} - set(file.image_columns):
            raise DataError(f"{file.path} has no column {min(missing)!r} of images, but other files do. Restore it.")
    rows = list(_iterate_rows(files, image, label))
    return DatasetIndex(
        samples=tuple(sorted(sample for sample, _, _ in rows)),
        outside_splits=outside,
        reader=RowReader({(s.image_path, s.image_entry): (file, row) for s, file, row in rows}, image, label),
        description=_describe(root, files[0][1]),
    )


@dataclass(frozen=True, slots=True)
class RowReader(SampleReader):
    """Reads images and masks from the rows of tables."""

    rows: Mapping[tuple[Path, str], tuple[ArrowFile, int]]
    """File and entry of a sample's image → its table and row."""
    image_column: str
    label_column: str

    def read_image_bytes(self, sample: Sample) -> bytes:
        return self._read(sample, self.image_column, sample.image_location)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        return self._read(sample, self.label_column, sample.mask_location)

    def _read(self, sample: Sample, column: str, place: str) -> bytes:
        file, row = self.rows[sample.image_path, sample.image_entry]
        value = file.read_value(column, row)
        content = value.get("bytes") if isinstance(value, Mapping) else value
        if content is None:
            path = value.get("path") if isinstance(value, Mapping) else None
            stored = f"only the path {path}" if path else "no image"
            raise DataError(
                f"{place}: The column contains {stored}. Save the dataset with the bytes of every image in it."
            )
        return bytes(content)


def _is_saved(root: Path) -> bool:
    """Return whether `save_to_disk` wrote the folder, with one split or with several."""
    has_one_split = (root / "state.json").exists() and (root / "dataset_info.json").exists()
    return has_one_split or (root / "dataset_dict.json").exists()


def _read_saved_shards(root: Path) -> list[DataShard]:
    """Read the arrow files that `save_to_disk` lists, in its order."""
    path = root / "dataset_dict.json"
    if not path.exists():
        return _read_saved_split(root)
    splits = _read_object(path).get("splits")
    if not isinstance(splits, list):
        raise DataError(f"{path} lists no 'splits'. Save the dataset again.")
    return [shard for split in splits for shard in _read_saved_split(root / Path(str(split)).name)]


def _read_saved_split(folder: Path) -> list[DataShard]:
    path = folder / "state.json"
    state = _read_object(path)
    if state.get("_indices_data_files"):
        raise DataError(f"{path}: The split is a selection of rows. Call flatten_indices() and save the dataset again.")
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and "filename" in file for file in files):
        raise DataError(f"{path} lists no '_data_files'. Save the dataset again.")
    split = find_shard_split([str(state.get("_split") or folder.name)])
    return [DataShard(path=folder / Path(str(file["filename"])).name, split=split) for file in files]


def _iterate_rows(
    files: Sequence[tuple[DataShard, ArrowFile]], image: str, label: str
) -> Iterator[tuple[Sample, ArrowFile, int]]:
    """Yield each row with its sample, which is named by its number in the split."""
    numbers: Counter[Split | None] = Counter()
    for shard, file in files:
        for row in range(file.num_rows):
            sample = Sample(
                name=prefix_split(shard.split, f"{numbers[shard.split]:06}"),
                image_path=shard.path,
                mask_path=shard.path,
                split=shard.split,
                image_entry=f"row {row}: {image}",
                label_entry=f"row {row}: {label}",
            )
            numbers[shard.split] += 1
            yield sample, file, row


def _find_columns(file: ArrowFile) -> tuple[str, str]:
    """Find the columns of images and masks by their names."""
    label = next((name for name in LABEL_COLUMNS if name in file.image_columns), None)
    others = [name for name in file.image_columns if name != label]
    image = next((name for name in IMAGE_COLUMNS if name in others), others[0] if len(others) == 1 else None)
    if label is None or image is None:
        found = ", ".join(file.image_columns) or "none"
        raise DataError(
            f"{file.path}: The image columns are {found}, but an image and its mask are needed. Rename them to "
            f"'image' and to 'label', 'mask', 'annotation' or 'segmentation'."
        )
    return image, label


def _describe(root: Path, file: ArrowFile) -> DatasetDescription:
    path = root / "id2label.json"
    if not path.exists():
        return DatasetDescription(names=tuple(_find_class_names(file.features)) or None)
    try:
        listed = _read_object(path)
        with locate_errors(path):
            names_of = {int(key): get_text(listed, key) for key in listed}
    except ValueError as error:
        raise DataError(f"{path} must map mask values to names, such as {{'0': 'road'}}. Correct it.") from error
    names_of = {value: names_of[value] for value in sorted(names_of) if value >= 0}  # no mask contains -1
    if not names_of:
        return DatasetDescription()
    return DatasetDescription(
        names=tuple(names_of.values()), label_mapping={value: i for i, value in enumerate(names_of)}
    )


def _find_class_names(features: Mapping[str, Any]) -> list[str]:
    """Return the names of a column that lists several classes per image; one class is for image classification."""
    for feature in features.values():
        inner = feature.get("feature", {}) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and isinstance(inner.get("names"), list):
            return [str(name) for name in inner["names"]]
    return []


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f'{path} must contain a JSON object, such as {{"a": 1}}. Restore it.')
    return values


def open_parquet(path: Path, cache: RowGroupCache) -> ArrowFile:
    """Open a parquet file by its footer; raise DataError for other files."""
    with _convert_errors(path, "The file is not a complete parquet file"), _arrow().parquet.ParquetFile(path) as file:
        schema, groups = file.schema_arrow, file.metadata.num_row_groups
        sizes = [file.metadata.row_group(group).num_rows for group in range(groups)]
    image_columns = _find_image_columns(schema)
    group_of_row = [(group, row) for group, size in enumerate(sizes) for row in range(size)]

    def get_cell(column: str, row: int) -> Any:
        group, inner = group_of_row[row]
        return cache.get(path, group, image_columns).column(column)[inner]

    return _make_file(path, schema, sum(sizes), get_cell)


def open_arrow(path: Path) -> ArrowFile:
    """Open a file of `save_to_disk` as a memory map, so that only used values are read."""
    pa = _arrow()
    with _convert_errors(path, "The file is not a complete Arrow file"):
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    return _make_file(path, table.schema, table.num_rows, lambda column, row: table.column(column)[row])


def _make_file(path: Path, schema: Any, num_rows: int, get_cell: Callable[[str, int], Any]) -> ArrowFile:
    """Make a file from a function that returns a value of Arrow."""

    def read_value(column: str, row: int) -> Any:
        with _convert_errors(path, f"row {row}: {column}: cannot be read"):
            return get_cell(column, row).as_py()

    columns, features = _find_image_columns(schema), _read_features(schema)
    return ArrowFile(path=path, num_rows=num_rows, image_columns=columns, features=features, read_value=read_value)


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
    with explain_missing_extra("reading parquet and Arrow files", "pyarrow", "parquet"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow
