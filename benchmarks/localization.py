"""Measure where a classifier locates the cyclists whose presence it was trained to detect.

    python benchmarks/localization.py            # some minutes; also draws docs/localize.png

A ResNet-18 with random weights learns one bit per small image, cropped from synthetic street scenes: whether there is a
cyclist. Made fully convolutional, it sees whole scenes with other seeds, and the maximum of its map is compared with
the masks of the cyclists, which were not used in training. Once as trained, with a cell every 16 pixels, and once with
the stride of its third stage replaced by dilation: the same weights, the same values at the same positions, and cells
between them, every 8 pixels.
"""

import argparse
import copy
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from machine import write_result
from PIL import Image
from scipy.ndimage import distance_transform_edt, find_objects, label
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, resnet18

from pixelwise.config import OptimizerConfig, ScheduleConfig
from pixelwise.data.io.images import write_png
from pixelwise.data.synthetic import STREET_NAMES, street_scene
from pixelwise.devices import autocast, choose_precision
from pixelwise.networks.weights import Classifier
from pixelwise.prediction.localize import Localizer, draw_heatmaps
from pixelwise.training.optimizers import build_optimizer, compute_lr_factor, set_learning_rate

SIZE = (768, 1024)
"""Size of the scenes: cyclists are then 20 to 120 pixels wide, which the cells of the map can resolve."""

CYCLIST = STREET_NAMES.index("cyclist")
STRIDE, FINE_STRIDE = 16, 8
SIDE = 8 * STRIDE + 1
"""A multiple of the stride plus one, so that the cells of the map are symmetric in the image. With a multiple of the
stride, no cell covers the lower right corner, and its neighbors learn to look there."""

CLEAR = 400
"""Smallest number of cyclist pixels in a positive training image."""

LEARNING_RATE = 0.02

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEST_SEED = 10_000

HERE = Path(__file__).parent
SHOWN = 2
"""Number of scenes in the figure."""

VISIBLE = (1, CLEAR, 1600)
"""Smallest number of cyclist pixels: all scenes, those used for training, those with clearly visible cyclists."""

NEAR = 4
"""Tolerance in pixels, because wheels and frame have gaps."""

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs=2, default=(500, 120), help="number of training and test scenes")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3, help="number of classifiers, each with its own initial weights")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "localize.png")
    arguments = parser.parse_args()
    num_train, num_test = arguments.scenes
    train, test = draw_scenes(range(num_train)), draw_scenes(range(TEST_SEED, TEST_SEED + num_test))
    runs = []
    for seed in range(arguments.seeds):
        start = time.monotonic()
        network = train_classifier(train, steps=arguments.steps, seed=seed)
        run: dict[str, Any] = {"seed": seed, "training_seconds": round(time.monotonic() - start, 1)}
        for stride, seen in ((STRIDE, network), (FINE_STRIDE, dilated(network))):
            localizer = Localizer(as_classifier(seen), device=torch.device("cpu"))
            run[f"stride {stride}"] = summary(find_cyclists(localizer, test))
            print(run, flush=True)
        if seed == 0:
            write_png(arguments.picture, draw_examples(localizer, test))
        runs.append(run)
    values = {"steps": arguments.steps, "scenes": list(arguments.scenes), "side": SIDE, "runs": runs}
    write_result(HERE / "results" / "localization-cpu.json", values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    images: Sequence[Pixels]
    masks: Sequence[Mask]
    """Return the mask of the cyclists."""


def draw_scenes(seeds: range) -> Scenes:
    pairs = [street_scene(seed, SIZE) for seed in seeds]
    return Scenes(images=[image for image, _ in pairs], masks=[labels == CYCLIST for _, labels in pairs])


def train_classifier(scenes: Scenes, *, steps: int, batch_size: int = 32, seed: int = 0) -> ResNet:
    """Train a ResNet-18 without its last stride (total stride 16) to detect cyclists."""
    torch.manual_seed(seed)
    network = resnet18(num_classes=2)
    without_stride(network.layer4)
    device = torch.device("cpu")
    precision = choose_precision("auto", device)
    optimizer = build_optimizer(network, OptimizerConfig(name="muon", lr=LEARNING_RATE), precision)
    network = network.to(memory_format=torch.channels_last)
    for step, (images, labels) in zip(range(steps), _batches(scenes, batch_size, seed), strict=False):
        set_learning_rate(optimizer, LEARNING_RATE * compute_lr_factor(step / steps, ScheduleConfig()))
        with autocast(device, precision):
            logits = network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return network.to(memory_format=torch.contiguous_format).eval()


def without_stride(stage: nn.Sequential) -> None:
    """Return a stage of a ResNet-18 that keeps the size of its input."""
    for name in ("0.conv1", "0.downsample.0"):
        convolution = stage.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)


