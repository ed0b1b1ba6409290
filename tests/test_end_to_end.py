"""The command line from outside: exit codes, messages and files."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from pixelwise.cli import main
from pixelwise.config import load_config
from pixelwise.data.io.images import read_image, read_mask, write_png
from pixelwise.inference.predictor import load
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.run_dir import RunFolder

TINY = [
    *("--set", "network.base_channels=4", "--set", "network.depth=2", "--set", "network.stem_stride=1"),
    *("--set", "training.batch_size=4", "--set", "training.num_evaluations=2", "--set", "data.crop_size=[64, 96]"),
    *("--steps", "6", "--deterministic", "--device", "cpu", "--precision", "fp32"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    code: int
    out: str
    err: str


Run = Callable[..., Completed]


@pytest.fixture
def pixelwise(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Completed:
        with pytest.raises(SystemExit) as end:
            main.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = end.value.code or 0
        assert isinstance(code, int)
        return Completed(code=code, out=captured.out, err=captured.err)

    return run


def is_refused(result: Completed, *words: str) -> bool:
    """Return whether a command exits with 2 and ends standard error with one message that contains the words."""
    assert (result.code, result.out) == (2, "")
    _, found, message = f"\n{result.err}".rpartition("\npixelwise: ")
    assert found, result.err
    assert [word for word in words if word not in message] == []
    return True


def garble(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"garbage")


def test_folds_from_the_command_line(pixelwise: Run, streets: Path) -> None:
    result = pixelwise("train", streets, "-o", "runs/folds", "--folds", "2", "--group-by", "[0-9]$", *TINY)
    assert result.code == 0, result.err
    assert re.search(r"2 folds .*16 images.* 10 groups", result.err)
    assert "fold 2 of 2" in result.err
    assert "std" in result.out
    assert "folds:  runs/folds" in result.out
    assert "report: runs/folds/folds.html" in result.out
    assert Path("runs/folds/fold-2/model.safetensors").exists()
    assert pixelwise("train", streets, "-o", "runs/folds", "--resume").out == result.out


def test_groups_from_the_command_line(pixelwise: Run, streets: Path) -> None:
    assert pixelwise("check", streets, "--group-by", "[0-9]+").code == 0
    assert is_refused(pixelwise("plan", streets, "--group-by", "patient"), "does not match 20 of 20 names", "test/0000")
    assert is_refused(pixelwise("train", streets, "--folds", "1"), "folds is 1")


def test_check_train_evaluate_predict(pixelwise: Run, streets: Path) -> None:
    """The README's commands in order, on data without a dataset of its own in the folder."""
    result = pixelwise("check", streets, "--json", "check.json")
    assert result.code == 0, result.out
    assert json.loads(Path("check.json").read_text())["num_images"] == 20

    result = pixelwise("train", streets, "-o", "runs/first", *TINY)
    assert result.code == 0, result.err
    assert "model:  runs/first/model.safetensors" in result.out
    assert "mean iou" in result.out
    expected = {
        "config.yaml", "classes.yaml", "splits.yaml", "metrics.jsonl", "events", "last.checkpoint",
        "previous.checkpoint", "model.safetensors", "report.html", "live.html", "files.json",
    }  # fmt: skip
    assert {path.name for path in Path("runs/first").iterdir()} == expected

    result = pixelwise("evaluate", "runs/first", streets, "--json", "scores.json", "--device", "cpu")
    assert result.code == 0, result.err
    assert "split test" in result.out
    assert "'test': 4 images, fp32" in result.err
    scores = json.loads(Path("scores.json").read_text())
    assert (scores["split"], scores["model"], scores["num_images"]) == ("test", "runs/first", 4)
    assert all(name in result.out for name in scores["per_class"])

    images = streets / "images" / "test"
    result = pixelwise(
        "predict", "runs/first", images, "-o", "out", "--save", "labels, overlay,probabilities", "--device", "cpu"
    )
    assert (result.code, result.out) == (0, "12 files written to out\n")
    for path in images.iterdir():
        assert read_mask(Path("out") / path.name).shape == read_image(path).shape[:2]


