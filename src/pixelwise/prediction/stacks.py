"""Predict stacks page by page: a TIFF of labels with the axes of the stack, and the other outputs of each page."""

import itertools
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pixelwise.data.io.images import Array, StackAxes
from pixelwise.files import make_temporary_path
from pixelwise.inference.batching import PredictedImage, predict_all
from pixelwise.inference.predictor import PredictionOptions, Predictor
from pixelwise.prediction.inputs import PageInput, StackInput
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles, log_blending, write_in_background
from pixelwise.prediction.outputs.pictures import LabeledImage
from pixelwise.progress import report_progress

_IMAGEJ_AXES = ("T", "Z", "TZ")
_IMAGEJ_TYPES = ("uint8", "uint16")
_LARGE_BYTES = 2**31
"""Larger files are BigTIFF, which ImageJ's own form is not."""


def predict_stack(
    predictor: Predictor, writer: OutputWriter, item: StackInput, options: PredictionOptions
) -> WrittenFiles:
    """Predict the pages of a stack and write all outputs, the labels last.

    Memory does not grow with the number of pages.
    """
    pages = item.list_pages()
    paths = writer.list_paths(item)

    def write(one: PredictedImage[PageInput, Array | None]) -> WrittenFiles:
        if one.item == pages[0] and one.prediction.seam_score is not None:
            log_blending(f"{item.name}: first page", one.prediction.seam_score, options.tiling)
        return writer.write(one.item, one.image, one.prediction, one.extra)

    def label_pages() -> Iterator[LabeledImage]:
        predicted = predict_all(
            predictor,
            pages,
            lambda page: page.read(predictor.spec.channels, predictor.spec.nodata),
            options=options,
            keep_logits=writer.needs_probabilities,
            name=lambda page: page.name,
        )
        for count, result in enumerate(write_in_background(predicted, write), start=1):
            if isinstance(result, Exception):
                raise result
            assert result.labeled is not None
            writer.add(result.labeled)
            report_progress(item.path.name, count, len(pages))
            yield result.labeled

    with writer.roll_back_on_error():
        if "labels" in paths:
            _write_labels(writer, paths["labels"], label_pages(), item.axes)
        else:
            for _ in label_pages():
                pass
    return WrittenFiles(tuple(paths.values()))


def _write_labels(writer: OutputWriter, path: Path, pages: Iterator[LabeledImage], axes: StackAxes) -> None:
    """Write a TIFF of the labels of all pages, which appears when it is complete."""
    first = next(pages)
    masks = (page.mask for page in itertools.chain([first], pages))
    names, lengths = "".join(name for name, _ in axes), [size for _, size in axes]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = make_temporary_path(path)
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(first.palette)] = first.palette or 0
    options: dict[str, Any] = {"photometric": "minisblack", "extratags": first.geo_tags}
    is_large = first.mask.nbytes * prod(lengths) > _LARGE_BYTES
    try:
        is_plain = not is_large and not first.geo_tags
        if names in _IMAGEJ_AXES and first.mask.dtype.name in _IMAGEJ_TYPES and is_plain:
            metadata = {"axes": f"{names}YX", **({"LUTs": [colors.T]} if first.palette else {})}
            shape = (*lengths, *first.mask.shape)
            tifffile.imwrite(temporary, masks, shape=shape, dtype=first.mask.dtype, imagej=True, metadata=metadata)
        else:
            if first.palette:
                options |= {"photometric": "palette", "colormap": colors.T.astype(np.uint16) * 257}
            with tifffile.TiffWriter(temporary, bigtiff=is_large) as file:
                for mask in masks:
                    file.write(mask, metadata=None, compression="zlib", **options)
        writer.manifest.record(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