def dilated(network: ResNet) -> ResNet:
    """Return the same function at more positions, with dilation instead of the stride of the third stage."""
    network = copy.deepcopy(network)
    without_stride(network.layer3)
    for stage in (network.layer3, network.layer4):
        for convolution in stage.modules():
            # The first block receives the map whose stride was removed.
            if getattr(convolution, "kernel_size", None) == (3, 3) and convolution is not network.layer3[0].conv1:
                convolution.dilation = convolution.padding = (2, 2)
    return network


def as_classifier(network: nn.Module) -> Classifier:
    return Classifier(
        network=network,
        classes=("no cyclist", "cyclist"),
        input_size=SIDE,
        mean=MEAN,
        std=DEVIATION,
        report=None,
    )


def _batches(scenes: Scenes, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, 3, SIDE, SIDE), flipped at random, and labels; every second image has a cyclist."""
    rng = np.random.default_rng(seed)
    labels = torch.arange(batch_size) % 2
    while True:
        pictures = [_with_cyclist(scenes, rng)[0] if label else _without(scenes, rng) for label in labels.tolist()]
        mirrored = [picture[:, :: rng.choice((-1, 1))] for picture in pictures]
        images = torch.tensor(np.stack(mirrored)).permute(0, 3, 1, 2) / 255
        normalized = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
        yield normalized.contiguous(memory_format=torch.channels_last), labels


Corner = tuple[int, int]
Scalar = TypeVar("Scalar", bound=np.generic)


def _with_cyclist(scenes: Scenes, rng: np.random.Generator) -> tuple[Pixels, Corner]:
    """Return a crop that contains a random pixel of a cyclist at a random position."""
    while True:
        index = int(rng.integers(len(scenes.images)))
        places = np.argwhere(scenes.masks[index])
        if len(places) < CLEAR:
            continue
        corner = places[rng.integers(len(places))] - rng.integers(SIDE, size=2)
        top, left = np.clip(corner, 0, np.subtract(SIZE, SIDE)).tolist()
        if _cut(scenes.masks[index], (top, left)).sum() >= CLEAR:
            return _cut(scenes.images[index], (top, left)), (top, left)


def _without(scenes: Scenes, rng: np.random.Generator) -> Pixels:
    """Return a crop without cyclists, at a position where other scenes have one, or at random."""
    while True:
        index = int(rng.integers(len(scenes.images)))
        anywhere = rng.integers(np.subtract(SIZE, SIDE) + 1)
        top, left = _with_cyclist(scenes, rng)[1] if rng.random() < 0.5 else anywhere.tolist()
        if not _cut(scenes.masks[index], (top, left)).any():
            return _cut(scenes.images[index], (top, left))


def _cut(values: npt.NDArray[Scalar], corner: Corner) -> npt.NDArray[Scalar]:
    top, left = corner
    return values[top : top + SIDE, left : left + SIDE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The position of the maximum of the map in a scene with cyclists."""

    pixels: int
    """Number of pixels of all cyclists."""
    distance: float
    """Distance in pixels to the nearest cyclist mask; 0 on it."""
    in_box: bool
    """True inside the bounding box of a cyclist, the usual criterion of localization."""


def find_cyclists(localizer: Localizer, scenes: Scenes) -> list[Found]:
    found = []
    for image, mask in zip(scenes.images, scenes.masks, strict=True):
        if mask.any():
            _, (heat,) = localizer.compute_heatmaps(image, 1)
            row, column = heat.peak
            boxes = find_objects(label(mask, structure=np.ones((3, 3)))[0])
            inside = any(r.start <= row < r.stop and c.start <= column < c.stop for r, c in boxes)
            distance = float(distance_transform_edt(~mask)[row, column])
            found.append(Found(pixels=int(mask.sum()), distance=distance, in_box=inside))
    return found


def summary(found: Sequence[Found]) -> dict[str, dict[str, float]]:
    """Return for each size in `VISIBLE` the number of scenes and the shares with the maximum on, near or in the box of
    a cyclist."""
    rows = {}
    for visible in VISIBLE:
        seen = [one for one in found if one.pixels >= visible]
        rows[f">={visible} px"] = {
            "count": len(seen),
            "on_cyclist": round(sum(one.distance == 0 for one in seen) / len(seen), 3),
            f"within_{NEAR}_px": round(sum(one.distance <= NEAR for one in seen) / len(seen), 3),
            "in_box": round(sum(one.in_box for one in seen) / len(seen), 3),
        }
    return rows


def draw_examples(localizer: Localizer, scenes: Scenes) -> Pixels:
    """Draw the first scenes with clearly visible cyclists, regardless of the result."""
    clear = [i for i, mask in enumerate(scenes.masks) if mask.sum() >= VISIBLE[-1]][:SHOWN]
    pictures = [draw_heatmaps(*localizer.compute_heatmaps(scenes.images[index], 1)) for index in clear]
    return np.concatenate([np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures])


if __name__ == "__main__":
    main()
