import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.checks import Finding
from pixelwise.checks.runner import run_checks
from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.io.images import Array, DecodedImage, write_png
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.splits import write_splits
from pixelwise.errors import CheckpointError, DataError
from pixelwise.planning.exclusions import (
    Exclusion,
    drop_excluded,
    exclude_invalid,
    is_waived,
    read_exclusions,
    write_exclusions,
)
from pixelwise.planning.prepare_data import prepare_data
from pixelwise.progress import use_reporter
from support.recorder import Recorder

SIZE = (6, 8)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
MASK = np.resize(np.array([0, 1, 2], np.uint8), SIZE)
NAMES = ("train/0", "train/1", "train/2", "val/0", "val/1")

Plant = Callable[[Path], None]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        write_png(tmp_path / f"images/{name}.png", IMAGE ^ np.uint8(number))
        write_png(tmp_path / f"masks/{name}.png", MASK)
    (tmp_path / "dataset.yaml").write_text("names: [a, b, c]\n", encoding="utf-8")
    return tmp_path


def put(name: str, pixels: Array) -> Plant:
    return lambda root: write_png(root / name, pixels)


def put_bytes(name: str, content: bytes) -> Plant:
    def plant(root: Path) -> None:
        (root / name).write_bytes(content)

    return plant


def remove(name: str) -> Plant:
    return lambda root: (root / name).unlink()


def with_bands(alpha: Array) -> bytes:
    return bytes(imagecodecs.png_encode(np.dstack([IMAGE, alpha])))


def bitmap() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "BMP")
    return buffer.getvalue()


# A fault; the files left out and a piece of the reason; the pairs that stay.
FAULTS: list[tuple[Plant, list[str], str, tuple[str, ...]]] = [
    (
        remove("masks/train/1.png"),
        ["images/train/1.png"],
        "^an image has no mask$",
        ("train/0", "train/2", "val/0", "val/1"),
    ),
    (
        put_bytes("images/train/0.bmp", bitmap()),
        ["images/train/0.bmp", "images/train/0.png"],
        "^files such as a.jpg and a.png have the same name",
        ("train/1", "train/2", "val/0", "val/1"),
    ),
    (put("images/stray.png", IMAGE), ["images/stray.png"], "^a file is outside the split folders", NAMES),
    (
        put_bytes("images/train/2.png", b""),
        ["images/train/2.png"],
        "^The file is empty. Replace or remove it",
        ("train/0", "train/1", "val/0", "val/1"),
    ),
    (
        put_bytes("masks/val/0.png", b"no picture"),
        ["images/val/0.png"],
        r"^masks/val/0\.png: The file is not an image of a known format",
        ("train/0", "train/1", "train/2", "val/1"),
    ),
    (
        put_bytes("images/train/2.png", with_bands(MASK)),
        ["images/train/2.png"],
        "alpha channel varies",
        ("train/0", "train/1", "val/0", "val/1"),
    ),
    (
        put("masks/train/1.png", MASK[:4]),
        ["images/train/1.png"],
        "^image and mask have different sizes$",
        ("train/0", "train/2", "val/0", "val/1"),
    ),
    (
        put("masks/train/1.png", MASK + 6),
        ["images/train/1.png"],
        "^masks contain values that no class has$",
        ("train/0", "train/2", "val/0", "val/1"),
    ),
    (
        put_bytes("images/train/1.png", bytes(imagecodecs.png_encode(IMAGE.astype(np.uint16) * 9))),
        ["images/train/1.png"],
        "^images have different pixel types",
        ("train/0", "train/2", "val/0", "val/1"),
    ),
]


@pytest.mark.parametrize(("plant", "files", "reason", "kept"), FAULTS)
def test_files_with_errors_are_excluded(
    clean: Path, plant: Plant, files: list[str], reason: str, kept: tuple[str, ...]
) -> None:
    plant(clean)
    with pytest.raises(DataError, match="--skip-invalid"):
        prepare_data(clean, Config())
    listening = Recorder()
    with use_reporter(listening):
        prepared = prepare_data(clean, Config(), skip_invalid=True)
    assert prepared.exclusions is not None
    assert [one.file for one in prepared.exclusions] == files
    for one in prepared.exclusions:
        assert re.search(reason, one.reason)
        assert str(one) in listening.messages
        assert str(one) in prepared.waived
    assert tuple(s.name for s in prepared.splits["train"] + prepared.splits["val"]) == kept
    assert sum(line.startswith("error: ") for line in listening.messages) == 1


def test_images_of_odd_channels_are_left_out(clean: Path) -> None:
    (clean / "dataset.yaml").write_text("names: [a, b, c]\nchannels: 3\n", encoding="utf-8")
    (clean / "images/train/1.png").unlink()
    bands = np.concatenate([IMAGE, IMAGE], -1)
    tifffile.imwrite(
        clean / "images/train/1.tif", bands, photometric="rgb", extrasamples=[0] * 3, planarconfig="contig"
    )
    _, left_out = exclude_invalid(Dataset.load(clean))
    assert left_out == (
        Exclusion("images/train/1.tif", "images have different numbers of channels, or not the declared number"),
    )


