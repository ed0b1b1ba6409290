"""What the pages share: one style, one way to fill a template, and pictures inside the file itself."""

import base64
import io
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from PIL import Image

from pixelwise.data.io.images import Array


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


def embed(pixels: Array, side: int, quality: int = 88) -> str:
    """(H, W, 3) uint8, shrunk to at most `side` → a data URI, so that the page needs no other file."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def css_color(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)
