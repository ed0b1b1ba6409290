"""Most runs without Ray, on a stand-in that calls the worker in this process; the slow test runs on Ray itself."""

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.data.io.images import read_mask, write_png
from pixelwise.errors import InvalidArgumentError, PixelwiseError
from pixelwise.model_file import read_checksum, read_spec
from pixelwise.prediction import ray_cluster as home
from pixelwise.prediction.inputs import Input, RasterInput
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles
from pixelwise.prediction.predict import LocalExecutor
from pixelwise.prediction.ray_cluster import (
    WorkerPlan,
    inspect_worker,
    plan_workers,
    predict_chunks,
    restore_order,
    split_into_chunks,
    start_executor,
)
from pixelwise.version import __version__
from support.predictions import make_manifest
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


# Planning


def plan_of(num_workers: int, num_cpus: int, num_gpus: int) -> WorkerPlan:
    return WorkerPlan(num_workers=num_workers, num_cpus=num_cpus, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("nodes", "device", "plan"),
    [
        ([{"CPU": 16.0}, {"CPU": 8.0, "memory": 1e9}], "auto", plan_of(6, 4, 0)),
        ([{"CPU": 2.0}, {"CPU": 9.0}, {}], "auto", plan_of(5, 2, 0)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], "auto", plan_of(2, 4, 1)),
        (
            [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 4.0}],
            "cuda",
            plan_of(6, 1, 1),
        ),
        ([{"CPU": 16.0, "GPU": 2.0}], "cpu", plan_of(4, 4, 0)),
    ],
)
def test_a_worker_takes_a_gpu_or_a_few_cpus(nodes: Any, device: str, plan: WorkerPlan) -> None:
    assert plan_workers(nodes, device) == plan


