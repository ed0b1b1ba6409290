"""`check --html`: a dataset in numbers, its findings with thumbnails, and a random sample."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.checks import CheckReport, Finding
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.data.scan import count_class_pixels
from pixelwise.data.visualization import list_css_colors, list_swatches, to_css_color, to_css_stripes
from pixelwise.reports.html import Cell, Table, build_table, make_count_cell, make_score_cell, render_page
from pixelwise.reports.thumbnails import Thumbnail, choose_unlisted_stripes, draw_file, draw_pair

MAX_FILES = 6
"""Thumbnails of one finding; other files are listed."""
MAX_FINDINGS = 8
"""Findings of one code with thumbnails; other findings are listed."""
SAMPLE_SIZE = 24
MAX_CLASS_ROWS = 100
NUM_THREADS = 4

Entry = Sample | Path
"""The content of a thumbnail: a pair, or a file without a partner."""


def render_check_report(report: CheckReport, dataset: Dataset | None, name: str) -> bytes:
    """Render the report as HTML. The same files give the same report.

    Args:
        report: The findings.
        dataset: The dataset with the statistics of its samples; None if it could not be read.
        name: Name of the dataset, for the title.
    """
    values: dict[str, Any] = {"name": name, "report": report, "summary": report.summary, "facts": [], "sample": []}
    if dataset is None:
        values["groups"] = [_build_group([finding], None) for finding in report.findings]
        return render_page("check_report.html.jinja", values)
    thumbnails = _ThumbnailCache(dataset)
    sample = _draw_sample(dataset)
    groups = _group_by_code(report.findings)
    illustrated = [finding for group in groups for finding in group[:MAX_FINDINGS]]
    thumbnails.draw([*(entry for finding in illustrated for entry in thumbnails.find_entries(finding)), *sample])
    values |= {
        "facts": _list_facts(report, dataset),
        "classes": _build_class_table(dataset),
        "num_classes": len(dataset.classes.names),
        "groups": [_build_group(group, thumbnails) for group in groups],
        "sample": [thumbnails[pair] for pair in sample],
        "sample_legend": _build_legend([thumbnails[pair] for pair in sample], dataset.classes),
        "num_pairs": len(dataset.samples),
    }
    return render_page("check_report.html.jinja", values)


class _ThumbnailCache:
    """The thumbnails of a dataset, each drawn once."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.samples_by_file = dataset.map_files_to_samples()
        paths = {path for sample in dataset.samples for path in sample.paths}
        # A file with several samples, such as an archive, has no picture of its own.
        self.containers = set(map(dataset.get_relative_path, paths)) - self.samples_by_file.keys()
        mask_paths = [sample.mask_path for sample in dataset.samples] + list(dataset.index.masks_without_image)
        self.mask_folders = {path.parent for path in mask_paths}
        self.mask_folders -= {sample.image_path.parent for sample in dataset.samples}
        self.thumbnails: dict[Entry, Thumbnail] = {}

    def __getitem__(self, entry: Entry) -> Thumbnail:
        return self.thumbnails[entry]

    def find_entries(self, finding: Finding) -> list[Entry]:
        """Return the first `MAX_FILES` entries among the files of a finding, each pair once."""
        entries: dict[Entry, None] = {}
        for file in finding.files:
            path = self.dataset.root / file
            if file in self.samples_by_file:
                entries[self.samples_by_file[file]] = None
            elif file not in self.containers and path.suffix.lower() in IMAGE_EXTENSIONS:
                entries[path] = None
        return list(entries)[:MAX_FILES]

    def list_files(self, entry: Entry) -> set[str]:
        paths = [entry] if isinstance(entry, Path) else entry.paths
        return set(map(self.dataset.get_relative_path, paths))

    def draw(self, entries: Iterable[Entry]) -> None:
        unique = list(dict.fromkeys(entries))
        with ThreadPoolExecutor(max_workers=NUM_THREADS) as pool:
            self.thumbnails.update(zip(unique, pool.map(self._draw_entry, unique), strict=True))

    def _draw_entry(self, entry: Entry) -> Thumbnail:
        if isinstance(entry, Sample):
            return draw_pair(self.dataset, entry)
        return draw_file(self.dataset, entry, is_mask=entry.parent in self.mask_folders)


