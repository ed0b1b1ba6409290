import urllib.error
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torchvision import models

from pixelwise.errors import InvalidArgumentError, ModelFileError, PathNotFoundError
from pixelwise.networks.weights import (
    LoadReport,
    Weights,
    adapt_first_layer,
    build_classifier,
    compare_weights,
    load_weights,
    read_weights,
)


def small(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def assert_equal(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    own = module.state_dict()
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[name], values) for name, values in tensors.items())


# The report


def test_vgg16_report_counts_layers_and_parameters():
    # On "meta": 138 million values that need no memory.
    with torch.device("meta"):
        features, vgg16 = nn.ModuleDict({"features": models.vgg16().features}), models.vgg16()
    report = compare_weights(features, Weights(tensors=vgg16.state_dict()))
    assert (report.num_layers, report.total_layers, report.num_parameters) == (13, 13, 14_714_688)
    assert list(report.unexpected) == [f"classifier.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")]
    assert report.unexpected["classifier.6.weight"] == (1000, 4096)
    assert not report.is_complete
    whole = compare_weights(vgg16, Weights(tensors=features.state_dict()))
    assert whole.summary() == (
        "13 of 16 layers, 14,714,688 parameters; not in the file: classifier.0.weight (4096, 25088), "
        "classifier.0.bias (4096,), classifier.3.weight (4096, 4096), classifier.3.bias (4096,) and 2 more"
    )


def test_report_names_every_difference():
    tensors = {**small(classes=5).state_dict(), "head.bias": torch.zeros(7)}
    del tensors["1.running_mean"]
    network = small()
    before = network.state_dict()["3.weight"].clone()
    report = load_weights(network, tensors)
    assert report.missing == {"1.running_mean": (4,)}
    assert report.unexpected == {"head.bias": (7,)}
    assert report.reshaped == {"3.weight": ((5, 4), (3, 4)), "3.bias": ((5,), (3,))}
    assert list(report.loaded) == [
        *("0.weight", "0.bias", "1.weight", "1.bias", "1.running_var", "1.num_batches_tracked")
    ]
    assert report.num_parameters == 4 * 3 * 9 + 4 + 4 + 4
    # The norm lacks a tensor, the linear layer fits in none.
    assert (report.num_layers, report.total_layers) == (1, 3)
    assert report.summary() == (
        "1 of 3 layers, 120 parameters; of a different shape: 3.weight (5, 4), here (3, 4), 3.bias (5,), here (3,); "
        "not in the file: 1.running_mean (4,); not used: head.bias (7,)"
    )
    assert torch.equal(network.state_dict()["3.weight"], before)
    assert torch.equal(network[0].weight, tensors["0.weight"])


def test_shared_parameters_are_counted_once():
    network = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    network[1].weight = network[0].weight
    assert load_weights(network, network.state_dict()).num_parameters == 4 + 2 + 2


# Files


def save(tensors, path: Path) -> Path:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors", "weights"])
def test_files_load_whole(name, tmp_path):
    torch.manual_seed(0)
    source, network = small(), small()
    report = load_weights(network, save(source.state_dict(), tmp_path / name))
    assert report.is_complete
    assert report.summary() == "3 of 3 layers, 135 parameters"
    assert_equal(network, source.state_dict())


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda w: {"state_dict": w, "epoch": 3}, ("found under 'state_dict'",)),
        (lambda w: {"model": w, "optimizer": {"lr": 0.1}}, ("found under 'model'",)),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, ("'module.' stripped from every name",)),
        (
            lambda w: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in w.items()}},
            (
                "found under 'state_dict'",
                "'_orig_mod.' stripped from every name",
                "'module.' stripped from every name",
            ),
        ),
        (lambda w: {**w, "epoch": 3}, ()),
    ],
)
def test_wrapped_weights_are_found_and_reported(wrap, notes, tmp_path):
    source, network = small(), small()
    report = load_weights(network, save(wrap(dict(source.state_dict())), tmp_path / "checkpoint.pth"))
    assert report.is_complete
    assert report.notes == notes
    assert all(note in report.summary() for note in notes)
    assert_equal(network, source.state_dict())


def test_prefix_of_some_names_is_kept(tmp_path):
    path = save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    assert list(read_weights(path).tensors) == ["module.a", "b"]


