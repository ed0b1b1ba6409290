import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pixelwise.checks import CheckReport, Finding, Severity
from pixelwise.cli.main import main
from pixelwise.cli.results import (
    print_check,
    print_cross_validation,
    print_evaluation,
    print_failures,
    print_localization,
    print_scores,
    print_training,
)
from pixelwise.config import Config
from pixelwise.evaluation.result import EvaluationResult
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.networks import NETWORKS, describe
from pixelwise.prediction.result import LocalizedClass, LocalizedImage, LocalizeReport
from pixelwise.training.results import CrossValidationResult, TrainResult

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def a_report(*findings: Finding) -> CheckReport:
    return CheckReport(
        format="folder", num_images=3, classes=("a", "[red]b"), splits={"train": 2, "val": 1}, findings=findings
    )


def test_scores_are_a_table_with_escaped_names(capsys: Capture) -> None:
    row = {"iou": 0.25, "accuracy": None, "dice": 0.5, "pixels": 12345}
    print_scores({"mean_iou": 0.123456, "boundary_f1": None, "split": "test", "per_class": {"[bold]": row}})
    shown = capsys.readouterr().out
    assert "split test" in shown
    assert "0.1235" in shown
    assert "[bold]" in shown
    assert "12,345" in shown
    assert "None" not in shown


def test_scores_stored_in_a_model_are_shown_without_classes(capsys: Capture) -> None:
    print_scores({"mean_iou": 0.5, "num_images": 4, "bf16": {"agreement": 1.0}})
    shown = capsys.readouterr().out
    assert "validation, fp32" in shown
    assert "mean iou" in shown
    assert "IoU" not in shown


def test_cross_validation_shows_mean_and_std(capsys: Capture) -> None:
    row = {"mean_iou": 0.5, "global_accuracy": 0.6, "mean_class_accuracy": 0.7, "mean_dice": 0.8}
    of_class = {"per_class": {"[red]x": {"iou": 0.25, "pixels": 12345}}}
    std = {**dict.fromkeys(row, 0.03), "boundary_f1": None, "per_class": {"[red]x": {"iou": None}}}
    scores = {
        "folds": dict.fromkeys(["fold-1", "fold-2"]),
        "mean": {**row, "boundary_f1": 0.9, **of_class},
        "std": std,
        "pooled": {**row, **of_class},
    }
    print_cross_validation(
        CrossValidationResult(run=Path("runs/folds"), folds=(), report=Path("runs/folds/folds.html"), scores=scores), {}
    )
    shown = capsys.readouterr().out
    assert "2 folds" in shown
    lines = {words[0]: words[1:] for line in shown.splitlines() if (words := line.strip("│ ").split("│"))}
    assert [word.strip() for word in lines["mean iou            "]] == ["0.5000", "0.0300", "0.5000"]
    assert [word.strip() for word in lines["boundary f1         "]] == ["0.9000", "-", "-"]
    assert "[red]x" in shown
    assert "12,345" in shown


def test_a_dataset_without_problems_is_ready(capsys: Capture) -> None:
    print_check(a_report(), {})
    shown = capsys.readouterr().out
    assert "format folder: 3 images (train 2, val 1)" in shown
    assert "2 classes: a, [red]b" in shown
    assert "no problems found: the dataset is ready." in shown


def test_unknown_classes_are_not_counted(capsys: Capture) -> None:
    print_check(replace(a_report(), classes=()), {})
    assert capsys.readouterr().out.splitlines()[1] == "classes: unknown"


def test_written_files_are_printed(capsys: Capture) -> None:
    files = {"json_path": Path("a.json"), "html_path": Path("a.html")}
    print_check(a_report(a_finding("error", "a_code", 9)), files)
    assert capsys.readouterr().out.splitlines()[-3:] == ["1 error", "json: a.json", "page: a.html"]
    scores = compute_scores(ConfusionMatrix.from_counts([[1]]), None, ["a"], num_images=1)
    print_evaluation(EvaluationResult.from_scores(scores, split="val", model="run", data="data"), files)
    assert capsys.readouterr().out.splitlines()[-2:] == ["json: a.json", "page: a.html"]


def test_findings_are_escaped(capsys: Capture) -> None:
    message = r"x[0].png and C:\[new]\y.png have [red]faults[/red]."
    print_check(a_report(Finding(code="some_code", severity="error", files=(), message=message, fix="Fix them.")), {})
    shown = capsys.readouterr().out
    assert message in shown
    assert "Fix them." in shown
    assert "some_code" in shown


def a_finding(severity: Severity, code: str, files: int) -> Finding:
    names = tuple(f"images/{number}.png" for number in range(files))
    return Finding(code=code, severity=severity, files=names, message=f"{files} things.", fix="Fix them.")


