import csv
import io

import numpy as np

from pixelwise.data.io.tiff import Georeference
from pixelwise.prediction.outputs import CsvTable
from support.predictions import CELLS, make_labeled

LABELS = np.array([[1, 0, 1], [1, 0, 0]], np.uint8)


def test_every_class_of_every_image_has_a_row() -> None:
    table = CsvTable(CELLS)
    table.add(make_labeled(LABELS, classes=CELLS, name="a, b.png"))
    place = Georeference(x=(0.5, 0, 0), y=(0, -0.5, 0), epsg=None)
    table.add(make_labeled(LABELS, classes=CELLS, name="trip/c.tif", georeference=place))
    rows = list(csv.reader(io.StringIO(table.encode().decode())))
    assert rows == [
        ["image", "class", "pixels", "share", "regions", "area", "present"],
        ["a, b.png", "background", "3", "0.500000", "1", "", "true"],
        ["a, b.png", "cell", "3", "0.500000", "2", "", "true"],
        ["a, b.png", "a <b> & 'c'", "0", "0.000000", "0", "", "false"],
        ["trip/c.tif", "background", "3", "0.500000", "1", "0.75", "true"],
        ["trip/c.tif", "cell", "3", "0.500000", "2", "0.75", "true"],
        ["trip/c.tif", "a <b> & 'c'", "0", "0.000000", "0", "0.0", "false"],
    ]
