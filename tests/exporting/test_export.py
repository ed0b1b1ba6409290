"""Whole exports: the files, their agreement with the model, and errors."""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelwise.api import export
from pixelwise.cli.results import print_export
from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.exporting import export as module
from pixelwise.exporting.formats import FORMATS
from pixelwise.exporting.result import Parity
from pixelwise.inference.int8_file import read_int8, write_int8
from pixelwise.inference.predictor import load
from pixelwise.quantization.result import Int8Accuracy

REPOSITORY = Path(__file__).resolve().parents[2]


def make_images(*shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def test_the_file_the_card_and_the_script_are_written(exported):
    assert sorted(path.name for path in exported.file.parent.iterdir()) == ["predict_onnx.py", "tiny.json", "tiny.onnx"]
    assert {path.name for path in exported.other_files} == {"predict_onnx.py", "tiny.json"}
    assert exported.num_bytes == exported.file.stat().st_size
    assert exported.parity.agreement == 1
    assert exported.parity.largest_logit_gap < 1e-4


def test_labels_of_any_image_size_equal_those_of_the_model(exported, model):
    run = FORMATS["onnx"].read(exported.file)
    predictor = load(model, device="cpu", precision="fp32")
    for size in [(1, 1), (1, 6), (37, 50)]:
        images = make_images(3, *size, 3)
        (labels,) = run(images)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, [predictor.predict(image).labels for image in images])


def test_the_file_has_no_local_path_and_no_custom_operator(exported):
    import onnx

    assert b".py" not in exported.file.read_bytes()
    assert {node.domain for node in onnx.load(exported.file).graph.node} == {""}


def test_the_card_describes_inputs_and_outputs(exported):
    card = json.loads(exported.file.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(exported.file.read_bytes()).hexdigest()
    assert card["input"]["shape"] == ["B", "H", "W", 3]
    assert card["outputs"] == [{"name": "labels", "shape": ["B", "H", "W"], "dtype": "uint8"}]
    assert card["classes"] == ["road", "sky", "tree"]
    assert len(card["colors"]) == 3
    assert card["tiling"]["stride"] == [2, 2]
    assert card["parity"]["agreement"] == 1
    assert {"pixelwise", "torch", "onnx", "onnxruntime"} <= card["versions"].keys()
    page = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"has these keys:\n\n((?:\|.*\n)+)", page)
    documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    assert documented - {"threshold", "accuracy"} <= card.keys() - {"written_by"} <= documented


def test_print_export_shows_size_agreement_and_gap(exported, capsys):
    print_export(exported, {})
    shown = capsys.readouterr().out
    assert str(exported.file) in shown
    assert "MB" in shown
    assert "agree on 100.0000 %" in shown
    assert "largest logit gap" in shown


def test_torch_export_with_logits(make_model, tmp_path):
    """With 16 bits and two channels."""
    model = make_model(tmp_path / "m", network=NetworkConfig(base_channels=2, depth=1), channels=2, dtype="uint16")
    exported = export(model, tmp_path / "out" / "tiny.pt2", logits=True)
    images = make_images(1, 1, 9, 2, dtype="uint16")
    labels, logits = FORMATS["torch-export"].read(exported.file)(images)
    expected = load(model, device="cpu", precision="fp32").predict(images[0])
    np.testing.assert_array_equal(labels[0], expected.labels)
    np.testing.assert_allclose(logits[0], expected.logits, atol=1e-4)
    card = json.loads((tmp_path / "out" / "tiny.json").read_text(encoding="utf-8"))
    assert [output["name"] for output in card["outputs"]] == ["labels", "logits"]


