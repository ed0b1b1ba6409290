import errno
import html
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pixelwise import check
from pixelwise.checks import CheckReport
from pixelwise.checks.runner import require_valid_dataset
from pixelwise.data import scan
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import encode_png
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import DataError, InvalidArgumentError, PathAccessError, PathNotFoundError, PixelwiseError
from support.faults import PAIRS, all_masks, describe, mask, noise, put, put_as, put_bytes, remove, write_clean
from support.permissions import respect_permissions

Plant = Callable[[Path], object]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_clean(tmp_path)


def found(report: CheckReport) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_clean_set_has_no_findings(clean: Path) -> None:
    report = check(clean)
    assert report.findings == report.errors == ()
    assert (report.format, report.num_images, report.classes) == ("folder", 9, ("a", "b", "c"))
    assert report.splits == {"train": 6, "val": 3}


def test_all_faults_are_reported_errors_first(clean: Path) -> None:
    for plant in (
        put("images/train/0.png", noise()[..., 0]),
        put("masks/train/1.png", mask(255)),
        put_bytes("masks/train/2.png", b""),
        put_bytes("masks/val/0.png", b""),
    ):
        plant(clean)
    assert found(check(clean)) == ["empty_file", "all_ignored", "gray_repeated"]


def test_many_faults_of_one_code_are_one_finding(clean: Path) -> None:
    """The message names three files and counts the rest; the list of files is complete."""
    for name in PAIRS[:7]:
        put(f"masks/{name}.png", mask(0, 1, 2, 9)[:-1])(clean)
    for name in PAIRS[7:]:
        put_bytes(f"images/{name}.png", b"a text")(clean)
    unreadable, sizes, values = check(clean).findings
    assert [f.code for f in (unreadable, sizes, values)] == ["unreadable_image", "size_mismatch", "unlisted_values"]
    assert unreadable.message.startswith(
        "images/val/1.png, images/val/2.png: The file is not an image of a known format"
    )
    assert sizes.message.count(" is 23x32, but its image is 24x32") == 3
    assert sizes.message.endswith(" and 4 more.")
    assert values.message.endswith("masks/train/0.png, masks/train/1.png, masks/train/2.png and 4 more.")
    assert [len(f.files) for f in (unreadable, sizes, values)] == [2, 14, 7]


def test_faults_of_one_code_with_different_fixes_are_separate(clean: Path) -> None:
    put_bytes("images/train/0.png", b"a text")(clean)
    put("images/train/1.png", noise(channels=4))(clean)
    first, second = check(clean).findings
    assert (first.code, second.code) == ("unreadable_image", "unreadable_image")
    assert {first.files, second.files} == {("images/train/0.png",), ("images/train/1.png",)}


def test_different_reasons_with_one_fix_are_all_reported(clean: Path) -> None:
    put_bytes("images/train/0.png", b"a text")(clean)
    put_bytes("images/train/1.png", b"II*\0")(clean)
    put_bytes("images/train/2.png", b"BM and no more")(clean)
    messages = [f.message for f in check(clean).findings if f.code == "unreadable_image"]
    assert any("images/train/0.png: The file is not an image of a known format" in message for message in messages)


@pytest.mark.parametrize("folder", ["masks", "images"])
def test_a_dataset_of_empty_files_is_reported(clean: Path, folder: str) -> None:
    describe(None)(clean)
    for name in PAIRS:
        (clean / f"{folder}/{name}.png").write_bytes(b"")
    report = check(clean)
    assert found(report)[0] == "empty_file"
    assert len(report.findings[0].files) == 9
    assert report.classes == (() if folder == "masks" else ("0", "1", "2"))


def test_only_ignored_pixels_are_an_error_where_classes_are_named(clean: Path) -> None:
    all_masks(lambda _: mask(255))(clean)
    assert found(check(clean))[0] == "no_classes"


def test_a_description_without_names_does_not_name_classes(clean: Path) -> None:
    describe("channels: 3\n")(clean)
    assert found(check(clean)) == ["ids_compacted"]


def test_many_found_classes_are_not_all_listed(clean: Path) -> None:
    all_masks(lambda number: np.roll(mask(*range(20)), 7 * number, 1), description=None)(clean)
    (ids,) = check(clean).findings
    assert "10 → 10, 11 → 11, ...), and 255 is ignored" in ids.message


def test_images_without_a_mask_are_counted(clean: Path) -> None:
    remove("masks/train/1.png")(clean)
    assert check(clean).num_images == 9


@pytest.mark.parametrize(
    "plant",
    [lambda root: None, put_bytes("masks/val/0.png", b""), describe(None), put_bytes("masks/val/0.png", b"\xff")],
)
def test_the_report_is_written_for_every_result(clean: Path, plant: Plant) -> None:
    plant(clean)
    report = check(clean, json_path=clean / "out" / "report.json")
    written = json.loads((clean / "out" / "report.json").read_text(encoding="utf-8"))
    assert written.pop("written_by")["command"] == "check"
    assert written == report.to_dict()
    assert list(written) == ["format", "num_images", "classes", "splits", "findings"]
    for finding in written["findings"]:
        assert list(finding) == ["code", "severity", "files", "message", "fix"]


