"""Ownership of outputs: one process at a time, and never a file that Pixelwise did not write.

A command claims the folder or file that it writes (`claim_output`) and asks before the work which of its targets it may
replace. Two records say what Pixelwise wrote: in a folder of many files a manifest (`OutputManifest`), in a single file
a mark inside it (`write_marked`). A file that exists is

    unchanged   as recorded, by the same request: replaced, or kept by `--resume`
    other       as recorded, by a request with other options: replaced with `--overwrite`
    edited      recorded, but changed since: replaced with `--overwrite`
    foreign     not recorded: replaced with `--overwrite`
    blocked     not recorded, and a folder: never replaced
"""

import contextlib
import errno
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pixelwise.errors import InvalidArgumentError, PathAccessError, convert_os_error
from pixelwise.files import (
    READ_ERRORS,
    compute_file_sha256,
    compute_sha256,
    read_json,
    remove_temporary_files,
    write_atomically,
)

logger = logging.getLogger(__name__)

FileState = Literal["absent", "unchanged", "other", "edited", "foreign", "blocked"]

# One owner at a time

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> bool:
        os.lseek(file, 1 << 30, os.SEEK_SET)  # behind the content, which others may read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""Errors of a file system without locks."""


class OutputInUseError(InvalidArgumentError):
    """Another process writes to the output."""


_claimed: ContextVar[frozenset[Path]] = ContextVar("claimed", default=frozenset())
"""Outputs that the current call and its callers own: `demo` trains in the folder that it has claimed."""


_FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".json", ".csv", ".xml", ".yaml", ".html", ".mp4", ".zip")
"""Suffixes of names that a user gives to a file, not to a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputClaim:
    """A claim on an output, held by a lock of the operating system."""

    folder: Path
    stem: str
    """Start of the names of the lock files in the folder."""
    has_locks: bool = True

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Exclude, for the moment of the block, the other processes that start, end or share the claim."""
        if not self.has_locks:
            yield
            return
        path = self.folder / f"{self.stem}.lock"
        while not (file := _open_locked(path)):
            time.sleep(0.01)
        try:
            yield
        finally:
            if not self.list_locks():
                _unlink(path)
            os.close(file)

    def list_locks(self) -> list[Path]:
        """Return the lock files of the owners, of which some may have died."""
        return sorted(self.folder.glob(f"{glob.escape(self.stem)}-*.lock"))


@contextlib.contextmanager
def claim_output(
    output: Path, request: Mapping[str, Any] | None = None, *, shard: str = "", is_file: bool = False
) -> Iterator[OutputClaim]:
    """Own a folder, or a file, until the end of the block or of the process, however it ends.

    Args:
        output: The folder, which is created, and removed again if it is still empty; or the file.
        request: What the job computes, as plain values.
        shard: "2/8" shares the folder with the other shards of the same request.
        is_file: True if `output` is a file, whose folder others may write to.

    Raises:
        OutputInUseError: Another process owns the output.
        InvalidArgumentError: `output` is not a folder.
        PathAccessError: The folder is not writable.
    """
    folder, stem = (output.parent, f".{output.name}") if is_file else (output, ".pixelwise")
    if not is_file and output.suffix.lower() in _FILE_SUFFIXES and not output.exists():
        raise InvalidArgumentError(f"{output} would be a folder, but has the name of a file. Name a folder with -o.")
    created = _make_folders(folder)
    claim, request = OutputClaim(folder=folder, stem=stem), json.loads(json.dumps(request or {}))
    key = (folder / stem).resolve()
    if key in _claimed.get():
        yield claim
        return
    token = _claimed.set(_claimed.get() | {key})
    own, file = folder / f"{stem}-{shard.replace('/', '-of-') or 'job'}.lock", None
    try:
        try:
            with claim.wait():
                _require_unclaimed(claim, output, own, request, shard)
                file = _open_locked(own)
                assert file, "only tried while others wait"
                holder = {"process": os.getpid(), "host": socket.gethostname(), "shard": shard, "request": request}
                os.write(file, json.dumps(holder).encode())
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise convert_os_error(error, folder, "be written to") from error
            logger.warning(
                f"{folder}: the file system has no locks, so a second run that writes there is not noticed. "
                f"Start one at a time."
            )
            claim = OutputClaim(folder=folder, stem=stem, has_locks=False)
            for path in (folder / f"{stem}.lock", own):
                _unlink(path)
        yield claim
    finally:
        _claimed.reset(token)
        if file:
            with claim.wait():
                os.close(file)  # Windows keeps open files; no other process can take it now
                _unlink(own)
        for path in reversed(created):
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder with its parents; return those that were missing, the outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in (folder, *folder.parents):
        if path.is_file() or (path.is_symlink() and not path.exists()):
            raise InvalidArgumentError(f"{path} is not a folder. Choose a folder with -o.")
    try:
        with contextlib.suppress(FileExistsError):  # another process has just removed it, and it is created again below
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise convert_os_error(error, folder, "be created") from error
    return missing


