"""The script next to an ONNX file, in an environment with only its three packages."""

import importlib.util
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelwise.api import export
from pixelwise.exporting.formats import FORMATS
from pixelwise.inference.predictor import load

PACKAGES = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime")


def create_environment(folder, packages):
    """Create a virtual environment without pip that has only the given packages."""
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
    return create_environment(tmp_path_factory.mktemp("clean") / "venv", PACKAGES)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 34, 3), "uint8")).save(path)
    return path


def test_the_environment_has_no_torch(python):
    assert "No module named 'torch'" in run(python, "-c", "import torch").stderr
    assert "No module named 'pixelwise'" in run(python, "-c", "import pixelwise").stderr


def test_labels_equal_those_of_the_model(python, exported, model, image, tmp_path):
    done = run(python, exported.file.with_name("predict_onnx.py"), exported.file, image, "-o", tmp_path / "labels")
    assert done.returncode == 0, done.stderr
    predictor = load(model, device="cpu", precision="fp32")
    with Image.open(tmp_path / "labels" / "street.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), predictor.predict(np.asarray(Image.open(image))).labels)
        assert written.getpalette()[:9] == [value for color in predictor.classes.colors for value in color]


def test_a_file_that_exists_is_not_replaced(python, exported, image, tmp_path):
    script, labels = exported.file.with_name("predict_onnx.py"), tmp_path / "labels"
    labels.mkdir()
    (labels / "street.png").write_bytes(b"mine")
    done = run(python, script, exported.file, image, "-o", labels)
    assert done.returncode == 1
    assert "street.png exists. Choose another folder with -o, or replace it with --overwrite." in done.stderr
    assert (labels / "street.png").read_bytes() == b"mine"
    assert run(python, script, exported.file, image, "-o", labels, "--overwrite").returncode == 0
    before = image.read_bytes()
    assert "would replace the image" in run(python, script, exported.file, image, "-o", tmp_path, "--overwrite").stderr
    assert image.read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "street.jpg").write_bytes(before)
    both = run(python, script, exported.file, image, tmp_path / "other" / "street.jpg", "-o", tmp_path / "new")
    assert "would both be written to" in both.stderr


def test_a_file_of_fixed_size_names_other_images(python, model, image, tmp_path):
    exported = export(model, tmp_path / "fixed" / "tiny.onnx", fixed_size=(21, 33))
    done = run(python, exported.file.with_name("predict_onnx.py"), exported.file, image, "-o", tmp_path / "labels")
    assert done.returncode == 1
    assert done.stderr.strip() == f"{image} is 21x34, but the model takes 21x33. Resize it."


def test_an_int8_file(python, exported_int8, image, tmp_path):
    done = run(
        python, exported_int8.file.with_name("predict_onnx.py"), exported_int8.file, image, "-o", tmp_path / "labels"
    )
    assert done.returncode == 0, done.stderr
    (expected,) = FORMATS["onnx"].read(exported_int8.file)(np.asarray(Image.open(image))[None])
    with Image.open(tmp_path / "labels" / "street.png") as written:
        np.testing.assert_array_equal(np.asarray(written), expected[0])


def test_the_script_is_short():
    import pixelwise.exporting

    text = Path(pixelwise.exporting.__file__).with_name("predict_onnx.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 84


def test_a_missing_package_is_an_error(exported, image, tmp_path):
    python = create_environment(tmp_path / "bare", ["numpy", "numpy.libs"])
    done = run(python, exported.file.with_name("predict_onnx.py"), exported.file, image)
    assert done.returncode == 1
    assert "onnxruntime is not installed. Install it: pip install onnxruntime numpy pillow" in done.stderr


def test_a_file_that_does_not_match_its_card_is_an_error(python, exported, image, tmp_path):
    for path in (exported.file, *exported.other_files):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tiny.onnx").write_bytes(exported.file.read_bytes() + b"x")
    done = run(python, tmp_path / "predict_onnx.py", tmp_path / "tiny.onnx", image)
    assert "does not match its model card" in done.stderr


def test_an_image_of_another_dtype_is_an_error(python, exported, tmp_path):
    path = tmp_path / "16_bit.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    done = run(python, exported.file.with_name("predict_onnx.py"), exported.file, path, "-o", tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
    assert "cannot be read as 3 channels of uint8" in done.stderr