def test_images_with_one_file_per_channel(pixelwise: Run) -> None:
    """nnU-Net's format; the labels are those that `evaluate` scores and that an array of all channels gives."""
    rng, names = np.random.default_rng(0), [f"scene_{number}" for number in range(6)]
    for number, name in enumerate(names):
        labels = np.zeros((64, 96), np.uint8)
        labels[6 * number : 6 * number + 20, 8 * number : 8 * number + 40] = 1
        for channel, value in enumerate((60, 120)):
            noise = rng.integers(0, 60, labels.shape, np.uint8)
            write_png(Path(f"set/imagesTr/{name}_{channel:04d}.png"), noise + value * labels)
        write_png(Path(f"set/labelsTr/{name}.png"), labels)
    info = {"channel_names": {"0": "red", "1": "infrared"}, "labels": {"ground": 0, "box": 1}, "file_ending": ".png"}
    Path("set/dataset.json").write_text(json.dumps(info), encoding="utf-8")
    result = pixelwise("train", "set", "-o", "run", *TINY, "--steps", "2")
    assert result.code == 0, result.err
    assert pixelwise("evaluate", "run", "set", "--json", "scores.json", "--device", "cpu").code == 0
    scores = json.loads(Path("scores.json").read_text())

    Path("set/imagesTr/scene_9_0001.png").write_bytes(Path("set/imagesTr/scene_0_0001.png").read_bytes())
    result = pixelwise("predict", "run", "set/imagesTr", "-o", "out", "--device", "cpu")
    assert (result.code, result.out) == (1, "6 files written to out\n")
    assert (
        "failed: set/imagesTr/scene_9_0001.png: The image scene_9.png has the channels 0 to 1, but no file was given "
        "for channel 0." in result.err
    )
    predictor = load("run", device="cpu")
    for name in names:
        channels = [read_image(Path(f"set/imagesTr/{name}_{channel:04d}.png")) for channel in range(2)]
        labels = predictor.predict(np.concatenate(channels, -1)).labels
        np.testing.assert_array_equal(read_mask(Path(f"out/{name}.png")), labels)
    splits = yaml.safe_load(Path("run/splits.yaml").read_text())
    counts = np.zeros((2, 2), int)
    for name in splits[scores["split"]]:
        np.add.at(counts, (read_mask(Path(f"set/labelsTr/{name}.png")), read_mask(Path(f"out/{name}.png"))), 1)
    assert counts.tolist() == scores["confusion"]


