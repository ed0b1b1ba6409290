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
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import ContextDecorator, contextmanager
from types import TracebackType
from typing import TypeVar, cast

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
    return InvalidArgumentError(f'{what} needs {package}, which is not installed: pip install "pixelwise[{extra}]"')


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
        return InvalidArgumentError(f"unknown {kind} {name!r}.{hint} Nearest of {len(known)}: {', '.join(similar)}.")
    return InvalidArgumentError(f"unknown {kind} {name!r}.{hint} Choose one of: {', '.join(known)}.")


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
            f"{kind} {name!r} can be {' or '.join(map(repr, alike))}. Write one of them exactly."
        )
    if not alike:
        raise unknown_name(kind, name, known)
    return cast(Name, alike[0])


def simplify_name(name: object) -> str:
    """Return a name in lower case, without hyphens, underscores and blanks."""
    return re.sub(r"[-_\s]", "", str(name)).casefold()


class wrap_path_errors(ContextDecorator):  # noqa: N801 - used as a decorator
    """Turn errors of the operating system into PathNotFoundError or PathAccessError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, FileNotFoundError) and not isinstance(error, PixelwiseError):
            raise PathNotFoundError(f"{error.filename or error} does not exist.") from error
        if isinstance(error, PermissionError) and not isinstance(error, PixelwiseError):
            raise PathAccessError(f"{error.filename or error} is not readable or not writable.") from error
