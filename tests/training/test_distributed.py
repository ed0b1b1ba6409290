"""Several processes train as one does, and end cleanly when one of them is lost."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import torch

from pixelwise.config import Config
from pixelwise.data.synthetic import write_dataset
from pixelwise.errors import InvalidArgumentError, TrainingError
from pixelwise.training import distributed as home
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint
from pixelwise.training.distributed import (
    SINGLE_PROCESS,
    Decision,
    ProcessLostError,
    World,
    choose_process_device,
    explain_lost_process,
    is_distributed,
    is_first_process,
    name_attempt,
    require_devices,
)
from pixelwise.training.resource_errors import step_within_memory
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer
from support.commands import parse_command
from support.processes import waiting

KILL, TERMINATE = 9, 15

STEPS = 20

SHARDED = ("--set", "training.sharding=fsdp")


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
    with waiting("ranks.py") as process:
        yield process


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of which every second one is half ignored, so that the processes have unequal numbers of pixels."""
    root = tmp_path_factory.mktemp("ranks") / "streets"
    write_dataset(root, "streets", num_train=8, num_val=3, num_test=1, size=(32, 32), seed=0)
    for path in sorted((root / "labels" / "train").glob("*.png"))[::2]:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        mask[:16] = 255
        cv2.imwrite(str(path), mask)
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "config.yaml"
    changes = {
        "data.crop_size": [32, 32],
        "network.base_channels": 4,
        "network.depth": 2,
        "network.normalization": "group",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "training.batch_size": 4,
        "training.num_evaluations": 4,
        "training.loggers": [],
        "augmentation.scale": [1, 1],
        "augmentation.rotate": 0,
    }
    path.write_text(Config().replace(changes).to_yaml())
    return path


