import pytest

from pixelwise.errors import RequestError
from pixelwise.networks import NETWORKS, build_network
from pixelwise.recipe import NetworkRecipe


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_builds_and_states_its_legal_sizes(name):
    network = build_network(NetworkRecipe(name=name, width=4, depth=2), in_channels=2, num_classes=3)
    assert network.size_multiple >= 1


def test_unknown_name_lists_the_nearest():
    with pytest.raises(RequestError, match=r"unknown network 'umet'. Did you mean 'unet'\? Choose one of"):
        build_network(NetworkRecipe(name="umet"), in_channels=3, num_classes=2)
