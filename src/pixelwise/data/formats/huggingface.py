"""Hugging Face `datasets` as folders: parquet shards, or what `save_to_disk` wrote. One row, one pair.

    data/train-00000-of-00002.parquet      train/data-00000-of-00001.arrow    with dataset_dict.json
    data/validation-00000-of-00001.parquet validation/...                     and state.json in each

A column holds the encoded image, another the encoded mask (`image` and `label`, `mask`, `annotation`,
...). Names of the classes come from `id2label.json`, or from a column that lists the classes of each
image. Reading needs pyarrow alone, not `datasets`, which would first copy all of it into a cache.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.data.formats._arrow import ArrowFile, RowGroups, open_arrow, open_parquet
from pixelwise.data.formats._shards import Shard, find_shards, split_named, used_shards
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.formats.folder import can_read as is_folder_dataset
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError

IMAGE_COLUMNS = ("image", "images", "img", "pixel_values", "input")
LABEL_COLUMNS = ("label", "mask", "annotation", "segmentation", "labels", "masks", "annotations", "segmentation_mask")


@dataclass(frozen=True, slots=True)
class RowReader(SampleReader):
    """Reads images and masks from the rows of tables."""

    rows: Mapping[Sample, tuple[ArrowFile, int]]
    image_column: str
    label_column: str

    def read_image_bytes(self, sample: Sample) -> bytes:
        return self._read(sample, self.image_column, sample.image_location)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        return self._read(sample, self.label_column, sample.label_location)

    def _read(self, sample: Sample, column: str, place: str) -> bytes:
        file, row = self.rows[sample]
        value = file.value(column, row)
        content = value.get("bytes") if isinstance(value, Mapping) else value
        if content is None:
            path = value.get("path") if isinstance(value, Mapping) else None
            held = f"only the path {path}" if path else "nothing"
            raise DataError(f"{place}: holds {held}; save the dataset with the bytes of every picture in it.")
        return bytes(content)


def find_pairs(root: Path) -> DatasetIndex:
    """A pair for each row. Footers and descriptions are read, no picture. InvalidArgumentError without pyarrow."""
    saved = _is_saved(root)
    shards, outside = used_shards(_saved_shards(root) if saved else find_shards(root, ".parquet"))
    if not shards:
        raise DataError(f"{root} holds no table; give the folder of parquet files, or the one of dataset_dict.json.")
    kept = RowGroups()
    files = [(shard, open_arrow(shard.path) if saved else open_parquet(shard.path, kept)) for shard in shards]
    image, label = _columns(files[0][1])
    for _, file in files:
        if missing := {image, label} - set(file.pictures):
            raise DataError(f"{file.path} has no column {min(missing)!r} of pictures, but others do; restore it.")
    rows = {sample: (file, row) for sample, file, row in _rows(files, image, label)}
    return DatasetIndex(
        samples=tuple(sorted(rows)),
        outside_splits=outside,
        reader=RowReader(rows, image, label),
        description=_description(root, files[0][1]),
    )


def _rows(files: Sequence[tuple[Shard, ArrowFile]], image: str, label: str) -> Iterator[tuple[Sample, ArrowFile, int]]:
    """Each row with its sample, called by its number in the split."""
    numbers: Counter[Split | None] = Counter()
    for shard, file in files:
        for row in range(file.num_rows):
            number = f"{numbers[shard.split]:06}"
            numbers[shard.split] += 1
            sample = Sample(
                name=f"{shard.split}/{number}" if shard.split else number,
                image_path=shard.path,
                label_path=shard.path,
                split=shard.split,
                image_entry=f"row {row}: {image}",
                label_entry=f"row {row}: {label}",
            )
            yield sample, file, row


def _saved_shards(root: Path) -> list[Shard]:
    """The arrow files that `save_to_disk` lists, in its order."""
    if not (root / "dataset_dict.json").exists():
        return _saved_split(root)
    splits = _json(root / "dataset_dict.json").get("splits")
    if not isinstance(splits, list):
        raise DataError(f"{root / 'dataset_dict.json'} lists no 'splits'; save the dataset again.")
    return [shard for split in splits for shard in _saved_split(root / Path(str(split)).name)]


def _saved_split(folder: Path) -> list[Shard]:
    path = folder / "state.json"
    state = _json(path)
    if state.get("_indices_data_files"):
        raise DataError(f"{path}: is a selection of rows; call flatten_indices() and save the dataset again.")
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and "filename" in file for file in files):
        raise DataError(f"{path} lists no '_data_files'; save the dataset again.")
    split = split_named([str(state.get("_split") or folder.name)])
    return [Shard(path=folder / Path(str(file["filename"])).name, split=split) for file in files]


def _columns(file: ArrowFile) -> tuple[str, str]:
    """The columns of the image and of its mask, by their names."""
    label = next((name for name in LABEL_COLUMNS if name in file.pictures), None)
    others = [name for name in file.pictures if name != label]
    image = next((name for name in IMAGE_COLUMNS if name in others), others[0] if len(others) == 1 else None)
    if label is None or image is None:
        found = ", ".join(file.pictures) or "none"
        raise DataError(
            f"{file.path}: columns of pictures are {found}, but an image and its mask are needed; rename them to "
            f"'image' and to 'label', 'mask', 'annotation' or 'segmentation'."
        )
    return image, label


def _description(root: Path, file: ArrowFile) -> dict[str, Any]:
    path = root / "id2label.json"
    if not path.exists():
        return {"names": names} if (names := _listed_names(file.features)) else {}
    try:
        named = {int(key): str(name) for key, name in _json(path).items()}
    except ValueError as error:
        raise DataError(f"{path} must map mask values to names, as {{'0': 'road'}}; mend it.") from error
    named = {value: named[value] for value in sorted(named) if value >= 0}  # no mask holds -1
    if not named:
        return {}
    return {"names": list(named.values()), "label_mapping": {value: i for i, value in enumerate(named)}}


def _listed_names(features: Mapping[str, Any]) -> list[str]:
    """Names of a column that lists the classes of each image; one class an image is another task's."""
    for feature in features.values():
        inner = feature.get("feature", {}) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and isinstance(inner.get("names"), list):
            return [str(name) for name in inner["names"]]
    return []


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold an object, not {type(values).__name__}; restore it.")
    return values


def can_read(root: Path) -> bool:
    if _is_saved(root):
        return True
    pictures = (root / "images").is_dir() or is_folder_dataset(root)
    return not pictures and bool(find_shards(root, ".parquet"))


def _is_saved(root: Path) -> bool:
    """Whether `save_to_disk` wrote it: several splits, or one."""
    one = (root / "state.json").exists() and (root / "dataset_info.json").exists()
    return one or (root / "dataset_dict.json").exists()
