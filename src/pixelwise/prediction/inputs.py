"""What is to be predicted: files, folders, globs and URLs → images in a fixed order."""

import glob
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pixelwise.data import rasters
from pixelwise.data.io import images, video
from pixelwise.data.io.channel_files import stack_channels
from pixelwise.data.io.images import Array, DecodedImage, decode_image, decode_image_bytes, read_image, read_image_bytes
from pixelwise.data.rasters import is_windowed_only
from pixelwise.data.rasters.ome_zarr import is_zarr
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.prediction.remote import find_remote, is_remote, open_remote, read_remote

ENDINGS = (*images.IMAGE_EXTENSIONS, *rasters.WINDOWED_EXTENSIONS)
"""Of images that can be predicted: files, and folders that are one image."""


@dataclass(frozen=True, slots=True, order=True)
class Input:
    """One image or video and where its outputs go: the folder structure and the stem are kept."""

    path: Path
    """Of a URL only its path: `name` is what users know it by. Of an image of several files, the first."""
    stem: Path
    url: str = ""
    """Of an image elsewhere; empty of a file."""
    windowed: bool = False
    """Whether it is read window by window, its labels written as such an image has them."""
    files: tuple["Input", ...] = ()
    """Of an image that has a file for each channel, these, in their order."""
    fault: str = ""
    """Why these are no image; empty where they are."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.url or str(self.path)

    @property
    def folder(self) -> str:
        """Where it lies."""
        return self.url.partition("?")[0].rpartition("/")[0] or str(self.path.parent)

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in video.VIDEO_EXTENSIONS

    @property
    def inner_name(self) -> str:
        """Its name in files that list several images: `trip/0001.jpg`."""
        return self.stem.with_name(self.stem.name + self.path.suffix).as_posix()

    def read(self, channels: int | None = None) -> Array:
        """(H, W, C) as `read_image` gives it. DataError of a fault, and of what is never decoded as a whole."""
        if self.fault:
            raise DataError(self.fault)
        if self.files:
            return self._stacked(channels)
        if self.url:
            return read_image_bytes(read_remote(self.url), self.url, channels)
        if is_windowed_only(self.path):
            raise DataError(f"{self.path}: is read window by window, by 'pixelwise predict' alone; cut out an image.")
        return read_image(self.path, channels)

    def _stacked(self, channels: int | None) -> Array:
        decoded = stack_channels((file.name, file._decoded()) for file in self.files)
        try:
            return decoded.fill_missing(channels)[0]
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error

    def _decoded(self) -> DecodedImage:
        return decode_image_bytes(read_remote(self.url), self.url) if self.url else decode_image(self.path)

    def open(self) -> BinaryIO:
        """The encoded image or video, of several files the first; of a video behind a URL only what is read."""
        if self.url and self.is_video:
            return open_remote(self.url)
        return io.BytesIO(read_remote(self.url)) if self.url else self.path.open("rb")


def find_inputs(inputs: Sequence[str | Path], output: Path | None = None, *, videos: bool = False) -> list[Input]:
    """Files, folders (recursively), globs and URLs → images in a fixed order. Nothing found is an error.

    With `videos` those are found, too.

    An `output` folder inside an input folder is passed over: results are no inputs.
    """
    endings = (*ENDINGS, *video.VIDEO_EXTENSIONS) if videos else ENDINGS
    found: dict[str, Input] = {}
    for given in inputs:
        matches = [item for item in _expand(str(given), endings) if not _is_result(item, Path(given), output)]
        if not matches:
            raise InvalidArgumentError(
                f"{given} is no image, no folder with images and no pattern that matches one; "
                f"{'images and videos' if videos else 'images'} end in {', '.join(endings)}."
            )
        for item in matches:  # a pattern such as photos/** names the folder before what is in it
            found.setdefault(item.name, item)
    return sorted(found.values())


def _is_result(item: Input, given: Path, output: Path | None) -> bool:
    if output is None or item.url or not given.is_dir():
        return False
    folder, inside = output.resolve(), item.path.resolve()
    return folder != given.resolve() and given.resolve() in folder.parents and folder in inside.parents


def _expand(given: str, endings: tuple[str, ...]) -> Iterator[Input]:
    path = Path(given)
    if is_remote(given):
        remote = tuple(
            ending for ending in endings if ending not in rasters.WINDOWED_EXTENSIONS
        )  # those are read from files alone
        yield from (_elsewhere(url, inner) for url, inner in find_remote(given, remote))
    elif path.is_dir() and not is_zarr(path):
        yield from _inside(path, endings)
    elif path.exists():
        yield Input(path, Path(path.stem))
    else:
        for match in map(Path, glob.iglob(given, recursive=True)):
            if any(map(is_zarr, match.parents)):
                continue  # a pattern such as photos/** names all that a Zarr is made of
            if match.is_dir() and not is_zarr(match):
                yield from _inside(match, endings)
            elif is_zarr(match) or match.suffix.lower() in endings:
                yield Input(match, Path(match.stem))


def _elsewhere(url: str, inner: PurePosixPath) -> Input:
    return Input(Path(inner), Path(inner.with_suffix("")), url)


def _inside(folder: Path, endings: tuple[str, ...]) -> Iterator[Input]:
    """Every image or video below a folder; hidden files and folders are the system's, not the user's."""
    for here, folders, files in os.walk(folder):
        whole = [name for name in folders if is_zarr(Path(here, name))]
        folders[:] = [name for name in folders if name not in whole and not name.startswith(".")]
        for name in (*whole, *(file for file in files if Path(file).suffix.lower() in endings)):
            if not name.startswith("."):
                path = Path(here, name)
                yield Input(path, path.relative_to(folder).with_suffix(""))
