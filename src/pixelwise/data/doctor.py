"""Finds what is wrong with a data set before training does: `pixelwise check`.

Codes are stable. `error`: training would be wrong or fail; `warning`: look at it; `note`: described.

    missing_mask        error    an image has no mask
    orphan_mask         warning  a mask has no image
    same_stem           error    files such as a.jpg and a.png, whose partner is ambiguous
    outside_splits      error    a file lies beside the split folders, so no split reads it
    foreign_file        warning  a file among images and masks that is neither
    too_few_pairs       error    nothing to train on, or nothing to validate on
    unreadable_image    error    an image cannot be decoded, or its alpha channel varies
    unreadable_mask     error    a mask cannot be decoded, or is not a mask
    size_mismatch       error    image and mask differ in size
    unlisted_values     error    mask values that dataset.yaml does not list
    no_classes          error    no mask shows a class, or masks are pictures of countless values
    single_class        error    one class alone: nothing to tell apart
    foreground_ignored  error    two classes over masks of 0 and 255, of which 255 is ignored
    jpeg_mask           error    masks saved as JPEG, which changes ids to their neighbors
    mixed_channels      error    images unlike most, or unlike `channels` (gray beside RGB: a note)
    mixed_bit_depth     error    8-bit and 16-bit images in one set
    all_ignored         warning  a mask without a pixel to learn from
    constant_image      warning  an image of one value
    class_unused        warning  a named class that occurs nowhere
    class_not_in_train  warning  a class that occurs in val or test, but not in train
    class_not_in_split  warning  a class that val or test never show, so it is not measured there
    binary_masks        note     masks of 0 and 255, read as background and foreground
    ids_compacted       note     no dataset.yaml: mask values became classes in ascending order
    alpha_dropped       note     a constant alpha channel was dropped
    gray_repeated       note     gray images among RGB ones are repeated to 3 channels
    split_made          note     no val split: a seeded one is made
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pixelwise.data.dataset import DataSet, open_dataset, unlisted_message
from pixelwise.data.images import ENDINGS, write_atomically
from pixelwise.data.sample import SPLITS
from pixelwise.data.splits import Splits, make_splits, own_splits
from pixelwise.data.survey import MAX_FOUND_CLASSES, Reading, Survey, survey
from pixelwise.errors import DataError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    code: str
    severity: Severity
    files: tuple[str, ...]
    """Relative to the data set's root; only those that show the fault."""
    message: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "files": list(self.files),
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `pixelwise check` answers."""

    layout: str
    num_images: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    findings: tuple[Finding, ...]
    surveyed: Survey | None = field(default=None, repr=False, compare=False)
    """What the findings were read from, for whoever shows it; it is no part of the answer."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        return {
            "layout": self.layout,
            "num_images": self.num_images,
            "classes": list(self.classes),
            "splits": self.splits,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check(data: str | Path, *, layout: str | None = None, json_path: str | Path | None = None) -> CheckReport:
    """Reads every file of a data set and says what is wrong with it, by name, with the cure.

    `json_path` receives the report as JSON whatever it says. Raises DataError where there is no
    data set at all.
    """
    dataset = open_dataset(data, layout)
    surveyed = survey(dataset, dataset.samples)
    report = diagnose(surveyed)
    if json_path:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(Path(json_path), text.encode())
    return report


def diagnose(surveyed: Survey) -> CheckReport:
    """All findings of what a survey has seen, errors first."""
    dataset = surveyed.dataset
    splits, split_findings = _splits(dataset)
    findings = [finding for look in _LOOKS for finding in look(surveyed, splits)]
    order = {"error": 0, "warning": 1, "note": 2}
    return CheckReport(
        layout=dataset.layout,
        num_images=len(dataset.samples) + len(dataset.pairing.images_without_mask),
        classes=dataset.classes.names if dataset.classes else (),
        splits={name: len(samples) for name, samples in splits.items() if samples},
        findings=tuple(sorted(findings + split_findings, key=lambda f: order[f.severity])),
        surveyed=surveyed,
    )


def require_sound(surveyed: Survey, *, overruled: Callable[[Finding], bool] = lambda error: False) -> CheckReport:
    """The report, if nothing in it forbids training; else DataError with the first errors.

    `overruled` tells of an error whether to train in spite of it.
    """
    report = diagnose(surveyed)
    if errors := [error for error in report.errors if not overruled(error)]:
        lines = [f"{f.message} {f.fix}" for f in errors[:5]]
        more = len(errors) - len(lines)
        tail = [f"(and {more} more)"] if more else []
        where = f"All findings: pixelwise check {surveyed.dataset.root}. To train on what is sound: --force."
        raise DataError("\n".join([*lines, *tail, where]))
    return report


def _splits(dataset: DataSet) -> tuple[Splits, list[Finding]]:
    try:
        splits, note = make_splits(dataset.samples, 0.2, 0)
    except DataError as error:
        return own_splits(dataset.samples), [_fault("too_few_pairs", (), str(error))]
    if note is None:
        return splits, []
    fix = "Name a val split to choose it."
    return splits, [_finding("split_made", "note", (), note, fix)]


