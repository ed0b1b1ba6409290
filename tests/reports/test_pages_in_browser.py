"""All pages in a real browser: at the width of a phone and of a desktop, in light and dark, with mouse and keyboard."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, Playwright, Request, sync_playwright

from pixelwise.api import check, evaluate
from pixelwise.data.dataset import Dataset
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.cross_validation_report import summarize_folds, write_folds_report
from pixelwise.training.live_report import LivePage
from pixelwise.training.run_dir import RunFolder

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
KINDS = ("report", "live", "evaluation", "check", "faulty", "folds")

FIND_LOW_CONTRAST = """() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 255 : 1;
    return [...numbers.slice(0, 3).map((x) => x * scale), numbers[3] ?? 1];
  };
  const blend = (over, under) => over.slice(0, 3).map((x, i) => x * over[3] + under[i] * (1 - over[3]));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : blend(color, ground(element.parentElement));
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("main *, dialog[open] *")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!isText || element.closest("svg") || !element.checkVisibility()) continue;
    const back = ground(element);
    const ink = blend(parse(getComputedStyle(element).color), back);
    const [dark, light] = [luminance(ink), luminance(back)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


def find_browser() -> str | None:
    """Return the path of a Chromium: of the system, or the one that Playwright has installed."""
    named = os.environ.get("PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as playwright:
        path = find_browser() or _find_installed(playwright)
        if path is None:
            pytest.skip("no Chromium was found")  # the summary says how to install it
        is_root = getattr(os, "geteuid", lambda: 1)() == 0
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if is_root else [])
        yield browser
        browser.close()


def _find_installed(playwright: Playwright) -> str | None:
    path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@pytest.fixture(scope="module")
def pages(trained: Path, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    evaluate(trained, streets, html_path=folder / "evaluation.html", device="cpu")
    check(streets, html_path=folder / "check.html")
    faulty = folder / "faulty"
    shutil.copytree(streets, faulty)
    images = sorted((faulty / "images").rglob("*.png"))
    images[0].write_bytes(b"")
    images[1].unlink()
    (images[2].parent / f"{'long_name_' * 12}.png").write_bytes(images[2].read_bytes())
    description = yaml.safe_load((faulty / "dataset.yaml").read_text(encoding="utf-8"))
    description["names"][-1] = description["names"][0].upper()  # a finding with lines to paste
    (faulty / "dataset.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
    check(faulty, html_path=folder / "faulty.html")
    classes = Dataset.load(streets).classes
    counts = [[40 * (i == j) + 1 for i in range(len(classes.names))] for j in range(len(classes.names))]
    scores = compute_scores(ConfusionMatrix.from_counts(counts), None, classes.names, num_images=4)
    summary = summarize_folds({f"fold-{number}": scores for number in range(1, 6)})
    commands = ModelCommands(model="run", data="street", image="a.png", page="evaluation.html")
    write_folds_report(folder / "folds.html", "run", summary, classes, commands)
    live = LivePage(RunFolder(folder), Dataset.load(streets), (), "pixelwise train street -o run --resume")
    for line in RunFolder(trained).read_metrics():
        live.run.append_metrics(line)
    live.write(0.5)
    return {
        **{kind: folder / f"{kind}.html" for kind in KINDS},
        "report": trained / "report.html",
    }


@pytest.fixture
def open_page(browser: Browser, pages: Mapping[str, Path]) -> Iterator[Callable[..., Page]]:
    """`open_page(kind, width, scheme)`; in the end the page must have fetched nothing and reported no error."""
    opened: list[Any] = []
    faults: list[str] = []

    def open_one(kind: str, width: int = 1280, scheme: Any = "light", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if _is_local(r) else faults.append(r.url))
        page.goto(pages[kind].as_uri())
        return page

    yield open_one
    for context in opened:
        context.close()
    assert faults == []


def _is_local(request: Request) -> bool:
    """Return whether a request is for the page itself or for data in it."""
    return request.url.startswith("data:") or (request.url.startswith("file:") and request.resource_type == "document")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_the_screen(open_page: Callable[..., Page], kind: str, width: int) -> None:
    for scheme in SCHEMES:
        page = open_page(kind, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        boxes = "[...document.querySelectorAll('.card, td, h1, h2, h3, summary')].filter(e => !e.closest('.scroll'))"
        right = page.evaluate(f"Math.max(...{boxes}.map(e => e.getBoundingClientRect().right))")
        assert right <= width
        assert page.evaluate(FIND_LOW_CONTRAST) == []
        page.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_complete_without_scripts_and_on_paper(open_page: Callable[..., Page], kind: str) -> None:
    page = open_page(kind, java_script_enabled=False)
    assert page.locator("button").count() == 0
    assert page.locator("h1").is_visible()
    assert all(image.is_visible() for image in page.locator("img").all()[:8])
    page = open_page(kind)
    page.emulate_media(media="print")
    assert page.locator("h1").is_visible()
    hidden = page.locator("nav, .command button")
    assert not any(element.is_visible() for element in hidden.all())


@pytest.mark.parametrize("kind", KINDS)
def test_headings_descend_and_pictures_have_texts(open_page: Callable[..., Page], kind: str) -> None:
    page = open_page(kind)
    levels = page.evaluate("[...document.querySelectorAll('main :is(h1,h2,h3,h4)')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('main img')].every(image => image.alt)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")


def read_accuracies(page: Page) -> list[float]:
    cells = page.locator("#images tbody tr td:nth-child(3)").all()
    return [float(cell.get_attribute("data-value") or "nan") for cell in cells]


@pytest.mark.parametrize("width", WIDTHS)
def test_images_are_sorted_by_a_click_and_by_the_keyboard(open_page: Callable[..., Page], width: int) -> None:
    page = open_page("evaluation", width)
    head = page.locator("#images th", has_text="accuracy")
    button = head.get_by_role("button")
    before = read_accuracies(page)
    assert head.get_attribute("aria-sort") == "none"
    for state, wanted in (("ascending", sorted(before)), ("descending", sorted(before, reverse=True))):
        button.focus()
        page.keyboard.press("Enter")
        assert read_accuracies(page) == wanted
        assert head.get_attribute("aria-sort") == state
    page.locator("#images th", has_text="image").get_by_role("button").click()
    names = [cell.get_attribute("data-text") for cell in page.locator("#images tbody tr td:first-child").all()]
    assert names == sorted(names)
    assert page.locator("#images th[aria-sort=ascending]").count() == 1


@pytest.mark.parametrize("kind", ["report", "evaluation", "check", "faulty"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_open_by_a_click(open_page: Callable[..., Page], kind: str, width: int) -> None:
    page = open_page(kind, width)
    page.locator(".pictures:has(img:nth-of-type(1)) button").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    box = dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    small = page.locator(".pictures img").first.evaluate("image => image.getBoundingClientRect().width")
    assert dialog.locator(".under").evaluate("image => image.getBoundingClientRect().width") > small
    assert page.evaluate(FIND_LOW_CONTRAST) == []
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_the_slider_shows_the_prediction_over_the_image(open_page: Callable[..., Page]) -> None:
    page = open_page("evaluation")
    page.locator(".pictures button").first.click()
    dialog = page.get_by_role("dialog")
    under, over, slider = (dialog.locator(selector) for selector in (".under", ".over", "input[type=range]"))
    assert over.get_attribute("alt", timeout=1000).startswith("prediction of")  # type: ignore[union-attr]
    for edge in ("left", "top", "width", "height"):
        places = [image.evaluate(f"image => image.getBoundingClientRect().{edge}") for image in (under, over)]
        assert places[0] == pytest.approx(places[1], abs=1)
    for value in (0, 30, 100):
        slider.fill(str(value))
        assert re.findall(r"[\d.]+%", over.evaluate("image => image.style.clipPath")) == [f"{100 - value}%"]
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "99"
    dialog.get_by_label("errors").check()
    assert over.get_attribute("alt").startswith("errors of")  # type: ignore[union-attr]


def test_the_viewer_works_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page("evaluation")
    page.locator(".pictures button").first.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    first = dialog.locator("h2").inner_text()
    dialog.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    assert dialog.locator("h2").inner_text() != first
    dialog.get_by_role("button", name="Previous").focus()
    page.keyboard.press("Enter")
    assert dialog.locator("h2").inner_text() == first
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_commands_are_copied(open_page: Callable[..., Page]) -> None:
    page = open_page("report", permissions=["clipboard-read", "clipboard-write"])
    command = page.locator("#commands .command").first
    command.get_by_role("button", name="Copy").click()
    command.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()
    assert command.locator("code").inner_text().startswith("pixelwise predict ")


def test_lines_to_paste_are_shown_and_copied_with_their_breaks(open_page: Callable[..., Page]) -> None:
    page = open_page("faulty", 390, permissions=["clipboard-read", "clipboard-write"])
    block = page.locator(".finding .command", has=page.get_by_text("rename:")).first
    lines = block.locator("code").inner_text()
    assert lines.startswith("rename: {")
    assert yaml.safe_load(lines) == {"rename": {"SKY": "sky"}}
    assert block.locator("pre").evaluate("pre => getComputedStyle(pre).whiteSpace") == "pre-wrap"
    block.get_by_role("button", name="Copy").click()
    block.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == lines


@pytest.mark.parametrize("kind", ["report", "evaluation"])
@pytest.mark.parametrize("width", WIDTHS)
def test_each_picture_has_its_title_below(open_page: Callable[..., Page], kind: str, width: int) -> None:
    page = open_page(kind, width)
    row = page.locator("#images .pictures").first
    assert row.locator("figcaption").all_inner_texts() == ["image", "truth", "prediction", "errors"]
    for figure in row.locator("figure").all():
        image, caption = (figure.locator(tag).bounding_box() for tag in ("img", "figcaption"))
        assert image is not None
        assert caption is not None
        assert caption["y"] >= image["y"] + image["height"]
        assert abs(caption["x"] - image["x"]) < 2
        assert width > 390 or image["width"] > 150  # two columns fill a phone


def test_charts_have_the_colors_of_the_page(open_page: Callable[..., Page]) -> None:
    inks = set()
    for scheme in SCHEMES:
        page = open_page("report", scheme=scheme)
        inks.add(page.locator("svg text").first.evaluate("text => getComputedStyle(text).fill"))
        assert page.locator("svg text").first.evaluate(
            "text => getComputedStyle(text).fill === getComputedStyle(document.body).color"
        )
    assert len(inks) == 2


def test_settings_are_folded(open_page: Callable[..., Page]) -> None:
    page = open_page("report", 390)
    setting = page.get_by_role("rowheader", name="crop_size")
    assert not setting.is_visible()
    page.get_by_text("All settings").click()
    assert setting.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_an_old_page_of_a_running_process_says_so(
    open_page: Callable[..., Page], pages: Mapping[str, Path], tmp_path: Path
) -> None:
    page = open_page("live")
    note = page.get_by_text("The page was last written")
    assert not note.is_visible()
    source = pages["live"].read_text(encoding="utf-8")
    hour_ago = re.sub(r'(?<=data-written=")\d+', lambda match: str(int(match[0]) - 3600), source)
    (tmp_path / "old.html").write_text(hour_ago, encoding="utf-8")
    page.goto((tmp_path / "old.html").as_uri())
    assert page.get_by_text(re.compile(r"^\d+ minutes$")).is_visible()
    assert page.get_by_text("pixelwise train street -o run --resume").is_visible()
