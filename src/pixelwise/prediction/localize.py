"""`pixelwise localize`: where in each image a classifier sees its classes.

A classifier turned fully convolutional gives a map of logits for each class, one for every place
that its window can take: high where the image speaks for the class. Zhou et al., "Learning Deep
Features for Discriminative Localization", CVPR 2016.
"""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.data.io.images import Array
from pixelwise.data.visualization import to_display_image
from pixelwise.devices import choose_device
from pixelwise.errors import InvalidArgumentError, ModelFileError, PixelwiseError, unknown_name
from pixelwise.files import write_atomically
from pixelwise.networks.convolutionalize import convolutionalize
from pixelwise.networks.geometry.alignment import Alignment
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import Tracer, copy_to_meta
from pixelwise.networks.weights.io import Classifier, LoadReport, build_classifier
from pixelwise.prediction.inputs import Input, find_inputs
from pixelwise.prediction.outputs.heatmap import Heat, draw_heatmaps
from pixelwise.progress import report_progress
from pixelwise.shapes import Size

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1024
"""Pixels: larger images are scaled down to it."""

NUM_CLASSES_SHOWN = 3
IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One class in one image."""

    name: str
    probability: float
    place: Size
    """Row and column of the map's maximum, in pixels of the image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Localized:
    """One image, and what was seen in it, most probable first."""

    image: Path
    picture: Path
    """The heat maps."""
    sights: tuple[Sight, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizeReport:
    """What a localization job did."""

    images: tuple[Localized, ...]
    failures: tuple[tuple[Path, str], ...]
    """Inputs that could not be done, each with its reason."""


def localize(
    images: Sequence[str | Path],
    output: str | Path,
    *,
    classifier: str,
    weights: str | Path = "imagenet",
    class_name: str | None = None,
    device: str = "auto",
) -> LocalizeReport:
    """Writes STEM_heatmap.png for every image below `output`: where the classifier sees each class.

    Images are seen at their own resolution, up to 1024 pixels at the longer side and no smaller than
    the classifier's native input at the shorter one; beyond they are scaled. Of more than three bands
    the first three are taken, gray is repeated, and 16 bit is stretched to its own range.

    Args:
        images: files, folders (recursively) and globs.
        classifier: a name of torchvision ("resnet50") or timm ("timm:convnext_tiny").
        weights: "imagenet", or a file with all of the classifier's weights. The number of classes is
            that of the file; classes other than ImageNet's 1000 are called "class 0", "class 1", ...
        class_name: name or number of the one class to show; None: the three most probable. The names
            are those of torchvision, whose 1000 differ.

    One bad file never stops the rest: it is listed among the failures. Raises InvalidArgumentError for a
    request that cannot be done at all, and ModelFileError for weights that do not fit, before
    anything is written.
    """
    targets = _plan_outputs(find_inputs(images, Path(output)), Path(output))
    loaded = load_classifier(classifier, weights)
    if loaded.report is not None:
        logger.info(f"weights: {loaded.report.summary()}")
    localizer = Localizer(loaded, device=choose_device(device))
    wanted = None if class_name is None else class_index(localizer.names, class_name)
    done: list[Localized] = []
    failures: list[tuple[Path, str]] = []
    for count, (path, item) in enumerate(targets.items(), start=1):
        try:
            done.append(_localize_one(localizer, item, path, wanted))
        except (PixelwiseError, OSError) as error:
            failures.append((item.path, str(error)))
        report_progress("localize", count, len(targets))
    return LocalizeReport(images=tuple(done), failures=tuple(failures))


def _plan_outputs(images: Sequence[Input], output: Path) -> dict[Path, Input]:
    """The file to write for each image. None may replace another one, or an image."""
    given = {item.path.resolve() for item in images if not item.url}
    targets: dict[Path, Input] = {}
    for item in images:
        path = output / item.stem.with_name(f"{item.stem.name}_heatmap.png")
        if path in targets:
            raise InvalidArgumentError(
                f"{targets[path].path} and {item.path} would both be written to {path}; rename one of them."
            )
        if path.resolve() in given:
            raise InvalidArgumentError(
                f"the heat map of {item.path} would replace the image {path}; choose another folder with -o."
            )
        targets[path] = item
    return targets


def _localize_one(localizer: "Localizer", item: Input, path: Path, wanted: int | None) -> Localized:
    image = item.read()
    picture, heats = localizer.look(image, wanted)
    write_atomically(path, draw_heatmaps(picture, heats))
    scales = [ours / seen for ours, seen in zip(image.shape[:2], picture.shape[:2], strict=True)]
    sights = []
    for heat in heats:
        row, column = (int((at + 0.5) * scale) for at, scale in zip(heat.peak, scales, strict=True))
        sights.append(Sight(name=heat.name, probability=heat.probability, place=(row, column)))
    return Localized(image=item.path, picture=path, sights=tuple(sights))


# The classifier and its classes


def load_classifier(name: str, weights: str | Path) -> Classifier:
    """The classifier with as many classes as its weights have, and all of its layers loaded."""
    source: Literal["imagenet"] | Path = "imagenet" if weights == "imagenet" else Path(weights)
    loaded = build_classifier(name, weights=source, num_classes=IMAGENET_CLASSES)
    num_classes = _num_classes(loaded.report)
    if num_classes != IMAGENET_CLASSES:
        loaded = build_classifier(name, weights=source, num_classes=num_classes)
    report = loaded.report
    # Parts that the file has and the network has not serve training alone: auxiliary classifiers.
    if report and (report.reshaped or any(_matters(tensor) for tensor in report.missing)):
        raise ModelFileError(f"{weights} does not hold all weights of {name!r}: {report.summary()}.")
    return loaded


def _num_classes(report: LoadReport | None) -> int:
    """K of the file's class layer: the one that differs only where the network has 1000 classes."""
    reshaped = report.reshaped.values() if report else ()
    found = {theirs[0] for theirs, ours in reshaped if ours[0] == IMAGENET_CLASSES and theirs[1:] == ours[1:]}
    return found.pop() if len(found) == 1 else IMAGENET_CLASSES


def _matters(tensor: str) -> bool:
    """Counters of batches are missing in old files, and change nothing."""
    return not tensor.endswith("num_batches_tracked")


def class_index(names: Sequence[str], wanted: str) -> int:
    """The index of a class given by its number or name; the case decides only where it has to.

    ImageNet's "Cardigan" is a dog, its "cardigan" a garment.
    """
    if wanted.isdecimal():
        if int(wanted) < len(names):
            return int(wanted)
        raise InvalidArgumentError(f"class {wanted} is not one of the classifier's classes 0 to {len(names) - 1}.")
    for same in (str, str.casefold):
        for index, name in enumerate(names):
            if same(name) == same(wanted):
                return index
    raise unknown_name("class", wanted, difflib.get_close_matches(wanted, names, n=8, cutoff=0.0))


# What it sees


class Localizer:
    """A classifier turned fully convolutional. Raises InvalidArgumentError where it cannot be converted."""

    def __init__(self, classifier: Classifier, *, device: torch.device) -> None:
        network = convolutionalize(classifier.network, input_size=classifier.input_size)
        self.skeleton = copy_to_meta(network)
        self.network = network.to(device)
        self.input_size = classifier.input_size
        self.names = classifier.classes or self._numbered_classes()
        self.mean = torch.tensor(classifier.mean, device=device)[:, None, None]
        self.std = torch.tensor(classifier.std, device=device)[:, None, None]

    def look(self, image: Array, wanted: int | None = None) -> tuple[npt.NDArray[np.uint8], list[Heat]]:
        """The image as the classifier sees it, and its map of the wanted class or of the most probable.

        Probabilities are those of the mean over all positions: at the native input size exactly the
        classifier's own.

        Args:
            image: (H, W, C) uint8, uint16 or float32.

        Returns (h, w, 3) uint8, and maps (h, w), most probable first.
        """
        picture = resized(to_display_image(image), self.input_size)
        size = picture.shape[:2]
        with torch.inference_mode():
            maps: Tensor = self.network(self.normalized(picture))
            probabilities = _probabilities(maps.mean((0, 2, 3)))
            top = probabilities.topk(min(NUM_CLASSES_SHOWN, len(probabilities))).indices.tolist()
            indices = top if wanted is None else [wanted]
            placed = place(maps[0, indices], lines_of(self.skeleton, size), size).cpu().numpy()
        return picture, [
            Heat(name=self.names[index], probability=float(probabilities[index]), logits=logits)
            for index, logits in zip(indices, placed, strict=True)
        ]

    def _numbered_classes(self) -> tuple[str, ...]:
        side = self.input_size
        num_classes = self.skeleton(torch.empty(1, 3, side, side, device="meta")).shape[1]
        return tuple(f"class {index}" for index in range(num_classes))

    def normalized(self, picture: npt.NDArray[np.uint8]) -> Tensor:
        """(h, w, 3) uint8 → (1, 3, h, w) float32 as the classifier expects it."""
        images = torch.tensor(picture, device=self.mean.device).permute(2, 0, 1)[None] / 255
        return (images - self.mean) / self.std


def _probabilities(logits: Tensor) -> Tensor:
    """Of K classes; of the one class of a yes-or-no classifier, its own."""
    return logits.softmax(0) if len(logits) > 1 else logits.sigmoid()


def resized(picture: npt.NDArray[np.uint8], input_size: int) -> npt.NDArray[np.uint8]:
    """The picture at a size of `working_size`: averaged down, or interpolated up."""
    size = (picture.shape[0], picture.shape[1])
    height, width = working_size(size, input_size)
    if (height, width) == size:
        return picture
    way = cv2.INTER_AREA if height < size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)


