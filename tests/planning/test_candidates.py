import dataclasses
import itertools

import pytest
import torch

from pixelwise.config import Config
from pixelwise.networks import build_network
from pixelwise.networks.summary import describe_layers
from pixelwise.planning.candidates import (
    CANDIDATES,
    ENCODER_GFLOPS,
    NetworkCandidate,
    compute_depth,
    list_candidates,
    suits_pretrained,
)
from pixelwise.planning.prepare_data import prepare_data
from pixelwise.planning.pretrained_lookup import PRETRAINED, AvailableEncoder

FOUND = [
    AvailableEncoder(encoder=entry.encoder, location="on disk", name=f"{entry.encoder}.pth") for entry in PRETRAINED
]


@pytest.mark.parametrize("candidate", [*CANDIDATES, *list_candidates((352, 480), FOUND)[1:]])
def test_costs_are_those_of_the_networks(candidate):
    with torch.device("meta"):
        network = build_network(Config().replace(candidate.keys).network, in_channels=3, num_classes=11)
    gflops = sum(layer.gflops for layer in describe_layers(network, (352, 480), in_channels=3))
    assert candidate.gflops == pytest.approx(gflops, abs=0.5)


def test_the_ladder_rises():
    costs = [one.gflops for one in list_candidates((352, 480), FOUND)]
    assert costs == sorted(costs)
    assert all(a.gflops < b.gflops for a, b in itertools.pairwise(CANDIDATES))


def test_encoders_with_weights_take_the_place_of_all_but_the_smallest():
    smallest, *rest = list_candidates((352, 480), FOUND[:1])
    assert smallest == CANDIDATES[0]
    assert [one.encoder for one in rest] == ["resnet18"]
    assert rest[0].source == "on disk: resnet18.pth"
    assert rest[0].keys == {"network.encoder": "resnet18", "network.encoder_weights": "imagenet"}
    assert list_candidates((352, 480), []) == CANDIDATES


def test_weights_of_timm_are_of_the_same_cost():
    found = dataclasses.replace(FOUND[1], encoder="timm:resnet34")
    assert list_candidates((352, 480), [found])[1].gflops == ENCODER_GFLOPS["resnet34"]


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
    assert NetworkCandidate(gflops=1, encoder="resnet18").title == "encoder resnet18"
