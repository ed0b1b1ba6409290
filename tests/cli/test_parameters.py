"""Parameters of commands are derived from annotations, and invalid values get messages with choices or an example."""

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

from pixelwise import api
from pixelwise.api.options import Argument, Option
from pixelwise.cli import main
from pixelwise.cli.parameters import derive_parameters, describe_error, union_parts
from pixelwise.cli.results import PRINTERS

Capture = pytest.CaptureFixture[str]


def example(
    data: Annotated[str | os.PathLike[str], Argument(help="Data.")],
    inputs: Annotated[Sequence[str | os.PathLike[str]], Argument(help="Inputs.")],
    *,
    weights: Annotated[Literal["imagenet"] | str | os.PathLike[str] | None, Option(help="Weights.")] = None,
    save: Annotated[Sequence[Literal["labels", "overlay"]], Option(help="Outputs.")] = ("labels",),
    settings: Annotated[Mapping[str, object], Option(help="Keys.", name="--set")] = MappingProxyType({}),
    budget: Annotated[str | float, Option(help="Time.")] = "20m",
    size: Annotated[tuple[int, int] | None, Option(help="Size.", short="-s")] = None,
    fill_holes: Annotated[bool, Option(help="Holes.")] = False,
    loss: object = None,
) -> None:
    """Take one parameter of each form; `loss` exists only in Python."""


def test_the_annotation_decides_the_shell_form() -> None:
    parameters, _ = derive_parameters(example)
    kinds = {p.name: get_args(get_args(p.annotation)[0]) or (get_args(p.annotation)[0],) for p in parameters}
    assert kinds == {
        "data": (Path,),
        "inputs": (Path,),
        "weights": (str, type(None)),
        "save": (str,),
        "settings": (list[str], type(None)),
        "budget": (str,),
        "size": (tuple[int, int], type(None)),
        "fill_holes": (bool,),
    }
    infos = {p.name: get_args(p.annotation)[1] for p in parameters}  # Typer keeps the first name as the default
    assert [infos["settings"].default, infos["fill_holes"].default] == ["--set", "--fill-holes"]
    assert (infos["size"].default, infos["size"].param_decls) == ("-s", ("--size",))
    assert {p.name: p.default for p in parameters}["save"] == "labels"


def test_the_help_shows_what_may_be_typed() -> None:
    """A flag takes no value, sizes have no commas, and names of arguments look alike."""
    texts = [CliRunner().invoke(main.app, [*words, "--help"], env={"COLUMNS": "200"}).output
             for words in ([], ["networks"], ["evaluate"])]  # fmt: skip
    assert all("bool" not in text for text in texts)
    assert all(re.search(r"--(verbose|quiet) +-. +Show", text) for text in texts)
    assert "[default: (360 480)]" in texts[1]
    assert "{MODEL} {DATA}..." in texts[2]


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("data", "photos", Path("photos")),
        ("data", "hf://owner/name", "hf://owner/name"),
        ("inputs", ["a/", "https://x/y.png"], (Path("a"), "https://x/y.png")),
        ("weights", "imagenet", "imagenet"),
        ("weights", None, None),
        ("save", "labels, overlay,", ("labels", "overlay")),
        ("settings", ["optimizer.lr=1", "data.crop_size=[2, 3]"], {"optimizer.lr": 1, "data.crop_size": [2, 3]}),
        ("settings", None, {}),
        ("size", (2, 3), (2, 3)),
    ],
)
def test_values_of_the_shell_become_values_of_python(name: str, value: object, parsed: object) -> None:
    _, parsers = derive_parameters(example)
    assert parsers[name](value) == parsed


