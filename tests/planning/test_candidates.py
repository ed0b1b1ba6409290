import dataclasses
import itertools

import pytest
import torch

from pixelwise.config import Config
from pixelwise.networks import build_network
from pixelwise.networks.summary import describe_layers
from pixelwise.planning.candidates import (
    CANDIDATES,
    compute_depth,
    list_candidates,
    suits_pretrained,
)
from pixelwise.planning.prepare_data import prepare_data


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_costs_are_those_of_the_networks(candidate):
    with torch.device("meta"):
        network = build_network(Config().replace(candidate.keys).network, in_channels=3, num_classes=11)
    gflops = sum(layer.gflops for layer in describe_layers(network, (352, 480), in_channels=3))
    assert candidate.gflops == pytest.approx(gflops, abs=0.5)


def test_the_ladder_rises():
    assert list_candidates((352, 480)) == CANDIDATES
    assert all(a.gflops < b.gflops for a, b in itertools.pairwise(CANDIDATES))


def test_only_color_photographs_suit_pretrained_encoders(streets, cells):
    assert suits_pretrained(prepare_data(streets, Config()).fingerprint)
    assert not suits_pretrained(prepare_data(cells, Config()).fingerprint)
    deep = dataclasses.replace(prepare_data(streets, Config()).fingerprint, dtype="uint16")
    assert not suits_pretrained(deep)


@pytest.mark.parametrize(
    ("crop", "stem", "depth"),
    [((384, 480), 2, 4), ((64, 96), 2, 4), ((32, 480), 2, 3), ((32, 32), 1, 4), ((16, 16), 2, 2), ((1, 1), 2, 1)],
)
def test_small_images_take_fewer_poolings(crop, stem, depth):
    assert compute_depth(crop, stem) == depth


def test_titles():
    assert CANDIDATES[0].title == "16 channels, depth 4, stem 2"
