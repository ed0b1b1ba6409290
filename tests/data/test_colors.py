import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from pixelwise.data.colors import (
    GRAY,
    MARK_COLORS,
    MIN_LIGHTNESS,
    PALETTE,
    VISIONS,
    Color,
    Vision,
    choose_colors,
    choose_mark_color,
    is_background_name,
    is_light,
    simulate_vision,
    to_oklab,
)
from pixelwise.data.formats.camvid import _CLASSES as CAMVID
from pixelwise.data.formats.cityscapes import CLASSES as CITYSCAPES
from pixelwise.data.formats.voc import voc_color

OKABE_ITO = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
CLASS_COLORS = {
    "palette": PALETTE,
    "camvid": CAMVID.colors or (),
    "cityscapes": [color for _, _, color in CITYSCAPES],
    "voc": [voc_color(index) for index in range(21)],
    "forty": choose_colors([f"class {index}" for index in range(40)]),
    "marks": MARK_COLORS,
    "binary": choose_colors(["background", "cell"]),
}


def find_least_distance(colors: Sequence[Color], vision: Vision = "normal") -> float:
    lab = to_oklab(colors, vision)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))


@pytest.mark.parametrize(
    ("color", "expected"),
    [((255, 255, 255), (1, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (0.628, 0.225, 0.126))],
)
def test_oklab_has_its_published_values(color: Color, expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(to_oklab([color])[0], expected, atol=1e-3)


def test_red_and_green_look_alike_to_a_deuteranope_only() -> None:
    red_and_green = [(190, 90, 30), (100, 130, 30)]
    assert find_least_distance(red_and_green, "deuteranopia") < 0.05 < 0.15 < find_least_distance(red_and_green)


def test_a_simulated_color_looks_like_the_original() -> None:
    colors = [(190, 90, 30), (0, 114, 178), (240, 228, 66)]
    assert simulate_vision(colors, "normal") == colors
    simulated = simulate_vision(colors, "protanopia")
    assert all(abs(red - green) < 45 for red, green, _ in simulated)
    np.testing.assert_allclose(to_oklab(simulated), to_oklab(colors, "protanopia"), atol=0.005)


@pytest.mark.parametrize("vision", VISIONS)
def test_grays_look_the_same_to_everyone(vision: Vision) -> None:
    np.testing.assert_allclose(to_oklab([GRAY], vision), to_oklab([GRAY]), atol=1e-3)


@pytest.mark.parametrize(
    ("vision", "least"),
    [
        ("normal", {8: 0.16, 12: 0.14, 20: 0.097}),
        ("protanopia", {8: 0.118, 12: 0.091, 20: 0.068}),
        ("deuteranopia", {8: 0.129, 12: 0.096, 20: 0.071}),
        ("tritanopia", {8: 0.118, 12: 0.092, 20: 0.072}),
    ],
)
def test_the_palette_is_distinct_for_everyone(vision: Vision, least: dict[int, float]) -> None:
    found = {count: find_least_distance(choose_colors(list(map(str, range(1, count + 1)))), vision) for count in least}
    assert all(found[count] >= least[count] for count in least), found
    assert found[8] > find_least_distance(OKABE_ITO, vision)


@pytest.mark.parametrize("count", [1, 2, 8, 20, 40, 100])
def test_classes_get_light_and_distinct_colors_and_the_background_gray(count: int) -> None:
    names = ["background", *(f"class {index}" for index in range(count))]
    background, *colors = choose_colors(names)
    assert background == GRAY
    assert len(set(colors)) == count
    assert to_oklab(colors)[:, 0].min() >= MIN_LIGHTNESS
    assert choose_colors(names) == (background, *colors)
    assert tuple(colors) == choose_colors(names[1:])


def test_colors_repeat_where_there_are_more_classes_than_colors() -> None:
    colors = choose_colors([str(index) for index in range(1, 1031)])
    assert len(set(colors)) == 1020
    assert colors[1020:] == colors[20:30]


def test_given_colors_are_kept_and_others_differ_from_them() -> None:
    given = {"b": PALETTE[0], "c": (90, 190, 255)}  # the second is similar to a color of the palette
    colors = choose_colors(["a", "b", "c", "d", "e"], given)
    assert (colors[1], colors[2]) == (given["b"], given["c"])
    assert find_least_distance(colors) > 0.1
    assert choose_colors(["background", "a"], {"background": (1, 2, 3)}) == ((1, 2, 3), PALETTE[0])


@pytest.mark.parametrize("name", ["background", "_background_", "BG", "Void", "other", "Clutter / background", "0"])
def test_names_of_a_background(name: str) -> None:
    assert is_background_name(name)


@pytest.mark.parametrize("name", ["road", "foreground", "back", "", "1", "another", "background noise"])
def test_other_names_are_not_those_of_a_background(name: str) -> None:
    assert not is_background_name(name)


@pytest.mark.parametrize("name", CLASS_COLORS)
def test_errors_have_a_color_that_no_class_has(name: str) -> None:
    color, colors = choose_mark_color(CLASS_COLORS[name]), CLASS_COLORS[name]
    assert min(find_least_distance([color, other]) for other in colors) >= 0.1
    assert 0.35 <= to_oklab([color])[0, 0] <= 0.65


def test_errors_are_red_unless_a_class_is() -> None:
    assert choose_mark_color([]) == MARK_COLORS[0]
    assert choose_mark_color([(0, 0, 255)]) == MARK_COLORS[0]
    assert choose_mark_color([(220, 10, 30)]) != MARK_COLORS[0]


def test_a_dark_color_is_not_light() -> None:
    assert [is_light(color) for color in ((0, 0, 0), (0, 0, 128), (128, 64, 128), (255, 140, 0))] == [
        *(False, False, True, True)
    ]
