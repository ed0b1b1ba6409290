"""The file of a model's network in int8, and the engines that take it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError, PathAccessError
from pixelwise.inference import engines
from pixelwise.inference import int8_file as int8_module
from pixelwise.inference.engines import NetworkSource, choose_engine
from pixelwise.inference.int8_file import find_int8_state, get_int8_path, prepare_frames, read_int8, write_int8
from pixelwise.inference.predictor import load
from pixelwise.lowering.int8 import quantize_graph

MakeModel = Callable[..., Path]
INT8_ENGINES = ["openvino", "onnxruntime"]


def images() -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 200, (height, 37, 3), np.uint8) for height in (24, 41, 32)]


@pytest.fixture(scope="module")
def model(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its network in int8 beside it."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = make_model(
        tmp_path_factory.mktemp("int8") / "m.safetensors", network=NetworkConfig(base_channels=4, depth=2)
    )
    module = load(path, device="cpu", precision="fp32").module
    graph = quantize_graph(NetworkSource(module=module, channels=3).onnx, prepare_frames(module, iter(images())))
    write_int8(path, graph, {"why": "a test", "accuracy": {"engines": {"onnxruntime": {}}}})
    return path


def test_an_int8_file_is_read_back(model: Path) -> None:
    graph, metadata = read_int8(model)
    assert get_int8_path(model) == model.with_name("m.int8.onnx")
    assert 0 < len(graph) < get_int8_path(model).stat().st_size
    assert metadata["why"] == "a test"


def test_only_the_file_of_the_same_model_may_be_replaced(model: Path, make_model: MakeModel, tmp_path: Path) -> None:
    import onnx

    path = get_int8_path(model)
    assert find_int8_state(path, model) == ("unchanged", "")
    assert find_int8_state(path, make_model(tmp_path / "other.safetensors", seed=7)) == ("other", "another model")
    assert find_int8_state(tmp_path / "x.onnx", model) == ("absent", "")
    assert find_int8_state(tmp_path, model) == ("blocked", "")
    proto = onnx.load(path)
    proto.graph.doc_string = "patched"
    onnx.save(proto, tmp_path / "x.onnx")
    assert find_int8_state(tmp_path / "x.onnx", model) == ("edited", "")
    proto.ClearField("metadata_props")
    onnx.save(proto, tmp_path / "x.onnx")
    assert find_int8_state(tmp_path / "x.onnx", model) == ("foreign", "")


@pytest.mark.parametrize("engine", INT8_ENGINES)
def test_labels_are_nearly_the_models(model: Path, engine: str) -> None:
    pytest.importorskip(engine)
    reference, small = load(model, device="cpu", precision="fp32"), load(model, precision="int8", engine=engine)
    assert (small.engine, small.precision) == (engine, "int8")
    for image in images():
        expected, found = reference.predict(image, keep_logits=True), small.predict(image, keep_logits=True)
        gap = np.abs(found.logits - expected.logits)
        assert 0 < gap.mean() < 0.1 * np.abs(expected.logits).max()


def test_a_job_in_int8_uses_an_engine_that_supports_it(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(images()[0]).save(tmp_path / "one.png")
    report = predict(model, [tmp_path / "one.png"], tmp_path / "out", precision="int8")
    assert report.written == (tmp_path / "out" / "one.png",)


def test_frames_are_those_that_the_network_is_given(make_model: MakeModel, tmp_path: Path) -> None:
    network = NetworkConfig(name="unet-paper", base_channels=2)  # mirrored around the image
    module = load(make_model(tmp_path / "m", network=network), device="cpu", precision="fp32").module
    given: list[torch.Tensor] = []
    module.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        for image in images():
            module(torch.from_numpy(image).permute(2, 0, 1)[None])
    for frame, expected in zip(prepare_frames(module, iter(images())), given, strict=True):
        assert frame.dtype == np.float32
        np.testing.assert_allclose(frame, expected.numpy(), rtol=1e-6)


def test_a_missing_file_is_an_error_that_names_the_command(make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = make_model(tmp_path / "m")
    with pytest.raises(InvalidArgumentError, match=r"m has no int8 file .* with 'pixelwise quantize .*m DATA'"):
        load(path, precision="int8")


def test_the_file_of_another_model_is_refused(model: Path, make_model: MakeModel, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other.safetensors", seed=1)
    get_int8_path(other).write_bytes(get_int8_path(model).read_bytes())
    with pytest.raises(
        InvalidArgumentError,
        match=r"other\.int8\.onnx was made from another model. Delete it and run 'pixelwise quantize",
    ):
        read_int8(other)


def test_a_file_of_another_format_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(model.read_bytes())
    monkeypatch.setattr(int8_module, "INT8_FORMAT", 3)
    write_int8(path, read_int8_as(model, 2), {"versions": {"pixelwise": "9.0"}})
    monkeypatch.setattr(int8_module, "INT8_FORMAT", 2)
    with pytest.raises(
        InvalidArgumentError,
        match=r"has format 3, written by Pixelwise 9\.0\. .* reads format 2\. Run",
    ):
        read_int8(path)


def read_int8_as(model: Path, format: int) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_module, "INT8_FORMAT", format)
        return read_int8(model)[0]


def test_an_engine_whose_accuracy_was_not_measured_is_a_warning(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_int8(model, "onnxruntime")
    assert caplog.messages == []
    read_int8(model, "openvino")
    assert "measured with onnxruntime, not with openvino. Run 'pixelwise quantize" in caplog.messages[0]


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x09"])
def test_a_damaged_file_is_named(make_model: MakeModel, tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("onnx")
    path = make_model(tmp_path / "m.safetensors")
    get_int8_path(path).write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"m\.int8\.onnx is damaged. Delete it and run 'pixelwise quantize"):
        read_int8(path)


def test_weights_that_were_altered_are_damage(model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "m.safetensors"
    path.write_bytes(model.read_bytes())
    proto = onnx.load(get_int8_path(model))
    weights = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
    weights.raw_data = bytes(len(weights.raw_data))
    onnx.save(proto, get_int8_path(path))
    with pytest.raises(InvalidArgumentError, match=r"m\.int8\.onnx is damaged"):
        read_int8(path)


def test_a_folder_that_cannot_be_written_is_named(
    model: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(int8_module, "write_atomically", refuse)
    with pytest.raises(
        PathAccessError, match=r"m\.int8\.onnx cannot be written \(permission denied\)\. Change its permissions"
    ):
        write_int8(make_model(tmp_path / "m.safetensors"), read_int8(model)[0], {})


def test_the_first_installed_engine_with_int8_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda package: object())
    assert choose_engine("auto", "int8") == "openvino"
    monkeypatch.setattr(engines, "find_spec", lambda package: None if package == "openvino" else object())
    assert choose_engine("auto", "int8") == "onnxruntime"
    monkeypatch.setattr(engines, "find_spec", lambda package: None)
    with pytest.raises(InvalidArgumentError, match=r"the engine openvino needs openvino.*pixelwise\[openvino\]"):
        choose_engine("auto", "int8")


def test_an_engine_without_int8_names_those_that_have_it(model: Path) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"PyTorch supports fp32 and bf16, not int8\. Use --engine openvino or"
    ):
        load(model, device="cpu", precision="int8", engine="torch")
