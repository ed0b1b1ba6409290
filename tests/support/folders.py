"""Contents of folders."""

from pathlib import Path


def read_contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Read bytes and modification time of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
