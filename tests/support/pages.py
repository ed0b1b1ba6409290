"""HTML pages in tests: their content, and that they load nothing."""

import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "br", "input", "link", "path", "use"}
HEADINGS = {"h1", "h2", "h3"}


class Page(HTMLParser):
    """The content of a page; fails if a closing tag does not match the innermost open tag."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.bytes = len(content)
        self.source = content.decode()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        """The texts of the cells of each row of a table, without titles of pictures."""
        self.text = ""
        self.feed(self.source)
        assert self.open == []

    def find_row(self, start: str) -> list[str]:
        """Return the first row of a table whose first cell has this text."""
        return next(row for row in self.rows if row[0] == start)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = {key: value or "" for key, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        if tag != "link":
            self.links += [values["href"]] if "href" in values else []
        self.ids += [values["id"]] if "id" in values else []
        if tag in HEADINGS:
            self.headings.append((tag, ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self.open):
            return
        self.text += data
        if HEADINGS & set(self.open):
            tag, text = self.headings[-1]
            self.headings[-1] = tag, f"{text} {data}".strip()
        if {"td", "th"} & set(self.open) and "figcaption" not in self.open:
            self.rows[-1][-1] += data.strip()


def require_offline(page: Page, *files: str) -> None:
    """Fail if a page loads something, or links to another file than those."""
    outside = [url for url in re.findall(r"https?://[^\s\"'<)]+", page.source) if "//www.w3.org/" not in url]
    assert outside == []
    assert all(image["src"].startswith("data:image/") for image in page.images)
    assert not re.search(r"@import|<iframe|<object|src=\"(?!data:)|url\((?!#)|//cdn", page.source)
    assert re.findall("<link[^>]*>", page.source) == ['<link rel="icon" href="data:,">']
    targets = {link for link in page.links if link not in files}
    assert all(target.startswith("#") for target in targets)
    anchors = {target[1:] for target in targets}
    assert anchors <= set(page.ids)
