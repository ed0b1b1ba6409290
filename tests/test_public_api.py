"""Public names, commands and options. A change here is deliberate."""

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import pixelwise
import pixelwise.cli.main
import pixelwise.cli.results
from pixelwise.api.options import Argument, Option

OUTPUT = {"-o", "--output"}
OVERWRITE = {"--overwrite"}
WHERE = {"--device", "--precision"}
ENGINE = {"--engine"}

# Command → its arguments, in order, and its options. Add a new option here first.
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "check": (["DATA"], {"--format", "--masks", "--resolution", "--group-by", "--json", "--html"} | OVERWRITE),
    "convert": (["DATA"], {"--to", "--format", "--masks"} | OUTPUT | OVERWRITE),
    "demo": ([], OUTPUT | OVERWRITE | WHERE),
    "evaluate": (
        ["MODEL", "DATA"],
        {"--split", "--threshold", "--choose-threshold", "--format", "--masks", "--json", "--html"}
        | OVERWRITE
        | WHERE
        | ENGINE,
    ),
    "export": (
        ["MODEL"],
        {"--format", "--logits", "--precision", "--min-agreement", "--opset", "--fixed-size", "--threshold"}
        | OUTPUT
        | OVERWRITE,
    ),
    "config": ([], {"--json-schema"}),
    "info": ([], set()),
    "localize": (["IMAGE"], {"--classifier", "--weights", "--class", "--device"} | OUTPUT | OVERWRITE),
    "networks": (["NAME"], {"--size", "--channels", "--classes", "--encoder", "--set"}),
    "plan": (
        ["DATA"],
        {"--budget", "--network", "--set", "--seed", "--format", "--masks", "--group-by"} | OUTPUT | OVERWRITE | WHERE,
    ),
    "predict": (
        ["MODEL", "INPUT"],
        {
            "--save",
            "--tiling",
            "--label-values",
            "--min-area",
            "--fill-holes",
            "--simplify",
            "--overlay-style",
            "--opacity",
            "--threshold",
            "--tta",
            "--samples",
            "--seed",
            "--resume",
            "--shard",
            "--cluster",
        }
        | OUTPUT
        | OVERWRITE
        | WHERE
        | ENGINE,
    ),
    "quantize": (["MODEL", "DATA"], {"--max-iou-drop", "--format", "--masks"} | OUTPUT | OVERWRITE),
    "train": (
        ["DATA"],
        {"--config", "--network", "--encoder", "--weights", "--budget", "--steps", "--resume", "--set", "--seed"}
        | {
            "--deterministic",
            "--format",
            "--masks",
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
    """Return the names that `dir` shows, without submodules that an import has added."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and (name in module.__all__ or f"{module.__name__}.{name}" not in sys.modules)
    }


SHARED = {"-v", "--verbose", "-q", "--quiet"}
"""Options of every command."""


def command_table(app: typer.Typer) -> dict[str, tuple[list[str], set[str]]]:
    """Return the commands of an app in the form of COMMANDS."""
    group: Any = typer.main.get_command(app)
    return {name: _arguments_and_options(command) for name, command in group.commands.items()}


def _arguments_and_options(command: Any) -> tuple[list[str], set[str]]:
    arguments = [_argument_word(p) for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    return arguments, {word for p in options for word in (*p.opts, *p.secondary_opts)} - SHARED


def _argument_word(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper().strip("[].")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter."""
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_all_lists_the_public_names() -> None:
    assert set(pixelwise.__all__) == {*public_names(pixelwise), "__version__"}


def test_all_is_sorted_and_short() -> None:
    assert list(pixelwise.__all__) == sorted(set(pixelwise.__all__))
    assert len(pixelwise.__all__) <= 30


@pytest.mark.parametrize("name", pixelwise.__all__)
def test_each_public_name_resolves(name: str) -> None:
    assert getattr(pixelwise, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="segmentate"):
        _ = pixelwise.segmentate


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_is_also_a_function(name: str) -> None:
    in_python = {"networks": pixelwise.networks.describe, "config": pixelwise.Config.json_schema}
    assert callable(in_python.get(name) or getattr(pixelwise, name))
    assert name in in_python or name in pixelwise.__all__


def test_networks_is_the_package_and_load_a_function() -> None:
    assert pixelwise.networks is importlib.import_module("pixelwise.networks")
    assert callable(pixelwise.load)


def test_commands_and_options_are_frozen() -> None:
    assert command_table(pixelwise.cli.main.app) == COMMANDS


def test_a_new_option_is_detected() -> None:
    app = typer.Typer()

    @app.command()
    def check(data: str, strict: bool = False) -> None: ...

    @app.command()
    def info() -> None: ...

    assert command_table(app) == {
        "check": (["DATA"], {"--strict", "--no-strict"}),
        "info": ([], set()),
    }


def test_a_leaked_name_is_detected() -> None:
    module = ModuleType("planted")
    vars(module).update(__all__=["load"], load=len, leaked=len)
    assert public_names(module) == {"load", "leaked"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help(name: str) -> None:
    result = CliRunner().invoke(pixelwise.cli.main.app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    missing = [word for word in COMMANDS[name][1] if word not in result.output]
    assert missing == []
    assert [
        word for word in ("<bool>", "--verbose -v <int>", "360, 480") if word in " ".join(result.output.split())
    ] == []
    usage = next(line for line in result.output.splitlines() if "Usage:" in line)
    assert usage.split("[OPTIONS]")[1] == usage.split("[OPTIONS]")[1].upper()


def test_python_m_pixelwise_lists_the_commands() -> None:
    result = python("-m", "pixelwise", "--help")
    assert (result.returncode, result.stderr, "<" in result.stdout) == (0, "", False)
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
def test_an_invalid_command_line_gives_one_message_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = python("-m", "pixelwise", *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert said in result.stderr.lower()


def test_importing_the_package_imports_nothing_heavy() -> None:
    result = python("-c", f"import json, sys, pixelwise, pixelwise.cli.main; {REPORT_HEAVY}")
    assert json.loads(result.stdout) == [], result.stderr


def test_result_classes_do_not_import_pytorch() -> None:
    """The modules of the classes are those from which `pixelwise.cli.results` takes them for its annotations."""
    source = Path(inspect.getfile(pixelwise.cli.results)).read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    modules = {str(node.module) for node in imports if node.names[-1].name.endswith(("Report", "Result", "Finding"))}
    assert {"pixelwise.training.results", "pixelwise.exporting.result"} <= modules
    result = python("-c", f"import sys, {', '.join(sorted(modules))}; print('torch' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import json, runpy, sys; sys.argv = ['pixelwise', '--help']\n"
        "try:\n    runpy.run_module('pixelwise', run_name='__main__')\n"
        f"except SystemExit:\n    {REPORT_HEAVY}"
    )
    result = python("-c", script)
    assert json.loads(result.stdout.splitlines()[-1]) == [], result.stderr


def test_a_heavy_import_is_detected() -> None:
    result = python("-c", f"import json, sys, scipy; {REPORT_HEAVY}")
    assert json.loads(result.stdout) == ["scipy"], result.stderr


IMPORT_ALL = """
import importlib, json, pkgutil
import pixelwise
failed = []
for module in pkgutil.walk_packages(pixelwise.__path__, "pixelwise."):
    if module.name in ("pixelwise.__main__", "pixelwise.ops.kernels.pixelwise_pooling"):  # the latter is not Python
        continue
    try:
        importlib.import_module(module.name)
    except ImportError:  # of an extra that is not installed
        failed.append(module.name)
import pixelwise.api
others = {"__version__", "losses", "metrics", "networks", "ops"}
functions = [name for name in pixelwise.__all__ if name.islower() and name not in others]
modules = [name for name in functions if not callable(getattr(pixelwise, name))]
modules += [name for name in pixelwise.api.__all__ if not callable(getattr(pixelwise.api, name))]
print(json.dumps({"functions": functions, "modules": modules, "failed": failed}))
"""


def test_no_module_has_the_name_of_a_function() -> None:
    """Importing a submodule replaces the attribute of its name."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert {"train", "load", "export"} <= set(found["functions"])
    assert (found["modules"], found["failed"]) == ([], [])


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    tree = ast.parse(Path(pixelwise.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed | {"__version__"} == set(pixelwise.__all__)
    assert dir(pixelwise) == pixelwise.__all__


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_commands_shorten_the_waits_of_threads_unless_the_user_chose(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    pixelwise.cli.main.shorten_thread_waits(environment)
    assert environment == expected


def test_help_is_fast() -> None:
    """Processor time, best of three: other processes may use the machine."""
    seconds = []
    for _ in range(3):
        before = os.times()
        assert python("-m", "pixelwise", "--help").returncode == 0
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("words", [["--version"], ["-h"], ["train", "-h"]])
def test_version_and_short_help(words: list[str]) -> None:
    result = python("-m", "pixelwise", *words)
    assert (result.returncode, result.stderr) == (0, "")
    assert (pixelwise.__version__ if words == ["--version"] else "Usage") in result.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_is_short(name: str) -> None:
    function, text = pixelwise.cli.main.COMMANDS[name]
    assert len(text) < 70
    assert "?" not in text
    for parameter in inspect.signature(function).parameters.values():
        marks = getattr(parameter.annotation, "__metadata__", ())
        for mark in (mark for mark in marks if isinstance(mark, Argument | Option)):
            assert "docs/" not in mark.help
            assert "default" not in mark.help.lower()  # the tool shows it


def test_the_shell_completes_commands_and_options() -> None:
    script = "import sys; sys.argv = ['pixelwise']; from pixelwise.cli.main import main; main()"
    for words, completion in (("pixelwise tr", "train"), ("pixelwise predict --til", "--tiling")):
        environment = {"_PIXELWISE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": f"{words.count(' ')}"}
        result = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completion in result.stdout.split(), result.stderr