def test_old_names_of_densenet_are_renamed(tmp_path):
    with torch.device("meta"):
        names = list(models.densenet121().features.denseblock1.denselayer1.state_dict())
    old = {f"denselayer1.{n}".replace("norm1", "norm.1").replace("conv2", "conv.2"): torch.zeros(1) for n in names}
    weights = read_weights(save(old, tmp_path / "densenet.pth"))
    assert list(weights.tensors) == [f"denselayer1.{n}" for n in names]
    assert weights.notes == ("'norm.1' renamed to 'norm1', and so on",)


def test_half_precision_weights_are_converted(tmp_path):
    source, network = small().half(), small()
    load_weights(network, save(source.state_dict(), tmp_path / "half.safetensors"))
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, source[0].weight.float())


class Payload:
    pass


def test_invalid_files_raise(tmp_path):
    cases = {
        r"pickled.pth is damaged, or contains more than tensors\. .* save only `model\.state_dict\(\)`": save(
            {"a": Payload()}, tmp_path / "pickled.pth"
        ),
        r"empty.pth is damaged": tmp_path / "empty.pth",
        r"text.pth is damaged": tmp_path / "text.pth",
        r"text.safetensors is damaged\. Copy or download it again\.$": tmp_path / "text.safetensors",
        r"tensor.pth contains no named tensors": save(torch.zeros(3), tmp_path / "tensor.pth"),
        r"numbers.pth contains no named tensors": save({"a": 1}, tmp_path / "numbers.pth"),
        r"keys.pth contains no named tensors": save({1: torch.zeros(1)}, tmp_path / "keys.pth"),
    }
    (tmp_path / "empty.pth").touch()
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("<html>Not found</html>")
    for message, path in cases.items():
        network = small()
        before = {name: values.clone() for name, values in network.state_dict().items()}
        with pytest.raises(ModelFileError, match=message):
            load_weights(network, path)
        assert_equal(network, before)


def test_missing_file_is_not_found(tmp_path):
    with pytest.raises(PathNotFoundError, match=r"none.pth.* do not exist. Expected a \.pth"):
        load_weights(small(), tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_truncated_files_raise(suffix, tmp_path):
    path = save(small().state_dict(), tmp_path / f"w.{suffix}")
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=path.name):
            read_weights(path)


def test_nothing_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "trap.pth"
    torch.save({"a": Trap()}, path)
    with pytest.raises(ModelFileError, match="contains more than tensors"):
        read_weights(path)
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_raise(tmp_path):
    path = save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InvalidArgumentError, match=r"No tensor of .*other.pth fits .*'encoder.weight'.*'0.weight'"):
        load_weights(small(), path)
    with pytest.raises(InvalidArgumentError, match="No tensor of these weights fits"):
        load_weights(small(), {})


def test_nothing_is_loaded_if_one_tensor_fails():
    source, network = small(), small()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    broken = {**source.state_dict(), "3.weight": torch.empty(3, 4, device="meta")}
    with pytest.raises(NotImplementedError):
        load_weights(network, broken)
    assert_equal(network, before)


# The first layer


@given(trained=st.integers(1, 4), channels=st.integers(1, 13), kernel=st.integers(1, 5))
def test_repeated_gray_image_gives_the_same_response(trained, channels, kernel):
    torch.manual_seed(channels)
    weight, gray = torch.randn(2, trained, kernel, kernel), torch.randn(1, 1, 8, 8)
    adapted = adapt_first_layer(weight, channels)
    assert adapted.shape == (2, channels, kernel, kernel)
    expected = functional.conv2d(gray.expand(-1, trained, -1, -1), weight)
    actual = functional.conv2d(gray.expand(-1, channels, -1, -1), adapted)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, [111]), (2, [101, 10]), (3, [1, 10, 100]), (4, [0.5, 10, 100, 0.5]), (6, [0.5, 5, 50, 0.5, 5, 50])],
)
def test_assignment_of_trained_channels(channels, expected):
    weight = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    assert adapt_first_layer(weight, channels).flatten().tolist() == expected


# Classifiers by name


@pytest.fixture
def _no_connection(monkeypatch):
    def refused(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refused)
    monkeypatch.setattr("timm.models._builder.load_pretrained", refused)


