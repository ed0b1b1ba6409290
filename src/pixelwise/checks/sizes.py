"""Check that a mask has the size of its image."""

from collections import defaultdict
from collections.abc import Iterator

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, report_files
from pixelwise.data.io.file_info import read_orientation
from pixelwise.data.sample_stats import SampleStats

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
    image, mask = (read_orientation(path) for path in (stats.sample.image_path, stats.sample.label_path))
    return "exif_rotation" if (image in swapping) != (mask in swapping) else "transposed_mask"


def _format_sizes(context: CheckContext, stats: SampleStats) -> str:
    assert stats.size is not None
    assert stats.mask_size is not None
    (height, width), (mask_height, mask_width) = stats.size, stats.mask_size
    return f"{context.list_masks([stats])[0]} is {mask_height}x{mask_width}, but its image is {height}x{width}"


CHECKS: tuple[Check, ...] = (_check_sizes,)
