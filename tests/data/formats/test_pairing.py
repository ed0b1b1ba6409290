import itertools
import re
import time
import unicodedata
from collections.abc import Collection, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelwise.data.formats.pairing import NameGroup, find_masks_among, pair_names


def find_pairs(images: Collection[str], masks: Collection[str]) -> dict[str, list[str]]:
    return {image: list(files) for (_, image), files in pair_names([NameGroup(images, masks)]).masks.items()}


SAME = [
    ("a b c", "c a b"),
    ("a b", "a_mask b_mask"),
    ("cell_1", "cell_1_cp_masks"),
    ("image_1 img-2 3_sat 4", "1_mask label_2 3 4_L"),
    ("IMG_1 Img_2", "img_1 IMG_2"),
    ("1 2", "1.jpg 2.jpg"),
    ("1.jpg 2.jpg", "1 2"),
    ("img_0 img_1 img_10", "mask_0 mask_1 mask_10"),
    ("img0 img1 img10 img11", "mask0 mask1 mask10 mask11"),
    ("imga imgb", "maska maskb"),
    ("x_1_RGB x_2_RGB", "x_1_label x_2_label"),
    ("Bolivia_0_S1Hand Peru_1_S1Hand", "Bolivia_0_LabelHand Peru_1_LabelHand"),
    ("a_0_19_leftImg8bit a_1_19_leftImg8bit", "a_0_19_gtFine_labelIds a_1_19_gtFine_labelIds"),
    ("0 1 10 100", "000 001 010 100"),
    ("img_7 img_12", "mask_007 mask_012"),
    ("a/img_1 b/img_1", "a/mask_1 b/mask_1"),
    ("a/1_x b/2_x", "a/1_y b/2_y"),
    ("1 2", "gt/1 gt/2"),
    ("case_1_0000 case_2_0000", "case_1 case_2"),
    ("benign (1) benign (2)", "benign (1)_mask benign (2)_mask"),
    ("2019_1 2019_2", "mask_2019_1 mask_2019_2"),
]
"""Images and masks of the same order."""


@pytest.mark.parametrize(("images", "masks"), SAME)
def test_each_image_has_one_mask(images: str, masks: str) -> None:
    names = re.split(r" (?!\()", images)
    expected = sorted(re.split(r" (?!\()", masks)) if images.startswith("a b c") else re.split(r" (?!\()", masks)
    assert find_pairs(names, expected) == {name: [mask] for name, mask in zip(names, expected, strict=True)}


def test_composed_and_decomposed_unicode_is_the_same() -> None:
    names = ["Müller 1", "café 2", "가나 3", "плёнка 4"]
    forms = {unicodedata.normalize("NFD", name): [name] for name in names}
    assert find_pairs(forms, names) == forms


def test_the_cityscapes_masks_of_color_and_instances_are_left_out() -> None:
    images = ["aachen_1_leftImg8bit", "aachen_2_leftImg8bit"]
    kinds = ("color", "instanceIds", "labelIds")
    masks = [f"aachen_{number}_gtFine_{kind}" for number in (1, 2) for kind in kinds]
    assert find_pairs(images, masks) == {
        "aachen_1_leftImg8bit": ["aachen_1_gtFine_labelIds"],
        "aachen_2_leftImg8bit": ["aachen_2_gtFine_labelIds"],
    }


def test_each_group_may_have_its_own_suffix() -> None:
    """As in DRIVE."""
    train = NameGroup(["21_training", "22_training"], ["21_manual1", "22_manual1"])
    test = NameGroup(["01_test", "02_test"], ["01_manual1", "02_manual1"])
    assert pair_names([train, test]).masks == {
        (0, "21_training"): ["21_manual1"],
        (0, "22_training"): ["22_manual1"],
        (1, "01_test"): ["01_manual1"],
        (1, "02_test"): ["02_manual1"],
    }


