from collections.abc import Callable

import pytest
import torch

from pixelwise.api.launch import is_first_process, require_devices
from pixelwise.errors import InvalidArgumentError

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