def shell_parameters(function: Any) -> list[inspect.Parameter]:
    """Return the parameters that are not only in Python."""
    parameters = inspect.signature(function).parameters.values()
    marks = {p.name: getattr(p.annotation, "__metadata__", ()) for p in parameters}
    return [p for p in parameters if any(isinstance(mark, Argument | Option) for mark in marks[p.name])]


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_each_parameter_of_a_command_has_help(name: str) -> None:
    function, _ = main.COMMANDS[name]
    parameters, _ = derive_parameters(function)
    assert [parameter.name for parameter in parameters] == [parameter.name for parameter in shell_parameters(function)]
    assert all(get_args(parameter.annotation)[1].help.endswith(".") for parameter in parameters)


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_each_result_has_a_printer(name: str) -> None:
    result = main.COMMANDS[name][0].__annotations__["return"]
    words = re.findall(r"\w+", result if isinstance(result, str) else getattr(result, "__name__", str(result)))
    assert [word for word in words if word in PRINTERS], words


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_each_command_gets_the_arguments_of_its_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of the shell are those of Python."""
    function, _ = main.COMMANDS[name]
    given: dict[str, Any] = {}
    monkeypatch.setattr(main, "_run", lambda name, function, arguments, words, verbosity: given.update(arguments))
    required = {"data": "d", "model": "m", "inputs": "i", "images": "i", "output": "o", "to": "voc", "classifier": "c"}
    words = []
    for parameter in shell_parameters(function):
        if parameter.default is parameter.empty:
            is_option = any(isinstance(mark, Option) for mark in get_args(parameter.annotation))
            words += [*([f"--{parameter.name}"] if is_option else []), required[parameter.name]]
    with pytest.raises(SystemExit) as end:
        main.main([name, *words])
    assert not end.value.code
    for parameter in shell_parameters(function):
        value = given[parameter.name]
        if parameter.default is not parameter.empty:
            expected = parameter.default
            same = value == (list(expected) if isinstance(expected, tuple) and isinstance(value, list) else expected)
            assert same or str(value) == str(expected), parameter.name


def checked_options() -> Iterator[tuple[str, str, int]]:
    """Yield command, option and number of values for all options whose values Typer checks."""
    for command, built in typer.main.get_command(main.app).commands.items():  # type: ignore[attr-defined]
        parameters = inspect.signature(main.COMMANDS[command][0]).parameters
        for parameter in built.params:
            if parameter.name in parameters:
                hint = get_args(parameters[parameter.name].annotation)[0]
                kinds = {get_origin(part) or part for part in union_parts(hint)}
                if kinds <= {int, float, tuple, Literal}:
                    yield command, max(parameter.opts, key=len), parameter.nargs


def get_refusal(capsys: Capture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main.main(list(arguments))
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("command", "option", "count"), [*checked_options()])
def test_each_invalid_value_gets_our_message(command: str, option: str, count: int, capsys: Capture) -> None:
    message = get_refusal(capsys, command, option, *["exat"] * count)
    assert re.match(rf"pixelwise: (Unknown value for {option}:|{option} is) 'exat'", message), message
    assert re.search(rf"Choose one of: |, such as {option} ", message)


def test_most_options_are_checked() -> None:
    found = {f"{command} {option}" for command, option, _ in checked_options()}
    assert {"predict --tiling", "predict --min-area", "networks --size", "quantize --max-iou-drop", "train --steps",
            "check --resolution", "export --format"} <= found  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "m", "x", "-o", "o", "--tiling", "exat"),
         "pixelwise: Unknown value for --tiling: 'exat'. Did you mean 'exact'? Choose one of: blend, exact, none.\n"),
        (("export", "m", "--format", "onx"), "Unknown value for --format: 'onx'. Did you mean 'onnx'?"),
        (("train", "d", "--steps", "2.5"), "--steps is '2.5', but must be an integer, such as --steps 3."),
        (("quantize", "m", "d", "--max-iou-drop", "a"),
         "--max-iou-drop is 'a', but must be a number, such as --max-iou-drop 0.5."),
        (("networks", "--size", "3", "x"), "--size is 'x', but must be two integers, such as --size 360 480."),
    ],
)  # fmt: skip
def test_an_invalid_value_gets_choices_or_an_example(arguments: Any, message: str, capsys: Capture) -> None:
    assert message in get_refusal(capsys, *arguments)


def test_other_errors_keep_the_message_of_typer(capsys: Capture) -> None:
    assert "Missing option" in get_refusal(capsys, "predict", "m", "x")
    assert describe_error(typer.BadParameter("no")) == "Invalid value: no"


def test_commands_are_functions_of_the_api() -> None:
    assert {function for function, _ in main.COMMANDS.values()} | {api.load} == {
        getattr(api, name) for name in api.__all__
    }
