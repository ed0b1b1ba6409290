import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pixelwise
from pixelwise import errors
from pixelwise.errors import (
    DataError,
    InvalidArgumentError,
    PixelwiseError,
    find_name,
    format_command,
    missing_extra,
    unknown_name,
)
from support.commands import parse_command
from support.small_datasets import pairs


@pytest.mark.parametrize(
    "name",
    [
        "InvalidArgumentError",
        "PathNotFoundError",
        "PathAccessError",
        "DataError",
        "ModelFileError",
        "CheckpointError",
        "TrainingError",
    ],
)
def test_every_error_is_in_the_tree(name: str) -> None:
    assert issubclass(getattr(errors, name), PixelwiseError)
    assert errors.__doc__ is not None
    assert f"── {name} " in errors.__doc__


def test_the_tree_is_complete() -> None:
    assert errors.__doc__ is not None
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(kinds) == 8
    assert errors.__doc__.count("── ") == len(kinds) - 1


def test_an_unknown_name_lists_the_choices_and_the_nearest() -> None:
    error = unknown_name("network", "unett", ["unet", "fcn"])
    assert isinstance(error, InvalidArgumentError)
    assert str(error) == "Unknown network 'unett'. Did you mean 'unet'? Choose one of: fcn, unet."


def test_a_missing_extra_gives_the_pip_command() -> None:
    error = missing_extra("writing COCO", "pycocotools", "coco")
    assert isinstance(error, InvalidArgumentError)
    assert (
        str(error)
        == 'writing COCO needs pycocotools, which is not installed. Install it: pip install "pixelwise[coco]".'
    )


def test_a_name_unlike_all_choices_gets_no_suggestion() -> None:
    assert str(unknown_name("loss", "xyz", ["dice"])) == "Unknown loss 'xyz'. Choose one of: dice."


@pytest.mark.parametrize("name", ["fcn-8s", "FCN-8s", "fcn8s", "FCN_8S", " Fcn 8s"])
def test_a_name_is_found_in_any_spelling(name: str) -> None:
    assert find_name("network", name, ["fcn-8s", "fcn", "unet"]) == "fcn-8s"


def test_a_name_in_two_spellings_must_be_exact() -> None:
    names = ["Cardigan", "cardigan", "dog"]
    assert find_name("class", "cardigan", names) == "cardigan"
    with pytest.raises(InvalidArgumentError, match=r"class 'CARDIGAN' can be 'Cardigan' or 'cardigan'\. Write"):
        find_name("class", "CARDIGAN", names)


def test_an_unknown_name_of_many_lists_the_nearest() -> None:
    message = str(unknown_name("class", "c7", [f"c{number}" for number in range(1000)]))
    assert "Did you mean 'c7" in message
    assert "Nearest of 1000: c" in message
    assert len(message) < 150


# Commands in messages


def test_a_command_is_quoted_for_the_shell() -> None:
    assert format_command("check", Path("a b"), "--masks", "x") == "pixelwise check 'a b' --masks x"


def test_commands_in_messages_are_built_by_one_function() -> None:
    """Elsewhere, messages only name commands; those of pages are built and tested in one module, too."""
    source = Path(pixelwise.__file__).parent
    found = set()
    for path in set(source.rglob("*.py")) - {source / "reports" / "commands.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found.update(re.findall(r"pixelwise (?:[a-z]+ )[^.]*\{\}", text))
    assert found == set()


def test_the_hint_to_check_a_dataset_reads_it_in_the_same_way(tmp_path: Path) -> None:
    data = pairs(tmp_path / "my data", ["train", "val"])
    (data / "masks").rename(data / "refined")
    (data / "images/train/a.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        pixelwise.train(data, tmp_path / "run", format="folder", masks="refined", group_by="(.*)", steps=1)
    name, parameters = parse_command(str(raised.value).splitlines()[-1])
    assert name == "check"
    expected = {"data": [str(data)], "format": "folder", "masks": "refined", "group_by": "(.*)"}
    assert {key: parameters[key] for key in expected} == expected


def test_the_hint_to_quantize_a_model_is_a_command(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(tmp_path / "my model")
    pytest.importorskip("onnxruntime")
    with pytest.raises(InvalidArgumentError) as raised:
        pixelwise.load(model, precision="int8")
    name, parameters = parse_command(str(raised.value))
    assert (name, parameters["model"], parameters["data"]) == ("quantize", str(model), ["DATA"])
