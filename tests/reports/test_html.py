import os
from pathlib import Path

import jinja2
import numpy as np
import pytest

from pixelwise.api import check
from pixelwise.data.io.images import write_png
from pixelwise.metrics import ConfusionMatrix, MarginHistogram, compute_scores
from pixelwise.reports.html import make_score_cards, render_page


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


def test_two_classes_have_cards_of_their_own() -> None:
    margins = MarginHistogram()
    margins.update(np.array([-2.0, 0.5, 3.0]), np.array([0, 0, 1]), foreground=1, ignore_index=255)
    confusion, names = ConfusionMatrix.from_counts([[1, 1], [0, 1]]), ["background", "crack"]
    scores = compute_scores(confusion, None, names, num_images=1, foreground=1, margins=margins)
    cards = {title: value for title, value, _ in make_score_cards(scores, 0.3)}
    assert cards["sensitivity (recall) of crack"] == "100.0 %"
    assert cards["specificity of crack"] == "50.0 %"
    assert cards["precision of crack"] == "50.0 %"
    assert cards["AUC (ROC) of crack"] == "100.0 %"
    assert cards["threshold"] == "0.3"
    plain = compute_scores(confusion, None, names, num_images=1)
    assert not [title for title, _, _ in make_score_cards(plain, 0.3) if "crack" in title or title == "threshold"]
