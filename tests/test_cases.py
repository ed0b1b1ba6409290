"""Small datasets as people have them on disk, with what `check` must say about each.

`cases/NAME/` is a dataset and `cases/NAME.yaml` says what is special about it:

    about: what is unusual
    report: address of the public report of a program that failed on such a dataset
    open: why the case still fails; the test then has to fail
    options: arguments of `check`
    links: path → target of symbolic links to make in the dataset before it is read
    error: words of the error that `check` has to raise
    format, classes, images, splits: as in the report; splits are numbers of images
    findings: code → the files that its findings name; other errors are not allowed
    pixels: class → its number of pixels in all masks
"""

import contextlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import pixelwise as pw
from pixelwise.cli import main
from pixelwise.data.dataset import Dataset

CASES = Path(__file__).parent / "cases"
EXPECTED: Mapping[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CASES.glob("*.yaml"))
}


def copy_case(name: str, folder: Path) -> Path:
    """Copy a case into `folder`, with its links, and return the copy."""
    shutil.copytree(CASES / name, folder / name)
    for path, target in EXPECTED[name].get("links", {}).items():
        if target.startswith("../"):
            sibling = target.split("/")[1]
            shutil.copytree(CASES / sibling, folder / sibling)
        resolved = folder / name / target
        (folder / name / path).symlink_to(resolved, target_is_directory=resolved.is_dir())
    return folder / name


def count_pixels(dataset: Dataset) -> dict[str, int]:
    """Count the pixels of each class in all masks."""
    labels = np.concatenate([dataset.read_labels(sample).ravel() for sample in dataset.samples])
    return {name: int((labels == index).sum()) for index, name in enumerate(dataset.classes.names)}


def test_every_case_is_described() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_check_says_what_is_true(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    expected = EXPECTED[name]
    if "open" in expected:
        request.applymarker(pytest.mark.xfail(reason=str(expected["open"]), strict=True))
    data = copy_case(name, tmp_path)
    if "error" in expected:
        with pytest.raises(pw.PixelwiseError) as raised:
            pw.check(data, **expected.get("options", {}))
        for words in expected["error"]:
            assert words in str(raised.value)
        return
    report = pw.check(data, **expected.get("options", {}))
    assert report.format == expected["format"]
    assert list(report.classes) == expected["classes"]
    assert report.num_images == expected["images"]
    if "splits" in expected:
        assert dict(report.splits) == expected["splits"]
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        found.setdefault(finding.code, []).extend(finding.files)
    assert {code: sorted(found.get(code, ["not found"])) for code in expected["findings"]} == {
        code: sorted(files) for code, files in expected["findings"].items()
    }
    assert {finding.code for finding in report.errors} <= set(expected["findings"])
    if "pixels" in expected:
        assert count_pixels(Dataset.load(data, expected.get("options", {}).get("format"))) == expected["pixels"]


def run_command(*words: object) -> tuple[int, str]:
    """Run a command; return its exit code and the last line that it wrote. A traceback fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main.main([str(word) for word in words])
    lines = (err.getvalue() if end.value.code == 2 else out.getvalue() or err.getvalue()).strip().splitlines()
    return int(end.value.code or 0), lines[-1] if lines else ""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_every_command(name: str, tmp_path: Path) -> None:
    """A set without errors is trained, evaluated, predicted and converted; others end with a message."""
    data = copy_case(name, tmp_path)
    options = [word for key, value in EXPECTED[name].get("options", {}).items() for word in (f"--{key}", value)]
    tiny = ["--set", "network.base_channels=4", "--set", "network.depth=2", "--steps", 2, "--device", "cpu"]
    run, model = tmp_path / "run", tmp_path / "run" / "model.safetensors"
    results = {
        "check": run_command("check", data, *options),
        "train": run_command("train", data, "-o", run, "--weights", "none", *tiny, *options),
    }
    is_clean = results["check"][0] == 0
    if results["train"][0] == 0:
        results["evaluate"] = run_command("evaluate", run, data, *options)
        images = sorted({sample.image_path for sample in pw.Dataset.load(data).samples})
        results["predict"] = run_command("predict", run, *images[:4], "-o", tmp_path / "predictions")
    results["convert"] = run_command("convert", data, "-o", tmp_path / "converted", "--to", "folder")
    print(name, results)
    assert model.exists() == (results["train"][0] == 0)
    assert {code for code, _ in results.values()} <= ({0} if is_clean else {0, 1, 2})
