"""Predict labels of images with an exported model: python predict_onnx.py model.onnx IMAGE... -o FOLDER

Needs onnxruntime, numpy, pillow, and the model card (model.json) next to the model. Writes a PNG of class indices per
image, in the colors of the classes; above 256 classes, in 16 bits.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"{error.name} is not installed: pip install onnxruntime numpy pillow")


def read_image(path: Path, channels: int, dtype: str) -> Any:
    """Return (H, W, C): gray or RGB of 8 bits, or gray of 16 bits."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
    is_16_bit = upright.mode.startswith("I")
    if (dtype, channels) in {("uint8", 1), ("uint8", 3)} and not is_16_bit:
        return np.atleast_3d(np.asarray(upright.convert("L" if channels == 1 else "RGB")))
    if (dtype, channels) == ("uint16", 1) and is_16_bit:
        return np.atleast_3d(np.asarray(upright).astype(np.uint16))
    sys.exit(f"{path} ({upright.mode}) cannot be read as {channels} channels of {dtype}. Convert it first.")


def write_labels(path: Path, labels: Any, colors: list[list[int]]) -> None:
    picture = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        picture.putpalette([value for color in colors for value in color])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("labels"))
    arguments = parser.parse_args()
    card = json.loads(arguments.model.with_suffix(".json").read_text(encoding="utf-8"))
    if hashlib.sha256(arguments.model.read_bytes()).hexdigest() != card["sha256"]:
        sys.exit(f"{arguments.model} does not match its model card. Export it again.")
    session = onnxruntime.InferenceSession(arguments.model)
    for path in arguments.images:
        _, *size, channels = card["input"]["shape"]
        image = read_image(path, channels, card["input"]["dtype"])
        if size != ["H", "W"] and size != list(image.shape[:2]):
            sys.exit(
                f"{path} is {image.shape[0]}x{image.shape[1]}, but the model takes {size[0]}x{size[1]}. Resize it."
            )
        labels = session.run(["labels"], {"images": image[None]})[0][0]
        write_labels(arguments.output / f"{path.stem}.png", labels, card["colors"])


if __name__ == "__main__":
    main()