def test_polygon_labels_are_trained_in_place(pixelwise: Run) -> None:
    """COCO polygons in, a model out; nothing is written into the folder of the data."""
    images, annotations = [], []
    for number in range(6):
        left, top = 8 * number, 6 * number
        image = np.full((64, 96, 3), 60, np.uint8)
        image[top : top + 20, left : left + 30] = 200
        write_png(Path(f"set/images/{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 96})
        corners = [left, top, left + 30, top, left + 30, top + 20, left, top + 20]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [corners]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    Path("set/annotations.json").write_text(json.dumps(content), encoding="utf-8")
    files = sorted(Path("set").rglob("*"))

    result = pixelwise("check", "set", "--json", "check.json")
    assert result.code == 0, result.out
    answer = json.loads(Path("check.json").read_text())
    assert (answer["format"], answer["classes"], answer["num_images"]) == ("coco", ["background", "box"], 6)
    assert [finding["code"] for finding in answer["findings"]] == ["split_made"]

    result = pixelwise("train", "set", "-o", "run", *TINY, "--steps", "2")
    assert result.code == 0, result.err
    result = pixelwise("evaluate", "run", "set", "--split", "val", "--json", "scores.json", "--device", "cpu")
    assert result.code == 0, result.err
    scores = json.loads(Path("scores.json").read_text())
    assert scores["per_class"]["box"]["pixels"] == 600 * scores["num_images"]
    assert sorted(Path("set").rglob("*")) == files


def test_info(pixelwise: Run) -> None:
    result = pixelwise("info")
    assert result.code == 0
    assert "torch" in result.out
    assert "threads" in result.out


def test_check_with_errors_exits_with_1_and_writes_json(pixelwise: Run, streets: Path) -> None:
    data = shutil.copytree(streets, "data")
    (Path(data) / "labels" / "train" / "0000.png").unlink()
    result = pixelwise("check", "data", "--json", "check.json")
    assert result.code == 1
    assert "missing_mask" in result.out
    written = json.loads(Path("check.json").read_text())
    assert set(written) == {"format", "num_images", "classes", "splits", "findings", "written_by"}
    assert "missing_mask" in {finding["code"] for finding in written["findings"]}


def test_check_writes_a_page_with_and_without_errors(pixelwise: Run, streets: Path) -> None:
    shutil.copytree(streets, "data")
    for fault, code in ((False, 0), (True, 1)):
        if fault:
            (Path("data") / "images" / "train" / "0003.png").write_bytes(b"")
        result = pixelwise("check", "data", "--html", "pages/check.html")
        assert result.code == code
        assert "page: pages/check.html" in result.out
        assert ("empty_file" in Path("pages/check.html").read_text(encoding="utf-8")) == fault


def test_skip_invalid_lists_the_excluded_files(pixelwise: Run, streets: Path) -> None:
    shutil.copytree(streets, "data")
    (Path("data") / "images" / "train" / "0003.png").write_bytes(b"")
    assert is_refused(pixelwise("train", "data", "-o", "run", "--steps", "2"), "--skip-invalid")
    result = pixelwise(
        "train", "data", "-o", "run", "--steps", "2", "--skip-invalid", "--set", "network.base_channels=4"
    )
    assert result.code == 0
    assert "excluded: images/train/0003.png: The file is empty." in result.err
    assert "0003.png" in Path("run/left_out.yaml").read_text(encoding="utf-8")


def test_check_of_a_missing_folder_exits_with_2(pixelwise: Run) -> None:
    assert is_refused(pixelwise("check", "nowhere"), "'nowhere' does not exist")


def test_a_plan_is_written_and_trained(pixelwise: Run, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    result = pixelwise("plan", streets, "--budget", "10m", "-o", "config.yaml")
    assert (result.code, result.out.splitlines()[-1]) == (0, "config: config.yaml")
    assert "peak memory: " in result.out
    assert load_config("config.yaml").training.budget_seconds == 600
    result = pixelwise("plan", streets, "--budget", "10m")
    assert result.code == 0
    assert result.out.startswith("# estimate for ")
    assert "\ndata:\n" in result.out
    result = pixelwise("train", streets, "-o", "run", "--config", "config.yaml", *TINY)
    assert result.code == 0, result.err
    assert load_config("run/config.yaml").network.base_channels == 4


def test_shards_are_checked_and_trained(pixelwise: Run, streets: Path) -> None:
    result = pixelwise("convert", streets, "-o", "shards", "--to", "webdataset")
    assert (result.code, result.out) == (0, "20 pairs written to shards as webdataset\n"), result.err
    result = pixelwise("check", "shards", "--json", "check.json")
    assert result.code == 0, result.out
    found = json.loads(Path("check.json").read_text())
    assert (found["format"], found["splits"]) == ("webdataset", {"train": 12, "val": 4, "test": 4})
    assert found["findings"] == []

    length = TINY.index("--steps") + 1
    result = pixelwise("train", "shards", "-o", "run", *TINY[:length], "2", *TINY[length + 1 :])
    assert result.code == 0, result.err
    assert pixelwise("evaluate", "run", "shards", "--device", "cpu").code == 0


def test_a_finished_run_is_not_trained_again(pixelwise: Run, streets: Path, trained: Path) -> None:
    shutil.copytree(trained, "run")
    result = pixelwise("train", streets, "-o", "run", "--resume")
    assert result.code == 0
    assert "run is finished; nothing to do" in result.err
    assert is_refused(pixelwise("train", streets, "-o", "run"), "which a run would replace", "--resume")
    assert is_refused(pixelwise("train", streets, "-o", "run", "--resume", "--steps", 9), "training.steps")


def test_train_does_not_open_test_images(pixelwise: Run, streets: Path, trained: Path) -> None:
    data = Path(shutil.copytree(streets, "data"))
    garble(data / "images" / "test")
    garble(data / "labels" / "test")
    result = pixelwise("train", data, "-o", "run", *TINY)
    assert result.code == 0, result.err
    assert (Path("run") / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert is_refused(pixelwise("evaluate", "run", data), "data/images/test/0000.png", "not an image of a known format")


def test_predict_lists_failures_and_continues(pixelwise: Run, streets: Path, trained: Path) -> None:
    Path("photos").mkdir()
    shutil.copy(streets / "images" / "test" / "0000.png", "photos/good.png")
    Path("photos/bad.png").write_bytes(b"garbage")
    result = pixelwise("predict", trained, "photos", "-o", "out", "--device", "cpu")
    assert result.code == 1
    assert result.out == "1 file written to out\n"
    assert result.err.count("failed: photos/bad.png") == 1
    assert Path("out/good.png").exists()


def test_predict_writes_values_of_the_dataset(pixelwise: Run, streets: Path, trained: Path) -> None:
    image = streets / "images" / "test" / "0001.png"
    for label_values in ("index", "dataset"):
        arguments = ("predict", trained, image, "-o", label_values, "--label-values", label_values, "--device", "cpu")
        assert pixelwise(*arguments).code == 0
    # streets are coded by index, so only the palette differs
    np.testing.assert_array_equal(read_mask(Path("index/0001.png")), read_mask(Path("dataset/0001.png")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["evaluate", "MODEL", "DATA", "--split", "holdout"],
            ["--split: 'holdout'", "test, train, val"],
        ),
        (["evaluate", "nowhere", "DATA"], ["nowhere", "does not exist"]),
        (["predict", "MODEL", "nothing/*.png", "-o", "out"], ["nothing/*.png"]),
        (["predict", "MODEL", "DATA", "-o", "out", "--save", "label"], ["Unknown value for --save: 'label'", "labels"]),
        (["predict", "MODEL", "DATA", "-o", "out", "--save", ","], ["save"]),
        (
            ["predict", "MODEL", "DATA", "-o", "out", "--label-values", "hue"],
            ["Unknown value for --label-values: 'hue'", "index"],
        ),
        (["predict", "MODEL", "DATA"], ["-o"]),
        (["convert", "DATA", "-o", "out", "--to", "foldr"], ["Unknown value for --to: 'foldr'", "folder"]),
        (["convert", "DATA", "-o", "DATA", "--to", "voc"], ["exists, and Pixelwise did not write it", "--overwrite"]),
        (["train", "DATA", "--budget", "soon"], ["budget is 'soon', which is not a duration"]),
        (["train", "DATA", "--network", "unett", "--steps", "1"], ["Unknown network 'unett'", "unet"]),
        (["train", "DATA", "--set", "optimizer.learning_rate=1"], ["learning_rate"]),
        (["train", "nowhere"], ["nowhere"]),
        (["train", "DATA", "--resume"], ["resume needs the run folder"]),
        (["plan", "DATA", "--budget", "0s"], ["budget is '0s', which is an empty duration"]),
        (["train", "DATA", "--steps", "1", "--device", "abacus"], ["Unknown device 'abacus'"]),
        (["fly"], ["fly"]),
    ],
)
def test_an_invalid_request_exits_with_2_and_a_message(
    pixelwise: Run, trained: Path, streets: Path, arguments: list[str], words: list[str]
) -> None:
    real = {"MODEL": str(trained), "DATA": str(streets)}
    assert is_refused(pixelwise(*[real.get(word, word) for word in arguments]), *words)
    assert list(Path().iterdir()) == []


def test_an_unwritable_path_exits_with_2_and_a_message(pixelwise: Run, streets: Path) -> None:
    Path("file").touch()
    assert is_refused(pixelwise("check", streets, "--json", "file/check.json"), "file")


def test_check_takes_a_resolution_and_groups(pixelwise: Run, streets: Path) -> None:
    assert "tiny_objects" in pixelwise("check", streets, "--resolution", "4", "6").out
    assert "group_in_two_splits" in pixelwise("check", streets, "--group-by", r"(\d)$").out
    assert is_refused(pixelwise("check", streets, "--group-by", "("), "'('", "regular expression")


def test_ctrl_c_exits_with_130(pixelwise: Run, streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelwise.checks.runner.run_checks", interrupted)
    result = pixelwise("check", streets)
    assert (result.code, result.err) == (130, "pixelwise: interrupted\n")


def test_names_with_brackets_are_printed(pixelwise: Run, streets: Path) -> None:
    data = Path(shutil.copytree(streets, "data"))
    text = (data / "dataset.yaml").read_text()
    (data / "dataset.yaml").write_text(text.replace("sky", "'[sky]'"))
    (data / "labels" / "train" / "0000.png").unlink()
    (data / "images" / "train" / "[bold].png").write_bytes(b"garbage")
    result = pixelwise("check", data)
    assert result.code == 1
    assert "[sky]" in result.out
    assert "[bold].png" in result.out


# A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
LISTENING = """
import signal, sys
from pixelwise.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_a_run_that_can_be_resumed(streets: Path, tmp_path: Path) -> None:
    """In a process of its own, as soon as it has taken a step."""
    arguments = ["train", str(streets), "-o", "run", *TINY, "--steps", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    run = RunFolder(tmp_path / "run")
    while process.poll() is None and not (run.metrics.exists() and run.metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, result = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, result
    assert "run --resume" in result
    assert result.endswith("pixelwise: interrupted\n")
    assert f"resume with: pixelwise train {streets} -o run --resume" in result
    assert "Traceback" not in result
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.step >= 1
    assert not checkpoint.finished


@pytest.mark.slow
def test_a_budget_covers_the_whole_command(streets: Path, tmp_path: Path) -> None:
    arguments = ["train", str(streets), "-o", "run", "--budget", "45s", "--device", "cpu"]
    result = subprocess.run(
        [sys.executable, "-m", "pixelwise", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    checkpoint = load_checkpoint(RunFolder(tmp_path / "run"))
    assert checkpoint is not None
    assert checkpoint.finished


def write_scenes(root: Path) -> int:
    """6 + 3 GeoTIFFs of 6 float32 bands, 45 x 70, in units of their own, a corner of each without data.

    Returns the pixels of the validation images that hold data.
    """
    rng = np.random.default_rng(0)
    for index in range(9):
        name = f"{'val' if index > 5 else 'train'}/{index}"
        mask = np.zeros((45, 70), np.uint8)
        mask[10 + 2 * index :, 20:60] = 1
        scene = (mask[..., None] + rng.normal(size=(45, 70, 6))) * [1e-3, 1, 1, 1, 50, 9000] - [0, 0, 9, 0, 0, 4000]
        scene[:12, :30] = -9999
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            root / f"images/{name}.tif",
            np.moveaxis(scene, -1, 0).astype(np.float32),
            photometric="minisblack",
            planarconfig="separate",
            tile=(16, 16),
            compression="deflate",
            extratags=[(42113, "s", 0, "-9999", True)],
        )
        write_png(root / f"masks/{name}.png", mask)
    return 3 * (45 * 70 - 12 * 30)


def test_geotiffs_with_six_float_bands(pixelwise: Run, tmp_path: Path, trained: Path) -> None:
    pixels_with_data = write_scenes(tmp_path / "scenes")
    assert pixelwise("check", "scenes").code == 0
    result = pixelwise("train", "scenes", "-o", "run", *TINY[:-7], "--steps", "2", "--device", "cpu")
    assert result.code == 0, result.err
    assert pixelwise("evaluate", "run", "scenes", "--json", "scores.json", "--device", "cpu").code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert np.sum(scores["confusion"]) == pixels_with_data
    predict = ("predict", "run", "scenes/images/val", "-o", "out", "--device", "cpu")
    assert pixelwise(*predict, "--save", "labels,overlay,probabilities").code == 0
    for name in "678":
        labels = read_mask(tmp_path / f"out/{name}.png")
        assert (labels.shape, labels.dtype) == ((45, 70), np.uint8)
    color = tmp_path / "color.png"
    write_png(color, np.zeros((45, 70, 3), np.uint8))
    result = pixelwise("predict", "run", color, "-o", "out", "--device", "cpu")
    assert result.code == 1
    assert "image is uint8, but the model was trained on float32" in result.out + result.err
    result = pixelwise("predict", trained, "scenes/images/val/6.tif", "-o", "other", "--device", "cpu")
    assert result.code == 1
    assert "image is float32, but the model was trained on uint8" in result.out + result.err