def test_findings_are_counted_and_printed_one_block_each(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    findings = [a_finding("error", "first_code", 1200), a_finding("error", "second_code", 1)]
    print_check(a_report(*findings, a_finding("warning", "third_code", 0)), {})
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 60
    start = lines.index("error     first_code  1,200 files")
    assert lines[start + 1 : start + 3] == ["1200 things.", "→ Fix them."]
    assert "error     second_code  1 file" in lines
    assert "warning   third_code" in lines
    assert lines[-1] == "2 errors, 1 warning; all files: --json FILE"


def test_a_short_list_of_files_needs_no_json(capsys: Capture) -> None:
    print_check(a_report(a_finding("note", "a_code", 3)), {})
    assert capsys.readouterr().out.splitlines()[-1] == "1 note"


def test_failures_name_the_file_once(capsys: Capture) -> None:
    print_failures([("a.png", "a.png: is empty"), ("b.png", "no room")])  # type: ignore[list-item]
    assert capsys.readouterr().err == "failed: a.png: is empty\nfailed: b.png: no room\n"


def test_a_reason_of_several_inputs_is_printed_once(capsys: Capture) -> None:
    print_failures([(Path("a.png"), "a.png: Too dark."), (Path("c.png"), "Empty."), (Path("b.png"), "Too dark.")])
    assert capsys.readouterr().err == "failed: 2 inputs: Too dark.\n  a.png\n  b.png\nfailed: c.png: Empty.\n"


@pytest.mark.parametrize(("probability", "is_guess"), [(0.03, True), (0.3, False)])
def test_a_class_that_is_hardly_likely_is_called_a_guess(probability: float, is_guess: bool, capsys: Capture) -> None:
    found = LocalizedClass(name="tick", probability=probability, peak=(1, 2))
    image = LocalizedImage(image=Path("a.png"), heatmap=Path("b.png"), classes=(found,))
    print_localization(LocalizeReport(images=(image,), failures=()), {"output": "out"})
    shown = capsys.readouterr().out
    assert ("guesses" in shown) == is_guess
    assert shown.endswith("1 heat map written to out\n")


def test_a_run_is_printed_with_its_files(capsys: Capture) -> None:
    run = Path("runs/a")
    result = TrainResult(run=run, model=run / "model", report=run / "report.html", scores={"mean_iou": 0.5})
    print_training(result, {})
    assert capsys.readouterr().out.endswith("model:  runs/a/model\nreport: runs/a/report.html\n")


def run(capsys: Capture, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert not end.value.code
    return capsys.readouterr().out


def test_config_prints_keys_with_default_range_and_meaning(capsys: Capture) -> None:
    lines = run(capsys, "config").splitlines()
    assert "network.depth: 4  (from 1 to 8)" in lines
    assert lines[lines.index("network.depth: 4  (from 1 to 8)") + 1].startswith("    unet: number of times")
    assert all(len(line) <= 120 for line in lines)


def test_config_prints_a_json_schema(capsys: Capture) -> None:
    assert json.loads(run(capsys, "config", "--json-schema")) == Config.json_schema()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_fits_eighty_columns(name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = describe(name)
    lines = run(capsys, "networks", name.upper()).splitlines()
    assert ("pool + switches" in "".join(lines)) == any(row.operator == "max_unpool" for row in rows)
    assert max(map(len, lines)) <= 80
    assert "\u2026" not in "".join(lines)
    # One line for each layer, with its whole name and all figures.
    shown = [line for line in lines if line.startswith(" ") and re.search(r"x\d+x\d+ +[\d,]+ +[\d.]+ +[\d.]+$", line)]
    assert [line.split()[0] for line in shown if line[1] != " "] == [row.name for row in rows if row.name]
    assert len(shown) == len(rows)


def test_all_networks_fit_eighty_columns(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(capsys, "networks", "--size", "64", "64")
    assert max(map(len, shown.splitlines())) <= 80
    assert "\u2026" not in shown
    assert [name for name in NETWORKS if f" {name} " not in shown] == []


def test_the_layers_show_crops_joins_and_sums(capsys: Capture) -> None:
    shown = run(capsys, "networks", "unet-paper", "--size", "572", "572", "--channels", "1", "--classes", "2")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    start = lines.index("up.0 crop 64x64 -> 56x56 512x56x56 0 0.00 0.0")
    assert lines[start + 1] == "up.0 concatenate 512 + 512 1024x56x56 0 0.00 0.0"
    assert lines.index("encoder") < start
    sums = [line.split() for line in lines if line.startswith(("encoder ", "decoder ", "total "))]
    assert [words[:3] for words in sums] == [
        ["encoder", "10", "18,842,048"],
        ["decoder", "13", "12,188,610"],
        ["total", "23", "31,030,658"],
    ]
    total = sum(float(words[3]) for words in sums[:2])
    assert float(sums[2][3]) == pytest.approx(total, abs=0.02)


def test_long_names_of_layers_are_complete(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(capsys, "networks", "unet", "--encoder", "densenet121", "--size", "64", "64")
    assert max(map(len, shown.splitlines())) <= 80
    width = shown.splitlines()[1].index("operator")
    names = "".join(line[:width].strip() for line in shown.splitlines())
    assert "encoder.features.denseblock4.denselayer16.conv2" in names


def test_networks_prints_the_input(capsys: Capture) -> None:
    shown = run(capsys, "networks", "unet", "--size", "64", "96", "--channels", "1", "--set", "network.depth=2")
    assert "unet: image of 64x96, 1 channel, 11 classes" in shown
    assert "padded" not in shown
    assert "padded from 63x96" in run(capsys, "networks", "unet", "--size", "63", "96")


def test_info_prints_a_line_per_value(capsys: Capture) -> None:
    assert re.search(r"^torch +\d", run(capsys, "info"), re.MULTILINE)
