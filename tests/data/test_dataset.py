from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import DataLoader

from pixelwise.data.dataset import Dataset, describe_unlisted_values, match_channels
from pixelwise.data.formats.dataset_index import SampleReader
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, InvalidArgumentError, PathAccessError, PathNotFoundError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
MASK = np.array([[0, 0, 1, 1, 2, 255]] * 4, np.uint8)
NAMES = "names: [sky, road, car]\n"
COLORS = "colors: [[10, 0, 0], [0, 20, 0], [0, 0, 30]]\n"
COLORED = np.array([[[10, 0, 0], [0, 20, 0], [0, 0, 30]]] * 4, np.uint8)


def write_dataset(root: Path, description: str = NAMES, **masks: Array) -> Path:
    """Write an image of the same size for each mask, and dataset.yaml."""
    for name, mask in (masks or {"a": MASK}).items():
        shape = (*mask.shape[:2], 3)
        write_png(root / f"images/{name}.png", np.resize(IMAGE, shape))
        write_png(root / f"masks/{name}.png", mask)
    (root / "dataset.yaml").write_text(description, encoding="utf-8")
    return root


def test_a_sample_is_read(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path))
    assert (dataset.format, dataset.root, dataset.channels) == ("folder", tmp_path, None)
    image, labels = dataset.read(dataset.samples[0])
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, MASK)
    assert labels.dtype == np.uint8


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    assert Dataset.load(str(write_dataset(tmp_path))).root == tmp_path


@pytest.mark.parametrize("description", ["", "channels: 3\n"])
def test_without_names_classes_are_found_in_the_masks(tmp_path: Path, description: str) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, description))
    assert dataset.declared_classes is None
    assert dataset.classes.names == ("0", "1", "2")
    np.testing.assert_array_equal(dataset.read_labels(dataset.samples[0]), MASK)


def test_without_a_description_no_classes_are_declared(tmp_path: Path) -> None:
    (write_dataset(tmp_path) / "dataset.yaml").unlink()
    assert Dataset.load(tmp_path).declared_classes is None


def test_classes_may_be_set(tmp_path: Path) -> None:
    described = Dataset.load(write_dataset(tmp_path))
    (tmp_path / "dataset.yaml").unlink()
    dataset = Dataset.load(tmp_path).with_classes(described.classes, 3)
    assert dataset.channels == 3
    np.testing.assert_array_equal(dataset.read_labels(dataset.samples[0]), MASK)


# How masks are coded.


def get_coding(dataset: Dataset) -> str:
    return dataset.classes.coding


def test_rgb_masks_are_read_by_their_colors(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, NAMES + COLORS, a=COLORED))
    assert get_coding(dataset) == "rgb"
    assert dataset.read_labels(dataset.samples[0]).tolist() == [[0, 1, 2]] * 4


def test_rgb_masks_are_read_by_a_mapping_of_colors(tmp_path: Path) -> None:
    mapping = "label_mapping:\n  10, 0, 0: car\n  0, 20, 0: road\n  0, 0, 30: road\n"
    dataset = Dataset.load(write_dataset(tmp_path, NAMES + mapping, a=COLORED))
    assert dataset.read_labels(dataset.samples[0]).tolist() == [[2, 1, 1]] * 4


def test_index_masks_with_colors_stay_index_masks(tmp_path: Path) -> None:
    assert get_coding(Dataset.load(write_dataset(tmp_path, NAMES + COLORS))) == "index"


def test_index_masks_saved_with_three_channels_stay_index_masks(tmp_path: Path) -> None:
    gray = np.stack([MASK] * 3, -1)
    dataset = Dataset.load(write_dataset(tmp_path, NAMES + COLORS, a=gray))
    assert get_coding(dataset) == "index"
    np.testing.assert_array_equal(dataset.read_labels(dataset.samples[0]), MASK)


def test_black_and_white_may_be_colors(tmp_path: Path) -> None:
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[:, 3:] = 255
    text = "names: [ground, house]\ncolors: [[0, 0, 0], [255, 255, 255]]\n"
    dataset = Dataset.load(write_dataset(tmp_path, text, a=mask))
    np.testing.assert_array_equal(dataset.read_labels(dataset.samples[0]), mask[..., 0] // 255)


@pytest.mark.parametrize("empty", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8)])
def test_an_empty_mask_does_not_decide_the_coding(tmp_path: Path, empty: Array) -> None:
    text = NAMES + COLORS + "ignore: [0, 0, 0]\n"
    dataset = Dataset.load(write_dataset(tmp_path, text, a=empty, b=COLORED))
    assert get_coding(dataset) == "rgb"
    assert set(dataset.read_labels(dataset.samples[0]).ravel().tolist()) == {255}