def test_a_group_of_one_image_follows_the_pattern_of_the_others() -> None:
    train = NameGroup(["x_1_RGB", "x_2_RGB"], ["x_1_truth", "x_2_truth"])
    assert pair_names([train, NameGroup(["x_3_RGB"], ["x_3_truth"])]).masks[1, "x_3_RGB"] == ["x_3_truth"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("1 2 3", "11 12 13"),
        ("1 11 111", "2 22 222"),
        ("1 2 3", "4 5 6"),
        ("a1 a2 a3", "a11 a12 a13"),
        ("img_1 img_2", "img_11 img_12"),
        ("p1_1 p1_2", "p2_1 p2_2"),
        ("day1/a day1/b", "day2/a day2/b"),
        ("2019_1 2019_2", "2020_1 2020_2"),
        ("1 2", "p1_1 p1_2 p2_1 p2_2"),
        ("a_1 a_2", "a_1_1 a_1_2"),
        ("1 2", "1_1 1_2"),
        ("1.05 1.15", "1.5 1.015"),
        ("tile_1_12 tile_1_13", "tile_11_2 tile_11_3"),
        ("a", "b"),
        ("car1", "bus1"),
    ],
)
def test_other_numbers_and_names_are_no_pairs(images: str, masks: str) -> None:
    assert find_pairs(images.split(), masks.split()) == {}


def test_equal_names_and_words_pair_any_number_of_images() -> None:
    assert find_pairs(["a", "b", "c"], ["a", "x", "y"]) == {"a": ["a"]}
    assert find_pairs(["a", "b", "c"], ["A_mask"]) == {"a": ["A_mask"]}


def test_other_patterns_pair_nearly_all_images_or_none() -> None:
    images = [f"img{number}" for number in range(40)]
    masks = [f"mask{number}" for number in range(2, 44)]
    pairing = pair_names([NameGroup(images, masks)])
    assert {image: mask for (_, image), (mask,) in pairing.masks.items()} == dict(zip(images[2:], masks, strict=False))
    pairing = pair_names([NameGroup(images, masks[1:])])
    assert pairing.masks == {}
    assert pairing.suggestion
    assert pairing.suggestion[0] == 37
    assert pairing.suggestion[1].removeprefix("img") == pairing.suggestion[2].removeprefix("mask")


def test_zero_padding_pairs_nearly_all_images_or_none() -> None:
    assert find_pairs(["1", "2", "3"], ["01", "02"]) == {}
    assert find_pairs(["1", "2", "10"], ["01", "02", "10"]) == {"1": ["01"], "2": ["02"], "10": ["10"]}


def test_a_name_that_fits_twice_is_in_no_pair() -> None:
    assert find_pairs(["a", "A", "b"], ["a.jpg", "b.jpg"]) == {"b": ["b.jpg"]}
    pairing = pair_names([NameGroup(["a"], ["a_gt", "a_mask"])])
    assert pairing.masks == {}
    assert pairing.rivals == {(0, "a"): ["a_gt", "a_mask"]}


def test_the_same_name_is_preferred_to_words() -> None:
    assert find_pairs(["img_1", "1"], ["1", "mask_1"]) == {"1": ["1"]}
    assert find_pairs(["a"], ["a", "a_mask"]) == {"a": ["a"]}


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ("1_mask 1_mask_1 2_mask", {"1": ["1_mask", "1_mask_1"], "2": ["2_mask"]}),
        ("1_mask_1 1_mask_2 2_mask_1", {"1": ["1_mask_1", "1_mask_2"], "2": ["2_mask_1"]}),
        ("1_mask(1) 1_mask(2) 2_mask", {"1": ["1_mask(1)", "1_mask(2)"], "2": ["2_mask"]}),
        ("1_1 1_2 2_1", {"1": ["1_1", "1_2"], "2": ["2_1"]}),
        ("1/0 1/1 2/0", {"1": ["1/0", "1/1"], "2": ["2/0"]}),
        ("1/f3a 1/b07 2/c9", {"1": ["1/b07", "1/f3a"], "2": ["2/c9"]}),
    ],
)
def test_the_files_of_one_mask_belong_to_its_image(masks: str, expected: dict[str, list[str]]) -> None:
    pairing = pair_names([NameGroup(["1", "2"], masks.split())])
    assert {image: sorted(files) for (_, image), files in pairing.masks.items()} == expected
    assert pairing.class_of == {}


