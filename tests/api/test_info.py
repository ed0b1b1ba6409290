import torch

from pixelwise.api import info


def test_info_has_what_a_bug_report_needs() -> None:
    values = info()
    assert {"python", "platform", "pixelwise", "torch", "numpy", "device", "distributed", "threads"} <= values.keys()
    assert torch.__version__.startswith(values["torch"])
    assert all(values.values())
