"""From the signature of a Python function to the parameters of a command, and back.

Typer takes no unions. The annotation of a parameter decides what the shell takes:

    str | PathLike            a path; a URL is left as it is
    "choice" | str | PathLike text
    Sequence (Argument)       several values
    Sequence (Option)         text with commas
    Mapping                   key=value, repeated
    Literal                   text, which is one of the choices in any spelling
    bool                      a flag
    all others                the type itself, without None
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from pixelwise.api.options import Argument, Option
from pixelwise.arguments import convert
from pixelwise.config import parse_settings
from pixelwise.errors import find_name

Parser = Callable[[Any], Any]


def derive_parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, Parser]]:
    """Return Typer's parameters of a function, and the parser of each value that the shell gives."""
    parameters, parsers = [], dict[str, Parser]()
    for name, parameter in inspect.signature(function).parameters.items():
        hint, *marks = get_args(parameter.annotation) if get_origin(parameter.annotation) is Annotated else (None,)
        mark = next((mark for mark in marks if isinstance(mark, Argument | Option)), None)
        if mark is None:  # only in Python
            continue
        kind, parse = _shell_form(hint, mark)
        parsers[name] = partial(_parse, parse, parameter.annotation, _get_word(name, mark))
        default = parameter.default
        if isinstance(default, Sequence | Mapping) and not default:
            default = None
        elif isinstance(default, tuple | list) and kind is str:
            default = ",".join(default)
        info = _typer_info(name, mark, hint, default)
        optional = kind | None if default is None else kind
        parameters.append(
            inspect.Parameter(name, parameter.KEYWORD_ONLY, default=default, annotation=Annotated[optional, info])
        )
    return parameters, parsers


def _get_word(name: str, mark: Argument | Option) -> str:
    """Return the name of a parameter in the shell."""
    option = None if isinstance(mark, Argument) else mark.name or "--" + name.replace("_", "-")
    return option or mark.metavar or name.upper()


def _parse(parse: Parser, hint: Any, word: str, value: Any) -> Any:
    """Return a value of the shell as the function's, or raise InvalidArgumentError with the option's name."""
    return convert(parse(value), hint, word)


def _typer_info(name: str, mark: Argument | Option, hint: Any, default: Any) -> Any:
    if isinstance(mark, Argument):
        return typer.Argument(help=mark.help, metavar=_get_word(name, mark), path_type=str)
    words = [*([mark.short] if mark.short else []), _get_word(name, mark)]
    choices = [choice for part in union_parts(hint) if get_origin(part) is Literal for choice in get_args(part)]
    metavar = mark.metavar or "|".join(choices) or None

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    def find(value: str | None) -> str | None:
        return None if value is None else find_name(f"value for {words[-1]}:", value, choices)

    return typer.Option(
        *words,
        help=mark.help,
        metavar=metavar,
        show_default=mark.default
        or (" ".join(map(str, default)) if isinstance(default, tuple) else default is not False),
        path_type=str,
        autocompletion=complete if choices else None,
        callback=find if [get_origin(part) for part in union_parts(hint)] == [Literal] else None,
    )


def _shell_form(hint: Any, mark: Argument | Option) -> tuple[Any, Parser]:
    """Return the type that Typer gets for an annotation, and what makes its value the function's."""
    parts = union_parts(hint)
    origins = {get_origin(part) for part in parts}
    if Mapping in origins:
        return list[str], lambda values: parse_settings(values or ())
    if Sequence in origins:
        if isinstance(mark, Argument):
            return list[Path], lambda texts: [_parse_path(text) for text in texts]
        return str, _split_commas
    if os.PathLike in origins:
        return (str, _as_is) if Literal in origins else (Path, _parse_path)
    if str in parts:
        return str, _as_is
    (kind,) = parts
    return str if get_origin(kind) is Literal else kind, _as_is


def union_parts(hint: Any) -> list[Any]:
    """Return the members of a union without None, else the type itself; all without their ranges."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [_strip_ranges(part) for part in parts if part is not NoneType]


def _strip_ranges(hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple[tuple(map(_strip_ranges, get_args(hint)))]  # type: ignore[misc]
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _as_is(value: Any) -> Any:
    return value


def _split_commas(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _parse_path(text: str | None) -> Path | str | None:
    # Path would remove a slash of "://", and take an empty text for the current folder.
    return text if not text or "://" in text else Path(text)


_EXAMPLES = {int: ("an integer", "3"), float: ("a number", "0.5"), tuple[int, int]: ("two integers", "360 480")}
"""Type of an option → what it must be, and an example."""


def describe_error(error: typer.TyperException) -> str:
    """Return the message for a request that Typer refuses; empty if Typer has printed one.

    The message of the library that checks values is replaced by one that shows an example.
    """
    findings = getattr(error.__cause__, "errors", None)
    if not isinstance(error, typer.BadParameter) or findings is None or error.ctx is None or error.param is None:
        return error.format_message()
    option, value = max(error.param.opts, key=len), findings()[0]["input"]
    signature = inspect.signature(error.ctx.command.callback or describe_error)
    (kind,) = union_parts(get_args(signature.parameters[str(error.param.name)].annotation)[0])
    if kind not in _EXAMPLES:
        return error.format_message()
    what, example = _EXAMPLES[kind]
    return f"{option} is {value!r}, but must be {what}, such as {option} {example}."
