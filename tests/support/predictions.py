"""Synthetic predictions for tests of outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.data.classes import Classes
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.tiff import Georeference
from pixelwise.inference.predictor import Prediction
from pixelwise.output_files import OutputClaim, OutputManifest
from pixelwise.prediction.outputs.pictures import LabeledImage, LabelValues

COLORS = [[10, 20, 30], [200, 100, 0], [0, 0, 255]]
ABC = describe_classes(parse_description({"names": ["a", "b", "c"], "colors": COLORS}))
CELLS = describe_classes(parse_description({"names": ["background", "cell", "a <b> & 'c'"], "colors": COLORS}))


def make_labeled(
    labels: Any,
    *,
    classes: Classes = ABC,
    source: Path | None = Path("photos/x.png"),
    name: str = "x.png",
    georeference: Georeference | None = None,
    label_values: LabelValues = "index",
) -> LabeledImage:
    """Return an image with these labels."""
    array = np.asarray(labels, np.uint8 if len(classes.names) <= 256 else np.uint16)
    return LabeledImage(array, classes, name, source, georeference, label_values=label_values)


def make_prediction(labels: Any, *, num_classes: int = 3, logits: Any = None) -> Prediction:
    """Return a prediction of these labels with high probability, unless `logits` (K, H, W) are given."""
    array = np.asarray(labels, np.uint8)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(array.astype(np.int64)), num_classes)
    values = 20.0 * one_hot.permute(2, 0, 1).float() if logits is None else torch.tensor(logits, dtype=torch.float32)
    return Prediction(labels=array, _logits=lambda: values)


def make_manifest(folder: Path, request: Any = None) -> OutputManifest:
    """Return the manifest of a prediction job into a folder."""
    claim = OutputClaim(folder=folder, stem=".pixelwise")
    return OutputManifest(claim=claim, name="predict.json", request=request or {})