def working_size(size: Size, input_size: int) -> Size:
    """The size at which an image is seen.

    Only where a side is more than 1024 / `input_size` times the other do the sides' scales differ.

    >>> working_size((480, 640), 224), working_size((3000, 4000), 224), working_size((96, 128), 224)
    ((480, 640), (768, 1024), (224, 299))
    """
    scale = min(max(1, input_size / min(size)), LONGEST_SIDE / max(size))
    height, width = (max(input_size, round(side * scale)) for side in size)
    return height, width


# Where the cells of a map lie on the image


def lines_of(skeleton: nn.Module, size: Size) -> tuple[Alignment, Alignment] | None:
    """The lines of rows and columns that cells lie on, for an image of `size`; None where geometry
    cannot tell.

    A cell lies over the middle of all pixels it depends on. That is exact where stretching the map
    over the image is not: the cells of a ResNet lie over pixels 0, 32, 64, ..., those of VGG16, whose
    fc6 sees 7x7 of them, over 111.5, 143.5, ...
    """
    with torch.inference_mode():
        images = torch.empty(1, 3, *size, device="meta")
        tracer = Tracer(images)
        try:
            with tracer:
                found = tracer.get_map(skeleton(images))
        except InvalidArgumentError:
            return None
    if found is None or any(len(axis.intervals) > 1 for axis in found.fields):
        return None
    rows, columns = (_line(axis) for axis in found.fields)
    return rows, columns


def _line(axis: ReceptiveField) -> Alignment:
    (interval,) = axis.intervals
    return Alignment(Fraction(1, axis.stride), Fraction(-sum(interval), 2 * axis.stride))


def place(maps: Tensor, lines: tuple[Alignment, Alignment] | None, size: Size) -> Tensor:
    """Maps (N, h, w) → (N, H, W) by bilinear interpolation between the cells where they lie.

    Beyond the outermost cells their values go on. Without lines the map covers the image evenly.
    """
    cells = maps.shape[1:]
    if lines is None:
        return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    rows, columns = (
        (torch.arange(side, device=maps.device) * float(line.scale) + float(line.offset) + 0.5) * 2 / count - 1
        for side, line, count in zip(size, lines, cells, strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return functional.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]
