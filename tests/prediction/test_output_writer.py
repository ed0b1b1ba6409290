import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.batching import Failure, PredictedImage
from pixelwise.inference.predictor import Prediction, Tiling
from pixelwise.output_files import claim_output
from pixelwise.prediction import output_writer as home
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.output_writer import MANIFEST, OutputWriter, log_blending, write_in_background
from support.predictions import ABC, make_manifest

ITEM = Input(Path("photos/trip/a.jpg"), Path("trip/a"))
FIRST = {"model": "abc", "tiling": "exact", "min_area": 0}


def begin(
    folder: Path,
    request: Mapping[str, Any] = FIRST,
    stems: tuple[str, ...] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> set[Input]:
    inputs = [Input(Path("photos") / f"{stem}.jpg", Path(stem)) for stem in stems]
    writer = OutputWriter(folder=folder, kinds=("labels",))
    with claim_output(folder, request) as claim:
        return writer.begin(inputs, ABC, request, claim, resume=resume, overwrite=overwrite)


def read_manifest(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opacity": 1.5}, r"--opacity is 1\.5\. Expected a number from 0 to 1"),
        ({"opacity": float("nan")}, "--opacity is nan"),
        ({"overlay_style": "outlines"}, "(?s)overlay style.*outlines.*outline"),
        ({"overlay_style": "outline", "opacity": 0.3}, "Outlines are opaque. Omit it, or use --overlay-style fill"),
    ],
)
def test_odd_options_of_overlays_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        OutputWriter(folder=Path("out"), kinds=("overlay",), **options)


def test_a_worker_has_no_summary_files() -> None:
    writer = OutputWriter(folder=Path("out"), kinds=("labels", "table", "overlay", "coco"), min_area=3)
    assert writer.without_summaries() == OutputWriter(folder=Path("out"), kinds=("labels", "overlay"), min_area=3)


def test_a_new_folder_gets_a_manifest(tmp_path: Path) -> None:
    assert begin(tmp_path / "out", resume=True) == set()
    assert list(read_manifest(tmp_path / "out")["requests"].values()) == [FIRST]


def test_outputs_of_an_equal_request_are_complete_only_with_resume(tmp_path: Path) -> None:
    begin(tmp_path, stems=("a", "b"))
    make_manifest(tmp_path, FIRST).write(tmp_path / "a.png", b"done")
    assert [item.stem.name for item in begin(tmp_path, stems=("a", "b"), resume=True)] == ["a"]
    assert begin(tmp_path, stems=("a", "b")) == set()
    assert (tmp_path / "a.png").exists()  # until the equal result replaces it


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    ("other", "message"),
    [({**FIRST, "model": "xyz"}, "another model"), ({**FIRST, "min_area": 9}, "min_area was 0 and is 9")],
)
def test_outputs_of_another_request_are_only_replaced_if_the_user_asks(
    tmp_path: Path, other: Mapping[str, Any], message: str, resume: bool
) -> None:
    begin(tmp_path)
    make_manifest(tmp_path, FIRST).write(tmp_path / "a.png", b"old")
    with pytest.raises(InvalidArgumentError, match=rf"a\.png was written by another request \({message}\)"):
        begin(tmp_path, other, ("a",), resume=resume)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert begin(tmp_path, other, ("a", "none"), resume=resume, overwrite=True) == set()
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    "text", ["[]", '{"files": [], "requests": {"a": {}}}', '{"written_by": "pixelwise", "files": [{}]}', "no JSON"]
)
def test_a_manifest_of_another_format_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"predict\.json exists, and Pixelwise did not write it"):
        begin(tmp_path, resume=True)
    assert (tmp_path / MANIFEST).read_text() == text
    begin(tmp_path, overwrite=True)
    assert read_manifest(tmp_path)["files"] == []


@pytest.mark.parametrize("option", ["--resume", "--shard", "--cluster"])
@pytest.mark.parametrize("kind", ["coco", "cvat", "table"])
def test_summary_files_need_label_files(kind: str, option: str) -> None:
    OutputWriter(folder=Path("out"), kinds=("overlay", "labelme"), label_values="dataset").require_label_files(option)
    OutputWriter(folder=Path("out"), kinds=(kind, "labels")).require_label_files(option)
    message = rf"{option} reads the finished images for {kind} from label files .* or omit {option}"
    for writer in (
        OutputWriter(folder=Path("out"), kinds=(kind,)),
        OutputWriter(folder=Path("out"), kinds=(kind, "labels"), label_values="dataset"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            writer.require_label_files(option)


def answer(item: int) -> PredictedImage[int, None]:
    labels = np.zeros((2, 2), np.uint8)
    prediction = Prediction(labels=labels, _logits=lambda: torch.zeros(1, 2, 2))
    return PredictedImage(item=item, image=np.zeros((2, 2, 3), np.uint8), extra=None, prediction=prediction)


@pytest.mark.parametrize("behind", [0, 8])
def test_results_and_failures_keep_their_order(monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
    monkeypatch.setattr(home, "MAX_PENDING", behind)
    unread = InvalidArgumentError("cannot be read")

    def write(one: PredictedImage[int, None]) -> int:
        if one.item == 3:
            raise OSError("the disk is full")
        return 10 * one.item

    found = list(write_in_background([answer(1), Failure(item=2, error=unread), answer(3), answer(4)], write))
    assert [str(one) for one in found] == ["10", "cannot be read", "the disk is full", "40"]


def test_few_predictions_wait_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_PENDING", 2)
    taken: list[int] = []

    def answers() -> object:
        for item in range(9):
            taken.append(item)
            yield answer(item)

    outcomes = write_in_background(answers(), lambda one: one.item)  # type: ignore[arg-type]
    assert next(outcomes) == 0
    assert taken == [0, 1, 2]
    assert list(outcomes) == list(range(1, 9))


@pytest.mark.parametrize(("tiling", "reason"), [("exact", "global receptive field"), ("blend", "requested")])
def test_blending_is_logged_with_its_reason(tiling: Tiling, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        log_blending("a.png", 1.25, tiling)
    assert caplog.messages[0].startswith("a.png: tiles were blended (")
    assert reason in caplog.messages[0]
    assert caplog.messages[0].endswith("seam score: 1.25")