def test_a_black_rgb_mask_does_not_decide_the_coding(tmp_path: Path) -> None:
    """Black is a class color here, but the masks are indices in three channels."""
    black, gray = np.zeros((4, 6, 3), np.uint8), np.stack([MASK] * 3, -1)
    text = NAMES + "colors: [[10, 0, 0], [0, 20, 0], [0, 0, 0]]\n"
    assert get_coding(Dataset.load(write_dataset(tmp_path, text, a=black, b=gray))) == "index"


def test_the_description_overrides_the_coding(tmp_path: Path) -> None:
    assert get_coding(Dataset.load(write_dataset(tmp_path, NAMES + COLORS + "coding: rgb\n"))) == "rgb"


def test_a_mask_that_cannot_be_read_does_not_decide_the_coding(tmp_path: Path) -> None:
    write_dataset(tmp_path, NAMES + COLORS, a=MASK, b=COLORED)
    (tmp_path / "masks/a.png").write_bytes(b"")
    assert get_coding(Dataset.load(tmp_path)) == "rgb"


def test_the_masks_of_test_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("test", "train"):
        write_png(tmp_path / f"images/{split}/a.png", IMAGE)
        write_png(tmp_path / f"masks/{split}/a.png", MASK)
    (tmp_path / "dataset.yaml").write_text(NAMES + COLORS, encoding="utf-8")
    opened: list[Path] = []

    def read_mask(reader: SampleReader, sample: Sample) -> Array:
        opened.append(sample.mask_path)
        return MASK

    monkeypatch.setattr(SampleReader, "read_mask", read_mask)
    Dataset.load(tmp_path)
    assert [path.parent.name for path in opened] == ["train"]


# Errors.


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("names: [a", "is not valid YAML"),
        ("ignore: 2001-99-99", "is not valid YAML"),
        ("- 1", "contains a list. Expected keys such as 'names:'"),
        ("nmaes: [a]", "has the unknown key 'nmaes'. Did you mean 'names'. Expected: names, colors, ignore"),
        ("1: [a]", "has the unknown key '1'"),
        ("ignore: 3", "gives 'ignore' without 'names'. Add 'names"),
        ("names: []", "'names' is .*. Expected a list of class names"),
        (NAMES + "colors: [[]]", "'colors' contains ... Expected .red"),
        (NAMES + "colors: 3", "'colors' is 3. Expected a list with one"),
        (NAMES + "colors: [[1, 2, 3]]", "'colors' lists 1 colors. Expected one .* for each of the 3 names"),
        ("channels: four", "'channels' is 'four'. Expected a number such as 4"),
        ("channels: 0", "'channels' is 0. Expected a number such as 4"),
        ("channels: true", "'channels' is True. Expected a number such as 4"),
    ],
)
def test_an_invalid_description_is_an_error(tmp_path: Path, description: str, message: str) -> None:
    with pytest.raises(DataError, match=f"dataset.yaml.*{message}"):
        Dataset.load(write_dataset(tmp_path, description))


def test_a_dataset_without_images_is_an_error(tmp_path: Path) -> None:
    for name in ("images/a.txt", "masks/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"No images found in .* \(PNG, .*DICOM.*\). Put the images into images/"):
        Dataset.load(tmp_path)


def test_sizes_that_differ_are_an_error(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    write_png(tmp_path / "images/a.png", IMAGE[:3])
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DataError, match=r"masks/a.png is 4x6, but its image .*images/a.png is 3x6"):
        dataset.read(dataset.samples[0])


def test_a_value_that_is_not_listed_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, a=np.array([[0, 9]], np.uint8)))
    with pytest.raises(DataError, match=r"masks/a.png: The mask contains the value 9, which no class has. Add"):
        dataset.read_labels(dataset.samples[0])


def test_a_colored_mask_among_index_masks_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, a=COLORED))
    with pytest.raises(DataError, match=r"masks/a.png: The mask is an RGB image"):
        dataset.read_labels(dataset.samples[0])


def test_unlisted_values_are_described(tmp_path: Path) -> None:
    index, rgb = (
        Dataset.load(write_dataset(tmp_path / name, NAMES + COLORS, a=mask)).classes
        for name, mask in (("index", MASK), ("rgb", COLORED))
    )
    values, fix = describe_unlisted_values(list(range(10, 18)), index)
    assert values == "the values 10, 11, 12, 13, 14, 15 and 2 more"
    assert "to 'names', 'label_mapping' or 'ignore' in dataset.yaml" in fix
    values, fix = describe_unlisted_values([0x010203], rgb)
    assert values == "the color (1, 2, 3)"
    assert "to 'colors' or 'ignore' in dataset.yaml" in fix


