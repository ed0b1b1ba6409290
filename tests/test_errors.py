import pytest

from pixelwise import errors
from pixelwise.errors import InvalidArgumentError, PixelwiseError, find_name, missing_extra, unknown_name


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
        == 'writing COCO needs pycocotools, which is not installed. Install it: pip install "pixelwise[coco]"'
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
