import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import pixelwise as pw
from pixelwise.checks import Finding
from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import encode_png, write_png
from pixelwise.data.splits.splits import assign_folds
from pixelwise.errors import DataError, InvalidArgumentError
from support.mask_datasets import MASK_DATASETS, image, mask, pairs, text
from support.shape_datasets import SHAPE_DATASETS

STEMS = [f"{letter}x{letter}" for letter in "abcdefgh"]
"""Names without numbers, which would be frames of one video."""
SPLITS = {"train": STEMS[:4], "val": STEMS[4:6], "test": STEMS[6:]}
EXPECTED = [(f"{split}/{stem}", split) for split in sorted(SPLITS) for stem in SPLITS[split]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for stem in STEMS:
        pairs(tmp_path / "data", (0, 1), (f"images/{stem}.png", f"masks/{stem}.png"))
    return tmp_path / "data"


def write_lists(folder: Path, line: str = "{}", names: tuple[str, ...] = ("train.txt", "val.txt", "test.txt")) -> None:
    for name, stems in zip(names, SPLITS.values(), strict=True):
        text(folder / name, "".join(f"{line.format(stem)}\n" for stem in stems))


def read_splits(root: Path) -> list[tuple[str, str | None]]:
    dataset = Dataset.load(root)
    for sample in dataset.samples:
        dataset.read(sample)  # readers find it by its files
    assert [fault.code for fault in dataset.index.faults] == ["split_lists"]
    return [(sample.name, sample.split) for sample in dataset.samples]


def get_findings(root: Path) -> dict[str, Finding]:
    return {finding.code: finding for finding in pw.check(root).findings}


@pytest.mark.parametrize(
    "folder",
    [
        ".",
        "images",
        "splits",
        "Splits",
        "split",
        "lists",
        "split_list",
        "data_list",
        "data",
        "ImageSets",
        "ImageSets/Segmentation",
        "ImageSets/Main",
    ],
)
def test_lists_are_found(folder: str, root: Path) -> None:
    write_lists(root / folder)
    assert read_splits(root) == EXPECTED


@pytest.mark.parametrize(
    "names",
    [
        ("train.lst", "val.lst", "test.lst"),
        ("train.csv", "val.csv", "test.csv"),
        ("training.txt", "validation.txt", "testing.txt"),
        ("Train.txt", "valid.TXT", "Test.txt"),
        ("train_list.txt", "val_list.txt", "test_list.txt"),
        ("trainset.txt", "valset.txt", "testset.txt"),
        ("train-images.txt", "eval-images.txt", "test-images.txt"),
        ("autosplit_train.txt", "autosplit_val.txt", "autosplit_test.txt"),
        ("split_train.txt", "split_val.txt", "split_test.txt"),
    ],
)
def test_names_of_lists(names: tuple[str, str, str], root: Path) -> None:
    write_lists(root, names=names)
    assert read_splits(root) == EXPECTED


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "{}.png",
        "{}.jpg",
        "images/{}.png",
        "images/{}",
        "./images/{}.png",
        "../data/images/{}.png",
        "/home/someone/data/images/{}.png",
        "/content/train_images/{}.png",
        r"C:\Users\someone\data\images\{}.png",
        r"images\{}.png",
        "masks/{}.png",
        '"images/{}.png"',
        "{}.PNG",
        "{0}.png {0}.png",
        "{0}.png\t{0}.png",
        "images/{0}.png masks/{0}.png",
        "images/{0}.png, masks/{0}.png",
        "{0};{0}",
        "{} 1",
        "{} 1 1 1",
        "{}.png 0",
        "  {}  ",
    ],
)
def test_lines_of_lists(line: str, root: Path) -> None:
    write_lists(root / "splits", line)
    assert read_splits(root) == EXPECTED


