"""Faults of the operating system while a command reads or writes: one wording, and no word of Python."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pixelwise as pw
from pixelwise import files
from pixelwise.errors import PathAccessError, PathNotFoundError, convert_os_error, describe_cause
from support.permissions import respect_permissions

FAULTS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "symbolic links lead in a circle",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the device does not answer",
    errno.EADDRINUSE: "address already in use",
}
READS: dict[str, Callable[[dict[str, Path]], object]] = {
    "check": lambda p: pw.check(p["locked"]),
    "convert": lambda p: pw.convert(p["locked"], p["out"], to="voc"),
    "plan": lambda p: pw.plan(p["locked"]),
    "train": lambda p: pw.train(p["data"], p["out"], config=p["locked"] / "config.yaml"),
    "evaluate": lambda p: pw.evaluate(p["locked"] / "model.safetensors", p["data"]),
    "predict": lambda p: pw.predict(p["run"], [p["locked"] / "a.png"], p["out"]),
    "quantize": lambda p: pw.quantize(p["locked"] / "model.safetensors", p["data"]),
    "export": lambda p: pw.export(p["locked"] / "model.safetensors", p["out"] / "m.onnx"),
    "localize": lambda p: pw.localize([p["locked"] / "a.png"], p["out"], classifier="resnet18"),
}
WRITES: dict[str, Callable[[dict[str, Path]], object]] = {
    "check": lambda p: pw.check(p["data"], json_path=p["locked"] / "a.json"),
    "convert": lambda p: pw.convert(p["data"], p["locked"] / "out", to="voc"),
    "train": lambda p: pw.train(p["data"], p["locked"] / "run", steps=1),
    "evaluate": lambda p: pw.evaluate(p["run"], p["data"], json_path=p["locked"] / "a.json", device="cpu"),
    "predict": lambda p: pw.predict(p["run"], [p["image"]], p["locked"] / "out", device="cpu"),
    "localize": lambda p: pw.localize([p["image"]], p["locked"] / "out", classifier="resnet18"),
    "demo": lambda p: pw.demo(p["locked"] / "demo"),
}


@pytest.mark.parametrize("number", FAULTS)
def test_a_fault_has_one_wording(number: int) -> None:
    error = OSError(number, os.strerror(number), "a.png")
    converted = convert_os_error(error, "a.png", "be read")
    assert str(converted).startswith("a.png ")
    assert FAULTS[number] in str(converted)
    assert str(converted).endswith(".")
    assert "Errno" not in f"{converted}{describe_cause(error)}"
    missing = number in (errno.ENOENT, errno.ENOTDIR)
    assert isinstance(converted, PathNotFoundError if missing else PathAccessError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE])
def test_a_failed_write_names_the_file_that_was_asked_for(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(PathAccessError) as caught:
        pw.check(streets, json_path=tmp_path / "a.json")
    path = tmp_path / "a.json"
    assert str(caught.value).startswith(f"{path} cannot be read or written ({FAULTS[number]}). ")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def paths(streets: Path, trained: Path, tmp_path: Path) -> Any:
    """A dataset, a run, an image, and a folder that neither can be read nor written to."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    image = sorted(streets.glob("images/test/*"))[0]
    with respect_permissions():
        yield {"data": streets, "run": trained, "image": image, "out": tmp_path / "out", "locked": locked}
    locked.chmod(0o700)


@pytest.mark.parametrize(
    "call", [*READS.values(), *WRITES.values()], ids=[*(f"read-{n}" for n in READS), *(f"write-{n}" for n in WRITES)]
)
def test_missing_permissions_are_named(paths: dict[str, Path], call: Callable[[dict[str, Path]], object]) -> None:
    with pytest.raises(PathAccessError, match=r"locked.* \(permission denied\)\. Change its permissions"):
        call(paths)
