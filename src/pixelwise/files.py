"""Atomic writing of files, and checksums."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path


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
    finally:
        temporary.unlink(missing_ok=True)


def make_temporary_path(path: Path) -> Path:
    """Return a new hidden path next to `path`, for its content until it is complete.

    The name is random: machines that share a folder may have processes with equal numbers.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def remove_temporary_files(folder: Path, is_target: Callable[[Path], bool] = lambda path: True) -> None:
    """Remove the temporary files that killed processes left for the paths in `folder` that `is_target` accepts."""
    for temporary in folder.glob(".*.*.part"):
        name = temporary.name.removeprefix(".").removesuffix(".part").rpartition(".")[0]
        if is_target(folder / name) and temporary.is_file():
            temporary.unlink(missing_ok=True)


def compute_sha256(chunks: Iterable[bytes]) -> str:
    """Compute the SHA-256 of consecutive chunks of bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def compute_file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
