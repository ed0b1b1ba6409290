"""Round trips through every format, and interrupted conversions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from pixelwise.api import convert
from pixelwise.cli.main import app
from pixelwise.conversion import WRITERS, find_image_suffix
from pixelwise.conversion.masks import FolderWriter
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats import FORMATS
from pixelwise.data.formats.dataset_index import SampleReader
from pixelwise.data.io.images import DecodedImage, read_image, write_png
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.progress import use_reporter
from support.recorder import Recorder

Make = Callable[..., Path]


def labels_by_image(root: Path, format: str | None = None) -> dict[bytes, list[list[str]]]:
    """Map the bytes of each image to the class name of each pixel, or `ignored`."""
    opened = Dataset.load(root, format)
    dataset = scan_dataset(opened)
    names = dict(enumerate(dataset.classes.names)) | {dataset.classes.ignore_index: "ignored"}
    found = {}
    for sample in dataset.samples:
        image, labels = dataset.read(sample)
        found[image.tobytes()] = [[names[value] for value in row] for row in labels.tolist()]
    return found


@pytest.mark.parametrize("names", [("background", "ring", "blob"), ("sky", "ring", "blob")])
@pytest.mark.parametrize("to", sorted(set(WRITERS) & set(FORMATS)))
def test_labels_survive_a_round_trip(make: Make, tmp_path: Path, to: str, names: tuple[str, ...]) -> None:
    source = make(names=names, ignored=to != "yolo")
    convert(source, tmp_path / "converted", to=to)
    convert(tmp_path / "converted", tmp_path / "back", to="folder", format=to)
    before = labels_by_image(source)
    assert labels_by_image(tmp_path / "converted") == before, f"{to} is not recognized, or not read as written"
    assert labels_by_image(tmp_path / "back") == before


@pytest.mark.parametrize("to", sorted(set(WRITERS) & set(FORMATS) - {"nnunet"}))
def test_splits_survive(make: Make, tmp_path: Path, to: str) -> None:
    convert(make(), tmp_path / "converted", to=to)
    splits = [sample.split for sample in Dataset.load(tmp_path / "converted").samples]
    assert splits == ["test", "test", "train", "train", "val", "val"]


@pytest.mark.parametrize("to", sorted(WRITERS))
def test_the_same_dataset_gives_the_same_bytes(make: Make, tmp_path: Path, to: str) -> None:
    source = make()
    for name in ("one", "two"):
        convert(source, tmp_path / name, to=to)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_classes_without_names_are_named_by_their_values(tmp_path: Path) -> None:
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        write_png(tmp_path / f"s/images/{split}/{name}.png", np.arange(16, dtype=np.uint8).reshape(4, 4))
        write_png(tmp_path / f"s/masks/{split}/{name}.png", np.uint8([[0, 7]] * 2 + [[9, 255]] * 2).repeat(2, 1))
    convert(tmp_path / "s", tmp_path / "out", to="folder")
    classes = Dataset.load(tmp_path / "out").classes
    assert (classes.names, dict(classes.label_mapping)) == (("0", "7", "9"), {0: 0, 1: 1, 2: 2})
    assert labels_by_image(tmp_path / "out") == labels_by_image(tmp_path / "s")


def test_images_without_a_file_are_written_without_loss(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(splits=["train", "val"])

    def flipped(self: SampleReader, sample: Sample) -> DecodedImage:
        return DecodedImage(pixels=read_image(sample.image_path)[::-1], alpha=False)

    monkeypatch.setattr(SampleReader, "decode_image", flipped)
    convert(source, tmp_path / "out", to="folder")
    written = read_image(tmp_path / "out/images/val/city/0.1.png")
    assert np.array_equal(written, read_image(source / "images/val/city/0.1.jpg")[::-1])


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"\x89PNG\r\n\x1a\n", ".png"),
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"II*\0", ".tif"),
        (b"MM\0*", ".tif"),
        (b"BM6", ".bmp"),
        (b"RIFF\0\0\0\0WEBP", ".webp"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"{}", None),
    ],
)
def test_the_first_bytes_give_the_suffix(content: bytes, suffix: str | None) -> None:
    assert find_image_suffix(content) == suffix


def test_a_wrong_suffix_is_corrected(make: Make, tmp_path: Path) -> None:
    source = make(splits=["train", "val"])
    (source / "images/val/city/0.1.jpg").rename(source / "images/val/city/0.1.png")
    convert(source, tmp_path / "out", to="folder")
    assert (tmp_path / "out/images/val/city/0.1.jpg").exists()


def test_the_help_lists_the_formats() -> None:
    output = CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "200"}).output
    assert [name for name in WRITERS if name not in output] == []


def test_an_unknown_format_names_the_choices(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown value for to: 'foldr'. Did you mean 'folder'\?"):
        convert(make(), tmp_path / "out", to="foldr")


def test_a_folder_with_files_is_refused(make: Make, tmp_path: Path) -> None:
    source = make()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for existing, message in (
        (tmp_path / "out", r"mine\.txt exists, and Pixelwise did not write it"),
        (source, r"exists, and Pixelwise did not write it.* true of \d+ more files"),
        (tmp_path / "out" / "mine.txt", r"mine\.txt is not a folder"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            convert(source, existing, to="folder")
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_accepted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert convert(make(), tmp_path / "out", to="folder").num_images == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_invalid_data_stops_before_anything_is_written(make: Make, tmp_path: Path) -> None:
    source = make()
    (source / "masks/test/city/0.1.png").write_bytes(b"broken")
    (source / "masks/train/city/1.1.png").unlink()
    with pytest.raises(DataError, match=r"(?s)without a mask: images/train/city/1.1.jpg.*masks/test/city/0.1.png"):
        convert(source, tmp_path / "out", to="folder")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_an_interruption_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupted(self: FolderWriter) -> list[str]:
        assert (tmp_path / "out" / ".pixelwise.part" / "images").exists()
        raise error

    monkeypatch.setattr(FolderWriter, "finish", interrupted)
    with pytest.raises(type(error) if isinstance(error, OSError) else KeyboardInterrupt):
        convert(make(), tmp_path / "out", to="folder")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_notes_are_logged(make: Make, tmp_path: Path) -> None:
    recorder = Recorder()
    with use_reporter(recorder):
        result = convert(make(), tmp_path / "out", to="yolo")
    assert recorder.messages == [f"note: {result.notes[0]}"]


def test_a_mask_next_to_an_image_stays_in_the_labels(tmp_path: Path) -> None:
    """GDAL's file a.tif.msk is not copied; its pixels are filled and ignored."""
    valid = np.ones((20, 20), np.uint8)
    valid[:, 15:] = 0
    for number in range(4):
        image = np.random.default_rng(number).integers(1, 99, (20, 20, 3), np.uint8)
        (tmp_path / "s/images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / f"s/images/{number}.tif", image, photometric="rgb")
        tifffile.imwrite(tmp_path / f"s/images/{number}.tif.msk", valid * 255)
        write_png(tmp_path / f"s/masks/{number}.png", (image[..., 0] > 50).astype(np.uint8))
    source = Dataset.load(tmp_path / "s")
    convert(tmp_path / "s", tmp_path / "out", to="folder")
    for (image, labels), (expected, expected_labels) in zip(Dataset.load(tmp_path / "out"), source, strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(labels, expected_labels)
        assert (labels[:, 15:] == 255).all()
