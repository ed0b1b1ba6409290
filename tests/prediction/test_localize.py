import io
import urllib.error
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import Normalize
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from pixelwise.api import localize
from pixelwise.cli import main
from pixelwise.data.io.images import write_png
from pixelwise.errors import InvalidArgumentError, ModelFileError, PathNotFoundError
from pixelwise.networks.convolutionalize import convolutionalize
from pixelwise.networks.geometry.alignment import Alignment
from pixelwise.networks.geometry.tracer import copy_to_meta
from pixelwise.networks.weights import Classifier
from pixelwise.prediction.localize import (
    COLORS,
    OPACITY,
    Heatmap,
    Localizer,
    align_maps,
    blend_heatmap,
    compute_working_size,
    draw_heatmaps,
    find_alignment,
    find_class,
    load_classifier,
)
from pixelwise.progress import use_reporter
from pixelwise.shapes import Size

CPU = torch.device("cpu")
IMAGENET = models.ResNet18_Weights.DEFAULT.meta["categories"]


class ColorClassifier(nn.Module):
    """Logits: the shares of red, green and blue in the image, by a 1x1 linear layer on a map of stride 4."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 3, 1, bias=False))
        self.fc = nn.Linear(3, num_classes, bias=False)
        for weight in (self.features[1].weight, self.fc.weight):
            nn.init.zeros_(weight)
        with torch.no_grad():
            self.features[1].weight[range(3), range(3)] = 1
            self.fc.weight[range(num_classes), range(num_classes)] = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def colors(*, input_size: int = 16, num_classes: int = 3, names: tuple[str, ...] = ()) -> Localizer:
    classifier = Classifier(
        network=ColorClassifier(num_classes).eval(),
        classes=names,
        input_size=input_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.1, 0.1, 0.1),
        report=None,
    )
    return Localizer(classifier, device=CPU)


@pytest.fixture
def by_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever classifier is asked for, that of the colors is loaded."""
    loaded = Classifier(
        network=ColorClassifier().eval(),
        classes=("red", "green", "blue"),
        input_size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.1, 0.1, 0.1),
        report=None,
    )
    monkeypatch.setattr("pixelwise.prediction.localize.load_classifier", lambda name, weights: loaded)


