"""Checks of the images: channels, pixel types and values, compared with the rest of the dataset."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_names, make_finding, report_files
from pixelwise.data.io.images import Array
from pixelwise.data.io.nodata import ALL_DATA, format_values
from pixelwise.data.sample_stats import (
    MIN_OUTLIER_ISOLATION,
    MIN_REPEATED,
    SampleStats,
    compute_isolation,
    min_isolation,
)
from pixelwise.errors import format_count


def _check_channels(context: CheckContext) -> Iterator[Finding]:
    expected = context.dataset.channels
    accepted = {expected, 1} if expected == 3 else {expected}
    if odd := [s for s in context.decoded_images if s.channels not in accepted]:
        yield _report_mix(
            context, odd, format_count(expected or 0, "channel"), lambda s: f"{s.channels}", "mixed_channels"
        )
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
    message = f"Images should have {expected}, but {len(files)} of them {verb} {found}: {format_names(files)}."
    return make_finding(code, files, message, "Convert them to the format of the other images.")


def _check_constant_images(context: CheckContext) -> Iterator[Finding]:
    files = context.list_images(s for s in context.decoded_images if s.is_constant)
    fix = "Replace the images, or remove them with their masks."
    yield from report_files("constant_image", files, "image", "with the same value in all pixels", fix)


def _check_missing_data(context: CheckContext) -> Iterator[Finding]:
    """Find values of missing data that neither the files nor dataset.yaml declare."""
    nonfinite = [s for s in context.decoded_images if s.nonfinite_counts]
    names = sorted({name for s in nonfinite for name in s.nonfinite_counts})
    values = _find_undeclared_nodata(context)
    num_channels = context.dataset.channels or 0
    line = f"'nodata: {(context.dataset.nodata or ALL_DATA).format([*values, *map(float, names)], num_channels)}'"
    total = sum(sum(s.nonfinite_counts.values()) for s in nonfinite)
    problem = f"with NaN or infinite values ({total:,} in total)"
    fix = (
        f"If they mark missing data, write {line} into {context.description_file}. Otherwise repair them: one makes "
        f"the loss NaN."
    )
    yield from report_files("not_finite", context.list_images(nonfinite), "image", problem, fix)
    affected = [s for s in context.decoded_images if s.suspects.keys() & set(values)]
    problem = f"with the value {format_values(values)}, far from all others, which no file declares as missing data"
    fix = f"Write {line} into {context.description_file}. If the value is data, write 'nodata: []'."
    yield from report_files("undeclared_nodata", context.list_images(affected), "image", problem, fix)


def _find_undeclared_nodata(context: CheckContext) -> list[float]:
    """Return the suspect values that are far from the ordinary values of the dataset, in each of their channels."""
    if context.dataset.nodata == ALL_DATA:
        return []  # dataset.yaml says that every value is data
    images = [s for s in context.decoded_images if s.dtype == "float32"]
    num_channels = max((s.channels for s in images), default=0)
    low, high = np.full(num_channels, np.inf), np.full(num_channels, -np.inf)
    counts: dict[float, Array] = {}
    for s in images:
        low[: s.channels] = np.minimum(low[: s.channels], s.low)
        high[: s.channels] = np.maximum(high[: s.channels], s.high)
        for value, found in s.suspects.items():
            counts.setdefault(value, np.zeros(num_channels, np.int64))[: s.channels] += found
    values = []
    for value, found in sorted(counts.items(), key=lambda item: abs(item[0])):
        channels = np.flatnonzero(found)
        isolation = min(compute_isolation(value, low[c], high[c]) for c in channels)
        if isolation >= min_isolation(value) and (found.sum() >= MIN_REPEATED or isolation >= MIN_OUTLIER_ISOLATION):
            values.append(value)
        else:  # data, which closes the gap to values beyond it
            low[channels] = np.minimum(low[channels], value)
            high[channels] = np.maximum(high[channels], value)
    return sorted(values)


CHECKS: tuple[Check, ...] = (_check_channels, _check_types, _check_constant_images, _check_missing_data)
