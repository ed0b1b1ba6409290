"""`predict --resume`: what an output folder was asked for, and what of it is there."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.errors import InvalidArgumentError
from pixelwise.files import READ_ERRORS, read_json, write_atomically
from pixelwise.prediction.outputs import JOB_FILES

FILE_NAME = "predict.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """All that decides what the outputs of an image hold."""

    model: str
    """Checksum of the model."""
    settings: Mapping[str, Any]
    """Plain values of JSON."""

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "settings": dict(self.settings)}


def require_resumable(kinds: Sequence[str], label_values: str, option: str = "--resume") -> None:
    """InvalidArgumentError where files on all images could not be completed without predicting all again.

    What they say of images that are done, earlier or by another process, is read from the label files.
    `option` is the one that asks for it.
    """
    of_job = [kind for kind in kinds if kind in JOB_FILES]
    if of_job and ("labels" not in kinds or label_values != "index"):
        raise InvalidArgumentError(
            f"{option} reads what is done for {of_job[0]} from label files of class indices; save labels too, "
            f"with --label-values index, or leave {option} out."
        )


def begin(output: Path, request: JobRequest, targets: Iterable[Path], *, resume: bool) -> bool:
    """Writes down what the folder is asked for. Returns whether files that are there count as done.

    Only those of an equal request do. Files of `targets` that another one has left are removed: a later
    `--resume` must not take them for its own. InvalidArgumentError for `resume` with another request.

    Several shards may begin at once, each with targets of its own. The description that one has written
    stays as it is for the others: files are done that are not older than it (`Outputs.are_there`). Were
    two written at the same instant all the same, a later `--resume` would do a little work twice.
    """
    wanted, before = request.to_dict(), _before(output)
    if before == wanted:
        return resume
    if resume and before is not None:
        raise InvalidArgumentError(
            f"{output} holds results of another request ({_difference(before, wanted)}); "
            f"ask for the same as then, choose another folder with -o, or leave --resume out."
        )
    for path in targets:
        remove(path)
    if _before(output) != wanted:
        write_atomically(output / FILE_NAME, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())
    return False


def remove(path: Path) -> None:
    """A file, or a folder with all that it holds, that is gone at once; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        going = path.with_name(f".{path.name}.{os.getpid()}.gone")
        path.rename(going)  # half of a folder would look like a result
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)


def _before(output: Path) -> Any:
    """The request that the folder was last asked for; None where there was none, or it cannot be read."""
    try:
        return read_json(output / FILE_NAME)
    except READ_ERRORS:
        return None


def _difference(before: Any, wanted: Mapping[str, Any]) -> str:
    if not isinstance(before, dict) or not isinstance(before.get("settings"), dict):
        return f"{FILE_NAME} is of another kind"
    if before.get("model") != wanted["model"]:
        return "another model"
    old, new = before["settings"], wanted["settings"]
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name)!r} and is {new.get(name)!r}" for name in names)
