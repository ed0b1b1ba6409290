"""The opset of a graph, and graphs in other and older runtimes."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.lowering.graph import INPUT, OUTPUTS, FrameGraph, LabelGraph, NetworkGraph
from pixelwise.lowering.onnx import join_graphs, set_opset, to_onnx
from pixelwise.networks import Segmenter, build_network
from pixelwise.networks.segmenter import DecisionRule

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = {
    "unet": {"base_channels": 4, "depth": 2},
    "segnet": {"base_channels": 4},
    "segnet-basic": {"base_channels": 4},
    "bilinear-interpolation": {"base_channels": 4},
    "fcn-basic": {"base_channels": 4},
}
SIZE = (61, 45)
EXAMPLE = torch.zeros(2, 77, 93, 3, dtype=torch.uint8)


def parse(text):
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def describe(content):
    proto = onnx.load_model_from_string(content)
    return proto.opset_import[0].version, proto.ir_version


def run(content, x):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


RESIZE = """<ir_version: 10, opset_import: ["" : 20]> graph (float[1, 2, 3, 4] x) => (float[1, 2, 6, 8] y)
    <float[4] scales = {1, 1, 2, 2}>
    {y = Resize <mode = "linear", antialias = 0, keep_aspect_ratio_policy = "stretch"> (x, , scales)}"""
REDUCE = """<ir_version: 10, opset_import: ["" : 18]> graph (float[1, 2, 3, 4] x) => (float[1, 2, 1, 1] y)
    <int64[2] axes = {2, 3}> {y = ReduceMean <keepdims = 1, noop_with_empty_axes = 0> (x, axes)}"""
PAD = """<ir_version: 10, opset_import: ["" : 20]> graph (float[1, 2, 3, 4] x) => (float[1, 2, 3, 5] y)
    <int64[8] pads = {0, 0, 0, 0, 0, 0, 0, 1}> {y = Pad (x, pads)}"""
GELU = (
    """<ir_version: 10, opset_import: ["" : 20]> graph (float[1, 2, 3, 4] x) => (float[1, 2, 3, 4] y) {y = Gelu (x)}"""
)
ANTIALIAS = RESIZE.replace("antialias = 0", "antialias = 1")


@pytest.mark.parametrize("text", [RESIZE, REDUCE, PAD])
def test_a_graph_has_the_oldest_opset_with_the_same_values(text):
    content, x = parse(text), np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    older = set_opset(content)
    assert describe(older) == (17, 8)
    np.testing.assert_array_equal(run(older, x), run(content, x))
    assert describe(set_opset(content, 20)) == (20, 9)


@pytest.mark.parametrize(("text", "opset"), [(GELU, 20), (ANTIALIAS, 18)])
def test_a_newer_operator_keeps_its_opset(text, opset):
    content = parse(text)
    assert describe(set_opset(content))[0] == opset
    with pytest.raises(InvalidArgumentError, match=r"cannot be written in opset 17 \(.*\)\. Omit --opset"):
        set_opset(content, 17)


@pytest.mark.parametrize("opset", [-1, 0, 1, 6, 99])
def test_an_impossible_opset_is_an_error(opset):
    with pytest.raises(InvalidArgumentError, match=rf"cannot be written in opset {opset} \("):
        set_opset(parse(PAD), opset)


def export_network(name, dynamic=(0, 1, 2), encoder=None):
    torch.manual_seed(0)
    choices = {"encoder": encoder, "encoder_weights": "none"} if encoder else NETWORKS[name]
    network = build_network(NetworkConfig(name=name, **choices), in_channels=3, num_classes=3)
    graph = LabelGraph(Segmenter(network, mean=[100.0] * 3, std=[50.0] * 3), num_classes=3).eval()
    example = EXAMPLE if dynamic else torch.zeros(1, *SIZE, 3, dtype=torch.uint8)
    return set_opset(to_onnx(graph, example, outputs=OUTPUTS, dynamic=dynamic)), graph


def test_a_network_has_opset_17():
    content, _graph = export_network("unet")
    assert describe(content) == (17, 8)


@pytest.mark.parametrize("foreground", [0, 1])
def test_joined_graphs_have_the_threshold(foreground):
    """The graph of an int8 file is made of parts, not captured."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(base_channels=2, depth=1), in_channels=3, num_classes=2)
    segmenter = Segmenter(network, mean=[100.0] * 3, std=[50.0] * 3).eval()
    frames = to_onnx(FrameGraph(segmenter), EXAMPLE, outputs=("frames",), dynamic=(0, 1, 2))
    inner = to_onnx(NetworkGraph(network), torch.zeros(2, 3, 78, 94), outputs=("logits",), dynamic=(0, 2, 3))
    images = np.random.default_rng(0).integers(0, 256, (1, 24, 31, 3)).astype(np.uint8)
    with torch.no_grad():
        logits = segmenter(torch.from_numpy(images).permute(0, 3, 1, 2))
    probability = logits.softmax(1)[0, foreground].numpy()
    rule = DecisionRule(threshold=float(np.median(probability)), foreground=foreground)
    content = set_opset(join_graphs(frames, inner, num_classes=2, rule=rule))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    labels, _ = session.run(None, {INPUT: images})
    clear = abs(probability - rule.threshold) > 1e-4
    np.testing.assert_array_equal((labels[0] == foreground)[clear], (probability >= rule.threshold)[clear])
    assert labels.dtype == np.uint8
    assert 0.1 < labels.mean() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0", "convnext_tiny"])
