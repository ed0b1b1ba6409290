"""One model and its ONNX file, and one in int8, for all tests that read them: translating takes seconds."""

import pytest

from pixelwise.config import NetworkConfig


@pytest.fixture(scope="session")
def model(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return make_model(folder / "model.safetensors", network=NetworkConfig(base_channels=2, depth=1))


@pytest.fixture(scope="session")
def made(model):
    pytest.importorskip("onnxruntime")
    from pixelwise.exporting import export

    return export(model, model.parent / "out" / "tiny.onnx")


@pytest.fixture(scope="session")
def made_int8(trained, streets, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    from pixelwise.exporting import export

    folder = tmp_path_factory.mktemp("int8")
    return export(trained, folder / "tiny.onnx", precision="int8", data=streets, max_iou_drop=3)
