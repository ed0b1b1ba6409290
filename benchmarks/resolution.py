"""Compare how networks recover the resolution that pooling removes.

    python benchmarks/resolution.py --data streets --name streets
    python benchmarks/resolution.py --data path/to/camvid --name camvid --steps 3000 --size 256 256

One dataset, and for every network the same images in the same order, the same steps, optimizer and seeds, and about
the same number of parameters: FCN-32s, 16s and 8s; SegNet with each upsampling; U-Net with each kind of skip
connection. Each is scored on the test images: IoU of each class, boundary F1, mean IoU within bands around the true
borders, and the share of found objects by size; means over the seeds, with the least and the greatest. For U-Net also
the gradient norm of the first convolution over the first 200 steps, and its share in the norm of the whole gradient
(which does not grow with the loss), with and without batch normalization. The encoder of the FCNs is SegNet's, VGG16
with batch normalization, but wider, because they have no decoder: 11 channels for SegNet's 8.

Finished parts are kept in the work folder; the same command continues after a stop.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import write_result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage
from torch import nn

from pixelwise.config import Config
from pixelwise.data.io.images import Array, read_mask, write_png
from pixelwise.data.loader import prefetch
from pixelwise.data.sample import Sample
from pixelwise.data.synthetic import SYNTHETIC_DATASETS, write_dataset
from pixelwise.data.visualization import colorize_labels, to_display_image
from pixelwise.devices import Precision, choose_device, choose_precision
from pixelwise.evaluation.evaluate import ScoredImage, score_samples
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.networks import FCN
from pixelwise.networks.backbones import VGG_CHANNELS, build_vgg_layers
from pixelwise.networks.encoders import ChainEncoder
from pixelwise.planning.prepare_data import TrainingData, prepare_data
from pixelwise.training.trainer import Trainer

HERE = Path(__file__).parent
BANDS = (1, 2, 4, 8, 16)
AREAS = (64, 256, 1024)
"""Lower bounds of the object sizes, in pixels."""
AREA_NAMES = ("<64", "64-255", "256-1023", ">=1024")
OBJECTS = ("cyclist", "bicyclist", "pedestrian", "pole", "signsymbol", "car", "cell")
"""Lower-case names of object classes; the figure shows a scene with the first one."""
UPSAMPLINGS = ("switches", "nearest", "bed_of_nails", "bilinear", "transposed")
SKIPS = ("none", "add", "concat")
NETWORKS: Mapping[str, Mapping[str, str]] = {
    **{f"fcn-{s}s": {"network.name": f"resolution:build_fcn_{s}s"} for s in (32, 16, 8)},
    **{f"segnet-{way}": {"network.name": "segnet", "network.upsampling": way} for way in UPSAMPLINGS},
    **{f"unet-{use}": {"network.name": "unet", "network.skips": use} for use in SKIPS},
}
GRADIENT_STEPS = 200
SCENE = ("fcn-32s", "segnet-bilinear", "unet-none", "fcn-8s", "segnet-switches", "unet-concat")

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Gradients = Mapping[str, Mapping[str, Floats]]
"""normalization → skips → (seeds, steps, 2): gradient norm of the first convolution and its share in the total."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="streets", help="streets, cells, or the folder of a dataset")
    parser.add_argument("--name", required=True, help="name of the JSON file in results/ and of the figures in docs/")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), help="size of samples and of synthetic images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--images", type=int, nargs=2, default=(400, 100), help="number of synthetic training and test images"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each network")
    parser.add_argument("--gradient-seeds", type=int, default=3, help="number of runs per curve of gradient norms")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, help="work folder; default: runs/resolution-NAME")
    parser.add_argument("--figures", type=Path, default=HERE.parent / "docs")
    arguments = parser.parse_args()
    work = arguments.work or Path("runs") / f"resolution-{arguments.name}"
    settings = {key: getattr(arguments, key) for key in ("steps", "size", "batch", "images")}
    settings = {"data": Path(arguments.data).name, **settings}
    require_same(work / "settings.json", settings)
    device = choose_device(arguments.device)
    config = base_config(settings, choose_precision("auto", device))
    comparison = Comparison(
        prepared=prepare_data(data_folder(arguments.data, work, settings), config),
        config=config,
        device=device,
        work=work,
    )
    # Seed by seed, so that a run that is stopped has compared all networks.
    runs = [{key: comparison.network(key, seed) for key in NETWORKS} for seed in range(arguments.seeds)]
    results = {key: summarize([run[key] for run in runs]) for key in NETWORKS}
    gradients = comparison.gradients(range(arguments.gradient_seeds))
    values = {
        "settings": settings,
        "config": comparison.config.to_dict(),
        "networks": results,
        "gradients": {key: {skips: summary(runs) for skips, runs in found.items()} for key, found in gradients.items()},
    }
    write_result(HERE / "results" / f"resolution-{arguments.name}.json", values)
    print_tables(results)
    stem = arguments.figures / f"resolution-{arguments.name}"
    save(draw_borders(results), stem, "fcn")
    save(draw_upsamplings(results), stem, "segnet")
    save(draw_skips(results, gradients), stem, "unet")
    if arguments.data in SYNTHETIC_DATASETS:  # other datasets may not be published
        save(draw_scene(results, comparison), stem, "scene")


