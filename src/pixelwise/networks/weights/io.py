"""Weights that others trained: read from a file, matched by name and shape, loaded with an exact report.

The report comes first, the weights second: where a file does not fit, the network stays as it was.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import PretrainedCfg
from torch import Tensor, nn
from torchvision import models

from pixelwise.errors import InvalidArgumentError, ModelFileError, PathNotFoundError, unknown_name

Shape = tuple[int, ...]

WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
"""Keys under which training programs keep the weights beside other things, first found first."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""torchvision's DenseNet files are older than the rule against points in a module's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors by name, and what was done to find them."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What of a network was loaded, and what of a file was used. Names are in the network's order."""

    loaded: Mapping[str, Shape]
    missing: Mapping[str, Shape]
    """In the network, and not in the file."""
    unexpected: Mapping[str, Shape]
    """In the file, and not in the network."""
    reshaped: Mapping[str, tuple[Shape, Shape]]
    """In both, of another shape: (the file's, the network's)."""
    num_parameters: int
    """Values loaded into parameters; running statistics are not counted."""
    num_layers: int
    """Layers with all of their tensors loaded."""
    total_layers: int
    """Layers of the network that have tensors at all."""
    notes: tuple[str, ...] = ()
    """What was stripped from the file's names, or renamed."""

    @property
    def complete(self) -> bool:
        """The whole network was loaded, and the whole file used."""
        return not (self.missing or self.unexpected or self.reshaped)

    def summary(self) -> str:
        """`13 of 16 layers, 14,714,688 parameters; not used: classifier.6.weight (1000, 4096)`.

        Of long lists the beginning; the fields have all names.
        """
        parts = [f"{self.num_layers} of {self.total_layers} layers, {self.num_parameters:,} parameters"]
        reshaped = [f"{name} {theirs}, here {ours}" for name, (theirs, ours) in self.reshaped.items()]
        for what, names in [
            ("of another shape", reshaped),
            ("not in the file", _with_shapes(self.missing)),
            ("not used", _with_shapes(self.unexpected)),
        ]:
            if names:
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                parts.append(f"{what}: {', '.join(names[:4])}{more}")
        return "; ".join([*parts, *self.notes])


def _with_shapes(shapes: Mapping[str, Shape]) -> list[str]:
    return [f"{name} {shape}" for name, shape in shapes.items()]


def load_weights(module: nn.Module, source: Path | Mapping[str, Tensor] | Weights) -> LoadReport:
    """Loads every tensor whose name and shape are those of the module's, and reports the rest.

    Args:
        source: a state-dict file (see `read_weights`), or tensors by name.

    Raises ModelFileError where the file cannot be read, InvalidArgumentError where nothing of it fits. The
    module is then as it was before.
    """
    weights = _as_weights(source)
    report = compare_weights(module, weights)
    if not report.loaded:
        wanted, found = next(iter(module.state_dict()), "nothing"), next(iter(weights.tensors), "nothing")
        raise InvalidArgumentError(
            f"nothing of {source if isinstance(source, Path) else 'these weights'} fits the network: it has names "
            f"such as {found!r}, the network such as {wanted!r}; choose the weights of the same network."
        )
    own = module.state_dict()
    # Device and type first: whatever may fail fails before the first tensor is changed.
    values = {name: weights.tensors[name].to(own[name]) for name in report.loaded}
    for name, value in values.items():
        own[name].copy_(value)
    return report


def _as_weights(source: Path | Mapping[str, Tensor] | Weights) -> Weights:
    if isinstance(source, Weights):
        return source
    return read_weights(source) if isinstance(source, Path) else Weights(tensors=source)


def compare_weights(module: nn.Module, weights: Weights) -> LoadReport:
    """What `load_weights` would do."""
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
    loaded = {name: shape for name, shape in own.items() if theirs.get(name) == shape}
    # `named_parameters` leaves out the second name of a shared parameter: counted once.
    parameters = [parameter.numel() for name, parameter in module.named_parameters() if name in loaded]
    layers = {name.rpartition(".")[0] for name in own}
    incomplete = {name.rpartition(".")[0] for name in own.keys() - loaded.keys()}
    return LoadReport(
        loaded=loaded,
        missing={name: shape for name, shape in own.items() if name not in theirs},
        unexpected={name: shape for name, shape in theirs.items() if name not in own},
        reshaped={n: (theirs[n], shape) for n, shape in own.items() if n in theirs and theirs[n] != shape},
        num_parameters=sum(parameters),
        num_layers=len(layers - incomplete),
        total_layers=len(layers),
        notes=weights.notes,
    )


