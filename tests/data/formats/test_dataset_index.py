import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelwise as pw
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SplitFiles,
    find_images_outside,
    find_split_paths,
    group_by_stem,
    pair_files,
    read_class_names,
    read_lines,
    separate_unlabeled_test,
)
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, PathNotFoundError
from support.mask_datasets import text


def test_files_of_one_name_are_pairs_and_others_are_listed() -> None:
    a, b, c, d, e = (Path(f"{letter}.png") for letter in "abcde")
    part = SplitFiles(images={"1": [a], "2": [b], "3": [c, d]}, labels={"1": [c], "3": [a], "4": [e]}, split="val")
    found = pair_files([part])
    assert [(s.name, s.image_path, s.mask_path, s.split) for s in found.samples] == [("val/1", a, c, "val")]
    assert (found.images_without_mask, found.masks_without_image, found.same_stem) == ((b,), (e,), (c, d))


FILES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3))


@given(FILES, FILES)
def test_every_file_is_listed_once(images: dict[str, int], labels: dict[str, int]) -> None:
    """A file whose partner is ambiguous is told by those it clashes with."""
    kinds = [
        {name: [Path(kind, f"{name}{number}.png") for number in range(count)] for name, count in counts.items()}
        for kind, counts in (("images", images), ("labels", labels))
    ]
    found = pair_files([SplitFiles(images=kinds[0], labels=kinds[1], split=None)])
    told = [path for s in found.samples for path in (s.image_path, s.mask_path)]
    told += [*found.images_without_mask, *found.masks_without_image, *found.same_stem]
    everything = {path for files in kinds for paths in files.values() for path in paths}
    assert len(told) == len(set(told))
    clashing = {path.name[0] for path in found.same_stem}
    assert {path.name[0] for path in everything - set(told)} <= clashing


def test_a_test_split_without_masks_is_dropped() -> None:
    image, mask = Path("1.png"), Path("2.png")
    for split in ("train", "val", "test", None):
        found = pair_files([SplitFiles(images={"1": [image]}, labels={}, split=split)])
        assert (found.unlabeled_images, found.images_without_mask) == (
            ((image,), ()) if split == "test" else ((), (image,))
        )
    found = pair_files([SplitFiles(images={"1": [image]}, labels={"2": [mask]}, split="test")])
    assert (found.unlabeled_images, found.images_without_mask) == ((), (image,))


def test_stems_are_paths_below_the_folder(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/a.b.JPG", "x/a.txt", ".x/a.png"):
        text(tmp_path / name, "")
    assert sorted(group_by_stem(tmp_path)) == ["x/a", "x/a.b"]
    assert group_by_stem(tmp_path / "nowhere") == {}


def test_images_outside_the_folders_are_found(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "2.png", "b/1.txt"):
        text(tmp_path / name, "")
    assert find_images_outside([tmp_path], [tmp_path / "a"]) == (tmp_path / "2.png", tmp_path / "b/1.png")


def test_splits_are_found_by_name() -> None:
    paths = [Path(name) for name in ("Training", "valid", "val", "test.txt", "train.old", "Test.old")]
    assert find_split_paths(paths) == {"train": Path("Training"), "val": Path("val"), "test": Path("test.txt")}
    assert find_split_paths([Path("valid"), Path("eval")]) == {}


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\n b c \n")
    assert read_lines(tmp_path / "list.txt") == [(1, "a"), (3, "b c")]
    with pytest.raises(PathNotFoundError, match=r"none.txt: The file does not exist"):
        read_lines(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"list.txt: The file is not UTF-8 text. Save it as UTF-8"):
        read_lines(tmp_path / "list.txt")


def test_class_names_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    text(path, "road\n\ntraffic light\n")
    assert read_class_names(path) == ["road", "traffic light"]
    text(path, "road\nsky\nroad\n")
    with pytest.raises(DataError, match=r"names.txt, line 3: The class 'road' is listed twice"):
        read_class_names(path)
    text(path, "\n")
    with pytest.raises(DataError, match=r"names.txt lists no classes. Write one name per line"):
        read_class_names(path)


def _remove_masks_of_test(root: Path, to: str) -> None:
    """Remove the labels of the test split of a dataset that `convert` has written."""
    for name in ("masks/test", "labels/test", "labelsTs"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "annotations/instances_test.json").unlink(missing_ok=True)
    if to == "voc":
        for name in (root / "ImageSets/Segmentation/test.txt").read_text().split():
            (root / f"SegmentationClass/{name}.png").unlink()
    for path in root.glob("test-*.tar"):
        with tarfile.open(path) as shard:
            members = {m.name: shard.extractfile(m).read() for m in shard if "mask" not in m.name}  # type: ignore[union-attr]
        with tarfile.open(path, "w") as shard:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("to", ["folder", "voc", "coco", "yolo", "nnunet", "webdataset"])
def test_a_test_split_without_masks_is_a_note_in_every_format(streets: Path, tmp_path: Path, to: Any) -> None:
    pw.convert(streets, tmp_path / "data", to=to)
    _remove_masks_of_test(tmp_path / "data", to)
    report = pw.check(tmp_path / "data")
    assert report.errors == ()
    (note,) = (finding for finding in report.findings if finding.code == "unlabeled_images")
    assert (note.severity, len(note.files)) == ("note", 4)
    assert "test" not in report.splits


def test_only_a_test_split_without_any_mask_is_unlabeled(tmp_path: Path) -> None:
    test, other = tmp_path / "test2017/1.png", tmp_path / "contest/1.png"
    index = DatasetIndex(samples=(), images_without_mask=(other, test), outside_splits=(tmp_path / "x.png",))
    found = separate_unlabeled_test(tmp_path, index)
    assert (found.unlabeled_images, found.images_without_mask) == ((test,), (other,))
    assert found.outside_splits == (tmp_path / "x.png",)
    sample = Sample(name="test/2", image_path=test, mask_path=test, split="test")
    assert separate_unlabeled_test(tmp_path, replace(index, samples=(sample,))).images_without_mask == (other, test)
