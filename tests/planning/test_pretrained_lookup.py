import threading
import urllib.request

import pytest
import timm
import torch
import torchvision

from pixelwise.planning import pretrained_lookup
from pixelwise.planning.pretrained_lookup import (
    OFFLINE_VARIABLES,
    PRETRAINED,
    AvailableEncoder,
    find_pretrained,
    is_offline,
)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Empty folders in the place of PyTorch's and of the Hugging Face Hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """The addresses that were asked for; every answer is that there is no connection."""
    addresses: list[str] = []

    def refuse(request, timeout):
        addresses.append(request.full_url)
        raise OSError("no connection")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return addresses


def put(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")


def test_the_names_are_those_of_the_libraries():
    for one in PRETRAINED:
        assert one.url == torchvision.models.get_model_weights(one.encoder).DEFAULT.url
        assert one.repository == timm.get_pretrained_cfg(one.encoder).hf_hub_id


def test_weights_of_torchvision_on_disk_are_found_without_asking(disk, asked):
    put(disk / "torch" / "checkpoints" / "resnet18-f37072fd.pth")
    assert find_pretrained() == [AvailableEncoder(encoder="resnet18", location="on disk", name="resnet18-f37072fd.pth")]
    assert asked == []


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"])
def test_weights_of_timm_on_disk_are_found_where_its_variables_say(disk, asked, monkeypatch, variable):
    inner = {"HF_HOME": "hub", "HF_HUB_CACHE": "", "XDG_CACHE_HOME": "huggingface/hub"}[variable]
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv(variable, str(disk / "own"))
    folder = disk / "own" / inner / "models--timm--resnet34.a1_in1k"
    put(folder / "snapshots" / "abc" / "model.safetensors")
    assert find_pretrained() == [
        AvailableEncoder(encoder="timm:resnet34", location="on disk", name="timm/resnet34.a1_in1k")
    ]
    assert asked == []


def test_without_weights_on_disk_the_server_is_asked_once(disk, asked):
    assert find_pretrained() == []
    assert asked == [PRETRAINED[0].url]


def test_reachable_weights_are_downloadable(disk, monkeypatch):
    class Answer:
        status = 200

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: Answer())
    found = find_pretrained()
    assert [one.encoder for one in found] == ["resnet18", "resnet34"]
    assert {one.location for one in found} == {"downloadable"}
    assert found[0].name == PRETRAINED[0].url


@pytest.mark.parametrize("variable", OFFLINE_VARIABLES)
def test_offline_nothing_is_asked(disk, asked, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert is_offline()
    assert find_pretrained() == []
    assert asked == []
    monkeypatch.setenv(variable, "0")
    assert not is_offline()


def test_a_server_that_never_is_reachable_is_not_waited_for(disk, monkeypatch):
    released = threading.Event()

    def hang(request, timeout):
        released.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(pretrained_lookup, "REQUEST_SECONDS", 0.01)
    monkeypatch.setattr(urllib.request, "urlopen", hang)
    assert find_pretrained() == []  # while the question is still open
    assert not released.is_set()
    released.set()
