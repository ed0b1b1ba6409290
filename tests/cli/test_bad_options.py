"""Every option of every command answers a bad value with exit code 2 and one message that names the option."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest

from pixelwise.api.options import Argument, Option
from pixelwise.arguments import get_members
from pixelwise.cli import main

REQUIRED = {"data": "DATA", "model": "absent", "inputs": "absent", "images": "absent", "output": "out", "to": "voc"}
REQUIRED |= {"classifier": "resnet18"}


def list_bad_texts(hint: Any) -> list[list[str]]:
    """Return bad values of an annotation, as the words that follow the option."""
    kind = next(get_members(get_args(hint)[0]))
    if Sequence in map(get_origin, get_members(get_args(hint)[0])):
        return []  # an empty text is an empty list
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(kind) is tuple:
        return [["0", "0"], ["-1", "8"], ["a", "b"], ["1.5", "8"]]
    if get_origin(kind) is Literal and str not in get_members(get_args(hint)[0]):
        return [["no-such-name"], [""], ["1.5"]]
    if plain is int:
        return [["-1"], ["a"], ["1.5"], [""]]
    if plain is float:
        return [["-1"], ["nan"], ["inf"], ["a"], [""]]
    return [[""]]


def list_bad_options() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the command, the parameter and the words of each bad request."""
    for command, (function, _) in main.COMMANDS.items():
        parameters = inspect.signature(function).parameters
        given = [
            word
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty
            for word in (*_get_option(name, parameter), REQUIRED[name])
        ]
        for name, parameter in parameters.items():
            option = _get_option(name, parameter)
            if not option or bool in get_members(get_args(parameter.annotation)[0]):
                continue
            bad = [["budget-text"], ["0"], ["-1"]] if name == "budget" else list_bad_texts(parameter.annotation)
            bad = [["no-key"], ["no.such=1"], ["network.depth=-1"]] if name == "settings" else bad
            yield from ((command, option[0], [command, *given, *option, *words]) for words in bad)


def _get_option(name: str, parameter: inspect.Parameter) -> list[str]:
    """Return the word of an option; none for an argument."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    options = [mark for mark in marks if isinstance(mark, Option)]
    is_argument = any(isinstance(mark, Argument) for mark in marks)
    return [] if is_argument or not options else [options[0].name or "--" + name.replace("_", "-")]


NAMED_AS = {"--set": ("network.depth", "section")}
"""Option → other words that name it: the key of a setting."""

REQUESTS = list(list_bad_options())


@pytest.mark.parametrize("command", main.COMMANDS)
def test_bad_options_are_errors_that_name_them(
    command: str, streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    faults = []
    for _, option, words in [request for request in REQUESTS if request[0] == command]:
        with pytest.raises(SystemExit) as end:
            main.main([str(streets) if word == "DATA" else word for word in words])
        message = capsys.readouterr().err
        name = option.strip("-").replace("-", "_")
        is_named = any(word in message for word in (option, name, *NAMED_AS.get(option, ())))
        if end.value.code != 2 or message.count("pixelwise: ") != 1 or "Traceback" in message or not is_named:
            faults.append(f"{' '.join(words)}: {end.value.code}, {message}")
    assert not faults, "\n".join(faults)


def test_number_of_requests() -> None:
    print(f"{len(REQUESTS)} requests with a bad option of {len(main.COMMANDS)} commands")  # pytest -rP shows it
    assert len(REQUESTS) >= 150
