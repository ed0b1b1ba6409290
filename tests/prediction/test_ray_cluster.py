"""Most runs without Ray, on a stand-in that calls the worker in this process; the slow test runs on Ray itself."""

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.data.io.images import write_png
from pixelwise.errors import InvalidArgumentError, ModelFileError
from pixelwise.model_file import read_checksum
from pixelwise.prediction import ray_cluster as home
from pixelwise.prediction.executor import Task
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.manifest import JobRequest
from pixelwise.prediction.output_writer import Job, Outputs, Written
from pixelwise.prediction.ray_cluster import (
    Crew,
    Look,
    Setting,
    cut_in_parts,
    do_parts,
    in_order,
    look,
    plan_crew,
    predictor_of,
)
from support.processes import waiting

KINDS = ["labels", "overlay", "table"]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("ray") / "m", seed=10)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images in two folders, and one that is none."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "trip/a.png", "trip/c.png", "trip/d.png"):
        write_png(tmp_path / "photos" / name, rng.integers(0, 255, (9, 13, 3), np.uint8))
    (tmp_path / "photos" / "broken.png").write_bytes(b"broken")
    return tmp_path / "photos"


def files(folder: Path) -> dict[str, bytes]:
    """Hidden ones, too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is planned


@pytest.mark.parametrize(
    ("nodes", "device", "crew"),
    [
        ([{"CPU": 16.0}, {"CPU": 8.0, "memory": 1e9}], "auto", Crew(size=6, cpus=4, gpus=0)),
        ([{"CPU": 2.0}, {"CPU": 9.0}, {}], "auto", Crew(size=5, cpus=2, gpus=0)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], "auto", Crew(size=2, cpus=4, gpus=1)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 4.0}], "cuda", Crew(size=6, cpus=1, gpus=1)),
        ([{"CPU": 16.0, "GPU": 2.0}], "cpu", Crew(size=4, cpus=4, gpus=0)),
    ],
)
def test_a_worker_takes_a_gpu_or_a_few_cpus(nodes: Any, device: str, crew: Crew) -> None:
    assert plan_crew(nodes, device) == crew


@pytest.mark.parametrize(
    ("nodes", "device", "said"),
    [
        ([{"CPU": 4.0}], "cuda", "no machine of the cluster has a GPU"),
        ([{"CPU": 4.0}], "cuda:1", "--device cuda:1 cannot be asked of a cluster"),
        ([{"CPU": 0.5}, {}], "auto", "no machine of the cluster offers CPUs"),
    ],
)
def test_what_a_cluster_does_not_have_is_an_error(nodes: Any, device: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        plan_crew(nodes, device)


def item(number: int, *, windowed: bool = False) -> Input:
    return Input(Path(f"{number}.png"), Path(str(number)), windowed=windowed)


@pytest.mark.parametrize(("images", "workers", "sizes"), [(200, 1, [16] * 12 + [8]), (10, 2, [2] * 5), (3, 9, [1] * 3)])
def test_parts_are_small_and_there_are_some_for_each_worker(images: int, workers: int, sizes: list[int]) -> None:
    parts = cut_in_parts([item(number) for number in range(images)], workers)
    assert [len(part) for part in parts] == sizes
    assert [pair for part in parts for pair in part] == [(number, item(number)) for number in range(images)]


def test_an_image_read_by_windows_is_a_part_of_its_own() -> None:
    images = [item(number, windowed=number in (1, 2)) for number in range(64)]
    parts = cut_in_parts(images, 1)
    assert [len(part) for part in parts] == [1, 1, 1, 16, 16, 16, 13]


def test_outcomes_are_put_in_order() -> None:
    assert list(in_order([(2, "c"), (0, "a"), (3, "d"), (1, "b")])) == ["a", "b", "c", "d"]
    given = iter([(0, "a"), (2, "c")])
    assert next(in_order(given)) == "a"  # no later than it must
    assert list(given) == [(2, "c")]


# What runs elsewhere


def task_of(model: Path, out: Path) -> Task:
    request = JobRequest(model=read_checksum(model), settings={"precision": "fp32"})
    outputs = Outputs(folder=out, kinds=("labels",))
    return Task(outputs=outputs, request=request, tiling="exact", tta=(), able=True, resume=True)


def setting_of(model: Path) -> Setting:
    checksum = read_checksum(model)
    return Setting(model=model, checksum=checksum, device="cpu", precision="fp32", engine="auto", threads=2)


def test_a_worker_loads_a_model_once(model: Path) -> None:
    assert predictor_of(setting_of(model)) is predictor_of(setting_of(model))


def test_a_worker_writes_its_part_and_says_what_became_of_it(model: Path, photos: Path, tmp_path: Path) -> None:
    part = [(7, Input(photos / "a.png", Path("a"))), (3, Input(photos / "broken.png", Path("broken")))]
    batch = {"part": np.array([pickle.dumps(part)], object)}
    lines = do_parts(batch, task=task_of(model, tmp_path / "out"), setting=setting_of(model))
    assert lines["number"] == [7, 3]
    assert lines["error"][0] == ""
    assert "broken.png" in lines["error"][1]
    assert list(files(tmp_path / "out")) == ["a.png"]


def test_a_worker_passes_on_what_there_is_to_say(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def speaking(predictor: Any, task: Task, job: Job, images: Sequence[Input]) -> Iterator[Written]:
        for one in images:
            logging.getLogger("pixelwise").info(f"{one.name} has tiles")
            yield Written((), None)

    monkeypatch.setattr(home, "work_through", speaking)
    parts = [pickle.dumps([(0, item(0)), (1, item(1))]), pickle.dumps([(2, item(2))])]
    batch = {"part": np.array(parts, object)}
    lines = do_parts(batch, task=task_of(model, tmp_path / "out"), setting=setting_of(model))
    assert lines["said"] == ["0.png has tiles\n1.png has tiles", "", "2.png has tiles"]


def test_a_worker_that_finds_another_model_does_nothing(
    model: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=11)
    with pytest.raises(InvalidArgumentError, match="other is another model here than where the command was given"):
        predictor_of(replace(setting_of(model), model=other))


def test_a_look_finds_classes_and_precision_or_why_not(model: Path, tmp_path: Path) -> None:
    found = look(model, "cpu", "fp32", "auto")
    assert isinstance(found, Look)
    assert (found.classes.names, found.precision) == (("road", "sky", "tree"), "fp32")
    assert isinstance(look(tmp_path / "gone", "cpu", "fp32", "auto"), ModelFileError)


# The command, on a stand-in


class PretendRay:
    """As much of Ray as is used, in this process: parts are done last first."""

    class exceptions:  # noqa: N801 (a module of Ray)
        class RayError(Exception): ...

    def __init__(self) -> None:
        self.data = SimpleNamespace(
            from_items=self.from_items,
            DataContext=SimpleNamespace(get_current=lambda: SimpleNamespace()),
        )
        self.running = False
        self.fault: Exception | None = None
        self.at_once = False
        self.options: dict[str, Any] = {}

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options: Any) -> None:
        if isinstance(self.fault, ConnectionError):
            raise self.fault
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 1.0, "GPU": 8.0}}]

    def remote(self, **options: Any) -> Callable[..., Any]:
        return lambda function: SimpleNamespace(remote=function)

    def get(self, value: Any) -> Any:
        if self.fault and self.at_once:
            raise self.fault
        return value

    def from_items(self, rows: Sequence[dict[str, Any]], *, override_num_blocks: int) -> Any:
        assert override_num_blocks == len(rows)
        return SimpleNamespace(map_batches=lambda worker, **options: self.mapped(rows, worker, options))

    def mapped(self, rows: Sequence[dict[str, Any]], worker: Callable[..., Any], options: dict[str, Any]) -> Any:
        self.options = options
        return SimpleNamespace(iter_rows=lambda: self.lines(rows, worker))

    def lines(self, rows: Sequence[dict[str, Any]], worker: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        assert self.running
        for row in reversed(rows):
            found = worker({"part": np.array([row["part"]], object)}, **self.options["fn_kwargs"])
            for number, error, said in zip(found["number"], found["error"], found["said"], strict=True):
                yield {"number": np.int64(number), "error": error, "said": said}
            if self.fault:
                raise self.fault


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PretendRay:
    pretended = PretendRay()
    monkeypatch.setattr(home, "_ray", lambda: pretended)
    return pretended


def test_a_cluster_gives_what_one_machine_gives(
    model: Path, photos: Path, tmp_path: Path, ray: PretendRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers stand elsewhere: they must be given whole paths
    here = predict(model, ["photos"], "whole", save=KINDS, device="cpu")
    there = predict(model, ["photos"], "out", save=KINDS, device="cpu", cluster="ray")
    assert files(Path("out")) == files(Path("whole"))
    assert [str(path) for path in there.written] == [str(path).replace("whole", "out") for path in here.written]
    assert [path for path, _ in there.failures] == [path for path, _ in here.failures] == [Path("photos/broken.png")]
    given = ray.options["fn_kwargs"]
    assert given["setting"].model.is_absolute()
    assert given["task"].outputs.folder == tmp_path / "out"
    assert given["task"].outputs.kinds == ("labels", "overlay")
    assert (given["setting"].threads, ray.options["num_cpus"], ray.options["num_gpus"]) == (2, 2, None)
    assert not ray.running


def test_what_is_done_is_not_given_out_again(model: Path, photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    (photos / "broken.png").unlink()
    predict(model, [photos], tmp_path / "out", save=KINDS, device="cpu")
    before = files(tmp_path / "out")
    (tmp_path / "out" / "trip" / "a.png").unlink()
    (tmp_path / "out" / "table.csv").unlink()
    options: dict[str, Any] = {"save": KINDS, "device": "cpu", "resume": True, "cluster": "ray"}
    assert predict(model, [photos], tmp_path / "out", **options).skipped == 4
    assert files(tmp_path / "out") == before
    ray.options = {}
    assert predict(model, [photos], tmp_path / "out", **options).skipped == 5
    assert ray.options == {}


def test_what_killed_workers_have_left_is_removed(model: Path, photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    (tmp_path / "out" / "trip").mkdir(parents=True)
    (tmp_path / "out" / "trip" / ".a.png.0123456789ab.part").write_text("half")
    predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert [name for name in files(tmp_path / "out") if name.endswith(".part")] == []


def test_a_connection_that_is_there_stays(model: Path, photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    ray.running = True
    predict(model, [photos / "a.png"], tmp_path / "out", device="cpu", cluster="ray")
    assert ray.running


def test_a_cluster_that_gives_up_is_an_error_that_says_how_to_go_on(
    model: Path, photos: Path, tmp_path: Path, ray: PretendRay
) -> None:
    ray.fault = ray.exceptions.RayError("UserError: a\n ...\npixelwise.errors.DataError: all gone\nTo retry, ...")
    with pytest.raises(InvalidArgumentError, match=r"has given up \(DataError: all gone\); .* --resume"):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not ray.running


def test_a_machine_without_this_package_is_an_error(model: Path, photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    ray.fault, ray.at_once = ray.exceptions.RayError("Traceback\nNo module named 'pixelwise'"), True
    with pytest.raises(
        InvalidArgumentError, match=r"cannot begin \(No module named 'pixelwise'\); install pixelwise .* on each"
    ):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not (tmp_path / "out").exists()


def test_no_cluster_at_the_address_is_an_error(model: Path, photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    ray.fault = ConnectionError("nobody there")
    with pytest.raises(
        InvalidArgumentError, match=r"no Ray cluster can be reached \(nobody there\); check RAY_ADDRESS"
    ):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not (tmp_path / "out").exists()


def test_a_model_that_the_cluster_does_not_see_is_an_error(photos: Path, tmp_path: Path, ray: PretendRay) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        predict(tmp_path / "gone", [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not ray.running


def test_another_version_on_the_cluster_is_an_error(
    model: Path, photos: Path, tmp_path: Path, ray: PretendRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = look(model, "cpu", "fp32", "auto")
    assert isinstance(older, Look)
    monkeypatch.setattr(home, "look", lambda *arguments: replace(older, version="0.0.1"))
    with pytest.raises(InvalidArgumentError, match=r"the cluster has pixelwise 0\.0\.1, this machine"):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")


def test_without_ray_the_extra_is_named(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidArgumentError, match=r'--cluster ray needs ray, .*: pip install "pixelwise\[ray\]"'):
        predict(model, [photos], tmp_path / "out", cluster="ray")


def test_rows_of_tiles_of_an_earlier_job_are_not_taken_up(
    model: Path, tmp_path: Path, ray: PretendRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[Path] = []
    monkeypatch.setattr(home, "forget_parts", forgotten.append)
    write_png(tmp_path / "x.jp2", np.zeros((2, 2), np.uint8))  # fails, but only elsewhere
    for resume in (False, True):
        predict(model, [tmp_path / "x.jp2"], tmp_path / "out", device="cpu", cluster="ray", resume=resume)
        assert forgotten == [tmp_path / "out" / "x.tif"]


# Ray itself


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "pixelwise[ray]"')
def test_a_node_that_is_killed_costs_no_file(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """Two nodes, one killed while its worker is at work: all files are there, once, as one machine writes them."""
    model = make_model(tmp_path / "m", seed=10, network=NetworkConfig(base_channels=16, depth=2))
    rng = np.random.default_rng(0)
    for number in range(40):
        write_png(
            tmp_path / "photos" / str(number % 3) / f"{number}.png", rng.integers(0, 255, (320, 320, 3), np.uint8)
        )
    options = ["--save", "labels,table", "--device", "cpu", "--precision", "fp32", "--cluster", "ray"]
    line = [sys.executable, "-m", "pixelwise", "predict", model, tmp_path / "photos", "-o", tmp_path / "out", *options]
    with waiting("two_nodes.py") as nodes:
        assert nodes.stdin
        assert nodes.stdout
        address = nodes.stdout.readline().strip()
        with subprocess.Popen(list(map(str, line)), env={**os.environ, "RAY_ADDRESS": address}) as job:
            try:
                while len(list((tmp_path / "out").rglob("*.png"))) < 2 and job.poll() is None:
                    time.sleep(0.02)
                print("kill", file=nodes.stdin, flush=True)
                assert nodes.stdout.readline() == "killed\n"
                assert len(list((tmp_path / "out").rglob("*.png"))) < 40  # in the middle
                assert job.wait(300) == 0
            finally:
                job.kill()
    predict(model, [tmp_path / "photos"], tmp_path / "whole", save=["labels", "table"], device="cpu", precision="fp32")
    assert files(tmp_path / "out") == files(tmp_path / "whole")
