import math

import numpy as np
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.reports.html import build_confusion_table, format_percent


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0.0 %"),
        (0.00034, "0.034 %"),
        (0.01, "1.0 %"),
        (0.7123, "71.2 %"),
        (1, "100.0 %"),
    ],
)
def test_percentages_keep_the_digits_of_small_fractions(fraction: float | None, text: str) -> None:
    assert format_percent(fraction) == text


def test_the_confusion_table_has_shares_of_the_true_class() -> None:
    classes = describe_classes(parse_description({"names": ["a", "b"]}))
    table = build_confusion_table(classes, np.array([[999, 1], [0, 0]]))
    assert [[cell["text"] for cell in row["cells"]] for row in table["rows"]] == [["100", ""], ["", ""]]
    assert [cell["is_correct"] for cell in table["rows"][1]["cells"]] == [False, True]
