import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelwise.cli import main
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats import FORMATS, detect_format
from pixelwise.data.formats.dataset_index import DatasetFormat, DatasetIndex
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import DataError, InvalidArgumentError, PathNotFoundError
from support.mask_datasets import MASK_DATASETS, SIZE, MaskDataset, mask, pairs, text
from support.shape_datasets import write_image


class MarkedFormat:
    """A format that is recognized by one file."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name

    def can_read(self, root: Path) -> bool:
        return (root / self.file_name).exists()

    def find_pairs(self, root: Path) -> DatasetIndex:
        return DatasetIndex(samples=())


@pytest.fixture
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    more: dict[str, DatasetFormat] = {"tiles": MarkedFormat("tiles.json"), "rolls": MarkedFormat("rolls.json")}
    monkeypatch.setattr("pixelwise.data.formats.FORMATS", {**FORMATS, **more})


@pytest.fixture
def holding(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.usefixtures("two_more")
def test_the_format_is_detected(holding: Callable[..., Path]) -> None:
    assert detect_format(holding()) == "folder"
    assert detect_format(holding("rolls.json")) == "rolls"


@pytest.mark.usefixtures("two_more")
def test_several_matching_formats_are_an_error(holding: Callable[..., Path]) -> None:
    root = holding("rolls.json", "tiles.json")
    with pytest.raises(DataError, match=r"fits several formats: tiles, rolls\. Choose one with --format"):
        detect_format(root)
    assert detect_format(root, "rolls") == "rolls"


def test_an_unknown_format_is_an_error_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="folder"):
        Dataset.load(tmp_path, "foldr")


def test_a_file_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png' is a file. Expected the folder of a dataset"):
        detect_format(tmp_path / "a.png")
    with pytest.raises(PathNotFoundError, match=r"Dataset '.*nowhere' does not exist. Expected the folder"):
        detect_format(tmp_path / "nowhere")


each_set = pytest.mark.parametrize("made", MASK_DATASETS.values(), ids=MASK_DATASETS)


@each_set
def test_a_dataset_is_recognized_as_only_one_format(made: MaskDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    special = [name for name, format in FORMATS.items() if name != "folder" and format.can_read(tmp_path)]
    assert special == [made.format] * (made.format != "folder")
    assert detect_format(tmp_path) == made.format


def test_the_folder_format_is_recognized(tmp_path: Path) -> None:
    assert not FORMATS["folder"].can_read(tmp_path)
    MASK_DATASETS["folder"].build(tmp_path)
    assert FORMATS["folder"].can_read(tmp_path)


@each_set
def test_pairs_classes_and_pixels_are_read(made: MaskDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    dataset = scan_dataset(dataset := Dataset.load(tmp_path), dataset.samples)
    found = dataset
    assert [(s.name, s.split) for s in found.samples] == made.samples
    plain = DatasetIndex(samples=found.samples, description=found.index.description)
    own = replace(plain, faults=found.index.faults, unlabeled_images=found.index.unlabeled_images)
    assert found.index == replace(own, channel_files=made is MASK_DATASETS["nnunet"])
    assert [fault.code for fault in found.index.faults] == [code for code in made.codes if code == "split_lists"]
    assert [r.image_error or r.mask_error for r in dataset.stats] == [None] * len(made.samples)
    assert found.channels == made.channels
    classes = found.classes
    assert classes is not None
    assert {index: classes.names[index] for index in made.classes} == made.classes
    assert len(classes.names) == max(made.classes) + 1
    for sample in found.samples:
        assert np.array_equal(found.read_mask(sample), mask(*made.values))
        pixels, labels = found.read(sample)
        assert np.array_equal(labels, np.resize(np.array(made.labels), labels.shape))
        assert pixels.shape == (*labels.shape, made.channels)


@each_set
def test_links_to_folders_are_followed(made: MaskDataset, tmp_path: Path) -> None:
    made.build(tmp_path / "store")
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "store").iterdir():
        (tmp_path / "data" / path.name).symlink_to(path)
    dataset = Dataset.load(tmp_path / "data")
    assert dataset.format == made.format
    assert [(s.name, s.split) for s in dataset.samples] == made.samples
    assert dataset.read(dataset.samples[0])[1].shape == SIZE


@each_set
def test_cycles_and_second_paths_change_nothing(made: MaskDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    for folder in folders:
        (folder / "cycle").symlink_to(tmp_path)
        if folder.parent != tmp_path and folder.name != "berlin":  # Cityscapes knows the cities of its test split
            (folder.parent / f"{folder.name}_again").symlink_to(folder)
    found = Dataset.load(tmp_path).index
    assert [(s.name, s.split) for s in found.samples] == made.samples
    assert (found.images_without_mask, found.masks_without_image, found.outside_splits) == ((), (), ())


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main.main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@each_set
def test_check_reports_the_format_and_its_findings(made: MaskDataset, tmp_path: Path) -> None:
    made.build(tmp_path / "data")
    assert run("check", tmp_path / "data", "--json", tmp_path / "check.json") == 0
    report = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert (report["format"], report["num_images"]) == (made.format, len(made.samples))
    assert [f["code"] for f in report["findings"] if f["code"] != "class_unused"] == made.codes


def test_a_dataset_with_channel_files_is_trained_and_evaluated(tmp_path: Path) -> None:
    """One file a channel: the format that differs most from a folder of pairs."""
    MASK_DATASETS["nnunet"].build(tmp_path / "data")
    tiny = [f"--set={setting}" for setting in ("network.base_channels=4", "network.depth=1", "training.batch_size=2")]
    assert run("train", tmp_path / "data", "-o", tmp_path / "run", "--steps", 2, "--device", "cpu", *tiny) == 0
    assert run("evaluate", tmp_path / "run", tmp_path / "data", "--json", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (scores["split"], list(scores["per_class"])) == ("test", ["background", "tree"])


def test_invalid_names_of_a_format_are_reported_with_the_folder(tmp_path: Path) -> None:
    pairs(tmp_path, (0, 1), ("images/a.png", "masks/a.png"))
    text(tmp_path / "class_dict.csv", "name,r,g,b\nroad,0,0,0\nroad,1,1,1\n")
    with pytest.raises(DataError, match=r"test_invalid_names\S+: 'names' lists 'road' twice"):
        Dataset.load(tmp_path)


def test_a_named_format_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No images found in .*Expected the layout of format 'voc'"):
        Dataset.load(tmp_path, "voc")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("via.json", '{"a.png1": {"regions": [{"shape_attributes": {}}]}}', "has annotations of VIA .* as COCO"),
        ("via3.json", '{"view": {"1": {"fid_list": ["1"]}}}', "has annotations of VIA .* as COCO"),
        ("via.csv", "filename,region_shape_attributes", "has annotations of VIA .* as COCO"),
        (
            "sub/a.json",
            '[{"value": {"polygonlabels": ["cat"]}}]',
            "is Label Studio's own JSON. Export .* 'COCO with images'",
        ),
        (
            "a.json",
            '[{"value": {"brushlabels": ["cat"]}}]',
            "is Label Studio's own JSON. Export .* as 'Brush labels to PNG'",
        ),
        (
            "Annotations/a.xml",
            "<annotation><object><bndbox></bndbox></object></annotation>",
            "has boxes .* no outlines",
        ),
    ],
)
def test_annotations_of_other_tools_are_an_error_that_names_the_export_to_choose(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    write_image(tmp_path / "pictures/a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name} {message}"):
        detect_format(tmp_path)
    for folder in ("images", "masks"):  # masks are read, with whatever other files
        write_image(tmp_path / folder / "a.png")
    assert detect_format(tmp_path) == "folder"
