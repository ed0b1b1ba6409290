"""Every public function answers bad arguments with an error of Pixelwise that a reader can act on.

The table of calls is derived: each public function, class and method has one valid call in `make_valid_calls`, and each
parameter of its signature is replaced in turn by the bad values of `list_bad_values`. A public function without a valid
call fails `test_every_public_function_has_a_valid_call`. What a parameter takes although another one would refuse it is
in `ACCEPTED`, by the name of the bad value.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pixelwise as pw
from pixelwise import api, config, losses, metrics, networks, ops
from pixelwise.config import Config, LossConfig
from pixelwise.networks import geometry

MODULES: Mapping[str, ModuleType] = {
    "": pw,
    "networks.": networks,
    "networks.geometry.": geometry,
    "ops.": ops,
    "losses.": losses,
    "metrics.": metrics,
    "api.": api,
}
"""Prefix of the names in the table → a module with `__all__`."""

RESULTS = {"Prediction", "networks.geometry.Halo", "networks.geometry.NetworkGeometry.__init__", "Predictor.__init__"}
RESULTS |= {"Dataset.__init__", "losses.Loss"}
"""Classes that functions return, and a protocol: their constructors are not public."""

INNER = {"Dataset", "Predictor"}
"""Classes with further methods, which the library itself calls with what it has checked; see `METHODS`."""

METHODS = {
    "Dataset": ["load", "split", "__getitem__"],
    "Predictor": ["predict", "predict_images", "predict_batch"],
}
"""Public methods of these classes, in the documentation."""


def list_public_names() -> dict[str, Callable[..., Any]]:
    """Return the name of each public function, constructor and method → it."""
    names: dict[str, Callable[..., Any]] = {}
    for prefix, module in MODULES.items():
        for name in module.__all__:
            item = getattr(module, name)
            if isinstance(item, ModuleType | str | Mapping) or (isinstance(item, type) and issubclass(item, Exception)):
                continue
            if item in names.values() or prefix + name in RESULTS:
                continue
            if isinstance(item, type):
                members = {f"{prefix}{name}.{key}": member for key, member in _list_methods(name, item)}
                names |= {key: member for key, member in members.items() if key not in RESULTS}
            else:
                names[prefix + name] = item
    sections = [getattr(config, f"{name.capitalize()}Config") for name in config._sections(Config())]
    functions = [config.load_config, config.from_dict]
    return {**names, **{f"config.{item.__name__}": item for item in (*sections, *functions)}}


def _list_methods(name: str, kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    keys = METHODS.get(name) or [key for key in vars(kind) if not key.startswith("_") and key != "extra_repr"]
    yield "__init__", kind
    for key in keys:
        member = inspect.getattr_static(kind, key)
        if isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            yield key, getattr(kind, key)


# ---- valid calls


IMAGE = torch.arange(3 * 16 * 16, dtype=torch.float32).view(1, 3, 16, 16) / 100
MAP = IMAGE[:, :2, :8, :8].contiguous()
POOLED, SWITCHES = ops.max_pool_with_switches(MAP)
LABELS = torch.zeros(1, 8, 8, dtype=torch.int64)
COUNTS = np.array([[3, 1], [0, 4]])
CLASSES = np.zeros((4, 4), np.int64)

Valid = tuple[Callable[..., Any], dict[str, Any]]


def make_valid_calls(files: Mapping[str, Path]) -> dict[str, Valid]:
    """Return the name of each public function → what to call, and valid arguments."""
    windows = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1}
    conv = {"stride": 1, "padding": 1, "output_padding": 0, "dilation": 1, "groups": 1}
    weight = torch.ones(2, 2, 3, 3)
    loss = {"ignore_index": 255, "class_weights": torch.ones(2), "pixel_weights": torch.ones(1, 8, 8)}
    loss |= {"logits": MAP, "labels": LABELS}
    unet: dict[str, Any] = {"in_channels": 3, "num_classes": 2, "base_channels": 2, "depth": 1, "max_channels": 4}
    unet |= {"padding": "same", "normalization": "none", "upsampling": "nearest", "skips": "add", "stem_stride": 1}
    segnet = {"channels": [2, 2, 2], "depths": [1, 1, 1], "upsampling": "switches", "skips": "none", "dropout": 0.5}
    basic = {"base_channels": 2, "depth": 3, "encoder_addition": False, "single_channel_decoder": False, "dropout": 0.5}
    channels = {"in_channels": 3, "num_classes": 2}
    encoder = _make_encoder()
    small_unet = networks.UNet(**unet)
    traced = geometry.trace_geometry(small_unet, in_channels=3)
    histogram = metrics.MarginHistogram()
    histogram.update(np.array([-1.0, 1.0]), np.array([0, 1]), foreground=1, ignore_index=255)
    confusion, boundary = metrics.ConfusionMatrix(2), metrics.BoundaryScore(2)
    scored = {"prediction": CLASSES, "labels": CLASSES, "ignore_index": 255}
    pooling = ops.MaxPoolWithSwitches()
    calls: dict[str, Valid] = {
        "networks.UNet.__init__": (networks.UNet, unet),
        "networks.UNet.forward": (small_unet, {"images": IMAGE}),
        "networks.SegNet.__init__": (networks.SegNet, {**channels, **segnet}),
        "networks.SegNet.forward": (networks.SegNet(**channels, **segnet), {"images": IMAGE}),
        "networks.SegNetBasic.__init__": (networks.SegNetBasic, {**channels, **basic}),
        "networks.SegNetBasic.forward": (networks.SegNetBasic(**channels, **basic), {"images": IMAGE}),
        "networks.FCN.__init__": (
            networks.FCN,
            {**channels, "encoder": encoder, "head": None, "stride": 4, "upsampling": "learned", "grouped": True},
        ),
        "networks.FCN.forward": (networks.FCN(**channels, encoder=encoder, stride=4), {"images": IMAGE}),
        "networks.FCN.compute_scores": (
            networks.FCN(**channels, encoder=encoder, stride=4).compute_scores,
            {"images": IMAGE},
        ),
        "networks.FCN.start_from": (
            networks.FCN(**channels, encoder=encoder, stride=2).start_from,
            {"coarser": networks.FCN(**channels, encoder=encoder, stride=4)},
        ),
        "networks.FCN.from_classifier": (
            networks.FCN.from_classifier,
            {
                "classifier": _make_classifier(),
                "num_classes": 2,
                "stride": 8,
                "padding": None,
                "upsampling": "learned",
                "grouped": True,
            },
        ),
        "networks.build_network": (networks.build_network, {"config": "unet", **channels}),
        "networks.convolutionalize": (
            networks.convolutionalize,
            {"classifier": _make_classifier(), "input_size": 32},
        ),
        "networks.describe": (
            networks.describe,
            {
                "name": "unet",
                "size": (32, 32),
                **channels,
                "encoder": None,
                "settings": {"network.base_channels": 2},
            },
        ),
        "networks.Segmenter.__init__": (
            networks.Segmenter,
            {"network": small_unet, "mean": [1.0] * 3, "std": [1.0] * 3},
        ),
        "networks.geometry.trace_geometry": (geometry.trace_geometry, {"network": small_unet, "in_channels": 3}),
        "networks.geometry.NetworkGeometry.compute_legal_size": (traced.compute_legal_size, {"size": (4, 4)}),
        "networks.geometry.NetworkGeometry.compute_input_size": (traced.compute_input_size, {"output_size": (4, 4)}),
        "networks.geometry.NetworkGeometry.compute_output_size": (traced.compute_output_size, {"size": (4, 4)}),
        "ops.max_pool_with_switches": (
            ops.max_pool_with_switches,
            {"x": MAP, **windows, "ceil_mode": False, "out": (POOLED.clone(), SWITCHES.clone())},
        ),
        "ops.max_unpool": (
            ops.max_unpool,
            {"pooled": POOLED, "switches": SWITCHES, "size": (8, 8), **windows, "out": MAP.clone()},
        ),
        "ops.pack_switches": (ops.pack_switches, {"switches": SWITCHES}),
        "ops.unpack_switches": (ops.unpack_switches, {"packed": ops.pack_switches(SWITCHES), "num_channels": 2}),
        "ops.MaxPoolWithSwitches.__init__": (ops.MaxPoolWithSwitches, {**windows, "ceil_mode": False}),
        "ops.MaxPoolWithSwitches.forward": (pooling, {"x": MAP}),
        "ops.MaxUnpool.__init__": (ops.MaxUnpool, windows),
        "ops.MaxUnpool.forward": (ops.MaxUnpool(), {"pooled": POOLED, "switches": SWITCHES, "size": (8, 8)}),
        "ops.transposed_conv": (
            ops.transposed_conv,
            {"x": MAP, "weight": weight, "bias": torch.zeros(2), **conv},
        ),
        "ops.as_direct_conv": (ops.as_direct_conv, {"x": MAP, "weight": weight, "bias": torch.zeros(2), **conv}),
        "ops.conv_matrix": (
            ops.conv_matrix,
            {"weight": weight, "size": (4, 4), "stride": 1, "padding": 1, "dilation": 1, "groups": 1},
        ),
        "ops.overlap_counts": (ops.overlap_counts, {"kernel_size": 3, "stride": 2}),
        "ops.has_uneven_overlap": (ops.has_uneven_overlap, {"kernel_size": 3, "stride": 2}),
        "ops.TransposedConv.__init__": (
            ops.TransposedConv,
            {"in_channels": 2, "out_channels": 2, "kernel_size": 3, **conv, "bias": True},
        ),
        "ops.TransposedConv.forward": (ops.TransposedConv(2, 2, 3), {"x": MAP}),
        "ops.unpool_nearest": (ops.unpool_nearest, {"x": MAP, "kernel_size": 2}),
        "ops.unpool_bed_of_nails": (ops.unpool_bed_of_nails, {"x": MAP, "kernel_size": 2}),
        "ops.interpolate": (ops.interpolate, {"x": MAP, "size": (4, 4), "mode": "bilinear"}),
        "ops.bilinear_kernel": (
            ops.bilinear_kernel,
            {"kernel_size": 3, "dtype": torch.float32, "device": torch.device("cpu")},
        ),
        "ops.bilinear_weight": (
            ops.bilinear_weight,
            {"channels": 2, "kernel_size": 3, "groups": 1, "dtype": torch.float32, "device": torch.device("cpu")},
        ),
        "ops.UnpoolNearest.__init__": (ops.UnpoolNearest, {"kernel_size": 2}),
        "ops.UnpoolNearest.forward": (ops.UnpoolNearest(), {"x": MAP}),
        "ops.UnpoolBedOfNails.__init__": (ops.UnpoolBedOfNails, {"kernel_size": 2}),
        "ops.UnpoolBedOfNails.forward": (ops.UnpoolBedOfNails(), {"x": MAP}),
        "ops.Interpolate.__init__": (ops.Interpolate, {"mode": "nearest"}),
        "ops.Interpolate.forward": (ops.Interpolate(), {"x": MAP, "size": (4, 4)}),
        "losses.build_loss": (losses.build_loss, {"config": LossConfig()}),
        "losses.cross_entropy": (losses.cross_entropy, loss),
        "losses.cross_entropy_and_dice": (losses.cross_entropy_and_dice, {**loss, "dice_weight": 1.0}),
        "losses.dice": (losses.dice, loss),
        "losses.focal": (losses.focal, {**loss, "gamma": 2.0}),
        "losses.tversky": (losses.tversky, {**loss, "beta": 0.7}),
        "losses.lovasz": (losses.lovasz, loss),
        "losses.inverse_log_weights": (losses.inverse_log_weights, {"class_pixels": [3, 1], "power": 1.0}),
        "losses.median_frequency_weights": (
            losses.median_frequency_weights,
            {"class_pixels": [3, 1], "image_pixels": [9, 9], "power": 1.0},
        ),
        "metrics.BoundaryScore.__init__": (metrics.BoundaryScore, {"num_classes": 2, "image_scores": [0.5]}),
        "metrics.BoundaryScore.update": (boundary.update, scored),
        "metrics.ConfusionMatrix.__init__": (metrics.ConfusionMatrix, {"num_classes": 2}),
        "metrics.ConfusionMatrix.from_counts": (metrics.ConfusionMatrix.from_counts, {"counts": COUNTS}),
        "metrics.ConfusionMatrix.update": (confusion.update, scored),
        "metrics.MarginHistogram.__init__": (metrics.MarginHistogram, {"counts": histogram.counts}),
        "metrics.MarginHistogram.update": (
            histogram.update,
            {"margins": np.zeros((4, 4)), "labels": CLASSES, "foreground": 1, "ignore_index": 255},
        ),
        "metrics.MarginHistogram.choose_threshold": (histogram.choose_threshold, {"criterion": "dice"}),
        "metrics.MarginHistogram.count_above": (histogram.count_above, {"threshold": 0.5}),
        "metrics.boundary_f1": (metrics.boundary_f1, {**scored, "num_classes": 2}),
        "metrics.compute_scores": (
            metrics.compute_scores,
            {
                "confusion": confusion,
                "boundary": boundary,
                "class_names": ["a", "b"],
                "num_images": 1,
                "margins": None,
                "foreground": None,
            },
        ),
    }
    for name in ("iou", "dice", "class_accuracy", "mean_iou", "mean_dice", "mean_class_accuracy", "global_accuracy"):
        calls[f"metrics.{name}"] = (getattr(metrics, name), {"counts": COUNTS})
    return calls


def _make_encoder() -> nn.Module:
    from pixelwise.networks.encoders import ChainEncoder

    layers = {
        "one": nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(2)),
        "two": nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2)),
    }
    return ChainEncoder(layers, taps="pools")


def _make_classifier() -> nn.Module:
    import torchvision

    return torchvision.models.shufflenet_v2_x0_5(num_classes=2).eval()


def make_command_calls(files: Mapping[str, Path]) -> dict[str, Valid]:
    """Return the name of each command → it, and valid arguments; none of the calls below gets so far as to run it."""
    out = files["out"]
    where = {"device": "cpu", "precision": "fp32"}
    dataset = {"data": files["data"], "format": None, "masks": None}
    plan = {"budget": 60, "network": "unet", "settings": {}, "group_by": None, "overwrite": False, "seed": 0, **where}
    commands: dict[str, Valid] = {
        "check": (
            pw.check,
            {
                **dataset,
                "resolution": None,
                "group_by": None,
                "json_path": out / "check.json",
                "html_path": out / "a.html",
                "overwrite": False,
            },
        ),
        "convert": (pw.convert, {**dataset, "output": out / "a", "to": "folder", "overwrite": False}),
        "demo": (pw.demo, {"output": out / "a", "overwrite": False, **where}),
        "evaluate": (
            pw.evaluate,
            {
                **dataset,
                "model": files["model"],
                "split": "test",
                "json_path": out / "evaluate.json",
                "overwrite": False,
                "engine": "torch",
                **where,
            },
        ),
        "export": (
            pw.export,
            {
                "model": files["model"],
                "output": out / "a.onnx",
                "format": "onnx",
                "logits": False,
                "precision": "fp32",
                "min_agreement": 0.9,
                "opset": 18,
                "fixed_size": (32, 32),
                "overwrite": False,
            },
        ),
        "info": (pw.info, {}),
        "load": (pw.load, {"model": files["model"], "engine": "torch", **where}),
        "localize": (
            pw.localize,
            {
                "images": [files["image"]],
                "output": out / "a",
                "classifier": "shufflenet_v2_x0_5",
                "weights": files["weights"],
                "class_name": None,
                "overwrite": False,
                "device": "cpu",
            },
        ),
        "plan": (pw.plan, {**dataset, **plan, "output": out / "a.yaml"}),
        "predict": (
            pw.predict,
            {
                "model": files["model"],
                "inputs": [files["image"]],
                "output": out / "a",
                "save": ["labels"],
                "tiling": "exact",
                "label_values": "index",
                "min_area": 0,
                "fill_holes": False,
                "tta": [],
                "resume": False,
                "overwrite": False,
                "shard": None,
                "cluster": None,
                "engine": "torch",
                **where,
            },
        ),
        "quantize": (
            pw.quantize,
            {
                **dataset,
                "model": files["model"],
                "output": out / "a.onnx",
                "max_iou_drop": 1.0,
                "overwrite": False,
            },
        ),
        "train": (
            pw.train,
            {
                **dataset,
                "output": out / "a",
                "group_by": None,
                "folds": None,
                "config": None,
                "network": "unet",
                "encoder": None,
                "weights": None,
                "init_from": None,
                "budget": None,
                "steps": 1,
                "resume": False,
                "allow_changes": False,
                "profile": False,
                "skip_invalid": False,
                "loss": None,
                "augment": None,
                "settings": {},
                "seed": 0,
                "deterministic": False,
                "devices": None,
                **where,
            },
        ),
        "api.describe_config": (api.describe_config, {"json_schema": False}),
        "api.describe_networks": (
            api.describe_networks,
            {"name": "unet", "size": (32, 32), "channels": 3, "classes": 2, "encoder": None, "settings": {}},
        ),
    }
    commands["evaluate"][1].update(html_path=None, threshold=None, choose_threshold=None)
    for name in ("export", "load", "predict"):
        commands[name][1].update(threshold=None)
    commands["predict"][1].update(overlay_style="fill", opacity=0.5, simplify=0.0, samples=1, seed=0)
    return commands


def make_object_calls(files: Mapping[str, Path]) -> dict[str, Valid]:
    """Return the valid calls of configs, datasets and predictors."""
    dataset = pw.Dataset.load(files["data"])
    predictor = pw.load(files["model"], device="cpu", precision="fp32")
    pixels = np.zeros((32, 32, 3), np.uint8)
    images = torch.zeros(1, 3, 32, 32)
    segmenter = predictor.module
    sections = {f"{key}": value for key, value in config._sections(Config()).items()}
    calls: dict[str, Valid] = {
        "Config.__init__": (Config, {**sections, "reasons": {}, "estimate": ()}),
        "Config.replace": (Config().replace, {"changes": {"network.depth": 3}, "reasons": {}}),
        "Config.to_dict": (Config().to_dict, {}),
        "Config.to_yaml": (Config().to_yaml, {}),
        "Config.json_schema": (Config.json_schema, {}),
        "Dataset.load": (pw.Dataset.load, {"path": files["data"], "format": None, "masks": None}),
        "Dataset.split": (dataset.split, {"name": "train"}),
        "Dataset.__getitem__": (dataset.__getitem__, {"index": 0}),
        "Predictor.predict": (
            predictor.predict,
            {
                "image": pixels,
                "tiling": "exact",
                "tile_size": None,
                "keep_logits": False,
                "samples": 1,
                "seed": None,
                "tta": [],
            },
        ),
        "Predictor.predict_images": (predictor.predict_images, {"images": [pixels], "keep_logits": False}),
        "Predictor.predict_batch": (predictor.predict_batch, {"images": images}),
        "networks.Segmenter.forward": (segmenter, {"images": images}),
        "networks.Segmenter.forward_padded": (segmenter.forward_padded, {"images": images}),
        "networks.Segmenter.check_images": (segmenter.check_images, {"images": images}),
        "networks.Segmenter.normalize": (segmenter.normalize, {"images": images}),
        "networks.Segmenter.compute_padding": (segmenter.compute_padding, {"side": 30}),
        "networks.Segmenter.compute_padded_indices": (segmenter.compute_padded_indices, {"side": 30}),
        "config.load_config": (config.load_config, {"path": files["config"]}),
        "config.from_dict": (config.from_dict, {"values": {"network": {"depth": 3}}}),
    }
    for section in sections.values():
        fields = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
        calls[f"config.{type(section).__name__}"] = (type(section), fields)
    return calls


# ---- bad values

ABSENT = "no-such-name"

PLAIN: Mapping[str, Any] = {
    "None": None,
    "name": ABSENT,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "[]": [],
    "True": True,
    "NaN": math.nan,
    "names": [ABSENT],
    "path": Path(ABSENT),
    "object": object(),
    "array": np.zeros((2, 2)),
}


def list_bad_values(valid: Any) -> dict[str, Any]:
    """Return bad values for a parameter with this valid value, by name."""
    values = dict(PLAIN)
    if isinstance(valid, Tensor):
        other = torch.int64 if valid.is_floating_point() else torch.float32
        values |= {
            "rank": valid[..., None],
            "unbatched": valid[0],
            "dtype": valid.to(other),
            "complex": valid.to(torch.complex64),
            "bool": valid.to(torch.bool),
            "channels": torch.cat([valid, valid], dim=min(1, valid.dim() - 1)),
            "empty": valid.new_empty(0),
            "meta": valid.to("meta"),
            "numpy": valid.numpy(),
            "lists": valid.tolist(),
        }
    if isinstance(valid, np.ndarray):
        values |= {
            "rank": valid[..., None, None],
            "unbatched": valid[0],
            "dtype": valid.astype(np.float64) + 0.5,
            "bool": valid.astype(bool),
            "negative": valid.astype(np.int64) - 9,
            "empty": valid[:0],
            "tensor": torch.from_numpy(valid).to("meta"),
        }
    if isinstance(valid, tuple) and len(valid) == 2 and all(isinstance(side, int) for side in valid):
        values |= {"0 side": (0, 8), "-1 side": (8, -1), "1.5 side": (8, 1.5), "one side": (8,), "names": ("a", "b")}
    return values


ACCEPTED: Mapping[str, str] = {
    # maps of any number of channels; meta tensors give meta tensors
    "ops.MaxPoolWithSwitches.forward(x)": "channels meta",
    "ops.Unpool*.forward(x)": "channels meta",
    "ops.Interpolate.forward(x)": "channels meta",
    "ops.unpool_*(x)": "channels meta",
    "ops.interpolate(x)": "channels meta",
    "ops.pack_switches(switches)": "channels meta",
    "ops.unpack_switches(packed)": "meta",
    "ops.conv_matrix(weight)": "channels",
    "*(ceil_mode)": "True",
    "ops.*_conv(bias)": "None",
    "ops.TransposedConv.__init__(bias)": "True",
    "ops.*(out)": "None",
    "ops.*(padding)": "0",
    "ops.*ax*(stride)": "None",
    "ops.*(output_padding)": "0",
    "ops.bilinear_*(device)": "None",
    "*(ignore_index)": "0 -1",
    "losses.*_weights)": "None",
    "losses.*(power)": "0 1.5",
    "losses.*(gamma)": "0 1.5",
    "losses.*(beta)": "0",
    "losses.*(dice_weight)": "0 1.5",
    "metrics.BoundaryScore.__init__(image_scores)": "[]",
    "metrics.MarginHistogram.__init__(counts)": "None",
    "metrics.MarginHistogram.update(foreground)": "0",
    "metrics.MarginHistogram.update(margins)": "dtype",
    "metrics.compute_scores(boundary)": "None",
    "metrics.compute_scores(foreground)": "None 0",
    "metrics.compute_scores(margins)": "None",
    "metrics.compute_scores(num_images)": "0",
    # raw images of any dtype
    "networks.Segmenter.*(images)": "dtype",
    "networks.*(dropout)": "0",
    "networks.UNet.__init__(depth)": "0",
    "networks.SegNetBasic.__init__(encoder_addition)": "True",
    "networks.SegNetBasic.__init__(single_channel_decoder)": "True",
    "networks.FCN.*(grouped)": "True",
    "networks.FCN.*(head)": "None",
    "networks.FCN.*(padding)": "None",
    "*describe*(encoder)": "None",
    "*describe*(json_schema)": "True",
    "Config.__init__(estimate)": "[] names",
    "config.DataConfig(format)": "None",
    "config.DataConfig(masks)": "None name",
    "config.DataConfig(group_by)": "None name",
    "config.DataConfig(rare_class_fraction)": "0",
    "config.DataConfig(max_val_images)": "None",
    "config.DataConfig(cache_gib)": "0 1.5",
    "config.NetworkConfig(base_channels)": "None",
    "config.NetworkConfig(encoder)": "None name",
    "config.NetworkConfig(upsampling)": "None",
    "config.NetworkConfig(skips)": "None",
    "config.OptimizerConfig(lr)": "1.5",
    "config.OptimizerConfig(encoder_lr)": "None 1.5",
    "config.OptimizerConfig(weight_decay)": "0 1.5",
    "config.OptimizerConfig(momentum)": "0",
    "config.OptimizerConfig(clip_norm)": "0 1.5",
    "config.OptimizerConfig(ema)": "0",
    "config.OptimizerConfig(freeze_stages)": "0",
    "config.ScheduleConfig(warmup)": "0",
    "config.ScheduleConfig(final_lr_ratio)": "0",
    "config.ScheduleConfig(full_scale_from)": "0",
    "config.LossConfig(function)": "None name",
    "config.LossConfig(class_weight_power)": "0",
    "config.LossConfig(dice_weight)": "0 1.5",
    "config.LossConfig(lovasz_weight)": "0 1.5",
    "config.LossConfig(focal_gamma)": "0 1.5",
    "config.LossConfig(tversky_beta)": "0",
    "config.LossConfig(border_weight)": "0 1.5",
    "config.LossConfig(border_sigma)": "1.5",
    "config.AugmentationConfig(flip_*)": "0",
    "config.AugmentationConfig(rotate)": "0 1.5",
    "config.AugmentationConfig(color)": "0",
    "config.AugmentationConfig(elastic)": "0 1.5",
    "config.AugmentationConfig(function)": "None name",
    "config.TrainingConfig(activation_checkpointing)": "True",
    "config.TrainingConfig(compile)": "True",
    "config.TrainingConfig(sync_batch_norm)": "True",
    "config.TrainingConfig(steps)": "None",
    "config.TrainingConfig(budget_seconds)": "None 1.5",
    "config.TrainingConfig(init_from)": "None name",
    "config.TrainingConfig(seed)": "0",
    "config.TrainingConfig(deterministic)": "True",
    "config.TrainingConfig(images_per_evaluation)": "None",
    "config.TrainingConfig(early_stopping_patience)": "None 0",
    "config.TrainingConfig(checkpoint_interval_seconds)": "1.5",
    "config.TrainingConfig(loggers)": "[]",
    "Dataset.load(format)": "None",
    "Dataset.load(masks)": "None",
    "Dataset.__getitem__(index)": "0 -1",
    "Predictor.predict(image)": "unbatched",
    "Predictor.predict(tile_size)": "None",
    "Predictor.*(keep_logits)": "True",
    "Predictor.predict(tta)": "[]",
    "Predictor.predict(seed)": "None 0",
    "Predictor.predict_batch(images)": "dtype",
}
"""Parameter, "function(parameter)" as a pattern → the bad values that it takes, by name."""

NOT_CALLED: Mapping[str, str] = {
    # values that commands take, with which they would run
    "*(format)": "None",
    "*(masks)": "None name",
    "*(group_by)": "None name",
    "*(overwrite)": "True",
    "*(output)": "None name path",
    "*(*_path)": "None name path",
    "check(resolution)": "None",
    "evaluate(split)": "None",
    "evaluate(html_path)": "name path",
    "evaluate(choose_threshold)": "None",
    "*(threshold)": "None",
    "predict(opacity)": "0",
    "predict(simplify)": "0 1.5 None",
    "export(logits)": "True",
    "export(min_agreement)": "None 0",
    "export(opset)": "None",
    "export(fixed_size)": "None",
    "localize(class_name)": "None name",
    "localize(weights)": "name path",
    "*(budget)": "None 1.5",
    "*(network)": "None",
    "*(seed)": "None 0",
    "predict(min_area)": "0",
    "predict(fill_holes)": "True",
    "predict(tta)": "[]",
    "*(resume)": "True",
    "predict(inputs)": "name names path",
    "predict(shard)": "None",
    "predict(cluster)": "None",
    "quantize(max_iou_drop)": "0 1.5",
    "train(folds)": "None",
    "train(config)": "None",
    "train(encoder)": "None",
    "train(weights)": "None",
    "train(init_from)": "None",
    "train(steps)": "None",
    "train(profile)": "True",
    "train(skip_invalid)": "True",
    "train(deterministic)": "True",
    "train(devices)": "None",
    "train(loss)": "None",
    "train(augment)": "None",
    "api.describe_networks(name)": "None",
}


def has_name(table: Mapping[str, str], parameter: str, kind: str) -> bool:
    """Return whether a table of patterns lists a bad value of a parameter."""
    rows = (kinds.split(" ") for pattern, kinds in table.items() if fnmatch(parameter, pattern.replace("[", "[[]")))
    return any(kind in row for row in rows)


def list_bad_calls(name: str, valid: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (parameter, name of the bad value, arguments) of each call of a function."""
    for parameter, value in valid.items():
        for kind, bad in list_bad_values(value).items():
            where = f"{name}({parameter})"
            is_command = "." not in name or name.startswith("api.")
            if not (is_command and has_name(NOT_CALLED, where, kind)):
                yield parameter, kind, {**valid, parameter: bad}


