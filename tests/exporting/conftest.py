"""One model and its ONNX file, for all tests that read them: translating takes seconds."""

import pytest

from pixelwise.recipe import NetworkRecipe


@pytest.fixture(scope="session")
def model(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return make_model(folder / "model.safetensors", network=NetworkRecipe(width=2, depth=1))


@pytest.fixture(scope="session")
def made(model):
    pytest.importorskip("onnxruntime")
    from pixelwise.exporting import export

    return export(model, model.parent / "out" / "tiny.onnx")
