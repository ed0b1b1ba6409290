"""Test the docstrings of the public names of networks, ops, losses and metrics, and the examples of all modules."""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pixelwise

MODULES = [importlib.import_module(f"pixelwise.{name}") for name in ("losses", "metrics", "networks", "ops")]
SOURCE = Path(pixelwise.__file__).parent
EXAMPLES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8") and path.parent.name not in ("api", "losses", "ops")
]
NAMES = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in MODULES
    for name in module.__all__
    if callable(getattr(module, name))
]


def list_parameters(documented: Any) -> list[str]:
    """Return the parameters that a user passes: those of a function, of a constructor or of a protocol's call."""
    function = documented
    if inspect.isclass(documented):
        function = documented.__call__ if getattr(documented, "_is_protocol", False) else documented.__init__
    return [name for name in inspect.signature(function).parameters if name != "self"]


def find_faults(documented: Any) -> list[str]:
    """Return what is missing in a docstring: sections, parameters, a summary of one line."""
    text = inspect.getdoc(documented) or ""
    faults = [section for section in ("Args", "Returns", "Raises", "Example") if f"\n{section}:\n" not in text]
    arguments = re.search(r"\nArgs:\n(.*?)\n\n", text, flags=re.DOTALL)
    described = re.findall(r"^    (\w+):", arguments[1] if arguments else "", flags=re.MULTILINE)
    if described != list_parameters(documented):
        faults.append(f"Args are {described}, parameters are {list_parameters(documented)}")
    if not re.match(r"[A-Z][^\n]*[.:]\n\n", text):
        faults.append("the first paragraph is not one line")
    return faults


@pytest.mark.parametrize("documented", NAMES)
def test_docstrings_have_all_sections(documented: Any) -> None:
    assert find_faults(documented) == []


def test_faults_are_found() -> None:
    def undocumented(image: int) -> None:
        """Do something.

        Args:
            picture: An image.

        Returns:
            None.
        """

    assert find_faults(undocumented) == ["Raises", "Example", "Args are ['picture'], parameters are ['image']"]


@pytest.mark.parametrize("documented", NAMES)
def test_examples_run(documented: Any) -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    assert test.examples
    output: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert result.failed == 0, "".join(output)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_examples_of_all_modules_run(path: Path) -> None:
    """Run the examples of names that are not public; those of public names need a model, and run elsewhere."""
    module = importlib.import_module(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    finder = doctest.DocTestFinder(exclude_empty=True)
    public = {f"{module.__name__}.{name}" for name in pixelwise.__all__}
    output: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in finder.find(module):
        if not any(test.name == name or test.name.startswith(f"{name}.") for name in public):
            runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_lists_every_public_name(module: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and value.__module__.startswith(module.__name__)
    }
    assert defined <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    assert sorted(module.__all__) == list(module.__all__)