# Channels.


def test_gray_is_repeated_for_three_channels() -> None:
    gray = IMAGE[..., :1]
    np.testing.assert_array_equal(match_channels(gray, 3, "a.png"), np.concatenate([gray] * 3, -1))


@pytest.mark.parametrize("channels", [None, 3])
def test_images_with_the_expected_channels_are_unchanged(channels: int | None) -> None:
    assert match_channels(IMAGE, channels, "a.png") is IMAGE


@pytest.mark.parametrize(("found", "wanted"), [(3, 1), (1, 4), (4, 3), (3, 4)])
def test_other_channels_are_an_error(found: int, wanted: int) -> None:
    image = np.zeros((2, 2, found), np.uint8)
    with pytest.raises(DataError, match=rf"a.png has {found} channels?, but {wanted} are expected"):
        match_channels(image, wanted, "a.png")


def test_described_channels_keep_a_varying_alpha(tmp_path: Path) -> None:
    write_dataset(tmp_path, NAMES + "channels: 4\n")
    rgba = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    write_png(tmp_path / "images/a.png", rgba)
    dataset = Dataset.load(tmp_path)
    np.testing.assert_array_equal(dataset.read_image(dataset.samples[0]), rgba)


def test_pixels_without_data_are_ignored_in_the_labels(tmp_path: Path) -> None:
    """Where every channel is missing; a single missing channel is filled and the label stays."""
    image = np.arange(48, dtype=np.float32).reshape(4, 6, 2)
    image[0, :2] = -1
    image[3, 5, 1] = -1
    write_png(tmp_path / "masks/a.png", np.ones((4, 6), np.uint8))
    (tmp_path / "images").mkdir()
    tags = [(42113, "s", 0, "-1", True)]
    path = tmp_path / "images/a.tif"
    tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig", extratags=tags)
    (tmp_path / "dataset.yaml").write_text("names: [a, b]")
    dataset = Dataset.load(tmp_path)
    pixels, labels = dataset.read(dataset.samples[0])
    assert labels[0].tolist() == [255, 255, 1, 1, 1, 1]
    assert (labels[1:] == 1).all()
    np.testing.assert_array_equal(pixels[0, 0], np.float32(np.nanmean(np.where(image == -1, np.nan, image), (0, 1))))
    assert (pixels >= 0).all()
    np.testing.assert_array_equal(dataset.read_image(dataset.samples[0]), pixels)


def test_files_map_to_their_sample_unless_they_have_several(tmp_path: Path) -> None:
    for name in ("images/0", "images/1", "masks/0", "masks/1"):
        write_png(tmp_path / f"{name}.png", np.zeros((2, 3), np.uint8))
    dataset = Dataset.load(tmp_path)
    first, second = dataset.samples
    own = {"images/0.png": first, "masks/0.png": first, "images/1.png": second, "masks/1.png": second}
    assert dataset.map_files_to_samples() == own
    index = tmp_path / "masks.json"
    sharing = tuple(replace(sample, mask_path=index) for sample in dataset.samples)
    shared = replace(dataset, index=replace(dataset.index, samples=sharing))
    assert shared.map_files_to_samples() == dict(zip(("images/0.png", "images/1.png"), sharing, strict=True))


def test_a_file_outside_the_root_is_named_by_its_whole_path(tmp_path: Path) -> None:
    for name in ("here/images/0", "here/masks/0", "there/0"):
        write_png(tmp_path / f"{name}.png", np.zeros((2, 3), np.uint8))
    dataset = Dataset.load(tmp_path / "here")
    elsewhere = tmp_path / "there" / "0.png"
    assert dataset.get_relative_path(dataset.samples[0].image_path) == "images/0.png"
    assert dataset.get_relative_path(elsewhere) == str(elsewhere)
    sample = replace(dataset.samples[0], image_path=elsewhere)
    apart = replace(dataset, index=replace(dataset.index, samples=(sample,)))
    assert apart.map_files_to_samples() == {str(elsewhere): sample, "masks/0.png": sample}


# As a sequence of (image, mask), for PyTorch and notebooks.


