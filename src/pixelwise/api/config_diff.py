"""What became another while a run was stopped: refused with the difference shown, or taken and written down."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from pixelwise.config import Config, to_yaml
from pixelwise.data.dataset import Dataset
from pixelwise.errors import CheckpointError
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder

_SHOWN = 10
"""Files of a dataset in one message."""

_FIXED = re.compile(r"network\.|optimizer\.(name|freeze_stages|layer_decay)$")
"""Keys that what is trained so far depends on."""

_FREE = re.compile(r"training\.activation_checkpointing$")
"""Keys that no number of the run depends on, only the memory and the time that it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of `changes.yaml`."""

    what: str
    """A key of the config, or a file of the dataset."""
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} → {self.now}"


def config_changes(before: Config, now: Config) -> list[Change]:
    """Key by key, in the order of the config."""
    after = now.to_dict()
    return [
        Change(what=f"{section}.{key}", before=_shown(value), now=_shown(after[section][key]))
        for section, values in before.to_dict().items()
        for key, value in values.items()
        if after[section][key] != value
    ]


def weighty(changes: Iterable[Change]) -> list[Change]:
    """Those on which depends what is trained."""
    return [change for change in changes if not _FREE.match(change.what)]


def _shown(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]


def inventory(dataset: Dataset) -> dict[str, int]:
    """File below the dataset's root → bytes, of all that trains or validates. Nothing is read."""
    pairs = [(s.image_path, s.label_path) for s in dataset.samples if s.split != "test"]
    files = sorted({path for pair in pairs for path in pair})
    return {dataset.get_relative_path(path): path.stat().st_size for path in files if path.is_file()}


def write_inventory(run: RunFolder, dataset: Dataset) -> None:
    write_atomically(run.files, (json.dumps(inventory(dataset), indent=0, ensure_ascii=False) + "\n").encode())


def data_changes(run: RunFolder, dataset: Dataset) -> list[Change]:
    """Files that are new, missing or of another size since the run began."""
    if not run.files.exists():
        return []
    try:
        before = dict(json.loads(run.files.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{run.files} cannot be read ({error}); restore or remove it.") from error
    now = inventory(dataset)
    return [
        Change(what=name, before=_size(before, name), now=_size(now, name))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _size(files: Mapping[str, int], name: str) -> str:
    return f"{files[name]} bytes" if name in files else "not there"


def refuse_changes(run: RunFolder, what: str, changes: Sequence[Change], cure: str) -> None:
    """Raises CheckpointError where there are any, with each of them in a line."""
    if not changes:
        return
    lines = [f"  {change}" for change in changes[:_SHOWN]]
    lines += [f"  and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
    raise CheckpointError("\n".join([f"{run.path} was started with another {what}:", *lines, cure]))


def require_unchanged(run: RunFolder, started_with: Config, asked: Config, *, changeable: bool = True) -> None:
    """Raises CheckpointError, which names --allow-changes where the run is `changeable`.

    A run that is changeable may take more memory or less, unasked.
    """
    way_on = "take the new values from here on with --allow-changes, " if changeable else ""
    cure = f"resume without changing it, {way_on}or start a new run."
    changes = config_changes(started_with, asked)
    refuse_changes(run, "config", weighty(changes) if changeable else changes, cure)


def require_changeable(run: RunFolder, changes: Iterable[Change]) -> None:
    """Not everything can become another in the middle of a run."""
    fixed = [change for change in changes if _FIXED.match(change.what)]
    refuse_changes(run, "network or optimizer", fixed, "these cannot change within a run: start a new one.")


def require_same_files(run: RunFolder, dataset: Dataset) -> None:
    cure = "put it back, go on with it as it is now with --allow-changes, or start a new run."
    refuse_changes(run, "dataset", data_changes(run, dataset), cure)


def note_changes(run: RunFolder, step: int, changes: Sequence[Change]) -> None:
    """Adds them to `changes.yaml`."""
    known = yaml.safe_load(run.changes.read_text(encoding="utf-8")) if run.changes.exists() else []
    known += [{"after_step": step, **asdict(change)} for change in changes]
    header = "# Taken while the run was under way:\n"
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=1000)
    write_atomically(run.changes, (header + text).encode())


def read_change_notes(run: RunFolder) -> list[str]:
    """For the report."""
    known = yaml.safe_load(run.changes.read_text(encoding="utf-8")) if run.changes.exists() else []
    return [f"changed after step {one['after_step']}: {one['what']}: {one['before']} → {one['now']}" for one in known]


def rewrite_config(path: Path, config: Config, changes: Iterable[Change], step: int) -> None:
    """The config from here on; the reasons of what has not changed stay beside it."""
    reasons = _read_reasons(path.read_text(encoding="utf-8"))
    reasons |= {change.what: f"{change.before} until step {step}" for change in changes}
    write_atomically(path, to_yaml(config, reasons).encode())


def _read_reasons(text: str) -> dict[str, str]:
    reasons, section = {}, ""
    for line in text.splitlines():
        if match := re.match(r"(\w+):$", line):
            section = match[1]
        elif match := re.match(r"  (\w+): .*?  # (.*)$", line):
            reasons[f"{section}.{match[1]}"] = match[2]
    return reasons