def _require_unclaimed(claim: OutputClaim, output: Path, own: Path, request: Mapping[str, Any], shard: str) -> None:
    """Raise OutputInUseError if another process owns the output; remove the locks of dead processes."""
    for path in claim.list_locks():
        if file := _open_locked(path):
            _unlink(path)
            os.close(file)
            continue
        try:
            holder = json.loads(path.read_bytes())
        except (OSError, ValueError):
            holder = {}
        who = f"process {holder.get('process', '?')} on {holder.get('host', '?')}"
        if not (shard and holder.get("shard")):
            raise OutputInUseError(
                f"{output} is being written by another run ({who}). Wait until it ends, or choose another place "
                f"with -o."
            )
        if path == own:
            raise OutputInUseError(f"Shard {shard} of {output} is already running ({who}). Start another shard.")
        if holder["request"] != request:
            changes = describe_changes(holder["request"], request)
            raise OutputInUseError(
                f"{output} is being written by shards of another request ({who}, {changes}). Use the same options, "
                f"or choose another folder with -o."
            )


def _open_locked(path: Path) -> int | None:
    """Open and lock a file, which is created; None if another process has locked it, or has just removed it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # another process has just removed the folder, which was empty
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
        return None
    try:
        if _try_lock(file) and path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
    except FileNotFoundError:  # removed between the two
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps files that are open
        path.unlink(missing_ok=True)


# What may be replaced


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return how two requests differ: `another model, min_area was 0 and is 5`."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(
        "another model" if name == "model" else f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in names
    )


def require_replaceable(states: Mapping[Path, tuple[FileState, str]], *, overwrite: bool) -> None:
    """Raise InvalidArgumentError for targets that must not be replaced.

    Args:
        states: Each target with its state, and for "other" what differs.
        overwrite: True if the user allows to replace files.
    """
    reasons: dict[str, str] = {
        "blocked": "is a folder, which is never replaced. Move it, or choose another name.",
        "foreign": "exists, and Pixelwise did not write it. Write to another place, or replace it with --overwrite.",
        "edited": "was changed after Pixelwise wrote it. Write to another place, or replace it with --overwrite.",
        "other": "was written by another request. Use the same options, write to another place, or replace it with "
        "--overwrite.",
    }
    for state, reason in reasons.items():
        found = [path for path, (own, _) in states.items() if own == state]
        if not found or (overwrite and state != "blocked"):
            continue
        changes = states[found[0]][1]
        num_others = len(found) - 1
        more = f" The same is true of {num_others} more file{'s' * (num_others > 1)}." if num_others else ""
        raise InvalidArgumentError(
            f"{found[0]} {reason.replace('.', f' ({changes}).', 1) if changes else reason}{more}"
        )


def relate_paths(paths: Iterable[str | Path], output: Path) -> str:
    """Return paths of a request as seen from the folder of the output, which may be moved together with them."""

    def relate(path: Path) -> str:
        try:
            return Path(os.path.relpath(path, output.resolve().parent)).as_posix()
        except ValueError:  # on another drive
            return path.as_posix()

    return ", ".join(relate(Path(path).resolve()) for path in paths)


def measure(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file, or of all files of a folder with their names."""
    if not path.is_dir():
        return path.stat().st_size, compute_file_sha256(path)
    digest, size = hashlib.sha256(), 0
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        num_bytes, checksum = measure(file)
        digest.update(f"{file.relative_to(path).as_posix()}\0{checksum}\n".encode())
        size += num_bytes
    return size, digest.hexdigest()


def remove_path(path: Path) -> None:
    """Remove a file, or a folder at once with its contents, so that no half of it looks like a result."""
    if path.is_dir() and not path.is_symlink():
        renamed = path.with_name(f".{path.name}.{os.getpid()}.gone")
        path.rename(renamed)
        shutil.rmtree(renamed)
    else:
        path.unlink(missing_ok=True)


