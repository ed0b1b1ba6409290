"""`check --html`: one offline file that shows a dataset, what is wrong with it, and a random sample."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.checks import CheckReport, Finding
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.data.scan import count_class_pixels
from pixelwise.data.visualization import to_css_color
from pixelwise.files import write_atomically
from pixelwise.reports.html import render
from pixelwise.reports.thumbnails import UNLISTED, Thumbnail, image_thumbnail, mask_thumbnail, pair_thumbnail

SHOWN_FILES = 6
"""Thumbnails of one finding; the other files are listed."""
SHOWN_FINDINGS = 8
"""Findings of one code with thumbnails; a fault of every file of a set is seen in a few."""
SAMPLE_SIZE = 24
MAX_CLASS_ROWS = 100

Key = Sample | Path
"""What a thumbnail is made of: a pair, or a file in no pair."""


def write_check_page(path: Path, report: CheckReport, dataset: Dataset) -> None:
    """Writes the page whole or not at all. It is the same whenever it is made from the same files."""
    album = _Album.of(dataset)
    wanted = {id(finding): album.keys(finding) for finding in _illustrated(report.findings)}
    drawn = _random_sample(dataset)
    album.draw([*itertools.chain(*(keys[:SHOWN_FILES] for keys in wanted.values())), *drawn])
    values = {
        "name": dataset.root.resolve().name,
        "report": report,
        "summary": _summary(report.findings),
        "facts": _facts(report, dataset),
        "class_rows": _class_rows(dataset),
        "max_class_rows": MAX_CLASS_ROWS,
        "groups": _groups(report.findings, album, wanted),
        "sample": [album.drawn[sample] for sample in drawn],
        "sample_legend": _legend([album.drawn[sample] for sample in drawn], dataset.classes),
        "num_pairs": len(dataset.samples),
    }
    write_atomically(path, render("check_report.html.jinja", values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Album:
    """Thumbnails, each drawn once."""

    dataset: Dataset
    by_file: Mapping[str, Sample]
    shared: frozenset[str]
    """Files that many samples lie in."""
    masks: frozenset[Path]
    """Folders in which masks lie."""
    drawn: dict[Key, Thumbnail]

    @classmethod
    def of(cls, dataset: Dataset) -> "_Album":
        by_file = dataset.map_files_to_samples()
        paths = {path for sample in dataset.samples for path in (sample.image_path, sample.label_path)}
        masks = {sample.label_path.parent for sample in dataset.samples}
        masks |= {path.parent for path in dataset.index.masks_without_image}
        return cls(
            dataset=dataset,
            by_file=by_file,
            shared=frozenset(map(dataset.get_relative_path, paths)) - by_file.keys(),
            masks=frozenset(masks - {sample.image_path.parent for sample in dataset.samples}),
            drawn={},
        )

    def keys(self, finding: Finding) -> list[Key]:
        """What there is to see of the files of a finding: each pair once, containers not at all."""
        keys = (self._key(file) for file in finding.files)
        return list(dict.fromkeys(key for key in keys if key is not None))

    def _key(self, file: str) -> Key | None:
        if file in self.by_file:
            return self.by_file[file]
        path = self.dataset.root / file
        return path if file not in self.shared and path.suffix.lower() in IMAGE_EXTENSIONS else None

    def files(self, key: Key) -> set[str]:
        paths = [key] if isinstance(key, Path) else [key.image_path, key.label_path]
        return set(map(self.dataset.get_relative_path, paths))

    def draw(self, keys: Iterable[Key]) -> None:
        wanted = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(max_workers=4) as pool:
            self.drawn.update(zip(wanted, pool.map(self._draw, wanted), strict=True))

    def _draw(self, key: Key) -> Thumbnail:
        if isinstance(key, Sample):
            return pair_thumbnail(self.dataset, key)
        draw: Callable[[Dataset, Path], Thumbnail] = mask_thumbnail if key.parent in self.masks else image_thumbnail
        return draw(self.dataset, key)


def _by_code(findings: Sequence[Finding]) -> Iterable[list[Finding]]:
    """In the order in which the codes appear, which puts errors first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    return groups.values()


def _illustrated(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for group in _by_code(findings) for finding in group[:SHOWN_FINDINGS]]


def _random_sample(dataset: Dataset) -> list[Sample]:
    """The same pairs each time, in the order of the dataset."""
    count = len(dataset.samples)
    chosen = np.random.default_rng(0).choice(count, min(SAMPLE_SIZE, count), replace=False)
    return [dataset.samples[i] for i in sorted(chosen.tolist())]


