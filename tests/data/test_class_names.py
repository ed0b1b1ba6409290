import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import pixelwise as pw
from pixelwise.data.class_names import (
    explain_difference,
    find_nearest,
    find_similar_names,
    format_key,
    list_names,
    order_classes,
    rename_classes,
    suggest_renames,
)
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.formats import FORMATS, detect_format
from pixelwise.data.io.images import write_png
from pixelwise.errors import DataError
from support.named_datasets import AREAS, NAMED_DATASETS, VOC, NamedDataset, write_masks

each_format = pytest.mark.parametrize("made", NAMED_DATASETS.values(), ids=NAMED_DATASETS)


@pytest.fixture
def classes() -> Classes:
    colors = [[1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]]
    return describe_classes(parse_description({"names": ["a", "b", "B", "c"], "colors": colors, "ignore": 9}))


def test_equal_new_names_merge_classes_and_other_classes_keep_their_colors(classes: Classes) -> None:
    renamed = rename_classes(classes, {"B": "b", "c": "d"})
    assert renamed.names == ("a", "b", "d")
    assert renamed.colors == ((1, 0, 0), (2, 0, 0), (4, 0, 0))
    assert renamed.label_mapping == {0: 0, 1: 1, 2: 1, 3: 2}
    assert renamed.ignore == classes.ignore


def test_names_may_be_exchanged(classes: Classes) -> None:
    renamed = rename_classes(classes, {"a": "c", "c": "a"})
    assert (renamed.names, renamed.label_mapping) == (("c", "b", "B", "a"), {0: 0, 1: 1, 2: 2, 3: 3})


def test_a_class_renamed_to_ignore_is_ignored(classes: Classes) -> None:
    renamed = rename_classes(classes, {"b": "ignore", "B": "__ignore__"})
    assert (renamed.names, renamed.label_mapping) == (("a", "c"), {0: 0, 3: 1})
    assert renamed.ignore == (9, 255, 1, 2)


def test_an_unknown_name_is_an_error_with_the_nearest(classes: Classes) -> None:
    with pytest.raises(DataError, match=r"'rename' has the unknown class 'bb'. Did you mean 'b'\? Classes: 'a', 'b', "):
        rename_classes(classes, {"bb": "x"})
    with pytest.raises(DataError, match=r"'rename' has the unknown class 'xyz'. Classes: 'a'"):
        rename_classes(classes, {"xyz": "w"})


def test_a_rename_that_is_done_already_has_no_effect(classes: Classes) -> None:
    assert rename_classes(classes, {"xyz": "c"}) == classes
    assert rename_classes(classes, {"xyz": "w"}, is_complete=False) == classes


def test_classes_are_ordered_by_name_with_their_values_and_colors(classes: Classes) -> None:
    ordered = order_classes(classes, ["c", "x", "B", "a", "b"])
    assert ordered.names == ("c", "x", "B", "a", "b")
    assert ordered.label_mapping == {0: 3, 1: 4, 2: 2, 3: 0}
    assert (ordered.colors[0], ordered.colors[3]) == ((4, 0, 0), (1, 0, 0))


def test_names_that_differ_only_in_case_blanks_or_accents_are_similar() -> None:
    names = ["disc", "Disc", "disc ", "traffic light", "Trafficlight", "caf\u00e9", "cafe\u0301", "box"]
    assert find_similar_names(names) == [
        ["disc", "Disc", "disc "],
        ["traffic light", "Trafficlight"],
        ["caf\u00e9", "cafe\u0301"],
    ]


@pytest.mark.parametrize(
    ("names", "wanted", "suggested"),
    [
        (["a", "b"], ["b", "a"], {}),
        (["Disc", "disc", "disc "], ["disc"], {"Disc": "disc", "disc ": "disc"}),
        (["background", "disc"], ["background", "dsic"], {"disc": "dsic"}),
        (["background", "disc"], ["bg", "disc"], {"background": "bg"}),
        (["tree", "cars", "road"], ["car", "roads", "sky"], {"cars": "car", "road": "roads", "tree": "sky"}),
        (["a", "b"], ["x", "y"], {}),
        (["a", "b"], ["a"], {}),
    ],
)
def test_suggested_names(names: list[str], wanted: list[str], suggested: dict[str, str]) -> None:
    assert suggest_renames(names, wanted) == suggested


