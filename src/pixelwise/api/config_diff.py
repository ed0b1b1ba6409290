"""Changes of config and dataset since a run was started: refused with a list, or accepted and written down."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.file_records import read_file_records, record_files
from pixelwise.errors import CheckpointError, DataError
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder

_MAX_LISTED = 10
"""Number of changes listed in one message."""

_FIXED_KEYS = re.compile(r"network\.|optimizer\.(name|freeze_stages|layer_decay)$")
"""Keys that cannot change within a run, because the trained weights depend on them."""

_FREE_KEYS = re.compile(r"training\.activation_checkpointing$")
"""Keys that change only the memory and the time of a run, no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference between a run and a call that resumes it; an entry of `changes.yaml`."""

    what: str
    """A key of the config, or a file of the dataset."""
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} → {self.now}"


def compare_configs(before: Config, now: Config) -> list[Change]:
    """Return the changed keys in the order of the config."""
    after = now.to_dict()
    return [
        Change(what=f"{section}.{key}", before=_format_value(value), now=_format_value(after[section][key]))
        for section, values in before.to_dict().items()
        for key, value in values.items()
        if after[section][key] != value
    ]


def select_effective(changes: Iterable[Change]) -> list[Change]:
    """Return the changes that affect the result of a run."""
    return [change for change in changes if not _FREE_KEYS.match(change.what)]


def _format_value(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]


def compare_files(run: RunFolder, dataset: Dataset) -> list[Change]:
    """Return the files that are new, missing or of a different content since the run was started."""
    try:
        before = read_file_records(run.inventory)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if before is None:
        return []
    now = record_files(dataset)
    changes = []
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            old, new = (f"{files[name].size} bytes" if name in files else "missing" for files in (before, now))
            changes.append(Change(what=name, before=old, now=f"{new}, with other contents" if new == old else new))
    return changes


def refuse_changes(run: RunFolder, subject: str, changes: Sequence[Change], fix: str) -> None:
    """Raise CheckpointError with a line for each change, if there are any."""
    if not changes:
        return
    lines = [f"  {change}" for change in changes[:_MAX_LISTED]]
    lines += [f"  and {len(changes) - _MAX_LISTED} more"] if len(changes) > _MAX_LISTED else []
    raise CheckpointError("\n".join([f"{run.path} was started with a different {subject}:", *lines, fix]))


def require_same_config(run: RunFolder, before: Config, now: Config, *, is_changeable: bool = True) -> None:
    """Raise CheckpointError for a different config.

    If the run `is_changeable`, the message names --allow-changes, and keys without effect on the result may differ.
    """
    option = "accept the new values with --allow-changes, " if is_changeable else ""
    fix = f"Resume without changing it, {option}or start a new run."
    changes = compare_configs(before, now)
    refuse_changes(run, "config", select_effective(changes) if is_changeable else changes, fix)


def require_changeable(run: RunFolder, changes: Iterable[Change]) -> None:
    """Raise CheckpointError for keys that cannot change within a run."""
    fixed = [change for change in changes if _FIXED_KEYS.match(change.what)]
    refuse_changes(run, "network or optimizer", fixed, "These cannot change within a run. Start a new run.")


def require_same_files(run: RunFolder, dataset: Dataset) -> None:
    """Raise CheckpointError for other files in the dataset."""
    fix = "Restore the dataset, accept it with --allow-changes, or start a new run."
    refuse_changes(run, "dataset", compare_files(run, dataset), fix)


def write_changes(run: RunFolder, config: Config, changes: Sequence[Change], step: int) -> None:
    """Add the changes to `changes.yaml`, and write the new config with them as reasons."""
    entries = [*_read_changes(run), *({"after_step": step, **asdict(change)} for change in changes)]
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)
    write_atomically(run.changes, f"# Changes while the run was in progress:\n{text}".encode())
    reasons = {change.what: f"{change.before} until step {step}" for change in changes}
    config = replace(config, reasons={**config.reasons, **reasons})
    write_atomically(run.config, config.to_yaml().encode())


def _read_changes(run: RunFolder) -> list[dict[str, Any]]:
    return yaml.safe_load(run.changes.read_text(encoding="utf-8")) if run.changes.exists() else []


def describe_changes(run: RunFolder) -> list[str]:
    """Return notes on the changes for the report."""
    return [
        f"changed after step {c['after_step']}: {c['what']}: {c['before']} → {c['now']}" for c in _read_changes(run)
    ]
