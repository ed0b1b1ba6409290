"""Record the files of a dataset by size and checksum, to recognize the same dataset later."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from pixelwise.data.dataset import Dataset
from pixelwise.errors import DataError
from pixelwise.files import compute_file_sha256, write_atomically


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Return whether a file has this content; it is read only if it has this size."""
        return path.is_file() and path.stat().st_size == self.size and compute_file_sha256(path) == self.sha256


def record_files(dataset: Dataset) -> dict[str, FileRecord]:
    """Return the record of each file used for training or validation, by its path relative to the dataset."""
    paths = {path for s in dataset.samples if s.split != "test" for path in s.paths}
    files = [path for path in sorted(paths) if path.is_file()]
    with ThreadPoolExecutor(max_workers=4) as pool:
        checksums = list(pool.map(compute_file_sha256, files))
    return {
        dataset.get_relative_path(path): FileRecord(path.stat().st_size, checksum)
        for path, checksum in zip(files, checksums, strict=True)
    }


def write_file_records(path: Path, records: Mapping[str, FileRecord]) -> None:
    """Write `files.json`, one file a line."""
    lines = [f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(asdict(r))}" for name, r in records.items()]
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_file_records(path: Path) -> dict[str, FileRecord] | None:
    """Read `files.json`; None if it does not exist.

    Raises:
        DataError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {name: FileRecord(int(r["size"]), str(r["sha256"])) for name, r in listed.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged. Restore or remove it.") from error