def _group_by_code(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Group by severity and code, in the order of first appearance, which puts errors first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    return list(groups.values())


def _draw_sample(dataset: Dataset) -> list[Sample]:
    """Draw random pairs with a fixed seed, in the order of the dataset."""
    count = len(dataset.samples)
    chosen = np.random.default_rng(0).choice(count, min(SAMPLE_SIZE, count), replace=False)
    return [dataset.samples[i] for i in sorted(chosen.tolist())]


def _list_facts(report: CheckReport, dataset: Dataset) -> list[tuple[str, str, str]]:
    """Return titles, numbers and explanations."""
    readable = [r for r in dataset.stats if r.size]
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    origin = "from the dataset's description" if dataset.declared_classes else "from the mask values"
    masks = sum(r.mask_error is None or bool(r.color_counts) for r in dataset.stats)
    pixel_types = _join_distinct(r.dtype for r in readable) + " pixels" if readable else ""
    return [
        ("images", f"{report.num_images:,}", splits or "no pairs"),
        ("masks read", f"{masks:,}", "one per image" if masks == report.num_images else "not one per image"),
        _describe_sizes([r.size for r in readable if r.size]),
        ("channels", _join_distinct(r.channels for r in readable), pixel_types),
        (
            "classes",
            f"{len(report.classes):,}" if report.classes else "unknown",
            origin if report.classes else "the masks define none" if masks else "no mask can be read",
        ),
    ]


def _describe_sizes(sizes: Sequence[tuple[int, int]]) -> tuple[str, str, str]:
    """Describe image sizes as width × height."""
    if not sizes:
        return "size", "–", "no image can be read"
    heights, widths = np.array(sizes).T
    median = f"{np.median(widths):.0f} × {np.median(heights):.0f}"
    if len(set(sizes)) == 1:
        return "size", median, "of every image, width × height"
    ranges = f"widths {widths.min()} to {widths.max()}, heights {heights.min()} to {heights.max()}"
    return "median size", median, ranges


def _join_distinct(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values})) or "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassRow:
    """A class, its share of the labeled pixels and the number of images that show it."""

    name: str
    color: str
    share: float
    num_images: int
    num_labeled: int


CLASS_COLUMNS: Mapping[str, Callable[[_ClassRow], Cell]] = {
    "class": lambda row: Cell(text=row.name, is_text=True, color=row.color),
    "share of pixels": lambda row: make_score_cell(row.share, has_bar=True),
    "images": lambda row: replace(make_count_cell(row.num_images), bar=row.num_images / row.num_labeled),
}


def _build_class_table(dataset: Dataset) -> Table:
    """Return the table of the classes."""
    classes = dataset.classes
    pixels = count_class_pixels(dataset, (r.sample for r in dataset.stats))
    rows = [
        _ClassRow(
            name=name,
            color=color,
            share=float(count.sum() / max(int(pixels.sum()), 1)),
            num_images=int((count > 0).sum()),
            num_labeled=max(1, sum(bool(r.value_counts) for r in dataset.stats)),
        )
        for name, color, count in zip(classes.names, list_css_colors(classes), pixels.T, strict=True)
    ]
    return build_table(CLASS_COLUMNS, rows[:MAX_CLASS_ROWS])


def _build_group(findings: Sequence[Finding], thumbnails: _ThumbnailCache | None) -> dict[str, Any]:
    """Build the findings of one code: those with thumbnails, then the rest as text."""
    cards = [_build_card(finding, thumbnails, i < MAX_FINDINGS) for i, finding in enumerate(findings)]
    pictures = [picture for card in cards for picture in card["pictures"]]
    return {
        "code": findings[0].code,
        "severity": findings[0].severity,
        "cards": cards[:MAX_FINDINGS],
        "more": cards[MAX_FINDINGS:],
        "is_narrow": len(cards) > 1 and all(len(card["pictures"]) <= 1 for card in cards),
        "legend": _build_legend(pictures, thumbnails.dataset.classes) if thumbnails else [],
    }


def _build_card(finding: Finding, thumbnails: _ThumbnailCache | None, has_pictures: bool) -> dict[str, Any]:
    if thumbnails is None:
        return {"message": finding.message, "fix": finding.fix, "files": [], "pictures": []}
    root = f"{thumbnails.dataset.root}/"
    shown = thumbnails.find_entries(finding) if has_pictures else []
    shown_files = set().union(*(thumbnails.list_files(entry) for entry in shown))
    return {
        "message": finding.message.replace(root, ""),
        "fix": finding.fix.replace(root, ""),
        "files": [file for file in finding.files if file not in shown_files],
        "pictures": [thumbnails[entry] for entry in shown],
    }


def _build_legend(pictures: Sequence[Thumbnail], classes: Classes | None) -> list[tuple[str, str]]:
    """Return name and color of everything in the masks of the thumbnails."""
    if classes is None:
        return []
    labels = sorted(set().union(*(picture.labels for picture in pictures)) - {classes.ignore_index})
    swatches = list_swatches(classes)
    legend = [swatches[i] for i in labels]
    if any(classes.ignore_index in picture.labels for picture in pictures):
        legend.append(("ignored", to_css_color((0, 0, 0))))
    if any(picture.has_unlisted for picture in pictures):
        legend.append(("not listed as a class", to_css_stripes(choose_unlisted_stripes(classes))))
    return legend
