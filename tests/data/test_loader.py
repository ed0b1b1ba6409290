import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch

from pixelwise.config import AugmentationConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.loader import Batch, Batches, SampleCache, prefetch
from pixelwise.data.rare_classes import make_rare_class_sampler
from pixelwise.data.sample import Sample
from pixelwise.data.scan import count_class_pixels, scan_dataset
from pixelwise.errors import DataError

NOTHING = AugmentationConfig(flip_horizontal=0, flip_vertical=0, scale=(1, 1), rotate=0, color=0)
PAIRS = 7
SIZE = (24, 40)


def write_pairs(root: Path, dtype: type = np.uint8) -> Dataset:
    """Write gray pairs; all pixels and labels of pair i are i."""
    for i in range(PAIRS):
        write_png(root / f"images/{i}.png", np.full(SIZE, i, dtype))
        write_png(root / f"masks/{i}.png", np.full(SIZE, i, np.uint8))
    dataset = Dataset.load(root)
    return scan_dataset(dataset)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_pairs(tmp_path_factory.mktemp("plain"))


@pytest.fixture(autouse=True)
def _opencv_threads() -> Iterator[None]:
    """Restore the number of OpenCV threads, which prefetching changes for the process."""
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def make_batches(dataset: Dataset, cache_bytes: float = 0) -> Batches:
    return Batches(
        cache=SampleCache(dataset, cache_bytes),
        samples=dataset.samples,
        augmentation=AugmentationConfig(),
        crop_size=(16, 32),
        batch_size=3,
        seed=5,
    )


def is_same(a: Batch, b: Batch) -> bool:
    if a.pixel_weights is None or b.pixel_weights is None:
        alike = a.pixel_weights is b.pixel_weights
    else:
        alike = torch.equal(a.pixel_weights, b.pixel_weights)
    return alike and torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def halves(labels: Array) -> Array:
    return labels.astype(np.float32) / 2


# Batches.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_batch_holds_raw_images_and_labels(tmp_path: Path, dtype: type) -> None:
    batch = make_batches(write_pairs(tmp_path, dtype)).make(0)
    assert batch.images.shape == (3, 1, 16, 32)
    assert batch.images.dtype == (torch.uint8 if dtype == np.uint8 else torch.uint16)
    assert batch.labels.shape == (3, 16, 32)
    assert batch.labels.dtype == torch.uint8