@pytest.fixture
def splits(tmp_path: Path) -> Dataset:
    """Three samples without declared classes; value 5 occurs in val only, value 9 in test only."""
    for split, value in (("train", 3), ("val", 5), ("test", 9)):
        write_png(tmp_path / f"images/{split}/a.png", IMAGE)
        write_png(tmp_path / f"masks/{split}/a.png", np.where(MASK > 0, value, 0).astype(np.uint8))
    return Dataset.load(tmp_path)


def test_a_dataset_is_a_sequence_of_pairs(tmp_path: Path) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, a=MASK, b=MASK[:2]))
    assert len(dataset) == 2
    for index, (image, mask) in enumerate(dataset):
        np.testing.assert_array_equal(mask, dataset[index][1])
        assert image.shape == (*mask.shape, 3)
    np.testing.assert_array_equal(dataset[-1][1], MASK[:2])
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_takes_a_dataset(tmp_path: Path, num_workers: int) -> None:
    dataset = Dataset.load(write_dataset(tmp_path, a=MASK, b=MASK, c=MASK))
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=2, num_workers=num_workers)  # type: ignore[arg-type]
    images, masks = next(iter(loader))
    assert (images.shape, images.dtype) == ((2, 4, 6, 3), torch.uint8)
    np.testing.assert_array_equal(masks[1], MASK)
    assert len(list(loader)) == 2


def test_a_split_has_its_samples_and_the_classes_of_the_dataset(splits: Dataset) -> None:
    assert {name: len(samples) for name, samples in splits.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert [sample.name for sample in splits.split("val").samples] == ["val/a"]
    for name in ("train", "val"):
        assert splits.split(name).classes.names == ("0", "3", "5")  # test is not read
    with pytest.raises(DataError, match="contains the value 9"):
        splits.split("test")[0]
    train = splits.split("train")
    with pytest.raises(InvalidArgumentError, match=r"Unknown split 'test'.* Choose one of: train"):
        train.split("test")


def test_a_mask_that_defines_classes_must_be_readable(tmp_path: Path) -> None:
    write_dataset(tmp_path, "", a=MASK, b=COLORED)
    with pytest.raises(DataError, match=r"masks/b.png: The mask is an RGB image"):
        assert Dataset.load(tmp_path).classes
    (tmp_path / "masks/b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"masks/b.png: The file is empty"):
        assert Dataset.load(tmp_path).classes


def test_a_path_that_does_not_exist_or_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PathNotFoundError, match=r"Dataset '.*absent' does not exist. Expected the folder"):
        Dataset.load(tmp_path / "absent")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PathAccessError, match=r"cannot be read \(permission denied\)\. Change its permissions"):
        Dataset.load(tmp_path)


def test_a_dataset_is_shown_in_one_line(splits: Dataset, tmp_path: Path) -> None:
    counts = "splits={train: 1, val: 1, test: 1}"
    assert repr(splits) == f"Dataset({str(tmp_path)!r}, format='folder', {counts}, classes=[not read yet])"
    (tmp_path / "dataset.yaml").write_text("names: [a, b, c, d, e, f, g, h, i, j]")
    assert repr(Dataset.load(tmp_path)).endswith("classes=['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ...])")


def test_a_notebook_shows_samples_legend_and_splits(tmp_path: Path) -> None:
    names = NAMES.replace("car", "<b>")
    for split in ("train", "test"):
        for i in range(9):
            write_png(tmp_path / f"images/{split}/{i}.png", IMAGE)
            write_png(tmp_path / f"masks/{split}/{i}.png", MASK)
    (tmp_path / "dataset.yaml").write_text(names)
    (tmp_path / "masks/train/0.png").write_bytes(b"")
    page = Dataset.load(tmp_path)._repr_html_()
    assert "18 samples (train 9, test 9), format folder" in page
    assert page.count("data:image/webp;base64,") == 2
    assert "masks/train/0.png: The file is empty" in page
    assert "test/" not in page  # test images are only read for evaluation and prediction
    assert "&lt;b&gt;" in page
    assert "<b>&ensp;" not in page
    assert len(page) < 20_000


def test_a_notebook_shows_a_dataset_without_readable_masks(tmp_path: Path) -> None:
    write_dataset(tmp_path, "", a=COLORED)
    assert "The mask is an RGB image" in Dataset.load(tmp_path)._repr_html_()


def test_a_notebook_shows_that_the_background_is_not_painted(tmp_path: Path) -> None:
    write_dataset(tmp_path, "names: [background, box]\n", a=MASK)
    page = Dataset.load(tmp_path)._repr_html_()
    assert "background:transparent" in page
    assert "background (not painted)" in page
