import numpy as np
import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.fuse_batchnorm import optimize_for_inference
from pixelwise.lowering.capture import capture
from pixelwise.lowering.graph import FrameGraph, LabelGraph, NetworkGraph
from pixelwise.networks import NETWORKS, Segmenter, build_network
from pixelwise.networks.registry import NETWORK_KEYS

SIZES = [(1, 1, 1), (1, 1, 7), (3, 45, 33), (1, 64, 2)]

SMALL = [
    ("unet", {"base_channels": 4, "depth": 1, "upsampling": "switches", "skips": "add", "stem_stride": 2}),
    ("unet-paper", {"base_channels": 2, "depth": 2}),
    ("bilinear-interpolation", {"base_channels": 4}),  # which pools in ceil mode
]


def build_segmenter(name, choices, channels=2, num_classes=3):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, **choices), in_channels=channels, num_classes=num_classes)
    for parameter in network.parameters():
        if not parameter.any():  # biases, and the score layers of an FCN
            torch.nn.init.normal_(parameter, std=0.05)
    return Segmenter(network, mean=[100.0] * channels, std=[50.0] * channels).eval()


def assert_graph_is_the_model(segmenter, channels=2):
    example = torch.zeros(2, 77, 93, channels, dtype=torch.uint8)
    program = capture(LabelGraph(segmenter, num_classes=3), example, dynamic=(0, 1, 2))
    assert not [node for node in program.graph.nodes if "pixelwise" in str(node.target)]
    module = program.module()
    for size in SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), "uint8")
        images = torch.from_numpy(pixels)
        with torch.no_grad():
            labels, logits = module(images)
            expected = segmenter(images.permute(0, 3, 1, 2))
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(labels, logits.argmax(1).to(torch.uint8))


@pytest.mark.parametrize(("name", "choices"), SMALL)
def test_one_graph_for_every_size(name, choices):
    assert_graph_is_the_model(build_segmenter(name, choices))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_one_graph_for_every_size_of_every_network(name):
    assert_graph_is_the_model(
        build_segmenter(name, {"base_channels": 4} if "base_channels" in NETWORK_KEYS[name] else {})
    )


@pytest.mark.parametrize(("name", "choices"), SMALL)
def test_frame_and_network_graph_give_the_logits(name, choices):
    segmenter = build_segmenter(name, choices)
    frame_graph = capture(FrameGraph(segmenter), torch.zeros(2, 77, 93, 2, dtype=torch.uint8), dynamic=(0, 1, 2))
    assert not frame_graph.state_dict.keys() & dict(segmenter.named_parameters()).keys()
    images = torch.randint(0, 256, (1, 9, 14, 2), dtype=torch.uint8)
    with torch.no_grad():
        logits = NetworkGraph(segmenter.network)(frame_graph.module()(images))[:, :, :9, :14]
        torch.testing.assert_close(logits, segmenter(images.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-4)


def test_network_graph_of_a_deep_unet():
    """Its transposed convolutions must not use sizes that are symbols."""
    network = optimize_for_inference(
        build_segmenter("unet", {"base_channels": 2}).network, (64, 64), channels=2, precision="fp32"
    )
    network.to(memory_format=torch.contiguous_format)
    program = capture(NetworkGraph(network), torch.zeros(2, 2, 48, 64), dynamic=(0, 2, 3))
    images = torch.rand(1, 2, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images), rtol=1e-4, atol=1e-4)


def test_a_network_that_cannot_be_captured_is_an_error():
    class DataDependent(torch.nn.Module):
        def forward(self, images):
            return images * (images > 0).sum().item() if (images > 0).sum().item() > 3 else images

    with pytest.raises(
        InvalidArgumentError, match=r"cannot be exported for images of any size.* Predict with --engine torch"
    ):
        capture(DataDependent(), torch.zeros(2, 2, 48, 64), dynamic=(0, 2, 3))


def test_half_precision_does_not_change_the_model():
    segmenter = build_segmenter("unet", {"base_channels": 2, "depth": 1})
    graph = LabelGraph(segmenter, num_classes=3, compute=torch.float16)
    assert next(graph.segmenter.network.parameters()).dtype == torch.float16
    assert next(segmenter.parameters()).dtype == torch.float32
    images = torch.rand(1, 9, 14, 2) * 255
    with torch.no_grad():
        _, logits = graph(images)
        torch.testing.assert_close(logits, segmenter(images.permute(0, 3, 1, 2)), rtol=0.02, atol=0.02)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(("count", "dtype"), [(256, torch.uint8), (257, torch.uint16)])
def test_labels_of_more_than_256_classes_are_uint16(count, dtype):
    segmenter = build_segmenter("unet", {"base_channels": 2, "depth": 1}, num_classes=count)
    labels, _ = LabelGraph(segmenter, num_classes=count)(torch.zeros(1, 4, 4, 2, dtype=torch.uint8))
    assert labels.dtype == dtype
