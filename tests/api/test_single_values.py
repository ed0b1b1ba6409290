"""Every parameter that takes several paths or names also takes one, as a str or a Path."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest

import pixelwise as pw
from pixelwise.data.io.images import write_png
from pixelwise.metrics import ConfusionMatrix, compute_scores

MODULES: tuple[ModuleType, ...] = (pw, pw.networks, pw.ops, pw.losses, pw.metrics)


def list_functions() -> Iterator[tuple[str, Any]]:
    """Yield the public functions, constructors and methods."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                members = {key: getattr(value, key) for key in vars(value) if not key.startswith("_")}
                yield from (
                    (f"{name}.{key}", member)
                    for key, member in members.items()
                    if inspect.isfunction(member) or inspect.ismethod(member)
                )
                yield name, value.__init__
            elif callable(value):
                yield name, value


def takes_texts(hint: Any) -> bool:
    """Return whether a type is a sequence of paths or names, or has one among its members."""
    if get_origin(hint) in (Sequence, list, tuple):
        return any(is_text(member) for member in get_args(hint))
    return any(takes_texts(member) for member in get_args(hint))


def is_text(hint: Any) -> bool:
    is_union = get_origin(hint) is Union or type(hint).__name__ == "UnionType"
    members = get_args(hint) if is_union else (hint,)
    return any(
        (isinstance(member, type) and issubclass(member, str | Path)) or get_origin(member) is Literal
        for member in members
    )


def predict_photo(model: Path, photos: Path, out: Path, **options: Any) -> list[str]:
    given = {"inputs": [photos], "device": "cpu", **options}
    report = pw.predict(model, output=out, **given)
    assert report.failures == ()
    return sorted(path.relative_to(out).as_posix() for path in report.written)


CASES: dict[tuple[str, str], Callable[[Any, Path, Path, Path], Any]] = {
    ("check", "data"): lambda value, m, d, o: pw.check(value).to_dict(),
    ("convert", "data"): lambda value, m, d, o: pw.convert(value, o, to="voc", overwrite=True).num_images,
    ("evaluate", "data"): lambda value, m, d, o: pw.evaluate(m, value, device="cpu"),
    ("predict", "inputs"): lambda value, m, d, o: predict_photo(m, d, o, inputs=value),
    ("predict", "save"): lambda value, m, d, o: predict_photo(m, d / "images", o, save=value),
    ("predict", "tta"): lambda value, m, d, o: predict_photo(m, d / "images", o, tta=value),
    ("Predictor.predict", "tta"): lambda value, m, d, o: (
        pw.load(m, device="cpu").predict(np.zeros((8, 12, 3), np.uint8), tta=value).labels.tolist()
    ),
    ("compute_scores", "class_names"): lambda value, m, d, o: compute_scores(
        ConfusionMatrix.from_counts([[7]]), None, value, num_images=1
    ),
}
"""(Function, parameter) → a call with a value, a model, a dataset and an output folder."""

DATA = {("plan", "data"), ("train", "data"), ("quantize", "data")}
"""Parameters of the type of `check.data`, tried through `to_paths` only, because a call takes long."""

IMAGES = {("localize", "images")}
"""Tried in tests/prediction/test_localize.py, because a classifier is needed."""

OTHERS = {
    ("Config", "estimate"),
    ("Dataset", "joined_folders"),
    ("Dataset", "reading_options"),
    ("Predictor.predict_images", "images"),
}
"""Fields that Pixelwise sets, and arrays, whose type allows text."""


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "m", classes={"names": ["road", "sky"]})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        pixels = rng.integers(0, 256, (8, 12, 3), np.uint8)
        write_png(tmp_path / f"data/images/{split}/{split}.png", pixels)
        write_png(tmp_path / f"data/masks/{split}/{split}.png", pixels[..., 0] // 128)
    (tmp_path / "data/dataset.yaml").write_text("names: [road, sky]\n")
    return tmp_path / "data"


def test_every_parameter_of_several_texts_is_in_the_table() -> None:
    found = {
        (name, parameter.name)
        for name, function in list_functions()
        for parameter in inspect.signature(function).parameters.values()
        if takes_texts(parameter.annotation)
    }
    assert found == {*CASES, *DATA, *IMAGES, *OTHERS}


@pytest.mark.parametrize("key", CASES, ids="-".join)
def test_one_value_is_a_list_of_one(key: tuple[str, str], model: Path, data: Path, tmp_path: Path) -> None:
    texts = {"save": "confidence", "tta": "flips", "class_names": "road"}
    value = texts.get(key[1], str(data))
    call = CASES[key]
    expected = call([value], model, data, tmp_path / "out")
    assert call(value, model, data, tmp_path / "out") == expected
    if key[1] not in texts:
        assert call(Path(value), model, data, tmp_path / "out") == expected