def test_a_number_in_a_mask_of_another_image_joins_nothing() -> None:
    """The image a_1 is missing."""
    assert find_pairs(["a", "a_2"], ["a_mask", "a_1_mask", "a_2_mask"]) == {"a": ["a_mask"], "a_2": ["a_2_mask"]}


@pytest.mark.parametrize(
    "form",
    ["{c}/{n}", "masks/{c}/{n}", "{n}_{c}", "{n}_mask_{c}", "{c}-{n}", "{n}/{c}", "1. {c}/{n}_xy", "{n}_{c}_mask"],
)
@pytest.mark.parametrize("rare", [("a1", "a2"), ("a2",)])
def test_each_class_may_have_its_own_masks(form: str, rare: Iterable[str]) -> None:
    files = {("a1", "rust"), ("a2", "rust"), *itertools.product(rare, ["blood_vessel"])}
    masks = {form.format(n=number, c=name): (number, name) for number, name in files}
    pairing = pair_names([NameGroup(["a1", "a2"], masks)])
    found = {mask: image for (_, image), names in pairing.masks.items() for mask in names}
    assert found == {mask: number for mask, (number, _) in masks.items()}
    start = "1. " if form.startswith("1.") else ""
    assert pairing.class_of == {mask: start + name for mask, (_, name) in masks.items()}


def test_kinds_of_which_each_image_has_one_are_no_classes() -> None:
    """They may be sets of other origin."""
    pairing = pair_names([NameGroup("1234", ["new_1", "new_2", "old_3", "old_4"])])
    assert pairing.masks == {}
    assert pairing.suggestion


def test_folders_that_differ_in_a_number_are_no_classes() -> None:
    assert find_pairs(["1", "2"], ["rater1/1", "rater1/2", "rater2/1", "rater2/2"]) == {}


def test_masks_are_found_among_the_files_of_a_folder() -> None:
    assert find_masks_among(["a", "a_mask", "b_mask", "c"]) == {"a_mask", "b_mask"}
    assert find_masks_among(["img_1", "mask_1", "img_2"]) == {"mask_1"}
    assert find_masks_among(["x_1_RGB", "x_1_label", "x_2_RGB", "x_2_label"]) == {"x_1_label", "x_2_label"}
    assert find_masks_among(["b (1)", "b (1)_mask", "b (1)_mask_1"]) == {"b (1)_mask", "b (1)_mask_1"}
    assert find_masks_among(["1", "2", "masks/1", "masks/2"]) == {"masks/1", "masks/2"}
    assert find_masks_among(["a_1", "a_1_cp_masks", "a_1_Labels"]) == {"a_1_cp_masks", "a_1_Labels"}
    assert find_masks_among(["label_1", "label_2"]) == set()
    assert find_masks_among(["a", "a_1", "a_2"]) == set()


NAME = st.text(st.sampled_from("ab1 2_-.é"), min_size=1, max_size=6)
AFFIX = st.text(st.sampled_from("xyZ_- "), max_size=5)


@given(
    names=st.sets(NAME, min_size=2, max_size=8),
    image=st.tuples(AFFIX, AFFIX),
    mask=st.tuples(AFFIX, AFFIX),
)
@settings(max_examples=100)
def test_any_prefix_and_suffix_is_found_or_nothing_is_paired(
    names: set[str], image: tuple[str, str], mask: tuple[str, str]
) -> None:
    """A renamed set is never paired wrongly."""
    images = {f"{image[0]}{name}{image[1]}": name for name in names}
    masks = {f"{mask[0]}{name}{mask[1]}": name for name in names}
    found = find_pairs(images, masks)
    if not set(images) & set(masks):
        assert all(masks[file] == images[key] for key, files in found.items() for file in files)


@given(
    numbers=st.sets(st.integers(0, 2000), min_size=2, max_size=30),
    image=st.tuples(AFFIX, AFFIX, st.integers(1, 5)),
    mask=st.tuples(AFFIX, AFFIX, st.integers(1, 5)),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=100)
