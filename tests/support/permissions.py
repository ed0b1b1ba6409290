"""File permissions that count for the tests, also when root runs them."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_VERSION = 0x20080522
"""Version 3 of Linux capability sets: two words each."""
_FILE_ACCESS = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: read and write files whatever their permissions."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = tuple(
        (f"{name}_{word}", ctypes.c_uint32) for word in range(2) for name in ("effective", "permitted", "inheritable")
    )


@contextmanager
def respect_permissions() -> Iterator[None]:
    """Give up root's access to all files inside the block, in this thread and the threads that it starts."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs the capabilities of Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION, 0), _Sets()
    assert libc.capget(ctypes.byref(header), ctypes.byref(sets)) == 0
    before = sets.effective_0
    sets.effective_0 = before & ~_FILE_ACCESS
    assert libc.capset(ctypes.byref(header), ctypes.byref(sets)) == 0
    try:
        yield
    finally:
        sets.effective_0 = before
        assert libc.capset(ctypes.byref(header), ctypes.byref(sets)) == 0