# ---- tests


@pytest.fixture(scope="module")
def calls(streets: Path, make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Valid]:
    """The valid call of each public function."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "config.yaml").write_text(Config().to_yaml(), encoding="utf-8")
    (folder / "out").mkdir()
    image = min((streets / "images").rglob("*.png"))
    files = {"data": streets, "model": make_model(folder / "a.safetensors"), "image": image, "out": folder / "out"}
    files |= {"config": folder / "config.yaml", "weights": folder / "weights.pt"}
    torch.save(_make_classifier().state_dict(), files["weights"])
    return {**make_valid_calls(files), **make_command_calls(files), **make_object_calls(files)}


NAMES = list_public_names()

FILE_ERRORS = (pw.PathNotFoundError, pw.PathAccessError, pw.DataError, pw.ModelFileError)
"""Their messages may name the file instead of the parameter."""

LEGAL = re.compile(
    r"must|[Ee]xpected|[Cc]hoose|can(not)? be|need|Use |Save |Give |Put |copy it|no such folder|does not exist|neither"
)
"""Words that say what is legal, or what to do."""


def find_fault(name: str, parameter: str, kind: str, function: Callable[..., Any], arguments: Any) -> str | None:
    """Call a function with a bad argument; return what is wrong with its answer."""
    is_accepted = has_name(ACCEPTED, f"{name}({parameter})", kind)
    try:
        function(**arguments)
    except pw.PixelwiseError as error:
        text, is_of_file = str(error), isinstance(error, FILE_ERRORS)
    except Exception as error:  # what must not happen
        return f"raw {type(error).__name__}: {error}"
    else:
        return None if is_accepted else "accepted"
    if is_accepted:
        return f"refused, although ACCEPTED lists it: {text}"
    named = arguments if kind in ("channels", "meta") else [parameter]  # it differs from another tensor
    is_named = any(re.search(rf"(?<![a-z]){each.removesuffix('s')}", text, re.IGNORECASE) for each in named)
    is_shown = ABSENT in text and (is_of_file or re.search("[Uu]nknown|[Nn]o .* found", text))
    if not is_named and not is_shown and "No inputs are given" not in text:
        return f"does not name the parameter: {text}"
    return None if LEGAL.search(text) else f"does not say what is legal: {text}"


def _get_signed(function: Callable[..., Any]) -> Callable[..., Any]:
    return function.forward if isinstance(function, nn.Module) else function


def test_every_public_function_has_a_valid_call(calls: dict[str, Valid]) -> None:
    assert set(calls) == set(NAMES)
    for name, (function, arguments) in calls.items():
        assert set(arguments) == set(inspect.signature(_get_signed(function)).parameters) - {"name"} | {"name"} & set(
            arguments
        ), name


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_errors_of_pixelwise(
    calls: dict[str, Valid], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a name is also a relative path
    function, valid = calls[name]
    faults = []
    for parameter, kind, arguments in list_bad_calls(name, valid):
        if fault := find_fault(name, parameter, kind, function, arguments):
            faults.append(f"{parameter}, {kind}: {fault}")
    assert not faults, "\n".join(faults)


def test_number_of_calls(calls: dict[str, Valid]) -> None:
    bad = [each for name, (_, valid) in calls.items() for each in list_bad_calls(name, valid)]
    print(f"{len(bad)} calls with a bad argument of {len(calls)} public functions")  # pytest -rP shows it
    assert len(bad) >= 600


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda x: math.sqrt(x), "raw TypeError"),
        (lambda x: None, "accepted"),
        (lambda x: ops.overlap_counts(x, 2), "does not name the parameter"),
    ],
)
def test_faults_are_found(call: Callable[..., Any], fault: str) -> None:
    assert str(find_fault("f", "x", "name", call, {"x": ABSENT})).startswith(fault)