@pytest.mark.parametrize(
    ("nodes", "device", "said"),
    [
        ([{"CPU": 4.0}], "cuda", "No machine of the cluster has a GPU"),
        ([{"CPU": 4.0}], "cuda:1", "--device cuda:1 is not supported on a cluster"),
        ([{"CPU": 0.5}, {}], "auto", "No machine of the cluster offers CPUs"),
    ],
)
def test_devices_that_the_cluster_lacks_are_an_error(nodes: Any, device: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        plan_workers(nodes, device)


def item(number: int, *, windowed: bool = False) -> Input:
    kind = RasterInput if windowed else Input
    return kind(Path(f"{number}.png"), Path(str(number)))


@pytest.mark.parametrize(("images", "workers", "sizes"), [(200, 1, [16] * 12 + [8]), (10, 2, [2] * 5), (3, 9, [1] * 3)])
def test_chunks_are_small_and_there_are_several_per_worker(images: int, workers: int, sizes: list[int]) -> None:
    parts = split_into_chunks([item(number) for number in range(images)], workers)
    assert [len(part) for part in parts] == sizes
    assert [pair for part in parts for pair in part] == [(number, item(number)) for number in range(images)]


def test_an_image_read_by_windows_has_its_own_chunk() -> None:
    images = [item(number, windowed=number in (1, 2)) for number in range(64)]
    parts = split_into_chunks(images, 1)
    assert [len(part) for part in parts] == [1, 1, 1, 16, 16, 16, 13]


def test_results_are_put_in_order() -> None:
    assert list(restore_order([(2, "c"), (0, "a"), (3, "d"), (1, "b")])) == ["a", "b", "c", "d"]
    given = iter([(0, "a"), (2, "c")])
    assert next(restore_order(given)) == "a"  # no later than it must
    assert list(given) == [(2, "c")]


# Workers


def make_writer(model: Path, folder: Path) -> OutputWriter:
    folder.mkdir(exist_ok=True)
    writer = OutputWriter(folder=folder, kinds=("labels",), classes=read_spec(model).classes, resumed=True)
    writer.manifest = make_manifest(folder, {"model": read_checksum(model), "precision": "fp32"})
    return writer


def make_executor(model: Path) -> LocalExecutor:
    return LocalExecutor(model=model, device="cpu", precision="fp32")


def predict_on_worker(model: Path, folder: Path, *chunks: list[tuple[int, Input]]) -> dict[str, list[Any]]:
    batch = {"chunk": np.array([pickle.dumps(chunk) for chunk in chunks], object)}
    return predict_chunks(batch, writer=make_writer(model, folder), executor=make_executor(model), num_threads=2)


def test_a_worker_loads_a_model_once(model: Path) -> None:
    checksum = read_checksum(model)
    assert start_executor(make_executor(model), checksum, 2) is start_executor(make_executor(model), checksum, 2)


def test_a_worker_writes_its_chunk_and_returns_errors(model: Path, photos: Path, tmp_path: Path) -> None:
    chunk = [(7, Input(photos / "a.png", Path("a"))), (3, Input(photos / "broken.png", Path("broken")))]
    rows = predict_on_worker(model, tmp_path / "out", chunk)
    assert rows["number"] == [7, 3]
    assert rows["error"][0] == ""
    assert "broken.png" in rows["error"][1]
    assert [name for name in files(tmp_path / "out") if not name.startswith(".")] == ["a.png"]
    assert make_writer(model, tmp_path / "out").manifest.find_state(tmp_path / "out" / "a.png")[0] == "unchanged"


def test_a_worker_returns_its_messages(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(executor: LocalExecutor, writer: OutputWriter, inputs: Sequence[Input]) -> Iterator[WrittenFiles]:
        for one in inputs:
            logging.getLogger("pixelwise").info(f"{one.name} has tiles")
            yield WrittenFiles(())

    monkeypatch.setattr(LocalExecutor, "run", log)
    rows = predict_on_worker(model, tmp_path / "out", [(0, item(0)), (1, item(1))], [(2, item(2))])
    assert rows["messages"] == ["0.png has tiles\n1.png has tiles", "", "2.png has tiles"]


def test_a_worker_with_another_model_does_nothing(model: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=11)
    with pytest.raises(InvalidArgumentError, match="other on this machine is not the model of the command"):
        start_executor(make_executor(other), read_checksum(model), 2)


def test_the_inspection_returns_version_and_precision_or_the_error(model: Path, tmp_path: Path) -> None:
    assert inspect_worker(model, "cpu", "fp32", "auto") == (__version__, "fp32")
    assert isinstance(inspect_worker(tmp_path / "gone", "cpu", "fp32", "auto"), PixelwiseError)


# The command, on a stand-in


class FakeRay:
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
            found = worker({"chunk": np.array([row["chunk"]], object)}, **self.options["fn_kwargs"])
            for number, error, message in zip(found["number"], found["error"], found["messages"], strict=True):
                yield {"number": np.int64(number), "error": error, "messages": message}
            if self.fault:
                raise self.fault


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    pretended = FakeRay()
    monkeypatch.setattr(home, "_import_ray", lambda: pretended)
    return pretended


def test_a_cluster_gives_what_one_machine_gives(
    model: Path, photos: Path, tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers stand elsewhere: they must be given whole paths
    here = predict(model, ["photos"], "whole", save=KINDS, device="cpu")
    there = predict(model, ["photos"], "out", save=KINDS, device="cpu", cluster="ray")
    assert files(Path("out")) == files(Path("whole"))
    assert [str(path) for path in there.written] == [str(path).replace("whole", "out") for path in here.written]
    assert [path for path, _ in there.failures] == [path for path, _ in here.failures] == [Path("photos/broken.png")]
    given = ray.options["fn_kwargs"]
    assert given["executor"].model.is_absolute()
    assert given["writer"].folder == tmp_path / "out"
    assert given["writer"].kinds == ("labels", "overlay")
    assert (given["num_threads"], ray.options["num_cpus"], ray.options["num_gpus"]) == (2, 2, None)
    assert not ray.running


def test_workers_use_the_threshold(make_model: Callable[..., Path], photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    model = make_model(tmp_path / "two", classes={"names": ["background", "crack"]}, seed=4)
    for threshold in (1e-6, 1 - 1e-6):
        out = tmp_path / str(threshold)
        predict(model, [photos / "a.png"], out, device="cpu", cluster="ray", threshold=threshold)
        assert (read_mask(out / "a.png") == (threshold < 0.5)).all()


def test_a_threshold_for_another_number_of_classes_is_an_error_before_the_workers_start(
    model: Path, photos: Path, tmp_path: Path, ray: FakeRay
) -> None:
    with pytest.raises(InvalidArgumentError, match="A threshold needs a model of two classes"):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray", threshold=0.3)
    assert not ray.running


def test_finished_inputs_are_not_predicted_again(model: Path, photos: Path, tmp_path: Path, ray: FakeRay) -> None:
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


def test_temporary_files_of_killed_workers_are_removed(model: Path, photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    (tmp_path / "out" / "trip").mkdir(parents=True)
    (tmp_path / "out" / "trip" / ".a.png.0123456789ab.part").write_text("half")
    predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert [name for name in files(tmp_path / "out") if name.endswith(".part")] == []


def test_an_existing_connection_is_kept(model: Path, photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    ray.running = True
    predict(model, [photos / "a.png"], tmp_path / "out", device="cpu", cluster="ray")
    assert ray.running


def test_a_failed_cluster_is_an_error_that_names_resume(
    model: Path, photos: Path, tmp_path: Path, ray: FakeRay
) -> None:
    ray.fault = ray.exceptions.RayError("UserError: a\n ...\npixelwise.errors.DataError: all gone\nTo retry, ...")
    with pytest.raises(InvalidArgumentError, match=r"The cluster failed \(DataError: all gone\)\. .* --resume"):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not ray.running


def test_a_machine_without_this_package_is_an_error(model: Path, photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    ray.fault, ray.at_once = ray.exceptions.RayError("Traceback\nNo module named 'pixelwise'"), True
    with pytest.raises(
        InvalidArgumentError, match=r"cannot start \(No module named 'pixelwise'\)\. Install pixelwise .* on each"
    ):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not (tmp_path / "out").exists()


def test_no_cluster_at_the_address_is_an_error(model: Path, photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    ray.fault = ConnectionError("nobody there")
    with pytest.raises(
        InvalidArgumentError, match=r"No Ray cluster can be reached \(nobody there\)\. Check RAY_ADDRESS"
    ):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_exist_on_the_cluster_is_an_error(photos: Path, tmp_path: Path, ray: FakeRay) -> None:
    with pytest.raises(PixelwiseError, match="does not exist"):
        predict(tmp_path / "gone", [photos], tmp_path / "out", device="cpu", cluster="ray")
    assert not ray.running


def test_another_version_on_the_cluster_is_an_error(
    model: Path, photos: Path, tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "inspect_worker", lambda *arguments: ("0.0.1", "fp32"))
    with pytest.raises(InvalidArgumentError, match=r"The cluster has pixelwise 0\.0\.1, this machine"):
        predict(model, [photos], tmp_path / "out", device="cpu", cluster="ray")


def test_without_ray_the_extra_is_named(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidArgumentError, match=r'--cluster ray needs ray, .*: pip install "pixelwise\[ray\]"'):
        predict(model, [photos], tmp_path / "out", cluster="ray")


def test_parts_of_an_earlier_job_are_not_resumed(
    model: Path, tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []
    monkeypatch.setattr(home, "remove_parts", removed.append)
    write_png(tmp_path / "x.jp2", np.zeros((2, 2), np.uint8))  # fails, but only elsewhere
    for resume in (False, True):
        predict(model, [tmp_path / "x.jp2"], tmp_path / "out", device="cpu", cluster="ray", resume=resume)
        assert removed == [tmp_path / "out" / "x.tif"]


# Ray itself


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "pixelwise[ray]"')
def test_a_killed_node_loses_no_file(make_model: Callable[..., Path], tmp_path: Path) -> None:
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
