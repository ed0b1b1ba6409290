"""Find what to predict: files, folders, globs and URLs become inputs in a fixed order.

URLs are read by fsspec (extra `remote`): https://, s3://, ...
"""

import glob
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from pixelwise.data.io.decoded_image import split_channel, stack_channels
from pixelwise.data.io.images import (
    IMAGE_EXTENSIONS,
    Array,
    DecodedImage,
    StackAxes,
    decode_image,
    decode_image_bytes,
)
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.io.tiff import Georeference, GeoTag, has_place, read_place
from pixelwise.data.io.unread_files import explain_unread, find_companion_arrays
from pixelwise.data.io.video import VIDEO_EXTENSIONS
from pixelwise.data.rasters import WINDOWED_EXTENSIONS, find_raster_format, is_windowed_only
from pixelwise.data.rasters.ome_zarr import is_zarr
from pixelwise.data.sample import PAGE
from pixelwise.errors import DataError, InvalidArgumentError, PathNotFoundError, describe_cause, explain_missing_extra
from pixelwise.files import walk_folders
from pixelwise.prediction.outputs import ENCODERS
from pixelwise.prediction.outputs.video import FRAME_LIST, LABELED_VIDEO

logger = logging.getLogger(__name__)

SUFFIXES = (*IMAGE_EXTENSIONS, *WINDOWED_EXTENSIONS)
"""File name suffixes of images, and of folders that are one image."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Input:
    """An image to predict. Its outputs keep its folder structure and stem."""

    path: Path
    """File; of a URL only its path. Of an image of several files, the first."""
    stem: Path
    """Path of the outputs below the output folder, without a suffix."""
    url: str = ""
    """URL of the image; empty for a file."""
    is_georeferenced: bool = False
    """True if the labels are written as a GeoTIFF."""

    @property
    def name(self) -> str:
        """Return the name that messages use."""
        return self.url or str(self.path)

    @property
    def source(self) -> Path | None:
        """Return the file; None for a URL."""
        return None if self.url else self.path

    @property
    def relative_name(self) -> str:
        """Return the name in files that list several images, such as `trip/0001.jpg`."""
        return self.stem.with_name(self.stem.name + self.path.suffix).as_posix()

    @property
    def is_long(self) -> bool:
        """Return whether prediction may take hours, so that a worker gets this input without others."""
        return isinstance(self, RasterInput | StackInput | VideoInput)

    def list_outputs(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return the outputs among `kinds` that are written, each with the ending of its path after the stem."""
        ends = {kind: ENCODERS[kind][0] for kind in _drop_copies(kinds, self.is_georeferenced)}
        return ends | {"labels": ".tif"} if self.is_georeferenced and "labels" in ends else ends

    def list_files(self) -> list[Path]:
        """Return the files that outputs must not replace."""
        return [] if self.url else [self.path]

    def decode(self, channels: int | None = None) -> DecodedImage:
        """Decode the file as stored, alpha and missing data included; `channels` as in `decode_image`."""
        return decode_image_bytes(read_remote(self.url), self.url) if self.url else decode_image(self.path, channels)

    def read(self, channels: int | None = None, nodata: Nodata = ALL_DATA) -> tuple[Array, Array | None]:
        """Decode the image for a model with these channels and nodata values; see `DecodedImage.fill_pixels`."""
        return self.decode(channels).fill_pixels(self.name, channels, nodata)

    def read_place(self) -> tuple[Georeference | None, tuple[GeoTag, ...]]:
        """Read where the image is on the map: its affine transform if it has one, and all tags of a GeoTIFF."""
        return read_place(lambda: open_remote(self.url) if self.url else self.path.open("rb"), self.source)

    def has_place(self) -> bool:
        """Return whether the file, or one next to it, says where the image is on the map, rightly or not."""
        return has_place(self.read_place)

    def open(self) -> BinaryIO:
        """Open the encoded file."""
        return io.BytesIO(read_remote(self.url)) if self.url else self.path.open("rb")

    def absolute(self) -> "Input":
        """Return the same input with absolute paths, for processes with other working folders."""
        return self if self.url else replace(self, path=self.path.absolute())


