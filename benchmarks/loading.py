"""Compare augmented samples per second on one core with torchvision v2 and albumentations, on CamVid.

    python -m pip install albumentations==2.0.8
    export NO_ALBUMENTATIONS_UPDATE=1
    python benchmarks/loading.py [--data ../shared/data/camvid] [--name loading-cpu] [--rounds 15] [--device cpu]

Each library makes batches of 8 images with masks, as uint8 tensors: random scale 0.7 to 1.5, rotation by up to 5
degrees, random position, crop, horizontal flip, and brightness, contrast and saturation by 30 %. Rows: whole images of
360x480 and crops of 256x256, already decoded or decoded from JPEG and PNG each time. Each library uses the fewest
passes it offers: one affine warp, crop, flip, color. One thread, interleaved, medians.

A second table has our batches as they arrive on the device, made ahead by several threads. With `--device cuda` they
are in pinned memory and copied while the next ones are made.

Only this benchmark needs albumentations; the variable disables its version check over the network. With `pip install
--no-deps --target FOLDER` and FOLDER on PYTHONPATH it is not installed into the environment (it needs
albucore==0.0.24, stringzilla, simsimd and pydantic).
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from machine import write_result
from timing import interleaved
from torch import Tensor
from torchvision import io, tv_tensors
from torchvision.transforms import v2

from pixelwise.config import AugmentationConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.loader import Batches, SampleCache, prefetch
from pixelwise.data.sample import Sample
from pixelwise.devices import keep_freed_memory

REPOSITORY = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BATCH = 8
NUM_IMAGES = 64
CROPS = [(360, 480), (256, 256)]
SCALE, ANGLE, COLOR = (0.7, 1.5), 5.0, 0.3
Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Make = Callable[[], tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "camvid")
    parser.add_argument("--name", default="loading-cpu", help="name of the JSON file in results/")
    parser.add_argument("--rounds", type=int, default=15, help="batches of each contender")
    parser.add_argument("--device", default="cpu", help="device of the second table: cpu or cuda")
    arguments = parser.parse_args()
    keep_freed_memory()  # as in training, for all contenders
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    dataset, samples = open_some(arguments.data)
    rows = [
        compare(dataset, samples, crop, decoded, arguments.rounds)
        for crop, decoded in itertools.product(CROPS, (True, False))
    ]
    arrivals = [arrive(dataset, samples, torch.device(arguments.device), threads) for threads in thread_counts()]
    result = {"unit": "samples a second", "batch": BATCH, "rounds": arguments.rounds, "one_thread": rows}
    result["albumentations"] = albumentations.__version__
    write_result(RESULTS / f"{arguments.name}.json", {**result, "device": arguments.device, "arriving": arrivals})


def open_some(root: Path) -> tuple[Dataset, list[Sample]]:
    dataset = Dataset.load(root)
    if dataset.declared_classes is None:
        raise SystemExit(f"{root} names no classes; give CamVid with its dataset.yaml.")
    dataset = dataset.with_classes(dataset.classes, 3)
    return dataset, [sample for sample in dataset.samples if sample.split == "train"][:NUM_IMAGES]


def compare(
    dataset: Dataset, samples: list[Sample], crop: tuple[int, int], decoded: bool, rounds: int
) -> dict[str, Any]:
    """Return the samples per second of each library, measured in turn."""
    sides = {
        "ours": ours(dataset, samples, crop, decoded),
        "torchvision": with_torchvision(dataset, samples, crop, decoded),
        "albumentations": with_albumentations(dataset, samples, crop, decoded),
    }
    for name, make in sides.items():
        images, labels = make()
        assert (images.shape, images.dtype) == ((BATCH, 3, *crop), torch.uint8), name
        assert (labels.shape, labels.dtype) == ((BATCH, *crop), torch.uint8), name
    spreads = interleaved(sides, rounds=rounds, device=torch.device("cpu"))
    rates = {name: round(1000 * BATCH / spread["median"], 1) for name, spread in spreads.items()}
    ratio = rates["ours"] / max(rates["torchvision"], rates["albumentations"])
    label = f"{crop[0]}x{crop[1]}, {'already decoded' if decoded else 'decoded each time'}"
    print(f"{label:32}" + "".join(f"{name} {rate:8.1f}   " for name, rate in rates.items()) + f"ratio {ratio:.2f}")
    return {"crop": crop, "decoded": decoded, **rates, "ours_over_better": round(ratio, 2), "milliseconds": spreads}


def ours(dataset: Dataset, samples: list[Sample], crop: tuple[int, int], decoded: bool) -> Make:
    batches = our_batches(dataset, samples, crop, decoded)
    steps = itertools.count()

    def make() -> tuple[Tensor, Tensor]:
        batch = batches.make(next(steps))
        return batch.images, batch.labels

    return make


def our_batches(
    dataset: Dataset, samples: list[Sample], crop: tuple[int, int], decoded: bool, pinned: bool = False
) -> Batches:
    cache = SampleCache(dataset, 1e10 if decoded else 0)
    if decoded:
        for sample in samples:
            cache[sample]
    augmentation = AugmentationConfig(flip_horizontal=0.5, scale=SCALE, rotate=ANGLE, color=COLOR)
    return Batches(
        cache=cache,
        samples=samples,
        augmentation=augmentation,
        crop_size=crop,
        batch_size=BATCH,
        seed=0,
        pin_memory=pinned,
    )


def with_torchvision(dataset: Dataset, samples: list[Sample], crop: tuple[int, int], decoded: bool) -> Make:
    torch.manual_seed(0)
    move = v2.RandomAffine(ANGLE, translate=(0.2, 0.2), scale=SCALE, interpolation=v2.InterpolationMode.BILINEAR)
    color = v2.ColorJitter(COLOR, COLOR, COLOR)
    transform = v2.Compose([move, v2.RandomCrop(crop), v2.RandomHorizontalFlip(), color])

    def as_tensors(pair: Pair) -> tuple[Tensor, Tensor]:
        return torch.tensor(pair[0]).permute(2, 0, 1).contiguous(), torch.tensor(pair[1])

    def decode(sample: Sample) -> tuple[Tensor, Tensor]:
        return io.decode_image(str(sample.image_path)), io.decode_image(str(sample.mask_path))[0]

    kept = {sample: as_tensors(dataset.read(sample)) for sample in samples} if decoded else {}
    upcoming = itertools.cycle(samples)

    def make() -> tuple[Tensor, Tensor]:
        pairs = []
        for sample in itertools.islice(upcoming, BATCH):
            image, labels = kept[sample] if decoded else decode(sample)
            pairs.append(transform(tv_tensors.Image(image), tv_tensors.Mask(labels)))
        return torch.stack([image for image, _ in pairs]), torch.stack([labels for _, labels in pairs])

    return make


def with_albumentations(dataset: Dataset, samples: list[Sample], crop: tuple[int, int], decoded: bool) -> Make:
    around = (1 - COLOR, 1 + COLOR)
    transform = albumentations.Compose(
        [
            albumentations.Affine(
                scale=SCALE,
                rotate=(-ANGLE, ANGLE),
                translate_percent=(-0.2, 0.2),
                border_mode=cv2.BORDER_REFLECT,
                p=1,
            ),
            albumentations.RandomCrop(*crop),
            albumentations.HorizontalFlip(),
            albumentations.ColorJitter(around, around, around, (0, 0), p=1),
        ],
        seed=0,
    )

    def decode(sample: Sample) -> Pair:
        image = cv2.imread(str(sample.image_path), cv2.IMREAD_COLOR_RGB)
        labels = cv2.imread(str(sample.mask_path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert labels is not None
        return image, labels

    kept = {sample: dataset.read(sample) for sample in samples} if decoded else {}
    upcoming = itertools.cycle(samples)

    def make() -> tuple[Tensor, Tensor]:
        pairs = []
        for sample in itertools.islice(upcoming, BATCH):
            image, labels = kept[sample] if decoded else decode(sample)
            pairs.append(transform(image=image, mask=labels))
        images = torch.from_numpy(np.stack([pair["image"] for pair in pairs])).permute(0, 3, 1, 2)
        return images, torch.from_numpy(np.stack([pair["mask"] for pair in pairs]))

    return make


def thread_counts() -> Iterator[int]:
    """Return 1, 2, 4, ... up to the number of cores."""
    cores = len(os.sched_getaffinity(0))
    yield from itertools.takewhile(lambda count: count <= cores, (2**i for i in itertools.count()))


def arrive(dataset: Dataset, samples: list[Sample], device: torch.device, threads: int) -> dict[str, Any]:
    """Return the samples per second that arrive on the device, 360x480, decoded, made ahead by threads."""
    batches = our_batches(dataset, samples, CROPS[0], True, pinned=device.type == "cuda")
    count = 40 * threads
    start = time.perf_counter()
    for step, batch in prefetch(batches.make, iter(range(count + 8)), num_ahead=threads + 1, num_threads=threads):
        batch.to(device)
        if step == 7:
            start = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize()
    rate = round(BATCH * count / (time.perf_counter() - start), 1)
    print(f"{threads} thread(s): {rate:.1f} samples a second arrive on {device}")
    return {"threads": threads, "rate": rate}


if __name__ == "__main__":
    main()
