"""Commands that read datasets: check, convert, plan."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pixelwise.api.options import (
    Data,
    Device,
    Format,
    GroupBy,
    HtmlPath,
    JsonPath,
    Masks,
    Option,
    Overwrite,
    Precision,
    Seed,
    Settings,
    StrPath,
    to_paths,
)
from pixelwise.arguments import check_arguments
from pixelwise.config import Config, parse_duration
from pixelwise.errors import PixelwiseError, wrap_path_errors
from pixelwise.output_files import prepare_files
from pixelwise.progress import budget_start
from pixelwise.shapes import Size

if TYPE_CHECKING:
    from pixelwise.checks.findings import CheckReport
    from pixelwise.conversion import ConversionResult
    from pixelwise.data.dataset import Dataset

logger = logging.getLogger(__name__)


@check_arguments
@wrap_path_errors()
def check(
    data: Data,
    *,
    format: Format = None,
    masks: Masks = None,
    resolution: Annotated[
        Size | None, Option(help="Training resolution, to find objects that vanish there.", metavar="H W")
    ] = None,
    group_by: GroupBy = None,
    json_path: JsonPath = None,
    html_path: HtmlPath = None,
    overwrite: Overwrite = False,
) -> "CheckReport":
    """Report problems in a dataset and how to fix them.

    The files are also written if the dataset cannot be read. The error is then the finding `unreadable_dataset`.

    Args:
        data: Dataset folder, or several. Every image and mask in it is read.
        format: Dataset format; None: detected.
        masks: Folder of the masks, next to the images; None: as in `dataset.yaml`, or detected.
        resolution: Height and width to which training scales the images; None: they are not scaled.
        group_by: Rule that finds the group of an image, like `data.group_by` of a config.
        json_path: JSON file to write with the report.
        html_path: HTML page to write, with pictures of the problems and of random samples.
        overwrite: Replace these files also if another request, or the user, wrote them.

    Returns:
        The findings, errors first, and the number of images per split.

    Raises:
        PathNotFoundError: `data` does not exist.
        DataError: `data` is not a dataset.
        InvalidArgumentError: an unknown format, an invalid resolution or group, or a file that exists and that this
            request did not write.

    Example:
        >>> report = pw.check(data)
        >>> report.errors
        ()
    """
    from pixelwise.checks.runner import report_failure, run_checks
    from pixelwise.data.joined_dataset import load_datasets
    from pixelwise.data.scan import scan_dataset
    from pixelwise.data.splits.groups import find_user_groups
    from pixelwise.reports.check_report import render_check_report

    request = {"format": format, "masks": masks, "resolution": resolution, "group_by": group_by}
    json_file, html_file = prepare_files([json_path, html_path], "check", to_paths(data), request, overwrite=overwrite)
    name = " + ".join(Path(path).resolve().name for path in to_paths(data))

    def write(report: "CheckReport", dataset: "Dataset | None" = None) -> None:
        if json_file:
            json_file.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
        if html_file:
            html_file.write(render_check_report(report, dataset, name))

    dataset = None
    try:
        dataset = load_datasets(to_paths(data), format, masks)
        if group_by is not None:  # before images are read
            find_user_groups(dataset.samples, group_by, dataset.root)
        dataset = scan_dataset(dataset)
        report = run_checks(dataset, resolution=resolution, group_by=group_by)
    except (PixelwiseError, OSError) as error:
        write(report_failure(error, dataset))
        for file in filter(None, (json_file, html_file)):
            logger.info(f"written: {file.path}")  # the caller gets an error instead of the result
        raise
    write(report, dataset)
    return report


@check_arguments
@wrap_path_errors()
def convert(
    data: Data,
    output: Annotated[StrPath, Option(help="Folder of the new dataset.", short="-o")],
    *,
    to: Annotated[
        Literal["coco", "folder", "nnunet", "voc", "webdataset", "yolo"], Option(help="Format of the new dataset.")
    ],
    format: Format = None,
    masks: Masks = None,
    overwrite: Overwrite = False,
) -> "ConversionResult":
    """Write a dataset in another format, with the same label of each pixel.

    Args:
        data: Dataset folder, or several; they are only read.
        output: Folder to write: new, empty, or written by the same request. Its files appear when all are complete.
        to: Format of the new dataset.
        format: Format of `data`; None: detected.
        masks: Folder of the masks, next to the images; None: as in `dataset.yaml`, or detected.
        overwrite: Write into a folder with other files; those with the names of new ones are replaced.

    Returns:
        The folder, the number of images, and notes on what the format cannot express.

    Raises:
        PathNotFoundError: `data` does not exist.
        DataError: `data` has errors that `check` reports.
        InvalidArgumentError: an unknown format, an `output` with files, or a missing extra.

    Example:
        >>> pw.convert(data, "shards", to="webdataset").num_images
        20
    """
    from pixelwise.conversion import convert_dataset
    from pixelwise.data.joined_dataset import load_datasets

    return convert_dataset(load_datasets(to_paths(data), format, masks), Path(output), to, overwrite=overwrite)


@check_arguments
@wrap_path_errors()
def plan(
    data: Data,
    *,
    budget: Annotated[str | float, Option(help="Time for the whole run, such as 90s, 20m, 0.5h or 1h30m.")] = "20m",
    network: Annotated[str | None, Option(help="Network, as listed by `networks`.", metavar="NAME")] = None,
    settings: Annotated[Mapping[str, object], Settings] = MappingProxyType({}),
    format: Format = None,
    masks: Masks = None,
    group_by: GroupBy = None,
    output: Annotated[StrPath | None, Option(help="Config file to write.", short="-o", metavar="FILE")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = None,
) -> Config:
    """Choose network, sample size and schedule for a dataset, this machine and a time budget.

    Args:
        data: Dataset folder, or several, with classes matched by name.
        budget: Time for the whole run, in seconds or as text.
        network: Network, a name of `pixelwise.networks.NETWORKS`; None: chosen.
        settings: Fixed configuration values, `{"section.key": value}`.
        format: Dataset format; None: detected.
        masks: Folder of the masks, next to the images; None: as in `dataset.yaml`, or detected.
        group_by: Rule that finds the group of an image, like `data.group_by` of a config.
        output: File to write with the config.
        overwrite: Replace the file also if another request, or the user, wrote it.
        device: Device to plan for.
        precision: Numerical precision to plan for.
        seed: Seed of the run; None: 0.

    Returns:
        The config, with the reason for each choice in `reasons` and the estimate in `estimate`.

    Raises:
        PathNotFoundError: `data` does not exist.
        DataError: `data` has errors that `check` reports.
        InvalidArgumentError: an unknown name, an invalid value, a budget that is too short, or a file that exists and
            that this request did not write.

    Example:
        >>> config = pw.plan(data, budget="20m", network="unet", device="cpu")
        >>> config.network.name, config.training.budget_seconds
        ('unet', 1200.0)
    """
    from pixelwise.devices import choose_device, choose_precision
    from pixelwise.planning.planner import make_plan
    from pixelwise.planning.prepare_data import prepare_data

    started = budget_start()  # like the run that it plans: imports included
    changes: dict[str, object] = {**settings, "training.budget_seconds": parse_duration(budget, "budget")}
    named = {
        "data.format": format,
        "data.masks": masks,
        "data.group_by": group_by,
        "network.name": network,
        "training.seed": seed,
    }
    changes |= {key: value for key, value in named.items() if value is not None}
    request = {"device": device, "precision": precision, **changes}
    (config_file,) = prepare_files([output], "plan", to_paths(data), request, overwrite=overwrite)
    training_data = prepare_data(to_paths(data), Config().replace(changes))
    torch_device = choose_device(device)
    config = make_plan(training_data, torch_device, choose_precision(precision, torch_device), changes, started)
    if config_file:
        config_file.write(config.to_yaml())
    return config
