"""Whether an encoder trained on ImageNet can be had: on this disk, or by a short question to its server."""

import os
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

QUESTION_SECONDS = 2.0
"""For the answer whether weights can be downloaded. A plan must not stall."""

OFFLINE = ("PIXELWISE_OFFLINE", "HF_HUB_OFFLINE")
"""Where one of these variables is set, and not to 0, nothing is asked of the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """An encoder that the planner may choose."""

    encoder: str
    """As `network.encoder` names it."""
    url: str
    """Where torchvision has its weights from."""
    repository: str
    """Where timm has the weights of the same architecture from, on the Hugging Face Hub."""


PRETRAINED = (
    Pretrained(
        encoder="resnet18",
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        repository="timm/resnet18.a1_in1k",
    ),
    Pretrained(
        encoder="resnet34",
        url="https://download.pytorch.org/models/resnet34-b627a593.pth",
        repository="timm/resnet34.a1_in1k",
    ),
)
"""Small to large. Written down here, because torchvision and timm, which know them, take seconds to import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Weights that a run can start from."""

    encoder: str
    """As `network.encoder` names it."""
    where: Literal["at hand", "downloadable"]
    place: str
    """The file's name without its folder, the repository, or the address: configs hold no paths."""


def find_pretrained() -> list[Found]:
    """The encoders of `PRETRAINED` whose weights can be had, small to large.

    The disk is looked at first; only where none of them lies there, and no variable of `OFFLINE`
    forbids it, is the server asked, once, for `QUESTION_SECONDS` at most.
    """
    found = [_at_hand(one) for one in PRETRAINED]
    at_hand = [one for one in found if one]
    if at_hand or is_offline() or not _answers(PRETRAINED[0].url):
        return at_hand
    return [Found(encoder=one.encoder, where="downloadable", place=one.url) for one in PRETRAINED]


def is_offline() -> bool:
    """Whether the user has said so."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in OFFLINE)


def _at_hand(one: Pretrained) -> Found | None:
    """In PyTorch's own folder, else in that of the Hugging Face Hub, where timm looks."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / one.url.rpartition("/")[2]
    if file.is_file():
        return Found(encoder=one.encoder, where="at hand", place=file.name)
    snapshots = _hub_folder() / f"models--{one.repository.replace('/', '--')}" / "snapshots"
    if any(snapshots.glob("*/model.safetensors")):
        return Found(encoder=f"timm:{one.encoder}", where="at hand", place=one.repository)
    return None


def _hub_folder() -> Path:
    """Where huggingface_hub keeps what it has downloaded, by its own variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _answers(url: str) -> bool:
    """Whether the server has the file. A thread asks, because looking up a name obeys no time limit."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=QUESTION_SECONDS) as answer:
                answers.append(answer.status == 200)
        except (OSError, ValueError):  # no connection, no such file, a proxy that is misspelt
            answers.append(False)

    thread = threading.Thread(target=ask, name="weights", daemon=True)
    thread.start()
    thread.join(QUESTION_SECONDS)
    return answers[:1] == [True]
