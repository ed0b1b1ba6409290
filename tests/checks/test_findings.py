import re
from pathlib import Path

import pytest

from pixelwise.checks.findings import CODES, count, finding, printable, sentence, some

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "check.md"


def test_every_code_is_documented_with_its_severity() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| .+ \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(code, severity) for code, (severity, _) in CODES.items()]


def test_a_finding_has_the_severity_of_its_code() -> None:
    assert finding("missing_mask", ["a.png"], "m.", "f.").severity == "error"
    assert finding("split_made", (), "m.", "f.").severity == "note"


def test_bytes_that_are_no_text_are_shown() -> None:
    assert printable("caf\udce9.png") == "caf\\xe9.png"
    assert printable("café.png") == "café.png"
    assert finding("missing_mask", (), "caf\udce9", "").message == "caf\\xe9"


@pytest.mark.parametrize(
    ("names", "shown"), [(["a"], "a"), (list("abc"), "a, b, c"), (list("abcde"), "a, b, c and 2 more")]
)
def test_some(names: list[str], shown: str) -> None:
    assert some(names) == shown


def test_words() -> None:
    assert (count(1, "mask"), count(2, "mask"), count(12345, "mask")) == ("1 mask", "2 masks", "12,345 masks")
    assert sentence("write 'X' there.") == "Write 'X' there."
    assert sentence("") == ""