def _finding(code: str, severity: Severity, files: Sequence[str], message: str, fix: str) -> Finding:
    return Finding(code=code, severity=severity, files=tuple(files), message=message, fix=fix)


def _fault(code: str, files: Sequence[str], message: str) -> Finding:
    """An error whose message ends in its cure, after a semicolon."""
    fault, _, cure = message.rpartition("; ")
    return _finding(code, "error", files, f"{fault}.", f"{cure[:1].upper()}{cure[1:]}")


def _relative(surveyed: Survey, paths: Iterable[Path]) -> list[str]:
    return sorted(path.relative_to(surveyed.dataset.root).as_posix() for path in paths)


def _some(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _pairing(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    dataset = surveyed.dataset
    if files := _relative(surveyed, dataset.pairing.images_without_mask):
        message = f"{len(files)} image(s) without a mask: {_some(files)}."
        fix = "Add the mask of the same stem, or remove the image."
        yield _finding("missing_mask", "error", files, message, fix)
    if files := _relative(surveyed, dataset.pairing.masks_without_image):
        message = f"{len(files)} mask(s) without an image: {_some(files)}."
        fix = "Add the image of the same stem, or remove the mask."
        yield _finding("orphan_mask", "warning", files, message, fix)
    if files := _relative(surveyed, dataset.pairing.same_stem):
        message = f"{len(files)} files share a stem, so their partner is ambiguous: {_some(files)}."
        yield _finding("same_stem", "error", files, message, "Rename or remove one of each stem.")
    if files := _relative(surveyed, dataset.pairing.outside_splits):
        message = f"{len(files)} file(s) outside {', '.join(SPLITS)}, so unread: {_some(files)}."
        fix = "Move them into a folder of one of these names, or away."
        yield _finding("outside_splits", "error", files, message, fix)
    if files := _relative(surveyed, dataset.pairing.foreign_files):
        message = f"{len(files)} file(s) that are no image by their ending: {_some(files)}."
        fix = f"Convert them to one of {', '.join(ENDINGS)}, or ignore this."
        yield _finding("foreign_file", "warning", files, message, fix)


def _decoding(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    for reading in surveyed.readings:
        sample = reading.sample
        if reading.image_error:
            files = _relative(surveyed, [sample.image_path])
            yield _fault("unreadable_image", files, reading.image_error)
        if reading.mask_error:
            files = _relative(surveyed, [sample.label_path])
            yield _fault("unreadable_mask", files, reading.mask_error)


def _sizes(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    for r in surveyed.readings:
        if r.size and r.mask_size and r.size != r.mask_size:
            files = _relative(surveyed, [r.sample.image_path, r.sample.label_path])
            message = (
                f"{r.sample.label_path} is {r.mask_size[0]}x{r.mask_size[1]}, but its image is "
                f"{r.size[0]}x{r.size[1]} (height x width)."
            )
            yield _finding("size_mismatch", "error", files, message, "Save both at one size.")


def _values(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    classes = surveyed.dataset.classes
    assert classes is not None
    if not classes.names:
        return
    listed = set(classes.label_mapping) | set(classes.ignore)
    for r in surveyed.readings:
        unlisted = sorted(set(r.values) - listed)
        files = _relative(surveyed, [r.sample.label_path])
        if unlisted:
            message = f"{r.sample.label_path} {unlisted_message(unlisted, classes)}"
            yield _fault("unlisted_values", files, message)
        elif r.values and not set(r.values) & set(classes.label_mapping):
            message = f"{r.sample.label_path} holds only ignored pixels."
            yield _finding("all_ignored", "warning", files, message, "Label it, or remove the pair.")


def _class_count(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    classes = surveyed.dataset.classes
    assert classes is not None
    values = {value for r in surveyed.readings for value in r.values}
    if len(values) > MAX_FOUND_CLASSES and not classes.names:
        message = f"the masks hold {len(values)} different values, too many to be classes."
        fix = "Name the classes in dataset.yaml, and check that the masks are not pictures."
        yield _finding("no_classes", "error", (), message, fix)
    elif values and not values & set(classes.label_mapping):
        message = "no mask holds a pixel of any class."
        fix = "Label some pixels, or name their values in dataset.yaml."
        yield _finding("no_classes", "error", (), message, fix)
    elif len(classes.names) == 1:
        message = f"there is only one class, {classes.names[0]!r}, so there is nothing to tell apart."
        yield _finding("single_class", "error", (), message, "Label at least two classes.")


def _channels(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    wanted = surveyed.dataset.channels
    legal = {wanted, 1} if wanted == 3 else {wanted}
    good = [r for r in surveyed.readings if r.size]
    if odd := [r for r in good if r.channels not in legal]:
        yield _odd(surveyed, odd, f"{wanted} channels", lambda r: f"{r.channels}", "mixed_channels")
    if gray := _relative(surveyed, _images(r for r in good if r.channels == 1 and wanted == 3)):
        message = f"{len(gray)} gray image(s) among RGB ones: {_some(gray)}."
        yield _finding("gray_repeated", "note", gray, message, "Gray is repeated to 3 channels.")
    if files := _relative(surveyed, _images(r for r in good if r.alpha_dropped)):
        message = f"{len(files)} image(s) with a constant alpha channel: {_some(files)}."
        yield _finding("alpha_dropped", "note", files, message, "It is dropped: nothing to do.")


def _pixels(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    good = [r for r in surveyed.readings if r.size]
    types = sorted(r.dtype for r in good)
    most = max(types, key=types.count, default="")
    if odd := [r for r in good if r.dtype != most]:
        yield _odd(surveyed, odd, f"{most} pixels", lambda r: r.dtype, "mixed_bit_depth")
    if files := _relative(surveyed, _images(r for r in good if r.constant)):
        message = f"{len(files)} image(s) of a single value: {_some(files)}."
        yield _finding("constant_image", "warning", files, message, "Replace or remove the pair.")


def _images(readings: Iterable[Reading]) -> list[Path]:
    return [r.sample.image_path for r in readings]


def _odd(surveyed: Survey, odd: Sequence[Reading], wanted: str, kind: Callable[[Reading], str], code: str) -> Finding:
    """A mix that cannot be trained on; the files named are those unlike the others."""
    files = _relative(surveyed, _images(odd))
    kinds = ", ".join(sorted({kind(r) for r in odd}))
    message = f"images should have {wanted}, but these have {kinds}: {_some(files)}."
    return _finding(code, "error", files, message, "Convert them, so that all are of one kind.")


def _coverage(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    classes = surveyed.dataset.classes
    assert classes is not None
    read = {r.sample for r in surveyed.readings if r.values}
    pixels = {s: surveyed.class_pixels([x for x in splits[s] if x in read]).sum(0) for s in SPLITS}
    for index, name in enumerate(classes.names):
        there = [s for s in SPLITS if len(pixels[s]) and pixels[s][index]]
        used = [s for s in SPLITS if any(sample in read for sample in splits[s])]
        if not there and _is_foreground_ignored(surveyed):
            continue  # `_ignored_foreground` says why
        if not there:
            message = f"class {name!r} is named, but occurs in no mask."
            yield _finding("class_unused", "warning", (), message, "Remove it, or check the mask values.")
        elif "train" in used and "train" not in there:
            message = f"class {name!r} occurs in {' and '.join(there)}, but not in train."
            yield _finding("class_not_in_train", "warning", (), message, "It cannot be learned: move images.")
        elif missing := [s for s in used if s not in there]:
            message = f"class {name!r} does not occur in {' or '.join(missing)}."
            yield _finding("class_not_in_split", "warning", (), message, "It is not measured there.")


def _ignored_foreground(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    classes = surveyed.dataset.classes
    assert classes is not None
    if _is_foreground_ignored(surveyed):
        message = f"the masks hold 0 and 255, but 255 is ignored, so class {classes.names[1]!r} never occurs."
        fix = "Write 'label_mapping: {0: 0, 255: 1}' into dataset.yaml."
        yield _finding("foreground_ignored", "error", (), message, fix)


def _is_foreground_ignored(surveyed: Survey) -> bool:
    """Two named classes over masks of 0 and 255 alone: 255 is surely the second, but counts as ignored."""
    classes = surveyed.dataset.classes
    assert classes is not None
    values = {value for r in surveyed.readings for value in r.values}
    binary = len(classes.names) == 2 and classes.coding == "index" and values == {0, 255}
    return binary and 255 in classes.ignore


def _jpeg_masks(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    """JPEG changes values, so ids come out as their neighbors."""
    paths = [r.sample.label_path for r in surveyed.readings if r.sample.label_path.suffix.lower() in (".jpg", ".jpeg")]
    if files := _relative(surveyed, paths):
        message = f"{len(files)} mask(s) saved as JPEG, which changes the values of pixels: {_some(files)}."
        fix = "Save masks as PNG, from the source: what JPEG changed cannot be told any more."
        yield _finding("jpeg_mask", "error", files, message, fix)


def _coding(surveyed: Survey, splits: Splits) -> Iterator[Finding]:
    classes = surveyed.dataset.classes
    assert classes is not None
    if surveyed.classes_described or not classes.names:
        return
    fix = "Name the classes in dataset.yaml to choose them."
    if 255 in classes.label_mapping:
        message = "the masks hold 0 and 255: read as background and foreground."
        fix = "To name them, write 'names' and 'label_mapping: {0: 0, 255: 1}' into dataset.yaml."
        yield _finding("binary_masks", "note", (), message, fix)
    else:
        pairs = ", ".join(f"{v} → {i}" for v, i in list(classes.label_mapping.items())[:12])
        more = ", ..." if len(classes.label_mapping) > 12 else ""
        message = f"no classes named: mask values became classes ({pairs}{more}); 255 is ignored."
        yield _finding("ids_compacted", "note", (), message, fix)


_LOOKS: tuple[Callable[[Survey, Splits], Iterator[Finding]], ...] = (
    _pairing,
    _decoding,
    _sizes,
    _values,
    _class_count,
    _channels,
    _pixels,
    _coverage,
    _ignored_foreground,
    _jpeg_masks,
    _coding,
)
