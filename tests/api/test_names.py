"""Names of tables are found in any case, with or without hyphens and underscores, by the functions of every command."""

from pathlib import Path

import pytest

import pixelwise as pw
from pixelwise.arguments import Names, get_limit
from pixelwise.config import Config, NetworkConfig, describe_keys
from pixelwise.conversion import WRITERS
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats import FORMATS, detect_format
from pixelwise.data.synthetic import SYNTHETIC_DATASETS, write_dataset
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.engines import ENGINES, choose_engine
from pixelwise.inference.predictor import PredictionOptions
from pixelwise.inference.tta import TRANSFORMS
from pixelwise.networks import NETWORKS, SegNet, UNet, build_network
from pixelwise.networks.encoders import build_encoder
from pixelwise.prediction.output_writer import OutputWriter

HINTS = {key.name: key.hint for key in describe_keys()}


def test_the_names_of_the_config_are_those_of_the_tables() -> None:
    limits = {key: get_limit(HINTS[key]) for key in ("network.name", "data.format")}
    names = {key: set(limit.names) for key, limit in limits.items() if isinstance(limit, Names)}
    assert names == {"network.name": set(NETWORKS), "data.format": set(FORMATS)}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    for written in (name.upper(), name.replace("-", ""), name.replace("-", "_").title()):
        assert NetworkConfig(name=written).name == name


def test_a_network_of_the_user_keeps_its_case() -> None:
    assert NetworkConfig(name="My_Module:MyNet").name == "My_Module:MyNet"


@pytest.mark.parametrize(
    ("key", "written", "name"),
    [
        ("network.name", "UNet_Paper", "unet-paper"),
        ("network.upsampling", "Bed-of-Nails", "bed_of_nails"),
        ("network.skips", "ADD", "add"),
        ("data.format", "CamVid", "camvid"),
        ("loss.name", "cross-entropy", "cross_entropy"),
        ("optimizer.name", "AdamW", "adamw"),
        ("schedule.name", "OneCycle", "one_cycle"),
        ("training.precision", "BF16", "bf16"),
    ],
)
def test_keys_of_the_config(key: str, written: str, name: str) -> None:
    section, _, field = key.partition(".")
    assert getattr(getattr(Config().replace({key: written}), section), field) == name


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown network 'unett'. Did you mean 'unet'\?"):
        Config().replace({"network.name": "unett"})


def test_constructors_of_networks() -> None:
    assert build_network("FCN_basic", in_channels=1, num_classes=2)
    unet = UNet(1, 2, base_channels=4, depth=1, padding="SAME", normalization="Batch", upsampling="Switches")  # type: ignore[arg-type]
    assert (unet.padding, unet.size_multiple) == ("same", 2)
    assert "MaxUnpool" in repr(unet)
    segnet = SegNet(1, 2, channels=(4,), depths=(1,), upsampling="BedOfNails", skips="Concat")  # type: ignore[arg-type]
    assert "UnpoolBedOfNails" in repr(segnet)
    assert segnet.skips == "concat"


def test_encoders() -> None:
    assert build_encoder("ResNet-18", in_channels=1).strides == build_encoder("resnet18", in_channels=1).strides


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, tmp_path: Path) -> None:
    assert detect_format(tmp_path, name.upper()) == name


def test_formats_to_write(cells: Path, tmp_path: Path) -> None:
    name = next(iter(WRITERS))
    assert pw.convert(cells, tmp_path / "out", to=name.title()).format == name


def test_splits(cells: Path) -> None:
    assert len(Dataset.load(cells).split("Test")) == 4  # type: ignore[arg-type]


def test_synthetic_datasets(tmp_path: Path) -> None:
    name = next(iter(SYNTHETIC_DATASETS))
    write_dataset(tmp_path / "a", name.upper(), num_train=1, num_val=0, num_test=0, size=(32, 32))  # type: ignore[arg-type]


def test_engines() -> None:
    assert {choose_engine(name.replace("-", "_").title()) for name in ENGINES} <= set(ENGINES)


def test_outputs_and_transforms(tmp_path: Path) -> None:
    writer = OutputWriter(folder=tmp_path, kinds=("Labels_PNG", "labels-png"), label_values="Index")  # type: ignore[arg-type]
    assert (writer.kinds, writer.label_values) == (("labels-png",), "index")
    options = PredictionOptions(tiling="Blend", tta=tuple(name.upper() for name in TRANSFORMS))  # type: ignore[arg-type]
    assert (options.tiling, options.tta) == ("blend", TRANSFORMS)


def test_arguments_of_commands(make_model: object, cells: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.safetensors", channels=1)  # type: ignore[operator]
    assert pw.load(model, precision="FP32", engine="Torch", device="CPU").precision == "fp32"
    folder = cells / "images" / "test"
    options = {"save": ["LABELS", "Overlay"], "tiling": "Exact", "label_values": "INDEX", "device": "cpu"}
    assert len(pw.predict(model, [folder], tmp_path / "out", **options).written) == 8
