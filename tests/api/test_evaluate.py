"""`evaluate` as a command: the page that it writes."""

from pathlib import Path

import pytest

from pixelwise.api import evaluate
from pixelwise.errors import InvalidArgumentError
from support.pages import Page, require_offline


def test_the_page_has_the_images_and_scores_of_the_split(trained: Path, streets: Path, tmp_path: Path) -> None:
    result = evaluate(trained, streets, html_path=tmp_path / "page.html", device="cpu")
    page = Page((tmp_path / "page.html").read_bytes())
    require_offline(page)
    assert ("h1", "trained on streets") in page.headings
    assert "All 4 test images" in page.text
    assert len(page.images) == 4 * 4
    assert f"<b>{100 * (result.mean_iou or 0):.1f} %</b>" in page.source
    assert f"pixelwise evaluate {trained} {streets} --split test" in page.text
    evaluate(trained, streets, html_path=tmp_path / "page.html", device="cpu")  # its own file is replaced
    with pytest.raises(InvalidArgumentError, match=r"page\.html"):
        evaluate(trained, streets, split="val", html_path=tmp_path / "page.html", device="cpu")