@dataclass(frozen=True, slots=True)
class ChannelGroup(Input):
    """An image with one file per channel. A fault of the group is raised when it is read."""

    files: tuple[Input, ...] = ()
    """In the order of the channels."""
    fault: str = ""
    """The reason that the files are not an image; empty if they are."""

    def decode(self, channels: int | None = None) -> DecodedImage:
        """Decode and stack the files."""
        if self.fault:
            raise DataError(self.fault)
        return stack_channels((file.name, file.decode()) for file in self.files)

    def list_files(self) -> list[Path]:
        """Return the files of all channels."""
        return [path for file in self.files for path in file.list_files()]

    def absolute(self) -> "Input":
        """Return the same input with absolute paths."""
        files = tuple(file.absolute() for file in self.files)
        return replace(self, path=files[0].path, files=files)


@dataclass(frozen=True, slots=True)
class RasterInput(Input):
    """An image that is read window by window, because it may be larger than memory."""

    def list_outputs(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return the outputs; labels have the format of the image."""
        outputs = Input.list_outputs(self, kinds)
        return outputs | {"labels": find_raster_format(self.path).label_extension} if "labels" in outputs else outputs

    def decode(self, channels: int | None = None) -> DecodedImage:
        """Raise DataError: the image is never decoded as a whole."""
        raise DataError(
            f"{self.path}: This format is only read window by window, by 'pixelwise predict'. "
            "Export a part of it as an image."
        )


@dataclass(frozen=True, slots=True)
class PageInput(Input):
    """A page of a stack; its labels are in the file of the stack."""

    page: int = 0
    """Number, from 0."""

    @property
    def name(self) -> str:
        return f"{self.path}: page {self.page}"

    def list_outputs(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return the outputs of the page."""
        return Input.list_outputs(self, [kind for kind in kinds if kind != "labels"])

    def decode(self, channels: int | None = None) -> DecodedImage:
        return decode_image(self.path, page=self.page)


@dataclass(frozen=True, slots=True)
class StackInput(Input):
    """A file of several images, its pages, which are predicted one by one."""

    axes: StackAxes = ()

    def list_pages(self) -> list[PageInput]:
        number = prod(size for _, size in self.axes)
        page = PageInput(self.path, self.stem, is_georeferenced=self.is_georeferenced)
        return [replace(page, stem=self.stem / f"{PAGE}{index:04d}", page=index) for index in range(number)]

    def list_outputs(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return the labels of the stack, and the other outputs of each page in a folder."""
        outputs = {"labels": ".tif"} if "labels" in kinds else {}
        for page in self.list_pages():
            for kind, end in page.list_outputs(kinds).items():
                outputs[f"{kind} of page {page.page}"] = f"/{page.stem.name}{end}"
        return outputs


@dataclass(frozen=True, slots=True)
class VideoInput(Input):
    """A video, whose frames are predicted like images."""

    def list_outputs(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return the outputs that appear last: the labeled video, and the list of the frames in their folder."""
        frames = {"frames": f"/{FRAME_LIST}"} if list_frame_outputs(kinds) else {}
        return {**({"overlay": LABELED_VIDEO} if "overlay" in kinds else {}), **frames}

    def open(self) -> BinaryIO:
        """Open the video; behind a URL only the parts that are read are fetched."""
        return open_remote(self.url) if self.url else self.path.open("rb")


def list_frame_outputs(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs among `kinds` that each frame of a video has: all but the overlay, which is one video."""
    return tuple(kind for kind in _drop_copies(kinds) if kind != "overlay")


def _drop_copies(kinds: Sequence[str], is_georeferenced: bool = False) -> list[str]:
    """Return the outputs of one image without those that another output writes to the same file."""
    copy = "labels-png" if "labels" in kinds and not is_georeferenced else ""
    return [kind for kind in kinds if kind in ENCODERS and kind != copy]


def find_inputs(inputs: Sequence[str | Path], output: Path | None = None, *, videos: bool = False) -> list[Input]:
    """Find the images, and with `videos` the videos, that files, folders (recursively), globs and URLs name.

    Args:
        output: an output folder inside an input folder, which is skipped.

    Returns:
        Each input once, sorted.

    Raises:
        PathNotFoundError: an entry of `inputs` does not exist.
        InvalidArgumentError: an entry of `inputs` contains no image.
    """
    if not inputs:
        raise InvalidArgumentError("No inputs are given. Expected at least one file, folder, pattern or URL.")
    suffixes = (*SUFFIXES, *VIDEO_EXTENSIONS) if videos else SUFFIXES
    found: dict[object, Input] = {}
    unread: dict[str, list[Path]] = {}
    for given in map(str, inputs):
        path = Path(given)
        if is_remote(given):  # windows are only read from files
            formats = tuple(suffix for suffix in suffixes if suffix not in WINDOWED_EXTENSIONS)
            matches = [
                make_input(Path(name), Path(name).with_suffix(""), url) for url, name in find_remote(given, formats)
            ]
        elif path.is_dir() and not is_zarr(path):
            matches = list(_search_folder(path, suffixes, unread, skip=output))
        elif path.exists():
            matches = [make_input(path, path.stem)]
        else:
            matches = list(_search_pattern(given, suffixes, unread))
        if not matches:
            kinds = "an image, a video" if videos else "an image"
            is_missing = not is_remote(given) and not path.exists() and not glob.has_magic(given)
            raise (PathNotFoundError if is_missing else InvalidArgumentError)(
                f"No images found at {given!r}. Expected {kinds}, a folder or a glob pattern. "
                f"Supported suffixes: {', '.join(suffixes)}.{_describe_unread(unread)}"
            )
        for item in matches:  # a pattern such as photos/** names the folder before its files
            found.setdefault(item.url or (os.path.realpath(item.path.parent), item.path.name), item)
    if unread:
        logger.warning(f"Some pictures are not predicted.{_describe_unread(unread)}")
    return sorted(found.values(), key=lambda item: (item.path, item.name))


def _describe_unread(unread: Mapping[str, Sequence[Path]]) -> str:
    """Return what to do with pictures that are not read, each with its name."""
    return "".join(f" {advice}: {', '.join(map(str, paths))}." for advice, paths in unread.items())


def make_input(path: Path, stem: str | Path, url: str = "") -> Input:
    """Return the input of a path, of the class that its suffix asks for."""
    kind = VideoInput if path.suffix.lower() in VIDEO_EXTENSIONS else Input
    return (RasterInput if not url and is_windowed_only(path) else kind)(path, Path(stem), url)


def _search_folder(
    folder: Path, suffixes: tuple[str, ...], unread: dict[str, list[Path]], skip: Path | None = None
) -> Iterator[Input]:
    """Find every image or video below a folder, and fill `unread`: advice → pictures that are not read.

    Hidden files and folders belong to the system and are skipped.
    """
    skipped = None if skip is None else skip.resolve()
    for here, folders, files in walk_folders(folder):
        zarrs = [name for name in folders if is_zarr(here / name)]
        folders[:] = [name for name in folders if name not in zarrs and (here / name).resolve() != skipped]
        images = [name for name in files if Path(name).suffix.lower() in suffixes]
        companions = find_companion_arrays(images)
        for name in files:
            if name not in images and not (here / name).exists():
                logger.warning(
                    f"{here / name} is a link to {os.readlink(here / name)}, which does not exist. It is skipped."
                )
            elif name in companions:
                unread.setdefault("Give arrays next to pictures by their own paths", []).append(here / name)
            elif name not in images and (advice := explain_unread(here / name)):
                unread.setdefault(advice, []).append(here / name)
        for path in (here / name for name in (*zarrs, *images) if name not in companions):
            yield make_input(path, path.relative_to(folder).with_suffix(""))


def _search_pattern(pattern: str, suffixes: tuple[str, ...], unread: dict[str, list[Path]]) -> Iterator[Input]:
    """Find the images and videos that a glob pattern matches, and those in folders that it matches."""
    for path in _expand_pattern(pattern):
        if any(map(is_zarr, path.parents)):
            continue  # a pattern such as photos/*/* matches files that a Zarr consists of
        if path.is_dir() and not is_zarr(path):
            yield from _search_folder(path, suffixes, unread)
        elif is_zarr(path) or path.suffix.lower() in suffixes:
            yield make_input(path, path.stem)


def _expand_pattern(pattern: str) -> Iterator[Path]:
    """Yield the paths that a glob pattern matches; of those that end in `**`, the top folders."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.iglob(pattern))
        return
    position = parts.index("**")
    rest = parts[position + 1 :]
    for top in map(Path, glob.iglob(str(Path(*parts[:position]))) if position else ["."]):
        if not rest:
            yield top
            continue
        for folder, _, _ in walk_folders(top):  # `glob` would follow links in circles
            yield from _expand_pattern(str(Path(glob.escape(str(folder)), *rest)))


def group_channels(inputs: Iterable[Input], num_channels: int) -> list[Input]:
    """Group the files STEM_0000, STEM_0001, ... of a folder into the image STEM.

    Videos and files whose names contain no channel number are returned unchanged. A group with a different number of
    channels than `num_channels` has a fault, so that only this image fails, when it is read.
    """
    result: list[Input] = []
    groups: dict[tuple[str, str], dict[int, list[Input]]] = {}
    for item in inputs:
        named = None if isinstance(item, VideoInput) else split_channel(item.stem.name)
        if named is None:
            result.append(item)
        else:
            folder = item.url.partition("?")[0].rpartition("/")[0] or str(item.path.parent)
            groups.setdefault((folder, named[0]), {}).setdefault(named[1], []).append(item)
    for (_, stem), channels in groups.items():
        files = tuple(file for channel in sorted(channels) for file in channels[channel])
        first = files[0]
        fault = _find_fault(stem + first.path.suffix, channels, files, num_channels)
        fault = f"{first.name}: {fault}" if fault else ""
        result.append(ChannelGroup(first.path, first.stem.with_name(stem), first.url, files=files, fault=fault))
    return sorted(result, key=lambda item: (item.path, item.name))


def _find_fault(image: str, channels: Mapping[int, Sequence[Input]], files: Iterable[Input], num_channels: int) -> str:
    """Return why the files are not an image; empty if they are."""
    missing = [str(channel) for channel in range(num_channels) if channel not in channels]
    if missing:
        return (
            f"The image {image} has the channels 0 to {num_channels - 1}, but no file was given for channel "
            f"{', '.join(missing)}. Give all files, their folder, or one file with all channels whose name does not "
            f"end in four digits."
        )
    for channel, same in sorted(channels.items()):
        if channel >= num_channels:
            return (
                f"There is also {same[0].path.name}, but the model was trained on the channels 0 to "
                f"{num_channels - 1}. Remove that file."
            )
        if len(same) > 1:
            names = " and ".join(file.path.name for file in same)
            return f"Channel {channel} of the image {image} has two files, {names}. Remove one."
    for file in files:
        if isinstance(file, RasterInput):
            return (
                f"{file.path.name} is read window by window, which is not supported for images of several files. "
                f"Give one file with all channels."
            )
    return ""


def is_remote(name: str) -> bool:
    """Return whether a name has a scheme. A single letter is a drive of Windows."""
    return bool(_URL.match(name))


def find_remote(url: str, extensions: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Find the images at a URL; yields the URL of each and the path that its outputs keep.

    A URL that ends in one of `extensions` is one image; no request is made. A URL with `*` is a pattern, any other one
    a folder. Raises InvalidArgumentError if the server cannot be reached.
    """
    path = _get_url_path(url)
    if path.suffix.lower() in extensions and "*" not in url:
        yield url, Path(path.name)
        return
    try:
        system, root = _import_fsspec().url_to_fs(url)
        names = system.glob(root) if "*" in url else system.find(root)
        urls = {name: str(system.unstrip_protocol(name)) for name in sorted(names)}
    except InvalidArgumentError:
        raise
    except Exception as error:  # every file system has its own errors
        raise InvalidArgumentError(f"{url} cannot be listed ({describe_cause(error)}). Check the address.") from error
    for name, full_url in urls.items():
        is_pattern = "*" in url
        inner = Path(_get_url_path(full_url).name if is_pattern else name.removeprefix(root).lstrip("/"))
        is_hidden = any(part.startswith(".") for part in inner.parts)
        if inner.suffix.lower() in extensions and not is_hidden:
            yield full_url, inner


def read_remote(url: str) -> bytes:
    """Read all bytes behind a URL. Raises DataError if that fails."""
    with open_remote(url) as file:
        try:
            return file.read()
        except Exception as error:  # every file system has its own errors
            raise DataError(f"{url}: The file cannot be read ({describe_cause(error)}). Check the address.") from error


def open_remote(url: str) -> BinaryIO:
    """Open the file behind a URL, whose parts are fetched as they are read. Raises DataError if that fails."""
    try:
        system, path = _import_fsspec().url_to_fs(url)
        return cast(BinaryIO, system.open(path, "rb"))
    except InvalidArgumentError:
        raise
    except Exception as error:  # every file system has its own errors
        raise DataError(f"{url}: The file cannot be read ({describe_cause(error)}). Check the address.") from error


def _get_url_path(url: str) -> PurePosixPath:
    """Return the part of a URL after the scheme, without the query."""
    return PurePosixPath(url.partition("://")[2].partition("?")[0])


def _import_fsspec() -> Any:
    with explain_missing_extra("an image behind a URL", "fsspec", "remote"):
        import fsspec.core
    return fsspec.core
