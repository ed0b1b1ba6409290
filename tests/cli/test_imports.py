"""Heavy modules that a command does not need must not be imported: some take longer than PyTorch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pixelwise.config import NetworkConfig

HEAVY = (
    *("torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.onnx", "sympy"),
    *("torchvision", "timm", "matplotlib", "tensorboard", "jinja2", "scipy", "pandas", "rasterio", "zarr", "h5py"),
    *("onnx", "onnxscript", "onnxruntime", "openvino", "av", "ray", "sklearn", "pydicom", "pyarrow", "triton"),
)

SCRIPT = """
import sys
from pixelwise.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("imported:", *sys.modules)
"""


def find_heavy_imports(*arguments: object) -> list[str]:
    """Run a command in a new process, and return the heavy modules that it imported."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    imported = process.stdout.rpartition("imported: ")[2].split()
    assert "pixelwise.cli.main" in imported
    return [name for name in HEAVY if name in imported]


def test_predict_of_a_unet(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "model.safetensors", network=NetworkConfig(encoder="resnet18"))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "image.png")
    outputs = ("--save", "labels,overlay,table")
    assert find_heavy_imports("predict", model, tmp_path / "image.png", "-o", tmp_path / "out", *outputs) == []
    assert (tmp_path / "out" / "image.png").exists()
