"""The command line: one command per function of `pixelwise.api`, its exit codes and its messages."""

import codecs
import gc
import importlib
import inspect
import io
import os
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pixelwise import api
from pixelwise.cli.parameters import derive_parameters, describe_error
from pixelwise.errors import PixelwiseError, describe_failure
from pixelwise.progress import STARTED_VARIABLE, budget_start, count_budget_from
from pixelwise.version import __version__

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""

COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "demo": (api.demo, "Run a complete example on generated data, in under three minutes."),
    "check": (api.check, "Report problems in a dataset and how to fix them."),
    "convert": (api.convert, "Convert a dataset to another format."),
    "plan": (api.plan, "Choose a config for a dataset, this machine and a time budget."),
    "train": (api.train, "Train a network, score it and write a report."),
    "evaluate": (api.evaluate, "Compute the scores of a model on a dataset."),
    "predict": (api.predict, "Predict label maps of images and videos."),
    "quantize": (api.quantize, "Write an int8 file of a model and measure its accuracy."),
    "export": (api.export, "Write a model as an ONNX, OpenVINO or torch.export file."),
    "networks": (api.describe_networks, "List networks with their size and cost, or the layers of one."),
    "localize": (api.localize, "Write heat maps of the classes that a classifier sees."),
    "config": (api.describe_config, "List configuration keys with defaults and legal values."),
    "info": (api.info, "Show versions, kernels, devices and threads, for bug reports."),
}
"""Command → its function, and its help."""

TORCH_COMMANDS = {"demo", "train", "evaluate", "predict", "quantize", "export", "networks", "localize"}
"""Commands that import PyTorch before they do anything else."""

_SUBSTITUTES = {
    "→": "->",
    "…": "...",
    "×": "x",
    "·": "-",
    "–": "-",
    "−": "-",
    "±": "+/-",
    "²": "^2",
    "━": "-",
    "╸": " ",
}
"""Characters of messages, tables and bars that some consoles cannot show."""


def _hide_types_of_flags(parameters: list[Any]) -> list[Any]:
    """Return the parameters without a type in the help of those that take no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    """A command whose help shows no type for its flags, `--help` included."""

    def get_params(self, ctx: Any) -> Any:
        return _hide_types_of_flags(super().get_params(ctx))


class _CommandGroup(TyperGroup):
    """The commands, with the same help."""

    def get_params(self, ctx: Any) -> Any:
        return _hide_types_of_flags(super().get_params(ctx))


app = typer.Typer(
    name="pixelwise",
    cls=_CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(slots=True)
class Invocation:
    """The words of the command line, and how much it shows."""

    words: list[str] = field(default_factory=lambda: sys.argv[1:])
    verbosity: int = 0


Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Show more messages.", show_default=False)]
Quiet = Annotated[
    int, typer.Option("-q", "--quiet", count=True, help="Show only warnings and results.", show_default=False)
]


def _print_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"pixelwise {__version__}")
        raise typer.Exit


@app.callback(help="Semantic segmentation: from a folder of images and masks to a trained, measured model.")
def _set_verbosity(
    context: typer.Context,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    context.ensure_object(Invocation).verbosity = verbose - quiet


def _register(name: str, function: Callable[..., Any], text: str) -> None:
    parameters, parsers = derive_parameters(function)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        inspect.Parameter("verbose", keyword, default=0, annotation=Verbose),
        inspect.Parameter("quiet", keyword, default=0, annotation=Quiet),
    ]

    def command(context: typer.Context, verbose: int, quiet: int, **values: Any) -> None:
        invocation = context.ensure_object(Invocation)
        verbosity = invocation.verbosity + verbose - quiet
        _run(name, function, {key: parsers[key](value) for key, value in values.items()}, invocation.words, verbosity)

    signature = inspect.Signature([*parameters, *shared])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    app.command(name, cls=_Command, help=text)(command)


def _import_torch() -> None:
    """Import PyTorch without garbage collection, which would take a sixth of the time and find nothing."""
    gc.disable()
    importlib.import_module("torch")
    gc.freeze()
    gc.enable()


def _run(name: str, function: Callable[..., Any], arguments: dict[str, Any], words: list[str], verbosity: int) -> None:
    if name == "train":
        _launch_processes(arguments, words)
    if name in TORCH_COMMANDS:
        _import_torch()
    from pixelwise.cli.console import show_progress
    from pixelwise.cli.results import has_failures, print_result

    with show_progress(verbosity):
        result = function(**arguments)
    if name == "train":
        from pixelwise.training.distributed import is_first_process

        if not is_first_process():
            return
    print_result(result, arguments)
    if has_failures(result):
        raise typer.Exit(1)


def _launch_processes(arguments: dict[str, Any], words: list[str]) -> None:
    """Run `train --devices N` again in N processes, and exit with their code."""
    from pixelwise.training.distributed import is_distributed, require_devices

    if arguments["devices"] is None:
        return
    require_devices(arguments["devices"], arguments["device"])
    if arguments["devices"] > 1 and not is_distributed():
        raise typer.Exit(_launch(words, arguments["devices"]))


def _launch(words: list[str], devices: int) -> int:
    """Run `pixelwise` with these arguments in several processes, wait for them, and return their exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from pixelwise.devices import count_cpus

    os.environ[STARTED_VARIABLE] = str(budget_start())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cpus() // devices)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=f"pixelwise-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "pixelwise", *words)
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code  # the convention of shells
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


for _name, (_function, _text) in COMMANDS.items():
    _register(_name, _function, _text)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Return text for the characters that a stream cannot encode, and where to continue."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    texts = [_SUBSTITUTES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters]
    return "".join(texts), error.end


def shorten_thread_waits(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads sleep soon while they wait for each other. Call it before PyTorch is imported.

    By default they keep their cores busy for milliseconds. If another program runs on these cores, the thread that they
    wait for then gets none. Waiting actively for some microseconds costs an idle machine nothing.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "2000")  # GNU: Linux
        environment.setdefault("KMP_BLOCKTIME", "0")  # Intel, LLVM: conda, macOS, Windows


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; exit with 0 (done), 1 (done, with failures), 2 (invalid request) or 130 (interrupted)."""
    started = time.monotonic()  # a budget counts from here, imports included
    shorten_thread_waits(os.environ)
    codecs.register_error("pixelwise", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names and messages must not end a command
            stream.reconfigure(errors="pixelwise")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with count_budget_from(started):
            code = app(words, standalone_mode=False, obj=Invocation(words))
        if code == INTERRUPTED:  # Typer turns Ctrl-C into an exit without a message
            print("pixelwise: interrupted", file=sys.stderr)
    except (PixelwiseError, OSError) as error:  # OSError: a read-only folder, a full disk
        print(f"pixelwise: {describe_failure(error)}", file=sys.stderr)
        code = 2
    except typer.TyperException as error:
        if message := describe_error(error):
            print(f"pixelwise: {message}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("pixelwise: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
