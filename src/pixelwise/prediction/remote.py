"""Images and videos behind URLs of any kind that fsspec knows: https://, s3://, ... (extra `remote`)."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.errors import DataError, InvalidArgumentError, missing_extra

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(given: str) -> bool:
    """Whether it has a scheme. One letter is a drive of Windows."""
    return bool(_URL.match(given))


def find_remote(url: str, endings: tuple[str, ...] = IMAGE_EXTENSIONS) -> Iterator[tuple[str, PurePosixPath]]:
    """Each image with its URL and the path that its outputs keep; of a folder what is below it.

    A URL that ends in one of `endings` is taken for an image, unasked; one with `*` is a pattern. InvalidArgumentError
    where the place cannot be asked.
    """
    path = _path(url)
    if path.suffix.lower() in endings and "*" not in url:
        yield url, PurePosixPath(path.name)
        return
    try:
        system, root = _fsspec().url_to_fs(url)
        found = system.glob(root) if "*" in url else system.find(root)
        names = {name: str(system.unstrip_protocol(name)) for name in sorted(found)}
    except InvalidArgumentError:
        raise
    except Exception as error:  # each kind of place has errors of its own
        raise InvalidArgumentError(f"{url} cannot be looked into ({_reason(error)}); check the address.") from error
    for name, full in names.items():
        inner = (
            PurePosixPath(name.removeprefix(root).lstrip("/")) if "*" not in url else PurePosixPath(_path(full).name)
        )
        hidden = any(part.startswith(".") for part in inner.parts)
        if inner.suffix.lower() in endings and not hidden:
            yield full, inner


def read_remote(url: str) -> bytes:
    """All bytes behind a URL. DataError where they cannot be had."""
    try:
        with _fsspec().open(url, "rb") as file:
            return bytes(file.read())
    except InvalidArgumentError:
        raise
    except Exception as error:  # each kind of place has errors of its own
        raise DataError(f"{url}: cannot be read ({_reason(error)}); check the address.") from error


def open_remote(url: str) -> BinaryIO:
    """What is behind a URL, read as it is needed. DataError where it cannot be had."""
    try:
        system, path = _fsspec().url_to_fs(url)
        return cast(BinaryIO, system.open(path, "rb"))
    except InvalidArgumentError:
        raise
    except Exception as error:  # each kind of place has errors of its own
        raise DataError(f"{url}: cannot be read ({_reason(error)}); check the address.") from error


def _path(url: str) -> PurePosixPath:
    """What stands behind the scheme, without a query."""
    return PurePosixPath(url.partition("://")[2].partition("?")[0])


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _fsspec() -> Any:
    try:
        import fsspec.core
    except ImportError as error:
        raise missing_extra("an image behind a URL", "fsspec", "remote") from error
    return fsspec.core