def test_a_missing_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="does not exist"):
        check(tmp_path / "absent")


def test_a_resolution_without_pixels_is_refused(clean: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"resolution is \(0, 32\), but must be a list of 2 integers >= 1"):
        check(clean, resolution=(0, 32))


def test_an_invalid_pattern_is_refused(clean: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--group-by '\(' is not a valid regular expression"):
        check(clean, group_by="(")


def test_a_group_that_matches_nothing_is_refused(clean: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--group-by 'patient' does not match 9 of 9 names: train/0"):
        check(clean, group_by="patient")


# Before training.


def test_a_valid_dataset_may_be_trained_on(clean: Path) -> None:
    put("images/train/0.png", noise()[..., 0])(clean)
    dataset = Dataset.load(clean)
    assert found(require_valid_dataset(scan_dataset(dataset))) == ["gray_repeated"]


def test_training_stops_at_errors_and_names_the_first(clean: Path) -> None:
    for plant in (
        remove("masks/train/0.png"),
        put_bytes("masks/train/1.png", b""),
        put_bytes("images/train/2.png", b"a text"),
        put("masks/train/3.png", mask(0, 9)),
        put("masks/train/4.png", mask(0)[:-1]),
        put("images/train/5.png", noise(dtype=np.uint16)[..., 0]),
        put_as("masks/val/0.png", "JPEG", mask(0)),
    ):
        plant(clean)
    dataset = Dataset.load(clean)
    with pytest.raises(DataError, match=r"masks/train/1.png: The file is empty. Replace or remove it.") as caught:
        require_valid_dataset(scan_dataset(dataset))
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    last = f"List all findings: pixelwise check {clean}. Train without the invalid files: --skip-invalid."
    assert lines[-2:] == ["(and 2 more)", last]


def test_accepted_errors_do_not_stop_training(clean: Path) -> None:
    remove("masks/train/1.png")(clean)
    put_bytes("masks/train/0.png", b"")(clean)
    dataset = Dataset.load(clean)
    dataset = scan_dataset(dataset)
    with pytest.raises(DataError, match=r"1 image without a mask: images/train/1\.png") as caught:
        require_valid_dataset(dataset, is_accepted=lambda error: error.code == "empty_file")
    assert "0.png: the file is empty" not in str(caught.value)
    report = require_valid_dataset(dataset, is_accepted=lambda error: True)
    assert len(report.errors) == 2


def test_samples_that_were_not_scanned_are_not_checked(clean: Path) -> None:
    """Training scans train and val, so a class may be missing in test."""
    put("images/test/0.png", noise())(clean)
    put("masks/test/0.png", mask(0))(clean)
    dataset = Dataset.load(clean)
    seen = [s for s in dataset.samples if s.split != "test"]
    assert require_valid_dataset(scan_dataset(dataset, seen)).findings == ()
    assert found(check(clean)) == ["class_not_in_split"]


STEMS = ("ada", "bob", "cid", "dan")
BROKEN = STEMS[:3]


def _write_coco(root: Path) -> list[str]:
    images = [{"id": stem, "file_name": f"{stem}.png", "height": 24, "width": 32} for stem in STEMS]
    annotations = [{"id": stem, "image_id": stem, "category_id": 1, "segmentation": []} for stem in BROKEN]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "all.json").write_text(json.dumps(content), encoding="utf-8")
    return [f"all.json: images/{stem}.png" for stem in BROKEN]


def _write_cvat(root: Path) -> list[str]:
    shapes = dict.fromkeys(BROKEN, '<polyline label="a" points="1,1;2,2"/>')
    images = [f'<image name="{s}.png" width="32" height="24">{shapes.get(s, "")}</image>' for s in STEMS]
    labels = "<meta><labels><label><name>a</name></label><label><name>b</name></label></labels></meta>"
    content = f"<annotations>{labels}{''.join(images)}</annotations>"
    (root / "annotations.xml").write_text(content, encoding="utf-8")
    return [f"annotations.xml: images/{stem}.png" for stem in BROKEN]


def _list_contents() -> dict[str, tuple[bytes, bytes]]:
    return {
        stem: (encode_png(noise(n)), b"" if stem in BROKEN else encode_png(mask(0, 1))) for n, stem in enumerate(STEMS)
    }


def _write_shard(root: Path) -> list[str]:
    with tarfile.open(root / "train-0.tar", "w") as shard:
        for stem, (image, label) in _list_contents().items():
            for name, content in ((f"{stem}.png", image), (f"{stem}.mask.png", label)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return [f"train-0.tar: {stem}.mask.png" for stem in BROKEN]


def _write_table(root: Path) -> list[str]:
    images, labels = zip(*_list_contents().values(), strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": labels}), root / "train.parquet")
    return [f"train.parquet: row {row}: label" for row in range(3)]


@pytest.mark.parametrize("write", [_write_coco, _write_cvat, _write_shard, _write_table])
def test_every_broken_pair_of_one_file_is_named_and_nothing_follows(
    write: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    if write in (_write_coco, _write_cvat):
        for number, stem in enumerate(STEMS):
            put(f"images/{stem}.png", noise(number))(tmp_path)
    files = write(tmp_path)
    findings = [finding for finding in check(tmp_path).findings if finding.severity != "note"]
    assert [(f.code, list(f.files)) for f in findings if f.code != "empty_mask"] == [("unreadable_mask", files)]


def test_classes_of_one_fault_are_one_finding(clean: Path) -> None:
    describe("names: [a, b, c, d, e, f, g]\n")(clean)
    put("masks/train/1.png", mask(0, 1, 2, 3, 4))(clean)
    unused, rare = check(clean).findings
    assert (rare.code, rare.files) == ("class_in_one_image", ("masks/train/1.png",))
    assert rare.message.startswith("2 classes ('d', 'e') occur in one mask only: masks/train/1.png")
    assert (unused.code, unused.message) == ("class_unused", "2 classes ('f', 'g') do not occur in any mask.")


def test_classes_that_lack_in_a_split_are_one_finding(clean: Path) -> None:
    all_masks(lambda _: mask(0), "val")(clean)
    all_masks(lambda _: mask(0, 1, 2), "train")(clean)
    (finding,) = check(clean).findings
    assert finding.message == "2 classes ('b', 'c') do not occur in val, so they are not evaluated there."
    all_masks(lambda _: mask(0, 1), "train", "names: [a, b, c, d]\n")(clean)
    all_masks(lambda _: mask(0, 1, 2, 3), "val", "names: [a, b, c, d]\n")(clean)
    (finding,) = check(clean).findings
    assert finding.message == "2 classes ('c', 'd') occur in val, but not in train, so they are not learned."


def test_nothing_is_said_of_the_classes_of_a_split_with_unreadable_masks(clean: Path) -> None:
    all_masks(lambda _: mask(0, 1), "val")(clean)
    put_bytes("masks/val/0.png", b"a text")(clean)
    assert found(check(clean)) == ["unreadable_mask"]


def test_the_best_pattern_of_names_is_part_of_the_fix(clean: Path) -> None:
    for path in (clean / "masks").glob("*/*.png"):
        path.rename(path.with_name(f"truth{'' if path.stem == '1' else 'z'}{path.name}"))
    (finding,) = (f for f in check(clean).findings if f.code == "missing_mask")
    assert re.search(
        r"^The best pattern .*, such as \d.png with truthz\d.png, pairs 7 of 9 images; 95 % are needed",
        finding.fix,
    )


def replace_by_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("x")


def clear(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


UNREADABLE: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "missing": (shutil.rmtree, {}, "does not exist"),
    "a file": (replace_by_file, {}, "is a file"),
    "empty": (clear, {}, "contains no images"),
    "other folders": (
        lambda root: (root / "images").rename(root / "Photos"),
        {},
        r"Folders with pictures: Photos/train",
    ),
    "another format": (lambda root: None, {"format": "voc"}, "Expected the layout of format 'voc'"),
    "unreadable": (lambda root: root.chmod(0), {}, "permission|not readable"),
    "invalid description": (put_bytes("dataset.yaml", b"names: [a"), {}, "is not valid YAML"),
    "unknown key": (put_bytes("dataset.yaml", b"nmaes: [a]"), {}, "has the unknown key 'nmaes'. Did you mean 'names'"),
    "unknown format": (lambda root: None, {"format": "foldr"}, "Unknown"),
    "invalid groups": (lambda root: None, {"group_by": "("}, "not a valid regular expression"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_are_written_if_the_dataset_cannot_be_read(tmp_path: Path, name: str) -> None:
    plant, options, message = UNREADABLE[name]
    data = write_clean(tmp_path / "data")
    plant(data)
    files = {"json_path": tmp_path / "out/report.json", "html_path": tmp_path / "out/page.html"}
    with respect_permissions(), pytest.raises(PixelwiseError, match=message) as caught:
        check(data, **files, **options)
    if data.exists():
        data.chmod(0o700)
    report = json.loads(files["json_path"].read_text(encoding="utf-8"))
    [finding] = report["findings"]
    assert (finding["code"], finding["severity"], finding["files"]) == ("unreadable_dataset", "error", [])
    assert f"{finding['message']} {finding['fix']}".strip() == str(caught.value)
    assert finding["message"] in html.unescape(files["html_path"].read_text(encoding="utf-8"))


def test_files_are_written_if_reading_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_clean(tmp_path / "data")

    def fail(dataset: Dataset) -> Dataset:
        raise OSError(errno.EMFILE, "Too many open files", str(data / "images/train/0.png"))

    monkeypatch.setattr(scan, "scan_dataset", fail)
    with pytest.raises(PathAccessError, match=r"0\.png cannot be read or written \(too many files are open\)\. Raise"):
        check(data, json_path=tmp_path / "report.json", html_path=tmp_path / "page.html")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["format"], report["num_images"], len(report["findings"])) == ("folder", 9, 1)
    assert "too many files are open" in (tmp_path / "page.html").read_text(encoding="utf-8")
