import os
from pathlib import Path

import jinja2
import numpy as np
import pytest

from pixelwise.api import check
from pixelwise.data.io.images import write_png
from pixelwise.reports.html import render_page


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render_page("training_report.html.jinja", {})


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        write_png(tmp_path / "data" / kind / "0.png", np.zeros((4, 4), np.uint8))
        path = tmp_path / "data" / kind / os.fsdecode(b"\xff.png")
        try:
            write_png(path, np.ones((4, 4), np.uint8))
        except OSError:
            pytest.skip("this file system takes only UTF-8")
    check(tmp_path / "data", html_path=tmp_path / "page.html")
    assert "images/?.png" in (tmp_path / "page.html").read_text(encoding="utf-8")
