"""The command line: one command per function of `pixelwise.api`, its exit codes and its messages."""

import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from pixelwise import api
from pixelwise.cli.parameters import derive_parameters, describe_error
from pixelwise.errors import PixelwiseError
from pixelwise.progress import count_budget_from
from pixelwise.version import __version__

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""

COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "demo": (api.demo, "Complete example on a generated dataset, in under three minutes."),
    "check": (api.check, "Report of problems in a dataset and how to fix them."),
    "convert": (api.convert, "Conversion of a dataset to another format."),
    "plan": (api.plan, "Config for a dataset, this machine and a time budget."),
    "train": (api.train, "Training of a network, with scores and a report."),
    "evaluate": (api.evaluate, "Scores of a model on a dataset."),
    "predict": (api.predict, "Label maps of images and videos."),
    "quantize": (api.quantize, "int8 file of a model, with its measured accuracy."),
    "export": (api.export, "ONNX, OpenVINO or torch.export file of a model."),
    "networks": (api.describe_networks, "List of networks with size and cost, or of the layers of one."),
    "localize": (api.localize, "Heat maps of the classes that a classifier sees."),
    "config": (api.describe_config, "Configuration keys with defaults and legal values."),
    "info": (api.info, "Versions, kernels, devices and threads, for bug reports."),
}
"""Command → its function, and its help."""

app = typer.Typer(
    name="pixelwise",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(slots=True)
class Invocation:
    """The words of the command line, and how much it shows."""

    words: list[str] = field(default_factory=lambda: sys.argv[1:])
    verbosity: int = 0


Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More messages.", show_default=False)]
Quiet = Annotated[int, typer.Option("-q", "--quiet", count=True, help="Only warnings and results.", show_default=False)]


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
        bool, typer.Option("--version", help="Version of Pixelwise.", callback=_print_version, is_eager=True)
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
    app.command(name, help=text)(command)


def _run(name: str, function: Callable[..., Any], arguments: dict[str, Any], words: list[str], verbosity: int) -> None:
    if name == "train":
        _launch_processes(arguments, words)
    from pixelwise.cli.console import show_progress
    from pixelwise.cli.results import has_failures, print_result

    with show_progress(verbosity):
        result = function(**arguments)
    if name == "train":
        from pixelwise.api.launch import is_first_process

        if not is_first_process():
            return
    print_result(result, arguments)
    if has_failures(result):
        raise typer.Exit(1)


def _launch_processes(arguments: dict[str, Any], words: list[str]) -> None:
    """Run `train --devices N` again in N processes, and exit with their code."""
    from pixelwise.api.launch import launch, require_devices
    from pixelwise.training.distributed import is_distributed

    if arguments["devices"] is None:
        return
    require_devices(arguments["devices"], arguments["device"])
    if arguments["devices"] > 1 and not is_distributed():
        raise typer.Exit(launch(words, arguments["devices"]))


for _name, (_function, _text) in COMMANDS.items():
    _register(_name, _function, _text)


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; exit with 0 (done), 1 (done, with failures), 2 (invalid request) or 130 (interrupted)."""
    started = time.monotonic()  # a budget counts from here, imports included
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with count_budget_from(started):
            code = app(words, standalone_mode=False, obj=Invocation(words))
        if code == INTERRUPTED:  # Typer turns Ctrl-C into an exit without a message
            print("pixelwise: interrupted", file=sys.stderr)
    except (PixelwiseError, OSError) as error:  # OSError: a read-only folder, a full disk
        print(f"pixelwise: {error}", file=sys.stderr)
        code = 2
    except typer.TyperException as error:
        if message := describe_error(error):
            print(f"pixelwise: {message}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("pixelwise: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
