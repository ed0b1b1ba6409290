"""The errors that Pixelwise raises on purpose.

    PixelwiseError
    ├── InvalidArgumentError  an argument or an option has an invalid value; also a ValueError
    ├── PathNotFoundError     a path does not exist; also a FileNotFoundError
    ├── PathAccessError       a path is not readable or not writable; also a PermissionError
    ├── DataError             the contents of images, masks or dataset.yaml cannot be used
    ├── ModelFileError        a model file is truncated, altered, foreign or of a different version
    ├── CheckpointError       a run folder cannot be resumed from, or written to
    └── TrainingError         a run cannot continue: its loss is NaN, or its device is out of memory

A message shows the value that is wrong, what was expected and what to do. The command line prints it without a
traceback and exits with code 2.
"""

import difflib
import errno
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ContextDecorator, contextmanager
from types import TracebackType
from typing import TypeVar, cast

import yaml

Name = TypeVar("Name", bound=str)

_MAX_LISTED = 100


class PixelwiseError(Exception):
    """Base class of all errors that Pixelwise raises on purpose."""


class InvalidArgumentError(PixelwiseError, ValueError):
    """An argument or an option has an invalid value."""


class PathNotFoundError(PixelwiseError, FileNotFoundError):
    """A path does not exist."""


class PathAccessError(PixelwiseError, PermissionError):
    """A path is not readable or not writable."""


class DataError(PixelwiseError):
    """The contents of images, masks or ``dataset.yaml`` cannot be used."""


class ModelFileError(PixelwiseError):
    """A file is not a model that this version can read."""


class CheckpointError(PixelwiseError):
    """A run folder cannot be resumed from, or written to."""


class TrainingError(PixelwiseError):
    """A run cannot continue."""


def format_command(*words: object) -> str:
    """Return a command of Pixelwise for a message, with quotes where a shell needs them."""
    return shlex.join(["pixelwise", *map(str, words)])


def missing_extra(what: str, package: str, extra: str) -> InvalidArgumentError:
    """Return the error for an optional package that is not installed."""
    return InvalidArgumentError(
        f'{what} needs {package}, which is not installed. Install it: pip install "pixelwise[{extra}]".'
    )


def format_count(number: int, noun: str) -> str:
    """Return `1 mask`, `2 masks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def explain_missing_extra(what: str, package: str, extra: str) -> Iterator[None]:
    """Turn a failed import of an optional package into the error of `missing_extra`."""
    try:
        yield
    except ImportError as error:
        raise missing_extra(what, package, extra) from error


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InvalidArgumentError:
    """Return the error for a name that is not in a table, with the nearest one and the choices, if they are few."""
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(known) > _MAX_LISTED:
        similar = difflib.get_close_matches(str(name), known, n=8, cutoff=0.0)
        return InvalidArgumentError(f"Unknown {kind} {name!r}.{hint} Nearest of {len(known)}: {', '.join(similar)}.")
    return InvalidArgumentError(f"Unknown {kind} {name!r}.{hint} Choose one of: {', '.join(known)}.")


def find_name(kind: str, name: Name, choices: Iterable[str]) -> Name:
    """Return the choice with a name, in any case and with or without hyphens, underscores and blanks.

    Raises:
        InvalidArgumentError: No choice has the name, or several have it and none is written exactly like it.

    Example:
        >>> find_name("network", "FCN_8s", ["fcn-8s", "unet"])
        'fcn-8s'
    """
    known = list(choices)
    if name in known:
        return name
    alike = [choice for choice in known if simplify_name(choice) == simplify_name(name)]
    if len(alike) > 1:
        raise InvalidArgumentError(
            f"The {kind} {name!r} can be {' or '.join(map(repr, alike))}. Write one of them exactly."
        )
    if not alike:
        raise unknown_name(kind, name, known)
    return cast(Name, alike[0])


def simplify_name(name: object) -> str:
    """Return a name in lower case, without hyphens, underscores and blanks."""
    return re.sub(r"[-_\s]", "", str(name)).casefold()


_OS_FAULTS: Mapping[int, tuple[str, str]] = {
    errno.EACCES: ("permission denied", "Change its permissions, or choose another path."),
    errno.EPERM: ("permission denied", "Change its permissions, or choose another path."),
    errno.EROFS: ("the file system is read-only", "Choose another path."),
    errno.ENOSPC: ("no space is left on the device", "Free disk space, or choose another path."),
    errno.EDQUOT: ("the disk quota is used up", "Free disk space, or choose another path."),
    errno.EFBIG: ("the file is too large for the file system", "Choose a path on another file system."),
    errno.EISDIR: ("it is a folder", "Expected a file."),
    errno.EEXIST: ("it exists already", "Remove it, or choose another path."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name."),
    errno.ELOOP: ("symbolic links lead in a circle", "Remove the links."),
    errno.EMFILE: ("too many files are open", "Raise the limit in the shell, for example with 'ulimit -n 4096'."),
    errno.ENFILE: ("too many files are open on this computer", "End other programs, and try again."),
    errno.EIO: ("the device does not answer", "Check the disk or the network drive, and try again."),
    errno.ESTALE: ("the network drive was disconnected", "Connect it, and try again."),
}
"""Number of a fault of the operating system → how messages call it, and what to do."""


def describe_os_error(error: OSError) -> str:
    """Return the fault of the operating system in a few words, such as `permission denied`."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "it does not exist"
    default = (error.strerror or str(error) or "unknown fault").lower().removesuffix(".")
    return _OS_FAULTS.get(error.errno or 0, (default, ""))[0]


def convert_os_error(error: OSError, subject: object, action: str) -> PathNotFoundError | PathAccessError:
    """Return the error to raise for a fault of the operating system.

    Args:
        error: The fault.
        subject: What the message is about: a path, or `PATH: The file`.
        action: What was not possible, such as `be read`.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return PathNotFoundError(f"{subject} does not exist. Restore it, or correct the path.")
    fix = _OS_FAULTS.get(error.errno or 0, ("", "Check it, or choose another path."))[1]
    if action == "be created" and error.errno in (errno.EACCES, errno.EPERM):
        fix = "Change the permissions of the folder above it, or choose another path."
    return PathAccessError(f"{subject} cannot {action} ({describe_os_error(error)}). {fix}")


def describe_failure(error: "PixelwiseError | OSError") -> str:
    """Return the message for an error of Pixelwise or of the operating system."""
    if isinstance(error, PixelwiseError) or error.errno is None:
        return str(error)
    return str(convert_os_error(error, _name_path(error), "be read or written"))


def describe_cause(error: BaseException) -> str:
    """Return what a foreign error says in one line, for the parentheses of a message."""
    if isinstance(error, OSError) and error.errno is not None:
        return describe_os_error(error)
    if isinstance(error, UnicodeDecodeError | yaml.reader.ReaderError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(reason := getattr(error, "reason", None), BaseException):  # of a URL
        return describe_cause(reason)
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()  # libav puts numbers before it
    return lines[0][:200].rstrip(" .:") if lines else type(error).__name__


class wrap_path_errors(ContextDecorator):  # noqa: N801 - used as a decorator
    """Turn errors of the operating system into PathNotFoundError or PathAccessError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError) and not isinstance(error, PixelwiseError) and error.errno in _OS_ERRORS:
            raise convert_os_error(error, _name_path(error), "be read or written") from error


_OS_ERRORS = {*_OS_FAULTS, errno.ENOENT, errno.ENOTDIR}


def _name_path(error: OSError) -> str:
    """Return the path of an error; of two, as when a file is moved, the second, which Pixelwise was asked to write."""
    path = error.filename2 or error.filename
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "A file"
