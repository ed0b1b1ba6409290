"""Each engine against PyTorch, through the predictor that all of them stand in."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference import engines as home
from pixelwise.inference import predictor as predicting
from pixelwise.inference.engine_cache import CACHE_VARIABLE, write_entry
from pixelwise.inference.engines import ENGINES, NetworkSource, get_installed_versions, require_engine
from pixelwise.inference.predictor import Predictor, load

MakeModel = Callable[..., Path]
CPU = torch.device("cpu")
COMPILER = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")
RIVALS = ["openvino", "onnxruntime", pytest.param("torch-compile", marks=[pytest.mark.slow, COMPILER])]
# Pooling with switches, odd sides and a frame: all that a graph can have wrong.
SMALL = NetworkConfig(base_channels=2, depth=1, upsampling="switches", skips="add", stem_stride=2)


def image(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def model(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("engines") / "m", network=SMALL)


@pytest.fixture(scope="module")
def reference(model: Path) -> Predictor:
    return load(model, device="cpu", precision="fp32", engine="torch")


@pytest.fixture(scope="module")
def source(reference: Predictor) -> NetworkSource:
    """Exported once for all tests, because the export takes seconds."""
    pytest.importorskip("onnxscript")
    return NetworkSource(module=reference.module, channels=3)


def skip_without(engine: str) -> None:
    for package in ENGINES[engine].packages:  # type: ignore[index]
        pytest.importorskip(package)


def on(name: Any, reference: Predictor, source: NetworkSource, precision: Any = "fp32") -> Predictor:
    skip_without(name)
    network = ENGINES[name].build(source, CPU, precision)  # type: ignore[index]
    return replace(reference, engine=name, precision=precision, engine_network=network)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 50)])
def test_logits_are_those_of_torch(
    name: str, size: tuple[int, int], reference: Predictor, source: NetworkSource
) -> None:
    pixels = image(*size)
    expected = reference.predict(pixels, keep_logits=True)
    found = on(name, reference, source).predict(pixels, keep_logits=True)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert (found.labels == expected.labels).mean() >= 0.995


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_network_in_the_cache_is_not_converted_again(
    name: str, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    model = make_model(tmp_path / "m", network=NetworkConfig(base_channels=2, depth=1))

    def label() -> npt.NDArray[Any]:
        return load(model, device="cpu", precision="fp32", engine=name).predict(image(20, 30)).labels

    expected = label()
    with monkeypatch.context() as patch:
        patch.setattr("pixelwise.lowering.onnx.to_onnx", None)
        np.testing.assert_array_equal(label(), expected)
        if name == "openvino":  # an entry that this version of OpenVINO does not read
            source = load(model, device="cpu", precision="fp32").source
            write_entry(home._make_openvino_key(source, "fp32"), b"damaged")
            np.testing.assert_array_equal(label(), expected)
    make_model(model, network=NetworkConfig(base_channels=2, depth=1), seed=1)
    assert (label() != expected).any()


@pytest.mark.parametrize("name", RIVALS)
def test_images_of_a_batch_are_predicted_separately(name: str, reference: Predictor, source: NetworkSource) -> None:
    images = torch.from_numpy(np.stack([image(9, 14), image(9, 14)[::-1]])).permute(0, 3, 1, 2)
    expected = reference.predict_batch(images)
    torch.testing.assert_close(on(name, reference, source).predict_batch(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RIVALS)
def test_tiles_give_the_labels_of_the_whole(name: str, reference: Predictor, source: NetworkSource) -> None:
    predictor = on(name, reference, source)
    whole = predictor.predict(image(70, 51)).labels
    tiles = predictor.predict(image(70, 51), tile_size=16).labels
    assert (tiles == whole).mean() >= 0.995


def test_openvino_computes_in_bf16(reference: Predictor, source: NetworkSource) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")
    expected = reference.predict(image(37, 50)).logits
    gap = np.abs(on("openvino", reference, source, "bf16").predict(image(37, 50)).logits - expected).max()
    assert 1e-4 * np.abs(expected).max() < gap < 0.05 * np.abs(expected).max()


def test_bf16_that_openvino_does_not_support_is_refused(monkeypatch: pytest.MonkeyPatch, source: NetworkSource) -> None:
    openvino = pytest.importorskip("openvino")

    class Old:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(openvino, "Core", Old)
    with pytest.raises(InvalidArgumentError, match="does not support bf16 on this CPU"):
        ENGINES["openvino"].build(source, CPU, "bf16")


@pytest.mark.parametrize("name", RIVALS)
def test_several_threads_may_predict(name: str, reference: Predictor, source: NetworkSource) -> None:
    predictor = on(name, reference, source)
    predictions = [predictor.predict(image(33, side)) for side in (20, 30, 40, 50)]
    with ThreadPoolExecutor(4) as pool:
        for prediction, logits in zip(predictions, pool.map(lambda one: one.logits, predictions), strict=True):
            np.testing.assert_array_equal(logits.argmax(0), prediction.labels)


@pytest.mark.parametrize("name", RIVALS)
def test_a_job_runs_on_the_engine_that_it_names(
    name: str, model: Path, source: NetworkSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name)
    monkeypatch.setattr(NetworkSource, "onnx", source.onnx)
    built: list[Any] = []
    row = ENGINES[name]  # type: ignore[index]
    spied = replace(row, build=lambda *arguments: (built.append(name), row.build(*arguments))[1])
    monkeypatch.setattr(predicting, "ENGINES", {**ENGINES, name: spied})
    from PIL import Image

    Image.fromarray(image(9, 13)).save(tmp_path / "one.png")
    report = predict(model, [tmp_path / "one.png"], tmp_path / "out", device="cpu", precision="fp32", engine=name)
    assert report.written == (tmp_path / "out" / "one.png",)
    assert built == [name]


@pytest.mark.parametrize(
    ("name", "line"), [("openvino", r"pixelwise\[openvino\]"), ("onnxruntime", r"pixelwise\[onnx\]")]
)
def test_a_missing_engine_is_an_error_with_the_install_command(
    name: str, line: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "find_spec", lambda package: None if package == name else object())
    with pytest.raises(InvalidArgumentError, match=f"the engine {name} needs {name}, onnx and onnxscript.*{line}"):
        load(model, engine=name)


def test_unsupported_devices_and_precisions_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "find_spec", lambda package: object())
    with pytest.raises(InvalidArgumentError, match="ONNX Runtime supports fp32 and int8, not bf16"):
        load(model, device="cpu", precision="bf16", engine="onnxruntime")
    with pytest.raises(InvalidArgumentError, match="OpenVINO does not support cuda on this machine"):
        require_engine("openvino", torch.device("cuda"), "fp32")


def test_an_engine_of_the_cpu_uses_it_with_device_auto(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "find_spec", lambda package: object())
    monkeypatch.setattr(predicting, "choose_device", lambda name: torch.device("cuda"))
    assert load(model, engine="openvino").device == CPU


def test_auto_precision_is_supported_by_the_engine(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "find_spec", lambda package: object())
    monkeypatch.setattr(predicting, "has_fast_bf16", lambda device: True)
    scores = {"bf16": {"agreement": 0.999, "mean_iou_difference": 0.0}}
    path = make_model(tmp_path / "m", scores=scores)
    chosen = {name: load(path, device="cpu", engine=name).precision for name in ENGINES}
    assert chosen == {"torch": "bf16", "torch-compile": "bf16", "openvino": "bf16", "onnxruntime": "fp32"}


def failing_backend(graph: Any, inputs: Any, **options: Any) -> Any:
    raise RuntimeError("no compiler")


def test_a_network_that_cannot_be_compiled_is_an_error(
    reference: Predictor, source: NetworkSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing_backend))
    predictor = on("torch-compile", reference, source)
    with pytest.raises(InvalidArgumentError, match=r"torch\.compile failed.*no compiler.*--engine torch"):
        predictor.predict(image(9, 14))


def test_versions_are_those_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_installed_versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    monkeypatch.setattr(home, "find_spec", lambda package: None)
    assert get_installed_versions() == {}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "unet-paper", "segnet-basic", "bilinear-interpolation", "fcn-8s"])
@pytest.mark.parametrize("name", RIVALS)
def test_engines_reproduce_every_kind_of_network(
    name: str, network: str, make_model: MakeModel, tmp_path: Path
) -> None:
    skip_without(name)
    path = make_model(tmp_path / "m", network=NetworkConfig(name=network))
    expected = load(path, device="cpu", precision="fp32").predict(image(45, 61), keep_logits=True).logits
    found = load(path, device="cpu", precision="fp32", engine=name).predict(image(45, 61), keep_logits=True).logits
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
