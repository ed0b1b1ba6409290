"""The surface users build on: public names, commands and options. A change here is deliberate."""

import importlib
import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import pixelwise
import pixelwise.cli.main

OUTPUT = {"-o", "--output"}
WHERE = {"--device", "--precision"}
ENGINE = {"--engine"}

# Command → its arguments, in order, and its options. An option is added here first.
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "check": (["DATA"], {"--format", "--resolution", "--group-by", "--json", "--html"}),
    "convert": (["DATA"], {"--to", "--format"} | OUTPUT),
    "demo": ([], OUTPUT),
    "evaluate": (["MODEL", "DATA"], {"--split", "--format", "--json"} | WHERE | ENGINE),
    "export": (["MODEL"], {"--format", "--logits", "--precision", "--min-agreement"} | OUTPUT),
    "info": ([], set()),
    "localize": (["IMAGE"], {"--classifier", "--weights", "--class"} | OUTPUT),
    "networks": (["NAME"], {"--size"}),
    "plan": (["DATA"], {"--budget", "--format", "--group-by"} | OUTPUT),
    "predict": (
        ["MODEL", "INPUT"],
        {
            "--save",
            "--tiling",
            "--label-values",
            "--min-area",
            "--fill-holes",
            "--tta",
            "--resume",
            "--shard",
            "--cluster",
        }
        | OUTPUT
        | WHERE
        | ENGINE,
    ),
    "quantize": (["MODEL", "DATA"], {"--max-iou-drop", "--format"} | OUTPUT),
    "train": (
        ["DATA"],
        {"--config", "--network", "--encoder", "--weights", "--budget", "--steps", "--resume", "--set", "--seed"}
        | {
            "--deterministic",
            "--format",
            "--group-by",
            "--folds",
            "--skip-invalid",
            "--init-from",
            "--allow-changes",
            "--devices",
            "--profile",
        }
        | OUTPUT
        | WHERE,
    ),
}

HEAVY = ["torch", "torchvision", "timm", "cv2", "scipy", "matplotlib"]
REPORT_HEAVY = f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"


def public_names(module: ModuleType) -> set[str]:
    """What `dir` shows, without the submodules that some import has left there."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and (name in module.__all__ or f"{module.__name__}.{name}" not in sys.modules)
    }


def command_table(app: typer.Typer) -> dict[str, tuple[list[str], set[str]]]:
    """The surface as the command line has it, in the form of COMMANDS."""
    group: Any = typer.main.get_command(app)
    return {name: _arguments_and_options(command) for name, command in group.commands.items()}


def _arguments_and_options(command: Any) -> tuple[list[str], set[str]]:
    arguments = [_argument_word(p) for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    return arguments, {word for p in options for word in (*p.opts, *p.secondary_opts)}


def _argument_word(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper().strip("[].")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, as a user starts it."""
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_all_names_the_public_names() -> None:
    assert set(pixelwise.__all__) - {"__version__"} == public_names(pixelwise)


def test_all_is_sorted_and_short() -> None:
    assert list(pixelwise.__all__) == sorted(set(pixelwise.__all__))
    assert len(pixelwise.__all__) <= 25


@pytest.mark.parametrize("name", pixelwise.__all__)
def test_each_public_name_resolves(name: str) -> None:
    assert getattr(pixelwise, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="segmentate"):
        _ = pixelwise.segmentate


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_is_also_a_function(name: str) -> None:
    assert name in pixelwise.__all__
    function = getattr(pixelwise, name)
    assert callable(function.describe if name == "networks" else function)


def test_networks_is_the_package_and_load_a_function() -> None:
    assert pixelwise.networks is importlib.import_module("pixelwise.networks")
    assert callable(pixelwise.load)


def test_commands_and_options_are_the_frozen_ones() -> None:
    assert command_table(pixelwise.cli.main.app) == COMMANDS


def test_a_new_option_is_noticed() -> None:
    app = typer.Typer()

    @app.command()
    def check(data: str, strict: bool = False) -> None: ...

    @app.command()
    def info() -> None: ...

    assert command_table(app) == {
        "check": (["DATA"], {"--strict", "--no-strict"}),
        "info": ([], set()),
    }


def test_a_leaked_name_is_noticed() -> None:
    module = ModuleType("planted")
    vars(module).update(__all__=["load"], load=len, leaked=len)
    assert public_names(module) == {"load", "leaked"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help(name: str) -> None:
    result = CliRunner().invoke(pixelwise.cli.main.app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    missing = [word for word in COMMANDS[name][1] if word not in result.output]
    assert missing == []


def test_python_m_pixelwise_lists_the_commands() -> None:
    result = python("-m", "pixelwise", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert [name for name in COMMANDS if name not in result.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "data"),
        (["train", "streets", "--speed", "9"], "--speed"),
        (["train", "streets", "--steps", "many"], "--steps"),
        (["fly"], "fly"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = python("-m", "pixelwise", *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert said in result.stderr.lower()


def test_importing_the_package_starts_nothing_heavy() -> None:
    result = python("-c", f"import json, sys, pixelwise, pixelwise.cli.main; {REPORT_HEAVY}")
    assert json.loads(result.stdout) == [], result.stderr


def test_help_starts_nothing_heavy() -> None:
    script = (
        "import json, runpy, sys; sys.argv = ['pixelwise', '--help']\n"
        "try:\n    runpy.run_module('pixelwise', run_name='__main__')\n"
        f"except SystemExit:\n    {REPORT_HEAVY}"
    )
    result = python("-c", script)
    assert json.loads(result.stdout.splitlines()[-1]) == [], result.stderr


def test_a_heavy_start_is_noticed() -> None:
    result = python("-c", f"import json, sys, scipy; {REPORT_HEAVY}")
    assert json.loads(result.stdout) == ["scipy"], result.stderr