def test_the_nearest_name() -> None:
    assert find_nearest("BOXES", ["disc", "boxes "]) == "boxes "
    assert find_nearest("boxs", ["disc", "boxes"]) == "boxes"
    assert find_nearest("zebra", ["disc", "boxes"]) is None


def test_a_difference_shows_the_names_of_each_side_only() -> None:
    text = explain_difference(["a", "dsic"], ["a", "disc ", "box"], ("'names'", "the files"))
    assert text == ("Only in 'names': 'dsic'; only in the files: 'disc ', 'box'. Did you mean 'disc ' by 'dsic'?")
    assert explain_difference(["a"], ["a", "b"], ("'names'", "the files")) == "Only in the files: 'b'."


def test_long_lists_are_shortened() -> None:
    assert list_names([str(i) for i in range(43)]).endswith("'39' and 3 more")


def test_a_line_for_the_file_reads_back() -> None:
    rename = {"disc ": "disc", "no": "n\u00f6", "1": "a: b"}
    line = format_key("rename", rename)
    assert "\n" not in line
    assert yaml.safe_load(line) == {"rename": rename}


# Every format.


def read_names(root: Path) -> list[np.ndarray]:
    """Return the class name of each pixel of each sample; ignored pixels are "ignored"."""
    dataset = Dataset.load(root)
    names = np.array([*dataset.classes.names, *["ignored"] * (256 - len(dataset.classes.names))])
    return [names[dataset.read_labels(sample)] for sample in dataset.samples]


def assert_areas(root: Path, *names: str) -> None:
    found = read_names(root)
    assert len(found) == 4
    for pixels in found:
        np.testing.assert_array_equal(pixels, np.array(names)[AREAS])


def list_own_names(made: NamedDataset, root: Path) -> list[str]:
    made.build(root)
    dataset = Dataset.load(root)
    assert dataset.format == made.format
    return list(dataset.classes.names)


def has_labels(root: Path, form: str) -> bool:
    """Return whether the files store classes in this form: "values", "listed" or "found"."""
    return FORMATS[detect_format(root)].find_pairs(root).description.labels == form


def test_every_format_with_names_is_tested() -> None:
    assert {made.format for made in NAMED_DATASETS.values()} == FORMATS.keys() - {"webdataset"}  # without own names


