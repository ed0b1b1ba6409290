"""Targets of make, files and names in the README exist; `test_docs.py` runs its commands."""

import re
from pathlib import Path
from typing import Any

import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RUN_FILES = {
    "config.yaml", "classes.yaml", "splits.yaml", "files.json", "metrics.jsonl", "events/", "last.checkpoint",
    "previous.checkpoint", "model.safetensors", "report.html", "live.html",
}  # fmt: skip


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
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


def test_the_dataset_yaml_is_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
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
