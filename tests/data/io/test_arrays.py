import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from pixelwise.data.io import arrays
from pixelwise.data.io.images import Array, find_stack_axes, read_image, read_mask, read_size
from pixelwise.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 200, (7, 11, 3), np.uint8)
IDS = NOISE[..., 0] % 5


def write_mat_7_3(path: Path, **variables: Array) -> None:
    """As MATLAB: columns first, and a header of text before the HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file[name] = value.T.astype(np.uint8) if value.dtype == bool else value.T
            file[name].attrs["MATLAB_class"] = np.bytes_("logical" if value.dtype == bool else str(value.dtype))
    header = b"MATLAB 7.3 MAT-file".ljust(512, b" ")
    path.write_bytes(header + path.read_bytes()[512:])


WRITERS: dict[str, Callable[[Path, Array], Any]] = {
    ".npy": np.save,
    ".npz": lambda path, array: np.savez(path, array),
    "-compressed.npz": lambda path, array: np.savez_compressed(path, image=array),
    ".mat": lambda path, array: scipy.io.savemat(path, {"image": array}),
    "-compressed.mat": lambda path, array: scipy.io.savemat(path, {"image": array}, do_compression=True),
    "-7.3.mat": lambda path, array: write_mat_7_3(path, image=array),
}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("array", [NOISE, NOISE[..., 0], NOISE.astype(np.uint16) * 300, NOISE.astype(np.float32) / 7])
def test_images(tmp_path: Path, ending: str, array: Array) -> None:
    path = tmp_path / f"a{ending}"
    WRITERS[ending](path, array)
    np.testing.assert_array_equal(read_image(path), array.reshape(7, 11, -1))
    assert read_image(path).dtype == array.dtype
    assert read_size(path) == (7, 11)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, bool, ">u2"])
def test_masks(tmp_path: Path, ending: str, dtype: Any) -> None:
    path, ids = tmp_path / f"a{ending}", IDS.astype(dtype)
    WRITERS[ending](path, ids)
    np.testing.assert_array_equal(read_mask(path), ids)


def test_order_and_types_are_those_of_images(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(NOISE))
    np.testing.assert_array_equal(read_image(path), NOISE)
    np.save(path, NOISE.astype(">u2"))
    assert read_image(path).dtype == np.uint16
    np.save(path, NOISE[..., 0] > 100)
    np.testing.assert_array_equal(read_image(path)[..., 0], (NOISE[..., 0] > 100) * 255)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stack_is_read_page_by_page(tmp_path: Path, ending: str, order: Any) -> None:
    stack, path = np.stack([NOISE, NOISE // 2, NOISE // 3, NOISE // 4]), tmp_path / f"a{ending}"
    WRITERS[ending](path, np.asarray(stack, order=order))
    assert find_stack_axes(path) == (("Q", 4),)
    for number, page in enumerate(stack):
        np.testing.assert_array_equal(read_image(path, page=number), page)
    WRITERS[ending](path, np.asarray(stack[..., 0], order=order))
    np.testing.assert_array_equal(read_mask(path, page=2), stack[2, ..., 0])
    with pytest.raises(DataError, match=r"stack of 4 images \(axes QYX\).* write 'channels: 4' into dataset\.yaml"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, channels=4), np.moveaxis(stack[..., 0], 0, -1))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_nothing_is_unpickled(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    WRITERS[ending](Path(f"a{ending}"), np.array([[Harmful()] * 2] * 2))
    with pytest.raises(DataError, match="It holds Python objects, which are not read because they could run code"):
        read_image(Path(f"a{ending}"))
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"The array \(5\) is not an image\. Save it as height x width, or"),
        (np.float64(3), r"The array \(a single number\) is not"),
        (np.zeros((0, 4)), r"The array \(0x4\) is not"),
        (np.zeros((2, 3, 9, 9)), r"The array \(2x3x9x9\) is not"),
        (np.zeros((9, 9), complex), r"The array holds complex128\. Save numbers"),
        (np.full((9, 9), "a"), r"The array holds <U1\. Save numbers"),
        (np.zeros((9, 9), "i4,f4"), r"The array holds \[.*\. Save numbers"),
    ],
)
def test_other_arrays_are_an_error(tmp_path: Path, array: Array, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: {message}"):
        read_image(tmp_path / "a.npy")


def test_several_arrays_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=NOISE, mask=IDS)
    with pytest.raises(DataError, match=r"a\.npz: It holds 2 arrays \(image, mask\)\. Save one array per file"):
        read_image(tmp_path / "a.npz")
    for write in (lambda path, **found: scipy.io.savemat(path, found), write_mat_7_3):
        write(tmp_path / "a.mat", image=NOISE, mask=IDS)
        with pytest.raises(DataError, match=r"a\.mat: One variable must be .*, but 2 could be \(image, mask\)\. Save"):
            read_image(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"name": "a text", "ids": np.arange(9)})
    with pytest.raises(DataError, match=r"but 0 could be \(none\)"):
        read_image(tmp_path / "a.mat")


def test_an_image_among_other_variables_and_in_a_structure(tmp_path: Path) -> None:
    """As the masks of the Semantic Boundaries Dataset."""
    scipy.io.savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": IDS, "CategoriesPresent": np.array([[1], [2]])}})
    np.testing.assert_array_equal(read_mask(tmp_path / "a.mat"), IDS)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_truncated_file_is_an_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    WRITERS[ending](path, NOISE)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        for read in (read_image, read_mask):
            with pytest.raises(
                DataError, match=rf"a{ending}: .*\. (Replace or remove it|Copy it again|Save one image)"
            ):
                read(path)


def claim(path: Path, shape: tuple[int, ...]) -> bytes:
    """A .npy file with this shape and hardly any data."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue() + bytes(100)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(claim(path, (60_000, 60_000)))
    with pytest.raises(DataError, match=r"a\.npy: The image has more than 178,956,970 pixels"):
        read_image(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", claim(path, (10_000, 10_000, 100)))
    with pytest.raises(DataError, match=r"a\.npz: The array has more than 2 GB\. Save its images as single files"):
        read_image(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("image", (100, 10_000, 10_000), np.uint8, chunks=True)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512, b" ") + content[512:])
    with pytest.raises(DataError, match=r"a\.mat: The array has more than 2 GB"):
        read_image(tmp_path / "a.mat")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 1 << 26)
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.zeros((4, 4), np.uint8)}, do_compression=True)
    bomb = zlib.compress(bytes(1 << 27))
    element = np.array([15, len(bomb)], "<u4").tobytes() + bomb
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes() + element)
    with pytest.raises(DataError, match=r"a\.mat: Its variables have more than 0 GB"):
        read_image(tmp_path / "a.mat")


def test_hdf5_reads_no_other_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = NOISE.T
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")
        file.create_dataset("outside", (5, 5), np.uint8, external=[(str(tmp_path / "other.h5"), 0, 25)])
        layout = h5py.VirtualLayout((3, 11, 7), np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (3, 11, 7))
        file.create_virtual_dataset("virtual", layout)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512, b" ") + content[512:])
    with pytest.raises(DataError, match=r"but 0 could be \(none\)"):
        read_image(tmp_path / "a.mat")
