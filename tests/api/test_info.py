"""What a bug report needs."""

from typing import Any

import torch

from pixelwise.api.info import info

Arguments = dict[str, Any]

Arguments = dict[str, Any]


def test_info_names_what_a_bug_report_needs() -> None:
    found = info()
    assert {"python", "platform", "pixelwise", "torch", "numpy", "device", "distributed", "threads"} <= found.keys()
    assert torch.__version__.startswith(found["torch"])
    assert all(found.values())


# Groups and folds.
