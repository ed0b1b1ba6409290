"""Several processes train as one does, and end cleanly when one of them is lost."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import torch

from pixelwise.data.synthetic import write_dataset
from pixelwise.recipe import Recipe, to_yaml
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint
from pixelwise.training.run_folder import RunFolder

KILL, TERMINATE = 9, 15

STEPS = 20


class Ran(NamedTuple):
    """What a command in several processes left behind."""

    codes: list[int]
    said: list[str]
    """By each process."""
    samples: dict[int, list[str]]
    """Step → the images of all processes, in their order."""
    run: RunFolder

    @property
    def checkpoint(self) -> Checkpoint:
        found = load_checkpoint(self.run)
        assert found is not None, self.said
        return found


Train = Callable[..., Ran]


@pytest.fixture(scope="module")
def ranks() -> Iterator[subprocess.Popen[str]]:
    """`ranks.py`, waiting for requests."""
    command = [sys.executable, str(Path(__file__).parents[1] / "ranks.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of which every second one is half ignored, so that the processes have unequal numbers of pixels."""
    root = tmp_path_factory.mktemp("ranks") / "streets"
    write_dataset(root, "streets", num_train=8, num_val=3, num_test=1, size=(32, 32), seed=0)
    for path in sorted((root / "labels" / "train").glob("*.png"))[::2]:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[:16] = 255
        cv2.imwrite(str(path), mask)
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "recipe.yaml"
    changes = {
        "data.crop": [32, 32],
        "network.width": 4,
        "network.depth": 2,
        "network.normalization": "group",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "training.batch_size": 4,
        "training.evaluations": 4,
        "training.loggers": [],
        "augmentation.scale": [1, 1],
        "augmentation.rotate": 0,
    }
    path.write_text(to_yaml(Recipe().replace(changes)))
    return path


@pytest.fixture(scope="module")
def train(ranks: subprocess.Popen[str], data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """`train(size, *options)`: `pixelwise train` in so many processes."""

    def act(size: int, *options: str, run: Path | None = None, instant: dict[str, int] | None = None) -> Ran:
        output = tmp_path_factory.mktemp("ranks")
        folder = run or output / "run"
        words = [
            "train",
            data,
            "-o",
            folder,
            "--recipe",
            recipe,
            "--steps",
            STEPS,
            "--deterministic",
            "--device",
            "cpu",
        ]
        arguments = {"arguments": [*map(str, words), *options], "instant": instant}
        request = {"call": "command", "size": size, "arguments": arguments, "output": str(output)}
        assert ranks.stdin
        assert ranks.stdout
        ranks.stdin.write(json.dumps(request) + "\n")
        ranks.stdin.flush()
        codes = json.loads(ranks.stdout.readline())
        said = [" ".join((output / f"rank-{rank}.txt").read_text().split()) for rank in range(size)]
        return Ran(codes, said, samples_of(output, size), RunFolder(folder))

    return act


def samples_of(output: Path, size: int) -> dict[int, list[str]]:
    samples: dict[int, list[str]] = {}
    for rank in range(size):
        file = output / f"samples-{rank}.txt"
        for line in file.read_text().splitlines() if file.exists() else ():
            step, names = json.loads(line)
            samples.setdefault(step, []).extend(names)
    return samples


@pytest.fixture(scope="module")
def one(train: Train) -> Ran:
    return train(1)


@pytest.fixture(scope="module")
def two(train: Train) -> Ran:
    return train(2)


def require_same_weights(some: Ran, others: Ran) -> None:
    assert some.checkpoint.step == others.checkpoint.step == STEPS
    for name, tensor in some.checkpoint.model.items():
        torch.testing.assert_close(others.checkpoint.model[name], tensor, rtol=0, atol=1e-5, msg=name)


def validations(ran: Ran) -> list[Any]:
    return [line["val"] for line in ran.run.read_metrics() if "val" in line]


def test_two_processes_come_to_the_weights_of_one(one: Ran, two: Ran, train: Train) -> None:
    assert two.codes == [0, 0], two.said
    require_same_weights(one, two)


def test_two_processes_log_the_loss_of_one(one: Ran, two: Ran) -> None:
    last = [[line["loss"] for line in ran.run.read_metrics() if "loss" in line][-1] for ran in (one, two)]
    assert last[1] == pytest.approx(last[0], rel=0.2)  # means over what fell into a second


def test_processes_share_each_batch_without_repeats(one: Ran, two: Ran) -> None:
    assert {step: len(names) for step, names in two.samples.items()} == dict.fromkeys(range(STEPS), 4)
    assert two.samples == one.samples
    epoch = two.samples[0] + two.samples[1]
    assert len(set(epoch)) == 8


def test_scores_are_those_of_one_process(one: Ran, two: Ran) -> None:
    assert len(validations(two)) == 4
    assert validations(two) == validations(one)


def test_only_the_first_process_writes_and_says(two: Ran) -> None:
    assert "2 processes, each on 2 of the 4 images of a batch" in two.said[0]
    assert two.said[1] == ""
    assert list(two.run.path.rglob("*.part")) == []
    assert two.run.report.exists()


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_losses_that_are_no_mean_over_pixels_are_the_same_too(train: Train, parts: int) -> None:
    options = ("--set", "loss.dice=0.5", "--set", "training.evaluations=1")
    require_same_weights(train(1, *options), train(2, *options, "--set", f"training.accumulate={parts}"))


@pytest.mark.slow
def test_parts_and_processes_go_together(one: Ran, train: Train) -> None:
    require_same_weights(one, train(2, "--set", "training.accumulate=2"))


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_all_and_resuming_ends_in_the_same_model(train: Train, two: Ran, lost: int) -> None:
    killed = train(2, instant={"rank": lost, "step": 13, "signal": KILL})
    assert killed.codes[lost] == -KILL
    assert killed.codes[1 - lost] == 2, killed.said
    assert "another process of this run has ended or cannot be reached" in killed.said[1 - lost]
    assert "Traceback" not in killed.said[1 - lost]
    assert killed.checkpoint.step == 10
    resumed = train(2, "--resume", run=killed.run.path)
    assert resumed.codes == [0, 0], resumed.said
    assert resumed.run.model.read_bytes() == two.run.model.read_bytes()


@pytest.mark.parametrize("stopped", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_asked_to_stop_stops_all_and_the_first_saves(train: Train, two: Ran, stopped: int) -> None:
    ran = train(2, instant={"rank": stopped, "step": 7, "signal": TERMINATE})
    assert ran.codes[0] == 143, ran.said
    assert ran.codes[stopped] == 143, ran.said
    assert "stopped; go on with" in ran.said[0]
    assert ran.checkpoint.step in (7, 8)
    resumed = train(2, "--resume", run=ran.run.path)
    assert resumed.run.model.read_bytes() == two.run.model.read_bytes()


def test_a_batch_that_cannot_be_shared_is_refused(train: Train) -> None:
    ran = train(2, "--set", "training.batch_size=5")
    assert ran.codes == [2, 2]
    wanted = (
        "a batch of 5 images cannot be shared by 2 processes; take a multiple of 2: --set training.batch_size=4 or 6"
    )
    assert wanted in ran.said[0]
    assert not ran.run.path.exists()
