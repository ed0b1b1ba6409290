import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelwise.api import check
from pixelwise.checks import CheckReport, Finding
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.data.visualization import to_css_stripes
from pixelwise.errors import DataError
from pixelwise.progress import use_reporter
from pixelwise.reports.check_report import MAX_FILES, MAX_FINDINGS, SAMPLE_SIZE, render_check_report
from pixelwise.reports.thumbnails import choose_unlisted_stripes
from support.pages import Page, require_offline
from support.recorder import Recorder


def write_pairs(root: Path, count: int, size: tuple[int, int] = (24, 32)) -> Path:
    """Write pairs of noise; the last two are the validation split."""
    rng = np.random.default_rng(0)
    for number in range(count):
        split = "val" if number >= count - 2 else "train"
        name = f"{split}/{number:02}" if split == "train" else f"{split}/v{number:02}"  # no sequence over both
        write_png(root / f"images/{name}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        write_png(root / f"masks/{name}.png", rng.integers(0, 3, size, np.uint8))
    (root / "dataset.yaml").write_text("names: [road, '<i>sky</i>', tree]\n", encoding="utf-8")
    return root


def write_checked(data: Path, page: Path) -> Page:
    check(data, html_path=page)
    return Page(page.read_bytes())


def write_findings(data: Path, findings: Sequence[Finding], page: Path) -> Page:
    """Write a page with the given findings."""
    dataset = Dataset.load(data)
    dataset = scan_dataset(dataset)
    report = CheckReport(format="folder", num_images=9, classes=("a",), splits={}, findings=tuple(findings))
    page.write_bytes(render_check_report(report, dataset, dataset.root.name))
    return Page(page.read_bytes())


def make_finding(code: str, *files: str, severity: Any = "error") -> Finding:
    return Finding(code=code, severity=severity, files=files, message=f"{code} is wrong.", fix="Fix it.")


def decode(image: dict[str, str]) -> Array:
    kind, _, content = image["src"].partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_clean_dataset_is_shown_with_a_sample(tmp_path: Path) -> None:
    page = write_checked(write_pairs(tmp_path / "cars", 30), tmp_path / "page.html")
    assert ("h1", "cars") in page.headings
    assert "Nothing found: the dataset is ready." in page.text
    assert "train 28, val 2" in page.text
    assert "32 × 24" in page.text
    assert len(page.images) == 2 * SAMPLE_SIZE
    assert {decode(image).shape for image in page.images} == {(24, 32, 3)}
    assert all(image["alt"] and image["width"] for image in page.images)
    assert f"{SAMPLE_SIZE} of 30 pairs" in page.text


def test_the_page_is_offline_and_reproducible(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 5)
    page = write_checked(data, tmp_path / "page.html")
    assert write_checked(data, tmp_path / "again.html").source == page.source
    require_offline(page)


def test_the_page_has_light_dark_and_print_styles(tmp_path: Path) -> None:
    source = write_checked(write_pairs(tmp_path / "cars", 3), tmp_path / "page.html").source
    for wanted in (
        "color-scheme: light dark",
        "@media (prefers-color-scheme: dark)",
        "@media print",
        "max-width: 640px",
    ):
        assert wanted in source


def luminance(color: str) -> float:
    digits = color * 2 if len(color) == 3 else color
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1, 2])
def test_text_has_enough_contrast(tmp_path: Path, scheme: int) -> None:
    """WCAG's 4.5 : 1, in light, dark and print."""
    source = write_checked(write_pairs(tmp_path / "cars", 3), tmp_path / "page.html").source
    blocks = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)
    tokens = dict(re.findall(r"--([\w-]+): #([0-9a-f]{3,6})\b", blocks[scheme]))
    grounds = [("ink", "paper"), ("ink", "back"), ("soft", "paper"), ("soft", "back")]
    for text, ground in [*grounds, *((s, f"{s}-back") for s in ("error", "warning", "note", "good"))]:
        dark, light = sorted((luminance(tokens[text]), luminance(tokens[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_every_finding_is_shown_errors_first(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 6)
    (data / "masks/train/00.png").unlink()
    (data / "images/train/01.png").unlink()
    (data / "images/train/02.png").write_bytes(b"")
    write_png(data / "masks/train/03.png", np.full((24, 32), 7, np.uint8))
    page = write_checked(data, tmp_path / "page.html")
    report = check(data)
    codes = [text for tag, text in page.headings if tag == "h3" and text != "Classes"]
    assert codes == [f"{f.severity} {f.code}" for f in report.findings]
    for finding in report.findings:
        assert finding.message.replace(f"{data}/", "") in page.text
        assert finding.fix in page.text
    assert "3 errors" in page.text
    assert "1 warning" in page.text
    assert "The file is empty. Replace or remove it." in page.text
    assert "not listed as a class" in page.text
    assert str(data) not in page.source


def test_file_names_are_escaped(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 4)
    (data / "images/train/00.png").rename(data / "images/train/<b>&'\".png")
    page = write_checked(data, tmp_path / "page.html")
    assert "<b>&" not in page.source
    assert "images/train/<b>&'\".png" in page.text
    assert "<i>sky" not in page.source
    assert "<i>sky</i>" in page.text
    assert any(image["alt"] == "image: images/train/<b>&'\".png" for image in page.images)


def test_thirty_findings_stay_under_five_megabytes(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "noise", 9, (300, 400))
    files = [f"images/train/{number:02}.png" for number in range(7)]
    page = write_findings(data, [make_finding(f"code_{i}", *files) for i in range(30)], tmp_path / "page.html")
    assert len(page.images) == 30 * MAX_FILES * 2 + 9 * 2
    assert page.text.count("1 more file") == 30
    assert page.bytes < 5_000_000


def test_findings_beyond_the_limit_are_listed_without_pictures(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    findings = [
        replace(make_finding("bad", "images/train/00.png"), message=f"fault number {i}.")
        for i in range(MAX_FINDINGS + 3)
    ]
    page = write_findings(data, findings, tmp_path / "page.html")
    assert len(page.images) == 2 * MAX_FINDINGS + 2 * 3
    assert [f"fault number {i}." in page.text for i in range(len(findings))] == [True] * len(findings)
    assert "3 more findings of this kind" in page.text
    assert f"{len(findings)} times" in page.text


def test_a_pair_named_by_both_its_files_is_shown_once(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    page = write_findings(
        data, [make_finding("bad", "images/train/00.png", "masks/train/00.png")], tmp_path / "page.html"
    )
    assert len(page.images) == 2 + 2 * 3


def test_containers_and_other_files_are_listed_without_pictures(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    tar = data / "all.tar"
    samples = tuple(Sample(name=str(i), image_path=tar, mask_path=tar, split=None) for i in range(3))
    classes = describe_classes(parse_description({"names": ["a", "b"]}))
    dataset = replace(Dataset.load(data).with_classes(classes, 3), index=DatasetIndex(samples=samples))
    dataset = scan_dataset(dataset, samples)
    findings = (make_finding("bad", "all.tar", "notes.doc"),)
    report = CheckReport(format="tar", num_images=3, classes=("a", "b"), splits={}, findings=findings)
    (tmp_path / "page.html").write_bytes(render_check_report(report, dataset, dataset.root.name))
    page = Page((tmp_path / "page.html").read_bytes())
    assert page.images == []
    assert "2 files" in page.text
    assert "notes.doc" in page.text


def test_files_without_a_partner_are_drawn(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    (data / "images/train/lone.png").write_bytes((data / "images/train/00.png").read_bytes())
    (data / "masks/train/alone.png").write_bytes((data / "masks/train/00.png").read_bytes())
    findings = [make_finding("a", "images/train/lone.png"), make_finding("b", "masks/train/alone.png")]
    page = write_findings(data, findings, tmp_path / "page.html")
    assert [image["alt"] for image in page.images[:2]] == [
        "image: images/train/lone.png", "mask: masks/train/alone.png"
    ]  # fmt: skip


def test_a_dataset_without_readable_masks(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 4)
    (data / "dataset.yaml").unlink()
    for path in (data / "masks").rglob("*.png"):
        path.write_bytes(b"")
    page = write_checked(data, tmp_path / "page.html")
    assert "masks read0" in page.text.replace("\n", "")
    assert "Classes" not in page.text
    assert len(page.images) == 2 * 4
    for path in (data / "images").rglob("*.png"):
        path.write_bytes(b"")
    page = write_checked(data, tmp_path / "page.html")
    assert page.images == []
    assert "no image can be read" in page.text


def test_a_dataset_without_pairs(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 4)
    for path in (data / "masks").rglob("*.png"):
        path.unlink()
    page = write_checked(data, tmp_path / "page.html")
    assert len(page.images) == 4
    assert "A random sample" not in page.text


def test_shares_of_rare_classes_keep_their_digits(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3, (100, 100))
    for path in (data / "masks").rglob("*.png"):
        mask = np.zeros((100, 100), np.uint8)
        mask[0, :3] = 1
        write_png(path, mask)
    text = write_checked(data, tmp_path / "page.html").text
    assert "0.03 %" in text
    assert "100.0 %" in text


def test_different_sizes_are_described(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    for kind, shape in (("images", (10, 50, 3)), ("masks", (10, 50))):
        write_png(data / kind / "train/00.png", np.zeros(shape, np.uint8))
    text = write_checked(data, tmp_path / "page.html").text
    assert "median size" in text
    assert "widths 32 to 50, heights 10 to 24" in text


def test_a_folder_that_is_not_a_dataset_has_only_findings() -> None:
    finding = make_finding("no_images", "notes.txt")
    report = CheckReport(format="", num_images=0, classes=(), splits={}, findings=(finding,))
    page = Page(render_check_report(report, None, "cars"))
    assert page.headings == [("h1", "cars"), ("h2", "Findings"), ("h3", "error no_images")]
    assert "Fix it." in page.text
    assert "classes" not in page.text
    assert "Format" not in page.text


def test_lines_to_paste_keep_their_line_breaks(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 3)
    finding = replace(make_finding("bad"), fix="Write this into dataset.yaml:\nnames: [a, b]\nignore: 255")
    page = write_findings(data, [finding], tmp_path / "page.html")
    assert "<strong>Fix</strong> Write this into dataset.yaml:</p>" in page.source
    assert '<div class="command"><pre><code>names: [a, b]\nignore: 255</code></pre></div>' in page.source


def test_readable_masks_without_classes_are_not_called_unreadable(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 4)
    (data / "dataset.yaml").unlink()
    for path in (data / "masks").rglob("*.png"):
        write_png(path, np.random.default_rng(0).integers(0, 2, (24, 32, 3), np.uint8) * 200)
    page = write_checked(data, tmp_path / "page.html")
    assert "masks read4one per image" in page.text.replace("\n", "")
    assert "classesunknownthe masks define none" in page.text


def test_the_background_has_the_same_color_in_the_table_and_in_the_legend(tmp_path: Path) -> None:
    data = write_pairs(tmp_path, 3)
    (data / "dataset.yaml").write_text("names: [background, road, tree]\n", encoding="utf-8")
    source = write_checked(data, tmp_path / "check.html").source
    colors = re.findall(r'style="background:([^"]*)"></span>background', source)
    assert len(colors) > 1
    assert set(colors) == {"transparent"}


def test_the_page_of_an_unreadable_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    recorder = Recorder()
    with use_reporter(recorder), pytest.raises(DataError, match="contains no images"):
        check(tmp_path / "data", html_path=tmp_path / "page.html", json_path=tmp_path / "check.json")
    assert recorder.messages == [f"written: {tmp_path / name}" for name in ("check.json", "page.html")]


def test_unreadable_masks_have_no_number_of_classes(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "cars", 4)
    (data / "dataset.yaml").unlink()
    for path in (data / "masks").rglob("*.png"):
        path.write_bytes(b"")
    page = write_checked(data, tmp_path / "page.html")
    assert "classesunknownno mask can be read" in page.text
    assert "0 classes" not in page.text


def test_legends_show_what_is_not_painted_and_what_has_no_class(tmp_path: Path) -> None:
    data = write_pairs(tmp_path, 3)
    (data / "dataset.yaml").write_text("names: [background, tree]\n", encoding="utf-8")
    page = write_checked(data, tmp_path / "check.html")
    assert 'style="background:transparent"></span>background (not painted)' in page.source
    stripes = to_css_stripes(choose_unlisted_stripes(Dataset.load(data).classes))
    assert f'style="background:{stripes}"></span>not listed as a class' in page.source
