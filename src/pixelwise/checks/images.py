"""Checks of the images: channels, pixel types and values, compared with the rest of the dataset."""

from collections.abc import Callable, Iterator, Sequence

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_names, make_finding, report_files
from pixelwise.data.sample_stats import SampleStats


def _check_channels(context: CheckContext) -> Iterator[Finding]:
    expected = context.dataset.channels
    accepted = {expected, 1} if expected == 3 else {expected}
    if odd := [s for s in context.decoded_images if s.channels not in accepted]:
        yield _report_mix(context, odd, f"{expected} channels", lambda s: f"{s.channels}", "mixed_channels")
    gray = [s for s in context.decoded_images if s.channels == 1 and expected == 3]
    fix = "They are repeated to 3 channels. If they should be in color, replace them."
    yield from report_files("gray_repeated", context.list_images(gray), "gray image", "among RGB images", fix)
    files = context.list_images(s for s in context.decoded_images if s.alpha_dropped)
    fix = "The alpha channel is not used. Nothing needs to be done."
    yield from report_files("alpha_dropped", files, "image", "with a constant alpha channel", fix)


def _check_types(context: CheckContext) -> Iterator[Finding]:
    types = sorted(s.dtype for s in context.decoded_images)
    usual = max(types, key=types.count, default="")
    if odd := [s for s in context.decoded_images if s.dtype != usual]:
        yield _report_mix(context, odd, f"{usual} pixels", lambda s: s.dtype, "mixed_bit_depth")


def _report_mix(
    context: CheckContext, odd: Sequence[SampleStats], expected: str, get: Callable[[SampleStats], str], code: str
) -> Finding:
    """Report images that differ from the others in a way that training does not allow."""
    files = context.list_images(odd)
    found = ", ".join(sorted({get(s) for s in odd}))
    verb = "has" if len(files) == 1 else "have"
    message = f"images should have {expected}, but {len(files)} of them {verb} {found}: {format_names(files)}."
    return make_finding(code, files, message, "Convert them to the format of the other images.")


def _check_values(context: CheckContext) -> Iterator[Finding]:
    nonfinite = [s for s in context.decoded_images if s.num_nonfinite]
    problem = f"with NaN or infinite values ({sum(s.num_nonfinite for s in nonfinite):,} in total)"
    fix = "Replace them by a number and mark the pixels as ignored in the masks: one NaN makes the loss NaN."
    yield from report_files("not_finite", context.list_images(nonfinite), "image", problem, fix)
    files = context.list_images(s for s in context.decoded_images if s.is_constant)
    fix = "Replace the images, or remove them with their masks."
    yield from report_files("constant_image", files, "image", "with the same value in all pixels", fix)


CHECKS: tuple[Check, ...] = (_check_channels, _check_types, _check_values)