def test_color_images_are_channels_last(streets: Path) -> None:
    images = make_batches(Dataset.load(streets)).make(0).images
    assert images.shape == (3, 3, 16, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_each_image_has_its_own_labels(dataset: Dataset) -> None:
    batch = replace(make_batches(dataset), augmentation=NOTHING).make(0)
    assert torch.equal(batch.images[:, 0], batch.labels)


def test_a_batch_is_a_function_of_seed_and_step(streets: Path) -> None:
    batches, again = (make_batches(Dataset.load(streets)) for _ in range(2))
    forward = [batches.make(step) for step in range(6)]
    backward = [again.make(step) for step in reversed(range(6))][::-1]
    assert all(is_same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not any(is_same(forward[i], forward[j]) for i in range(6) for j in range(i))
    assert not is_same(replace(batches, seed=6).make(0), forward[0])


def test_pixel_weights_are_computed_from_augmented_labels(streets: Path) -> None:
    batches = make_batches(Dataset.load(streets))
    assert batches.make(0).pixel_weights is None
    for resolution in (1.0, 0.5):
        batch = replace(batches, compute_pixel_weights=halves).make(0, resolution)
        assert batch.pixel_weights is not None
        assert batch.pixel_weights.dtype == torch.float32
        assert torch.equal(batch.pixel_weights, batch.labels / 2)
        assert torch.equal(batch.labels, batches.make(0, resolution).labels)


def test_a_deformed_batch_is_a_function_of_seed_and_step(streets: Path) -> None:
    elastic = replace(AugmentationConfig(), elastic=4.0)
    batches, again = (
        replace(make_batches(Dataset.load(streets)), augmentation=elastic, compute_pixel_weights=halves)
        for _ in range(2)
    )
    assert is_same(batches.make(3), again.make(3))
    assert not torch.equal(batches.make(3).labels, replace(batches, augmentation=AugmentationConfig()).make(3).labels)


def test_a_sample_is_augmented_differently_in_each_epoch(streets: Path) -> None:
    batches = make_batches(Dataset.load(streets))
    batch = replace(batches, samples=batches.samples[:1]).make(0)
    shown = {image.numpy().tobytes() for image in batch.images}
    assert len(shown) == 3


def test_a_batch_does_not_depend_on_the_cache(streets: Path) -> None:
    dataset = Dataset.load(streets)
    kept, unkept = make_batches(dataset, 1e9), make_batches(dataset, 0)
    assert all(is_same(kept.make(step), unkept.make(step)) for step in [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_each_epoch_uses_each_sample_once(dataset: Dataset, batch_size: int) -> None:
    batches = replace(make_batches(dataset), augmentation=NOTHING, batch_size=batch_size)
    steps = -(-3 * PAIRS // batch_size)
    shown = [int(labels[0, 0]) for step in range(steps) for labels in batches.make(step).labels]
    epochs = [shown[start : start + PAIRS] for start in range(0, 3 * PAIRS, PAIRS)]
    assert all(sorted(epoch) == list(range(PAIRS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def write_dots(root: Path) -> Dataset:
    """Write 6 images of one class; a dot of another is in the last one."""
    for i in range(6):
        labels = np.zeros((96, 128), np.uint8)
        labels[70, 20] = i == 5
        write_png(root / f"images/{i}.png", np.full(labels.shape, i, np.uint8))
        write_png(root / f"masks/{i}.png", labels)
    return scan_dataset(Dataset.load(root))


def test_samples_of_a_rare_class_show_it(tmp_path: Path) -> None:
    dataset = write_dots(tmp_path)
    draw = make_rare_class_sampler(count_class_pixels(dataset, dataset.samples), 0.5)
    usual = replace(make_batches(dataset), augmentation=replace(NOTHING, scale=(1.0, 2.0)), batch_size=4)
    batches = replace(usual, rare_classes=draw)
    made = [batches.make(step, resolution) for step in range(25) for resolution in (1.0, 0.5)]
    shown = [bool((labels == 1).any()) for batch in made for labels in batch.labels]
    assert 0.35 < sum(shown) / len(shown) < 0.65
    assert is_same(made[0], batches.make(0))
    # The other samples are those of an epoch, in its order.
    kept = [batches._draw_sample(i)[0] == usual._draw_sample(i)[0] for i in range(24)]
    assert all(same for i, same in enumerate(kept) if batches._draw_sample(i)[1] is None)


def test_images_smaller_than_the_crop_can_be_drawn_for_a_class(dataset: Dataset) -> None:
    draw = make_rare_class_sampler(count_class_pixels(dataset, dataset.samples), 1.0)
    batch = replace(make_batches(dataset), rare_classes=draw, crop_size=(64, 64)).make(0)
    assert batch.labels.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("crop", "resolution", "size"),
    [
        ((64, 96), 1.0, (64, 96)),
        ((50, 70), 1.0, (50, 70)),
        ((64, 96), 0.5, (32, 48)),
        ((64, 96), 0.6, (48, 64)),
        ((64, 96), 0.01, (16, 16)),
        ((50, 70), 0.99, (50, 70)),
        ((8, 8), 0.01, (8, 8)),
    ],
)
def test_sizes_of_lower_resolution(
    dataset: Dataset, crop: tuple[int, int], resolution: float, size: tuple[int, int]
) -> None:
    batches = replace(make_batches(dataset), crop_size=crop)
    assert batches.size_at(resolution) == size
    assert batches.make(0, resolution).labels.shape == (3, *size)


def test_a_lower_resolution_shrinks_the_same_scene(tmp_path: Path) -> None:
    left = np.repeat(np.array([[0, 1]], np.uint8), 32, axis=1).repeat(32, axis=0)
    for name in ("a", "b"):
        write_png(tmp_path / f"images/{name}.png", left * 200)
        write_png(tmp_path / f"masks/{name}.png", left)
    dataset = Dataset.load(tmp_path)
    dataset = scan_dataset(dataset)
    batches = replace(make_batches(dataset), augmentation=NOTHING, crop_size=(32, 64), size_multiple=8)
    np.testing.assert_array_equal(batches.make(0, 0.5).labels[0], left[::2, ::2])
    np.testing.assert_array_equal(batches.make(0, 0.5).images[0, 0], left[::2, ::2] * 200)


def test_an_invalid_pair_is_an_error(tmp_path: Path) -> None:
    dataset = write_pairs(tmp_path)
    (tmp_path / "masks/3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"masks/3\.png: The file is empty"):
        replace(make_batches(dataset), batch_size=PAIRS).make(0)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (np.zeros(SIZE, np.uint16), "has 1 channel of uint16, but .* has 1 of uint8"),
        (np.zeros(SIZE, np.uint8), "has 1 channel of uint8, but .* has 1 of uint16"),
    ],
)
def test_a_batch_has_images_of_one_format(tmp_path: Path, odd: Array, message: str) -> None:
    dataset = write_pairs(tmp_path, np.uint16 if odd.dtype == np.uint8 else np.uint8)
    write_png(tmp_path / "images/3.png", odd)
    batches = replace(make_batches(dataset), batch_size=PAIRS)
    samples = sorted(dataset.samples, key=lambda sample: sample.name == "3")
    with pytest.raises(DataError, match=rf"\.png {message}. Convert all images"):
        replace(batches, samples=samples).make(0)


def test_float_images_are_not_changed(tmp_path: Path) -> None:
    for name, value in (("a", -3.5), ("b", 1e5)):
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"images/{name}.tif", np.full(SIZE, value, np.float32))
        write_png(tmp_path / f"masks/{name}.png", np.full(SIZE, value > 0, np.uint8))
    dataset = Dataset.load(tmp_path)
    dataset = scan_dataset(dataset)
    batch = replace(make_batches(dataset), augmentation=NOTHING, batch_size=2).make(0)
    assert batch.images.dtype == torch.float32
    for image, labels in zip(batch.images, batch.labels, strict=True):
        assert image.unique().tolist() == [1e5 if labels[0, 0] else -3.5]


def test_a_batch_moves_to_a_device(dataset: Dataset) -> None:
    batch = replace(make_batches(dataset), compute_pixel_weights=halves).make(0)
    assert is_same(batch.to(torch.device("cpu")), batch)
    moved = batch.to(torch.device("meta"))
    assert moved.pixel_weights is not None
    assert {part.device.type for part in (moved.images, moved.labels, moved.pixel_weights)} == {"meta"}
    assert make_batches(dataset).make(0).to(torch.device("meta")).pixel_weights is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_moves_to_a_gpu(dataset: Dataset) -> None:
    batch = replace(make_batches(dataset), compute_pixel_weights=halves, pin_memory=True).make(0)
    assert batch.images.is_pinned()
    assert is_same(batch, replace(make_batches(dataset), compute_pixel_weights=halves).make(0))
    moved = batch.to(torch.device("cuda"))
    assert moved.images.is_cuda
    assert moved.pixel_weights is not None
    assert moved.pixel_weights.is_cuda
    assert is_same(moved.to(torch.device("cpu")), batch)


# The cache.


class Reads:
    """Counts the samples that are read."""

    def __init__(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        read = Dataset.read

        def counting(dataset: Dataset, sample: Sample) -> tuple[Array, Array]:
            self.names.append(sample.name)
            return read(dataset, sample)

        monkeypatch.setattr(Dataset, "read", counting)


PAIR_BYTES = 2 * SIZE[0] * SIZE[1]


@pytest.mark.parametrize("kept", [0, 1, 3, PAIRS])
def test_the_cache_stores_what_fits(dataset: Dataset, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(dataset, monkeypatch)
    cache = SampleCache(dataset, kept * PAIR_BYTES + 1)
    for _ in range(2):
        for sample in dataset.samples:
            image, labels = cache[sample]
            assert int(image[0, 0, 0]) == int(labels[0, 0]) == int(sample.name)
    assert len(reads.names) == 2 * PAIRS - kept
    assert sum(part.nbytes for pair in cache._pairs.values() for part in pair) == kept * PAIR_BYTES


def test_a_smaller_pair_may_still_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, side in (("a", 10), ("b", 20), ("c", 10)):
        write_png(tmp_path / f"images/{name}.png", np.full((side, side), 1, np.uint8))
        write_png(tmp_path / f"masks/{name}.png", np.full((side, side), 1, np.uint8))
    dataset = Dataset.load(tmp_path)
    dataset = scan_dataset(dataset)
    reads = Reads(dataset, monkeypatch)
    cache = SampleCache(dataset, 500)
    for sample in dataset.samples * 2:
        cache[sample]
    assert reads.names == ["a", "b", "c", "b"]


def test_the_cache_keeps_its_limit_with_several_threads(dataset: Dataset) -> None:
    cache = SampleCache(dataset, 3 * PAIR_BYTES)
    gate = threading.Barrier(8)

    def read() -> None:
        gate.wait()
        for sample in dataset.samples:
            cache[sample]

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache._pairs) == 3
    assert cache._bytes == 3 * PAIR_BYTES


# Prefetching.


def numbered(step: int) -> Batch:
    return Batch(torch.tensor([step]), torch.tensor([step]))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_batches_do_not_depend_on_the_threads(streets: Path, threads: int) -> None:
    dataset = Dataset.load(streets)
    expected = [make_batches(dataset).make(step) for step in range(4, 12)]
    batches = make_batches(dataset, 1e9)
    found = list(prefetch(batches.make, iter(range(4, 12)), num_threads=threads))
    assert [step for step, _ in found] == list(range(4, 12))
    assert all(is_same(batch, other) for (_, batch), other in zip(found, expected, strict=True))


def test_the_order_does_not_depend_on_the_duration() -> None:
    def make(step: int) -> Batch:
        time.sleep(0.02 if step % 3 == 0 else 0)
        return numbered(step)

    found = list(prefetch(make, iter(range(12)), num_ahead=5, num_threads=6))
    assert [(step, int(batch.images)) for step, batch in found] == [(i, i) for i in range(12)]


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_few_steps_are_all_made(steps: int) -> None:
    assert [step for step, _ in prefetch(numbered, iter(range(steps)), num_ahead=3)] == list(range(steps))


def test_only_num_ahead_batches_are_made_in_advance() -> None:
    made: list[int] = []

    def make(step: int) -> Batch:
        made.append(step)
        return numbered(step)

    source = prefetch(make, count(), num_ahead=3)
    next(source)
    source.close()  # type: ignore[attr-defined]
    assert set(made) <= {0, 1, 2, 3}
    assert 0 in made


def loaders() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_a_consumer_may_stop_early() -> None:
    for step, _ in prefetch(numbered, count(), num_threads=3):
        if step == 4:
            break
    assert loaders() == []


def test_an_error_of_make_reaches_the_consumer() -> None:
    def make(step: int) -> Batch:
        if step == 2:
            raise DataError("a.png: The file is empty")
        return numbered(step)

    source = prefetch(make, count())
    assert [next(source)[0], next(source)[0]] == [0, 1]
    with pytest.raises(DataError, match=r"a\.png: The file is empty"):
        next(source)
    assert loaders() == []


def test_an_error_of_the_steps_reaches_the_consumer() -> None:
    def steps() -> Iterator[int]:
        yield from range(6)
        raise RuntimeError("no more steps")

    with pytest.raises(RuntimeError, match="no more steps"):
        list(prefetch(numbered, steps()))
    assert loaders() == []


def test_opencv_uses_one_thread() -> None:
    cv2.setNumThreads(2)
    list(prefetch(numbered, iter(range(1))))
    assert cv2.getNumThreads() == 1
