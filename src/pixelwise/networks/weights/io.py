"""Pretrained weights: read from a file, matched by name and shape, and loaded with a report.

The weights are compared before anything is changed: if a file does not fit, the network stays as it was.
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

from pixelwise.errors import InvalidArgumentError, ModelFileError, PathAccessError, PathNotFoundError, unknown_name

Shape = tuple[int, ...]

WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
"""Keys under which training programs store the weights next to other values, in order of preference."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile add to every name."""

OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""torchvision's DenseNet files are older than the rule against dots in the names of modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors by name, and notes on how they were found."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The parts of a network that were loaded, and the parts of a file that were used, in the network's order."""

    loaded: Mapping[str, Shape]
    missing: Mapping[str, Shape]
    """In the network, but not in the file."""
    unexpected: Mapping[str, Shape]
    """In the file, but not in the network."""
    reshaped: Mapping[str, tuple[Shape, Shape]]
    """In both with different shapes: (shape in the file, shape in the network)."""
    num_parameters: int
    """Number of values loaded into parameters, without running statistics."""
    num_layers: int
    """Number of layers with all tensors loaded."""
    total_layers: int
    """Number of layers of the network with tensors."""
    notes: tuple[str, ...] = ()
    """Names that were stripped or renamed."""

    @property
    def is_complete(self) -> bool:
        """Return whether the whole network was loaded and the whole file was used."""
        return not (self.missing or self.unexpected or self.reshaped)

    def summary(self) -> str:
        """Return `13 of 16 layers, 14,714,688 parameters; not used: classifier.6.weight (1000, 4096)`.

        Of long lists only the first four names are in the summary; the fields have all.
        """
        parts = [f"{self.num_layers} of {self.total_layers} layers, {self.num_parameters:,} parameters"]
        for title, names in [
            ("of a different shape", [f"{n} {theirs}, here {ours}" for n, (theirs, ours) in self.reshaped.items()]),
            ("not in the file", [f"{name} {shape}" for name, shape in self.missing.items()]),
            ("not used", [f"{name} {shape}" for name, shape in self.unexpected.items()]),
        ]:
            if names:
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                parts.append(f"{title}: {', '.join(names[:4])}{more}")
        return "; ".join([*parts, *self.notes])


def load_weights(module: nn.Module, source: Path | Mapping[str, Tensor] | Weights) -> LoadReport:
    """Load every tensor whose name and shape match, and report the rest.

    Args:
        module: The module to change.
        source: A state-dict file (see `read_weights`), or tensors by name.

    Raises:
        PathNotFoundError: The file does not exist.
        ModelFileError: The file cannot be read.
        InvalidArgumentError: No tensor fits. In all cases the module is then unchanged.
    """
    if isinstance(source, Path):
        weights = read_weights(source)
    else:
        weights = source if isinstance(source, Weights) else Weights(tensors=source)
    report = compare_weights(module, weights)
    own = module.state_dict()
    if not report.loaded:
        raise InvalidArgumentError(
            f"no tensor of {source if isinstance(source, Path) else 'these weights'} fits the network: it has names "
            f"such as {next(iter(weights.tensors), 'none')!r}, the network such as {next(iter(own), 'none')!r}; "
            "choose weights of the same network."
        )
    # Device and dtype first, so that everything that can fail fails before the first tensor is changed.
    values = {name: weights.tensors[name].to(own[name]) for name in report.loaded}
    for name, value in values.items():
        own[name].copy_(value)
    return report


def compare_weights(module: nn.Module, weights: Weights) -> LoadReport:
    """Return the report of `load_weights` without loading."""
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
    loaded = {name: shape for name, shape in own.items() if theirs.get(name) == shape}
    # `named_parameters` lists a shared parameter under its first name only, so it is counted once.
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
    """Read the tensors of a `.safetensors` file, or of any other file with `torch.load(weights_only=True)`.

    No code in the file is executed. Weights under a key such as "state_dict" are found, prefixes of all names
    ("module.") are stripped, and the notes name both.

    Raises:
        PathNotFoundError: The file does not exist.
        PathAccessError: The file is not readable.
        ModelFileError: The file is damaged or has other contents.
    """
    if not path.is_file():
        raise PathNotFoundError(f"Weights '{path}' do not exist. Expected a .pth, .pt or .safetensors file.")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise PathAccessError(f"{path} is not readable; change its permissions.") from error
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); copy or download it again.") from error
    except Exception as error:  # damaged bytes can raise anything in the unpickler
        raise ModelFileError(
            f"{path} is damaged, or contains more than tensors ({_get_first_line(error)}); "
            "save only `model.state_dict()` with torch.save."
        ) from error
    return _unwrap(path, content)


def _get_first_line(error: Exception) -> str:
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
        raise ModelFileError(f"{path} contains no named tensors; save `model.state_dict()` with torch.save.")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"{prefix!r} stripped from every name")
    renamed = {OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    if renamed.keys() != tensors.keys():
        notes.append("'norm.1' renamed to 'norm1', and so on")
    return Weights(tensors=renamed, notes=tuple(notes))


def adapt_first_layer(weight: Tensor, in_channels: int) -> Tensor:
    """Return the weights of a first convolution for a different number of input channels.

    A gray image, repeated over all channels, gives the same response as before. The trained channels are assigned in
    turn, R, G, B, R, G, ..., each divided by how often it is assigned. If there are fewer channels than weights, the
    weights are assigned to the channels in turn and summed. One channel thus gets the sum of R, G and B; six channels
    get half of each, twice.

    Args:
        weight: (O, C, k, k), with C = 3 in most cases.
        in_channels: N of the new images.

    Returns:
        (O, N, k, k) in the dtype of `weight`.
    """
    trained, new = torch.arange(weight.shape[1])[:, None], torch.arange(in_channels)
    assigned = (trained % in_channels == new % weight.shape[1]).to(weight)
    shares = assigned / assigned.sum(1, keepdim=True)
    return torch.einsum("ocyx,cn->onyx", weight, shares)


# Classifiers by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A network (B, C, H, W) float32 → logits (B, K), and the input that its weights expect."""

    network: nn.Module
    classes: tuple[str, ...]
    """Names of the K classes; empty if unknown."""
    input_size: int
    """Side of the training images in pixels."""
    mean: tuple[float, ...]
    """Mean of each channel, for images in [0, 1]."""
    std: tuple[float, ...]
    report: LoadReport | None
    """The tensors that were loaded; None for weights "none"."""


