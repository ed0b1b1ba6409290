"""Whether the images are of one kind, and each like the others."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.checks.outliers import MIN_VALUES, is_consistent, reversed_ones
from pixelwise.data.scan import Reading


def _channels(case: Case) -> Iterator[Finding]:
    wanted = case.surveyed.dataset.channels
    legal = {wanted, 1} if wanted == 3 else {wanted}
    if odd := [r for r in case.images if r.channels not in legal]:
        yield _odd(case, odd, f"{wanted} channels", lambda r: f"{r.channels}", "mixed_channels")
    if gray := case.image_names(r for r in case.images if r.channels == 1 and wanted == 3):
        message = f"{count(len(gray), 'gray image')} among RGB ones: {some(gray)}."
        yield finding("gray_repeated", gray, message, "Gray is repeated to 3 channels: nothing to do, if it is meant.")
    if files := case.image_names(r for r in case.images if r.alpha_dropped):
        message = f"{count(len(files), 'image')} with a constant alpha channel: {some(files)}."
        yield finding("alpha_dropped", files, message, "It is dropped: nothing to do.")


def _types(case: Case) -> Iterator[Finding]:
    types = sorted(r.dtype for r in case.images)
    most = max(types, key=types.count, default="")
    if odd := [r for r in case.images if r.dtype != most]:
        yield _odd(case, odd, f"{most} pixels", lambda r: r.dtype, "mixed_bit_depth")


def _odd(case: Case, odd: Sequence[Reading], wanted: str, kind: Callable[[Reading], str], code: str) -> Finding:
    """A mix that cannot be trained on; the files named are those unlike the others."""
    files = case.image_names(odd)
    kinds = ", ".join(sorted({kind(r) for r in odd}))
    message = f"images should have {wanted}, but {len(files)} of them {_have(len(files))} {kinds}: {some(files)}."
    return finding(code, files, message, "Convert them, so that all are of one kind.")


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _values(case: Case) -> Iterator[Finding]:
    if files := case.image_names(r for r in case.images if r.image_traits.not_finite):
        number = sum(r.image_traits.not_finite for r in case.images)
        message = f"{count(len(files), 'image')} with NaN or infinite values ({number:,} in all): {some(files)}."
        fix = "One of them makes every weight NaN: replace them by a number, and ignore these pixels in the masks."
        yield finding("not_finite", files, message, fix)
    if files := case.image_names(r for r in case.images if r.constant):
        message = f"{count(len(files), 'image')} of a single value: {some(files)}."
        yield finding("constant_image", files, message, "Replace them, or remove the pairs.")


def _swapped_channels(case: Case) -> Iterator[Finding]:
    """Where red exceeds blue is much the same in all images of a set: sky above, skin, stain or soil.

    Each image's small map of red minus blue is compared with the median map. The cosine of an image
    with red and blue exchanged is the negative of what it should be.
    """
    colored = [r for r in case.images if r.image_traits.red_minus_blue.any()]
    if len(colored) < MIN_VALUES:
        return
    maps = np.stack([r.image_traits.red_minus_blue for r in colored])
    typical = np.median(maps, axis=0)
    cosines = maps @ typical / (np.linalg.norm(maps, axis=1) * max(float(np.linalg.norm(typical)), 1e-9))
    odd = [r for r, wrong in zip(colored, reversed_ones(cosines, 0.02), strict=True) if wrong]
    if files := case.image_names(odd):
        what = f"{count(len(files), 'image')} whose colors fit the others only with red and blue exchanged"
        fix = "Look at them: OpenCV reads and writes BGR. Exchange the channels of these files."
        yield finding("swapped_channels", files, f"{what}: {some(files)}.", fix)


def _inverted_masks(case: Case) -> Iterator[Finding]:
    """Where two classes differ in brightness, an inverted mask has the difference the wrong way round.

    Where they do not, their shares of the area may still be exchanged.
    """
    low, high = _two_values(case) or (0, 0)
    both = [r for r in case.readings if r.mask_traits.gray.keys() == {low, high}]
    contrast = np.array([r.mask_traits.gray[high] - r.mask_traits.gray[low] for r in both])
    share = np.array([r.values[high] / (r.values[high] + r.values[low]) for r in both])
    floor = 0.02 * float(np.abs(contrast).max(initial=0.0))
    wrong = reversed_ones(contrast, floor) if is_consistent(contrast, floor) else reversed_ones(share - 0.5, 0.02)
    if files := case.mask_names(r for r, is_wrong in zip(both, wrong, strict=True) if is_wrong):
        message = f"{count(len(files), 'mask')} with the two classes exchanged against the others: {some(files)}."
        yield finding("inverted_mask", files, message, "Look at them, and exchange the values if so.")


def _two_values(case: Case) -> tuple[int, int] | None:
    values = sorted({value for r in case.readings for value in r.values} & set(case.classes.label_mapping))
    return (values[0], values[1]) if len(values) == 2 else None


LOOKS: tuple[Look, ...] = (_channels, _types, _values, _swapped_channels, _inverted_masks)
