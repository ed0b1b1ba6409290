"""Check the places of images and masks on the map, for files that have a georeference."""

from collections.abc import Iterator

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, report_files
from pixelwise.data.io.tiff import Georeference
from pixelwise.data.sample_stats import SampleStats
from pixelwise.shapes import Size

_MAX_SHIFT = 0.51
"""Largest distance of two corners in pixels. Programs disagree on whether coordinates are those of a pixel's center."""


def _check_places(context: CheckContext) -> Iterator[Finding]:
    wrong, items = [], []
    for s in context.stats:
        image, mask = s.image_file.georeference, s.mask_file.georeference
        if image and mask and s.size and s.mask_size and _are_apart(image, s.size, mask, s.mask_size):
            wrong.append(s)
            of_image, of_mask = _describe(image, s.size), _describe(mask, s.mask_size)
            parts = [i for i, (one, other) in enumerate(zip(of_image, of_mask, strict=True)) if i < 1 or one != other]
            at_image, at_mask = (", ".join(described[i] for i in parts) for described in (of_image, of_mask))
            items.append(f"{context.list_masks([s])[0]} is at {at_mask}, but its image at {at_image}")
    if wrong:
        image_file, mask_file = context.list_images(wrong[:1])[0], context.list_masks(wrong[:1])[0]
        unused = next(value for value in range(255, -1, -1) if value not in context.classes.label_mapping)
        fix = (
            f"Bring each mask to the grid of its image, for example with 'rio warp {mask_file} new.tif --like "
            f"{image_file} --resampling nearest --src-nodata {unused} --dst-nodata {unused}' (pip install rasterio): "
            f"new.tif replaces the mask, and pixels that it did not cover are ignored. If the masks fit their images "
            f"pixel by pixel, their georeference is wrong: save them as PNG, which has none."
        )
        files = sorted([*context.list_images(wrong), *context.list_masks(wrong)])
        yield from report_files("misplaced_mask", files, "mask", "at another place on the map", fix, items=items)


def _are_apart(image: Georeference, size: Size, mask: Georeference, mask_size: Size) -> bool:
    """Return whether two files have other coordinate systems or corners, after flipping one that is south-up."""
    if image.epsg and mask.epsg and image.epsg != mask.epsg:
        return True
    mask = mask.flip(image.find_flips(mask), mask_size)
    pairs = zip(image.compute_corners(size), mask.compute_corners(mask_size), strict=True)
    max_distance = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
    return bool(max_distance > _MAX_SHIFT * image.pixel_area**0.5)


def _describe(georeference: Georeference, size: Size) -> tuple[str, str, str]:
    """Describe two opposite corners, the size of a pixel and the coordinate system."""
    corners = [georeference.to_map(0, 0), georeference.to_map(size[1], size[0])]
    first, last = (f"({x:.9g}, {y:.9g})" for x, y in corners)
    width, height = abs(georeference.x[0] + georeference.x[1]), abs(georeference.y[0] + georeference.y[1])
    system = f"EPSG:{georeference.epsg}" if georeference.epsg else "an unknown coordinate system"
    return f"{first} to {last}", f"in pixels of {width:.6g} x {height:.6g}", f"in {system}"


def _check_flips(context: CheckContext) -> Iterator[Finding]:
    files = context.list_masks(s for s in context.stats if _is_flipped(s))
    problem = "whose first row or column is at the other end of the map than that of the image, such as south-up"
    fix = "They are flipped, as both files say. Nothing needs to be done."
    yield from report_files("flipped_mask", files, "mask", problem, fix)


def _is_flipped(stats: SampleStats) -> bool:
    image, mask = stats.image_file.georeference, stats.mask_file.georeference
    return bool(image and mask and image.find_flips(mask))


CHECKS: tuple[Check, ...] = (_check_places, _check_flips)
