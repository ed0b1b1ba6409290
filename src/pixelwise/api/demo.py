"""`pixelwise demo`: the whole job on drawn street scenes."""

import logging
import shutil
from pathlib import Path

from pixelwise.api.check import check
from pixelwise.api.predict import predict
from pixelwise.api.train import train
from pixelwise.api.train_run import TrainResult
from pixelwise.data.synthetic import write_dataset
from pixelwise.errors import InvalidArgumentError
from pixelwise.evaluation.evaluate import evaluate
from pixelwise.training.run_dir import RunFolder

logger = logging.getLogger(__name__)

DEMO_BUDGET = "100s"
_DEMO_MARK = ".pixelwise-demo"


def demo(output: str | Path = "runs/demo", *, started: float | None = None) -> TrainResult:
    """The whole job on generated street scenes: data, check, train, evaluate, predict, report.

    Writes a run folder that also holds `data/`, `evaluation.json` and `predictions/`. An earlier
    demo in the same folder is replaced; anything else there is refused.
    """
    folder = Path(output)
    _clear_demo(folder)
    data = folder / "data"
    logger.info(f"drawing street scenes into {data}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DEMO_MARK).touch()
    write_dataset(data, "streets", num_train=160, num_val=32, num_test=32, size=(192, 256))
    report = check(data)
    logger.info(f"check: {len(report.errors)} errors, {len(report.findings)} findings")
    # The same for everybody: nothing is downloaded, whatever the plan would choose.
    result = train(data, folder, weights="none", budget=DEMO_BUDGET)
    assert isinstance(result, TrainResult)
    scores = evaluate(result.model, data, json_path=folder / "evaluation.json")
    logger.info(f"test mean IoU {scores['mean_iou']:.3f}, boundary F1 {scores['boundary_f1']:.3f}")
    predict(result.model, [data / "images" / "test"], folder / "predictions", save=("labels", "overlay"))
    logger.info(f"labels and overlays of the test images: {folder / 'predictions'}")
    return result


def _clear_demo(folder: Path) -> None:
    """Removes what an earlier demo wrote, known by its mark; a folder without the mark is refused."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / _DEMO_MARK).exists():
        raise InvalidArgumentError(f"{folder} holds something that is no demo; choose another folder with -o.")
    made = [folder / name for name in ("data", "predictions", "evaluation.json")]
    for path in [*made, *RunFolder(folder).contents]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
