"""Check the masks: their sizes, their values, and the colors of RGB and palette masks."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_names, make_finding, report_files
from pixelwise.data.class_names import format_key
from pixelwise.data.classes import BINARY_NAMES, MAX_FOUND_CLASSES
from pixelwise.data.colors import BLACK, Color, choose_colors, is_light
from pixelwise.data.dataset import describe_unlisted_values
from pixelwise.data.io.decoded_image import NO_LABEL
from pixelwise.data.io.file_info import read_orientation
from pixelwise.data.mask_kinds import describe_objects, describe_soft
from pixelwise.data.sample_stats import SampleStats, list_numbers
from pixelwise.errors import format_count

_TEXTS = {
    "size_mismatch": ("whose size differs from that of the image", "Save image and mask with the same size."),
    "exif_rotation": (
        "with the size of the image before its EXIF rotation, which Pixelwise applies",
        "Rotate the masks in the same way, or remove the EXIF orientation of the images and save them upright.",
    ),
    "transposed_mask": (
        "with height and width swapped",
        "Transpose the masks and save them again. Many libraries return arrays in the order (width, height).",
    ),
}


def _check_sizes(context: CheckContext) -> Iterator[Finding]:
    mismatches: dict[str, list[SampleStats]] = defaultdict(list)
    for s in context.stats:
        if s.size and s.mask_size and s.size != s.mask_size:
            mismatches[_classify_mismatch(s)].append(s)
    for code, (problem, fix) in _TEXTS.items():
        wrong = mismatches[code]
        files = sorted([*context.list_images(wrong), *context.list_masks(wrong)])
        items = [_format_sizes(context, s) for s in wrong]
        yield from report_files(code, files, "mask", f"{problem} (height x width)", fix, items=items)


def _classify_mismatch(stats: SampleStats) -> str:
    if stats.size != (stats.mask_size or ())[::-1]:
        return "size_mismatch"
    swapping = (5, 6, 7, 8)  # EXIF orientations that swap height and width
    image, mask = (read_orientation(path) for path in (stats.sample.image_path, stats.sample.mask_path))
    return "exif_rotation" if (image in swapping) != (mask in swapping) else "transposed_mask"


def _format_sizes(context: CheckContext, stats: SampleStats) -> str:
    assert stats.size is not None
    assert stats.mask_size is not None
    (height, width), (mask_height, mask_width) = stats.size, stats.mask_size
    return f"{context.list_masks([stats])[0]} is {mask_height}x{mask_width}, but its image is {height}x{width}"


MIN_BETWEEN_SHARE = 0.8
"""Least share of the pixels of an interpolated value that have smaller and larger neighbors: all except those at
corners. For a class that is an area of its own, the share is nearly 0."""
MAX_RARE_SHARE = 0.01
"""A value with a larger share of all pixels is not the result of interpolation."""
MIN_BETWEEN_VALUES = 3
"""Fewer values along borders may be classes of thin lines, such as a membrane or a contour."""


def find_artifact_values(context: CheckContext) -> set[int]:
    """Return the values that JPEG or interpolation created where no classes are declared.

    They are those that no valid mask contains: some of them occur at corners, and not between other values.
    """
    if context.has_declared_classes or context.classes.ranges:
        return set()
    between = _find_between_values(context)
    valid, damaged = set[int](), set[int]()
    for s in context.stats:
        (damaged if _is_jpeg(context, s) or between & set(s.value_counts) else valid).update(s.value_counts)
    return damaged - valid if valid else between


def _is_jpeg(context: CheckContext, stats: SampleStats) -> bool:
    """Return whether JPEG changed the values of a mask, and no range of values or threshold repairs them."""
    is_repaired = context.soft_values or (context.classes.ranges and not context.classes.label_mapping)
    return stats.mask_file.format == "JPEG" and not is_repaired and not context.mask_values <= {0, 255}


def _check_jpeg(context: CheckContext) -> Iterator[Finding]:
    files = context.list_masks(s for s in context.stats if _is_jpeg(context, s))
    fix = "Create the masks again from their source and save them as PNG: the lost values cannot be restored."
    yield from report_files("jpeg_mask", files, "mask", "saved as JPEG, which changes class indices", fix)


def _find_unlisted(context: CheckContext, stats: SampleStats) -> list[int]:
    """Return the values that neither a class nor `ignore` lists, except in JPEG masks, which have their own finding."""
    return (
        []
        if _is_jpeg(context, stats)
        else sorted(v for v in stats.value_counts if context.classes.get_label(v) is None)
    )


def _is_interpolated(context: CheckContext, stats: SampleStats) -> bool:
    """Return whether nearly all pixels of unlisted values have smaller and larger neighbors.

    A single value may instead be a class that was not listed.
    """
    unlisted = _find_unlisted(context, stats)
    between = sum(stats.between_counts.get(value, 0) for value in unlisted)
    total = sum(stats.value_counts[value] for value in unlisted)
    return len(unlisted) > 1 and between >= MIN_BETWEEN_SHARE * total


def _find_between_values(context: CheckContext) -> set[int]:
    """Return rare values that occur only between two others, if there are many, where no classes are declared."""
    total, between = Counter[int](), Counter[int]()
    for s in context.stats:
        if not _is_jpeg(context, s):
            total.update(s.value_counts)
            between.update(s.between_counts)
    max_pixels = MAX_RARE_SHARE * sum(total.values())
    values = {v for v in between if total[v] < max_pixels and between[v] >= MIN_BETWEEN_SHARE * total[v]}
    return values if len(values) >= MIN_BETWEEN_VALUES else set()


def _check_interpolation(context: CheckContext) -> Iterator[Finding]:
    if not context.classes.names or context.soft_values or context.has_object_numbers or context.classes.ranges:
        return  # for pictures, see _check_class_count
    if context.has_declared_classes:
        wrong = [s for s in context.stats if _is_interpolated(context, s)]
        values = {value for s in wrong for value in _find_unlisted(context, s)}
    else:
        values = _find_between_values(context)
        wrong = [s for s in context.stats if values & set(s.value_counts)]
    problem = (
        f"resized with interpolation: {len(values)} values occur only along borders, between the values of both sides"
    )
    fix = "Resize the original masks again with nearest-neighbor interpolation: the lost values cannot be restored."
    yield from report_files("interpolated_mask", context.list_masks(wrong), "mask", problem, fix)


def _check_unlisted_values(context: CheckContext) -> Iterator[Finding]:
    wrong = [s for s in context.stats if _find_unlisted(context, s) and not _is_interpolated(context, s)]
    if wrong and context.classes.names and not context.is_misread:
        unlisted = sorted({value for s in wrong for value in _find_unlisted(context, s)})
        values, fix = describe_unlisted_values(unlisted, context.classes)
        if context.classes.coding == "index" and max(unlisted) < 0:
            lines = _suggest_ignored(context, unlisted)
            replaced = _format_replaced(context, lines)
            fix = f"If they mark pixels without a label, write this into {context.description_file}{replaced}:\n{lines}"
        problem = f"with {values}, which no class has"
        yield from report_files("unlisted_values", context.list_masks(wrong), "mask", problem, fix)


def _suggest_ignored(context: CheckContext, values: Sequence[int]) -> str:
    """Return the keys to paste into dataset.yaml."""
    given = context.dataset.description.ignore or ()
    lines = [format_key("ignore", [*given, *values])]
    if not context.has_declared_classes:
        names, mapping = context.classes.names, dict(context.classes.label_mapping)
        lines = [format_key("names", list(names)), format_key("label_mapping", mapping), *lines]
    return "\n".join(lines)


_BINARY_LINE = format_key("names", list(BINARY_NAMES))


def _check_soft_edges(context: CheckContext) -> Iterator[Finding]:
    values = context.soft_values
    if values is None:
        return
    soft = [s for s in context.stats if any(value >= 0 and value not in values for value in s.value_counts)]
    others = {value for s in soft for value in s.value_counts if value >= 0} - set(values)
    shown = f"{', '.join(map(str, values[:-1]))} and {values[-1]}"
    problem = f"with soft edges: {len(others)} values besides {shown}, along borders only"
    lines = _suggest_ranges(context, values)
    fix = f"Write this into {context.description_file}{_format_replaced(context, lines)}:\n{lines}"
    if len(values) > 2:
        fix = f"Use the original masks if they exist: in these, pixels on a border may get a class in between. {fix}"
    yield from report_files("soft_masks", context.list_masks(soft), "mask", problem, fix)


def _suggest_ranges(context: CheckContext, values: Sequence[int]) -> str:
    """Return the keys to paste into dataset.yaml."""
    mapped, highest = sorted(context.dataset.mapped_values), max(context.mask_values)
    if len(mapped) == len(values):  # they may be in any order, and replace the old mapping
        description = describe_soft(mapped, highest, [context.classes.label_mapping[value] for value in mapped])
    else:
        description = describe_soft(values, highest)
    names = list(description.names or BINARY_NAMES)
    lines = [] if context.has_declared_classes else [format_key("names", names)]
    if description.label_mapping is None:
        return "\n".join([*lines, f"threshold: {description.threshold}"])
    pairs = [f"{limits}: {label}" for limits, label in description.label_mapping.items()]
    return "\n".join([*lines, f"label_mapping: {{{', '.join(pairs)}}}"])


def _format_replaced(context: CheckContext, lines: str) -> str:
    """Return which keys of dataset.yaml are replaced by the suggested lines, if any."""
    given = [key for key in context.dataset.description.class_keys if f"\n{key}:" in f"\n{lines}"]
    return f", instead of its {format_names([repr(key) for key in given])}" if given else ""


def _check_object_numbers(context: CheckContext) -> Iterator[Finding]:
    if context.has_object_numbers:
        numbered = [s for s in context.stats if list_numbers(s)]
        files, highest = context.list_masks(numbered), max(max(list_numbers(s)) for s in numbered)
        problem = f"with numbers of objects, up to {highest}, instead of class ids"
        lines = _suggest_object_description(context)
        replaced = _format_replaced(context, lines)
        fix = (
            f"If the numbers are classes, write 'mask_type: semantic' into {context.description_file}. To train on one "
            f"class of objects, write this into it instead{replaced}:\n{lines}"
        )
        yield from report_files("instance_masks", files, "mask", problem, fix)


def _suggest_object_description(context: CheckContext) -> str:
    """Return the keys to paste into dataset.yaml."""
    description = describe_objects(context.stats)
    lines = [] if context.has_declared_classes and len(context.classes.names) == 2 else [_BINARY_LINE]
    if description.label_mapping:
        mapping = {v if isinstance(v, int) else str(v): label for v, label in description.label_mapping.items()}
        lines.append(format_key("label_mapping", mapping))
    else:
        lines.append("mask_type: instances")
    return "\n".join([*lines, *["ignore: 255"] * bool(description.ignore)])


def _check_nodata(context: CheckContext) -> Iterator[Finding]:
    """Find masks whose nodata value may be a class: programs often declare the background as missing data."""
    masks: dict[int, list[SampleStats]] = defaultdict(list)
    for s in context.stats:
        for value in map(int, filter(float.is_integer, s.mask_file.nodata)):
            if NO_LABEL in s.value_counts and value not in context.dataset.mapped_values:
                masks[value].append(s)
    labeled = sorted(filter(context.classes.is_class_value, context.mask_values - {NO_LABEL}))
    for value, found in masks.items():
        if context.has_declared_classes:
            names, mapping = list(context.classes.names), dict(context.classes.label_mapping)
            is_class = mapping.get(value) is not None
        else:
            values = sorted({value, *(labeled or [v for v in context.mask_values if v > 0])})
            names = list(BINARY_NAMES) if len(values) == 2 else [f"class_{i}" for i in range(len(values))]
            mapping = {v: i for i, v in enumerate(values)}
            is_class = value == 0 or len(values) == 2
        if is_class:
            lines = f"{format_key('names', names)}\n{format_key('label_mapping', mapping)}"
            problem = f"in which {value} is declared as missing data (GDAL_NODATA), so these pixels are ignored"
            replaced = _format_replaced(context, lines)
            fix = (
                f"If {value} is a class, such as the background, write this into "
                f"{context.description_file}{replaced}:\n{lines}"
            )
            yield from report_files("mask_nodata", context.list_masks(found), "mask", problem, fix)


def _check_all_ignored(context: CheckContext) -> Iterator[Finding]:
    empty = [s for s in context.stats if s.value_counts and not context.find_labels(s)]
    files = context.list_masks(s for s in empty if context.classes.names and not _find_unlisted(context, s))
    fix = "Label them, or remove the images and masks."
    yield from report_files("all_ignored", files, "mask", "in which all pixels are ignored", fix)


def _check_class_count(context: CheckContext) -> Iterator[Finding]:
    values, names = context.mask_values, context.classes.names
    if len(values) > MAX_FOUND_CLASSES and not names:
        message = f"The masks contain {len(values)} different values, too many to be classes."
        fix = (
            "Check that the masks are not photos. If they are masks, list the 'names' of their classes in "
            f"{context.description_file}."
        )
        yield make_finding("no_classes", (), message, fix)
    elif values and not any(map(context.classes.is_class_value, values)):
        fix = f"Label some pixels, or map their values by 'label_mapping' in {context.description_file}."
        yield make_finding("no_classes", (), "No mask contains a pixel of any class.", fix)
    elif len(names) == 1:
        message = f"There is only one class, {names[0]!r}, so there is nothing to distinguish."
        yield make_finding("single_class", (), message, "Label at least two classes, for example a background.")
    elif has_single_class(context):
        (index,) = find_training_classes(context)
        message = f"The training masks contain only class {names[index]!r}, so there is nothing to distinguish."
        fix = (
            "Label the other classes. If they are labeled, check that the labels are where the format expects them, "
            "and that their values are those of the classes."
        )
        yield make_finding("single_class", (), message, fix)


def has_single_class(context: CheckContext) -> bool:
    """Return whether only one of several classes occurs in training, and no unread mask or value can be another."""
    train = set(context.splits["train"])
    are_known = all(not s.mask_error and not _find_unlisted(context, s) for s in context.stats if s.sample in train)
    return are_known and not is_foreground_ignored(context) and len(find_training_classes(context)) == 1


def find_training_classes(context: CheckContext) -> set[int]:
    """Return the classes that occur in the training masks."""
    train, classes = set(context.splits["train"]), context.classes
    counts = [s.value_counts for s in context.stats if s.sample in train]
    found = {classes.get_label(value) for c in counts for value, pixels in c.items() if pixels}
    return {label for label in found if label is not None} - {classes.ignore_index}


def _check_ignored_foreground(context: CheckContext) -> Iterator[Finding]:
    if is_foreground_ignored(context):
        name = context.classes.names[1]
        message = f"The masks contain 0 and 255, but 255 is ignored, so class {name!r} does not occur."
        fix = f"Write 'label_mapping: {{0: 0, 255: 1}}' into {context.description_file}."
        yield make_finding("foreground_ignored", (), message, fix)


def is_foreground_ignored(context: CheckContext) -> bool:
    """Return whether two declared classes have masks of 0 and 255, where 255 counts as ignored instead of class 1."""
    is_binary = len(context.classes.names) == 2 and context.classes.coding == "index"
    return is_binary and context.mask_values == {0, 255} and 255 in context.classes.ignore


def _check_undeclared_classes(context: CheckContext) -> Iterator[Finding]:
    classes = context.classes
    if context.has_declared_classes or not classes.names or classes.ranges:
        return
    if 255 in classes.label_mapping:
        message = "The masks contain 0 and 255. They are read as background and foreground."
        fix = (
            f"To name them, write this into {context.description_file}, with your own names:\n"
            "names: [background, foreground]\nlabel_mapping: {0: 0, 255: 1}"
        )
        yield make_finding("binary_masks", (), message, fix)
    else:
        pairs = ", ".join(f"{v} → {i}" for v, i in list(classes.label_mapping.items())[:12])
        more = ", ..." if len(classes.label_mapping) > 12 else ""
        message = f"No classes are named: mask values became class indices ({pairs}{more}), and 255 is ignored."
        fix = f"To choose the classes, list their 'names' in {context.description_file}."
        yield make_finding("ids_compacted", (), message, fix)


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
        problem = f"in {format_count(len(total), 'color')}, which no class has"
        yield from report_files(
            "color_masks", files, "mask", problem, _suggest_description(total, context.description_file)
        )
    elif colored:
        message = f"{format_names(files)}: The mask is an RGB image, but the classes are not defined by color."
        fix = (
            f"List 'names' and 'colors' in {context.description_file}, or save masks with class indices in one channel."
        )
        yield make_finding("unreadable_mask", files, message, fix)


def _suggest_description(total: Counter[int], file: str) -> str:
    """Return the keys to paste into a file."""
    kept = list(total)
    head = f"Write this into {file}, with your own names:"
    if len(total) > MAX_COLORS:
        min_pixels = MIN_COLOR_SHARE * total.total()
        kept = [color for color, pixels in total.most_common(MAX_COLORS) if pixels >= min_pixels]
        head = (
            f"This many colors are the result of JPEG compression or interpolation: save the original masks "
            f"again as PNG. Then write this into {file}, with the {len(kept)} most frequent colors:"
        )
    values = {(v >> 16 & 255, v >> 8 & 255, v & 255): f"class_{index}" for index, v in enumerate(sorted(kept))}
    if BLACK in values:  # nearly always the background
        values[BLACK] = "background"
    light = {name: color for color, name in values.items() if color == BLACK or is_light(color)}
    colors = [list(color) for color in choose_colors(list(values.values()), light)]
    lines = [f"names: [{', '.join(values.values())}]", f"colors: {colors}", "coding: rgb"]
    if len(light) < len(values):  # the mask's own colors would blacken photos
        mapped = ", ".join(f'"{", ".join(map(str, color))}": {name}' for color, name in values.items())
        lines.append(f"label_mapping: {{{mapped}}}")
    return "\n".join([head, *lines])


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
    names = {value: classes.names[index] for value, index in classes.label_mapping.items()} | dict(swapped)
    line = format_key("label_mapping", dict(sorted(names.items())))
    fix = f"If the colors are right, write this into {context.description_file}:\n{line}"
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


MIN_COMPARED_MASKS = 6
"""Fewer masks may be similar by chance."""
MAX_COMPARED_VALUES = 64
"""Masks with more values are pictures, or have object numbers."""
MIN_OVERLAP = 0.9
"""Least overlap (IoU) of most masks with what is usual at each point, without the most frequent value."""


def _check_similar_masks(context: CheckContext) -> Iterator[Finding]:
    """Report if nearly all masks show the same area, as those of a field of view do."""
    masks = [s for s in context.stats if s.mask_grid.size and len(s.value_counts) > 1]
    if len(masks) < MIN_COMPARED_MASKS:
        return
    grids = np.stack([s.mask_grid for s in masks])
    values = np.unique(grids)
    if len(values) > MAX_COMPARED_VALUES:
        return
    counts = np.stack([(grids == value).sum(0) for value in values])
    usual, largest = values[counts.argmax(0)], values[counts.sum(1).argmax()]
    equal, union = (grids == usual) & (grids != largest), (grids != largest) | (usual != largest)
    overlaps = equal.sum(1) / np.maximum(union.sum(1), 1)
    same = [s for s, overlap in zip(masks, overlaps, strict=True) if overlap >= MIN_OVERLAP]
    if len(same) >= MIN_OVERLAP * len(masks):
        files = context.list_masks(same)
        fix = (
            "If they show which pixels are valid (a field of view), write their folder into "
            f"{context.description_file} as 'ignore_masks' and that of the real masks as 'masks'. If the camera does "
            "not move, they can stay."
        )
        yield from report_files("similar_masks", files, "mask", "that are nearly the same for all images", fix)


CHECKS: tuple[Check, ...] = (
    _check_sizes,
    _check_jpeg,
    _check_interpolation,
    _check_unlisted_values,
    _check_soft_edges,
    _check_object_numbers,
    _check_nodata,
    _check_all_ignored,
    _check_class_count,
    _check_ignored_foreground,
    _check_undeclared_classes,
    _check_rgb_masks,
    _check_differing_palettes,
    _check_palette_order,
    _check_palettes_among_rgb,
    _check_alpha,
    _check_similar_masks,
)
