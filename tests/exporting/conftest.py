"""Exported models for all tests of this folder: an export takes seconds."""

import hashlib

import pytest

from pixelwise.config import NetworkConfig


@pytest.fixture(scope="session", autouse=True)
def _graphs_are_captured_once():
    """Return the recorded graph where a test captures an equal one: most tests here are about files."""
    from pixelwise.exporting import export as module

    def remember(capture):
        graphs = {}

        def capture_once(graph, example, **options):
            weights = hashlib.sha256()
            for tensor in graph.state_dict().values():
                weights.update(tensor.float().numpy().tobytes())
            values = {name: value for name, value in vars(graph).items() if not name.startswith("_")}
            key = f"{graph} {weights.hexdigest()} {values} {example.shape} {example.dtype} {options}"
            if key not in graphs:
                graphs[key] = capture(graph, example, **options)
            return graphs[key]

        return capture_once

    with pytest.MonkeyPatch.context() as patch:
        for name in ("capture", "to_onnx"):
            patch.setattr(module, name, remember(getattr(module, name)))
        yield


@pytest.fixture(scope="session")
def model(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return make_model(folder / "model.safetensors", network=NetworkConfig(base_channels=2, depth=1))


@pytest.fixture(scope="session")
def exported(model):
    pytest.importorskip("onnxruntime")
    from pixelwise.api import export

    return export(model, model.parent / "out" / "tiny.onnx")


@pytest.fixture(scope="session")
def quantized(trained, streets, tmp_path_factory):
    """A copy of the trained model with its int8 file."""
    pytest.importorskip("onnxruntime")
    from pixelwise.api import quantize

    path = tmp_path_factory.mktemp("quantized") / "model.safetensors"
    path.write_bytes((trained / "model.safetensors").read_bytes())
    quantize(path, streets, max_iou_drop=5)
    return path


@pytest.fixture(scope="session")
def exported_int8(quantized, tmp_path_factory):
    from pixelwise.api import export

    return export(quantized, tmp_path_factory.mktemp("int8") / "tiny.onnx", precision="int8")