@pytest.mark.parametrize("name", ["squeezenet1_1", "timm:mobilenetv3_small_050"])
def test_random_classifier_has_published_facts(name):
    classifier = build_classifier(name, weights="none")
    assert classifier.report is None
    assert not classifier.network.training
    assert classifier.input_size == 224
    assert classifier.mean == (0.485, 0.456, 0.406)
    assert classifier.std == (0.229, 0.224, 0.225)
    assert len(classifier.classes) == 1000
    assert "mountain bike" in classifier.classes
    with torch.no_grad():
        assert classifier.network(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_other_classes_have_no_names():
    classifier = build_classifier("squeezenet1_1", weights="none", num_classes=7)
    assert classifier.classes == ()
    with torch.no_grad():
        assert classifier.network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_classes_of_other_weights_than_imagenet_1k_have_no_names():
    for name in ("timm:convnext_atto", "convnext_atto"):  # the prefix is needed where torchvision has the name, too
        assert build_classifier(name, weights="none").classes
    larger = build_classifier("timm:mobilenetv3_large_100.miil_in21k", weights="none")
    assert larger.classes == ()


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    source = models.squeezenet1_1()
    path = save(source.state_dict(), tmp_path / "squeezenet.pth")
    classifier = build_classifier("squeezenet1_1", weights=path)
    assert isinstance(classifier.report, LoadReport)
    assert classifier.report.is_complete
    assert_equal(classifier.network, source.state_dict())
    fewer = build_classifier("squeezenet1_1", weights=path, num_classes=2)
    assert fewer.report is not None
    assert fewer.report.reshaped == {
        "classifier.1.weight": ((1000, 512, 1, 1), (2, 512, 1, 1)),
        "classifier.1.bias": ((1000,), (2,)),
    }


def test_imagenet_weights_come_from_the_libraries(monkeypatch):
    torch.manual_seed(0)
    source = models.squeezenet1_1()
    asked = []

    def answer(url, **_):
        asked.append(url)
        return source.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", answer)
    classifier = build_classifier("squeezenet1_1", weights="imagenet")
    assert asked == [models.SqueezeNet1_1_Weights.DEFAULT.url]
    assert classifier.report is not None
    assert classifier.report.is_complete
    assert_equal(classifier.network, source.state_dict())

    trained = timm.create_model("mobilenetv3_small_050")
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **s: trained if pretrained else create(name, **s)
    )
    other = build_classifier("timm:mobilenetv3_small_050", weights="imagenet")
    assert other.report is not None
    assert other.report.is_complete
    assert_equal(other.network, trained.state_dict())


def test_googlenet_transforms_its_input():
    network = build_classifier("googlenet", weights="none").network
    assert network.transform_input
    assert network.aux1 is None


@pytest.mark.usefixtures("_no_connection")
@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("squeezenet1_1", r"https://download\.pytorch\.org/models/squeezenet1_1-b8a52dc0\.pth"),
        ("timm:mobilenetv3_small_050", r"https://huggingface\.co/timm/mobilenetv3_small_050\.lamb_in1k/resolve/main/"),
    ],
)
def test_error_without_a_connection_names_the_url(name, url):
    with pytest.raises(
        InvalidArgumentError,
        match=rf"{name}' cannot be downloaded .*no route to host.* download {url}.* and give that file with --weights",
    ):
        build_classifier(name, weights="imagenet")


def test_weights_that_nobody_published():
    with pytest.raises(InvalidArgumentError, match=r"'timm:darknet17' has no published ImageNet weights\. Give a file"):
        build_classifier("timm:darknet17", weights="imagenet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg61", r"Unknown classifier 'vgg61'\. Did you mean 'vgg1.'\?"),
        ("convnext_attoo", r"Unknown classifier 'convnext_attoo'\. Did you mean 'convnext_tiny'"),
        (
            "timm:convnext_tinny",
            r"Unknown model of timm: 'convnext_tinny'\. Did you mean 'convnext_tiny'\? Nearest of \d+: convnext_tiny,",
        ),
        ("timm:resnet18.a9_in1k", r"Unknown timm model 'resnet18.a9_in1k'\. Did you mean 'resnet18\.a\d_in1k'"),
    ],
)
def test_unknown_names_list_the_nearest(name, message):
    with pytest.raises(InvalidArgumentError, match=message):
        build_classifier(name, weights="none")


def test_unknown_weights_raise():
    with pytest.raises(InvalidArgumentError, match=r"weights is 'imagenett', but must be 'imagenet', 'none'"):
        build_classifier("squeezenet1_1", weights="imagenett")  # type: ignore[arg-type]