@each_format
def test_names_in_another_order_do_not_swap_pixels(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    assert_areas(tmp_path, *made.names)
    for seed in range(3):
        random.Random(seed).shuffle(names)
        (tmp_path / "dataset.yaml").write_text(format_key("names", names))
        assert Dataset.load(tmp_path).classes.names == tuple(names)
        assert_areas(tmp_path, *made.names)


@each_format
def test_classes_are_renamed_and_merged(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    rest, first, second = made.names
    rename = format_key("rename", {first: "thing", second: rest})
    (tmp_path / "dataset.yaml").write_text(rename)
    assert_areas(tmp_path, rest, "thing", rest)
    wanted = ["thing", *(name for name in names if name not in (first, second))]
    (tmp_path / "dataset.yaml").write_text(f"{rename}\n{format_key('names', wanted)}")
    assert Dataset.load(tmp_path).classes.names == tuple(wanted)
    assert_areas(tmp_path, rest, "thing", rest)


@each_format
def test_a_class_is_ignored_by_name(made: NamedDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    (tmp_path / "dataset.yaml").write_text(format_key("rename", {made.names[1]: "ignore"}))
    assert_areas(tmp_path, made.names[0], "ignored", made.names[2])


def take_line(message: str, key: str) -> str:
    """Return the line for dataset.yaml that an error prints."""
    found = re.search(rf"^{key}: .*$", message, re.MULTILINE)
    assert found
    return found[0]


@each_format
def test_a_wrong_name_is_an_error_and_both_of_its_fixes_work(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    right, wrong = made.names[2], made.names[2][:-1] + "xx"
    names[names.index(right)] = wrong
    path = tmp_path / "dataset.yaml"
    path.write_text(format_key("names", names))
    with pytest.raises(DataError) as raised:
        Dataset.load(tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{path}: Only in 'names': {wrong!r}; only in the files: {right!r}.")
    assert f"Did you mean {right!r} by {wrong!r}?" in message
    path.write_text(take_line(message, "names"))
    assert_areas(tmp_path, *made.names)
    path.write_text(f"{format_key('names', names)}\n{take_line(message, 'rename')}")
    assert_areas(tmp_path, *made.names[:2], wrong)


@each_format
def test_without_a_shared_name_both_lists_are_shown(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [yy, zz]")
    with pytest.raises(DataError, match="Only in 'names': 'yy', 'zz'; only in the files: ") as raised:
        Dataset.load(tmp_path)
    for name in names[:40]:
        assert repr(name) in str(raised.value)
    line = take_line(str(raised.value), "rename")
    (tmp_path / "dataset.yaml").write_text("names: [yy, zz]\n" + line.replace("NAME", "yy", 1).replace("NAME", "zz"))
    first = made.names.index(names[0]) if names[0] in made.names else None
    assert_areas(tmp_path, *("yy" if area == first else "zz" for area in range(3)))


@each_format
def test_a_missing_name_is_an_error_that_lists_all(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    (tmp_path / "dataset.yaml").write_text(format_key("names", [name for name in names if name != made.names[1]]))
    with pytest.raises(DataError, match=f"Only in the files: '{made.names[1]}'.") as raised:
        Dataset.load(tmp_path)
    (tmp_path / "dataset.yaml").write_text(take_line(str(raised.value), "names"))
    assert_areas(tmp_path, *made.names)


@each_format
def test_a_name_too_many_is_an_error_except_where_only_names_that_occur_are_known(
    made: NamedDataset, tmp_path: Path
) -> None:
    names = list_own_names(made, tmp_path)
    (tmp_path / "dataset.yaml").write_text(format_key("names", ["zz", *names]))
    if has_labels(tmp_path, "found"):
        assert_areas(tmp_path, *made.names)
        assert [f.code for f in pw.check(tmp_path).findings if f.code.startswith("class_")] == ["class_unused"]
        return
    with pytest.raises(DataError, match=r"Only in 'names': 'zz'\. Correct") as raised:
        Dataset.load(tmp_path)
    (tmp_path / "dataset.yaml").write_text(take_line(str(raised.value), "names"))
    assert_areas(tmp_path, *made.names)


@each_format
def test_only_mask_values_match_by_value(made: NamedDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    classes = Dataset.load(tmp_path).classes
    values = list(classes.label_mapping)
    keys = [f"'{v >> 16},{v >> 8 & 255},{v & 255}'" if classes.coding == "rgb" else str(v) for v in values]
    path, first = tmp_path / "dataset.yaml", classes.names.index(made.names[0])
    targets = ["x" if classes.label_mapping[value] == first else "y" for value in values]
    mapped = ", ".join(f"{key}: {target}" for key, target in zip(keys, targets, strict=True))
    path.write_text(f"names: [y, x]\nlabel_mapping: {{{mapped}}}")
    if has_labels(tmp_path, "values"):
        assert_areas(tmp_path, "x", "y", "y")
        return
    with pytest.raises(
        DataError, match="'label_mapping' maps mask values, but the files store classes by name"
    ) as raised:
        Dataset.load(tmp_path)
    path.write_text(take_line(str(raised.value), "rename").replace("NAME", "x"))
    assert_areas(tmp_path, "x", "x", "x")


@pytest.mark.parametrize("text", ["ignore: [2]", "coding: rgb"])
def test_other_keys_of_masks_are_refused_where_files_store_names(tmp_path: Path, text: str) -> None:
    NAMED_DATASETS["labelme"].build(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(DataError, match="but the files store classes by name") as raised:
        Dataset.load(tmp_path)
    if text.startswith("ignore"):
        (tmp_path / "dataset.yaml").write_text(str(raised.value).splitlines()[-1])
        assert_areas(tmp_path, "background", "box", "ignored")


def test_values_that_no_class_has_may_be_ignored_where_files_store_names(tmp_path: Path) -> None:
    NAMED_DATASETS["labelme"].build(tmp_path)
    (tmp_path / "dataset.yaml").write_text("ignore: [255]")
    assert_areas(tmp_path, "background", "box", "disc")


def test_names_of_masks_without_own_names_are_renamed(tmp_path: Path) -> None:
    write_masks(tmp_path, (0, 1, 2))
    (tmp_path / "dataset.yaml").write_text("names: [a, b, B]\nrename: {B: b}")
    assert_areas(tmp_path, "a", "b", "b")


def test_names_that_are_only_the_mask_values_are_replaced_by_position(tmp_path: Path) -> None:
    NAMED_DATASETS["ade20k"].build(tmp_path)
    (tmp_path / "objectInfo150.txt").unlink()
    for path in (tmp_path / "annotations/training").iterdir():
        path.rename(path.with_name(path.name.replace("ADE_", "ADE_train_")))
    for path in (tmp_path / "images/training").iterdir():
        path.rename(path.with_name(path.name.replace("ADE_", "ADE_train_")))
    assert_areas(tmp_path, "3", "1", "2")
    (tmp_path / "dataset.yaml").write_text(format_key("names", [f"n{i}" for i in range(1, 151)]))
    assert_areas(tmp_path, "n3", "n1", "n2")


# Only one class occurs, although more are named.


@pytest.fixture
def only_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all named datasets show the area 0 only, in masks and in shapes."""
    monkeypatch.setattr("support.named_datasets.AREAS", np.zeros_like(AREAS))
    monkeypatch.setattr("support.named_datasets.DRAWN", {})


@each_format
@pytest.mark.usefixtures("only_background")
def test_one_class_only_is_an_error_in_every_format(made: NamedDataset, tmp_path: Path) -> None:
    made.build(tmp_path)
    names = Dataset.load(tmp_path).classes.names
    (finding,) = pw.check(tmp_path).errors
    assert finding.code == "single_class"
    assert repr(made.names[0]) in finding.message
    assert (len(names) == 1) == (made.format == "labelme")  # its files list no classes
    with pytest.raises(DataError, match=re.escape(finding.message)):
        pw.plan(tmp_path, device="cpu")


# Numbers as names.


def change(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


NUMBERS = {
    "labelme": ("*.json", ('"label": "disc"', '"label": 1')),
    "coco": ("train.json", ('"name": "disc"', '"name": 1')),
    "yolo": ("data.yaml", ("0: disc", "0: 1")),
    "supervisely": ("**/*.json", ('itle": "disc"', 'itle": 1')),
    "huggingface with id2label": ("id2label.json", ('"disc"', "1")),
}
"""Format → its files with names, and a name and the number that replaces it."""


@pytest.mark.parametrize("form", NUMBERS)
@pytest.mark.parametrize("number", ["1", "1.0"])
def test_numbers_as_names_are_read_as_text(form: str, number: str, tmp_path: Path) -> None:
    NAMED_DATASETS[form].build(tmp_path)
    pattern, (old, new) = NUMBERS[form]
    for path in tmp_path.glob(pattern):
        change(path, (old, new[:-1] + number))
    assert_areas(tmp_path, "background", "box", "1")


@pytest.mark.parametrize("form", NUMBERS)
@pytest.mark.parametrize("value", ["true", '" "', "1.5"])
def test_other_values_as_names_are_an_error(form: str, value: str, tmp_path: Path) -> None:
    NAMED_DATASETS[form].build(tmp_path)
    pattern, (old, new) = NUMBERS[form]
    for path in tmp_path.glob(pattern):
        change(path, (old, new[:-1] + value))
    with pytest.raises(DataError, match=r"Expected a text|Expected a class number with its name"):
        read_names(tmp_path)


# The finding about similar names.


def test_similar_names_are_found_with_their_files_and_the_line_merges_them(tmp_path: Path) -> None:
    NAMED_DATASETS["labelme"].build(tmp_path)
    change(tmp_path / "b.json", ('"disc"', '"Disc"'))
    change(tmp_path / "c.json", ('"disc"', '"disc "'))
    (finding,) = [f for f in pw.check(tmp_path).findings if f.severity != "note"]
    assert (finding.code, finding.files) == ("similar_names", ("b.json", "c.json"))
    assert "'disc' in 2 masks, 'Disc' in 1 mask, 'disc ' in 1 mask" in finding.message
    (tmp_path / "dataset.yaml").write_text(take_line(finding.fix, "rename"))
    assert_areas(tmp_path, "background", "box", "disc")
    assert [f.code for f in pw.check(tmp_path).findings] == ["split_made"]


@each_format
def test_the_line_for_similar_names_keeps_what_the_file_says(made: NamedDataset, tmp_path: Path) -> None:
    names = list_own_names(made, tmp_path)
    rest, first, second = made.names
    changed = {first: "thing", second: "Thing"}
    wanted = [changed.get(name, name) for name in names]
    rename = format_key("rename", changed)
    for names_line in ("", format_key("names", wanted)):
        (tmp_path / "dataset.yaml").write_text(f"{rename}\n{names_line}")
        (finding,) = [f for f in pw.check(tmp_path).findings if f.code == "similar_names"]
        (tmp_path / "dataset.yaml").write_text("\n".join(finding.fix.splitlines()[1:]))
        kept = Dataset.load(tmp_path).classes.names
        assert len([name for name in kept if name.lower() == "thing"]) == 1
        assert {name.lower() for name in kept} == {name.lower() for name in wanted}
        thing = next(name for name in kept if name.lower() == "thing")
        assert_areas(tmp_path, rest, thing, thing)


# Public reports.


def test_files_of_one_dataset_with_other_ids_for_the_same_names(tmp_path: Path) -> None:
    """COCO files of train and val number the classes in the order in which they occur; val has one class less.

    report: https://github.com/yatengLG/ISAT_with_segment_anything/issues/36
    """
    NAMED_DATASETS["coco"].build(tmp_path)
    whole = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train.json").unlink()
    ids = {"train": {"box": 0, "disc": 1}, "val": {"disc": 0}}
    own = {category["id"]: category["name"] for category in whole["categories"]}
    for split, images in (("train", whole["images"][:2]), ("val", whole["images"][2:])):
        kept = [image["id"] for image in images]
        annotations = [
            a | {"category_id": ids[split][own[a["category_id"]]]}
            for a in whole["annotations"]
            if a["image_id"] in kept and own[a["category_id"]] in ids[split]
        ]
        categories = [{"id": number, "name": name} for name, number in ids[split].items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    first, second, third, fourth = read_names(tmp_path)
    for pixels in (first, second):
        np.testing.assert_array_equal(pixels, np.array(["background", "box", "disc"])[AREAS])
    for pixels in (third, fourth):
        np.testing.assert_array_equal(pixels, np.array(["background", "background", "disc"])[AREAS])


def test_a_label_is_left_out(tmp_path: Path) -> None:
    """A label that is removed from the list of labels must not stop the others.

    report: https://github.com/wkentaro/labelme/issues/848
    """
    NAMED_DATASETS["labelme"].build(tmp_path)
    path = tmp_path / "dataset.yaml"
    path.write_text("names: [background, disc]")
    with pytest.raises(DataError, match="Only in the files: 'box'") as raised:
        Dataset.load(tmp_path)
    line = take_line(str(raised.value), "rename")
    for target, area in (("ignore", "ignored"), ("background", "background"), ("disc", "disc")):
        path.write_text(f"names: [background, disc]\n{line.replace('NAME', target)}")
        assert_areas(tmp_path, "background", area, "disc")
        assert Dataset.load(tmp_path).classes.names == ("background", "disc")


@pytest.mark.parametrize("coded", [True, False])
def test_a_label_map_in_another_order_than_the_masks(tmp_path: Path, coded: bool) -> None:
    """The background is in the middle of labelmap.txt, but the first color of the palette.

    report: https://github.com/cvat-ai/cvat/issues/2032
    """
    colors = [(0, 0, 0), (48, 112, 32), (176, 112, 32)]
    write_masks(tmp_path, colors, *VOC)
    if not coded:
        for mask in (tmp_path / "SegmentationClass").iterdir():
            write_png(mask, AREAS.astype(np.uint8), colors)
    (tmp_path / "labelmap.txt").write_text("# label\nCat:48,112,32::\nbackground:0,0,0::\nDog:176,112,32::\n")
    if not coded:
        (finding,) = [f for f in pw.check(tmp_path).findings if f.code == "palette_order"]
        (tmp_path / "dataset.yaml").write_text(take_line(finding.fix, "label_mapping"))
        assert "palette_order" not in {f.code for f in pw.check(tmp_path).findings}
    assert_areas(tmp_path, "background", "Cat", "Dog")
    assert Dataset.load(tmp_path).classes.colors[:2] == ((48, 112, 32), (0, 0, 0))


def test_a_background_of_ones_own_next_to_that_of_the_tool(tmp_path: Path) -> None:
    """labelmap.txt has `Background` in a color and `background` in black, which means no label.

    report: https://github.com/cvat-ai/cvat/issues/6274
    """
    write_masks(tmp_path, [(0, 0, 0), (0, 215, 255), (255, 0, 204)], *VOC)
    (tmp_path / "labelmap.txt").write_text("# label\nBackground:0,215,255::\nBone:255,0,204::\nbackground:0,0,0::\n")
    (finding,) = [f for f in pw.check(tmp_path).findings if f.code == "similar_names"]
    assert "'Background' in 4 masks, 'background' in 4 masks" in finding.message
    (tmp_path / "dataset.yaml").write_text(take_line(finding.fix, "rename"))
    assert_areas(tmp_path, "Background", "Background", "Bone")
