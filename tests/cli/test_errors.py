"""No value of an option is refused in the words of the library that checks it."""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer

from pixelwise.cli import main
from pixelwise.cli.errors import message_of


def checked_options() -> Iterator[tuple[str, str, int]]:
    """Command, option and number of values, of all whose values Typer checks."""
    for command, made in typer.main.get_command(main.app).commands.items():  # type: ignore[attr-defined]
        types = get_type_hints(made.callback)
        for parameter in made.params:
            parts = parts_of(types.get(parameter.name))
            if {int, float, Literal} & {get_origin(part) or part for part in parts}:
                yield command, max(parameter.opts, key=len), parameter.nargs


def parts_of(hint: Any) -> list[Any]:
    """A type and all that stands in it."""
    inside = () if get_origin(hint) is Literal else get_args(hint)
    return [hint, *(part for one in inside for part in parts_of(one))]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main.main(list(arguments))
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("command", "option", "count"), [*checked_options()])
def test_each_option_is_refused_in_our_words(
    command: str, option: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, command, option, *["exat"] * count)
    assert re.match(rf"pixelwise: (unknown {option[2:]}|{option} is) 'exat'", said), said
    assert re.search(r"Choose one of: |; write it as in ", said)


def test_most_options_are_seen() -> None:
    found = {f"{command} {option}" for command, option, _ in checked_options()}
    assert {"predict --tiling", "predict --min-area", "networks --size", "export --max-iou-drop", "train --steps",
            "check --resolution", "export --format"} <= found  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "m", "x", "-o", "o", "--tiling", "exat"),
         "pixelwise: unknown tiling 'exat'. Did you mean 'exact'? Choose one of: blend, exact, none.\n"),
        (("export", "m", "--format", "onx"), "unknown format 'onx'. Did you mean 'onnx'?"),
        (("train", "d", "--steps", "2.5"), "--steps is '2.5', but must be a whole number; write it as in --steps 3."),
        (
            ("export", "m", "--max-iou-drop", "a"),
            "--max-iou-drop is 'a', but must be a number; write it as in --max-iou-drop 0.5.",
        ),
        (("networks", "--size", "3", "x"),
         "--size is 'x', but must be two whole numbers; write it as in --size 360 480."),
    ],
)  # fmt: skip
def test_what_must_be_given_is_said(arguments: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, *arguments)


def test_all_else_is_said_as_typer_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing option" in refused(capsys, "predict", "m", "x")
    assert message_of(typer.BadParameter("no")) == "Invalid value: no"
