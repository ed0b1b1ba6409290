"""Commands as Python functions: one typed signature each, from which the command line is derived.

The modules have other names than the functions, because importing a submodule replaces the attribute of its name.
"""

from pixelwise.api.datasets import check, convert, plan
from pixelwise.api.environment import describe_config, info
from pixelwise.api.models import describe_networks, evaluate, export, load, localize, predict, quantize
from pixelwise.api.training import demo, train

__all__ = [
    "check",
    "convert",
    "demo",
    "describe_config",
    "describe_networks",
    "evaluate",
    "export",
    "info",
    "load",
    "localize",
    "plan",
    "predict",
    "quantize",
    "train",
]