def test_numbered_files_are_paired_under_any_prefix_suffix_and_padding(
    numbers: set[int], image: tuple[str, str, int], mask: tuple[str, str, int], order: object
) -> None:
    images = {f"{image[0]}{number:0{image[2]}}{image[1]}": number for number in numbers}
    masks = {f"{mask[0]}{number:0{mask[2]}}{mask[1]}": number for number in numbers}
    assert find_pairs(images, masks) == {
        name: [next(file for file, other in masks.items() if other == number)] for name, number in images.items()
    }


@given(
    images=st.sets(st.integers(0, 300), min_size=2, max_size=25),
    masks=st.sets(st.integers(0, 300), min_size=2, max_size=25),
    affixes=st.tuples(AFFIX, AFFIX, AFFIX, AFFIX),
)
@settings(max_examples=100)
def test_no_number_is_paired_with_another(
    images: set[int], masks: set[int], affixes: tuple[str, str, str, str]
) -> None:
    image_of = {f"{affixes[0]}{number}{affixes[1]}": number for number in images}
    mask_of = {f"{affixes[2]}{number}{affixes[3]}": number for number in masks}
    for image, files in find_pairs(image_of, mask_of).items():
        assert [mask_of[file] for file in files] == [image_of[image]]


def test_many_names_are_paired_in_a_moment() -> None:
    images = [f"scene_{number // 100}/tile_{number:05}_x{number * 7}_y{number % 13}_rgb" for number in range(5000)]
    masks = [f"{name.removesuffix('_rgb')}_truth" for name in images]
    started = time.process_time()
    assert find_pairs(images, masks) == {image: [mask] for image, mask in zip(images, masks, strict=True)}
    assert time.process_time() - started < 20


REPORTS = {
    "https://github.com/milesial/Pytorch-UNet/issues/156": (
        [f"train{number}" for number in range(1, 14)],
        [f"train{number}_mask" for number in range(1, 14)],
    ),
    "https://github.com/milesial/Pytorch-UNet/issues/122": (
        [f"{number}" for number in range(14)],
        [f"{number}image" for number in range(14)],
    ),
    "https://github.com/advaitsave/Multiclass-Semantic-Segmentation-CamVid/issues/3": (
        ["0016E5_08115", "0016E5_08031", "0016E5_08075", "0016E5_08001"],
        ["0016E5_08115_L", "0016E5_08031_L", "0016E5_08075_L", "0016E5_08001_L"],
    ),
    "https://github.com/open-mmlab/mmsegmentation/pull/3091": (["jpg", "png", "a.jpg.b"], ["jpg", "png", "a.jpg.b"]),
    "https://github.com/smlab-niser/clean-gs/issues/2": (
        ["00002", "00156", "00262"],
        ["00002_bgrem", "00156_bgrem", "00262_bgrem"],
    ),
}
"""Public report → names of images, and of their masks in the same order."""


@pytest.mark.parametrize("report", REPORTS)
def test_names_of_public_reports(report: str) -> None:
    images, masks = REPORTS[report]
    assert find_pairs(images, sorted(masks, reverse=True)) == {i: [m] for i, m in zip(images, masks, strict=True)}


def test_two_masks_of_an_image_as_in_a_public_report() -> None:
    """https://github.com/FengheTan9/CMUNeXt/issues/3."""
    masks = ["benign (4)_mask", "benign (4)_mask_1", "benign (14)_mask"]
    assert find_pairs(["benign (4)", "benign (14)"], masks) == {"benign (4)": masks[:2], "benign (14)": masks[2:]}


def test_ids_that_differ_between_image_and_mask_are_no_pairs() -> None:
    """https://github.com/PARMAGroup/UNet-Instance-Cell-Segmentation/issues/3: the ids of the files are random."""
    pairing = pair_names(
        [
            NameGroup(
                ["z-stacks_a09_s2_w16d6be4b1-11", "z-stacks_a10_s2_w1a6c1d0e3-41", "z-stacks_b02_s1_w19f2c3b21-40"],
                ["z-stacks_a09_s2_w21884de01-48", "z-stacks_a10_s2_w2b23c0f5d-47", "z-stacks_b02_s1_w20d3a6c1e-4a"],
            )
        ]
    )
    assert pairing.masks == {}
