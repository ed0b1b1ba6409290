"""Each fault, added to a valid dataset, gives exactly its finding."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelwise import check
from pixelwise.checks import CODES
from pixelwise.checks.runner import run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.dataset_index import SampleReader
from pixelwise.data.io.images import DecodedImage
from pixelwise.data.sample import Sample
from pixelwise.data.scan import compute_normalization, scan_dataset
from support.faults import FAULTS, Fault, write_clean


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_clean(tmp_path)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code} {fault.note}".strip())
def test_a_fault_gives_its_finding(clean: Path, fault: Fault) -> None:
    fault.plant(clean)
    report = check(clean, **fault.options)
    assert sorted(f.code for f in report.findings) == sorted([fault.code, *fault.also]), report.findings
    finding = next(f for f in report.findings if f.code == fault.code)
    assert finding.severity == CODES[fault.code][0]
    assert finding.files == fault.files
    assert re.search(fault.message, finding.message)
    assert finding.message.endswith(".")
    assert finding.fix.startswith(fault.fix)


def test_the_clean_set_has_no_findings(clean: Path) -> None:
    report = check(clean, resolution=(12, 16), group_by="^(train|val)/")
    assert report.findings == ()


# Faults that need images with something in common, or a reader of float images.


class FloatImages(SampleReader):
    """Reads the clean set as float images, one of them with values that are not finite."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        pixels = super().decode_image(sample).pixels.astype(np.float32)
        if sample.name == "train/1":
            pixels[3, 4], pixels[0, 0, 0] = np.nan, -np.inf
        return DecodedImage(pixels=pixels, alpha=False)


def test_values_that_are_not_finite(clean: Path) -> None:
    dataset = Dataset.load(clean)
    dataset = replace(dataset, index=replace(dataset.index, reader=FloatImages()))
    dataset = scan_dataset(dataset)
    (finding,) = run_checks(dataset).findings
    assert (finding.code, finding.severity, finding.files) == ("not_finite", "error", ("images/train/1.png",))
    assert finding.message.startswith("1 image with NaN or infinite values (4 in total)")
    assert np.isfinite(compute_normalization(dataset, dataset.samples)).all()


TESTED_SEPARATELY = {
    "classes_differ",
    "exchanged_classes",
    "inverted_mask",
    "shifted_mask",
    "not_finite",
    "undeclared_nodata",
    "misplaced_mask",
    "flipped_mask",
    "unreadable_dataset",
}


def test_every_code_is_planted() -> None:
    assert {fault.code for fault in FAULTS} | TESTED_SEPARATELY == set(CODES)


# Valid datasets.


@pytest.mark.parametrize("name", ["streets", "cells"])
def test_synthetic_sets_have_no_findings(name: str, request: pytest.FixtureRequest) -> None:
    report = check(request.getfixturevalue(name))
    assert report.findings == ()
    assert report.splits == {"train": 12, "val": 4, "test": 4}


def test_camvid(shared_data: Path) -> None:
    """Of 701 frames, eight show a standing car, and three clips were divided between splits."""
    near, sequence = check(shared_data / "camvid").findings
    assert (near.code, len(near.files)) == ("near_duplicates", 8)
    assert {Path(name).name[:10] for name in near.files} == {"0001TP_009", "Seq05VD_f0"}
    assert sequence.code == "sequence_in_two_splits"
    assert "val/0016E5_08159 next to train/0016E5_08190" in sequence.message
    assert len(sequence.files) == 6


def test_isbi(shared_data: Path) -> None:
    """One stack of slices was divided."""
    (finding,) = check(shared_data / "isbi2012").findings
    assert (finding.code, finding.files) == ("sequence_in_two_splits", ("images/train/19.png", "images/val/20.png"))
