"""The blocks of code of README and docs run, in order, in one folder for each page, and print what the page shows.

Training is shortened: two steps instead of a budget. The reasons of blocks that are not run are printed at the end.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pixelwise.cli.main import app, main
from support.doc_blocks import Block, read_blocks

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in (REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"))
}
BLOCKS = {name: blocks for name, text in PAGES.items() if (blocks := read_blocks(text))}
TINY = ("--steps", "2", "--set", "data.crop_size=[32,32]", "--set", "network.base_channels=4")
"""Options of each `train` instead of its budget."""
TINY_IN_PYTHON = 'steps=2, settings={"network.base_channels": 4, "data.crop_size": [32, 32]}'


def run_page(blocks: list[Block]) -> list[str]:
    """Run the blocks of a page in the current folder; return what is wrong."""
    names: dict[str, Any] = {"__name__": "page"}
    faults = []
    for block in blocks:
        if block.reason is not None:
            continue
        code = block.code.replace('budget="20m"', TINY_IN_PYTHON)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if block.language == "python":
                    exec(compile(code, f"line {block.line}", "exec"), names)
                else:
                    run_shell(code)
        except (Exception, SystemExit) as error:
            faults.append(f"line {block.line}: {type(error).__name__}: {error}")
            continue
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if block.output is not None and not doctest.OutputChecker().check_output(
            block.output, printed.getvalue(), flags
        ):
            faults.append(f"line {block.line} prints\n{printed.getvalue()}\nand not\n{block.output}")
    return faults


def run_shell(code: str) -> None:
    """Run the commands of a block; only `pixelwise` is run."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "pixelwise":
            raise ValueError(f"{words[0]} is not run here; say why with no-run")
        if words[1] == "train":
            words = [*shlex.split(re.sub(r" --budget \S+", "", shlex.join(words))), *TINY]
        try:
            main(words[1:])
        except SystemExit as end:
            if end.code:
                raise ValueError(f"{line} ends with {end.code}") from end


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_of_a_page_run(name: str, streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(streets, tmp_path / "data")
    shutil.copytree(streets / "images" / "test", tmp_path / "photos")
    assert run_page(BLOCKS[name]) == []


def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = """
<!-- setup
from pathlib import Path
Path("made").touch()
-->

```python
x = 2
print(x, "and 0.123456")
```

```text
2 and 0.12...
```

<!-- no-run: takes long -->
```sh
sleep 1000
```

```python
print(x + 1)
```

```text
4
```

```sh
pixelwise check missing
make test
```
"""
    blocks = read_blocks(page)
    assert [(block.language, block.reason) for block in blocks] == [
        ("python", None), ("python", None), ("sh", "takes long"), ("python", None), ("sh", None)
    ]  # fmt: skip
    wrong_output, wrong_command = run_page(blocks)
    assert wrong_output == "line 21 prints\n3\n\nand not\n4\n"
    assert wrong_command == "line 29: ValueError: pixelwise check missing ends with 2"
    assert os.listdir() == ["made"]
    (again,) = run_page(read_blocks("```sh\nmake test\n```\n"))
    assert again == "line 1: ValueError: make is not run here; say why with no-run"


def list_commands(text: str) -> list[list[str]]:
    """Return the arguments of all lines that start with `pixelwise`, in blocks and in the text."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^(?: {4})?(pixelwise [^\n]+)$", joined, re.MULTILINE)
    lines += re.findall(r"`(pixelwise [^`\n]+)`", text)
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words[1].isalpha()]


@pytest.mark.parametrize("arguments", [words for text in PAGES.values() for words in list_commands(text)], ids=" ".join)
def test_each_command_is_valid(arguments: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    name, *rest = arguments
    assert name in group.commands, f"there is no command {name!r}"
    if rest:  # else only the command is named
        group.commands[name].make_context(name, rest)


@pytest.mark.parametrize("line", ["pixelwise train data --speed 9", "pixelwise predict run photos", "pixelwise fly"])
def test_an_invalid_command_is_detected(line: str) -> None:
    (arguments,) = list_commands(f"Run:\n\n    {line}  # a comment\n")
    with pytest.raises((typer.TyperException, AssertionError)):
        test_each_command_is_valid(arguments)


def test_the_main_commands_are_shown() -> None:
    assert {"check", "plan", "train", "evaluate", "predict"} <= {
        words[0] for words in list_commands(PAGES["README.md"])
    }


def test_blocks_that_are_not_run_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [(name, block) for name, blocks in BLOCKS.items() for block in blocks if block.reason is not None]
    with capsys.disabled():
        print()
        for name, block in skipped:
            print(f"{name}, line {block.line} is not run: {block.reason}")
    assert all(block.reason and block.reason.strip() for _, block in skipped)
