import pytest

from pixelwise.progress import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45 s"), (119, "119 s"), (1230, "20.5 min"), (7199, "120.0 min"), (11520, "3.2 h")]
)
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
