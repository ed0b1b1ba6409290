"""Whole exports: what is written, that it is the model, and what is refused."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from pixelwise.cli.results import print_export
from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.evaluation.evaluate import evaluate
from pixelwise.exporting import export
from pixelwise.exporting import export as home
from pixelwise.exporting.formats import FORMATS
from pixelwise.exporting.parity import Proof
from pixelwise.inference.predictor import load
from pixelwise.quantization.accuracy import Accuracy


def images_of(*shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def test_the_file_its_card_and_its_runner_are_written_and_nothing_else(made):
    assert sorted(path.name for path in made.file.parent.iterdir()) == ["predict_onnx.py", "tiny.json", "tiny.onnx"]
    assert {path.name for path in made.beside} == {"predict_onnx.py", "tiny.json"}
    assert made.num_bytes == made.file.stat().st_size
    assert made.proof.agreement == 1
    assert made.proof.largest_logit_gap < 1e-4


def test_the_file_labels_images_of_any_size_as_the_model_does(made, model):
    run = FORMATS["onnx"].read(made.file)
    predictor = load(model, device="cpu", precision="fp32")
    for size in [(1, 1), (1, 6), (37, 50)]:
        images = images_of(3, *size, 3)
        (labels,) = run(images)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, [predictor.predict(image).labels for image in images])


def test_the_file_holds_no_path_of_this_machine_and_no_operator_of_this_package(made):
    import onnx

    assert b".py" not in made.file.read_bytes()
    assert {node.domain for node in onnx.load(made.file).graph.node} == {""}


def test_the_card_says_what_the_file_takes_and_gives(made):
    card = json.loads(made.file.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(made.file.read_bytes()).hexdigest()
    assert card["input"]["shape"] == ["B", "H", "W", 3]
    assert card["outputs"] == [{"name": "labels", "shape": ["B", "H", "W"], "dtype": "uint8"}]
    assert card["classes"] == ["road", "sky", "tree"]
    assert len(card["colors"]) == 3
    assert card["tiling"]["stride"] == [2, 2]
    assert card["proof"]["agreement"] == 1
    assert {"pixelwise", "torch", "onnx", "onnxruntime"} <= card["versions"].keys()


def test_the_command_prints_file_size_agreement_and_gap(made, capsys):
    print_export(made, {})
    shown = capsys.readouterr().out
    assert str(made.file) in shown
    assert "MB" in shown
    assert "agree on 100.0000%" in shown
    assert "largest logit gap" in shown


def test_torch_export_with_logits(make_model, tmp_path):
    """Of 16 bits and two channels; the file says all that its sizes can be."""
    model = make_model(tmp_path / "m", network=NetworkConfig(base_channels=2, depth=1), channels=2, dtype="uint16")
    made = export(model, tmp_path / "out" / "tiny.pt2", logits=True)
    images = images_of(1, 1, 9, 2, dtype="uint16")
    labels, logits = FORMATS["torch-export"].read(made.file)(images)
    expected = load(model, device="cpu", precision="fp32").predict(images[0])
    np.testing.assert_array_equal(labels[0], expected.labels)
    np.testing.assert_allclose(logits[0], expected.logits, atol=1e-4)
    card = json.loads((tmp_path / "out" / "tiny.json").read_text(encoding="utf-8"))
    assert [output["name"] for output in card["outputs"]] == ["labels", "logits"]


def test_int8_is_measured_on_labeled_images(made_int8, trained, streets, capsys):
    measured = made_int8.accuracy
    card = json.loads(made_int8.file.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["precision"] == "int8"
    assert card["accuracy"] == {
        "mean_iou": measured.mean_iou,
        "model_mean_iou": measured.model_mean_iou,
        "agreement": measured.agreement,
        "validation_images": 4,
        "calibration_images": 12,
    }
    scored = evaluate(trained, streets, split="val", device="cpu", precision="fp32")
    assert measured.model_mean_iou == scored["mean_iou"]
    assert 0.9 < measured.agreement < 1
    print_export(made_int8, {})
    shown = capsys.readouterr().out
    assert f"a loss of {measured.loss:.2f} points" in shown
    assert "4 validation images" in shown


def test_int8_takes_images_of_any_size(made_int8):
    run = FORMATS["onnx"].read(made_int8.file)
    for shape in [(1, 1, 1, 3), (2, 7, 30, 3)]:
        (labels,) = run(images_of(*shape))
        assert (labels.shape, labels.dtype) == (shape[:3], np.uint8)


@pytest.fixture
def with_accuracy(monkeypatch):
    """All of an export but the file itself and what is measured of it."""
    home_module = sys.modules[home.__module__]

    def write(graph, example, full, labels, change):
        for path in (full, labels):
            path.write_bytes(b"a graph")

    row = replace(FORMATS["onnx"], write=write, read=lambda path: None)
    monkeypatch.setattr(home_module, "FORMATS", {**FORMATS, "onnx": row})
    fine = Proof(agreement=0.5, largest_logit_gap=2.5, largest_logit=9, sizes=((1, 1),))
    monkeypatch.setattr(home_module, "prove", lambda *_: fine)

    def set_accuracy(**values):
        found = Accuracy(validation_images=4, calibration_images=12, **values)
        monkeypatch.setattr(home_module, "measure_accuracy", lambda *_, **__: found)

    return set_accuracy


def test_a_loss_above_the_limit_is_refused_and_the_old_file_stays(trained, streets, tmp_path, with_accuracy):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"before")
    with_accuracy(mean_iou=0.48, model_mean_iou=0.5, agreement=0.97)
    said = r"4 .* images the mean IoU of int8 is 0\.4800 and the model's 0\.5000, 2 points less, and 1 may be lost.*"
    with pytest.raises(InvalidArgumentError, match=said + "--max-iou-drop"):
        export(trained, path, precision="int8", data=streets)
    with pytest.raises(InvalidArgumentError, match=r"and 1\.5 may be lost"):
        export(trained, path, precision="int8", data=streets, max_iou_drop=1.5)
    with_accuracy(mean_iou=float("nan"), model_mean_iou=0.5, agreement=0.97)
    with pytest.raises(InvalidArgumentError, match="is nan"):
        export(trained, path, precision="int8", data=streets)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]
    assert path.read_bytes() == b"before"


def test_of_int8_the_agreement_is_that_on_validation_images_and_none_is_asked_for(
    trained, streets, tmp_path, with_accuracy
):
    pytest.importorskip("onnxruntime")
    with_accuracy(mean_iou=0.495, model_mean_iou=0.5, agreement=0.97)
    with pytest.raises(InvalidArgumentError, match=r"agree with the model's on 97\.0000% .* 99\.00% are asked for"):
        export(trained, tmp_path / "a.onnx", precision="int8", data=streets, min_agreement=0.99)
    assert export(trained, tmp_path / "a.onnx", precision="int8", data=streets).file.exists()


@pytest.mark.slow
def test_int8_for_openvino(trained, streets, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    made = export(trained, tmp_path / "tiny.xml", precision="int8", data=streets, max_iou_drop=3, logits=True)
    card = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert {"openvino", "onnxruntime"} <= card["versions"].keys()
    labels, logits = FORMATS["openvino"].read(made.file)(images_of(2, 5, 9, 3))
    assert (labels.shape, logits.shape) == ((2, 5, 9), (2, 8, 5, 9))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_every_precision(model, tmp_path, name, precision):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    made = export(model, tmp_path / "out", format=name, precision=precision)
    assert made.file.name == f"model{FORMATS[name].ending}"
    assert made.proof.agreement >= {"fp32": 0.9999, "fp16": 0.995}[precision]


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
def test_onnx_of_every_kind_of_network(make_model, tmp_path, name, choices):
    pytest.importorskip("onnxruntime")
    model = make_model(tmp_path / "m", network=NetworkConfig(name=name, **choices))
    assert export(model, tmp_path / "model.onnx").proof.agreement >= 0.9999


def test_a_file_that_disagrees_is_refused_and_the_old_one_stays(model, tmp_path, monkeypatch):
    path = tmp_path / "tiny.pt2"
    path.write_bytes(b"before")
    bad = Proof(agreement=0.9, largest_logit_gap=2.5, largest_logit=9, sizes=((1, 1),))
    monkeypatch.setattr(sys.modules[home.__module__], "prove", lambda *_: bad)
    said = r"agree with the model's on 90\.0000% .* 99\.99% are asked for.*up to 2\.5.*--min-agreement"
    with pytest.raises(InvalidArgumentError, match=said):
        export(model, path)
    with pytest.raises(InvalidArgumentError, match=r"95\.00% are asked for"):
        export(model, path, min_agreement=0.95)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.pt2"]
    assert path.read_bytes() == b"before"


def test_the_card_of_another_export_stays(model, tmp_path):
    for content, owner in (('{"file": "tiny.onnx"}', r"the card of tiny\.onnx"), ("mine", "no card of an export")):
        (tmp_path / "tiny.json").write_text(content)
        with pytest.raises(
            InvalidArgumentError, match=rf"tiny\.json would be replaced, but is {owner}; give tiny\.pt2"
        ):
            export(model, tmp_path / "tiny.pt2")
        assert (tmp_path / "tiny.json").read_text() == content
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.json"]


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("a.onnx", {"format": "openvino"}, r"ends as onnx does, but the format asked for is openvino: name it \*\.xml"),
        ("a", {"format": "onyx"}, "unknown format 'onyx'. Did you mean 'onnx'"),
        ("a.onnx", {"min_agreement": 1.5}, "min_agreement is 1.5, but is a share of the labels, from 0 to 1"),
        ("a.onnx", {"precision": "fp61"}, "unknown precision 'fp61'. Did you mean 'fp16'"),
        ("a.onnx", {"precision": "int8"}, "int8 needs images .* name a dataset with --data"),
        ("a.pt2", {"precision": "int8", "data": "d"}, "torch-export has no int8 form here; .* onnx or openvino"),
        (
            "a.onnx",
            {"precision": "int8", "data": "d", "max_iou_drop": -1},
            "max_iou_drop is -1, but is a number of points",
        ),
        (
            "a.onnx",
            {"precision": "int8", "data": "d", "max_iou_drop": 101},
            "max_iou_drop is 101, but .* from 0 to 100",
        ),
        ("a.onnx", {"precision": "fp16", "data": "d"}, "--data and --max-iou-drop go with --precision int8, not fp16"),
        ("a.onnx", {"max_iou_drop": 1}, "--data and --max-iou-drop go with --precision int8, not fp32"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(model, tmp_path, output, options, said):
    with pytest.raises(InvalidArgumentError, match=said):
        export(model, tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(model, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(InvalidArgumentError, match="is a folder; name another file"):
        export(model, tmp_path)


@pytest.mark.parametrize(
    ("absent", "output", "extra"),
    [("onnxscript", "a.onnx", "onnx"), ("onnxruntime", "a.onnx", "onnx"), ("openvino", "a.xml", "openvino")],
)
def test_a_missing_extra_is_named(model, tmp_path, monkeypatch, absent, output, extra):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InvalidArgumentError, match=rf'pip install "pixelwise\[{extra}\]"'):
        export(model, tmp_path / output)
    assert list(tmp_path.iterdir()) == []
