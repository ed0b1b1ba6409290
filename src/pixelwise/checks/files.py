"""Checks of the files: which exist, and which can be read."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import (
    Finding,
    format_names,
    make_finding,
    make_printable,
    report_files,
    split_error_message,
)
from pixelwise.data.formats.dataset_index import find_images
from pixelwise.data.formats.pairing import MIN_COVERAGE
from pixelwise.data.io.decoded_image import too_large
from pixelwise.data.io.file_info import FORMAT_OF_EXTENSION
from pixelwise.data.io.images import IMAGE_EXTENSIONS, TYPE_NAMES
from pixelwise.data.io.unread_files import ARRAY_EXTENSIONS, explain_unread
from pixelwise.data.sample import SPLITS
from pixelwise.errors import format_count
from pixelwise.files import walk_folders


def _check_pairing(context: CheckContext) -> Iterator[Finding]:
    index = context.dataset.index
    for note in index.pairing_notes:
        yield make_finding("pairing", (), note, "If this is wrong, give each mask the name of its image.")
    fix = f"{index.pairing_hint} Add a mask with the same name as the image, or remove the image.".lstrip()
    files = context.list_files(index.images_without_mask)
    yield from report_files("missing_mask", files, "image", "without a mask", fix)
    fix = "They are not used for training or scores. `pixelwise predict` labels them."
    files = context.list_files(index.unlabeled_images)
    yield from report_files("unlabeled_images", files, "test image", "without a mask", fix)
    fix = "Add an image with the same name as the mask, or remove the mask."
    files = context.list_files(index.masks_without_image)
    yield from report_files("orphan_mask", files, "mask", "without an image", fix)
    if files := context.list_files(index.same_stem):
        message = f"{len(files)} files differ only in their suffix, so it is unclear which belong together: "
        fix = "Rename or remove all but one file of each name."
        yield make_finding("same_stem", files, f"{message}{format_names(files)}.", fix)
    problem = f"outside the folders {', '.join(SPLITS)} will not be read"
    fix = "Move them into one of these folders, or remove them."
    yield from report_files("outside_splits", context.list_files(index.outside_splits), "file", problem, fix)


def _check_foreign_files(context: CheckContext) -> Iterator[Finding]:
    """Report files in folders of images that are not read, with what to do about each kind."""
    arrays, by_advice = [], defaultdict(list)
    for path in context.dataset.index.foreign_files:
        if path.suffix.lower() in ARRAY_EXTENSIONS:
            arrays.append(path)
        else:
            by_advice[explain_unread(path)].append(path)
    for advice, paths in sorted(by_advice.items()):
        fix = f"{advice or f'Convert images to one of {TYPE_NAMES}'}. Other files are not read and can stay."
        files = context.list_files(paths)
        yield from report_files("foreign_file", files, "file", "without the suffix of an image", fix)
    fix = "They are not read and can stay. To use one as an image or a mask, move it to a folder without pictures."
    yield from report_files("foreign_file", context.list_files(arrays), "array", "next to pictures", fix)


def _check_unread_folders(context: CheckContext) -> Iterator[Finding]:
    """Find folders with as many pictures as there are images next to them."""
    dataset = context.dataset
    index, root = dataset.index, dataset.root
    images = [*(s.image_path for s in index.samples), *index.images_without_mask, *index.unlabeled_images]
    known = {path for s in index.samples for path in s.paths}
    known |= {*images, *index.masks_without_image, *index.same_stem, *index.outside_splits}
    used = {folder for path in known for folder in (*path.parents, *path.resolve().parents)}
    num_images = Counter(folder for path in images for folder in path.parents)
    unread: dict[Path, list[Path]] = defaultdict(list)
    for path in find_images(root):
        if path.parent not in used and path.parent.resolve() not in used:
            unread[
                next(folder for folder in reversed(path.parents) if folder not in used and root in folder.parents)
            ] += [path]
    large = {f: paths for f, paths in unread.items() if len(paths) >= MIN_COVERAGE * num_images[f.parent] > 0}
    shown = [f"{dataset.get_relative_path(folder)} ({len(paths)})" for folder, paths in large.items()]
    names = list(dict.fromkeys(folder.name for folder in large)) or [""]
    fix = (
        f"To train on a folder, write its name into {context.description_file}, such as 'masks: {names[0]}'. If it "
        f"shows which pixels are valid (a field of view), write 'ignore_masks: {names[-1]}'. Otherwise it can stay."
        if dataset.format == "folder"
        else "If they are not needed, they can stay."
    )
    files = context.list_files(path for paths in large.values() for path in paths)
    yield from report_files("unread_folder", files, "folder", "of images that nothing reads", fix, items=shown)


def _check_faults(context: CheckContext) -> Iterator[Finding]:
    """Report what the format or split lists found."""
    for fault in context.dataset.index.faults:
        files = context.list_files(fault.files)
        yield from report_files(fault.code, files, fault.noun, fault.problem, fault.fix)


def _check_links(context: CheckContext) -> Iterator[Finding]:
    """Find broken symbolic links, which formats do not list as files."""
    broken = []
    for folder, _, names in chain.from_iterable(map(walk_folders, context.dataset.folders)):
        broken += [path for path in (folder / name for name in names) if path.is_symlink() and not path.exists()]
    fix = "Restore the target of each link, or remove the link."
    files = context.list_files(broken)
    yield from report_files("broken_link", files, "symbolic link", "to a file that does not exist", fix)


def _check_names(context: CheckContext) -> Iterator[Finding]:
    index = context.dataset.index
    paths = [path for s in index.samples for path in s.paths]
    paths += [*index.images_without_mask, *index.masks_without_image, *index.same_stem, *index.outside_splits]
    files = context.list_files(path for path in paths if make_printable(str(path)) != str(path))
    problem, fix = "not in UTF-8, so no list can contain them", "Rename the files, for example to ASCII letters."
    yield from report_files("unreadable_name", files, "file name", problem, fix)


def _check_decoding(context: CheckContext) -> Iterator[Finding]:
    """Yield one finding for each code and fix, with the place of each fault: a file may have many pairs."""
    failures: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for place, error, code in _list_failures(context):
        problem, fix = split_error_message(error)
        failures[code, fix][make_printable(place)] = problem
    for (code, fix), problems in sorted(failures.items()):
        shown = [f"{place}: {problem[:-1]}" for place, problem in sorted(problems.items())]
        message = f"{format_count(len(problems), 'file')} cannot be used: {format_names(shown)}."
        if len(set(problems.values())) == 1:
            message = f"{format_names(sorted(problems))}: {next(iter(problems.values()))}"
        yield make_finding(code, sorted(problems), message, fix)


def _list_failures(context: CheckContext) -> Iterator[tuple[str, str, str]]:
    """Yield place, error and code of what could not be read; color masks are checked in `masks`."""
    for s in context.stats:
        if s.image_error:
            place, path = context.dataset.get_image_file(s.sample), s.sample.image_path
            error = s.image_error.removeprefix(f"{s.sample.image_location}: ")
            yield place, *_explain_failure(path, error, s.image_file.is_truncated, "unreadable_image")
        if s.mask_error and not s.color_counts:
            place, path = context.dataset.get_mask_file(s.sample), s.sample.mask_path
            error = s.mask_error.removeprefix(f"{s.sample.mask_location}: ")
            yield place, *_explain_failure(path, error, s.mask_file.is_truncated, "unreadable_mask")


def _explain_failure(path: Path, error: str, is_truncated: bool, default: str) -> tuple[str, str]:
    """Return the error and the code of a file that cannot be read."""
    if path.is_file() and path.stat().st_size == 0:
        return error, "empty_file"
    if target := _find_stored_link(path):
        problem = f"is a symbolic link to {target}, stored as a text file"
        fix = "Unpack or clone the dataset where links can be made, or copy the targets here."
        return f"{problem}. {fix}", "broken_link"
    if is_truncated:
        return error, "truncated_file"
    return error, "decompression_bomb" if too_large() in error else default


def _find_stored_link(path: Path) -> str | None:
    """Return the target of a link that a system without links, mostly Windows, has stored as text."""
    if not path.is_file() or path.stat().st_size > 1000:
        return None
    target = path.read_bytes().decode(errors="ignore").strip()
    is_path = target.isprintable() and PurePosixPath(target).suffix.lower() in IMAGE_EXTENSIONS
    return target if is_path and (path.parent / target).is_file() else None


def _check_suffixes(context: CheckContext) -> Iterator[Finding]:
    formats: list[tuple[Path, str]] = []
    for s in context.stats:
        if s.sample.image_entry or s.sample.label_entry:
            continue  # the contents of entries are not inspected
        if not s.image_error:
            formats.append((s.sample.image_path, s.image_file.format))
        if not s.mask_error and s.mask_file.format != "JPEG":  # `masks` reports JPEG masks
            formats.append((s.sample.mask_path, s.mask_file.format))
    wrong = [(path, kind) for path, kind in formats if kind and kind != FORMAT_OF_EXTENSION.get(path.suffix.lower())]
    problem = f"with {' or '.join(sorted({kind for _, kind in wrong}))} data, but another suffix"
    fix = "Pixelwise reads them, but other programs may not. Correct the suffix, or save the files again."
    files = context.list_files(path for path, _ in wrong)
    yield from report_files("wrong_extension", files, "file", problem, fix)


CHECKS: tuple[Check, ...] = (
    _check_pairing,
    _check_foreign_files,
    _check_unread_folders,
    _check_faults,
    _check_links,
    _check_names,
    _check_decoding,
    _check_suffixes,
)
