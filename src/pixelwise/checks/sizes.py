"""Whether a mask is as large as its image, and if not, why."""

from collections import defaultdict
from collections.abc import Iterator

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.data.io.file_info import read_orientation
from pixelwise.data.scan import Reading

_ABOUT = {
    "size_mismatch": ("of another size than the image", "Save both at one size."),
    "exif_rotation": (
        "as large as the image before its EXIF rotation, which Pixelwise applies",
        "Rotate the masks as the images show, or save images and masks without the EXIF tag, both upright.",
    ),
    "transposed_mask": (
        "with height and width exchanged",
        "Save the masks with rows and columns exchanged; many libraries give (width, height) arrays.",
    ),
}


def _mismatches(case: Case) -> Iterator[Finding]:
    found: dict[str, list[Reading]] = defaultdict(list)
    for r in case.readings:
        if r.size and r.mask_size and r.size != r.mask_size:
            found[_cause(r)].append(r)
    for code, (what, fix) in _ABOUT.items():
        if wrong := found[code]:
            shown = [_sizes(case, r) for r in wrong]
            message = f"{count(len(wrong), 'mask')} {what}: {some(shown)} (height x width)."
            files = [*case.image_names(wrong), *case.mask_names(wrong)]
            yield finding(code, sorted(files), message, fix)


def _cause(reading: Reading) -> str:
    if reading.size != (reading.mask_size or ())[::-1]:
        return "size_mismatch"
    turned = (5, 6, 7, 8)  # orientations that exchange height and width
    image, mask = (read_orientation(path) for path in (reading.sample.image_path, reading.sample.label_path))
    return "exif_rotation" if (image in turned) != (mask in turned) else "transposed_mask"


def _sizes(case: Case, reading: Reading) -> str:
    assert reading.size is not None
    assert reading.mask_size is not None
    (height, width), (mask_height, mask_width) = reading.size, reading.mask_size
    return f"{case.mask_names([reading])[0]} is {mask_height}x{mask_width}, but its image is {height}x{width}"


LOOKS: tuple[Look, ...] = (_mismatches,)
