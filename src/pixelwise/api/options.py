"""Parameters of commands: help and shell form, next to the type in a function's signature.

The command line derives its parameters from these annotations (`pixelwise.cli.parameters`). A parameter without one
exists only in Python.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pixelwise.arguments import Index, OpenFraction, Range

StrPath = str | os.PathLike[str]
StrPaths = StrPath | Sequence[StrPath]


def to_path(path: StrPath) -> str | Path:
    """Return a string, which may be a URL, as it is, and any other path-like object as a `Path`."""
    return path if isinstance(path, str) else Path(path)


def to_paths(paths: StrPaths) -> list[str | Path]:
    """Return the paths of a sequence, or the only path."""
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [to_path(path) for path in given]


def to_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of a sequence, or the only name, each once."""
    return tuple(dict.fromkeys([names] if isinstance(names, str) else names))


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
    StrPaths,
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
HtmlPath = Annotated[
    StrPath | None, Option(help="Also write an HTML page with pictures.", name="--html", metavar="FILE")
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
Threshold = Annotated[
    OpenFraction | None,
    Option(
        help="Label pixels foreground from this probability on; for two classes.",
        metavar="P",
        default="the likeliest class",
    ),
]
NumFolds = Annotated[int, Range(ge=2)]
PercentagePoints = Annotated[float, Range(ge=0, le=100)]
Seed = Annotated[Index | None, Option(help="Seed of splits, weights and augmentation.", default="0")]
Settings = Option(help="Configuration key; repeatable.", name="--set", metavar="section.key=value")
