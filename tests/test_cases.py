"""Small datasets as people have them on disk, with what `check` must say about each.

`cases/NAME/` is a dataset and `cases/NAME.yaml` says what is special about it:

    about: what is unusual
    open: why the case still fails; the test then has to fail
    options: arguments of `check`
    links: path → target of symbolic links to make in the dataset before it is read
    error: words of the error that `check` has to raise
    format, classes, images, splits: as in the report; splits are numbers of images
    findings: code → the files that its findings name; other errors are not allowed
    pixels: class → its number of pixels in all masks
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import pixelwise as pw
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
