import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixelwise import check
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats import detect_format
from pixelwise.data.io.images import Array, encode_png
from pixelwise.errors import DataError, InvalidArgumentError

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)


def mask(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 3, (6, 8), np.uint8)


def stored(content: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": content, "path": path}


def table(
    seeds: Sequence[int], image: str = "image", label: str = "label", features: Mapping[str, Any] | None = None
) -> pa.Table:
    columns = {
        image: pa.array([stored(encode_png(picture(seed)), f"{seed}.png") for seed in seeds], PICTURE),
        "scene": pa.array([0] * len(seeds)),
        label: pa.array([stored(encode_png(mask(seed))) for seed in seeds], PICTURE),
    }
    noted = {"huggingface": json.dumps({"info": {"features": features or {}}})}
    return pa.table(columns).replace_schema_metadata(noted)


def write_parquet(path: Path, seeds: Sequence[int], rows: int = 100, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(seeds, **more), path, row_group_size=rows)


def write_arrow(folder: Path, seeds: Sequence[int], split: str | None) -> None:
    """A split as `save_to_disk` writes it."""
    folder.mkdir(parents=True)
    rows = table(seeds)
    path = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=2)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def write_saved(root: Path) -> Path:
    write_arrow(root / "train", range(3), "train")
    write_arrow(root / "validation", [3], "validation")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return root


def write_shards(root: Path) -> Path:
    write_parquet(root / "data" / "train-00000-of-00002.parquet", [0, 1], rows=1)
    write_parquet(root / "data" / "train-00001-of-00002.parquet", [2])
    write_parquet(root / "data" / "validation-00000-of-00001.parquet", [3])
    return root


def write_folders(root: Path) -> Path:
    write_parquet(root / "train" / "0000.parquet", [0, 1, 2], rows=2)
    write_parquet(root / "validation" / "0000.parquet", [3])
    return root


def reads_as(dataset: Dataset, number: int, seed: int) -> bool:
    sample = dataset.samples[number]
    same = np.array_equal(dataset.read_image(sample), picture(seed))
    return same and np.array_equal(dataset.read_mask(sample), mask(seed))


@pytest.mark.parametrize("write", [write_shards, write_folders, write_saved])
def test_each_row_is_a_pair(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    dataset = Dataset.load(write(tmp_path))
    assert dataset.format == "huggingface"
    names = [sample.name for sample in dataset.samples]
    assert names == ["train/000000", "train/000001", "train/000002", "val/000000"]
    assert [sample.split for sample in dataset.samples] == ["train", "train", "train", "val"]
    assert all(reads_as(dataset, number, number) for number in range(4))
    assert {finding.severity for finding in check(tmp_path).findings} <= {"note"}


def test_one_saved_split_is_a_set(tmp_path: Path) -> None:
    write_arrow(tmp_path / "saved", range(3), None)
    dataset = Dataset.load(tmp_path / "saved")
    assert [(s.name, s.split) for s in dataset.samples] == [("000000", None), ("000001", None), ("000002", None)]
    assert reads_as(dataset, 2, 2)


@pytest.mark.parametrize("write", [write_folders, write_saved])
def test_many_threads_read_one_set(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    dataset = Dataset.load(write(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: reads_as(dataset, number % 4, number % 4), range(200)))


def test_columns_of_plain_bytes_are_images(tmp_path: Path) -> None:
    columns = {"img": [encode_png(picture(7))], "mask": [encode_png(mask(7))], "id": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    assert reads_as(Dataset.load(tmp_path), 0, 7)


@pytest.mark.parametrize(
    ("image", "label"), [("pixel_values", "label"), ("image", "annotation"), ("photo", "segmentation")]
)
def test_columns_are_found_by_their_names(tmp_path: Path, image: str, label: str) -> None:
    write_parquet(tmp_path / "train.parquet", [4], image=image, label=label)
    dataset = Dataset.load(tmp_path)
    assert (dataset.samples[0].image_entry, dataset.samples[0].label_entry) == (f"row 0: {image}", f"row 0: {label}")
    assert reads_as(dataset, 0, 4)


def test_ambiguous_columns_are_an_error(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [4], label="depth")
    with pytest.raises(DataError, match=r"The image columns are image, depth, .* Rename them to 'image' and"):
        Dataset.load(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"The image columns are none"):
        Dataset.load(tmp_path)


def test_every_file_must_have_the_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0])
    write_parquet(tmp_path / "train-1.parquet", [1], label="mask")
    with pytest.raises(DataError, match=r"train-1.parquet has no column 'label' of images"):
        Dataset.load(tmp_path)


def test_names_come_from_id2label(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "id2label.json").write_text('{"2": "sky", "0": "road", "1": "tree", "-1": "plate"}')
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert (classes.names, classes.label_mapping) == (("road", "tree", "sky"), {0: 0, 1: 1, 2: 2})


def test_ids_with_gaps_are_mapped(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "id2label.json").write_text('{"0": "road", "7": "tree"}')
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert classes.label_mapping == {0: 0, 7: 1}
    assert classes.ignore == (255,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must contain a JSON object"),
        ('{"road": 0}', "must map mask values to names"),
        ("{", "The file is not valid JSON .*. Write or export it again"),
    ],
)
def test_a_wrong_id2label_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    write_shards(tmp_path)
    (tmp_path / "id2label.json").write_text(text)
    with pytest.raises(DataError, match=rf"id2label.json\S* {message}"):
        Dataset.load(tmp_path)