def test_pairs_of_one_file_are_excluded_once(tmp_path: Path) -> None:
    """Each with its image, and not again as a place in the file of all masks."""
    for stem in "abcd":
        write_png(tmp_path / f"images/{stem}.png", IMAGE)
    content = {
        "images": [{"id": n, "file_name": f"{stem}.png", "height": 6, "width": 8} for n, stem in enumerate("abcd")],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": []} for n in (0, 2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(content), encoding="utf-8")
    dataset, left_out = exclude_invalid(Dataset.load(tmp_path))
    assert [exclusion.file for exclusion in left_out] == ["images/a.png", "images/c.png"]
    assert [sample.name for sample in dataset.samples] == ["b", "d"]


def test_a_resumed_run_has_the_same_pairs(clean: Path) -> None:
    (clean / "masks/train/1.png").write_bytes(b"")
    (clean / "masks/val/1.png").unlink()
    fresh = prepare_data(clean, Config(), skip_invalid=True)
    splits = clean / "run/splits.yaml"
    write_splits(splits, fresh.splits)
    again = prepare_data(clean, Config(), splits_file=splits, exclusions=fresh.exclusions)
    assert (again.dataset, again.splits) == (fresh.dataset, fresh.splits)
    assert (again.exclusions, again.waived) == (fresh.exclusions, fresh.waived)


def test_a_valid_dataset_loses_nothing(clean: Path) -> None:
    listening = Recorder()
    with use_reporter(listening):
        prepared = prepare_data(clean, Config(), skip_invalid=True)
    assert prepared.exclusions == ()
    assert prepared.waived == ()
    assert listening.messages == []
    assert prepare_data(clean, Config()).exclusions is None


def test_jpeg_masks_are_used_and_reported(clean: Path) -> None:
    Image.fromarray(np.full(SIZE, 1, np.uint8)).save(clean / "masks/train/0.jpg")
    (clean / "masks/train/0.png").unlink()
    prepared = prepare_data(clean, Config(), skip_invalid=True)
    assert prepared.exclusions == ()
    assert len(prepared.splits["train"]) == 3
    (line,) = prepared.waived
    assert line.startswith("error: 1 mask saved as JPEG")


def test_without_a_valid_pair_there_is_no_training(clean: Path) -> None:
    for name in NAMES:
        (clean / f"masks/{name}.png").write_bytes(b"")
    listening = Recorder()
    with pytest.raises(DataError, match=r"has 0 training"), use_reporter(listening):
        prepare_data(clean, Config(), skip_invalid=True)
    assert sum(line.startswith("excluded: ") for line in listening.messages) == 5


def test_without_a_class_there_is_no_training(clean: Path) -> None:
    (clean / "dataset.yaml").unlink()
    for name in NAMES:
        write_png(clean / f"masks/{name}.png", np.full(SIZE, 255, np.uint8))
    with pytest.raises(DataError, match="No mask contains a pixel of any class"):
        prepare_data(clean, Config(), skip_invalid=True)


def test_a_val_split_without_a_usable_pair_is_made_anew(clean: Path) -> None:
    for name in ("val/0", "val/1"):
        (clean / f"masks/{name}.png").write_bytes(b"")
    prepared = prepare_data(clean, Config(), skip_invalid=True)
    assert (len(prepared.splits["train"]), len(prepared.splits["val"])) == (2, 1)
    assert any("No validation split" in note for note in prepared.notes)


def test_test_images_are_not_opened(clean: Path) -> None:
    for kind in ("images", "masks"):
        (clean / kind / "test").mkdir()
        (clean / kind / "test/0.png").write_bytes(b"")
    prepared = prepare_data(clean, Config(), skip_invalid=True)
    assert prepared.exclusions == ()
    assert len(prepared.splits["test"]) == 1


class _Container(SampleReader):
    """Four pairs in one file, of which one cannot be read."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return DecodedImage(pixels=IMAGE ^ np.uint8(int(sample.name)), alpha=False)

    def read_mask(self, sample: Sample) -> Array:
        if sample.name == "2":
            raise DataError(f"{sample.mask_path}: 2 has no outline; draw one.")
        return MASK


def test_pairs_in_a_container_are_left_out_by_name(tmp_path: Path) -> None:
    write_png(tmp_path / "images/0.png", IMAGE)
    write_png(tmp_path / "masks/0.png", MASK)
    tar = tmp_path / "all.tar"
    samples = tuple(Sample(name=str(i), image_path=tar, mask_path=tar, split=None) for i in range(4))
    classes = describe_classes(parse_description({"names": ["a", "b", "c"]}))
    dataset = replace(
        Dataset.load(tmp_path).with_classes(classes, 3), index=DatasetIndex(samples=samples, reader=_Container())
    )
    rest, left_out = exclude_invalid(dataset)
    assert left_out == (Exclusion("all.tar: 2", "2 has no outline; draw one."),)
    assert [sample.name for sample in rest.samples] == ["0", "1", "3"]
    assert run_checks(scan_dataset(rest)).errors == ()
    assert drop_excluded(dataset, left_out) == rest


def an_error(code: str, *files: str) -> Finding:
    return Finding(code=code, severity="error", files=files, message="", fix="")


def test_only_errors_that_are_out_of_the_way_are_overruled() -> None:
    left_out = (Exclusion("a", ""), Exclusion("b", ""))
    assert is_waived(an_error("missing_mask", "a", "b"), left_out)
    assert is_waived(an_error("jpeg_mask", "c"), left_out)
    assert not is_waived(an_error("missing_mask", "a", "c"), left_out)
    assert not is_waived(an_error("no_classes"), left_out)
    assert not is_waived(an_error("jpeg_mask", "c"), None)


def test_the_list_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "left_out.yaml"
    for left_out in ((), (Exclusion("ä/<b>: 1.png", "no mask"), Exclusion("\udcff.png", "size: 3 × 4, 'odd'"))):
        write_exclusions(path, left_out)
        assert read_exclusions(path) == left_out
    assert path.read_text(encoding="utf-8").startswith("# Trained with --skip-invalid")


@pytest.mark.parametrize("text", ["", "- 3\n", "- file: a\n", "{", "- {file: [\n"])
def test_a_damaged_list_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "left_out.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"left_out\.yaml must list 'file' and 'reason'"):
        read_exclusions(path)
