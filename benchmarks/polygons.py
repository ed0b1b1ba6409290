"""Measure what `predict --simplify` leaves of outlines: corners, and the agreement of the polygons with the labels.

    python benchmarks/polygons.py camvid/ isbi2012/        # minutes on one core; writes results/polygons.json

The masks of the validation images of each dataset are taken as predictions. Their regions become polygons with each
distance, which are drawn again. Reported are the corners of all polygons, the mean IoU of the drawn and the original
labels (1: nothing changed), the lowest IoU of a class, and the processor time per megapixel to simplify and to trace.
Ignored pixels count as a class, because they have borders with the others.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import write_result

from pixelwise.conversion.polygonize import find_regions, trace_rings
from pixelwise.conversion.simplify import simplify_borders
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Polygon, rasterize
from pixelwise.metrics import ConfusionMatrix, iou, mean_iou

DISTANCES = (0, 0.5, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=20, help="images per dataset, evenly spaced in val")
    parser.add_argument("--distances", type=float, nargs="+", default=DISTANCES, help="in pixels")
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    for folder in arguments.data:
        dataset = Dataset.load(folder)
        for distance in arguments.distances:
            row = measure(read_labels(dataset, arguments.images), len(dataset.classes.names), distance)
            rows.setdefault(folder.resolve().name, {})[f"{distance:g}"] = row
            print(folder.resolve().name, distance, row, flush=True)
    write_result(Path(__file__).parent / "results" / "polygons.json", {"images": arguments.images, "datasets": rows})


def read_labels(dataset: Dataset, num_images: int) -> Iterator[Array]:
    """Yield the labels of evenly spaced validation images; ignored pixels have the number of classes."""
    num_classes, ignore_index = len(dataset.classes.names), dataset.classes.ignore_index
    samples = [sample for sample in dataset.samples if sample.split == "val"]
    for sample in samples[:: max(1, len(samples) // num_images)][:num_images]:
        labels = dataset.read(sample)[1]
        yield np.where(labels == ignore_index, num_classes, labels).astype(np.uint8)


def measure(images: Iterator[Array], num_classes: int, distance: float) -> dict[str, Any]:
    """Trace and draw all images, and compare."""
    confusion = ConfusionMatrix(num_classes + 1)
    regions = corners = pixels = 0
    seconds = 0.0
    for labels in images:
        start = time.process_time()
        kept = simplify_borders(labels, distance) if distance else None
        polygons = []
        for region in find_regions(labels, range(256), kept):
            outline, *holes = trace_rings(region)
            polygons.append(Polygon(value=region.label, outline=outline, holes=holes))
            corners += len(outline) + sum(map(len, holes))
        seconds += time.process_time() - start
        confusion.update(rasterize(polygons, labels.shape), labels, ignore_index=255)
        regions += len(polygons)
        pixels += labels.size
    scores = iou(confusion.counts)
    return {
        "regions": regions,
        "corners": corners,
        "mean_iou": round(mean_iou(confusion.counts), 4),
        "lowest_iou": round(float(scores[scores == scores].min()), 4),
        "seconds_per_megapixel": round(seconds / pixels * 1e6, 2),
    }


if __name__ == "__main__":
    main()