def test_encoders_have_opset_17(encoder):
    assert describe(export_network("unet", encoder=encoder)[0]) == (17, 8)


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory):
    """Create an environment with other packages, and return its Python."""

    def make(*packages):
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = folder / "bin" / "python"
        installed = subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *packages])
        if installed.returncode:
            pytest.skip(f"{' '.join(packages)} cannot be installed here")
        return python

    return make


def run_elsewhere(python, script, tmp_path, content, images):
    """Run a graph in another environment; returns labels and logits."""
    (tmp_path / "model.onnx").write_bytes(content)
    np.save(tmp_path / "images.npy", images)
    subprocess.run([python, "-c", script], cwd=tmp_path, check=True, timeout=300)
    return np.load(tmp_path / "labels.npy"), np.load(tmp_path / "logits.npy")


@pytest.fixture(scope="session")
def old_onnxruntime(make_environment):
    return make_environment("onnxruntime==1.16.3", "numpy<2")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_1_16_gives_the_same_labels(name, old_onnxruntime, tmp_path):
    script = """if True:
        import numpy, onnxruntime
        session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
        for name, value in zip(("labels", "logits"), session.run(None, {"images": numpy.load("images.npy")})):
            numpy.save(f"{name}.npy", value)"""
    content, graph = export_network(name)
    images = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3)).astype(np.uint8)
    labels, logits = run_elsewhere(old_onnxruntime, script, tmp_path, content, images)
    expected = graph(torch.from_numpy(images))
    np.testing.assert_array_equal(labels, expected[0].numpy())
    np.testing.assert_allclose(logits, expected[1].detach().numpy(), atol=1e-3)


@pytest.fixture(scope="session")
def opencv(make_environment):
    return make_environment("opencv-python-headless==4.10.0.84", "numpy<2")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_opencv_4_10_reads_a_graph_of_fixed_size(name, opencv, tmp_path):
    script = """if True:
        import cv2, numpy
        net = cv2.dnn.readNetFromONNX("model.onnx")
        net.setInput(numpy.load("images.npy").astype("float32"))
        for name, value in zip(("labels", "logits"), net.forward(["labels", "logits"])):
            numpy.save(f"{name}.npy", value)"""
    content, graph = export_network(name, dynamic=())
    images = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3)).astype(np.uint8)
    labels, logits = run_elsewhere(opencv, script, tmp_path, content, images)
    expected = graph(torch.from_numpy(images))
    np.testing.assert_array_equal(labels.reshape(1, *SIZE), expected[0].numpy())
    np.testing.assert_allclose(logits, expected[1].detach().numpy(), atol=1e-3)
