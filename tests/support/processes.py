"""Scripts of these tests that run beside them, because their imports take seconds, and answer line by line."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def waiting(script: str) -> Iterator[subprocess.Popen[str]]:
    """A script beside this file, once it has said that it is ready; it ends with its input."""
    command = [sys.executable, str(Path(__file__).with_name(script))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin
        process.stdin.close()
