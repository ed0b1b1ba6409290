"""The runner, where nothing but its three packages is installed."""

import importlib.util
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelwise.exporting.formats import FORMATS
from pixelwise.inference.predictor import load

NEEDED = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime")


def clean_python(folder, packages):
    """A virtual environment without pip that sees these packages alone."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    installed = Path(importlib.util.find_spec("numpy").origin).parents[1]
    for name in packages:
        if (installed / name).is_dir():
            (site / name).symlink_to(installed / name)
    return folder / "bin" / "python"


def run(python, *arguments):
    command = [str(python), "-I", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return clean_python(tmp_path_factory.mktemp("clean") / "venv", NEEDED)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 34, 3), "uint8")).save(path)
    return path


def test_the_clean_environment_has_no_torch(python):
    assert "No module named 'torch'" in run(python, "-c", "import torch").stderr
    assert "No module named 'pixelwise'" in run(python, "-c", "import pixelwise").stderr


def test_it_writes_the_labels_of_the_model_in_the_colors_of_the_classes(python, made, model, image, tmp_path):
    done = run(python, made.file.with_name("predict_onnx.py"), made.file, image, "-o", tmp_path / "labels")
    assert done.returncode == 0, done.stderr
    predictor = load(model, device="cpu", precision="fp32")
    with Image.open(tmp_path / "labels" / "street.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), predictor.predict(np.asarray(Image.open(image))).labels)
        assert written.getpalette()[:9] == [value for color in predictor.classes.colors for value in color]


def test_it_runs_an_int8_file(python, made_int8, image, tmp_path):
    done = run(python, made_int8.file.with_name("predict_onnx.py"), made_int8.file, image, "-o", tmp_path / "labels")
    assert done.returncode == 0, done.stderr
    (expected,) = FORMATS["onnx"].read(made_int8.file)(np.asarray(Image.open(image))[None])
    with Image.open(tmp_path / "labels" / "street.png") as written:
        np.testing.assert_array_equal(np.asarray(written), expected[0])


def test_it_is_short():
    import pixelwise.exporting

    text = Path(pixelwise.exporting.__file__).with_name("predict_onnx.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60


def test_an_absent_package_is_named(made, image, tmp_path):
    python = clean_python(tmp_path / "bare", ["numpy", "numpy.libs"])
    done = run(python, made.file.with_name("predict_onnx.py"), made.file, image)
    assert done.returncode == 1
    assert "onnxruntime is not installed: pip install onnxruntime numpy pillow" in done.stderr


def test_a_file_that_is_not_the_cards_is_refused(python, made, image, tmp_path):
    for path in (made.file, *made.other_files):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tiny.onnx").write_bytes(made.file.read_bytes() + b"x")
    done = run(python, tmp_path / "predict_onnx.py", tmp_path / "tiny.onnx", image)
    assert "is not the file that its card describes" in done.stderr


def test_an_image_of_another_kind_is_refused(python, made, tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    done = run(python, made.file.with_name("predict_onnx.py"), made.file, path, "-o", tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
    assert "cannot be read here as 3 channels of uint8" in done.stderr