def read_weights(path: Path) -> Weights:
    """The tensors of a `.safetensors` file, or of any other by PyTorch's loader for numbers alone.

    Nothing of the file is executed. Weights kept under a key such as "state_dict" are found, what
    stands before every name ("module.") is stripped, and the notes say so.
    """
    if not path.is_file():
        raise PathNotFoundError(f"Weights '{path}' do not exist. Expected a .pth, .pt or .safetensors file.")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); copy or download it again.") from error
    except Exception as error:  # damaged bytes make the unpickler raise anything
        raise ModelFileError(
            f"{path} is damaged, or holds more than tensors ({_first_line(error)}); "
            f"save `model.state_dict()` alone with torch.save."
        ) from error
    return _unwrap(path, content)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _unwrap(path: Path, content: Any) -> Weights:
    notes = []
    if isinstance(content, Mapping):
        for key in WRAPPERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                notes.append(f"found under {key!r}")
                break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise ModelFileError(f"{path} holds no tensors by name; save `model.state_dict()` with torch.save.")
    tensors, stripped = _strip(tensors)
    notes += stripped
    renamed = {OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    if renamed.keys() != tensors.keys():
        notes.append("'norm.1' renamed to 'norm1', and so on")
    return Weights(tensors=renamed, notes=tuple(notes))


def _strip(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the prefixes that all names have, in whatever order they stand."""
    notes = []
    while found := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(found): tensor for name, tensor in tensors.items()}
        notes.append(f"{found!r} stripped from every name")
    return tensors, notes


def adapt_first_layer(weight: Tensor, in_channels: int) -> Tensor:
    """Weights of a first convolution for images of another number of channels.

    The law: a gray image, repeated over all channels, gives the same response as before. The trained
    channels are dealt out in turn, R, G, B, R, G, ..., and each is divided by how often it was dealt;
    with fewer channels than weights, the weights are dealt out to the channels in turn and added. One
    channel thus takes the sum of R, G and B, and six take half of each, twice.

    Args:
        weight: (O, C, k, k), C most often 3.
        in_channels: N of the new images.

    Returns (O, N, k, k) of the same type.
    """
    trained, new = torch.arange(weight.shape[1])[:, None], torch.arange(in_channels)
    dealt = (trained % in_channels == new % weight.shape[1]).to(weight)
    shares = dealt / dealt.sum(1, keepdim=True)
    return torch.einsum("ocyx,cn->onyx", weight, shares)


# Classifiers by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A network (B, C, H, W) float32 → logits (B, K), and what its weights expect."""

    network: nn.Module
    classes: tuple[str, ...]
    """Names of the K classes; empty where they are not known."""
    input_size: int
    """Side in pixels of the images that it was trained on."""
    mean: tuple[float, ...]
    """Of each channel, for images in [0, 1]."""
    std: tuple[float, ...]
    report: LoadReport | None
    """What of the weights was loaded; None with "none"."""


def build_classifier(
    name: str, *, weights: Literal["imagenet", "none"] | Path = "imagenet", num_classes: int = 1000
) -> Classifier:
    """A classifier of torchvision ("vgg16"), or of timm ("timm:convnext_tiny"), in evaluation mode.

    Args:
        weights: "imagenet", downloaded by the library on first use; "none", random; or a file that
            `read_weights` reads.
        num_classes: K. With another number than the weights have, the class layer stays random, and
            `report.reshaped` names it.

    Raises InvalidArgumentError for an unknown name, and where the weights cannot be downloaded.
    """
    source = _timm(name.removeprefix("timm:")) if name.startswith("timm:") else _torchvision(name)
    network = source.build(num_classes)
    report = None
    if isinstance(weights, Path):
        report = load_weights(network, weights)
    elif weights == "imagenet":
        report = load_weights(network, _download(name, source))
    elif weights != "none":
        raise InvalidArgumentError(f"weights {weights!r} are neither 'imagenet' nor 'none'; give a file as a Path.")
    return Classifier(
        network=network.eval(),
        classes=source.classes if len(source.classes) == num_classes else (),
        input_size=source.input_size,
        mean=source.mean,
        std=source.std,
        report=report,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A classifier of a library: how it is built, and what is known of its ImageNet weights."""

    build: Callable[[int], nn.Module]
    """From the number of classes."""
    download: Callable[[], Mapping[str, Tensor]]
    url: str
    classes: tuple[str, ...]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _download(name: str, source: _Source) -> Mapping[str, Tensor]:
    if not source.url:
        raise InvalidArgumentError(f"nobody published ImageNet weights of {name!r}; give a file, or train with 'none'.")
    try:
        return source.download()
    except Exception as error:  # each library and each proxy fails in its own way
        raise InvalidArgumentError(
            f"the ImageNet weights of {name!r} cannot be downloaded ({_first_line(error)}); where there is a "
            f"connection, fetch {source.url} and give that file as the weights."
        ) from error


def _torchvision(name: str) -> _Source:
    choices = models.list_models(module=models)
    if name not in choices:
        raise unknown_name("classifier", name, [*choices, *([f"timm:{name}"] if timm.is_model(name) else [])])
    weights = models.get_model_weights(name).DEFAULT
    settings: dict[str, bool] = {}
    if name in ("googlenet", "inception_v3"):
        # The published weights expect the input of TensorFlow, which these two make of the usual one.
        settings = {"transform_input": True, "aux_logits": False, "init_weights": False}
    preprocessing = weights.transforms()
    return _Source(
        build=lambda num_classes: models.get_model(name, weights=None, num_classes=num_classes, **settings),
        download=lambda: models.get_model(name, weights=weights, progress=False).state_dict(),
        url=weights.url,
        classes=tuple(weights.meta["categories"]),
        input_size=preprocessing.crop_size[0],
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
    )


def _timm(name: str) -> _Source:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        near = difflib.get_close_matches(architecture, known, n=5, cutoff=0.4)
        raise InvalidArgumentError(
            f"timm has no model {architecture!r}. Nearest of its {len(known)}: {', '.join(near)}."
        )
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if name != architecture and name not in tagged:
        raise unknown_name("timm model", name, [architecture, *tagged])
    published = timm.get_pretrained_cfg(name) or PretrainedCfg()
    # The names of the 1000 classes are the same for all; timm's own are whole lists of synonyms.
    classes = models.ResNet18_Weights.DEFAULT.meta["categories"] if published.num_classes == 1000 else ()
    hub = f"https://huggingface.co/{published.hf_hub_id}/resolve/main/model.safetensors"
    return _Source(
        build=lambda num_classes: timm.create_model(name, pretrained=False, num_classes=num_classes),
        download=lambda: timm.create_model(name, pretrained=True).state_dict(),
        url=hub if published.hf_hub_id else str(published.url or ""),
        classes=tuple(classes),
        input_size=published.input_size[-1],
        mean=tuple(published.mean),
        std=tuple(published.std),
    )
