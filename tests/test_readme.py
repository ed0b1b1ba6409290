"""Commands, files and names in the README exist."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

import pixelwise
import pixelwise.cli.main
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RUN_FILES = {
    "config.yaml", "classes.yaml", "splits.yaml", "files.json", "metrics.jsonl", "events/", "last.checkpoint",
    "previous.checkpoint", "model.safetensors", "report.html", "live.html",
}  # fmt: skip


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(program: str, text: str = README) -> list[list[str]]:
    """Return the arguments of all lines that start with `program`, in shell blocks and in the text."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    lines += re.findall(rf"`({program} [^`]+)`", text)
    split = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [words[1:] for words in split]


def parse(arguments: list[str]) -> None:
    """Parse a command line without running it."""
    group: Any = typer.main.get_command(pixelwise.cli.main.app)
    name, *rest = arguments
    assert name in group.commands, f"there is no command {name!r}"
    group.commands[name].make_context(name, rest)


@pytest.mark.parametrize("arguments", commands("pixelwise"), ids=" ".join)
def test_each_command_is_valid(arguments: list[str]) -> None:
    parse(arguments)


def test_the_main_commands_are_shown() -> None:
    assert {"check", "plan", "train", "evaluate", "predict"} <= {words[0] for words in commands("pixelwise")}


@pytest.mark.parametrize("line", ["pixelwise train data --speed 9", "pixelwise predict run photos", "pixelwise fly"])
def test_an_invalid_command_is_detected(line: str) -> None:
    (arguments,) = commands("pixelwise", f"```sh\n{line}  # a comment\n```\n")
    with pytest.raises((typer.TyperException, AssertionError)):
        parse(arguments)


@pytest.mark.parametrize("target", [words[0] for words in commands("make")])
def test_each_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def mentioned_files() -> list[str]:
    """Return the files of the repository that are linked or quoted."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    quoted = re.findall(r"`((?:docs|src|tests|examples|benchmarks)/[\w./-]*|[A-Z]+\.md)`", README)
    return sorted({name for name in links + quoted if "://" not in name})


@pytest.mark.parametrize("name", mentioned_files())
def test_each_mentioned_file_exists(name: str) -> None:
    assert (REPOSITORY / name).exists()


def test_files_are_mentioned() -> None:
    assert "docs/architecture.md" in mentioned_files()


def test_the_table_of_a_run_folder_is_complete() -> None:
    section = README[README.index("## A run folder") :]
    section = section[: section.index("\n## ", 3)]
    named = set(re.findall(r"`([\w./]+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE))))
    assert named == RUN_FILES


def test_the_python_block_uses_names_that_exist() -> None:
    (block,) = blocks("python")
    used = [
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pixelwise"
    ]
    assert used
    assert [name for name in used if name not in pixelwise.__all__] == []
    attributes = {"predict": pixelwise.Predictor, "labels": pixelwise.Prediction, "probabilities": pixelwise.Prediction}
    for name, owner in attributes.items():
        assert f".{name}" in block
        assert name in dir(owner) or name in owner.__annotations__


def test_the_dataset_yaml_is_read(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "dataset.yaml").write_text(block)
    pixels = [[0, 128, 255]]
    write_png(tmp_path / "images" / "a.png", pixels_of(pixels))
    write_png(tmp_path / "masks" / "a.png", pixels_of(pixels))
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert classes.names == ("background", "cell", "border")
    labels, unlisted = classes.to_labels(pixels_of(pixels))
    assert (labels.tolist(), unlisted) == ([[0, 1, 2]], [])


def pixels_of(values: list[list[int]]) -> Any:
    import numpy as np

    return np.array(values, np.uint8)
