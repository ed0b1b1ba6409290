"""Nothing of the user's is replaced or removed, and one process at a time owns a folder: the real command line."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pixelwise.cli import main
from pixelwise.config import NetworkConfig
from pixelwise.data.io.images import write_png
from pixelwise.data.synthetic import write_dataset
from support.processes import waiting

Contend = Callable[..., list[int]]
Run = Callable[..., tuple[int, str]]

SMALL = NetworkConfig(base_channels=2, depth=1)


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("ownership") / "m.safetensors", network=SMALL)


@pytest.fixture(scope="module")
def other_model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("ownership") / "n.safetensors", network=SMALL, seed=3)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that the models fit."""
    root = tmp_path_factory.mktemp("ownership") / "scenes"
    for number in range(8):
        rng = np.random.default_rng(number)
        write_png(root / f"images/{number}.png", rng.integers(0, 256, (32, 40, 3), np.uint8))
        mask = np.arange(32 * 40).reshape(32, 40) // 430
        write_png(root / f"masks/{number}.png", mask.astype(np.uint8))
    (root / "dataset.yaml").write_text("names: [road, sky, tree]\n")
    return root


@pytest.fixture
def pixelwise(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder; return its exit code and what it said on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main.main([str(word) for word in words])
        return int(end.value.code or 0), capsys.readouterr().err

    return run


def list_contents(folder: Path) -> dict[str, bytes]:
    """Return name → content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Files of the user. Each command with the file that it would replace, and another request for the same file.

COMMANDS: Mapping[str, tuple[Sequence[str], Sequence[str], str, str]] = {
    "predict": (
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu"],
        ["predict", "OTHER", "SCENES/images", "-o", "out", "--device", "cpu"],
        "out/3.png",
        "another model",
    ),
    "predict --resume": (
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--resume"],
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--resume", "--min-area", "3"],
        "out/3.png",
        "min_area was 0 and is 3",
    ),
    "predict --save labelme": (
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--save", "labelme"],
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--save", "labelme", "--tta", "flips"],
        "out/3.json",
        "tta was [] and is ['flips']",
    ),
    "predict --save coco": (
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--save", "labels,coco"],
        ["predict", "OTHER", "SCENES/images", "-o", "out", "--device", "cpu", "--save", "coco"],
        "out/coco.json",
        "another model",
    ),
    "predict --shard": (
        ["predict", "MODEL", "SCENES/images", "-o", "out", "--device", "cpu", "--shard", "2/2"],
        ["predict", "OTHER", "SCENES/images", "-o", "out", "--device", "cpu", "--shard", "2/2"],
        "out/3.png",
        "another model",
    ),
    "convert": (
        ["convert", "SCENES", "-o", "out", "--to", "folder"],
        ["convert", "SCENES", "-o", "out", "--to", "yolo"],
        "out/dataset.yaml",
        "to was 'folder' and is 'yolo'",
    ),
    "export": (
        ["export", "MODEL", "-o", "m.pt2"],
        ["export", "OTHER", "-o", "m.pt2"],
        "m.pt2",
        "another model",
    ),
    "check --json": (
        ["check", "SCENES", "--json", "c.json"],
        ["check", "SCENES", "--json", "c.json", "--resolution", "16", "20"],
        "c.json",
        "resolution was None and is [16, 20]",
    ),
    "check --html": (
        ["check", "SCENES", "--html", "c.html"],
        ["check", "SCENES", "--html", "c.html", "--resolution", "16", "20"],
        "c.html",
        "resolution was None and is [16, 20]",
    ),
    "evaluate --json": (
        ["evaluate", "MODEL", "SCENES", "--json", "e.json", "--device", "cpu"],
        ["evaluate", "OTHER", "SCENES", "--json", "e.json", "--device", "cpu"],
        "e.json",
        "another model",
    ),
    "plan": (
        ["plan", "SCENES", "-o", "p.yaml", "--network", "unet", "--device", "cpu", "--set", "training.steps=3"],
        ["plan", "SCENES", "-o", "p.yaml", "--network", "segnet", "--device", "cpu", "--set", "training.steps=3"],
        "p.yaml",
        "network.name was 'unet' and is 'segnet'",
    ),
}


SLOW_EXPORT = pytest.param("export", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [SLOW_EXPORT if name == "export" else name for name in COMMANDS])
def test_a_target_is_only_replaced_if_the_same_request_wrote_it_or_the_user_asks(
    name: str, pixelwise: Run, model: Path, other_model: Path, scenes: Path, tmp_path: Path
) -> None:
    names = {"MODEL": model, "OTHER": other_model, "SCENES": scenes, "SCENES/images": scenes / "images"}
    words, other_words, target_name, changes = COMMANDS[name]
    command, other = ([names.get(word, word) for word in line] for line in (words, other_words))
    target = tmp_path / target_name
    sources = list_contents(scenes)

    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"drawn by hand")
    (target.parent / "notes.txt").write_text("mine")
    code, said = pixelwise(*command)
    assert (code, target.read_bytes()) == (2, b"drawn by hand")
    assert f"{target_name} exists, and Pixelwise did not write it" in said
    assert sorted(list_contents(target.parent)) == sorted([target.name, "notes.txt"])

    target.unlink()
    if name == "convert":  # a dataset has a folder of its own
        assert "notes.txt exists, and Pixelwise did not write it" in pixelwise(*command)[1]
        (target.parent / "notes.txt").unlink()
    assert pixelwise(*command)[0] == 0
    assert pixelwise(*command)[0] == 0  # the same again
    ours = target.read_bytes()
    code, said = pixelwise(*other)
    assert code == 2, said
    assert f"was written by another request ({changes})" in said
    assert target.read_bytes() == ours

    middle = len(ours) // 2
    edited = ours[:middle] + b"edited" + ours[middle:]
    target.write_bytes(edited)
    code, said = pixelwise(*command)
    assert (code, target.read_bytes()) == (2, edited)
    assert f"{target_name} was changed after Pixelwise wrote it" in said

    others = {name: content for name, content in list_contents(tmp_path).items() if name.endswith("notes.txt")}
    assert pixelwise(*command, "--overwrite")[0] == 0
    assert target.read_bytes() not in (edited, b"drawn by hand")
    assert pixelwise(*other, "--overwrite")[0] == 0
    assert {name: content for name, content in list_contents(tmp_path).items() if name.endswith("notes.txt")} == others
    assert list_contents(scenes) == sources
    assert not list(tmp_path.rglob("*.lock"))


def test_predictions_never_replace_the_masks_of_a_dataset(pixelwise: Run, model: Path, tmp_path: Path) -> None:
    """The output folder is that of the masks, and the names are equal.

    report: https://github.com/ykdai/BasicPBC/issues/24
    """
    write_dataset(tmp_path / "data", "streets", num_train=2, num_val=2, num_test=0, size=(32, 48))
    before = list_contents(tmp_path / "data")
    for options in ([], ["--resume"], ["--shard", "1/2"]):
        code, said = pixelwise(
            "predict", model, "data/images/train", "-o", "data/labels/train", "--device", "cpu", *options
        )
        assert code == 2
        assert "labels/train holds masks of a dataset, such as 0000.png" in said
    assert list_contents(tmp_path / "data") == before


def test_a_conversion_with_overwrite_leaves_files_that_are_not_its_own(
    pixelwise: Run, scenes: Path, tmp_path: Path
) -> None:
    assert pixelwise("convert", scenes, "-o", "out", "--to", "folder")[0] == 0
    (tmp_path / "out/images/mine.txt").write_text("mine")
    (tmp_path / "out/empty").mkdir()
    code, said = pixelwise("convert", scenes, "-o", "out", "--to", "coco")
    assert code == 2
    assert "images/mine.txt exists, and Pixelwise did not write it" in said
    assert pixelwise("convert", scenes, "-o", "out", "--to", "coco", "--overwrite")[0] == 0
    names = list_contents(tmp_path / "out")
    assert names["images/mine.txt"] == b"mine"
    assert not any(name.startswith("masks/") for name in names)  # of the first conversion
    assert (tmp_path / "out/empty").is_dir()
    assert any(name.endswith(".json") and not name.startswith(".") for name in names)


def test_the_manifest_lists_the_files_that_were_written(
    pixelwise: Run, model: Path, scenes: Path, tmp_path: Path
) -> None:
    pixelwise("predict", model, scenes / "images", "-o", "out", "--save", "labels,overlay,table", "--device", "cpu")
    files = json.loads((tmp_path / "out" / "predict.json").read_text())["files"]
    written = {name: content for name, content in list_contents(tmp_path / "out").items() if name != "predict.json"}
    assert {file["path"]: (file["bytes"], file["sha256"]) for file in files} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in written.items()
    }


# Several processes. A process that is held in the middle of its work is still there when the others start.


@pytest.fixture(scope="module")
def contenders() -> Iterator[subprocess.Popen[str]]:
    with waiting("contenders.py") as process:
        yield process


@pytest.fixture
def contend(contenders: subprocess.Popen[str], tmp_path: Path) -> Contend:
    """`contend(hold, *commands)`: codes of commands that run at the same time; said1.txt, ... have their output."""

    def run(hold: str, *commands: Sequence[object], number: int = 1, kill: bool = False) -> list[int]:
        lines = [[str(word) for word in command] for command in commands]
        request = {"commands": lines, "hold": hold, "number": number, "kill": kill, "folder": str(tmp_path)}
        assert contenders.stdin
        assert contenders.stdout
        contenders.stdin.write(json.dumps(request) + "\n")
        contenders.stdin.flush()
        codes: list[int] = json.loads(contenders.stdout.readline())
        return codes

    return run


def read_said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("said*.txt")))


SAVE = "pixelwise.output_files:OutputManifest.save"
WRITE = "pixelwise.output_files:OutputManifest.write"
COMPARE = "pixelwise.exporting.export:compare_with_model"
STEP = "pixelwise.training.trainer:Trainer.step"
SETTINGS = [
    *("--set", "network.base_channels=2", "--set", "network.depth=1", "--set", "training.batch_size=2"),
    *("--set", "data.crop_size=[32, 40]", "--network", "unet", "--steps", "2", "--device", "cpu"),
]


def make_command(name: str, model: Path, scenes: Path, output: Path) -> list[object]:
    commands: dict[str, list[object]] = {
        "predict": ["predict", model, scenes / "images", "-o", output, "--device", "cpu"],
        "convert": ["convert", scenes, "-o", output, "--to", "folder"],
        "export": ["export", model, "-o", output / "m.pt2"],
        "train": ["train", scenes, "-o", output, *SETTINGS],
    }
    return commands[name]


@pytest.mark.parametrize(
    ("name", "hold"),
    [("predict", WRITE), ("convert", SAVE), pytest.param("export", COMPARE, marks=pytest.mark.slow), ("train", STEP)],
)
def test_of_two_equal_runs_at_once_one_is_refused(
    name: str, hold: str, contend: Contend, model: Path, scenes: Path, tmp_path: Path
) -> None:
    command = make_command(name, model, scenes, tmp_path / "out")
    codes = contend(hold, command, command)
    assert sorted(codes) == [0, 2], read_said(tmp_path)
    assert "is being written by another run (process " in read_said(tmp_path)
    assert not list((tmp_path / "out").glob(".*lock*"))
    if name != "train":  # a run is not repeated bit for bit
        alone = tmp_path / "alone"
        assert contend(hold, make_command(name, model, scenes, alone)) == [0]
        assert list_contents(tmp_path / "out") == list_contents(alone)


def test_two_trainings_without_a_folder_get_one_each(contend: Contend, scenes: Path, tmp_path: Path) -> None:
    """A cluster starts them in the same second.

    report: https://github.com/hydra-ecosystem/hydra/issues/2925
    """
    command = ["train", scenes, *SETTINGS]
    assert contend(STEP, command, command) == [0, 0], read_said(tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["scenes-unet-1", "scenes-unet-2"]
    assert all((run / "report.html").exists() for run in (tmp_path / "runs").iterdir())


def test_eight_shards_at_once_are_the_whole_job(contend: Contend, model: Path, scenes: Path, tmp_path: Path) -> None:
    commands = [
        [*make_command("predict", model, scenes, tmp_path / "out"), "--shard", f"{number}/8"] for number in range(1, 9)
    ]
    assert contend(WRITE, *commands) == [0] * 8, read_said(tmp_path)
    assert contend(WRITE, make_command("predict", model, scenes, tmp_path / "alone")) == [0]
    assert list_contents(tmp_path / "out") == list_contents(tmp_path / "alone")


def test_the_same_shard_twice_or_shards_of_another_request_are_refused(
    contend: Contend, model: Path, scenes: Path, tmp_path: Path
) -> None:
    command = make_command("predict", model, scenes, tmp_path / "out")
    for first, second, message in (
        (["--shard", "1/2"], ["--shard", "01/2"], "Shard 1/2 of "),
        (["--shard", "1/2"], ["--shard", "2/2", "--min-area", "3"], "by shards of another request"),
        (["--shard", "1/2"], ["--shard", "2/3"], "shards was "),
        (["--shard", "1/2"], [], "by another run"),
    ):
        codes = contend(WRITE, [*command, *first], [*command, *second, "--overwrite"])
        assert sorted(codes) == [0, 2], read_said(tmp_path)
        assert message in read_said(tmp_path)


@pytest.mark.parametrize(("hold", "number"), [(WRITE, 1), (WRITE, 4), (SAVE, 1)])
def test_a_killed_prediction_is_resumed_at_once(
    hold: str, number: int, contend: Contend, pixelwise: Run, model: Path, scenes: Path, tmp_path: Path
) -> None:
    command = make_command("predict", model, scenes, tmp_path / "out")
    assert contend(hold, command, number=number, kill=True) == [-9]
    code, said = pixelwise(*command, "--resume")
    assert code == 0, said
    assert pixelwise(*make_command("predict", model, scenes, tmp_path / "alone"))[0] == 0
    assert list_contents(tmp_path / "out") == list_contents(tmp_path / "alone")


@pytest.mark.parametrize(
    ("name", "hold"),
    [
        ("convert", SAVE),
        ("convert", "pixelwise.conversion:_move_into"),
        ("convert", "pixelwise.conversion.masks:FolderWriter.add"),
        pytest.param("export", COMPARE, marks=pytest.mark.slow),
        ("train", STEP),
    ],
)
def test_a_killed_command_is_repeated_at_once(
    name: str, hold: str, contend: Contend, pixelwise: Run, model: Path, scenes: Path, tmp_path: Path
) -> None:
    command = make_command(name, model, scenes, tmp_path / "out")
    assert contend(hold, command, kill=True) == [-9], read_said(tmp_path)
    code, said = pixelwise(*command, *(["--resume"] if name == "train" else []))
    assert code == 0, said
    assert not list((tmp_path / "out").glob(".pixelwise*.part"))
    if name != "train":
        assert pixelwise(*make_command(name, model, scenes, tmp_path / "alone"))[0] == 0
        assert list_contents(tmp_path / "out") == list_contents(tmp_path / "alone")