@pytest.mark.parametrize(("names", "suffix"), [(["background", "crack"], ".onnx"), (["crack", "background"], ".pt2")])
def test_a_threshold_is_part_of_the_graph_and_on_the_card(make_model, tmp_path, suffix, names):
    network = NetworkConfig(base_channels=2, depth=1)
    model = make_model(tmp_path / "m", network=network, classes={"names": names})
    images = make_images(1, 24, 31, 3)
    crack = names.index("crack")
    threshold = float(np.median(load(model, device="cpu").predict(images[0]).probabilities[crack]))
    exported = export(model, tmp_path / "out" / f"tiny{suffix}", threshold=threshold)
    assert exported.parity.agreement > 0.9999
    (labels,) = FORMATS["onnx" if suffix == ".onnx" else "torch-export"].read(exported.file)(images)
    expected = load(model, device="cpu", threshold=threshold).predict(images[0]).labels
    assert (labels[0] == expected).mean() > 0.99
    assert 0.1 < expected.mean() < 0.9
    card = json.loads(exported.file.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["threshold"] == {"class": "crack", "probability": threshold}


def test_a_card_without_a_threshold_does_not_mention_it(exported):
    assert "threshold" not in json.loads(exported.file.with_suffix(".json").read_text(encoding="utf-8"))


def test_int8_shows_the_accuracy_that_quantize_measured(exported_int8, quantized, capsys):
    card = json.loads(exported_int8.file.with_suffix(".json").read_text(encoding="utf-8"))
    metadata = read_int8(quantized)[1]
    assert card["precision"] == "int8"
    assert card["accuracy"] == metadata["accuracy"]
    assert metadata["versions"].items() <= card["versions"].items()
    assert exported_int8.accuracy == Int8Accuracy.from_dict(metadata["accuracy"])
    print_export(exported_int8, {})
    shown = capsys.readouterr().out
    assert f"a drop of {exported_int8.accuracy.compute_iou_drop('onnxruntime'):.2f} points" in shown
    assert "4 validation images" in shown


def test_int8_gives_the_labels_of_predict_in_int8(exported_int8, quantized):
    run = FORMATS["onnx"].read(exported_int8.file)
    predictor = load(quantized, device="cpu", precision="int8", engine="onnxruntime")
    for size in [(1, 1), (7, 30), (64, 96)]:
        images = make_images(2, *size, 3)
        (labels,) = run(images)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, [predictor.predict(image, tiling="none").labels for image in images])


