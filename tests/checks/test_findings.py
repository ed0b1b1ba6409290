import re
from pathlib import Path

import pytest

from pixelwise.checks.findings import (
    CODES,
    format_names,
    make_finding,
    make_printable,
    split_error_message,
)
from pixelwise.errors import format_count

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "check.md"


def test_every_code_is_documented_with_its_severity() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| .+ \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(code, severity) for code, (severity, _) in CODES.items()]


def test_a_finding_has_the_severity_of_its_code() -> None:
    assert make_finding("missing_mask", ["a.png"], "m.", "f.").severity == "error"
    assert make_finding("split_made", (), "m.", "f.").severity == "note"


def test_bytes_that_are_not_text_are_shown() -> None:
    assert make_printable("caf\udce9.png") == "caf\\xe9.png"
    assert make_printable("café.png") == "café.png"
    assert make_finding("missing_mask", (), "caf\udce9", "").message == "caf\\xe9"


@pytest.mark.parametrize(
    ("names", "shown"), [(["a"], "a"), (list("abc"), "a, b, c"), (list("abcde"), "a, b, c and 2 more")]
)
def test_names_are_shortened(names: list[str], shown: str) -> None:
    assert format_names(names) == shown


def test_numbers_and_nouns() -> None:
    counts = (format_count(1, "mask"), format_count(2, "mask"), format_count(12345, "mask"))
    assert counts == ("1 mask", "2 masks", "12,345 masks")


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("The file is empty. Replace or remove it.", ("The file is empty.", "Replace or remove it.")),
        ("The file is empty.", ("The file is empty.", "")),
        ("a.b. 'x' is wrong. Correct it. Or not.", ("a.b.", "'x' is wrong. Correct it. Or not.")),
        ("x is 1.5; 2.5 was expected. Expected 2.", ("x is 1.5; 2.5 was expected.", "Expected 2.")),
    ],
)
def test_errors_are_split_into_problem_and_fix(message: str, parts: tuple[str, str]) -> None:
    assert split_error_message(message) == parts
