"""Atomic writing, checksums, and reading of files with errors that a user can act on."""

import codecs
import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pixelwise.errors import (
    DataError,
    InvalidArgumentError,
    PathAccessError,
    PathNotFoundError,
    convert_os_error,
    describe_cause,
)

READ_ERRORS = (DataError, PathNotFoundError, PathAccessError)
"""Errors of a file that does not exist, is not readable, or whose contents cannot be used."""


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        PathNotFoundError: The file does not exist.
        PathAccessError: The file is not readable.
    """
    with wrap_access_errors(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or UTF-16 as PowerShell writes; raise DataError for another encoding.

    Raises also what `read_bytes` raises.
    """
    content = read_bytes(path)
    try:
        return content.decode(
            "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: The file is not UTF-8 text. Save it as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; raise DataError with line and column of a fault, and as `read_bytes` does."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        reason = "a number is too long" if type(error) is ValueError else describe_cause(error)
        raise DataError(
            f"{path}: The file is not valid JSON ({reason}). Write or export it again, or remove it."
        ) from error


def read_yaml(path: Path, loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader) -> Any:
    """Read a YAML file; raise DataError with line and column of a fault, and as `read_bytes` does."""
    try:
        return yaml.load(read_bytes(path), loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of a date such as 2001-99-99
        raise DataError(f"{path}: The file is not valid YAML ({describe_cause(error)}). Correct it.") from error


def walk_folders(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder as `os.walk` does, but sorted, without hidden names, and through links to folders.

    A link that leads to a folder above it is not followed, and no link is followed twice, so that every walk ends. A
    link that leads nowhere is among the files. The caller may remove names from the list of folders.
    """
    followed: set[tuple[int, int]] = set()

    def walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[Path, list[str], list[str]]]:
        try:
            link, identity = _identify(folder.lstat()), _identify(folder.stat())
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return  # as `os.walk`: folders of other users, such as lost+found
        if identity in above or link in followed:
            return
        if link != identity:
            followed.add(link)
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        folders = [entry.name for entry in shown if _is_folder(entry)]
        yield folder, folders, [entry.name for entry in shown if not _is_folder(entry)]
        for name in folders:
            yield from walk(folder / name, above | {identity})

    return walk(top, frozenset(_identify(parent.stat()) for parent in top.resolve().parents))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def wrap_access_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while reading a path into PathNotFoundError or PathAccessError."""
    try:
        yield
    except (PathNotFoundError, PathAccessError):
        raise
    except OSError as error:
        raise convert_os_error(error, f"{path}: The file", "be read") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all; an older version stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = make_temporary_path(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None  # not the temporary file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_temporary_path(path: Path) -> Path:
    """Return a new hidden path next to `path`, for its content until it is complete.

    The name is random: machines that share a folder may have processes with equal numbers.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def remove_temporary_files(folder: Path, is_target: Callable[[Path], bool] = lambda path: True) -> None:
    """Remove the temporary files that killed processes left for the paths in `folder` that `is_target` accepts."""
    for temporary in folder.glob(".*.????????????.part"):
        name = temporary.name.removeprefix(".").removesuffix(".part").rpartition(".")[0]
        if is_target(folder / name) and temporary.is_file():
            temporary.unlink(missing_ok=True)


def compute_sha256(chunks: Iterable[bytes | memoryview]) -> str:
    """Compute the SHA-256 of consecutive chunks of bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def compute_file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_new_folder(path: Path) -> None:
    """Raise InvalidArgumentError if `path` is a file, or a folder that is not empty."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InvalidArgumentError(f"{path} already exists and is not empty. Choose a new or empty folder.")
