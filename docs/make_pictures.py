"""Draw the palette of docs/colors.md, and the figure of the README from a finished demo:

python docs/make_pictures.py [runs/demo]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import pixelwise
from pixelwise.data.colors import VISIONS, choose_colors, simulate_vision
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.evaluation.evaluate import adapt_to_model, choose_split
from pixelwise.prediction.outputs.pictures import add_legend, get_painted_colors
from pixelwise.reports.gallery import draw_panels

PANELS = ("image", "truth", "prediction", "errors")


def draw_palette(path: Path) -> None:
    """Draw the colors of 8, 20 and 40 classes as they look to each kind of color vision."""
    font = ImageFont.load_default(14)
    picture = Image.new("RGB", (1010, 450), "white")
    draw, top = ImageDraw.Draw(picture), 8
    for count in (8, 20, 40):
        colors = choose_colors([f"class {index}" for index in range(count)])
        width = min(64, 880 // count)
        draw.text((8, top), f"{count} classes", "black", font)
        top += 24
        for vision in VISIONS:
            draw.text((8, top + 4), vision, "black", font)
            for index, color in enumerate(simulate_vision(colors, vision)):
                left = 120 + index * width
                draw.rectangle((left, top, left + width - 4, top + 22), fill=color)
            top += 27
        top += 14
    picture.save(path)


def draw_demo(run: Path, shown: int = 3) -> None:
    """Draw every tenth test image of the demo: image, ground truth, prediction and errors, with a legend."""
    predictor = pixelwise.load(run)
    dataset = Dataset.load(run / "data")
    _, samples = choose_split(dataset, run, "test")
    dataset = adapt_to_model(dataset, predictor, samples)
    rows = []
    for sample in samples[:: max(1, len(samples) // shown)][:shown]:
        image, labels = dataset.read(sample)
        panels = draw_panels(image, labels, predictor.predict(image).labels, predictor.classes)
        gap = np.full((len(image), 6, 3), 255, np.uint8)
        rows.append(np.concatenate([p for name in PANELS for p in (panels[name], gap)][:-1], axis=1))
        rows.append(np.full((6, rows[0].shape[1], 3), 255, np.uint8))
    legend = list(zip(predictor.classes.names, get_painted_colors(predictor.classes), strict=True))
    write_png(Path(__file__).parent / "demo.png", add_legend(np.concatenate(rows[:-1]), legend))


if __name__ == "__main__":
    draw_palette(Path(__file__).parent / "colors.png")
    for argument in sys.argv[1:]:
        draw_demo(Path(argument))