@pytest.mark.parametrize("line", ["{0}.png {0}.png", "images/{0}.png masks/{0}.png"])
def test_lists_of_pairs_at_the_top(line: str, root: Path) -> None:
    write_lists(root, line)
    dataset = Dataset.load(root)
    assert {split: [s.image_path.stem for s in samples] for split, samples in dataset.splits.items()} == SPLITS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_comments_blank_and_repeated_lines_and_line_ends(encoding: str, root: Path) -> None:
    for split, stems in SPLITS.items():
        lines = ["# ours", "", *stems, "   ", *stems[:1]]
        (root / f"{split}.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert read_splits(root) == EXPECTED


def test_the_heading_of_a_table_is_skipped(root: Path) -> None:
    for split, stems in SPLITS.items():
        text(root / f"{split}.csv", "".join(f"{row}\n" for row in ("id,mask", *(f"{s},masks/{s}.png" for s in stems))))
    assert read_splits(root) == EXPECTED


def test_tables_of_other_things_are_no_lists(root: Path) -> None:
    text(root / "train.csv", "id,age\n1,35\n")
    text(root / "all.txt", "\n".join(STEMS))
    text(root / "train_split.json", json.dumps({"ratio": 0.8}))
    assert Dataset.load(root).index.faults == ()
    assert {sample.split for sample in Dataset.load(root).samples} == {None}


DOCUMENTS: dict[str, Callable[[], object]] = {
    "splits.json": lambda: SPLITS,
    "split.json": lambda: {split: [{"image": f"./images/{s}.png"} for s in stems] for split, stems in SPLITS.items()},
    "dataset_split.json": lambda: {stem: split for split, stems in SPLITS.items() for stem in stems},
    "data_splits.yaml": lambda: {"Training": SPLITS["train"], "validation": SPLITS["val"], "test": SPLITS["test"]},
    "splits/splits.yml": lambda: SPLITS,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_with_lists(name: str, root: Path) -> None:
    content = DOCUMENTS[name]()
    text(root / name, json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))
    assert read_splits(root) == EXPECTED


def test_names_in_yaml_that_look_like_numbers(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), *((f"images/00{n}.png", f"masks/00{n}.png") for n in range(1, 5)))
    text(tmp_path / "train_test_split.yaml", "train: [001, 002]\nval: [003]\ntest: [004]\n")
    assert [name for name, _ in read_splits(tmp_path)] == ["test/004", "train/001", "train/002", "val/003"]


def test_the_first_fold_of_nnunet(tmp_path: Path) -> None:
    names = [*"abcd", "e"]
    pairs(tmp_path, (0, 1), *((f"imagesTr/{n}_0000.png", f"labelsTr/{n}.png") for n in names[:4]))
    pairs(tmp_path, (0, 1), ("imagesTs/e_0000.png", "labelsTs/e.png"))
    info = {"channel_names": {"0": "R"}, "labels": {"background": 0, "x": 1}, "file_ending": ".png"}
    text(tmp_path / "dataset.json", json.dumps(info))
    folds = [{"train": [*"abcd".replace(out, "")], "val": [out]} for out in "abcd"]
    text(tmp_path / "splits_final.json", json.dumps(folds))
    assert read_splits(tmp_path) == [
        ("test/e", "test"), ("train/b", "train"), ("train/c", "train"), ("train/d", "train"), ("val/a", "val")
    ]  # fmt: skip
    message = get_findings(tmp_path)["split_lists"].message
    assert "of whose 4 folds the first is used (all by train --folds 4): splits_final.json" in message
    assignments = assign_folds(Dataset.load(tmp_path), DataConfig(), 4, seed=0)
    assert [[s.image_path.name[0] for s in a.splits["val"]] for a in assignments] == [["a"], ["b"], ["c"], ["d"]]
    assert [len(a.splits["train"]) for a in assignments] == [3] * 4
    assert [s.name for s in assignments[0].splits["test"]] == ["test/e"]
    with pytest.raises(InvalidArgumentError, match=r"defines 4 folds, but --folds is 3\. Use --folds 4, or remove"):
        assign_folds(Dataset.load(tmp_path), DataConfig(), 3, seed=0)
    folds[1]["val"] = ["gone"]
    text(tmp_path / "splits_final.json", json.dumps(folds))
    with pytest.raises(DataError, match=r"Fold 2 .* has 4 images for training and 0 for validation"):
        assign_folds(Dataset.load(tmp_path), DataConfig(), 4, seed=0)


