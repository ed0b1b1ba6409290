"""ImageNet encoders whose weights are on this disk or can be downloaded."""

import os
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

REQUEST_SECONDS = 2.0
"""Time limit for asking whether weights can be downloaded, so that planning does not stall."""

OFFLINE_VARIABLES = ("PIXELWISE_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid network access unless unset, empty or 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedEncoder:
    """An encoder that the planner may choose."""

    encoder: str
    """Value of `network.encoder`."""
    url: str
    """Address from which torchvision loads the weights."""
    repository: str
    """Repository of timm's weights of the same architecture on the Hugging Face Hub."""


PRETRAINED = (
    PretrainedEncoder(
        encoder="resnet18",
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        repository="timm/resnet18.a1_in1k",
    ),
    PretrainedEncoder(
        encoder="resnet34",
        url="https://download.pytorch.org/models/resnet34-b627a593.pth",
        repository="timm/resnet34.a1_in1k",
    ),
)
"""From small to large. Listed here because torchvision and timm take seconds to import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableEncoder:
    """An encoder whose weights are available."""

    encoder: str
    """Value of `network.encoder`."""
    location: Literal["on disk", "downloadable"]
    name: str
    """File name, repository or address; configs contain no paths."""


def find_pretrained() -> list[AvailableEncoder]:
    """Return the encoders of `PRETRAINED` whose weights are available, from small to large.

    The server is asked once, for at most `REQUEST_SECONDS`, and only if no weights are on disk and no variable of
    `OFFLINE_VARIABLES` forbids it.
    """
    on_disk = [encoder for entry in PRETRAINED if (encoder := _find_on_disk(entry))]
    if on_disk or is_offline() or not _is_reachable(PRETRAINED[0].url):
        return on_disk
    return [AvailableEncoder(encoder=entry.encoder, location="downloadable", name=entry.url) for entry in PRETRAINED]


def is_offline() -> bool:
    """Return whether an environment variable forbids network access."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in OFFLINE_VARIABLES)


def _find_on_disk(entry: PretrainedEncoder) -> AvailableEncoder | None:
    """Look in PyTorch's folder, then in that of the Hugging Face Hub, which timm uses."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if file.is_file():
        return AvailableEncoder(encoder=entry.encoder, location="on disk", name=file.name)
    snapshots = _get_hub_folder() / f"models--{entry.repository.replace('/', '--')}" / "snapshots"
    if any(snapshots.glob("*/model.safetensors")):
        return AvailableEncoder(encoder=f"timm:{entry.encoder}", location="on disk", name=entry.repository)
    return None


def _get_hub_folder() -> Path:
    """Return the cache folder of huggingface_hub, by its environment variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _is_reachable(url: str) -> bool:
    """Return whether the server has the file. Runs in a thread, because name resolution has no time limit."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                answers.append(answer.status == 200)
        except (OSError, ValueError):  # no connection, a missing file, an invalid proxy
            answers.append(False)

    thread = threading.Thread(target=ask, name="weights", daemon=True)
    thread.start()
    thread.join(REQUEST_SECONDS)
    return answers[:1] == [True]
