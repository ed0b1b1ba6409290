import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data import doctor
from pixelwise.data.dataset import open_dataset
from pixelwise.data.doctor import CheckReport, check, require_sound
from pixelwise.data.images import Array, write_png
from pixelwise.data.survey import survey
from pixelwise.errors import DataError

SIZE = (6, 8)
DESCRIPTION = "names: [a, b, c]\n"
PAIRS = ("train/0", "train/1", "train/2", "val/0", "val/1")


def noise(size: tuple[int, ...], dtype: type = np.uint8) -> Array:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype)


def image(channels: int = 3, dtype: type = np.uint8) -> Array:
    repeated = np.concatenate([noise(SIZE, dtype)] * 2, -1)
    return repeated[..., :channels] if channels > 1 else repeated[..., 0]


def mask(*values: int) -> Array:
    return np.resize(np.array(values or (0, 1, 2), np.uint8), SIZE)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Three training and two validation pairs without a fault."""
    for name in PAIRS:
        write_png(tmp_path / f"images/{name}.png", image())
        write_png(tmp_path / f"masks/{name}.png", mask())
    (tmp_path / "dataset.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return tmp_path


Plant = Callable[[Path], None]


def _drop(result: object) -> None:
    """A plant returns nothing."""


def put(name: str, pixels: Array) -> Plant:
    return lambda root: write_png(root / name, pixels)


def put_bytes(name: str, content: bytes) -> Plant:
    return lambda root: _drop((root / name).write_bytes(content))


def remove(name: str) -> Plant:
    return lambda root: (root / name).unlink()


def describe(text: str) -> Plant:
    return lambda root: _drop((root / "dataset.yaml").write_text(text, encoding="utf-8"))


def put_tiff(name: str, pixels: Array) -> Plant:
    """Under whatever name; bands beyond three are data."""
    bands: dict[str, Any] = {"photometric": "rgb", "extrasamples": [0] * (pixels.shape[2] - 3)}
    return lambda root: _drop(tifffile.imwrite(root / name, pixels, planarconfig="contig", **bands))


def some_masks(split: str, pixels: Array, *, described: bool = True) -> Plant:
    """Every mask of a split, and its image if need be to keep it of one size."""

    def plant(root: Path) -> None:
        for path in (root / "masks").glob(f"{split}/*.png"):
            write_png(path, pixels)
            if pixels.shape != SIZE:
                write_png(root / "images" / path.relative_to(root / "masks"), noise(pixels.shape))
        if not described:
            (root / "dataset.yaml").unlink()

    return plant


def described_as(description: str, plant: Plant) -> Plant:
    """A fault, and another dataset.yaml."""

    def both(root: Path) -> None:
        plant(root)
        (root / "dataset.yaml").write_text(description)

    return both


def same_stem(root: Path) -> None:
    Image.open(root / "images/train/0.png").save(root / "images/train/0.bmp")


def as_jpeg(root: Path) -> None:
    Image.fromarray(mask(1)).save(root / "masks/train/0.jpg")
    (root / "masks/train/0.png").unlink()


def without_split(root: Path) -> None:
    for path in [*root.rglob("*.png")]:
        path.rename(path.parents[1] / f"{path.parent.name}{path.name}")
    for folder in ("images", "masks"):
        (root / folder / "train").rmdir()
        (root / folder / "val").rmdir()


def without_train(root: Path) -> None:
    shutil.rmtree(root / "images/train")
    shutil.rmtree(root / "masks/train")


# One fault each: code, severity, files, a piece of the message, a piece of the cure.
FAULTS: list[tuple[Plant, str, str, list[str], str, str]] = [
    (
        remove("masks/train/1.png"),
        "missing_mask", "error", ["images/train/1.png"],
        r"1 image\(s\) without a mask: images/train/1.png", "Add the mask",
    ),
    (
        put("masks/train/9.png", mask()),
        "orphan_mask", "warning", ["masks/train/9.png"],
        r"1 mask\(s\) without an image: masks/train/9.png", "Add the image",
    ),
    (
        put("images/valid/0.png", image()),
        "outside_splits", "error", ["images/valid/0.png"],
        r"1 file\(s\) outside train, val, test, so unread", "Move them",
    ),
    (
        put_bytes("images/train/7.gif", b""),
        "foreign_file", "warning", ["images/train/7.gif"],
        r"1 file\(s\) that are no image by their ending", "Convert them to one of .png",
    ),
    (
        without_train,
        "too_few_pairs", "error", [],
        r"0 training pair\(s\) and 2 of a val split", "Add some",
    ),
    (
        put_bytes("images/train/1.png", b"\x89PNG\r\n\x1a\n"),
        "unreadable_image", "error", ["images/train/1.png"],
        r"images/train/1.png: ", "Replace or remove it",
    ),
    (
        put("images/train/1.png", image(4)),
        "unreadable_image", "error", ["images/train/1.png"],
        r"images/train/1.png: the alpha channel varies", "Write 'channels: 4' into dataset.yaml",
    ),
    (
        put_bytes("masks/train/1.png", b""),
        "unreadable_mask", "error", ["masks/train/1.png"],
        r"masks/train/1.png: the file is empty", "Replace or remove it",
    ),
    (
        put("masks/train/1.png", image()),
        "unreadable_mask", "error", ["masks/train/1.png"],
        r"masks/train/1.png: the mask is an RGB picture", "List 'names' and 'colors'",
    ),
    (
        put("masks/train/1.png", mask()[:-1]),
        "size_mismatch", "error", ["images/train/1.png", "masks/train/1.png"],
        r"masks/train/1.png is 5x8, but its image is 6x8 \(height x width\)", "Save both",
    ),
    (
        put("masks/train/1.png", mask(0, 1, 2, 9)),
        "unlisted_values", "error", ["masks/train/1.png"],
        r"masks/train/1.png holds 9, which dataset.yaml does not list", "Add to 'names'",
    ),
    (
        put_tiff("images/train/1.png", image(4)),
        "mixed_channels", "error", ["images/train/1.png"],
        r"images should have 3 channels, but these have 4: images/train/1.png", "Convert",
    ),
    (
        describe(DESCRIPTION + "channels: 1\n"),
        "mixed_channels", "error", [f"images/{name}.png" for name in PAIRS],
        r"images should have 1 channels, but these have 3: images/train/0.png, .* and 2 more", "Convert",
    ),
    (
        put_tiff("images/train/1.png", image(3, np.uint16)),
        "mixed_bit_depth", "error", ["images/train/1.png"],
        r"images should have uint8 pixels, but these have uint16", "Convert them",
    ),
    (
        put("masks/train/1.png", mask(255)),
        "all_ignored", "warning", ["masks/train/1.png"],
        r"masks/train/1.png holds only ignored pixels", "Label it",
    ),
    (
        put("images/train/1.png", np.full((*SIZE, 3), 7, np.uint8)),
        "constant_image", "warning", ["images/train/1.png"],
        r"1 image\(s\) of a single value: images/train/1.png", "Replace or remove",
    ),
    (
        describe("names: [a, b, c, d]\n"),
        "class_unused", "warning", [],
        r"class 'd' is named, but occurs in no mask", "Remove it",
    ),
    (
        some_masks("train", mask(0, 1)),
        "class_not_in_train", "warning", [],
        r"class 'c' occurs in val, but not in train", "It cannot be learned",
    ),
    (
        some_masks("val", mask(0, 1)),
        "class_not_in_split", "warning", [],
        r"class 'c' does not occur in val", "It is not measured there",
    ),
    (
        some_masks("*", mask(255), described=False),
        "no_classes", "error", [],
        r"no mask holds a pixel of any class", "Label some pixels",
    ),
    (
        some_masks("*", np.arange(1200, dtype=np.uint16).reshape(30, 40), described=False),
        "no_classes", "error", [],
        r"the masks hold 1200 different values, too many to be classes", "Name the classes",
    ),
    (
        described_as("names: [a]", some_masks("*", mask(0))),
        "single_class", "error", [],
        r"there is only one class, 'a'", "Label at least two classes",
    ),
    (
        described_as("names: [a, b]", some_masks("*", mask(0, 255))),
        "foreground_ignored", "error", [],
        r"hold 0 and 255, but 255 is ignored, so class 'b' never occurs", r"Write 'label_mapping: {0: 0, 255: 1}'",
    ),
    (
        same_stem,
        "same_stem", "error", ["images/train/0.bmp", "images/train/0.png"],
        r"2 files share a stem, so their partner is ambiguous", "Rename or remove one",
    ),
    (
        as_jpeg,
        "jpeg_mask", "error", ["masks/train/0.jpg"],
        r"1 mask\(s\) saved as JPEG", "Save masks as PNG",
    ),
    (
        without_split,
        "split_made", "note", [],
        r"no val split: 1 of the 5 training images, drawn with seed 0", "Name a val split",
    ),
    (
        some_masks("*", mask(0, 255), described=False),
        "binary_masks", "note", [],
        r"the masks hold 0 and 255: read as background and foreground", "To name them",
    ),
    (
        some_masks("*", mask(3, 7, 255), described=False),
        "ids_compacted", "note", [],
        r"mask values became classes \(3 → 0, 7 → 1\); 255 is ignored", "Name the classes",
    ),
    (
        put("images/train/1.png", np.dstack([image(), np.full(SIZE, 9, np.uint8)])),
        "alpha_dropped", "note", ["images/train/1.png"],
        r"1 image\(s\) with a constant alpha channel: images/train/1.png", "It is dropped",
    ),
    (
        put("images/train/1.png", image(1)),
        "gray_repeated", "note", ["images/train/1.png"],
        r"1 gray image\(s\) among RGB ones: images/train/1.png", "Gray is repeated",
    ),
]  # fmt: skip

CODES = re.findall(r"^    (\w+) +(?:error|warning|note) ", doctor.__doc__ or "", re.MULTILINE)


def found(report: CheckReport) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_clean_set_has_no_findings(clean: Path) -> None:
    report = check(clean)
    assert report.findings == report.errors == ()
    assert (report.layout, report.num_images, report.classes) == ("folder", 5, ("a", "b", "c"))
    assert report.splits == {"train": 3, "val": 2}


@pytest.mark.parametrize("name", ["streets", "cells"])
def test_synthetic_sets_have_no_findings(name: str, request: pytest.FixtureRequest) -> None:
    report = check(request.getfixturevalue(name))
    assert report.findings == ()
    assert report.splits == {"train": 12, "val": 4, "test": 4}


@pytest.mark.parametrize(("plant", "code", "severity", "files", "message", "cure"), FAULTS, ids=[f[1] for f in FAULTS])
def test_a_planted_fault_is_the_one_finding(
    clean: Path, plant: Plant, code: str, severity: str, files: list[str], message: str, cure: str
) -> None:
    plant(clean)
    (finding,) = check(clean).findings
    assert (finding.code, finding.severity, list(finding.files)) == (code, severity, files)
    assert re.search(message, finding.message)
    assert finding.fix.startswith(cure)
    assert finding.message.endswith(".")
    assert finding.fix.endswith(".")


def test_every_code_is_planted_and_documented_with_its_severity() -> None:
    assert doctor.__doc__ is not None
    assert {fault[1] for fault in FAULTS} == set(CODES)
    for _, code, severity, *_ in FAULTS:
        assert re.search(rf"^    {code} +{severity} ", doctor.__doc__, re.MULTILINE)


def test_all_faults_are_told_at_once_errors_first(clean: Path) -> None:
    for plant in (
        put("images/train/0.png", image(1)),
        put("masks/train/1.png", mask(255)),
        put_bytes("masks/train/2.png", b""),
        put_bytes("masks/val/0.png", b""),
    ):
        plant(clean)
    codes = ["unreadable_mask", "unreadable_mask", "all_ignored", "gray_repeated"]
    assert found(check(clean)) == codes


def test_a_set_of_unreadable_masks_is_still_reported(clean: Path) -> None:
    (clean / "dataset.yaml").unlink()
    for name in PAIRS:
        (clean / f"masks/{name}.png").write_bytes(b"")
    report = check(clean)
    assert found(report) == ["unreadable_mask"] * 5
    assert report.classes == ()


def test_a_set_of_unreadable_images_is_still_reported(clean: Path) -> None:
    for name in PAIRS:
        (clean / f"images/{name}.png").write_bytes(b"")
    assert found(check(clean)) == ["unreadable_image"] * 5


def test_only_ignored_pixels_are_an_error_where_classes_are_named(clean: Path) -> None:
    some_masks("*", mask(255))(clean)
    assert found(check(clean))[0] == "no_classes"


def test_a_description_without_names_leaves_the_note_on_found_classes(clean: Path) -> None:
    describe("channels: 3\n")(clean)
    assert found(check(clean)) == ["ids_compacted"]


def test_long_lists_are_cut_in_messages_and_whole_in_files(clean: Path) -> None:
    for number in range(5):
        put(f"masks/train/lone{number}.png", mask())(clean)
    some_masks("*", mask(*range(20)), described=False)(clean)
    orphans, ids = check(clean).findings
    assert orphans.message.endswith("lone0.png, masks/train/lone1.png, masks/train/lone2.png and 2 more.")
    assert len(orphans.files) == 5
    assert "10 → 10, 11 → 11, ...);" in ids.message


def test_images_without_a_mask_are_counted(clean: Path) -> None:
    remove("masks/train/1.png")(clean)
    assert check(clean).num_images == 5


@pytest.mark.parametrize("plant", [lambda root: None, put_bytes("masks/val/0.png", b"")])
def test_the_report_is_written_whatever_it_says(clean: Path, plant: Plant) -> None:
    plant(clean)
    report = check(clean, json_path=clean / "out" / "report.json")
    written = json.loads((clean / "out" / "report.json").read_text(encoding="utf-8"))
    assert written == report.to_dict()
    assert list(written) == ["layout", "num_images", "classes", "splits", "findings"]
    for finding in written["findings"]:
        assert list(finding) == ["code", "severity", "files", "message", "fix"]


def test_no_data_set_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        check(tmp_path / "absent")


# What training asks.


def test_a_sound_set_may_be_trained_on(clean: Path) -> None:
    put("images/train/0.png", image(1))(clean)
    dataset = open_dataset(clean)
    assert found(require_sound(survey(dataset, dataset.samples))) == ["gray_repeated"]


def test_training_stops_at_errors_and_names_them_all(clean: Path) -> None:
    for number in range(7):
        put(f"images/train/extra{number}.png", image())(clean)
        put_bytes(f"masks/train/extra{number}.png", b"")(clean)
    dataset = open_dataset(clean)
    with pytest.raises(DataError, match=r"extra0.png: the file is empty. Replace") as caught:
        require_sound(survey(dataset, dataset.samples))
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    last = f"All findings: pixelwise check {clean}. To train on what is sound: --force."
    assert lines[-2:] == ["(and 2 more)", last]


def test_overruled_errors_do_not_stop_training(clean: Path) -> None:
    remove("masks/train/1.png")(clean)
    put_bytes("masks/train/0.png", b"")(clean)
    dataset = open_dataset(clean)
    surveyed = survey(dataset, dataset.samples)
    with pytest.raises(DataError, match=r"1 image\(s\) without a mask: images/train/1\.png") as caught:
        require_sound(surveyed, overruled=lambda error: error.code == "unreadable_mask")
    assert "0.png: the file is empty" not in str(caught.value)
    report = require_sound(surveyed, overruled=lambda error: True)
    assert len(report.errors) == 2


def test_the_report_carries_what_was_read(clean: Path) -> None:
    report = check(clean)
    assert report.surveyed is not None
    assert len(report.surveyed.readings) == len(PAIRS)
    assert "surveyed" not in report.to_dict()


def test_what_was_not_surveyed_is_not_judged(clean: Path) -> None:
    """Training surveys train and val; a class may then be missing in test unseen."""
    put("images/test/0.png", image())(clean)
    put("masks/test/0.png", mask(0))(clean)
    dataset = open_dataset(clean)
    seen = [s for s in dataset.samples if s.split != "test"]
    assert require_sound(survey(dataset, seen)).findings == ()
    assert found(check(clean)) == ["class_not_in_split"] * 2
