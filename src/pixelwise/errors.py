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
import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import ContextDecorator, contextmanager
from types import TracebackType


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
    """Return the error for a name that is not in a table, with the choices and the nearest one."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InvalidArgumentError(f"unknown {kind} {name!r}.{hint} Choose one of: {', '.join(known)}.")


def require_known(kind: str, names: Iterable[str], choices: Collection[str]) -> None:
    """Raise `unknown_name` for the first name that is not among the choices."""
    for name in names:
        if name not in choices:
            raise unknown_name(kind, name, choices)


class wrap_path_errors(ContextDecorator):  # noqa: N801 - used as a decorator
    """Turn errors of the operating system into PathNotFoundError or PathAccessError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, FileNotFoundError) and not isinstance(error, PixelwiseError):
            raise PathNotFoundError(f"{error.filename or error} does not exist.") from error
        if isinstance(error, PermissionError) and not isinstance(error, PixelwiseError):
            raise PathAccessError(f"{error.filename or error} is not readable or not writable.") from error
