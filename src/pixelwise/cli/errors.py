"""Values that the command line refuses, in the words of all other errors: what, where, and what to do."""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from pixelwise.errors import unknown_name

_NUMBERS = {
    int: ("a whole number", "3"),
    float: ("a number", "0.5"),
    tuple[int, int]: ("two whole numbers", "360 480"),
}
"""Type of an option → what must be given, and an example."""


def message_of(error: typer.TyperException) -> str:
    """What to say of a request that Typer refuses; empty where it has said all.

    Of a value that does not suit its option, Typer hands on what the library says that checks values.
    """
    findings = getattr(error.__cause__, "errors", None)
    if not isinstance(error, typer.BadParameter) or findings is None or error.ctx is None or error.param is None:
        return error.format_message()
    option, value = max(error.param.opts, key=len), findings()[0]["input"]
    wanted = _type_of(error.ctx.command.callback, str(error.param.name))
    if get_origin(wanted) is Literal:
        return str(unknown_name(option.lstrip("-"), str(value), get_args(wanted)))
    if wanted not in _NUMBERS:
        return error.format_message()
    kind, example = _NUMBERS[wanted]
    return f"{option} is {value!r}, but must be {kind}; write it as in {option} {example}."


def _type_of(command: Callable[..., Any] | None, parameter: str) -> Any:
    """As the command's function declares it, less None."""
    hint = get_type_hints(command)[parameter] if command else None
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((choice for choice in choices if choice is not NoneType), None)