def _summary(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Severity and what to say of it: `error`, `3 errors`."""
    counts = {s: sum(f.severity == s for f in findings) for s in ("error", "warning", "note")}
    return [(s, f"{count} {s}{'s' if count > 1 else ''}") for s, count in counts.items() if count]


def _facts(report: CheckReport, dataset: Dataset) -> list[tuple[str, str, str]]:
    """The set in numbers: title, number, a word on it."""
    good = [r for r in dataset.stats if r.size]
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    origin = "named by the dataset" if dataset.declared_classes else "as found in the masks"
    masks = sum(r.mask_error is None for r in dataset.stats)
    return [
        ("images", f"{report.num_images:,}", splits or "no pairs"),
        ("masks read", f"{masks:,}", "one for each image" if masks == report.num_images else "not one for each image"),
        _sizes([r.size for r in good if r.size]),
        ("channels", _kinds(r.channels for r in good), _kinds(r.dtype for r in good) + " pixels" if good else ""),
        ("classes", f"{len(report.classes):,}", origin if report.classes else "no mask shows one"),
    ]


def _sizes(sizes: Sequence[tuple[int, int]]) -> tuple[str, str, str]:
    """Of images, width × height as people say it."""
    if not sizes:
        return "size", "–", "no image can be read"
    heights, widths = np.array(sizes).T
    middle = f"{np.median(widths):.0f} × {np.median(heights):.0f}"
    if len(set(sizes)) == 1:
        return "size", middle, "every image, width × height"
    ranges = f"widths {widths.min()} to {widths.max()}, heights {heights.min()} to {heights.max()}"
    return "median size", middle, ranges


def _kinds(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values})) or "–"


def _class_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Each class with its share of the pixels that count, and the number of images it is seen in."""
    classes = dataset.classes
    pixels = count_class_pixels(dataset, (r.sample for r in dataset.stats))
    shares = pixels.sum(0) / max(int(pixels.sum()), 1)
    images = (pixels > 0).sum(0)
    seen = max(1, sum(bool(r.value_counts) for r in dataset.stats))
    return [
        {
            "name": name,
            "color": to_css_color(color),
            "share": _percent(share),
            "bar": 100 * share,
            "images": f"{count:,}",
            "images_bar": 100 * count / seen,
        }
        for name, color, share, count in zip(classes.names, classes.colors, shares, images, strict=True)
    ]


def _percent(share: float) -> str:
    """A rare class is not 0.0 %."""
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def _groups(findings: Sequence[Finding], album: _Album, wanted: Mapping[int, list[Key]]) -> list[dict[str, Any]]:
    return [_group(group, album, wanted) for group in _by_code(findings)]


def _group(findings: Sequence[Finding], album: _Album, wanted: Mapping[int, list[Key]]) -> dict[str, Any]:
    """The findings of a code: those with thumbnails, then the rest in words."""
    cards = [_card(finding, album, wanted.get(id(finding), [])) for finding in findings]
    pictures = [picture for card in cards for picture in card["pictures"]]
    return {
        "code": findings[0].code,
        "severity": findings[0].severity,
        "cards": cards[:SHOWN_FINDINGS],
        "more": cards[SHOWN_FINDINGS:],
        # Side by side, where each has little to show.
        "narrow": len(cards) > 1 and all(len(card["pictures"]) <= 1 for card in cards),
        "legend": _legend(pictures, album.dataset.classes),
    }


def _card(finding: Finding, album: _Album, keys: Sequence[Key]) -> dict[str, Any]:
    root = f"{album.dataset.root}/"
    shown = keys[:SHOWN_FILES]
    seen = set().union(*(album.files(key) for key in shown))
    return {
        "message": finding.message.replace(root, ""),
        "fix": finding.fix.replace(root, ""),
        "files": [file for file in finding.files if file not in seen],
        "pictures": [album.drawn[key] for key in shown],
    }


def _legend(pictures: Sequence[Thumbnail], classes: Classes | None) -> list[tuple[str, str]]:
    """Name and color of everything that the masks of some thumbnails show."""
    if classes is None:
        return []
    labels = sorted(set().union(*(picture.labels for picture in pictures)) - {classes.ignore_index})
    entries = [(classes.names[i], to_css_color(classes.colors[i])) for i in labels]
    if any(classes.ignore_index in picture.labels for picture in pictures):
        entries.append(("ignored", to_css_color((0, 0, 0))))
    if any(picture.unlisted for picture in pictures):
        entries.append(("not listed as a class", to_css_color(UNLISTED)))
    return entries
