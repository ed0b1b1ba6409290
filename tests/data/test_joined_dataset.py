import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import pixelwise as pw
from pixelwise.data.colors import GRAY, PALETTE
from pixelwise.data.io.images import encode_png, write_png
from pixelwise.data.joined_dataset import load_datasets
from pixelwise.errors import DataError, InvalidArgumentError
from support.mask_datasets import MASK_DATASETS, image, mask, pairs, text

SQUARE = [0, 0, 3, 0, 3, 4, 0, 4]


def write_coco(root: Path, names: Sequence[str], shown: str, stem: str = "a") -> Path:
    """Write an image of 4x6 pixels whose left half shows one of the classes."""
    write_png(root / f"images/{stem}.png", image())
    content = {
        "images": [{"id": 1, "file_name": f"{stem}.png", "height": 4, "width": 6}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": names.index(shown), "segmentation": [SQUARE]}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
    }
    text(root / "all.json", json.dumps(content))
    return root


def read_left(folders: Sequence[Path]) -> Mapping[str, str]:
    """Return the class in the left half of each sample of a joined dataset."""
    dataset = load_datasets(folders)
    found = {sample.name: np.unique(dataset.read(sample)[1][:, :3]).tolist() for sample in dataset.samples}
    return {name: dataset.classes.names[label] for name, (label,) in found.items()}


def test_one_folder_is_loaded_as_it_is(tmp_path: Path) -> None:
    MASK_DATASETS["folder"].build(tmp_path)
    for path in (tmp_path, str(tmp_path), [tmp_path]):
        dataset = load_datasets(path)
        assert (dataset.root, dataset.folders, dataset.location) == (tmp_path, (tmp_path,), str(tmp_path))
        assert dataset.samples[0].name == "train/a"


def test_samples_are_named_after_their_folders(tmp_path: Path) -> None:
    for site in ("one site", "two"):
        MASK_DATASETS["folder"].build(tmp_path / site)
    dataset = load_datasets([tmp_path / "one site", tmp_path / "two"])
    assert (dataset.root, dataset.format) == (tmp_path, "folder")
    assert dataset.location == f"'{tmp_path}/one site' {tmp_path}/two"
    names = [f"{split}/{site}/{name}" for split in ("train", "val") for site in ("one site", "two") for name in "ab"]
    assert [(s.name, s.split) for s in dataset.samples] == [(name, name.partition("/")[0]) for name in names]
    assert dataset.get_image_file(dataset.samples[0]) == "one site/img_dir/train/a.png"
    for sample in dataset.samples:
        pixels, labels = dataset.read(sample)
        assert (pixels.shape, set(np.unique(labels))) == ((4, 6, 3), {0, 1, 255})


def test_classes_of_several_folders_have_their_own_colors(tmp_path: Path) -> None:
    """Each folder alone has the first colors of the palette."""
    folders = [write_coco(tmp_path / name, [name, "car"], name) for name in ("one", "two")]
    classes = load_datasets(folders).classes
    assert classes.names == ("background", "one", "car", "two")
    assert classes.colors == (GRAY, *PALETTE[:3])


def test_folders_of_one_name_keep_the_folders_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for site in "ab":
        MASK_DATASETS["voc"].build(tmp_path / site / "data")
    monkeypatch.chdir(tmp_path)
    for paths in ((Path("a/data"), Path("b/data")), (Path("a/data"), tmp_path / "b/data"), ("a/data", "a/../b/data")):
        names = [sample.name for sample in load_datasets(paths).samples]
        assert names[:3] == ["train/a/data/2007_000032", "train/a/data/2008_000051", "train/b/data/2007_000032"]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """The same classes with other ids.

    report: https://github.com/ultralytics/yolov5/issues/12310
    """
    one = write_coco(tmp_path / "one", ["background", "disc", "box"], "disc")
    two = write_coco(tmp_path / "two", ["box", "background", "disc"], "disc")
    three = write_coco(tmp_path / "three", ["ring", "disc"], "ring")
    assert read_left([one, two]) == {"one/a": "disc", "two/a": "disc"}
    dataset = load_datasets([one, two, three])
    assert dataset.classes.names == ("background", "disc", "box", "ring")
    assert read_left([one, two, three]) == {"one/a": "disc", "two/a": "disc", "three/a": "ring"}
    assert [(fault.code, fault.files, fault.problem) for fault in dataset.index.faults] == [
        ("classes_differ", (one,), "without the classes 'ring' of the others"),
        ("classes_differ", (two,), "without the classes 'ring' of the others"),
        ("classes_differ", (three,), "without the classes 'box' of the others"),
    ]


def test_formats_may_differ(tmp_path: Path) -> None:
    one = write_coco(tmp_path / "one", ["background", "disc", "box"], "box")
    pairs(tmp_path / "two", (7, 7, 7, 9, 9, 9), ("images/b.png", "masks/b.png"))
    text(tmp_path / "two/dataset.yaml", "names: [disc, background]\nlabel_mapping: {7: disc, 9: background}\n")
    dataset = load_datasets([one, tmp_path / "two"])
    assert dataset.format == "coco + folder"
    assert read_left([one, tmp_path / "two"]) == {"one/a": "box", "two/b": "disc"}
    write_png(tmp_path / "two/masks/b.png", mask(7, 8))
    with pytest.raises(DataError, match=r"two/masks/b.png: The mask contains the value 8, which no class has"):
        dataset.read(dataset.samples[1])


def test_masks_of_one_coding_keep_their_values(tmp_path: Path) -> None:
    for site, names in (("one", "[a, b]"), ("two", "[b, a]")):
        pairs(tmp_path / site, (7, 9, 3), ("images/a.png", "masks/a.png"))
        text(tmp_path / site / "dataset.yaml", f"names: {names}\nlabel_mapping: {{7: a, 9: b}}\nignore: [3]\n")
    dataset = load_datasets([tmp_path / "one", tmp_path / "two"])
    assert dataset.classes.label_mapping == {7: 0, 9: 1}
    assert [np.unique(dataset.read_mask(sample)).tolist() for sample in dataset.samples] == [[3, 7, 9]] * 2
    assert [np.unique(dataset.read_labels(sample)).tolist() for sample in dataset.samples] == [[0, 1, 255]] * 2


def test_names_that_differ_in_case_are_an_error_with_the_line_to_write(tmp_path: Path) -> None:
    one = write_coco(tmp_path / "one", ["background", "disc"], "disc")
    two = write_coco(tmp_path / "two", ["background", "Disc"], "Disc")
    message = r"'disc' in .*one and 'Disc' in .*two\. .* write this into .*two/dataset.yaml:\nrename: {Disc: disc}"
    with pytest.raises(DataError, match=message):
        load_datasets([one, two])
    text(two / "dataset.yaml", "rename: {Disc: disc}\n")
    assert read_left([one, two]) == {"one/a": "disc", "two/a": "disc"}


def test_a_folder_without_names_among_others_is_an_error(tmp_path: Path) -> None:
    one = write_coco(tmp_path / "one", ["background", "disc"], "disc")
    MASK_DATASETS["folder"].build(tmp_path / "two")
    with pytest.raises(DataError, match=r"two has no names of classes, but .*one has\. Write the names"):
        load_datasets([one, tmp_path / "two"])


def test_folders_in_each_other_are_an_error(tmp_path: Path) -> None:
    MASK_DATASETS["folder"].build(tmp_path)
    for folders in ([tmp_path, tmp_path], [tmp_path, tmp_path / "img_dir"], [tmp_path / "img_dir", tmp_path]):
        with pytest.raises(InvalidArgumentError, match=r"so its images would count twice. Give one of them"):
            load_datasets(folders)
    with pytest.raises(InvalidArgumentError, match=r"No dataset is given. Expected at least one folder"):
        load_datasets([])


@pytest.mark.parametrize(("key", "values"), [("channels", (3, 4)), ("nodata", (0, 255))])
def test_folders_of_different_images_are_an_error(key: str, values: tuple[int, int], tmp_path: Path) -> None:
    for value in values:
        MASK_DATASETS["folder"].build(tmp_path / str(value))
        text(tmp_path / str(value) / "dataset.yaml", f"{key}: {value}\n")
    with pytest.raises(DataError, match=f"The folders have different {key}: .* Convert one of them"):
        load_datasets([tmp_path / str(value) for value in values])


def test_readers_of_all_formats_know_their_samples(tmp_path: Path) -> None:
    """Samples have other names than when they were found."""
    for name in ("camvid", "nnunet"):
        for site in "ab":
            MASK_DATASETS[name].build(tmp_path / name / site)
        dataset = load_datasets([tmp_path / name / site for site in "ab"])
        assert (
            len({sample.name for sample in dataset.samples})
            == len(dataset.samples)
            == 2 * len(MASK_DATASETS[name].samples)
        )
        for sample in dataset.samples:
            assert np.unique(dataset.read(sample)[1]).tolist() == sorted(set(MASK_DATASETS[name].labels))


def test_check_names_files_of_all_folders_and_looks_into_no_other(tmp_path: Path) -> None:
    for site in ("one", "two"):
        MASK_DATASETS["folder"].build(tmp_path / site)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "nowhere")
    (tmp_path / "two/img_dir/train/c.png").write_bytes(encode_png(image()))
    copy = (tmp_path / "one/img_dir/train/a.png").read_bytes()
    (tmp_path / "two/img_dir/val/a.png").write_bytes(copy)
    report = pw.check([tmp_path / "one", tmp_path / "two"])
    found = {finding.code: finding.files for finding in report.findings}
    assert (report.num_images, report.splits) == (9, {"train": 4, "val": 4})
    assert found["missing_mask"] == ("two/img_dir/train/c.png",)
    assert found["duplicates_across_splits"] == ("one/img_dir/train/a.png", "two/img_dir/val/a.png")
    assert "broken_link" not in found
