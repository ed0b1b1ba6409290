from pathlib import Path

import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.file_records import FileRecord, read_file_records, record_files, write_file_records
from pixelwise.errors import DataError
from pixelwise.files import compute_sha256
from support.small_datasets import pairs


def test_files_of_training_and_validation_are_recorded(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train", "val", "test"])
    records = record_files(Dataset.load(data))
    files = [f"{folder}/{split}/{s}.png" for folder in ("images", "masks") for split in ("train", "val") for s in "ab"]
    assert list(records) == files
    for name, record in records.items():
        content = (data / name).read_bytes()
        assert record == FileRecord(len(content), compute_sha256([content]))


def test_records_are_written_and_read_back(tmp_path: Path) -> None:
    records = {"a b.png": FileRecord(3, "aa"), "gr\u00fcn.png": FileRecord(4, "bb")}
    write_file_records(tmp_path / "files.json", records)
    assert read_file_records(tmp_path / "files.json") == records
    assert len((tmp_path / "files.json").read_text().splitlines()) == 4
    assert read_file_records(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["[", "[]", '{"a": 3}', '{"a": {"size": 3}}', '{"a": {"size": "x", "sha256": ""}}'])
def test_a_damaged_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "files.json").write_text(text)
    with pytest.raises(DataError, match=r"files\.json is damaged. Restore or remove it"):
        read_file_records(tmp_path / "files.json")


def test_a_file_matches_by_size_and_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    record = FileRecord(3, compute_sha256([b"abc"]))
    assert record.matches(path)
    path.write_bytes(b"abd")
    assert not record.matches(path)
    path.write_bytes(b"abcd")
    assert not record.matches(path)
    path.unlink()
    assert not record.matches(path)
