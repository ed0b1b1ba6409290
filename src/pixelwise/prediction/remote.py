"""Read images and videos behind URLs that fsspec supports: https://, s3://, ... (extra `remote`)."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.errors import DataError, InvalidArgumentError, missing_extra

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(name: str) -> bool:
    """Return whether a name has a scheme. A single letter is a drive of Windows."""
    return bool(_URL.match(name))


def find_remote(url: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> Iterator[tuple[str, Path]]:
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
        raise InvalidArgumentError(f"{url} cannot be listed ({_describe_error(error)}). Check the address.") from error
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
            raise DataError(f"{url}: The file cannot be read ({_describe_error(error)}). Check the address.") from error


def open_remote(url: str) -> BinaryIO:
    """Open the file behind a URL, whose parts are fetched as they are read. Raises DataError if that fails."""
    try:
        system, path = _import_fsspec().url_to_fs(url)
        return cast(BinaryIO, system.open(path, "rb"))
    except InvalidArgumentError:
        raise
    except Exception as error:  # every file system has its own errors
        raise DataError(f"{url}: The file cannot be read ({_describe_error(error)}). Check the address.") from error


def _get_url_path(url: str) -> PurePosixPath:
    """Return the part of a URL after the scheme, without the query."""
    return PurePosixPath(url.partition("://")[2].partition("?")[0])


def _describe_error(error: Exception) -> str:
    return str(error) or type(error).__name__


def _import_fsspec() -> Any:
    try:
        import fsspec.core
    except ImportError as error:
        raise missing_extra("an image behind a URL", "fsspec", "remote") from error
    return fsspec.core
