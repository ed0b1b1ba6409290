"""`pixelwise predict`: images labeled by this process, by a share of several, or by a cluster."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.inference.predictor import Tiling
from pixelwise.prediction.executor import Place
from pixelwise.prediction.outputs import LabelValues
from pixelwise.prediction.predict import PredictReport
from pixelwise.prediction.predict import predict as run
from pixelwise.prediction.ray_cluster import ray_cluster

CLUSTERS: dict[str, Callable[..., AbstractContextManager[Callable[[], Place]]]] = {"ray": ray_cluster}
"""Name → a context that gives what connects to it."""


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    save: Sequence[str] = ("labels",),
    tiling: Tiling = "exact",
    label_values: LabelValues = "index",
    min_area: int = 0,
    fill_holes: bool = False,
    tta: Sequence[str] = (),
    resume: bool = False,
    shard: str | None = None,
    cluster: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> PredictReport:
    """Writes what `save` names of every input image below `output`, as `inference.predict.predict` says.

    Args:
        cluster: "ray" predicts on all machines of a Ray cluster (docs/clusters.md): the one that
            RAY_ADDRESS names, else one that runs on this machine, else one that is started for the job.
            Model, inputs and output must lie at the same path on each. It cannot be combined with `shard`.

    All other arguments, and what is raised, are those of `inference.predict.predict`.
    """
    if cluster is not None and cluster not in CLUSTERS:
        raise unknown_name("cluster", cluster, CLUSTERS)
    if cluster is not None and shard is not None:
        raise InvalidArgumentError("--shard and --cluster both share out the images; leave one of them out.")

    def predict_at(open_place: Callable[[], Place] | None) -> PredictReport:
        return run(
            model,
            inputs,
            output,
            save=save,
            tiling=tiling,
            label_values=label_values,
            min_area=min_area,
            fill_holes=fill_holes,
            tta=tta,
            resume=resume,
            shard=shard,
            device=device,
            precision=precision,
            engine=engine,
            open_place=open_place,
        )

    if cluster is None:
        return predict_at(None)
    where = CLUSTERS[cluster](model, device=device, precision=precision, engine=engine)
    with where as open_place:
        return predict_at(open_place)
