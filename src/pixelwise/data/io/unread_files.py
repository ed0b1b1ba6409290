"""Pictures that are not read, and what to do with them: no picture in a folder is passed over in silence."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pixelwise.data.io.arrays import decode_mat, decode_npy, decode_npz
from pixelwise.data.io.images import FILE_TYPES, HEAD_BYTES, IMAGE_EXTENSIONS, find_file_type
from pixelwise.data.io.video import VIDEO_EXTENSIONS
from pixelwise.data.rasters.ome_zarr import is_zarr
from pixelwise.data.rasters.openslide_reader import SLIDE_EXTENSIONS
from pixelwise.files import walk_folders

_ADVICE: Mapping[str, tuple[str, ...]] = {
    "Develop raw photographs and save them as TIFF": (
        *(".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw"),
    ),
    "Export microscopy files as OME-TIFF, for example with Fiji": (
        *(".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".vsi", ".ims", ".stk"),
    ),
    "Save volumes as TIFF stacks, or each slice as a file": (
        *(".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mrc"),
    ),
    "Convert maps to GeoTIFF, for example with gdal_translate": (".ecw", ".sid", ".img", ".vrt", ".hgt"),
    "Export drawings and documents as PNG": (*(".svg", ".eps", ".psd", ".psb", ".xcf", ".kra", ".ora", ".clip"),),
    "Save labeled frames of videos as images, for example with ffmpeg": VIDEO_EXTENSIONS,
    "Export labeled regions of slides, which only 'pixelwise predict' reads, as TIFF": SLIDE_EXTENSIONS,
    "Convert them to PNG or TIFF": (".jxl", ".jxr", ".exr", ".pfm", ".tga", ".ico", ".icns", ".pcx", ".dds", ".qoi"),
}
_ZARR_ADVICE = "Export labeled regions of OME-Zarr, which only 'pixelwise predict' reads, as TIFF"
ADVICE_OF_EXTENSION = {extension: advice for advice, extensions in _ADVICE.items() for extension in extensions}

_RECOGNIZED = ("PNG", "JPEG", "TIFF", "WebP", "GIF", "AVIF", "HEIC", "DICOM")
"""Types whose first bytes leave no doubt; the others begin like texts or archives."""
_OVERVIEWS = (".ovr", ".msk")
"""Files that GDAL stores next to an image; they are TIFFs."""

ARRAY_EXTENSIONS = tuple(
    extension
    for kind in FILE_TYPES
    if kind.decode in (decode_npy, decode_npz, decode_mat)
    for extension in kind.extensions
)


def explain_unread(path: Path) -> str:
    """Return what to do with a picture that has no extension of `FILE_TYPES`; empty for other files."""
    for extension in ("".join(path.suffixes[-2:]).lower(), path.suffix.lower()):
        if extension in ADVICE_OF_EXTENSION:
            return ADVICE_OF_EXTENSION[extension]
    try:
        with path.open("rb") as file:
            kind = find_file_type(file.read(HEAD_BYTES))
    except OSError:
        return ""
    if kind is None or kind.name not in _RECOGNIZED or path.suffix.lower() in _OVERVIEWS:
        return ""
    return f"They are {kind.name} files by their content. Let their names end in {kind.extensions[0]}"


def explain_unread_folder(root: Path) -> str:
    """Return what to do with the images of a folder that training does not read; empty if it can read most of them."""
    unread: dict[str, list[str]] = {_ZARR_ADVICE: [str(root)]} if is_zarr(root) else {}
    num_read = 0
    for here, folders, files in () if unread else walk_folders(root):
        zarrs = [name for name in folders if is_zarr(here / name)]
        folders[:] = [name for name in folders if name not in zarrs]
        others = [name for name in files if Path(name).suffix.lower() not in IMAGE_EXTENSIONS]
        num_read += len(files) - len(others)
        advice_of = dict.fromkeys(zarrs, _ZARR_ADVICE) | {name: explain_unread(here / name) for name in others}
        for name, advice in advice_of.items():
            unread.setdefault(advice, []).append(str((here / name).relative_to(root)))
    unread.pop("", None)
    if num_read > sum(map(len, unread.values())):
        return ""
    return " ".join(f"{advice}: {', '.join(names[:3])}." for advice, names in sorted(unread.items()))


def find_companion_arrays(names: Iterable[str]) -> set[str]:
    """Find the arrays among the image files of a folder that accompany its pictures, such as results of programs.

    An array is taken for an image or mask unless a picture has its name (also without Cellpose's `_seg`), or there are
    ten pictures for each array.
    """
    paths = [Path(name) for name in names]
    arrays = {path for path in paths if path.suffix.lower() in ARRAY_EXTENSIONS}
    pictures = {path.stem for path in paths if path not in arrays}
    are_few = len(pictures) >= 10 * len(arrays)
    return {path.name for path in arrays if are_few or {path.stem, path.stem.removesuffix("_seg")} & pictures}
