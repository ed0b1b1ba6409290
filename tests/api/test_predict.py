from pathlib import Path

import pytest

from pixelwise.api.predict import CLUSTERS, predict
from pixelwise.errors import InvalidArgumentError


def test_an_unknown_cluster_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"unknown cluster 'rai'\. Did you mean 'ray'"):
        predict("m", ["photos"], tmp_path / "out", cluster="rai")


@pytest.mark.parametrize("cluster", sorted(CLUSTERS))
def test_a_share_of_a_cluster_is_refused(tmp_path: Path, cluster: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match="--shard and --cluster both share out the images; leave one of them out"
    ):
        predict("m", ["photos"], tmp_path / "out", cluster=cluster, shard="1/2")
