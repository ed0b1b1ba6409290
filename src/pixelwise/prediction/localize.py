"""Write heat maps that show where in an image a classifier sees its classes.

A fully convolutional classifier gives a map of logits for each class, one for every position of its input window.
Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
"""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.data.io.images import Array
from pixelwise.data.visualization import to_display_image
from pixelwise.errors import (
    InvalidArgumentError,
    ModelFileError,
    PixelwiseError,
    describe_failure,
    find_name,
)
from pixelwise.networks.convolutionalize import convolutionalize
from pixelwise.networks.geometry.alignment import Alignment
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import Tracer, copy_to_meta
from pixelwise.networks.weights import Classifier, LoadReport, build_classifier
from pixelwise.output_files import write_marked
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.result import LocalizedClass, LocalizedImage, LocalizeReport
from pixelwise.progress import format_percent, report_progress
from pixelwise.shapes import Size

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1024
"""Pixels; larger images are scaled down."""

NUM_CLASSES_SHOWN = 3
IMAGENET_CLASSES = 1000

COLORS = colormaps["inferno"]
"""Its lightness grows, so the order of the colors is also visible to color-blind readers."""
OPACITY = (0.2, 0.6)
"""Opacity of the colors at the lowest and at the highest logit."""
PANEL_INCHES = 4.0
"""Longest side of a panel: 600 pixels at 150 dpi."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """The activation map of one class in an image."""

    name: str
    probability: float
    """Probability of the class for the whole image."""
    logits: npt.NDArray[np.float32]
    """(H, W), high where the image shows the class."""

    @property
    def peak(self) -> tuple[int, int]:
        """Return row and column of the largest logit."""
        row, column = np.unravel_index(int(self.logits.argmax()), self.logits.shape)
        return int(row), int(column)


def plan_heatmaps(images: Sequence[Input], output: Path) -> tuple[dict[Path, Input], list[tuple[Path, str]]]:
    """Return STEM_heatmap.png → its image, and the images whose files would have the same name, with this reason.

    Raises:
        InvalidArgumentError: a file would replace an image.
    """
    given = {item.path.resolve() for item in images if not item.url}
    owners: dict[Path, list[Input]] = {}
    for item in images:
        path = output / item.stem.with_name(f"{item.stem.name}_heatmap.png")
        if path.resolve() in given:
            raise InvalidArgumentError(
                f"The heat map of {item.path} would replace the image {path}. Choose another folder with -o."
            )
        owners.setdefault(path, []).append(item)
    failures = []
    for path, items in owners.items():
        for item, other in zip(items, [*items[1:], items[0]], strict=True) if len(items) > 1 else ():
            reason = f"{item.name} is skipped, because {other.name} would also be written to {path}. Rename one."
            failures.append((item.path, reason))
    return {path: items[0] for path, items in owners.items() if len(items) == 1}, failures


def localize_images(
    localizer: "Localizer",
    targets: Mapping[Path, Input],
    index: int | None,
    request: Mapping[str, str | None],
    failures: Iterable[tuple[Path, str]] = (),
) -> LocalizeReport:
    """Write a heat map for every image, with the map of each class over the image.

    Images keep their resolution if the longer side is at most 1024 pixels and the shorter one at least the input size
    of the classifier; others are scaled. Of more than three bands the first three are used, gray is repeated, and 16
    bit is stretched to its own range. An image that fails is listed in the report; the others continue.

    Args:
        targets: file to write → its image, see `plan_heatmaps`.
        index: the only class to show; None: the three most probable ones.
        request: the options, which are stored in the files.
        failures: images that are skipped, with the reason.
    """
    localized: list[LocalizedImage] = []
    failures = list(failures)
    for count, (path, item) in enumerate(targets.items(), start=1):
        try:
            image, content = _localize_image(localizer, item, path, index)
            write_marked(path, content, "localize", request)
            localized.append(image)
        except (PixelwiseError, OSError) as error:
            failures.append((item.path, describe_failure(error)))
        report_progress("localize", count, len(targets))
    return LocalizeReport(images=tuple(localized), failures=tuple(failures))


def _localize_image(localizer: "Localizer", item: Input, path: Path, index: int | None) -> tuple[LocalizedImage, bytes]:
    image = item.read()[0]
    picture, heatmaps = localizer.compute_heatmaps(image, index)
    scales = [original / scaled for original, scaled in zip(image.shape[:2], picture.shape[:2], strict=True)]
    classes = []
    for heatmap in heatmaps:
        row, column = (int((side + 0.5) * scale) for side, scale in zip(heatmap.peak, scales, strict=True))
        classes.append(LocalizedClass(name=heatmap.name, probability=heatmap.probability, peak=(row, column)))
    described = LocalizedImage(image=item.path, heatmap=path, classes=tuple(classes))
    return described, draw_heatmaps(picture, heatmaps)


def load_classifier(name: str, weights: str | Path) -> Classifier:
    """Load a classifier with as many classes as its weights have. Raises ModelFileError if a layer has no weights.

    Classes other than the 1000 of ImageNet are named "class 0", "class 1", ...
    """
    source: Literal["imagenet"] | Path = "imagenet" if weights == "imagenet" else Path(weights)
    loaded = build_classifier(name, weights=source, num_classes=IMAGENET_CLASSES)
    num_classes = _find_num_classes(loaded.report)
    if num_classes != IMAGENET_CLASSES:
        loaded = build_classifier(name, weights=source, num_classes=num_classes)
    report = loaded.report
    # The file may have more tensors than the network: auxiliary classifiers are only for training.
    if report and (report.reshaped or any(not tensor.endswith("num_batches_tracked") for tensor in report.missing)):
        raise ModelFileError(f"{weights} does not contain all weights of {name!r}: {report.summary()}.")
    if report:
        logger.info(f"weights: {report.summary()}")
    return loaded


def _find_num_classes(report: LoadReport | None) -> int:
    """Return the number of classes of a file: only its class layer differs from a network with 1000 classes."""
    reshaped = report.reshaped.values() if report else ()
    found = {theirs[0] for theirs, ours in reshaped if ours[0] == IMAGENET_CLASSES and theirs[1:] == ours[1:]}
    return found.pop() if len(found) == 1 else IMAGENET_CLASSES


def find_class(names: Sequence[str], wanted: str) -> int:
    """Return the index of a class, given by its number or name.

    Names that differ only in case must be exact: "Cardigan" of ImageNet is a dog, "cardigan" a garment.
    """
    if wanted.isdecimal():
        if int(wanted) < len(names):
            return int(wanted)
        raise InvalidArgumentError(f"Class {wanted} does not exist. The classifier has classes 0 to {len(names) - 1}.")
    return names.index(find_name("class", wanted, names))


class Localizer:
    """A fully convolutional classifier. Raises InvalidArgumentError if the classifier cannot be converted."""

    def __init__(self, classifier: Classifier, *, device: torch.device) -> None:
        network = convolutionalize(classifier.network, input_size=classifier.input_size)
        self.skeleton = copy_to_meta(network)
        self.network = network.to(device)
        self.input_size = classifier.input_size
        self.names = classifier.classes or self._number_classes()
        self.mean = torch.tensor(classifier.mean, device=device)[:, None, None]
        self.std = torch.tensor(classifier.std, device=device)[:, None, None]

    def compute_heatmaps(self, image: Array, index: int | None = None) -> tuple[npt.NDArray[np.uint8], list[Heatmap]]:
        """Compute the maps of one class or of the most probable ones.

        Probabilities are those of the mean over all positions: at the input size of the classifier, exactly those of
        the classifier.

        Args:
            image: (H, W, C) uint8, uint16 or float32.
            index: the class; None: the most probable ones.

        Returns:
            The scaled image (h, w, 3) uint8, and maps (h, w), most probable first.
        """
        picture = resize_image(to_display_image(image), self.input_size)
        size = picture.shape[:2]
        with torch.inference_mode():
            images = torch.tensor(picture, device=self.mean.device).permute(2, 0, 1)[None] / 255
            maps: Tensor = self.network((images - self.mean) / self.std)
            logits = maps.mean((0, 2, 3))
            probabilities = logits.softmax(0) if len(logits) > 1 else logits.sigmoid()  # one class: binary
            top = probabilities.topk(min(NUM_CLASSES_SHOWN, len(probabilities))).indices.tolist()
            indices = top if index is None else [index]
            aligned = align_maps(maps[0, indices], find_alignment(self.skeleton, size), size).cpu().numpy()
        return picture, [
            Heatmap(name=self.names[index], probability=float(probabilities[index]), logits=map_)
            for index, map_ in zip(indices, aligned, strict=True)
        ]

    def _number_classes(self) -> tuple[str, ...]:
        side = self.input_size
        num_classes = self.skeleton(torch.empty(1, 3, side, side, device="meta")).shape[1]
        return tuple(f"class {index}" for index in range(num_classes))


def resize_image(picture: npt.NDArray[np.uint8], input_size: int) -> npt.NDArray[np.uint8]:
    """Resize a picture to `compute_working_size`, by averaging or bilinear interpolation."""
    size = (picture.shape[0], picture.shape[1])
    height, width = compute_working_size(size, input_size)
    if (height, width) == size:
        return picture
    interpolation = cv2.INTER_AREA if height < size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), np.uint8)


def compute_working_size(size: Size, input_size: int) -> Size:
    """Return the size to which an image is scaled.

    The aspect ratio only changes if one side is more than 1024 / `input_size` times the other.

    >>> [compute_working_size(size, 224) for size in ((480, 640), (3000, 4000), (96, 128))]
    [(480, 640), (768, 1024), (224, 299)]
    """
    scale = min(max(1, input_size / min(size)), LONGEST_SIDE / max(size))
    height, width = (max(input_size, round(side * scale)) for side in size)
    return height, width


def find_alignment(skeleton: nn.Module, size: Size) -> tuple[Alignment, Alignment] | None:
    """Return the alignment of rows and columns of a map with an image of `size`; None if it is not known.

    A cell is at the center of all pixels that it depends on. Stretching the map over the image would be inexact: the
    cells of a ResNet are at pixels 0, 32, 64, ..., those of VGG16, whose fc6 covers 7x7 cells, at 111.5, 143.5, ...
    """
    with torch.inference_mode():
        images = torch.empty(1, 3, *size, device="meta")
        tracer = Tracer(images)
        try:
            with tracer:
                traced = tracer.get_map(skeleton(images))
        except InvalidArgumentError:
            return None
    if traced is None or any(len(axis.intervals) > 1 for axis in traced.fields):
        return None
    rows, columns = (_align(axis) for axis in traced.fields)
    return rows, columns


def _align(axis: ReceptiveField) -> Alignment:
    (interval,) = axis.intervals
    return Alignment(Fraction(1, axis.stride), Fraction(-sum(interval), 2 * axis.stride))


def align_maps(maps: Tensor, alignments: tuple[Alignment, Alignment] | None, size: Size) -> Tensor:
    """Interpolate maps (N, h, w) to (N, H, W) bilinearly between the positions of their cells.

    Values are constant beyond the outermost cells. Without alignments, the map covers the image evenly.
    """
    cells = maps.shape[1:]
    if alignments is None:
        return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    rows, columns = (
        (torch.arange(side, device=maps.device) * float(line.scale) + float(line.offset) + 0.5) * 2 / count - 1
        for side, line, count in zip(size, alignments, cells, strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return functional.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]


def draw_heatmaps(picture: npt.NDArray[np.uint8], heatmaps: Sequence[Heatmap]) -> bytes:
    """Draw a picture (H, W, 3) and one panel per class, with its map over the picture in gray.

    All panels share one color bar in logits, so that classes can be compared. A ring marks the maximum of each map.
    The same arguments give identical bytes.

    Returns:
        The content of a PNG file.
    """
    aspect = picture.shape[1] / picture.shape[0]
    rows, columns = _choose_grid(1 + len(heatmaps), aspect)
    # wide enough for the title of a panel
    width, height = max(PANEL_INCHES * min(1, aspect), 1.8), max(PANEL_INCHES / max(1, aspect), 0.6)
    figure = Figure((columns * width + 1.0, rows * (height + 0.35)), dpi=150, layout="constrained")
    axes: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in axes:
        panel.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("image", fontsize=11)
    low = min(float(heatmap.logits.min()) for heatmap in heatmaps)
    high = max(float(heatmap.logits.max()) for heatmap in heatmaps)
    scale = Normalize(low, high if high > low else low + 1)  # without a range, the color bar would have no numbers
    for panel, heatmap in zip(axes[1:], heatmaps, strict=False):
        panel.imshow(blend_heatmap(picture, heatmap.logits, scale))
        panel.plot(*heatmap.peak[::-1], "o", markersize=11, markerfacecolor="none", markeredgecolor="black")
        panel.set_title(f"{heatmap.name}  {format_percent(heatmap.probability)}", fontsize=11, parse_math=False)
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=axes, shrink=0.9, aspect=30, pad=0.02)
    bar.set_label("logit")
    buffer = io.BytesIO()
    # The version of the software would make equal pictures differ.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def blend_heatmap(
    picture: npt.NDArray[np.uint8], logits: npt.NDArray[np.float32], scale: Normalize
) -> npt.NDArray[np.uint8]:
    """Blend the colors of the logits with the picture in gray, so that every color is a logit."""
    gray = picture.mean(axis=2, keepdims=True)
    heat = np.asarray(scale(logits))
    opacity = (OPACITY[0] + (OPACITY[1] - OPACITY[0]) * heat)[..., None]
    colors = COLORS(heat)[..., :3] * 255
    blended: npt.NDArray[np.uint8] = np.rint(gray * (1 - opacity) + colors * opacity).astype(np.uint8)
    return blended


def _choose_grid(panels: int, aspect: float) -> tuple[int, int]:
    """Return rows and columns: tall pictures in one row, very wide ones in one column."""
    columns = panels if aspect < 0.8 else 1 if aspect > 2.5 else min(panels, 2)
    return -(-panels // columns), columns
