"""Checks of color masks: RGB images, palettes and alpha channels."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_count, format_names, make_finding, report_files
from pixelwise.data.classes import Color
from pixelwise.data.sample_stats import SampleStats

MAX_COLORS = 64
"""Masks with more colors were compressed or resized, so most of the colors are not those of a class."""
MIN_COLOR_SHARE = 1e-3
"""Colors with a smaller share of all pixels are left out of the suggested list, if there are many."""


def _check_rgb_masks(context: CheckContext) -> Iterator[Finding]:
    """Find RGB masks where class indices are expected: most masks, or a few unreadable ones."""
    colored = [s for s in context.stats if s.color_counts]
    is_majority = 2 * len(colored) > sum(bool(s.value_counts or s.color_counts) for s in context.stats)
    files = context.list_masks(colored)
    if colored and is_majority and not context.has_declared_classes:
        total = Counter[int]()
        for s in colored:
            total.update(s.color_counts)
        problem = f"in {format_count(len(total), 'color')}, which no dataset.yaml lists"
        yield from report_files("color_masks", files, "mask", problem, _suggest_description(total))
    elif colored:
        message = f"{format_names(files)}: the mask is an RGB image, but the classes are not defined by color."
        fix = "List 'names' and 'colors' in dataset.yaml, or save masks with class indices in one channel."
        yield make_finding("unreadable_mask", files, message, fix)


def _suggest_description(total: Counter[int]) -> str:
    """Return the keys to paste into dataset.yaml."""
    kept = list(total)
    head = "Write this into dataset.yaml, with your own names:"
    if len(total) > MAX_COLORS:
        min_pixels = MIN_COLOR_SHARE * total.total()
        kept = [color for color, pixels in total.most_common(MAX_COLORS) if pixels >= min_pixels]
        head = (
            f"This many colors are the result of JPEG compression or interpolation: save the original masks "
            f"again as PNG. Then write this into dataset.yaml; these {len(kept)} colors are the most frequent:"
        )
    colors = [[v >> 16 & 255, v >> 8 & 255, v & 255] for v in sorted(kept)]
    names = ", ".join(f"class_{index}" for index in range(len(colors)))
    return f"{head}\nnames: [{names}]\ncolors: {colors}\ncoding: rgb"


def _check_differing_palettes(context: CheckContext) -> Iterator[Finding]:
    """Find masks that were quantized separately: the same index then means a different class in each mask."""
    palettes = _read_palettes(context)
    colors_by_index: dict[int, Counter[Color]] = defaultdict(Counter)
    for _, colors in palettes:
        for index, color in colors.items():
            colors_by_index[index][color] += 1
    usual = {index: colors.most_common(1)[0][0] for index, colors in colors_by_index.items()}
    odd = [s for s, colors in palettes if any(usual[index] != color for index, color in colors.items())]
    problem = "with other colors for the same indices than most masks"
    fix = "Palette indices are class indices. Save all masks with one palette, or as RGB and list 'colors'."
    yield from report_files("palette_differs", context.list_masks(odd), "palette mask", problem, fix)


def _read_palettes(context: CheckContext) -> list[tuple[SampleStats, dict[int, Color]]]:
    """Return the color of each index that occurs in each palette mask."""
    if context.classes.coding == "rgb":
        return []
    palettes = []
    for s in context.stats:
        if s.mask_file.palette:
            colors = {index: s.mask_file.get_color(index) for index in s.value_counts}
            palettes.append((s, {index: color for index, color in colors.items() if color is not None}))
    return palettes


def _check_palette_order(context: CheckContext) -> Iterator[Finding]:
    """Find masks whose palette orders the classes differently than dataset.yaml."""
    classes = context.classes
    if not context.has_declared_classes:
        return
    odd, swapped = [], set()
    for s, colors in _read_palettes(context):
        wrong = {
            (index, classes.names[classes.colors.index(color)])
            for index, color in colors.items()
            if color in classes.colors
            and index in classes.label_mapping
            and color != classes.colors[classes.label_mapping[index]]
        }
        swapped |= wrong
        odd += [s] if wrong else []
    problem = "in which " + format_names(
        [f"index {index} has the color of {name!r}" for index, name in sorted(swapped)]
    )
    fix = "List 'names' and 'colors' in dataset.yaml in the order of the palette, or add a 'label_mapping'."
    yield from report_files("palette_order", context.list_masks(odd), "palette mask", problem, fix)


def _check_palettes_among_rgb(context: CheckContext) -> Iterator[Finding]:
    """Find palette masks, which are read by index, where the classes are defined by color."""
    files = context.list_masks(s for s in context.stats if s.mask_file.palette and context.classes.coding == "rgb")
    problem = "where classes are defined by color, but palette masks are read by index"
    yield from report_files("palette_differs", files, "palette mask", problem, "Save these masks as RGB.")


def _check_alpha(context: CheckContext) -> Iterator[Finding]:
    files = context.list_masks(s for s in context.stats if s.mask_file.alpha and not s.mask_error)
    fix = "The alpha channel is not used. Save masks without it, because other programs may apply it."
    yield from report_files("rgba_mask", files, "mask", "with a constant alpha channel", fix)


CHECKS: tuple[Check, ...] = (
    _check_rgb_masks,
    _check_differing_palettes,
    _check_palette_order,
    _check_palettes_among_rgb,
    _check_alpha,
)
