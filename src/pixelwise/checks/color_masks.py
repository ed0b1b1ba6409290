"""Masks that are colored: pictures, palettes and alpha."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.data.classes import Color
from pixelwise.data.scan import Reading

MAX_COLORS = 64
"""Masks of more colors than this were compressed or resized, so that most colors are of no class."""
MIN_COLOR_SHARE = 1e-3
"""Of so many colors, those of a smaller share of all pixels are surely not classes."""


def _pictures(case: Case) -> Iterator[Finding]:
    """Color pictures where ids are expected. A few among id masks are odd ones, and unreadable."""
    colored = [r for r in case.readings if r.mask_traits.colors]
    most = 2 * len(colored) > len([r for r in case.readings if r.values or r.mask_traits.colors])
    files = case.mask_names(colored)
    if colored and most and not case.surveyed.classes_described:
        total = Counter[int]()
        for r in colored:
            total.update(r.mask_traits.colors)
        message = (
            f"{count(len(files), 'mask')} in {count(len(total), 'color')}, which no dataset.yaml lists: {some(files)}."
        )
        yield finding("color_masks", files, message, _snippet(total))
    elif colored:
        message = f"{some(files)}: the mask is an RGB picture, but the classes are not given by color."
        fix = "List 'names' and 'colors' in dataset.yaml, or save class ids in one channel."
        yield finding("unreadable_mask", files, message, fix)


def _snippet(total: Counter[int]) -> str:
    """What to write into dataset.yaml, ready to paste."""
    kept = list(total)
    head = "Write this into dataset.yaml, with names of your own:"
    if len(total) > MAX_COLORS:
        least = MIN_COLOR_SHARE * total.total()
        kept = [color for color, pixels in total.most_common(MAX_COLORS) if pixels >= least]
        head = (
            f"So many colors come from JPEG or smooth resizing: save the masks anew from the source. These "
            f"{len(kept)} are the frequent ones, for dataset.yaml:"
        )
    colors = [[v >> 16 & 255, v >> 8 & 255, v & 255] for v in sorted(kept)]
    names = ", ".join(f"class_{index}" for index in range(len(colors)))
    return f"{head}\nnames: [{names}]\ncolors: {colors}\ncoding: rgb"


def _differing_palettes(case: Case) -> Iterator[Finding]:
    """Each picture quantized by itself: the same index then means another class in each mask."""
    shown = _palette_colors(case)
    usual = {index: colors.most_common(1)[0][0] for index, colors in _colors_by_index(shown).items()}
    odd = [r for r, colors in shown if any(usual[index] != color for index, color in colors.items())]
    if files := case.mask_names(odd):
        message = f"{count(len(files), 'palette mask')} with other colors at the same indices than most: {some(files)}."
        fix = "Ids are the indices, so make all masks with one palette, or save them as RGB and list 'colors'."
        yield finding("palette_differs", files, message, fix)


def _palette_colors(case: Case) -> list[tuple[Reading, dict[int, Color]]]:
    """Of each palette mask, the color of each index that occurs in it."""
    if case.classes.coding == "rgb":
        return []
    with_palette = [r for r in case.readings if r.mask_content.palette]
    found = [(r, {index: r.mask_content.get_color(index) for index in r.values}) for r in with_palette]
    return [(r, {index: color for index, color in colors.items() if color is not None}) for r, colors in found]


def _colors_by_index(shown: list[tuple[Reading, dict[int, Color]]]) -> dict[int, Counter[Color]]:
    by_index: dict[int, Counter[Color]] = defaultdict(Counter)
    for _, colors in shown:
        for index, color in colors.items():
            by_index[index][color] += 1
    return by_index


def _palette_order(case: Case) -> Iterator[Finding]:
    """What a color tool shows as one class is read as another, because the list has another order."""
    classes = case.classes
    if not case.surveyed.classes_described:
        return
    odd, swapped = [], set()
    for r, colors in _palette_colors(case):
        wrong = {
            (index, classes.names[classes.colors.index(color)])
            for index, color in colors.items()
            if color in classes.colors
            and index in classes.label_mapping
            and color != classes.colors[classes.label_mapping[index]]
        }
        swapped |= wrong
        odd += [r] if wrong else []
    if files := case.mask_names(odd):
        shown = [f"index {index} has the color of {name!r}" for index, name in sorted(swapped)]
        message = f"{count(len(files), 'palette mask')} in which {some(shown)}: {some(files)}."
        fix = "Put 'names' and 'colors' in dataset.yaml in the order of the palette, or give a 'label_mapping'."
        yield finding("palette_order", files, message, fix)


def _colors_by_palette(case: Case) -> Iterator[Finding]:
    """The classes are listed by color, and these masks hold indices that only look so."""
    if case.classes.coding != "rgb":
        return
    if files := case.mask_names(r for r in case.readings if r.mask_content.palette):
        message = f"{count(len(files), 'palette mask')} among masks coded by color, read by their index: {some(files)}."
        yield finding("palette_differs", files, message, "Save them as RGB.")


def _alpha(case: Case) -> Iterator[Finding]:
    if files := case.mask_names(r for r in case.readings if r.mask_content.alpha and not r.mask_error):
        message = f"{count(len(files), 'mask')} with an alpha channel: {some(files)}."
        fix = "It is constant and dropped; save masks without it, before a tool makes use of it."
        yield finding("rgba_mask", files, message, fix)


LOOKS: tuple[Look, ...] = (_pictures, _differing_palettes, _palette_order, _colors_by_palette, _alpha)