def test_a_test_split_without_masks(tmp_path: Path) -> None:
    pairs(
        tmp_path,
        (0, 1),
        *((f"{split}/images/{n}.png", f"{split}/masks/{n}.png") for split, n in (("train", "a"), ("val", "b"))),
    )
    write_png(tmp_path / "test/images/c.png", image())
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        text(tmp_path / f"{split}.txt", f"{name}\n")
    index = Dataset.load(tmp_path).index
    assert (index.unlabeled_images, index.images_without_mask) == ((tmp_path / "test/images/c.png",), ())
    assert index.faults == ()
    text(tmp_path / "train.txt", "a\nc\n")
    text(tmp_path / "test.txt", "")
    index = Dataset.load(tmp_path).index
    assert (index.unlabeled_images, index.images_without_mask) == ((), (tmp_path / "test/images/c.png",))


def test_trainval_is_train_without_val(root: Path) -> None:
    write_lists(root, names=("trainval.txt", "val.txt", "test.txt"))
    text(root / "trainval.txt", "\n".join(SPLITS["train"] + SPLITS["val"]))
    assert read_splits(root) == EXPECTED
    (root / "val.txt").unlink()
    assert [len(samples) for samples in Dataset.load(root).splits.values()] == [6, 2]


def test_without_a_list_for_train_the_rest_is_trained_on(root: Path) -> None:
    write_lists(root)
    (root / "train.txt").unlink()
    assert read_splits(root) == EXPECTED


def test_images_in_no_list_are_named_and_not_trained_on(root: Path) -> None:
    write_lists(root)
    text(root / "train.txt", "\n".join(SPLITS["train"][1:]))
    write_png(root / "images/unlabeled.png", image())
    report = pw.check(root)
    assert report.splits == {"train": 3, "val": 2, "test": 2}
    found = {finding.code: finding for finding in report.findings}
    assert found["not_listed"].files == (f"images/{STEMS[0]}.png",)
    assert "missing_mask" not in found


def test_names_that_do_not_exist_are_all_named(root: Path) -> None:
    write_lists(root)
    text(root / "val.txt", "\n".join([*SPLITS["val"], "gone", "images/lost.png"]))
    finding = get_findings(root)["missing_listed"]
    assert (finding.severity, finding.files) == ("error", ("val.txt: gone", "val.txt: images/lost.png"))
    text(root / "val.txt", "\n".join(SPLITS["val"]))
    assert "missing_listed" not in get_findings(root)


def test_a_list_of_other_files_is_an_error(root: Path) -> None:
    text(root / "train.txt", "other/1.png\nother/2.png\n")
    assert get_findings(root)["missing_listed"].files == ("train.txt: other/1.png", "train.txt: other/2.png")


def test_a_name_of_several_images_needs_its_folder(tmp_path: Path) -> None:
    for site in "ab":
        pairs(tmp_path, (0, 1), *((f"images/{site}/{n}.png", f"masks/{site}/{n}.png") for n in ("1", "2")))
    text(tmp_path / "train.txt", "a/1\na/2.png\nb/1\n")
    text(tmp_path / "val.txt", "2\n")
    assert get_findings(tmp_path)["missing_listed"].files == ("val.txt: 2",)
    text(tmp_path / "val.txt", "b/2\n")
    assert read_splits(tmp_path) == [
        ("train/a/1", "train"),
        ("train/a/2", "train"),
        ("train/b/1", "train"),
        ("val/b/2", "val"),
    ]


def test_a_folder_that_does_not_exist_is_not_another_folder(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("images/a/1.png", "masks/a/1.png"), ("images/a/2.png", "masks/a/2.png"))
    text(tmp_path / "train.txt", "a/2\n")
    text(tmp_path / "val.txt", "b/1\n")
    assert get_findings(tmp_path)["missing_listed"].files == ("val.txt: b/1",)


