"""Predictions made up for tests of outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.data.classes import Classes, describe_classes
from pixelwise.data.io.georeference import Georeference
from pixelwise.inference.predictor import Prediction
from pixelwise.prediction.outputs import Predicted

COLORS = [[10, 20, 30], [200, 100, 0], [0, 0, 255]]
ABC = describe_classes({"names": ["a", "b", "c"], "colors": COLORS})
CELLS = describe_classes({"names": ["background", "cell", "a <b> & 'c'"], "colors": COLORS})


def predicted(
    labels: Any,
    *,
    classes: Classes = ABC,
    image: Any = None,
    logits: Any = None,
    source: Path = Path("photos/x.png"),
    name: str = "x.png",
    georeference: Georeference | None = None,
) -> Predicted:
    """An image of which a network is sure that it shows `labels`, unless `logits` (K, H, W) say otherwise."""
    array = np.asarray(labels, np.uint8 if len(classes.names) <= 256 else np.uint16)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(array.astype(np.int64)), len(classes.names))
    found = 20.0 * one_hot.permute(2, 0, 1).float() if logits is None else torch.tensor(logits, dtype=torch.float32)
    return Predicted(
        source=source,
        name=name,
        labels=array,
        classes=classes,
        georeference=georeference,
        image=np.zeros((*array.shape, 3), np.uint8) if image is None else image,
        prediction=Prediction(labels=array, _logits=lambda: found),
    )