def gray_with(spots: dict[tuple[int, int], tuple[int, int, int]], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image in gray, with 4x4 spots of a color at these places of the upper left corner."""
    image = np.full((*size, 3), 40, np.uint8)
    for (row, column), color in spots.items():
        image[row : row + 4, column : column + 4] = color
    return image


RED, BLUE = (255, 40, 40), (40, 40, 255)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    write_png(root / "one.png", gray_with({(8, 20): RED, (20, 4): BLUE}, (32, 40)))
    write_png(root / "trip" / "two.png", gray_with({(0, 0): RED}, (40, 32)))
    return root


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def inside(place: Size, rows: slice, columns: slice) -> bool:
    return place[0] in range(10**6)[rows] and place[1] in range(10**6)[columns]


# What a classifier sees


def test_the_maximum_is_on_the_object() -> None:
    picture, heats = colors().compute_heatmaps(gray_with({(8, 20): RED, (20, 4): BLUE}, (32, 40)))
    assert picture.shape == (32, 40, 3)
    peaks = {heat.name: heat.peak for heat in heats}
    assert inside(peaks["class 0"], slice(8, 12), slice(20, 24))
    assert inside(peaks["class 2"], slice(20, 24), slice(4, 8))


def test_classes_are_sorted_by_probability_or_chosen() -> None:
    localizer = colors(names=("red", "green", "blue"))
    image = gray_with({(8, 20): RED, (8, 24): RED, (20, 4): BLUE}, (32, 40))
    _, heats = localizer.compute_heatmaps(image)
    assert [heat.name for heat in heats] == ["red", "blue", "green"]
    _, (green,) = localizer.compute_heatmaps(image, 1)
    assert (green.name, green.probability) == ("green", heats[2].probability)
    np.testing.assert_array_equal(green.logits, heats[2].logits)


def test_probabilities_and_maps_are_those_of_the_classifier() -> None:
    torch.manual_seed(0)
    network = models.resnet18(num_classes=7).eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    classifier = Classifier(network=network, classes=(), input_size=64, mean=mean, std=std, report=None)
    _, heats = Localizer(classifier, device=CPU).compute_heatmaps(image)
    normalized = (torch.tensor(image).permute(2, 0, 1)[None] / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(
        std
    )[:, None, None]
    with torch.no_grad():
        expected = network(normalized).softmax(1)[0]
        maps = convolutionalize(network, input_size=64)(normalized)[0]
    assert [heat.name for heat in heats] == [f"class {i}" for i in expected.topk(3).indices]
    np.testing.assert_allclose([heat.probability for heat in heats], expected.topk(3).values, rtol=1e-4)
    # Cells of a ResNet lie over pixels 0 and 32.
    best = maps[expected.argmax()].numpy()
    np.testing.assert_allclose(heats[0].logits[::32, ::32], best, rtol=1e-4)


def test_a_single_class_has_a_sigmoid() -> None:
    _, (heat,) = colors(num_classes=1).compute_heatmaps(np.full((16, 16, 3), 153, np.uint8))
    assert heat.probability == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-5)  # (153 / 255 - 0.5) / 0.1 = 1


def test_two_classes_are_both_shown() -> None:
    assert len(colors(num_classes=2).compute_heatmaps(np.zeros((16, 16, 3), np.uint8))[1]) == 2


@pytest.mark.parametrize(
    "image",
    [
        np.tile(np.arange(0, 64000, 1000, dtype=np.uint16)[:, None, None], (1, 64, 1)),
        np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 4)),
        np.tile(np.arange(64, dtype=np.uint16)[:, None, None] * 50, (1, 64, 5)),
    ],
    ids=["gray 16 bit", "four bands", "12 bit in 16"],
)
def test_any_depth_and_number_of_bands_is_supported(image: npt.NDArray[Any]) -> None:
    _, heats = colors().compute_heatmaps(image)
    assert heats[0].peak[0] >= 60
    assert heats[0].logits.max() > heats[0].logits.min()


def test_twelve_bits_are_not_black() -> None:
    image = np.tile(np.arange(64, dtype=np.uint16)[:, None, None] * 50, (1, 64, 1))
    assert colors().compute_heatmaps(image)[1][0].logits.max() > 4  # white gives (1 - 0.5) / 0.1 = 5


# Sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),
        ((224, 224), (224, 224)),
        ((3000, 4000), (768, 1024)),
        ((4000, 3000), (1024, 768)),
        ((96, 128), (224, 299)),
        ((1, 1), (224, 224)),
        ((100, 2000), (224, 1024)),
        ((1, 100_000), (224, 1024)),
    ],
)
def test_working_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert compute_working_size(size, 224) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(16, 1500))
def test_working_sizes_are_between_the_input_size_and_the_limit(height: int, width: int, native: int) -> None:
    sides = compute_working_size((height, width), native)
    assert all(native <= side <= max(native, 1024) for side in sides)
    if native <= min(height, width) and max(height, width) <= 1024:
        assert sides == (height, width)


def test_small_images_are_scaled_up_and_large_ones_down() -> None:
    localizer = colors(input_size=32)
    assert localizer.compute_heatmaps(np.zeros((8, 16, 3), np.uint8))[0].shape == (32, 64, 3)
    picture, heats = localizer.compute_heatmaps(gray_with({(0, 2044): RED}, (64, 2048)))
    assert picture.shape == (32, 1024, 3)
    assert heats[0].peak[1] >= 1022


# Where cells lie


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 8), st.integers(1, 8))
def test_cells_of_a_pooling_are_aligned_like_interpolation(h: int, w: int, down: int, right: int) -> None:
    maps = torch.randn(2, h, w, generator=torch.Generator().manual_seed(h * w))
    lines = tuple(Alignment(Fraction(1, step), Fraction(1 - step, 2 * step)) for step in (down, right))
    size = (h * down, w * right)
    expected = functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(align_maps(maps, lines, size), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(align_maps(maps, None, size), expected)


def test_values_are_constant_beyond_the_outermost_cells() -> None:
    """Two cells, over pixels 2 and 4 of seven."""
    line = Alignment(Fraction(1, 2), Fraction(-1))
    placed = align_maps(torch.tensor([[[10.0, 30.0]]]), (Alignment(), line), (1, 7))
    assert placed.flatten().tolist() == pytest.approx([10, 10, 10, 20, 30, 30, 30])


@pytest.mark.parametrize(
    ("network", "first", "stride"),
    [
        (nn.Conv2d(3, 2, 3, stride=2, padding=1), 0, 2),
        (nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.MaxPool2d(2)), Fraction(3, 2), 4),
        (nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(3, 2, 7)), Fraction(3, 2) + 12, 4),
        (nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(3, 2, (7, 1), padding=(3, 0))), Fraction(3, 2), 4),
    ],
)
def test_cells_are_at_the_center_of_their_receptive_fields(network: nn.Module, first: Fraction, stride: int) -> None:
    lines = find_alignment(copy_to_meta(network), (64, 80))
    assert lines is not None
    for line in lines:
        assert line.scale * first + line.offset == 0
        assert line.scale == Fraction(1, stride)


def test_the_first_cell_of_a_resnet_is_at_the_first_pixel() -> None:
    skeleton = copy_to_meta(convolutionalize(models.resnet18(num_classes=2), input_size=64))
    assert find_alignment(skeleton, (75, 200)) == (Alignment(Fraction(1, 32), Fraction(0)),) * 2


def test_an_upsampled_or_unknown_map_has_no_alignment() -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)

    assert find_alignment(nn.Upsample(scale_factor=2), (16, 16)) is None
    assert find_alignment(Norm(), (16, 16)) is None


# Classes


@pytest.mark.parametrize(
    ("wanted", "index"), [("cat", 0), ("Mountain Bike", 1), ("mountain bike", 1), ("2", 2), ("crane", 2)]
)
def test_a_class_goes_by_its_name_or_number(wanted: str, index: int) -> None:
    assert find_class(["cat", "mountain bike", "crane", "crane"], wanted) == index


def test_every_class_of_imagenet_can_be_named() -> None:
    assert [find_class(IMAGENET, name) for name in IMAGENET] == list(range(1000))


def test_an_unknown_class_names_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown class 'mountan bike'. Did you mean 'mountain bike'\?"):
        find_class(IMAGENET, "mountan bike")
    with pytest.raises(InvalidArgumentError, match="Unknown class 'cyclist'") as error:
        find_class(IMAGENET, "cyclist")
    assert len(str(error.value)) < 300
    with pytest.raises(InvalidArgumentError, match=r"Class 1000 does not exist\. The classifier has classes 0 to 999"):
        find_class(IMAGENET, "1000")


# Weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a SqueezeNet for five classes, never trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "five.pth"
    torch.save(models.squeezenet1_1(num_classes=5).state_dict(), path)
    return path


def test_the_file_determines_the_number_of_classes(weights: Path) -> None:
    loaded = load_classifier("squeezenet1_1", weights)
    assert loaded.report is not None
    assert loaded.report.is_complete
    assert Localizer(loaded, device=CPU).names == tuple(f"class {i}" for i in range(5))


def test_a_file_of_imagenets_classes_has_their_names(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "w.pt")
    assert load_classifier("squeezenet1_1", tmp_path / "w.pt").classes == tuple(IMAGENET)


def test_weights_that_are_incomplete_are_refused(weights: Path, tmp_path: Path) -> None:
    tensors = torch.load(weights, weights_only=True)
    del tensors["features.0.bias"]
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(
        ModelFileError, match=r"w\.pt does not contain all weights of 'squeezenet1_1': .*features\.0\.bias"
    ):
        load_classifier("squeezenet1_1", tmp_path / "w.pt")


def test_weights_of_another_shape_are_refused(weights: Path, tmp_path: Path) -> None:
    tensors = torch.load(weights, weights_only=True)
    tensors["features.0.weight"] = torch.zeros(64, 3, 5, 5)
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match=r"of a different shape: features\.0\.weight \(64, 3, 5, 5\)"):
        load_classifier("squeezenet1_1", str(tmp_path / "w.pt"))


def test_batch_counters_may_be_missing_and_extra_tensors_are_ignored(tmp_path: Path) -> None:
    tensors = models.mobilenet_v3_small(num_classes=4).state_dict()
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save({**kept, "auxiliary.weight": torch.zeros(4)}, tmp_path / "w.pt")
    loaded = load_classifier("mobilenet_v3_small", tmp_path / "w.pt")
    assert loaded.report is not None
    assert list(loaded.report.unexpected) == ["auxiliary.weight"]


# The job


@pytest.mark.usefixtures("by_color")
def test_each_image_gets_a_heat_map(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = localize(photos, out, classifier="any")
    assert files_in(out) == ["one_heatmap.png", "trip/two_heatmap.png"]
    assert report.failures == ()
    assert [(found.image, found.heatmap) for found in report.images] == [
        (photos / "one.png", out / "one_heatmap.png"),
        (photos / "trip" / "two.png", out / "trip" / "two_heatmap.png"),
    ]
    assert report.images[1].classes[0].name == "red"
    with Image.open(out / "one_heatmap.png") as picture:
        assert min(picture.size) > 400


@pytest.mark.usefixtures("by_color")
def test_peaks_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    image = np.full((1500, 3000, 3), 40, np.uint8)
    image[600:650, 2400:2450] = RED
    write_png(tmp_path / "large.png", image)
    report = localize([tmp_path / "large.png"], tmp_path / "out", classifier="any", class_name="red")
    ((sight,),) = (found.classes for found in report.images)
    assert inside(sight.peak, slice(600, 650), slice(2400, 2450))
    assert sight.name == "red"
    assert 1 / 3 < sight.probability < 1


@pytest.mark.usefixtures("by_color")
def test_a_bad_file_is_listed_and_the_others_are_predicted(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = localize([photos], tmp_path / "out", classifier="any")
    ((path, reason),) = report.failures
    assert path.name == "broken.png"
    assert "broken.png: The file cannot be decoded. Replace or remove it." in reason
    assert len(files_in(tmp_path / "out")) == 2


@pytest.mark.usefixtures("by_color")
def test_progress_counts_every_input_and_excludes_results(photos: Path) -> None:
    seen: list[tuple[float, float]] = []

    class Counting:
        def log(self, message: str) -> None: ...

        def track(self, label: str, done: float, total: float, note: str = "") -> None:
            seen.append((done, total))

    for _ in range(2):
        with use_reporter(Counting()):
            localize([photos], photos / "out", classifier="any")
    assert seen == [(1, 2), (2, 2)] * 2


@pytest.mark.usefixtures("by_color")
def test_two_images_of_one_name_are_skipped(photos: Path, tmp_path: Path) -> None:
    write_png(photos / "trip" / "one.png", np.zeros((4, 4), np.uint8))
    images = [photos / "one.png", photos / "trip" / "one.png"]
    report = localize(images, tmp_path / "out", classifier="any")
    assert report.images == ()
    assert [path for path, _ in report.failures] == images
    assert f"{images[1]} would also be written to {tmp_path / 'out' / 'one_heatmap.png'}. " in report.failures[0][1]


def test_a_heat_map_never_replaces_an_image(photos: Path) -> None:
    write_png(photos / "one_heatmap.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InvalidArgumentError, match=r"The heat map of .*one\.png would replace the image"):
        localize([photos], photos, classifier="no such")


@pytest.mark.usefixtures("by_color")
def test_a_file_is_only_replaced_if_the_same_request_wrote_it(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "one_heatmap.png"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(InvalidArgumentError, match=r"one_heatmap\.png exists, and Pixelwise did not write it"):
        localize([photos / "one.png"], tmp_path / "out", classifier="any")
    assert target.read_bytes() == b"mine"
    localize([photos / "one.png"], tmp_path / "out", classifier="any", overwrite=True)
    localize([photos / "one.png"], tmp_path / "out", classifier="any")
    with pytest.raises(InvalidArgumentError, match=r"another request \(class was None and is 'red'\)"):
        localize([photos / "one.png"], tmp_path / "out", classifier="any", class_name="red")
    with Image.open(target) as picture:
        picture.rotate(90).save(target)
    with pytest.raises(InvalidArgumentError, match=r"one_heatmap\.png exists, and Pixelwise did not write it"):
        localize([photos / "one.png"], tmp_path / "out", classifier="any")


def test_no_image_and_no_classifier_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="No images found"):
        localize([tmp_path / "gone.png"], tmp_path / "out", classifier="resnet18")
    with pytest.raises(InvalidArgumentError, match=r"Unknown classifier 'resnet19'.* Did you mean"):
        localize([photos], tmp_path / "out", classifier="resnet19")
    with pytest.raises(PathNotFoundError, match="do not exist"):
        localize([photos], tmp_path / "out", classifier="squeezenet1_1", weights="gone.pth")
    assert not (tmp_path / "out").exists()


# The command line


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main.main(["localize", *map(str, arguments)])
    return int(end.value.code or 0)


def test_the_command_prints_classes_and_peaks(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = run(photos, "--classifier", "squeezenet1_1", "--weights", weights, "--class", "class 3", "-o", out)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "26 of 26 layers" in said.err
    assert "class 3 " in said.out
    assert "strongest at row" in said.out
    assert f"2 heat maps written to {out}" in said.out
    assert len(files_in(out)) == 2


@pytest.mark.usefixtures("by_color")
def test_failures_are_exit_code_1(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "broken.png").write_bytes(b"x")
    assert run(photos, "--classifier", "any", "-o", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "broken.png" in said.err
    assert "2 heat maps written" in said.out


@pytest.mark.usefixtures("by_color")
def test_an_unknown_class_is_exit_code_2(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(photos, "--classifier", "any", "--class", "rad", "-o", tmp_path / "out") == 2
    assert "Unknown class 'rad'. Did you mean 'red'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_connection_the_error_says_how_to_give_a_file(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refused)
    assert run(photos, "--classifier", "squeezenet1_1", "-o", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "cannot be downloaded" in said
    assert "https://download.pytorch.org/models/squeezenet1_1" in said
    assert "give that file with --weights (in Python: weights). Or use tf_efficientnet_lite0, whose weights" in said


def picture(height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def make_heatmap(logits: npt.NDArray[np.float32], name: str = "cyclist") -> Heatmap:
    return Heatmap(name=name, probability=0.5, logits=logits)


def ramp(height: int = 24, width: int = 32) -> npt.NDArray[np.float32]:
    return np.linspace(-3, 5, height * width, dtype=np.float32).reshape(height, width)


def opened(content: bytes) -> Image.Image:
    result = Image.open(io.BytesIO(content))
    result.load()
    return result


def test_the_peak_is_a_row_and_a_column() -> None:
    logits = np.zeros((5, 9), np.float32)
    logits[3, 7] = 0.1
    assert make_heatmap(logits).peak == (3, 7)


def test_a_pixel_is_gray_under_the_color_of_its_logit() -> None:
    scale = Normalize(-2, 6)
    shown = blend_heatmap(np.array([[[10, 20, 60], [90, 120, 150]]], np.uint8), np.array([[-2, 6]], np.float32), scale)
    for column, (gray, opacity, value) in enumerate([(30, OPACITY[0], 0.0), (120, OPACITY[1], 1.0)]):
        expected = gray * (1 - opacity) + 255 * np.array(COLORS(value)[:3]) * opacity
        np.testing.assert_array_equal(shown[0, column], np.rint(expected))


@pytest.mark.parametrize(
    ("size", "maps", "rows", "columns"),
    [((24, 32), 3, 2, 2), ((24, 32), 1, 1, 2), ((32, 20), 3, 1, 4), ((10, 40), 3, 4, 1), ((24, 32), 2, 2, 2)],
)
def test_panels_are_laid_out_by_the_shape_of_the_picture(
    size: tuple[int, int], maps: int, rows: int, columns: int
) -> None:
    drawn = opened(draw_heatmaps(picture(*size), [make_heatmap(ramp(*size))] * maps))
    panel = np.array([4 * min(1, size[1] / size[0]), 4 / max(1, size[1] / size[0])])
    expected = 150 * np.array([columns * panel[0] + 1, rows * (panel[1] + 0.35)])
    np.testing.assert_allclose(drawn.size, expected, atol=2)


def test_picture_maps_and_color_bar_are_drawn() -> None:
    """The picture's own red, the hot and the cold end of the bar, and a black ring."""
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 200
    pixels = np.asarray(opened(draw_heatmaps(red, [make_heatmap(ramp())])).convert("RGB")).astype(int)
    for color in ([200, 0, 0], *(np.array(COLORS(end)[:3]) * 255 for end in (0.0, 1.0))):
        assert (np.abs(pixels - color).max(axis=2) <= 12).sum() > 20, color
    right = pixels[:, pixels.shape[1] // 2 :]
    assert (right.reshape(-1, 3) == 0).all(1).any()


def test_the_peak_is_the_maximum_of_the_map() -> None:
    """In the panel of a black picture, the last color lies where the logits are high: at its right edge."""
    logits = np.tile(np.arange(32, dtype=np.float32), (24, 1))
    pixels = np.asarray(opened(draw_heatmaps(np.zeros((24, 32, 3), np.uint8), [make_heatmap(logits)])).convert("RGB"))
    hot = np.abs(pixels - np.array(COLORS(1.0)[:3]) * 255 * OPACITY[1]).max(axis=2) <= 2
    columns = np.flatnonzero(hot.any(axis=0))
    assert 1150 < columns.min() < columns.max() < 1250


def test_equal_arguments_give_equal_bytes_without_a_software_tag() -> None:
    first, second = (draw_heatmaps(picture(), [make_heatmap(ramp())]) for _ in range(2))
    assert first == second
    assert opened(first).info.keys() <= {"dpi"}


@pytest.mark.parametrize("name", ["$x", "a_b^{c$", "100 %", "[bold]"])
def test_names_are_not_formulas(name: str) -> None:
    assert draw_heatmaps(picture(), [make_heatmap(ramp(), name)]) != draw_heatmaps(
        picture(), [make_heatmap(ramp(), "x")]
    )


@pytest.mark.parametrize("logits", [np.zeros((24, 32)), np.full((24, 32), 1e9), np.full((24, 32), -1e-9)])
def test_a_map_of_one_value_is_drawn(logits: npt.NDArray[np.float64]) -> None:
    assert opened(draw_heatmaps(picture(), [make_heatmap(logits.astype(np.float32))])).format == "PNG"


@pytest.mark.parametrize("size", [(1024, 224), (224, 1024), (1, 1)])
def test_extreme_shapes_are_drawn(size: tuple[int, int]) -> None:
    assert min(opened(draw_heatmaps(picture(*size), [make_heatmap(ramp(*size))] * 3)).size) > 200