@pytest.mark.parametrize(
    ("names", "unused"),
    [
        (
            ["splits/fold_0/train.txt", "splits/fold_1/train.txt"],
            ["splits/fold_0/train.txt", "splits/fold_1/train.txt"],
        ),
        (["train_fold0.txt", "val.txt"], ["train_fold0.txt"]),
        (["train.txt", "splits/train.txt"], ["splits/train.txt"]),
        (["train.txt", "train_list.txt"], ["train_list.txt"]),
        (["splits.json"], ["splits.json"]),
    ],
)
def test_a_list_that_is_not_used_is_an_error_with_its_name(names: list[str], unused: list[str], root: Path) -> None:
    for number, name in enumerate(names):
        stems = STEMS[number : number + 3]
        text(root / name, json.dumps({"a": stems}) if name.endswith(".json") else "\n".join(stems))
    finding = get_findings(root)["unused_list"]
    assert (finding.severity, list(finding.files)) == ("error", unused)


def test_further_lists_that_say_the_same_or_are_parts_are_no_fault(root: Path) -> None:
    write_lists(root)
    write_lists(root / "splits", "images/{}.png")
    text(root / "train_small.txt", STEMS[0])
    text(root / "splits.json", json.dumps(SPLITS))
    assert read_splits(root) == EXPECTED


def test_masks_among_the_images(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), *((f"images/{name}.png", f"labels/{name}_P.png") for name in "abc"))
    text(tmp_path / "valid.txt", "b.png\n")
    assert [name for name, _ in read_splits(tmp_path)] == ["train/a", "train/c", "val/b"]


def test_lists_change_the_splits_of_folders(tmp_path: Path) -> None:
    names = [("train", "a"), ("train", "b"), ("train", "c"), ("test", "c")]
    pairs(tmp_path, (0, 1), *((f"images/{split}/{name}.png", f"masks/{split}/{name}.png") for split, name in names))
    text(tmp_path / "val.txt", "train/b\n")
    assert read_splits(tmp_path) == [("test/c", "test"), ("train/a", "train"), ("train/c", "train"), ("val/b", "val")]
    text(tmp_path / "test.txt", "train/c\ntest/c\n")
    assert [name for name, _ in read_splits(tmp_path)] == ["test/c", "test/train/c", "train/a", "val/b"]


def test_a_second_column_pairs_files_of_different_names(tmp_path: Path) -> None:
    for name in ("1", "2"):
        pairs(tmp_path, (0, 1), (f"images/img_{name}.png", f"masks/truth{name}.png"))
        text(tmp_path / f"splits/{'train' if name == '1' else 'val'}.txt", f"img_{name}.png truth{name}.png\n")
    index = Dataset.load(tmp_path).index
    assert [(s.split, s.image_path.name, s.mask_path.name) for s in index.samples] == [
        ("train", "img_1.png", "truth1.png"),
        ("val", "img_2.png", "truth2.png"),
    ]
    assert (index.images_without_mask, index.masks_without_image) == ((), ())


def test_a_second_column_may_name_masks_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """The lists of the augmented VOC set, which name masks in SegmentationClassAug.

    report: https://github.com/Eli-YiLi/WSSS_MMSeg/issues/2
    """
    MASK_DATASETS["voc"].build(tmp_path)
    stems = ["2007_000032", "2008_000051", "2009_000001"]
    for stem in stems:
        write_png(tmp_path / f"SegmentationClassAug/{stem}.png", mask(1))
    lists = tmp_path / "ImageSets/Segmentation"
    text(lists / "train.txt", "".join(f"/JPEGImages/{s}.jpg /SegmentationClassAug/{s}.png\n" for s in stems))
    index = Dataset.load(tmp_path).index
    assert [s.mask_path.parent.name for s in index.samples] == [*["SegmentationClassAug"] * 3, "SegmentationClass"]
    assert (index.images_without_mask, [fault.code for fault in index.faults]) == ((), ["split_lists"])
    (lists / "trainval.txt").unlink()
    (lists / "train.txt").rename(lists / "train_aug.txt")
    assert get_findings(tmp_path)["unused_list"].files == ("ImageSets/Segmentation/train_aug.txt",)


