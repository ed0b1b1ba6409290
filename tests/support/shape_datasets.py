"""Helpers that write and read datasets whose labels are shapes."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.cli import main
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, write_png

SIZE = (6, 8)
"""Default height and width of images."""


def write_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    write_png(path, np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), np.uint8))
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_masks(root: Path, format: str) -> dict[str, Array]:
    """Read the mask of every sample of a dataset whose format is detected: name → values."""
    dataset = Dataset.load(root)
    assert dataset.format == format
    return {sample.name: dataset.read_mask(sample) for sample in dataset.samples}


def make_mask(*areas: tuple[int, slice, slice], size: tuple[int, int] = SIZE) -> list[list[int]]:
    """Make a mask from areas of a value, rows and columns; later areas cover earlier ones."""
    mask = np.zeros(size, int)
    for value, rows, columns in areas:
        mask[rows, columns] = value
    return mask.tolist()


def list_relative(root: Path, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def run_check(root: Path, tmp_path: Path) -> dict[str, Any]:
    """Return the JSON that `pixelwise check` writes, with any exit code."""
    with contextlib.suppress(SystemExit):
        main.main(["check", str(root), "--json", str(tmp_path / "check.json")])
    answer: dict[str, Any] = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    return answer


def get_finding(answer: dict[str, Any], code: str) -> dict[str, Any]:
    """Return the only finding with a code."""
    (found,) = [f for f in answer["findings"] if f["code"] == code]
    return dict(found)


def _write_coco(root: Path) -> None:
    names = [
        write_image(root / f"images/{name}").relative_to(root / "images").as_posix() for name in ("a/0.png", "1.png")
    ]
    images = [{"id": id_, "file_name": name, "height": 6, "width": 8} for id_, name in enumerate(names)]
    write_json(root / "all.json", {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]})


def _write_labelme(root: Path) -> None:
    for name in ("train/0", "val/1"):
        image = write_image(root / f"{name}.png")
        write_json(root / f"{name}.json", {"shapes": [], "imagePath": image.name, "imageHeight": 6, "imageWidth": 8})


def _write_cvat(root: Path) -> None:
    names = [
        write_image(root / f"images/{name}").relative_to(root / "images").as_posix() for name in ("a/0.png", "1.png")
    ]
    images = "".join(f'<image name="{name}" width="8" height="6"/>' for name in names)
    labels = "<meta><labels><label><name>cat</name></label></labels></meta>"
    (root / "annotations.xml").write_text(f"<annotations>{labels}{images}</annotations>", encoding="utf-8")


def _write_yolo(root: Path) -> None:
    for name in ("train/0", "val/1"):
        write_image(root / f"images/{name}.png")
        (root / f"labels/{name}.txt").parent.mkdir(parents=True)
        (root / f"labels/{name}.txt").touch()
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n", encoding="utf-8")


def _write_supervisely(root: Path) -> None:
    write_json(root / "meta.json", {"classes": [{"title": "cat", "shape": "polygon"}], "tags": []})
    for split, name in (("train", "0.png"), ("val", "1.png")):
        write_image(root / split / "img" / name)
        write_json(root / split / "ann" / f"{name}.json", {"size": {"height": 6, "width": 8}, "objects": []})


SHAPE_DATASETS: Mapping[str, tuple[Callable[[Path], None], list[str]]] = {
    "coco": (_write_coco, ["1", "a/0"]),
    "labelme": (_write_labelme, ["train/0", "val/1"]),
    "cvat": (_write_cvat, ["1", "a/0"]),
    "yolo": (_write_yolo, ["train/0", "val/1"]),
    "supervisely": (_write_supervisely, ["train/0", "val/1"]),
}
"""Format → a function that writes two images without shapes, and the names of their samples."""
