import gzip
import json
from collections.abc import Callable
from pathlib import Path

import torch

from pixelwise.training.profiler import NUM_OPERATORS, WAIT, profile_steps
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import PHASES, Trainer


def test_the_parts_of_a_step_are_in_it_and_on_disk(make_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    found = profile_steps(make_trainer(), run, steps=2)
    assert list(found.phases) == [WAIT, *PHASES]
    assert all(found.phases[name] > 0 for name in PHASES)
    # Parts follow each other, but for what stands between them.
    assert 0.5 * found.step < sum(found.phases.values()) <= found.step
    assert len(found.operators) == NUM_OPERATORS
    assert list(found.operators.values()) == sorted(found.operators.values(), reverse=True)
    assert not {WAIT, *PHASES} & found.operators.keys()
    assert any("conv" in name for name in found.operators)
    assert run.profile.read_text().splitlines() == found.lines()
    with gzip.open(run.profile_trace) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {WAIT, *PHASES} <= names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["profile.json.gz", "profile.txt"]


def test_the_run_does_not_notice(make_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer = make_trainer()
    before = trainer.rebuild().model.state_dict()
    profile_steps(trainer, RunFolder(tmp_path), steps=1)
    after = trainer.rebuild().model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
