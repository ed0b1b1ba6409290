"""What the pages share: one style, one way to fill a template, and pictures inside the file itself."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """A page from a template of this package; whatever `values` hold is escaped, a missing one is an error."""
    folder = files("pixelwise.reports")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Names of files need not be UTF-8: what is not comes out as a question mark.
    return environment.get_template(template).render(values).encode("utf-8", "replace")
