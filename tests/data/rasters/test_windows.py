import numpy as np
import pytest

from pixelwise.data.rasters import windows as home
from pixelwise.data.rasters.windows import regroup_blocks


@pytest.mark.parametrize("heights", [[1], [4], [3, 3, 3], [9, 1], [2, 2, 2, 2], [1] * 7])
def test_rows_are_regrouped_to_whole_blocks(heights: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "BLOCK", 4)
    rows = np.arange(sum(heights) * 5).reshape(-1, 5)
    pieces = list(regroup_blocks(np.split(rows, np.cumsum(heights)[:-1])))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), rows)
    assert [top % 4 for top, _ in pieces] == [0] * len(pieces)
    assert [top for top, _ in pieces] == np.cumsum([0, *(len(piece) for _, piece in pieces[:-1])]).tolist()
    assert all(len(piece) % 4 == 0 for _, piece in pieces[:-1])
