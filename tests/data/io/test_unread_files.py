import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.io.images import FILE_TYPES, IMAGE_EXTENSIONS
from pixelwise.data.io.unread_files import ADVICE_OF_EXTENSION, explain_unread, find_companion_arrays


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