def test_an_empty_id2label_names_no_classes(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "id2label.json").write_text("{}")
    assert Dataset.load(tmp_path).declared_classes is None


def test_names_come_from_the_column_that_lists_the_classes_of_an_image(tmp_path: Path) -> None:
    scene = {"_type": "ClassLabel", "names": ["street", "park"]}
    listed = {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": ["road", "sky", "tree"]}}
    write_parquet(tmp_path / "train.parquet", [0, 1], features={"scene": scene})
    assert Dataset.load(tmp_path).declared_classes is None  # of the image as a whole: another task
    write_parquet(tmp_path / "train.parquet", [0, 1], features={"scene": scene, "classes": listed})
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert classes.names == ("road", "sky", "tree")


def test_shards_without_a_split_are_listed(tmp_path: Path) -> None:
    write_shards(tmp_path)
    write_parquet(tmp_path / "data" / "extra.parquet", [9])
    assert Dataset.load(tmp_path).index.outside_splits == (tmp_path / "data" / "extra.parquet",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (stored(b"no picture"), "The file is not an image of a known format"),
        (stored(b""), "The file is empty"),
        (stored(None, "b.png"), r"The column contains only the path b.png. Save the dataset with the bytes"),
        (stored(None), "The column contains no image. Save the dataset with the bytes"),
        (None, "The column contains no image. Save the dataset with the bytes"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, content: dict[str, Any] | None, message: str) -> None:
    rows = table([0, 1, 2]).to_pylist()
    rows[1]["label"] = content
    schema = pa.schema([("image", PICTURE), ("label", PICTURE)])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "train.parquet")
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DataError, match=f"train.parquet: row 1: label: {message}"):
        dataset.read_mask(dataset.samples[1])
    assert reads_as(dataset, 2, 2)
    assert [finding.code for finding in check(tmp_path).errors] == ["unreadable_mask"]


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path, range(40))
    content = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DataError, match=r"train.parquet: row 3: image: cannot be read. Restore the file"):
        dataset.read_image(dataset.samples[3])


def test_a_file_that_is_not_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"train.parquet: The file is not a complete parquet file. Restore the file"):
        Dataset.load(tmp_path)


def test_a_file_that_is_not_arrow_is_an_error(tmp_path: Path) -> None:
    path = write_saved(tmp_path) / "train" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"is not a complete Arrow file. Restore the file"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset_dict.json", "{}", r"dataset_dict.json lists no 'splits'. Save the dataset again"),
        ("train/state.json", "{}", r"state.json lists no '_data_files'. Save the dataset again"),
        ("train/state.json", '{"_indices_data_files": [{}]}', r"is a selection of rows. Call flatten_indices\(\)"),
    ],
)
def test_a_wrong_description_is_an_error(tmp_path: Path, name: str, text: str, message: str) -> None:
    (write_saved(tmp_path) / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Dataset.load(tmp_path)


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tables. Give the folder of parquet files"):
        Dataset.load(tmp_path, "huggingface")


def test_tables_next_to_image_folders_are_not_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_parquet(tmp_path / "metadata.parquet", [0])
    assert detect_format(tmp_path) == "folder"


def test_missing_pyarrow_is_an_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgumentError, match=r'needs pyarrow, .*: pip install "pixelwise\[parquet\]"'):
        Dataset.load(tmp_path)
