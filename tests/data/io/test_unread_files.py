import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import FILE_TYPES, IMAGE_EXTENSIONS
from pixelwise.data.io.unread_files import (
    ADVICE_OF_EXTENSION,
    explain_unread,
    explain_unread_folder,
    find_companion_arrays,
)
from pixelwise.data.joined_dataset import load_datasets
from pixelwise.errors import DataError, PathNotFoundError


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("IMG_1.CR2", "Develop raw photographs"),
        ("cells.nd2", "Export microscopy files"),
        ("brain.nii.gz", "Save volumes"),
        ("brain.v2.nii.gz", "Save volumes"),
        ("plan.svg", "Export drawings"),
        ("old.tga", "Convert them to PNG"),
        ("map.ecw", "Convert maps to GeoTIFF"),
        ("notes.txt", ""),
        ("table.csv", ""),
        (".gz", ""),
    ],
)
def test_pictures_of_other_types_have_an_advice(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    found = explain_unread(tmp_path / name)
    assert found.startswith(advice)
    assert bool(found) == bool(advice)


@pytest.mark.parametrize("name", ["IMG_1", "IMG_1.jpg~", "IMG_1.download", "IMG_1.jpeg.bak"])
def test_a_picture_without_its_extension_is_recognized(tmp_path: Path, name: str) -> None:
    Image.new("L", (4, 4)).save(tmp_path / name, "JPEG")
    assert explain_unread(tmp_path / name) == "They are JPEG files by their content. Let their names end in .jpg"


def test_files_that_only_begin_like_an_image_are_not_pictures(tmp_path: Path) -> None:
    overview = io.BytesIO()
    tifffile.imwrite(overview, np.zeros((4, 4), np.uint8))
    contents = {
        "letter.docx": b"PK\3\4",
        "BMW": b"BMW cars",
        "P5": b"P5 tasks",
        "a.tif.ovr": overview.getvalue(),
        "a.tif.aux.xml": b"<PAMDataset>",
        "absent": None,
    }
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert explain_unread(tmp_path / name) == ""


def test_no_type_that_is_read_has_an_advice() -> None:
    assert not set(ADVICE_OF_EXTENSION) & set(IMAGE_EXTENSIONS)
    assert {"PNG", "DICOM"} <= {kind.name for kind in FILE_TYPES}


@pytest.mark.parametrize(
    ("names", "companions"),
    [
        (["a.npy", "b.npz", "c.mat"], []),
        (["a.png", "a_mask.npy", "b.png", "b_mask.npy"], []),
        (["a.png", "a_masks.png", "a_seg.npy", "b.png", "b_masks.png", "b_seg.npy"], ["a_seg.npy", "b_seg.npy"]),
        (["a.png", "a.npy"], ["a.npy"]),
        (["a.png", "a_seg.npy", "b.png", "b_mask.npy"], ["a_seg.npy"]),
        ([f"{number}.png" for number in range(10)] + ["stats.MAT"], ["stats.MAT"]),
        ([f"{number}.png" for number in range(9)] + ["9.npy"], []),
        (["a.png"], []),
    ],
)
def test_arrays_next_to_pictures(names: list[str], companions: list[str]) -> None:
    assert find_companion_arrays(names) == set(companions)


def write_zarr(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')


UNREAD = {
    "video": ("images/a.mp4", "Save labeled frames of videos as images, for example with ffmpeg: images/a.mp4"),
    "slide": ("images/a.svs", "Export labeled regions of slides, which only 'pixelwise predict' reads, as TIFF"),
    "OME-Zarr": ("images/a.zarr", "Export labeled regions of OME-Zarr, which only 'pixelwise predict' reads, as TIFF"),
    "volume": ("images/a.nii.gz", "Save volumes as TIFF stacks, or each slice as a file: images/a.nii.gz"),
    "microscopy": ("images/a.czi", "Export microscopy files as OME-TIFF"),
    "raw photograph": ("a.CR2", "Develop raw photographs"),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_a_dataset_of_images_that_training_does_not_read_says_what_to_do(kind: str, tmp_path: Path) -> None:
    """`predict` reads the first three kinds."""
    name, advice = UNREAD[kind]
    path = tmp_path / "data" / name
    if path.suffix == ".zarr":
        write_zarr(path)
    else:
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(100))
    (tmp_path / "data/masks").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "data/masks/a.png")
    for load in (lambda: Dataset.load(tmp_path / "data"), lambda: load_datasets([tmp_path / "data"])):
        with pytest.raises(DataError) as raised:
            load()
        assert str(raised.value).startswith(f"{tmp_path / 'data'} contains images that training cannot read. {advice}")


def test_an_ome_zarr_or_a_file_is_not_a_dataset(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr")
    with pytest.raises(DataError, match=r"Export labeled regions of OME-Zarr.*a\.zarr"):
        Dataset.load(tmp_path / "a.zarr")
    for name in ("a.mp4", "a.png", "a.dcm"):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match=r"is a file\. Expected the folder of a dataset"):
            Dataset.load(tmp_path / name)


@pytest.mark.parametrize("url", ["https://example.org/data", "s3://bucket/data"])
def test_a_url_is_not_a_dataset(url: str) -> None:
    with pytest.raises(PathNotFoundError, match=r"is a URL, but datasets are read from folders\. Download it"):
        Dataset.load(url)


def test_other_faults_of_a_dataset_are_reported_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").touch()
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert explain_unread_folder(tmp_path) == ""
