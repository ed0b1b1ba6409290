from pathlib import Path

import pytest

from pixelwise.api import predict
from pixelwise.errors import InvalidArgumentError


def test_an_unknown_cluster_raises(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown value for cluster: 'rai'\. Did you mean 'ray'"):
        predict("m", ["photos"], tmp_path / "out", cluster="rai")  # type: ignore[arg-type]


def test_a_shard_of_a_cluster_raises(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"shard and cluster both divide the inputs\. Choose one of them"):
        predict("m", ["photos"], tmp_path / "out", cluster="ray", shard="1/2")
