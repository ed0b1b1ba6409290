"""Which files are there, and which of them can be read."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pixelwise.checks.findings import Case, Finding, Look, count, finding, printable, sentence, some
from pixelwise.data.io.file_info import FORMAT_OF_EXTENSION, is_decompression_bomb
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import SPLITS
from pixelwise.data.scan import Reading


def _pairing(case: Case) -> Iterator[Finding]:
    pairing = case.surveyed.dataset.index
    if files := case.names(pairing.images_without_mask):
        message = f"{count(len(files), 'image')} without a mask: {some(files)}."
        yield finding("missing_mask", files, message, "Add the mask of the same stem, or remove the image.")
    if files := case.names(pairing.masks_without_image):
        message = f"{count(len(files), 'mask')} without an image: {some(files)}."
        yield finding("orphan_mask", files, message, "Add the image of the same stem, or remove the mask.")
    if files := case.names(pairing.same_stem):
        message = f"{len(files)} files share a stem, so their partner is ambiguous: {some(files)}."
        yield finding("same_stem", files, message, "Rename or remove one of each stem.")
    if files := case.names(pairing.outside_splits):
        message = f"{count(len(files), 'file')} outside {', '.join(SPLITS)}, so unread: {some(files)}."
        yield finding("outside_splits", files, message, "Move them into a folder of one of these names, or away.")
    if files := case.names(pairing.foreign_files):
        message = f"{count(len(files), 'file')} that no image has the ending of: {some(files)}."
        fix = f"Convert them to one of {', '.join(IMAGE_EXTENSIONS)}, or ignore this."
        yield finding("foreign_file", files, message, fix)


def _links(case: Case) -> Iterator[Finding]:
    """Formats see files alone, and a link that leads nowhere is none."""
    broken = []
    for folder, folders, names in os.walk(case.surveyed.dataset.root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names + folders if not name.startswith(".")]
        broken += [path for path in paths if path.is_symlink() and not path.exists()]
    if files := case.names(broken):
        message = f"{count(len(files), 'symbolic link')} to nowhere: {some(files)}."
        yield finding("broken_link", files, message, "Put back what they point to, or remove them.")


def _names(case: Case) -> Iterator[Finding]:
    pairing = case.surveyed.dataset.index
    pairs = [path for s in pairing.samples for path in (s.image_path, s.label_path)]
    lone = [*pairing.images_without_mask, *pairing.masks_without_image, *pairing.same_stem, *pairing.outside_splits]
    if files := case.names(path for path in [*pairs, *lone] if printable(str(path)) != str(path)):
        message = f"{count(len(files), 'file name')} not in UTF-8, which no list of files can hold: {some(files)}."
        yield finding("unreadable_name", files, message, "Rename them.")


def _decoding(case: Case) -> Iterator[Finding]:
    """One finding for each code and cure."""
    faults: dict[tuple[str, str], list[tuple[Path, str]]] = defaultdict(list)
    for path, error, code in _failures(case):
        fault, _, cure = error.removeprefix(f"{path}: ").rpartition("; ")
        faults[code, cure].append((path, fault))
    for (code, cure), failed in sorted(faults.items()):
        reasons = dict(failed)
        shown = [f"{case.names([path])[0]}: {reason}" for path, reason in sorted(reasons.items())]
        message = f"{count(len(reasons), 'file')} that cannot be used: {some(shown)}."
        if len(set(reasons.values())) == 1:
            message = f"{some(case.names(reasons))}: {failed[0][1]}."
        yield finding(code, case.names(reasons), message, sentence(cure))


def _failures(case: Case) -> Iterator[tuple[Path, str, str]]:
    """Path, what its reader said of it, and the code for that. Masks of color are told elsewhere."""
    for r in case.readings:
        if r.image_error:
            yield r.sample.image_path, r.image_error, _code(r.sample.image_path, r.image_content.is_truncated, "image")
        if r.mask_error and not r.mask_traits.colors:
            yield r.sample.label_path, r.mask_error, _code(r.sample.label_path, r.mask_content.is_truncated, "mask")


def _code(path: Path, is_truncated: bool, kind: str) -> str:
    """Asked for broken files alone, so their headers may be read again."""
    if path.is_file() and path.stat().st_size == 0:
        return "empty_file"
    if is_truncated:
        return "truncated_file"
    return "decompression_bomb" if path.is_file() and is_decompression_bomb(path) else f"unreadable_{kind}"


def _endings(case: Case) -> Iterator[Finding]:
    wrong = []
    for r in case.readings:
        if r.sample.image_entry or r.sample.label_entry:
            continue  # of members the content is not looked at
        wrong += [(r.sample.image_path, r.image_content.format)] if not r.image_error else []
        # JPEG under another name is told by `masks`: the cure is another
        wrong += [(r.sample.label_path, r.mask_content.format)] if _is_sound_mask(r) else []
    wrong = [(path, kind) for path, kind in wrong if kind and kind != FORMAT_OF_EXTENSION.get(path.suffix.lower())]
    if files := case.names(path for path, _ in wrong):
        kinds = " and ".join(sorted({kind for _, kind in wrong}))
        message = f"{count(len(files), 'file')} whose content is {kinds}, whatever the ending says: {some(files)}."
        fix = "It is read all the same; other programs may refuse it: rename the file, or save it anew."
        yield finding("wrong_extension", files, message, fix)


def _is_sound_mask(reading: Reading) -> bool:
    return not reading.mask_error and reading.mask_content.format != "JPEG"


LOOKS: tuple[Look, ...] = (_pairing, _links, _names, _decoding, _endings)