def remove_files(paths: Iterable[Path], root: Path) -> None:
    """Remove files, and the folders below `root` that they leave empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


# Folders of many files

_TOKEN = secrets.token_hex(4)


class FileRecord(NamedTuple):
    """The content of a file when Pixelwise wrote it, with the keys of the manifest."""

    path: str
    """Path below the folder, with slashes."""
    bytes: int
    sha256: str
    request: str
    """Key of the request in the manifest."""


@dataclass(slots=True, kw_only=True)
class OutputManifest:
    """The files that Pixelwise wrote into a folder, each with its size, its checksum and the request that asked for it.

    Every process adds the record of a file to a journal of its own, before the file appears. So a file that a killed
    process has written is known, too. Journals are hidden files next to the manifest, until `save` merges them.
    """

    claim: OutputClaim
    name: str
    """Name of the JSON file in the folder."""
    request: Mapping[str, Any]
    """Request that the command computes, as plain values."""
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    records: dict[str, list[FileRecord]] | None = None
    """Path below the folder → its records; None before they are read."""
    unsaved: set[str] = field(default_factory=set)
    """Paths in journals: the process may have died between the record and the file."""
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    """Part of the names of the journals of this job."""

    @property
    def path(self) -> Path:
        """Path of the JSON file."""
        return self.claim.folder / self.name

    @property
    def key(self) -> str:
        """Key of the request."""
        return compute_sha256([json.dumps(self.request, sort_keys=True).encode()])[:16]

    def read(self) -> None:
        """Read the manifest and the journals."""
        content: Any = {}
        with contextlib.suppress(*READ_ERRORS):  # missing or damaged
            content = read_json(self.path)
        self.requests, self.records, self.unsaved = {}, {}, set()
        try:
            if content["written_by"] == "pixelwise":
                self._add(content["files"])
                self.requests = dict(content["requests"])
        except (KeyError, TypeError, ValueError):  # not written by Pixelwise
            self.records = {}
        for journal in self._list_journals():
            lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()
            entries = []
            for line in lines:
                with contextlib.suppress(ValueError):  # a line that a kill cut off: its file was not written
                    entries.append(json.loads(line))
            self._add(entries)
            self.unsaved.update(entry["path"] for entry in entries)

    def find_state(self, path: Path, *, compare_content: bool = True) -> tuple[FileState, str]:
        """Return the state of a target, and for "other" what differs.

        Args:
            path: A path in the folder.
            compare_content: False to compare only the size, which is enough to keep a file of a finished job.
        """
        if self.records is None:
            self.read()
        assert self.records is not None
        if not os.path.lexists(path):
            return "absent", ""
        records = self.records.get(self._get_name(path), [])
        if not records or not path.exists():
            return ("blocked" if path.is_dir() and path != self.path else "foreign"), ""
        same = [record for record in records if path.is_dir() or record.bytes == path.stat().st_size]
        if same and (compare_content or self._get_name(path) in self.unsaved):
            content = measure(path)
            same = [record for record in same if (record.bytes, record.sha256) == content]
        if not same:
            return "edited", ""
        if any(record.request == self.key for record in same):
            return "unchanged", ""
        return "other", describe_changes(self.requests.get(same[-1].request, {}), self.request)

    def require_replaceable(self, targets: Iterable[Path], *, overwrite: bool) -> dict[Path, tuple[FileState, str]]:
        """Return the states of the targets.

        Raises:
            InvalidArgumentError: A target is a file that Pixelwise did not write, or not for this request.
        """
        self.read()
        states = {path: self.find_state(path) for path in targets}
        if os.path.lexists(self.path) and not self.requests:
            states[self.path] = ("blocked" if self.path.is_dir() else "foreign"), ""
        require_replaceable(states, overwrite=overwrite)
        return states

    def begin(self, targets: Iterable[Path], *, overwrite: bool = False) -> None:
        """Require that the targets may be replaced, record the request, and remove targets of other requests."""
        states = self.require_replaceable(targets, overwrite=overwrite)
        with self.claim.wait():
            self.read()
            if self.key not in self.requests:
                self.requests[self.key] = self.request
                self._write()
        for path, (state, _) in states.items():
            if state == "other":
                remove_path(path)
        self.remove_unfinished(states)

    def remove_unfinished(self, targets: Iterable[Path]) -> None:
        """Remove temporary files that killed processes left for these targets. No process may be writing them."""
        paths = set(targets)
        for folder in {path.parent for path in paths if path.parent.is_dir()}:
            remove_temporary_files(folder, paths.__contains__)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file atomically, and record it; in any thread."""
        self._record(path, len(content), compute_sha256([content]))
        write_atomically(path, content)

    def record(self, path: Path, source: Path) -> None:
        """Record the file or folder `source`, which is about to be moved to `path`; in any thread."""
        self._record(path, *measure(source))

    def save(self, *, is_shared: bool = False) -> None:
        """Merge the journals into the manifest.

        Args:
            is_shared: True if other processes may still write to the folder; their journals stay.
        """
        with self.claim.wait():
            journals = self._list_journals(self.token if is_shared else "")
            self.read()
            self._write()
            for journal in journals:
                journal.unlink(missing_ok=True)

    def for_worker(self, folder: Path) -> "OutputManifest":
        """Return the manifest for another process, with the absolute path of the folder."""
        claim = OutputClaim(folder=folder, stem=self.claim.stem, has_locks=self.claim.has_locks)
        return OutputManifest(claim=claim, name=self.name, request=self.request)

    def _write(self) -> None:
        assert self.records is not None
        kept = [record for records in self.records.values() for record in self._drop_outdated(records)]
        used = {record.request for record in kept} | {self.key}
        requests = {key: request for key, request in sorted(self.requests.items()) if key in used}
        lines = ",\n".join(json.dumps(record._asdict(), ensure_ascii=False) for record in sorted(kept))
        content = {"written_by": "pixelwise", "requests": requests}
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
        write_atomically(self.path, f'{text},\n  "files": [\n{lines}\n]\n}}\n'.encode("utf-8", "surrogateescape"))

    def _drop_outdated(self, records: Sequence[FileRecord]) -> list[FileRecord]:
        """Return the records of one path; of several only those that may describe the file that exists."""
        unique = list(dict.fromkeys(records))
        if len(unique) < 2:
            return unique
        path = self.claim.folder / unique[0].path
        if not path.exists():
            return []
        size = measure(path)[0] if path.is_dir() else path.stat().st_size
        return [record for record in unique if record.bytes == size] or unique[-1:]

    def _add(self, entries: Iterable[Mapping[str, Any]]) -> None:
        assert self.records is not None
        for entry in entries:
            record = FileRecord(*(entry[key] for key in FileRecord._fields))
            self.records.setdefault(record.path, []).append(record)

    def _record(self, path: Path, num_bytes: int, sha256: str) -> None:
        record = FileRecord(self._get_name(path), num_bytes, sha256, self.key)
        line = json.dumps(record._asdict()) + "\n"
        # One call writes the whole line, so that threads do not mix theirs.
        file = os.open(self._get_journal(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _get_name(self, path: Path) -> str:
        return path.relative_to(self.claim.folder).as_posix()

    def _get_journal(self) -> Path:
        """Return the journal of this process. Forks share its token, and machines may share numbers of processes."""
        return self.path.with_name(f"{self._journal_stem}{self.token}-{_TOKEN}-{os.getpid()}.jsonl")

    def _list_journals(self, token: str = "") -> list[Path]:
        return sorted(self.claim.folder.glob(f"{self._journal_stem}{token}*.jsonl"))

    @property
    def _journal_stem(self) -> str:
        return f".pixelwise-{self.name.removeprefix('.')}."


# Single files

_MARK = re.compile(rb'written_by(?:": |\0| )(\{.*?"sha256": "([0-9a-f]{64})"\})', re.DOTALL)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """Record in a file of how it was written."""

    command: str
    request: Mapping[str, Any]
    files: Mapping[str, str]
    """Files that belong to it, in the same folder: name → SHA-256."""
    is_unchanged: bool
    """True if the content is as Pixelwise wrote it."""


def write_marked(
    path: Path, content: bytes, command: str, request: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> None:
    """Write JSON, PNG, HTML, or text with comments after `#`, with a mark that says which request wrote it."""
    write_atomically(path, mark_content(content, command, request, files))


def mark_content(
    content: bytes, command: str, request: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> bytes:
    """Return the content of a file with a mark; see `write_marked`.

    >>> mark_content(b"a: 1\\n", "plan", {"seed": 0}).decode().splitlines()[1][:62]
    '# written_by {"command": "plan", "request": {"seed": 0}, "sha2'
    """
    values = {"command": command, "request": dict(request), **({"files": dict(files)} if files else {})}
    start = json.dumps(values).replace("--", "-\\u002d")[:-1]  # "--" would end a comment of HTML
    insert = _insert_into(content)
    unsigned = insert(f'{start}, "sha256": "{"0" * 64}"}}')
    (begin, end), _ = _find_mark(unsigned)
    return insert(f'{start}, "sha256": "{compute_sha256([unsigned[:begin], unsigned[end:]])}"}}')


def _insert_into(content: bytes) -> Callable[[str], bytes]:
    """Return the function that inserts a mark where the format has room for it."""
    if content.startswith(_PNG):
        return lambda mark: content[:-12] + _encode_text_chunk(mark) + content[-12:]
    if content.startswith(b"{"):
        head = content.rstrip().removesuffix(b"}").rstrip()
        return lambda mark: head + b',\n  "written_by": ' + mark.encode() + b"\n}\n"
    start, end = (b"<!-- ", b" -->") if content.lstrip().startswith(b"<") else (b"# ", b"")
    return lambda mark: content.rstrip(b"\n") + b"\n" + start + b"written_by " + mark.encode() + end + b"\n"


def _encode_text_chunk(text: str) -> bytes:
    data = b"tEXtwritten_by\0" + text.encode()
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def _find_mark(content: bytes) -> tuple[tuple[int, int], Mapping[str, Any]]:
    """Return where the last mark of a file is, and its values. Raises ValueError if it has none."""
    found = _MARK.match(content, max(content.rfind(b"written_by"), 0))
    if not found:
        raise ValueError("no mark")
    start, end = found.span()
    if content.startswith(_PNG):  # the chunk with its length and checksum
        start, end = start - 8, end + 4
    return (start, end), json.loads(found[1])


def read_mark(path: Path) -> FileMark | None:
    """Read the mark of a file; None if it has none."""
    try:
        content = path.read_bytes()
        (start, end), values = _find_mark(content)
        checksum = compute_sha256([content[:start], content[end:]])
        return FileMark(
            command=values["command"],
            request=values["request"],
            files=values.get("files", {}),
            is_unchanged=checksum == values["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_mark_state(path: Path, command: str, request: Mapping[str, Any]) -> tuple[FileState, str]:
    """Return the state of a single file, and for "other" what differs."""
    if not os.path.lexists(path):
        return "absent", ""
    if path.is_dir():
        return "blocked", ""
    return compare_mark(read_mark(path), command, request)


def compare_mark(mark: FileMark | None, command: str, request: Mapping[str, Any]) -> tuple[FileState, str]:
    """Return the state of a file with this mark; see `find_mark_state`."""
    if mark is None:
        return "foreign", ""
    if not mark.is_unchanged:
        return "edited", ""
    if mark.command != command:
        return "other", f"'pixelwise {mark.command}'"
    changes = describe_changes(mark.request, json.loads(json.dumps(dict(request))))
    return ("other", changes) if changes else ("unchanged", "")


def require_replaceable_files(
    paths: Iterable[Path], command: str, request: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Raise InvalidArgumentError if a single file exists that this request did not write, unless `overwrite`."""
    require_replaceable({path: find_mark_state(path, command, request) for path in paths}, overwrite=overwrite)


def require_writable(path: Path) -> None:
    """Raise PathAccessError if a file cannot be created at `path`, so that no work is lost at the end of a command."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except NotADirectoryError as error:
        raise PathAccessError(f"{path} cannot be written ({folder} is a file). Choose another path.") from error
    except OSError as error:
        raise convert_os_error(error, path, "be written") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedFile:
    """A file that a command writes at its end, with a mark that says which request wrote it."""

    path: Path
    command: str
    request: Mapping[str, Any]

    def write(self, content: str | bytes) -> None:
        """Write the content; see `write_marked`."""
        encoded = content.encode() if isinstance(content, str) else content
        write_marked(self.path, encoded, self.command, self.request)


def prepare_files(
    paths: Sequence[str | os.PathLike[str] | None],
    command: str,
    data: Iterable[str | Path],
    request: Mapping[str, Any],
    *,
    overwrite: bool,
) -> list[MarkedFile | None]:
    """Return the files that a command on a dataset will write; None for each path that is None.

    Raises:
        InvalidArgumentError: A file exists that this request did not write, unless `overwrite`; or two are the same.
        PathAccessError: A file cannot be created.
    """
    given = [None if path is None else Path(path) for path in paths]
    named = [path for path in given if path is not None]
    if len({path.resolve() for path in named}) < len(named):
        raise InvalidArgumentError(f"Two results would be written to {named[0]}. Choose two files.")
    folders = list(data)
    files: list[MarkedFile | None] = [None] * len(given)
    for index, path in enumerate(given):
        if path is not None:
            own = {"data": relate_paths(folders, path), **request}
            require_replaceable_files([path], command, own, overwrite=overwrite)
            require_writable(path)
            files[index] = MarkedFile(path=path, command=command, request=own)
    return files
