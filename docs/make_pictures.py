"""Draw the figure of the README from a finished demo: `python docs/make_pictures.py runs/demo`."""

import sys
from pathlib import Path

import numpy as np

import pixelwise
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.evaluation.evaluate import adapt_to_model, choose_split
from pixelwise.prediction.outputs.pictures import add_legend, get_painted_colors
from pixelwise.reports.gallery import draw_panels


def main(run: Path, shown: int = 3) -> None:
    """Draw every tenth test image of the demo: image, ground truth, prediction and errors, with a legend."""
    predictor = pixelwise.load(run)
    dataset = adapt_to_model(Dataset.load(run / "data"), predictor)
    _, samples = choose_split(dataset, run, "test")
    rows = []
    for sample in samples[:: max(1, len(samples) // shown)][:shown]:
        image, labels = dataset.read(sample)
        parts = draw_panels(image, labels, predictor.predict(image).labels, predictor.classes)
        gap = np.full((len(image), 6, 3), 255, np.uint8)
        rows.append(np.concatenate([p for part in parts.values() for p in (part, gap)][:-1], axis=1))
        rows.append(np.full((6, rows[0].shape[1], 3), 255, np.uint8))
    legend = list(zip(predictor.classes.names, get_painted_colors(predictor.classes), strict=True))
    write_png(Path(__file__).parent / "demo.png", add_legend(np.concatenate(rows[:-1]), legend))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
