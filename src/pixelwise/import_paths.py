"""Networks, losses and augmentations of the user, stored by import path ("module:name"), never by pickle."""

import importlib
from collections.abc import Callable
from typing import Any

from pixelwise.errors import InvalidArgumentError, describe_cause


def is_import_path(name: str) -> bool:
    """Return whether a name is an import path, not a name of a table."""
    return ":" in name


def make_import_path(function: Callable[..., Any], parameter: str) -> str:
    """Return the import path of a class or function, such as `my_module:MyNet`.

    Args:
        function: a class or function at the top level of a module.
        parameter: name of the parameter that received it, for messages.

    Raises:
        InvalidArgumentError: it has no import path, such as a lambda, a local function, an instance, or a function of
            the main script.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    fix = "Define a class or function at the top level of a module that can be imported."
    if not module or not name:
        raise InvalidArgumentError(f"{parameter} is an instance of {type(function).__name__}, not a function. {fix}")
    if "<" in name:
        raise InvalidArgumentError(
            f"{parameter} is {name}, a lambda or local function, which cannot be imported. {fix}"
        )
    if module == "__main__":
        raise InvalidArgumentError(f"{parameter} is {name} of the main script, which cannot be imported. {fix}")
    path = f"{module}:{name}"
    if load_import_path(path, parameter) is not function:
        raise InvalidArgumentError(f"{parameter} is not what {path} imports. {fix}")
    return path


def load_import_path(path: str, key: str) -> Callable[..., Any]:
    """Import the class or function of an import path.

    Args:
        path: "module:name".
        key: config key or parameter that holds the path, for messages.

    Raises:
        InvalidArgumentError: the module or the name does not exist.
    """
    module, _, name = path.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
        for part in name.split("."):
            loaded = getattr(loaded, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{key} is {path!r}, which cannot be imported ({describe_cause(error)}). Install its module, or add "
            f"the module's folder to PYTHONPATH."
        ) from error
    if not callable(loaded):
        raise InvalidArgumentError(
            f"{key} is {path!r}, which is not a class or function. Expected module:name of a class or function."
        )
    return loaded  # type: ignore[no-any-return]