def test_int8_without_an_int8_file_names_the_command(model, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(InvalidArgumentError, match=r"has no int8 file .* 'pixelwise quantize .* DATA'"):
        export(model, tmp_path / "a.onnx", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_min_agreement_of_int8_refers_to_the_validation_images(quantized, tmp_path, monkeypatch):
    graph, metadata = read_int8(quantized)
    copy = tmp_path / "copy" / quantized.name
    copy.parent.mkdir()
    copy.write_bytes(quantized.read_bytes())
    engines = {"onnxruntime": {"mean_iou": 0.5, "agreement": 0.99}, "openvino": {"mean_iou": 0.5, "agreement": 0.97}}
    write_int8(copy, graph, {**metadata, "accuracy": {**metadata["accuracy"], "engines": engines}})
    poor = Parity(agreement=0.5, largest_logit_gap=2.5, largest_logit=9, sizes=((1, 1),))
    monkeypatch.setattr(module, "compare_with_model", lambda *_: poor)
    with pytest.raises(InvalidArgumentError, match=r"agree with the model's on 97\.0000 % .* At least 98\.00 % is"):
        export(copy, tmp_path / "out" / "a.onnx", precision="int8", min_agreement=0.98)
    assert not (tmp_path / "out").exists()
    assert export(copy, tmp_path / "out" / "a.onnx", precision="int8").file.exists()


@pytest.mark.slow
def test_int8_for_openvino(quantized, tmp_path):
    pytest.importorskip("openvino")
    exported = export(quantized, tmp_path / "tiny.xml", precision="int8", logits=True)
    card = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert {"openvino", "onnxruntime"} <= card["versions"].keys()
    labels, logits = FORMATS["openvino"].read(exported.file)(make_images(2, 5, 9, 3))
    assert (labels.shape, logits.shape) == ((2, 5, 9), (2, 8, 5, 9))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_fixed_size_is_the_only_one(model, tmp_path, suffix):
    pytest.importorskip("onnxruntime")
    exported = export(model, tmp_path / f"tiny{suffix}", fixed_size=(21, 34), logits=True)
    assert exported.parity.sizes == ((21, 34), (21, 34))
    card = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert card["input"]["shape"] == [1, 21, 34, 3]
    assert [output["shape"] for output in card["outputs"]] == [[1, 21, 34], [1, 3, 21, 34]]
    run, images = (
        FORMATS["onnx" if suffix == ".onnx" else "torch-export"].read(exported.file),
        make_images(1, 21, 34, 3),
    )
    labels, _ = run(images)
    np.testing.assert_array_equal(labels[0], load(model, device="cpu", precision="fp32").predict(images[0]).labels)
    with pytest.raises(Exception, match=r"21"):
        run(make_images(1, 20, 34, 3))
    export(model, tmp_path / f"tiny{suffix}", fixed_size=(21, 34), logits=True)  # the same request
    with pytest.raises(InvalidArgumentError, match="fixed_size was"):
        export(model, tmp_path / f"tiny{suffix}", fixed_size=(20, 34), logits=True)


def test_a_graph_of_fixed_size_computes_no_shapes(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    exported = export(model, tmp_path / "tiny.onnx", fixed_size=(21, 34))
    operators = {node.op_type for node in onnx.load(exported.file).graph.node}
    assert not operators & {"Shape", "Range", "Expand", "ConstantOfShape"}


@pytest.mark.parametrize(("opset", "expected"), [(None, (17, 8)), (18, (18, 8)), (20, (20, 9))])
def test_opset(model, tmp_path, opset, expected):
    onnx = pytest.importorskip("onnx")
    written = onnx.load(export(model, tmp_path / "tiny.onnx", opset=opset).file)
    assert (written.opset_import[0].version, written.ir_version) == expected


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_every_precision(model, tmp_path, name, precision):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    exported = export(model, tmp_path / "out", format=name, precision=precision)
    assert exported.file.name == f"model{FORMATS[name].suffix}"
    assert exported.parity.agreement >= {"fp32": 0.9999, "fp16": 0.995}[precision]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("unet", {}),
        ("unet-paper", {"base_channels": 4}),
        ("segnet", {"base_channels": 4}),
        ("fcn", {"encoder": "resnet18"}),
    ],
)
def test_onnx_of_different_networks(make_model, tmp_path, name, choices):
    pytest.importorskip("onnxruntime")
    model = make_model(tmp_path / "m", network=NetworkConfig(name=name, **choices))
    assert export(model, tmp_path / "model.onnx").parity.agreement >= 0.9999


def test_a_file_that_disagrees_is_not_written_and_the_old_one_stays(model, tmp_path, monkeypatch):
    path = tmp_path / "tiny.pt2"
    path.write_bytes(b"before")
    bad = Parity(agreement=0.9, largest_logit_gap=2.5, largest_logit=9, sizes=((1, 1),))
    monkeypatch.setattr(module, "compare_with_model", lambda *_: bad)
    message = r"agree with the model's on 90\.0000 % .* 99\.99 % is required.*up to 2\.5.*--min-agreement"
    with pytest.raises(InvalidArgumentError, match=message):
        export(model, path, overwrite=True)
    with pytest.raises(InvalidArgumentError, match=r"95\.00 % is required"):
        export(model, path, min_agreement=0.95, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.pt2"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("name", ["tiny.pt2", "tiny.json", "tiny.xml", "tiny.bin", "tiny.onnx", "predict_onnx.py"])
def test_a_file_of_the_user_is_not_replaced(model, tmp_path, name):
    suffix = {"tiny.json": ".pt2", "tiny.bin": ".xml", "predict_onnx.py": ".onnx"}.get(name) or Path(name).suffix
    if suffix != ".pt2":
        pytest.importorskip({".xml": "openvino", ".onnx": "onnxruntime"}[suffix])
    (tmp_path / name).write_text('{"file": "tiny.onnx"}')
    with pytest.raises(InvalidArgumentError, match=rf"{re.escape(name)} exists, and Pixelwise did not write it"):
        export(model, tmp_path / f"tiny{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"file": "tiny.onnx"}'


def test_an_export_is_replaced_by_the_same_request_only(model, make_model, tmp_path):
    path, card = tmp_path / "tiny.pt2", tmp_path / "tiny.json"
    export(model, path)
    export(model, path)
    before = path.read_bytes()
    other = make_model(tmp_path / "other", network=NetworkConfig(base_channels=2, depth=1), seed=5)
    for options, message in (({"logits": True}, "logits was False and is True"), ({"model": other}, "another model")):
        with pytest.raises(InvalidArgumentError, match=rf"tiny\.json was written by another request \({message}\)"):
            export(**{"model": model, "output": path, **options})
    path.write_bytes(before + b"patched")
    with pytest.raises(InvalidArgumentError, match=r"tiny\.pt2 was changed after Pixelwise wrote it"):
        export(model, path)
    card.write_text(card.read_text().replace("fp32", "fp23"))
    path.write_bytes(before)
    with pytest.raises(InvalidArgumentError, match=r"tiny\.json was changed after Pixelwise wrote it"):
        export(model, path)
    export(other, path, overwrite=True)
    assert path.read_bytes() != before
    assert not list(tmp_path.glob(".tiny*"))


@pytest.mark.parametrize("name", ["m.tflite", "m.pb", "m.ONNX", "m.safetensors", "m.v2", ".onnx", "new.d/m.h5"])
def test_another_suffix_is_an_error_that_lists_the_formats(model, tmp_path, name):
    suffix = re.escape(Path(name).suffix or name)
    message = rf"{suffix} is not the suffix of a format\. Use \.onnx \(onnx\), \.xml \(openvino\), \.pt2 \(torch-exp"
    with pytest.raises(InvalidArgumentError, match=message):
        export(model, tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=message):
        export(model, tmp_path / name, format="torch-export")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_have_a_suffix_if_it_exists(model, tmp_path):
    (tmp_path / "v1.2").mkdir()
    assert export(model, tmp_path / "v1.2", format="torch-export").file == tmp_path / "v1.2" / "model.pt2"


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("a.onnx", {"format": "openvino"}, r"suffix of .*a\.onnx means onnx, but the format is openvino\. Use \*\.xml"),
        ("a", {"format": "onyx"}, "Unknown value for format: 'onyx'. Did you mean 'onnx'"),
        ("a.onnx", {"min_agreement": 1.5}, "min_agreement is 1.5, but must be from 0 to 1"),
        ("a.onnx", {"precision": "fp61"}, "Unknown value for precision: 'fp61'. Did you mean 'fp16'"),
        ("a.pt2", {"precision": "int8"}, "torch-export does not support int8. Use the format onnx or openvino"),
        ("a.pt2", {"opset": 17}, "opset is 17, but torch-export has no opsets. Use the format onnx, or omit it"),
        ("a.xml", {"opset": 17}, "opset is 17, but openvino has no opsets"),
        ("a.onnx", {"opset": 3}, r"cannot be written in opset 3 \(.*\)\. Omit --opset for the oldest"),
        ("a.onnx", {"fixed_size": (0, 5)}, r"fixed_size is \(0, 5\), but must be a list of 2 integers >= 1"),
        ("a.onnx", {"fixed_size": (5, 5), "precision": "int8"}, "Int8 files take images of any size. Omit fixed_size"),
    ],
)
def test_invalid_arguments_are_errors(model, tmp_path, output, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        export(model, tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_file_is_an_error(model, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"is a folder\. Expected the name of a file"):
        export(model, tmp_path)


@pytest.mark.parametrize(
    ("absent", "output", "extra"),
    [("onnxscript", "a.onnx", "onnx"), ("onnxruntime", "a.onnx", "onnx"), ("openvino", "a.xml", "openvino")],
)
def test_a_missing_extra_is_an_error(model, tmp_path, monkeypatch, absent, output, extra):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InvalidArgumentError, match=rf'pip install "pixelwise\[{extra}\]"'):
        export(model, tmp_path / output)
    assert list(tmp_path.iterdir()) == []
