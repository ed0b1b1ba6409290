"""Predict labels of images with an exported model: python predict_onnx.py model.onnx IMAGE... -o FOLDER

Needs onnxruntime, numpy, pillow, and the model card (model.json) next to the model. Writes a PNG of class indices per
image, in the colors of the classes; above 256 classes, in 16 bits. A file that exists is not replaced without
--overwrite.
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
    sys.exit(f"{error.name} is not installed. Install it: pip install onnxruntime numpy pillow")


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


def list_targets(images: list[Path], output: Path, *, overwrite: bool) -> dict[Path, Path]:
    """Return the file to write for each image; exit if it would replace another file."""
    targets: dict[Path, Path] = {}
    for image in images:
        target = output / f"{image.stem}.png"
        if target in targets:
            sys.exit(f"{targets[target]} and {image} would both be written to {target}. Rename one of them.")
        if any(target.resolve() == other.resolve() for other in images):
            sys.exit(f"The labels of {image} would replace the image {target}. Choose another folder with -o.")
        if target.exists() and not overwrite:
            sys.exit(f"{target} exists. Choose another folder with -o, or replace it with --overwrite.")
        targets[target] = image
    return {image: target for target, image in targets.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("labels"))
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    arguments = parser.parse_args()
    targets = list_targets(arguments.images, arguments.output, overwrite=arguments.overwrite)
    card = json.loads(arguments.model.with_suffix(".json").read_text(encoding="utf-8"))
    if hashlib.sha256(arguments.model.read_bytes()).hexdigest() != card["sha256"]:
        sys.exit(f"{arguments.model} does not match its model card. Export it again.")
    session = onnxruntime.InferenceSession(arguments.model)
    for path, target in targets.items():
        _, *size, channels = card["input"]["shape"]
        image = read_image(path, channels, card["input"]["dtype"])
        if size != ["H", "W"] and size != list(image.shape[:2]):
            sys.exit(
                f"{path} is {image.shape[0]}x{image.shape[1]}, but the model takes {size[0]}x{size[1]}. Resize it."
            )
        labels = session.run(["labels"], {"images": image[None]})[0][0]
        write_labels(target, labels, card["colors"])


if __name__ == "__main__":
    main()