@pytest.fixture(scope="module")
def train(ranks: subprocess.Popen[str], data: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """`train(size, *options)`: `pixelwise train` in so many processes."""

    def act(size: int, *options: str, run: Path | None = None, instant: dict[str, int] | None = None) -> Ran:
        output = tmp_path_factory.mktemp("ranks")
        folder = run or output / "run"
        words = [
            "train",
            data,
            "-o",
            folder,
            "--config",
            config,
            "--steps",
            STEPS,
            "--deterministic",
            "--device",
            "cpu",
        ]
        arguments = {"arguments": [*map(str, words), *options], "instant": instant}
        codes, said = asked(ranks, output, call="command", size=size, arguments=arguments)
        return Ran(codes, said, samples_of(output, size), RunFolder(folder))

    return act


def asked(
    ranks: subprocess.Popen[str], output: Path, *, call: str, size: int, arguments: dict[str, Any]
) -> tuple[list[int], list[str]]:
    """Exit codes of the processes, and what each said."""
    request = {"call": call, "size": size, "arguments": arguments, "output": str(output)}
    assert ranks.stdin
    assert ranks.stdout
    ranks.stdin.write(json.dumps(request) + "\n")
    ranks.stdin.flush()
    codes = json.loads(ranks.stdout.readline())
    return codes, [" ".join((output / f"rank-{rank}.txt").read_text().split()) for rank in range(size)]


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


def test_two_processes_have_the_weights_of_one(one: Ran, two: Ran, train: Train) -> None:
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
    assert "2 processes, each with 2 of the 4 images of a batch" in two.said[0]
    assert two.said[1] == ""
    assert list(two.run.path.rglob("*.part")) == []
    assert two.run.report.exists()


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_losses_that_are_no_mean_over_pixels_are_the_same_too(train: Train, parts: int) -> None:
    options = ("--set", "loss.dice_weight=0.5", "--set", "training.num_evaluations=1")
    require_same_weights(
        train(1, *options), train(2, *options, "--set", f"training.gradient_accumulation_steps={parts}")
    )


@pytest.mark.slow
def test_lovasz_looks_at_the_pixels_of_all_processes(train: Train) -> None:
    """Rounding alone may set longer runs apart (docs/distributed.md)."""
    options = ("--set", "loss.name=lovasz", "--set", "training.num_evaluations=1")
    require_same_weights(train(1, *options), train(2, *options))


@pytest.mark.slow
def test_parts_and_processes_go_together(one: Ran, train: Train) -> None:
    require_same_weights(one, train(2, "--set", "training.gradient_accumulation_steps=2"))


def test_recomputing_ends_in_the_same_model(train: Train, two: Ran) -> None:
    ran = train(2, "--set", "training.activation_checkpointing=true")
    assert ran.codes == [0, 0], ran.said
    assert ran.run.model.read_bytes() == two.run.model.read_bytes()


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_all_and_resuming_ends_in_the_same_model(train: Train, two: Ran, lost: int) -> None:
    killed = train(2, instant={"rank": lost, "step": 13, "signal": KILL})
    assert killed.codes[lost] == -KILL
    assert killed.codes[1 - lost] == 2, killed.said
    message = killed.said[1 - lost]
    assert "Another process of this run has ended or cannot be reached" in message
    assert parse_command(message[message.index("Or resume with: torchrun ") :])[1]["output"] == str(killed.run.path)
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
    assert "stopped; resume with" in ran.said[0]
    assert ran.checkpoint.step in (7, 8)
    resumed = train(2, "--resume", run=ran.run.path)
    assert resumed.run.model.read_bytes() == two.run.model.read_bytes()


def test_a_batch_that_cannot_be_shared_is_refused(train: Train) -> None:
    ran = train(2, "--set", "training.batch_size=5")
    assert ran.codes == [2, 2]
    wanted = (
        "A batch of 5 images cannot be divided among 2 processes. Use a multiple of 2: --set training.batch_size=4 or 6"
    )
    assert wanted in ran.said[0]
    assert not ran.run.path.exists()


def run_python(*words: object) -> subprocess.CompletedProcess[str]:
    """A Python that starts processes itself."""
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


@pytest.mark.slow
def test_torchrun_resumes_by_itself_when_a_process_is_killed(
    two: Ran, data: Path, config: Path, tmp_path: Path
) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    options = ("--config", config, "--steps", STEPS, "--device", "cpu", "--deterministic", "--resume")
    script = Path(__file__).parents[1] / "support" / "ranks.py"
    ended = run_python(*torchrun, script, "train", data, "-o", tmp_path / "run", *options)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("2 processes, each") == 2  # begun, killed, and begun again
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == two.run.model.read_bytes()


@pytest.mark.slow
def test_torchrun_on_two_machines_has_the_weights_of_one_process(
    one: Ran, two: Ran, data: Path, config: Path, tmp_path: Path
) -> None:
    """Two agents of torchrun on this host stand for two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", endpoint, "--rdzv-id", "two-machines", "--local-addr", "127.0.0.1"]
    command = [sys.executable, *torchrun, "-m", "pixelwise", "train", str(data), "-o", str(tmp_path / "run")]
    command += ["--config", str(config), "--steps", str(STEPS), "--device", "cpu", "--deterministic", "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    agents = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        for _ in range(2)
    ]
    said = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "".join(said).count("2 processes, each with 2 of the 4 images of a batch") == 1
    checkpoint = load_checkpoint(RunFolder(tmp_path / "run"))
    assert checkpoint is not None
    for name, tensor in one.checkpoint.model.items():
        torch.testing.assert_close(checkpoint.model[name], tensor, rtol=0, atol=1e-5, msg=name)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == two.run.model.read_bytes()


@pytest.mark.slow
def test_devices_starts_the_processes_and_gives_their_exit_code(
    two: Ran, data: Path, config: Path, tmp_path: Path
) -> None:
    options = ("--config", config, "--steps", STEPS, "--device", "cpu", "--deterministic", "--devices", 2)
    command = ("-m", "pixelwise", "train", data, "-o", tmp_path / "run", *options)
    ended = run_python(*command)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == two.run.model.read_bytes()
    again = run_python(*command)
    assert again.returncode == 2
    assert "which a run would replace" in again.stderr


def test_a_process_group_that_is_there_is_used_and_stays(ranks: subprocess.Popen[str], tmp_path: Path) -> None:
    codes, said = asked(ranks, tmp_path, call="join", size=2, arguments={})
    assert codes == [0, 0], said
    assert said == ["0 of [0, 1]", "1 of [0, 1]"]


# Sharded weights.


@pytest.fixture(scope="module")
def sharded(train: Train) -> Ran:
    return train(2, *SHARDED)


def test_sharded_weights_equal_those_of_one_process(one: Ran, sharded: Ran) -> None:
    assert sharded.codes == [0, 0], sharded.said
    require_same_weights(one, sharded)
    assert validations(sharded) == validations(one)


def test_a_checkpoint_of_sharded_weights_has_the_form_of_one_process(one: Ran, sharded: Ran) -> None:
    assert form_of(sharded.checkpoint.state) == form_of(one.checkpoint.state)


def form_of(value: Any) -> Any:
    """A state without its numbers."""
    if isinstance(value, torch.Tensor):
        return type(value), value.shape, value.dtype
    if isinstance(value, dict):
        return {key: form_of(one) for key, one in value.items()}
    return [form_of(one) for one in value] if isinstance(value, list) else type(value)


def test_a_stopped_sharded_run_resumes_to_the_same_model(train: Train, sharded: Ran) -> None:
    stopped = train(2, *SHARDED, instant={"rank": 1, "step": 7, "signal": TERMINATE})
    assert stopped.codes[0] == 143, stopped.said
    assert stopped.checkpoint.step in (7, 8)
    resumed = train(2, *SHARDED, "--resume", run=stopped.run.path)
    assert resumed.codes == [0, 0], resumed.said
    assert resumed.run.model.read_bytes() == sharded.run.model.read_bytes()


@pytest.mark.slow
def test_a_killed_sharded_process_ends_all_and_one_process_resumes(train: Train, one: Ran) -> None:
    killed = train(2, *SHARDED, instant={"rank": 1, "step": 13, "signal": KILL})
    assert killed.codes == [2, -KILL], killed.said
    assert "Another process of this run has ended or cannot be reached" in killed.said[0]
    require_same_weights(one, train(1, *SHARDED, "--resume", run=killed.run.path))


@pytest.mark.slow
def test_a_run_of_one_process_resumes_sharded(train: Train, one: Ran) -> None:
    killed = train(1, *SHARDED, instant={"rank": 0, "step": 13, "signal": KILL})
    assert killed.codes == [-KILL], killed.said
    require_same_weights(one, train(2, *SHARDED, "--resume", run=killed.run.path))


@pytest.mark.slow
def test_sharded_weights_go_with_parts_and_losses_that_are_no_mean_over_pixels(train: Train) -> None:
    options = ("--set", "loss.dice_weight=0.5", "--set", "training.num_evaluations=1")
    require_same_weights(
        train(1, *options), train(2, *options, *SHARDED, "--set", "training.gradient_accumulation_steps=2")
    )


def test_optimizers_move_sharded_weights_as_whole_ones(ranks: subprocess.Popen[str], tmp_path: Path) -> None:
    codes, said = asked(ranks, tmp_path, call="optimize", size=2, arguments={})
    assert codes == [0, 0], said
    assert said == ["adamw sgd muon"] * 2


# Without other processes.


def test_a_world_of_one_returns_its_arguments() -> None:
    tensor = torch.ones(2, 3)
    assert SINGLE_PROCESS.sum(tensor) is tensor
    assert SINGLE_PROCESS.gather_rows(tensor) is tensor
    assert SINGLE_PROCESS.broadcast_object("one") == "one"
    assert SINGLE_PROCESS.gather("one") == ["one"]
    assert SINGLE_PROCESS.broadcast_decision(Decision(0.5, stop=True)) == Decision(0.5, stop=True)
    assert SINGLE_PROCESS.call_on_first(lambda: "one") == "one"
    SINGLE_PROCESS.broadcast_tensors([tensor])
    SINGLE_PROCESS.require_divisible(7)


@pytest.mark.parametrize(("batch_size", "fitting"), [(7, "6 or 9"), (2, "3")])
def test_batches_are_shared_evenly_or_refused(batch_size: int, fitting: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"Use a multiple of 3: --set training.batch_size={fitting}"):
        World(size=3).require_divisible(batch_size)


def test_shares_have_every_item_once() -> None:
    shares = [World(rank=rank, size=3).own_items(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))


@pytest.mark.parametrize(
    ("changes", "several"), [({}, True), ({"WORLD_SIZE": "1"}, False), ({"MASTER_ADDR": None}, False)]
)
def test_a_process_is_distributed_if_all_variables_are_set(
    changes: dict[str, str | None], several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_distributed()
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", **changes}
    for name, value in place.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_distributed() == several


def test_each_start_on_one_machine_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_attempt() == "attempt-0"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert name_attempt() == "attempt-2"
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")  # counted by machine
    assert name_attempt() == "attempt-0"


def test_an_error_of_a_collective_is_a_lost_process() -> None:
    with pytest.raises(ProcessLostError, match=r"^Another process .* See its message"), explain_lost_process():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2043")
    with pytest.raises(RuntimeError, match="shapes differ"), explain_lost_process():
        raise RuntimeError("shapes differ")


def test_common_batch_statistics_are_refused_on_the_cpu(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"training\.sync_batch_norm needs GPUs, but this run uses cpu"):
        make_trainer({"training.sync_batch_norm": True})


def test_a_single_process_divides_the_whole_batch_into_parts(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer({"training.batch_size": 4})
    trainer.world = World(rank=1, size=2)
    single = trainer.rebuild_single()
    assert len(single.batches.make(0).images) == 4
    assert single.config.training.gradient_accumulation_steps == 2
    assert single.rebuild_single() is single


def test_too_little_memory_of_one_process_is_an_error(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()
    trainer.world = World(size=2)

    def none_left(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(trainer, "step", none_left)
    batch = trainer.batches.make(0)
    with pytest.raises(
        TrainingError,
        match=r"part of a batch .*training\.activation_checkpointing=true\. Or: .*accumulation_steps=2",
    ):
        step_within_memory(trainer, batch, 0.0)


# Starting the processes.


Launched = Callable[[int, int], None]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    """`launched(rank, size)`: as torchrun starts a process."""

    def launched(rank: int, size: int) -> None:
        place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
        for name, value in place.items():
            monkeypatch.setenv(name, str(value))

    return launched


def test_a_process_that_was_not_launched_is_the_first(launched: Launched) -> None:
    assert is_first_process()
    launched(1, 2)
    assert not is_first_process()
    launched(0, 2)
    assert is_first_process()


def test_a_single_process_prints_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some batch systems number the jobs of an array so; without a meeting point they know nothing of each other."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert is_first_process()


def test_no_process_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"--devices is 0\. Expected 1 or more"):
        require_devices(0, "cpu")


def test_another_number_than_torchrun_has_started_is_an_error(launched: Launched) -> None:
    launched(0, 2)
    require_devices(2, "cpu")
    with pytest.raises(InvalidArgumentError, match="--devices is 4, but torchrun has started 2 processes"):
        require_devices(4, "cpu")


def test_more_processes_than_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_devices(2, "cuda")
    require_devices(8, "cpu")
    with pytest.raises(
        InvalidArgumentError, match=r"--devices is 3, but this machine has 2 GPUs\. Use at most 2, or --device cpu"
    ):
        require_devices(3, "cuda")


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "choose_device", torch.device)
    assert choose_process_device("cuda", None) == "cuda"
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert choose_process_device("cuda", None) == "cuda:1"
    assert choose_process_device("cpu", None) == "cpu"
    with pytest.raises(
        InvalidArgumentError, match=r"--device cuda:0 is one GPU for several processes\. Use --device cuda"
    ):
        choose_process_device("cuda:0", None)
