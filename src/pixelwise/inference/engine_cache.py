"""Keep networks that an engine has converted or compiled, in the cache folder of the user.

An entry is a file whose name is the checksum of everything that it depends on, and that starts with the checksum of its
content. It is written atomically, so that several processes can share the folder. A fault of the folder never ends a
command: the network is then converted again.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelwise.errors import describe_cause
from pixelwise.files import compute_sha256, write_atomically

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "PIXELWISE_CACHE"
"""Environment variable with the cache folder; "off" keeps nothing."""

MAX_BYTES = 2 << 30
"""Size of the folder. When it is exceeded, the entries that were not used for the longest time are removed."""

_DIGEST_LENGTH = 64
_FAULTS = (OSError, RuntimeError)
"""RuntimeError: the user has no home folder."""


def find_cache_folder() -> Path | None:
    """Return the folder of the entries, which may not exist; None if nothing is to be kept."""
    given = os.environ.get(CACHE_VARIABLE, "")
    if given:
        return None if given == "off" else Path(given) / "engines"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pixelwise" / "engines"


def has_entry(key: Mapping[str, Any]) -> bool:
    """Return whether there is an entry, without reading it."""
    with contextlib.suppress(*_FAULTS):
        path = _find_path(key)
        return path is not None and path.is_file()
    return False


def read_entry(key: Mapping[str, Any]) -> bytes | None:
    """Return the content of an entry; None if there is none, or if it is damaged."""
    with contextlib.suppress(*_FAULTS):
        path = _find_path(key)
        if path is None or not path.is_file():
            return None
        stored = path.read_bytes()
        content = stored[_DIGEST_LENGTH:]
        if stored[:_DIGEST_LENGTH] != compute_sha256([content]).encode():
            logger.debug(f"{path} is damaged and is written again")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # a folder that is only readable can be used, too
        return content
    return None


def write_entry(key: Mapping[str, Any], content: bytes) -> None:
    """Write an entry, and remove the oldest ones if the folder has become too large."""
    try:
        path = _find_path(key)
        if path is None or len(content) > MAX_BYTES:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, compute_sha256([content]).encode() + content)
        _remove_oldest(path)
    except _FAULTS as error:
        logger.debug(f"The converted network is not kept ({describe_cause(error)})")


def _find_path(key: Mapping[str, Any]) -> Path | None:
    folder = find_cache_folder()
    return folder and folder / f"{compute_sha256([json.dumps(key, sort_keys=True).encode()])[:40]}.bin"


def _remove_oldest(newest: Path) -> None:
    """Remove entries, the least recently used first, until the folder has its size; never the newest."""
    entries: list[tuple[float, int, Path]] = []
    for path in newest.parent.iterdir():  # also files that killed processes left incomplete
        with contextlib.suppress(OSError):  # another process removed it
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= MAX_BYTES:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            total -= size
