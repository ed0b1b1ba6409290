from pathlib import Path

import pytest

from pixelwise.data.sample import Sample
from pixelwise.data.splits.user_groups import find_user_groups
from pixelwise.errors import InvalidArgumentError

ROOT = Path("data")
NAMES = ("train/p01_a", "train/p01_b", "train/p02_a", "val/p03_c")


def sample(name: str) -> Sample:
    split, _, stem = name.partition("/")
    path = ROOT / f"images/{split}/{stem}.png"
    return Sample(name=name, image_path=path, label_path=path, split="train" if split == "train" else "val")


SAMPLES = [sample(name) for name in NAMES]


def groups(group: str, root: Path = ROOT) -> list[str]:
    return list(find_user_groups(SAMPLES, group, root).values())


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"p(\d+)_", ["01", "01", "02", "03"]),
        (r"p\d+", ["p01", "p01", "p02", "p03"]),
        (r"^(\w+)/p", ["train", "train", "train", "val"]),
        (r"(?:p)(\d+)(_)", ["01", "01", "02", "03"]),
    ],
)
def test_the_first_capture_group_or_the_match_is_the_group(pattern: str, found: list[str]) -> None:
    assert groups(pattern) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"p(0[12])", r"does not match 1 of 4 names: val/p03_c. Use a pattern"),
        (r"q", r"does not match 4 of 4 names: train/p01_a, train/p01_b, train/p02_a and 1 more"),
        (r"(x)?p\d", r"does not match 4 of 4"),
        (r"\d*", r"does not match 4 of 4"),
        (r"p(\d+", r"'p\(\\\\d\+' is not a valid regular expression \(missing \)"),
    ],
)
def test_an_invalid_pattern_is_an_error(pattern: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        groups(pattern)


ROWS = (("p01_a", "x"), ("p01_b", "x"), ("p02_a", "y"), ("p03_c", "z"))


def table(folder: Path, rows: object, header: str = "file,site,patient", delimiter: str = ",") -> Path:
    lines = [header.replace(",", delimiter)]
    lines += [delimiter.join((name, "here", group)) for name, group in rows]  # type: ignore[attr-defined]
    (folder / "groups.csv").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return folder / "groups.csv"


@pytest.mark.parametrize("prefix", ["", "images/train/", "train/"])
@pytest.mark.parametrize("ending", ["", ".png", ".JPG"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_table_names_the_groups(tmp_path: Path, prefix: str, ending: str, delimiter: str) -> None:
    rows = [(f"{prefix}{name}{ending}", group) for name, group in ROWS[:3]] + [ROWS[3]]
    path = table(tmp_path, rows, delimiter=delimiter)
    assert groups(f"{path}:patient") == ["x", "x", "y", "z"]
    assert groups(f"{path}:site") == ["here"] * 4


def test_a_table_may_be_in_the_dataset(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    assert groups("groups.csv:patient", tmp_path) == ["x", "x", "y", "z"]


def test_the_longer_name_has_priority(tmp_path: Path) -> None:
    path = table(tmp_path, [("p01_a", "short"), ("train/p01_a", "long"), *ROWS[1:]])
    assert groups(f"{path}:patient")[0] == "long"


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b"y", b'"y, z"'))
    assert groups(f"{path}:patient")[2] == "y, z"


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (ROWS[1:], "patient", r"has no 'patient' for 1 of 4 images: train/p01_a. Add a row for each"),
        ([*ROWS[:3], ("p03_c", " ")], "patient", r"has no 'patient' for 1 of 4 images: val/p03_c"),
        (ROWS, "file", r"has no column 'file' after the file names. Its columns: site, patient"),
        (ROWS, "age", r"has no column 'age' after the file names. Its columns: site, patient"),
        ([*ROWS, ("p01_a.png", "y")], "patient", r"assigns 'p01_a' to 'x' and to 'y'. Remove one"),
    ],
)
def test_an_invalid_table_is_an_error(tmp_path: Path, rows: object, column: str, message: str) -> None:
    path = table(tmp_path, rows)
    with pytest.raises(InvalidArgumentError, match=message):
        groups(f"{path}:{column}")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"groups.csv cannot be read .* Expected a CSV file"):
        groups("groups.csv:patient", tmp_path)


def test_an_empty_table_has_no_column(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").touch()
    with pytest.raises(InvalidArgumentError, match=r"Its columns: none"):
        groups("groups.csv:patient", tmp_path)
