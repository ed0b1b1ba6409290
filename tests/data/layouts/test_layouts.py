from collections.abc import Callable
from pathlib import Path

import pytest

from pixelwise.data.dataset import open_dataset
from pixelwise.data.layouts import LAYOUTS, recognize_layout
from pixelwise.data.layouts.pairing import Layout, Pairing
from pixelwise.errors import DataError, RequestError


def marked(name: str) -> Layout:
    """A layout known by a file of its name."""
    return Layout(recognizes=lambda root: (root / name).exists(), find=lambda root: Pairing(samples=()))


@pytest.fixture
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"tiles": marked("tiles.json"), "rolls": marked("rolls.json")}
    monkeypatch.setattr("pixelwise.data.layouts.LAYOUTS", {**LAYOUTS, **more})


@pytest.fixture
def holding(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.usefixtures("two_more")
def test_the_layout_is_the_one_that_the_files_look_like(holding: Callable[..., Path]) -> None:
    assert recognize_layout(holding()) == "folder"
    assert recognize_layout(holding("rolls.json")) == "rolls"


@pytest.mark.usefixtures("two_more")
def test_where_several_fit_the_user_is_asked(holding: Callable[..., Path]) -> None:
    root = holding("rolls.json", "tiles.json")
    with pytest.raises(DataError, match="looks like tiles and like rolls; say which it is with --layout"):
        recognize_layout(root)
    assert recognize_layout(root, "rolls") == "rolls"


def test_an_unknown_layout_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="folder"):
        open_dataset(tmp_path, "foldr")


def test_a_file_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="is not a folder"):
        recognize_layout(tmp_path / "a.png")
