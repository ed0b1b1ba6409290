"""Parameters of commands: help and shell form, next to the type in a function's signature.

The command line derives its parameters from these annotations (`pixelwise.cli.parameters`). A parameter without one
exists only in Python.
"""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from pixelwise.errors import find_name, wrap_path_errors

StrPath = str | os.PathLike[str]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def command(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a command: it takes choices in any spelling, and raises the errors of Pixelwise for paths."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = find_choices(name, value, signature.parameters[name].annotation)
        with wrap_path_errors():
            return function(*bound.args, **bound.kwargs)

    return call


def find_choices(name: str, value: Any, hint: Any) -> Any:
    """Return a value with the choices of its annotation as they are listed there; other text is left as it is.

    Raises:
        InvalidArgumentError: The annotation has only choices, and the value is another text.
    """
    if get_origin(hint) is Annotated:
        return find_choices(name, value, get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        hints = get_args(hint)
        if any(part is str for part in hints):  # a choice, or a path
            choices = [choice for part in hints if get_origin(part) is Literal for choice in get_args(part)]
            return next((choice for choice in choices if str(value).lower() == choice), value)
        return functools.reduce(lambda found, part: find_choices(name, found, part), hints, value)
    if get_origin(hint) is Sequence and isinstance(value, list | tuple):
        return [find_choices(name, item, get_args(hint)[0]) for item in value]
    if get_origin(hint) is Literal and isinstance(value, str):
        return find_name(f"value for {name}:", value, get_args(hint))
    return value


def to_path(path: StrPath) -> str | Path:
    """Return a string, which may be a URL, as it is, and any other path-like object as a `Path`."""
    return path if isinstance(path, str) else Path(path)


def to_paths(paths: StrPath | Sequence[StrPath]) -> list[str | Path]:
    """Return the paths of a sequence, or the only path."""
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [to_path(path) for path in given]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A positional parameter of a command."""

    help: str
    metavar: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A named parameter of a command."""

    help: str
    name: str | None = None
    """Name in the shell; None: that of the parameter, with dashes."""
    short: str | None = None
    """One-letter name, such as -o."""
    metavar: str | None = None
    default: str | None = None
    """Text of the default in the help; None: the default value, if it has one."""


Data = Annotated[
    StrPath | Sequence[StrPath],
    Argument(help="Dataset folder, such as one with images/ and masks/; several are joined.", metavar="DATA"),
]
Model = Annotated[StrPath, Argument(help="Run folder or model file.")]
Format = Annotated[
    str | None,
    Option(help="Dataset format: folder, voc, coco, ...", metavar="NAME", default="detected"),
]
Masks = Annotated[
    str | None, Option(help="Folder of the masks, next to the images.", metavar="FOLDER", default="detected")
]
GroupBy = Annotated[
    str | None,
    Option(
        help="Rule that finds the group of an image (patient, scene, video). A group stays in one split.",
        metavar="REGEX|FILE.csv:COLUMN",
    ),
]
JsonPath = Annotated[
    StrPath | None, Option(help="Also write the results to this JSON file.", name="--json", metavar="FILE")
]
Overwrite = Annotated[bool, Option(help="Replace files that another request, or you, wrote.")]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1, ... or mps.", metavar="NAME")]
Precision = Annotated[Literal["auto", "fp32", "bf16"], Option(help="Numerical precision of the network.")]
InferencePrecision = Annotated[
    Literal["auto", "fp32", "bf16", "int8"], Option(help="Numerical precision of the network; int8 after `quantize`.")
]
Engine = Annotated[
    Literal["auto", "torch", "torch-compile", "openvino", "onnxruntime"], Option(help="Library that runs the network.")
]
Seed = Annotated[int | None, Option(help="Seed of splits, weights and augmentation.", default="0")]
Settings = Option(help="Configuration key; repeatable.", name="--set", metavar="section.key=value")