def require_same(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise an error if the work folder holds results of other settings."""
    text = json.dumps(settings, indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{path.parent} was begun with other settings; name another folder with --work.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def data_folder(data: str, work: Path, settings: Mapping[str, Any]) -> Path:
    """Return the given folder, or a folder with synthetic images."""
    if data not in SYNTHETIC_DATASETS:
        return Path(data)
    folder = work / "data"
    if not folder.exists():
        num_train, num_test = settings["images"]
        size = tuple(settings["size"])
        write_dataset(folder, data, num_train=num_train, num_val=8, num_test=num_test, size=size)  # type: ignore[arg-type]
    return folder


def base_config(settings: Mapping[str, Any], precision: Precision) -> Config:
    """Return the settings common to all networks, with the planner's optimizer."""
    return Config().replace(
        {
            "data.crop_size": settings["size"],
            "loss.class_weights": "median_frequency",
            "optimizer.name": "muon",
            "optimizer.lr": 0.02,
            "training.precision": precision,
            "training.batch_size": settings["batch"],
            "training.steps": settings["steps"],
        }
    )


# ---------------------------------------------------------------- networks

WIDTH, FCN_WIDTH = 8, 11
"""Channels of the first convolutions: SegNet then has 0.46 million parameters, U-Net 0.44 to 0.49, FCN 0.44."""


def build_fcn(in_channels: int, num_classes: int, stride: int) -> FCN:
    """Return an FCN on the 13 convolutions of VGG16 with batch normalization, narrowed, without fc6 and fc7."""
    channels = [width * FCN_WIDTH // VGG_CHANNELS[0] for width in VGG_CHANNELS]
    layers = build_vgg_layers(in_channels, channels=channels, batch_norm=True)
    encoder = ChainEncoder(dict(layers.named_children()), taps="pools")
    return FCN(in_channels, num_classes, encoder=encoder, stride=stride)


build_fcn_32s = partial(build_fcn, stride=32)
build_fcn_16s = partial(build_fcn, stride=16)
build_fcn_8s = partial(build_fcn, stride=8)


# ---------------------------------------------------------------- measures


def border_distances(labels: Array, ignore_index: int) -> Floats:
    """Return (H, W): the distance from each pixel to the nearest pixel of another class, between centers.

    It is 1 next to a border, and infinite if the image has no other class. Ignored pixels have no class.
    """
    distances = np.full(labels.shape, np.inf)
    for index in np.unique(labels[labels != ignore_index]):
        own = labels == index
        other = ~own & (labels != ignore_index)
        if other.any():
            distances[own] = ndimage.distance_transform_edt(~other)[own]
    return distances


def object_counts(labels: Array, prediction: Array, classes: Sequence[int]) -> Counts:
    """Return (classes, sizes, 2): the number of true objects and of found objects, by size.

    An object is an 8-connected region of one class. It is found if at least half of its pixels are predicted as its
    class; predictions elsewhere do not count.
    """
    counts = np.zeros((len(classes), len(AREA_NAMES), 2), np.int64)
    for row, index in enumerate(classes):
        regions, number = ndimage.label(labels == index, structure=np.ones((3, 3)))
        areas = np.bincount(regions.ravel(), minlength=number + 1)[1:]
        hits = np.bincount(regions[prediction == index], minlength=number + 1)[1:]
        sizes = np.searchsorted(AREAS, areas, side="right")
        counts[row, :, 0] = np.bincount(sizes, minlength=len(AREA_NAMES))
        counts[row, :, 1] = np.bincount(sizes[2 * hits >= areas], minlength=len(AREA_NAMES))
    return counts


@dataclass(slots=True, kw_only=True)
class Measures:
    """Counts over the test images for one network."""

    names: Sequence[str]
    ignore_index: int
    distances: dict[Sample, Floats]
    """Stored for each network."""
    bands: dict[int, ConfusionMatrix] = field(init=False)
    objects: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.bands = {band: ConfusionMatrix(len(self.names)) for band in BANDS}
        self.objects = np.zeros((len(object_classes(self.names)), len(AREA_NAMES), 2), np.int64)

    def add(self, scored: ScoredImage) -> None:
        sample, labels, prediction = scored.sample, scored.labels, scored.prediction
        if sample not in self.distances:
            self.distances[sample] = border_distances(labels, self.ignore_index)
        for band, confusion in self.bands.items():
            inside = self.distances[sample] <= band
            confusion.update(prediction[inside], labels[inside], ignore_index=self.ignore_index)
        self.objects += object_counts(labels, prediction, object_classes(self.names))

    def values(self) -> dict[str, Any]:
        named = [self.names[index] for index in object_classes(self.names)]
        by_name = {"all": self.objects.sum(0), **dict(zip(named, self.objects, strict=True))}
        return {
            "mean_iou_in_band": {str(band): mean_iou(matrix.counts) for band, matrix in self.bands.items()},
            "objects": {
                name: {
                    size: {"objects": int(there), "found": int(found), "recall": found / there if there else None}
                    for size, (there, found) in zip(AREA_NAMES, counts, strict=True)
                }
                for name, counts in by_name.items()
            },
        }


def object_classes(names: Sequence[str]) -> list[int]:
    """Return the indices of the object classes, in the order of `OBJECTS`."""
    small = [name.lower() for name in names]
    return [small.index(name) for name in OBJECTS if name in small]


# ---------------------------------------------------------------- training and scoring


@dataclass(slots=True, kw_only=True)
class Comparison:
    """One dataset, one config except for the network, and a folder with finished results."""

    prepared: TrainingData
    config: Config
    device: torch.device
    work: Path
    distances: dict[Sample, Floats] = field(default_factory=dict)

    @property
    def samples(self) -> list[Sample]:
        """Return the samples to score; train and val come from the prepared dataset."""
        return self.prepared.splits["test"] or self.prepared.splits["val"]

    def network(self, key: str, seed: int) -> dict[str, Any]:
        """Return the scores of one run; the label map of the scene is stored next to them."""
        path = self.work / f"{key}-{seed}.json"
        if not path.exists():
            trainer, _ = train(self.prepared, self.config_of({**NETWORKS[key], "training.seed": seed}), self.device)
            predictor = trainer.predictor("fp32")
            values = {"parameters": sum(p.numel() for p in trainer.model.parameters()), **self.score(predictor)}
            image = self.prepared.dataset.read_image(self.scene())
            write_png(path.with_suffix(".png"), predictor.predict(image).labels)
            path.write_text(json.dumps(values), encoding="utf-8")
            print(
                f"{path.stem}: mean IoU {values['mean_iou']:.3f}, boundary F1 {values['boundary_f1']:.3f}", flush=True
            )
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def gradients(self, seeds: range) -> Gradients:
        """Return the gradients of U-Net's first convolution for each normalization and kind of skip connection."""
        found: dict[str, dict[str, list[list[list[float]]]]] = {}
        for seed, normalization, skips in itertools.product(seeds, ("none", "batch"), SKIPS):
            path = self.work / f"gradients-{normalization}-{skips}-{seed}.json"
            if not path.exists():
                changes = {"network.normalization": normalization, "training.seed": seed}
                config = self.config_of({**NETWORKS[f"unet-{skips}"], **changes})
                run = train(self.prepared, config, self.device, GRADIENT_STEPS)[1]
                path.write_text(json.dumps(run), encoding="utf-8")
                print(f"{path.stem}: norm, share {geometric_mean(np.array(run))}", flush=True)
            run = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(normalization, {}).setdefault(skips, []).append(run)
        return {key: {skips: np.array(runs) for skips, runs in rows.items()} for key, rows in found.items()}

    def config_of(self, changes: Mapping[str, Any]) -> Config:
        """Return the common config with a network."""
        is_fcn = changes["network.name"].startswith("resolution:")
        return self.config.replace({**changes, **({} if is_fcn else {"network.base_channels": WIDTH})})

    def score(self, predictor: Predictor) -> dict[str, Any]:
        classes = self.prepared.classes
        measures = Measures(names=classes.names, ignore_index=classes.ignore_index, distances=self.distances)
        tally = score_samples(predictor, self.prepared.dataset, self.samples, on_image=measures.add)
        scores = tally.compute_scores(classes.names)
        kept = {key: scores[key] for key in ("mean_iou", "global_accuracy", "boundary_f1")}
        iou = {name: values["iou"] for name, values in scores["per_class"].items()}
        return {**kept, "iou": iou, **measures.values()}

    def scene(self) -> Sample:
        """Return the test image with the largest object of the first class in `OBJECTS`."""
        wanted = (object_classes(self.prepared.classes.names) or [0])[0]
        return max(self.samples, key=lambda s: int((self.prepared.dataset.read_labels(s) == wanted).sum()))


def train(
    prepared: TrainingData, config: Config, device: torch.device, most_steps: int | None = None
) -> tuple[Trainer, list[list[float]]]:
    """Train for the given number of steps.

    Return at each step the L2 norm of the first convolution's gradient, before clipping, and its share in the norm of
    the gradient of all weights.
    """
    trainer = prepared.make_trainer(config, device)
    norms: list[torch.Tensor] = []
    shares: list[torch.Tensor] = []
    first = next(module for module in trainer.model.modules() if isinstance(module, nn.Conv2d)).weight
    first.register_hook(lambda gradient: norms.append(gradient.norm()))  # type: ignore[no-untyped-call]
    total = config.training.steps or GRADIENT_STEPS
    for step, batch in prefetch(trainer.batches.make, iter(range(min(total, most_steps or total)))):
        trainer.step(batch, step / total)
        trainer.update_average(step, 1 / total)
        # Gradients are clipped by one factor, so the share does not change.
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        assert first.grad is not None
        shares.append(first.grad.norm() / nn.utils.get_total_norm(gradients))
    return trainer, [[float(norm), float(share)] for norm, share in zip(norms, shares, strict=True)]


def summary(runs: Floats) -> dict[str, Any]:
    """Return geometric means of (seeds, steps, 2): over all, per seed, and over each ten steps."""
    tens = [runs[:, start : start + 10] for start in range(0, runs.shape[1], 10)]
    return {
        name: {
            "mean": float(geometric_mean(runs[..., part].ravel())),
            "by_seed": [float(geometric_mean(run)) for run in runs[..., part]],
            "by_ten_steps": [float(geometric_mean(ten[..., part].ravel())) for ten in tens],
        }
        for part, name in enumerate(("norm", "share"))
    }


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of the numbers of several runs, and the scores of each."""
    by_seed = [{key: run[key] for key in ("mean_iou", "global_accuracy", "boundary_f1", "iou")} for run in runs]
    return {**average(runs), "by_seed": by_seed}


def average(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, key by key for dictionaries; undefined values (None) are left out."""
    if isinstance(values[0], dict):
        return {key: average([value[key] for value in values]) for key in values[0]}
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def print_tables(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the scores and the IoU of each class in Markdown, as means over seeds with the least and the greatest."""
    names = list(next(iter(results.values()))["iou"])
    print("\n| | Parameters | Mean IoU | Within 4 px of a border | Boundary F1 | Objects of 64 to 255 px found |")
    print("|---|---|---|---|---|---|")
    for key, scores in results.items():
        spans = [spread([run[score] for run in scores["by_seed"]]) for score in ("mean_iou", "boundary_f1")]
        found = scores["objects"]["all"]["64-255"]["recall"]
        cells = [f"{scores['parameters'] / 1e6:.2f} M", spans[0], f"{scores['mean_iou_in_band']['4']:.3f}", spans[1]]
        print(f"| {key} | {' | '.join(cells)} | {'-' if found is None else f'{found:.0%}'} |")
    print(f"\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for key, scores in results.items():
        print(f"| {key} | {' | '.join(f'{iou:.2f}' for iou in scores['iou'].values())} |")


def spread(values: Sequence[float]) -> str:
    """Return the mean with the least and the greatest value."""
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def geometric_mean(values: Floats) -> Floats:
    """Return the geometric mean over the first axis."""
    mean: Floats = np.exp(np.log(np.maximum(values, 1e-12)).mean(0))
    return mean


# ---------------------------------------------------------------- figures


COLORS = ("#c0392b", "#e08e0b", "#1f6fb2", "#5a9e4b", "#7d5ba6")


def save(figure: Figure, stem: Path, part: str) -> None:
    path = stem.with_name(f"{stem.name}-{part}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"written: {path}")


def draw_borders(networks: Mapping[str, Any]) -> Figure:
    """Draw FCN with three strides of the finest scores."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for color, key in zip(COLORS, ("fcn-32s", "fcn-16s", "fcn-8s"), strict=False):
        plot_bands(axes, networks[key], key.upper().replace("S", "s"), color)
    finish_bands(axes, "FCN: mean IoU near borders")
    return figure


def plot_bands(axes: Axes, scores: Mapping[str, Any], label: str, color: str) -> None:
    heights = [*scores["mean_iou_in_band"].values(), scores["mean_iou"]]
    axes.plot(range(len(heights)), heights, "o-", color=color, label=label)


def finish_bands(axes: Axes, title: str) -> None:
    axes.set_xticks(range(len(BANDS) + 1), [*(f"≤ {band}" for band in BANDS), "image"])
    axes.set_xlabel("pixels from a border of the truth")
    axes.set_ylabel("mean IoU")
    axes.set_ylim(bottom=0)
    finish(axes, title)


def finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def draw_upsamplings(networks: Mapping[str, Any]) -> Figure:
    """Draw boundary F1 and the share of found objects for SegNet, small objects first."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    found = {way: networks[f"segnet-{way}"] for way in UPSAMPLINGS}
    bars = left.bar(range(len(found)), [scores["boundary_f1"] for scores in found.values()], color=COLORS)
    left.bar_label(bars, fmt="%.2f", fontsize=8)
    left.set_xticks(range(len(found)), [way.replace("_", " ") for way in found], rotation=30, ha="right")
    left.set_ylabel("boundary F1")
    left.set_title("SegNet: borders", fontsize=11)
    left.spines[["top", "right"]].set_visible(False)
    counts = next(iter(found.values()))["objects"]["all"]
    sizes = [size for size in AREA_NAMES if counts[size]["objects"]]
    for place, (way, scores) in enumerate(found.items()):
        recalls = [scores["objects"]["all"][size]["recall"] for size in sizes]
        offsets = np.arange(len(sizes)) + (place - 2) * 0.16
        right.bar(offsets, recalls, 0.15, color=COLORS[place], label=way.replace("_", " "))
    right.set_xticks(range(len(sizes)), [f"{size} px\n({counts[size]['objects']} objects)" for size in sizes])
    right.set_ylabel("share found")
    finish(right, "SegNet: objects found, by size")
    right.get_legend().remove()  # a legend would cover bars
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(found), frameon=False)
    return figure


def draw_skips(networks: Mapping[str, Any], gradients: Gradients) -> Figure:
    """Draw the effect of skip connections on U-Net near borders and on its gradient."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplot_mosaic([["bands", "none 0", "batch 0"], ["bands", "none 1", "batch 1"]])
    for color, skips in zip(COLORS, SKIPS, strict=False):
        plot_bands(axes["bands"], networks[f"unet-{skips}"], f"skips {skips}", color)
        for normalization, runs in gradients.items():
            for part in (0, 1):
                plot_steps(axes[f"{normalization} {part}"], runs[skips][..., part], f"skips {skips}", color)
    finish_bands(axes["bands"], "U-Net: mean IoU near borders")
    for part, what in enumerate(("gradient norm", "share in the whole gradient")):
        panels = [axes[f"none {part}"], axes[f"batch {part}"]]
        low, high = (limit(panel.get_ylim()[side] for panel in panels) for side, limit in enumerate((min, max)))
        for panel, how in zip(panels, ("no", "batch"), strict=True):
            panel.set(ylim=(low, high), xlabel="step", ylabel=what)
            finish(panel, f"First convolution, {how} normalization")
    return figure


def plot_steps(axes: Axes, runs: Floats, label: str, color: str) -> None:
    """Plot (seeds, steps) as the mean over seeds: a thin line per step, a bold line over ten."""
    mean = geometric_mean(runs)
    axes.set_yscale("log")
    axes.plot(mean, color=color, alpha=0.25, linewidth=0.7)
    width = min(10, len(mean))
    smooth = np.exp(np.convolve(np.log(mean), np.full(width, 1 / width), mode="valid"))
    axes.plot(np.arange(len(smooth)) + width // 2, smooth, color=color, linewidth=1.8, label=label)


def draw_scene(networks: Mapping[str, Any], comparison: Comparison) -> Figure:
    """Draw image, ground truth and predictions with a legend of the classes."""
    classes = comparison.prepared.classes
    image, labels = comparison.prepared.dataset.read(comparison.scene())
    pictures = list(scene_pictures(networks, comparison))
    pictures = [
        ("image", to_display_image(image)),
        *pictures[:3],
        ("truth", colorize_labels(labels, classes)),
        *pictures[3:],
    ]
    height = 12 / 4 * labels.shape[0] / labels.shape[1]
    figure = Figure(figsize=(12, 2 * height + 1.2), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 4).flat, pictures, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=11)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("lightgray")
    colors = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colors]
    patches = [Patch(facecolor=c, edgecolor="gray", label=n) for n, c in zip(classes.names, colors, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    return figure


def scene_pictures(networks: Mapping[str, Any], comparison: Comparison) -> Iterator[tuple[str, Array]]:
    titles = {"fcn": "FCN-", "segnet": "SegNet, ", "unet": "U-Net, skips "}
    for key in SCENE:
        kind, _, choice = key.partition("-")
        labels = read_mask(comparison.work / f"{key}-0.png")
        picture = colorize_labels(labels, comparison.prepared.classes)
        yield f"{titles[kind]}{choice} (mean IoU {networks[key]['mean_iou']:.2f})", picture


if __name__ == "__main__":
    main()
