"""Render HTML pages from the templates of this package."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2


def render_page(template: str, values: Mapping[str, Any]) -> bytes:
    """Render a template; values are escaped, and a missing value is an error."""
    folder = files("pixelwise.reports")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # File names may not be UTF-8; their other bytes become question marks.
    return environment.get_template(template).render(values).encode("utf-8", "replace")