def build_classifier(
    name: str, *, weights: Literal["imagenet", "none"] | Path = "imagenet", num_classes: int = 1000
) -> Classifier:
    """Build a torchvision ("vgg16") or timm ("timm:convnext_tiny") classifier in evaluation mode.

    Args:
        name: Name in the library.
        weights: "imagenet", which the library downloads on first use; "none" for random weights; or a file for
            `read_weights`.
        num_classes: K. If the weights have a different number, the class layer stays random, and `report.reshaped`
            names it.

    Raises:
        InvalidArgumentError: The name is unknown, or the weights cannot be downloaded.
    """
    is_timm = name.startswith("timm:")
    published = _find_in_timm(name.removeprefix("timm:")) if is_timm else _find_in_torchvision(name)
    network = published.build(num_classes)
    report = None
    if isinstance(weights, Path):
        report = load_weights(network, weights)
    elif weights == "imagenet":
        report = load_weights(network, _download(name, published))
    elif weights != "none":
        raise InvalidArgumentError(f"weights are {weights!r}, but must be 'imagenet', 'none' or the Path of a file.")
    return Classifier(
        network=network.eval(),
        classes=published.classes if len(published.classes) == num_classes else (),
        input_size=published.input_size,
        mean=published.mean,
        std=published.std,
        report=report,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PublishedClassifier:
    """A classifier of a library, and the facts of its ImageNet weights."""

    build: Callable[[int], nn.Module]
    """Function of the number of classes."""
    download: Callable[[], Mapping[str, Tensor]]
    url: str
    classes: tuple[str, ...]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _download(name: str, published: _PublishedClassifier) -> Mapping[str, Tensor]:
    if not published.url:
        raise InvalidArgumentError(f"{name!r} has no published ImageNet weights; give a file, or train with 'none'.")
    try:
        return published.download()
    except Exception as error:  # each library and each proxy fails in its own way
        raise InvalidArgumentError(
            f"the ImageNet weights of {name!r} cannot be downloaded ({_get_first_line(error)}); on a computer with a "
            f"connection, download {published.url} and give that file as the weights."
        ) from error


def _find_in_torchvision(name: str) -> _PublishedClassifier:
    choices = models.list_models(module=models)
    if name not in choices:
        raise unknown_name("classifier", name, [*choices, *([f"timm:{name}"] if timm.is_model(name) else [])])
    weights = models.get_model_weights(name).DEFAULT
    options: dict[str, bool] = {}
    if name in ("googlenet", "inception_v3"):
        # Their published weights expect the input of TensorFlow; this option converts the usual one.
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    preprocessing = weights.transforms()
    return _PublishedClassifier(
        build=lambda num_classes: models.get_model(name, weights=None, num_classes=num_classes, **options),
        download=lambda: models.get_model(name, weights=weights, progress=False).state_dict(),
        url=weights.url,
        classes=tuple(weights.meta["categories"]),
        input_size=preprocessing.crop_size[0],
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
    )


def _find_in_timm(name: str) -> _PublishedClassifier:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        near = difflib.get_close_matches(architecture, known, n=5, cutoff=0.4)
        raise InvalidArgumentError(f"timm has no model {architecture!r}. Closest of {len(known)}: {', '.join(near)}.")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if name != architecture and name not in tagged:
        raise unknown_name("timm model", name, [architecture, *tagged])
    published = timm.get_pretrained_cfg(name) or PretrainedCfg()
    # The names of the 1000 classes are the same everywhere; timm has lists of synonyms.
    classes = models.ResNet18_Weights.DEFAULT.meta["categories"] if published.num_classes == 1000 else ()
    hub = f"https://huggingface.co/{published.hf_hub_id}/resolve/main/model.safetensors"
    return _PublishedClassifier(
        build=lambda num_classes: timm.create_model(name, pretrained=False, num_classes=num_classes),
        download=lambda: timm.create_model(name, pretrained=True).state_dict(),
        url=hub if published.hf_hub_id else str(published.url or ""),
        classes=tuple(classes),
        input_size=published.input_size[-1],
        mean=tuple(published.mean),
        std=tuple(published.std),
    )
