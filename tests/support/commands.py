"""Commands inside messages, read with the parser of the command line."""

import re
import shlex
from typing import Any

import typer.main

from pixelwise.cli.main import app


def parse_command(message: str) -> tuple[str, dict[str, Any]]:
    """Parse the first command in a message, up to the end of its sentence or line; returns its name and parameters.

    Raises the error of the parser if an option is unknown or a value is invalid.
    """
    found = re.search(r"pixelwise ([a-z]+ .*?)(?:\.(?: |$)| again| on this machine|$)", message, re.MULTILINE)
    assert found, message
    text = found[1].removesuffix("'") if found[1].count("'") % 2 else found[1]  # the quotes around a command
    name, *words = shlex.split(text)
    group: Any = typer.main.get_command(app)
    context = group.commands[name].make_context(name, words)
    return name, {key: value for key, value in context.params.items() if value not in (None, [])}