def test_a_second_column_overrides_the_mask_of_the_same_name(root: Path) -> None:
    write_png(root / "masks/other.png", mask(1, 1, 0))
    write_lists(root / "splits")
    text(root / "splits/val.txt", f"{STEMS[4]}.png other.png\n{STEMS[5]}.png nowhere.png\n")
    dataset = Dataset.load(root)
    assert [s.mask_path.name for s in dataset.splits["val"]] == ["other.png"]
    assert get_findings(root)["missing_listed"].files == (f"splits/val.txt: {STEMS[5]}.png nowhere.png",)


def test_text_files_of_labels_are_no_lists(tmp_path: Path) -> None:
    """YOLO's labels of an image called test."""
    for name in ("test", "other"):
        write_png(tmp_path / f"train/{name}.png", image())
        text(tmp_path / f"train/{name}.txt", "0 0 0 1 0 1 1\n")
    text(tmp_path / "data.yaml", "train: train\nnames: [cat]\n")
    dataset = Dataset.load(tmp_path)
    assert (dataset.format, dataset.index.faults, len(dataset)) == ("yolo", (), 2)


def test_an_empty_list_is_an_empty_split(root: Path) -> None:
    write_lists(root)
    text(root / "test.txt", "\n")
    report = pw.check(root)
    assert report.splits == {"train": 4, "val": 2}
    assert {f.code: f.files for f in report.findings}["not_listed"] == tuple(f"images/{s}.png" for s in SPLITS["test"])


@pytest.mark.parametrize("name", sorted({*SHAPE_DATASETS} - {"yolo"}))
def test_lists_are_obeyed_by_formats_of_shapes(name: str, tmp_path: Path) -> None:
    write, names = SHAPE_DATASETS[name]
    write(tmp_path)
    stems = [sample_name.rpartition("/")[2] for sample_name in names]
    text(tmp_path / "splits/val.txt", f"{stems[0]}.png\n")
    text(tmp_path / "splits/train.txt", f"{stems[1]}.png\n")
    assert [(Path(sample).name, split) for sample, split in read_splits(tmp_path)] == [
        (stems[1], "train"),
        (stems[0], "val"),
    ]


@pytest.mark.parametrize("name", ["voc", "ade20k", "nnunet"])
def test_lists_are_obeyed_by_formats_of_masks(name: str, tmp_path: Path) -> None:
    MASK_DATASETS[name].build(tmp_path)
    samples = Dataset.load(tmp_path).samples
    text(tmp_path / "splits/test.txt", f"{samples[0].image_path.stem}\n")
    (other,) = [sample for sample in Dataset.load(tmp_path).samples if sample.image_path == samples[0].image_path]
    assert other.split == "test"


def test_lists_of_samples_in_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all-000000.tar", "w") as shard:
        for stem in STEMS:
            for name, pixels in ((f"{stem}.png", image()), (f"{stem}.mask.png", mask(0, 1))):
                member = tarfile.TarInfo(name)
                content = encode_png(pixels)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    text(tmp_path / "val.txt", "all-000000.tar\n")  # a list of shards
    assert Dataset.load(tmp_path).index.faults == ()
    write_lists(tmp_path)
    assert read_splits(tmp_path) == EXPECTED


@pytest.mark.parametrize("name", ["yolo", "camvid"])
def test_formats_with_lists_of_their_own_keep_them(name: str, tmp_path: Path) -> None:
    build = SHAPE_DATASETS["yolo"][0] if name == "yolo" else MASK_DATASETS["camvid"].build
    build(tmp_path)
    before = Dataset.load(tmp_path).index
    stem = next(sample.image_path.stem for sample in before.samples if sample.split == "train")
    text(tmp_path / "splits/val.txt", stem)
    after = Dataset.load(tmp_path).index
    assert after.samples == before.samples
    (fault,) = after.faults
    assert (fault.code, fault.files) == ("unused_list", (tmp_path / "splits/val.txt",))
    text(tmp_path / "splits/val.txt", "\n".join(s.name for s in before.samples if s.split == "val"))
    assert Dataset.load(tmp_path).index.faults == ()
