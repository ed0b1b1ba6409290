"""The examples in the docstrings of public names run."""

import doctest
import importlib
import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest

import pixelwise as pw
from pixelwise.data.io.images import read_image

NAMES = [name for name in pw.__all__ if callable(getattr(pw, name)) and not name.endswith("Error")]
SECTIONS = ("Args:", "Returns:", "Raises:", "Example:")


def collect_examples(name: str, names: dict[str, Any]) -> list[doctest.DocTest]:
    value = getattr(pw, name)
    module = importlib.import_module(value.__module__)
    found = doctest.DocTestFinder(recurse=False).find(value, name, module, {**vars(module), **names})
    if inspect.isclass(value):
        for key, member in vars(value).items():
            text = inspect.getdoc(member) if not key.startswith("_") else None
            if text and ">>>" in text:
                names = {**vars(module), **names}
                found.append(doctest.DocTestParser().get_doctest(text, names, f"{name}.{key}", None, None))
    return [example for example in found if example.examples]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str, streets: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    monkeypatch.chdir(tmp_path)
    model = shutil.copytree(trained, tmp_path / "model")
    images = streets / "images" / "test"
    image = read_image(images / "0000.png")
    names = {"pw": pw, "data": streets, "model": model, "photos": images, "image": image}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    output: list[str] = []
    for example in collect_examples(name, names):
        runner.run(example, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isfunction(getattr(pw, name))])
def test_functions_have_all_sections(name: str) -> None:
    text = inspect.getdoc(getattr(pw, name)) or ""
    parameters = list(inspect.signature(getattr(pw, name)).parameters)
    missing = [section for section in SECTIONS if section not in text]
    assert missing == ([] if parameters else ["Args:", "Raises:"])
    assert [parameter for parameter in parameters if f"    {parameter}: " not in text] == []
