"""What can go wrong, as one small tree.

    PixelwiseError            everything this package raises on purpose
    ├── InvalidArgumentError          the request cannot be done: an unknown name, an option out of range
    ├── DataError             the user's images, masks or dataset description are at fault
    ├── ModelFileError        a model file is truncated, altered, foreign or of another version
    ├── CheckpointError       a run cannot be continued from what its folder holds, or cannot write there
    └── TrainingError         a run cannot go on: its loss is no number, its device's memory is too small

Every message says what is wrong, where, and what to do. The command line prints it without a
traceback and exits with 2.
"""

import difflib
from collections.abc import Iterable


class PixelwiseError(Exception):
    """Base of all errors raised on purpose."""


class InvalidArgumentError(PixelwiseError):
    """The request cannot be done as it was made."""


class DataError(PixelwiseError):
    """Images, masks or ``dataset.yaml`` cannot be used as they are."""


class ModelFileError(PixelwiseError):
    """A file is not a model that this version can use."""


class CheckpointError(PixelwiseError):
    """A run cannot be continued from its folder, or cannot write there."""


class TrainingError(PixelwiseError):
    """A run cannot go on as it was asked for."""


def missing_extra(what: str, package: str, extra: str) -> InvalidArgumentError:
    """The one wording for an optional package that is not installed."""
    return InvalidArgumentError(f'{what} needs {package}, which is not installed: pip install "pixelwise[{extra}]"')


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InvalidArgumentError:
    """The one wording for a name that is not in a table: lists the choices and the nearest."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InvalidArgumentError(f"unknown {kind} {name!r}.{hint} Choose one of: {', '.join(known)}.")
