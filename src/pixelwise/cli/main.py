"""The command line: one short function per command, a thin shell over the Python function of its name."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pixelwise.cli.errors import message_of
from pixelwise.errors import PixelwiseError
from pixelwise.progress import count_budget_from

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="pixelwise",
    help="Semantic segmentation: from a folder of images and masks to a trained, measured model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Argument(help="Folder with images/ and masks/ (or labels/, annotations/).")]
Model = Annotated[Path, typer.Argument(help="A run folder, or a model.safetensors.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")]
PredictPrecision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or int8.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, torch, torch-compile, openvino or onnxruntime.")]
Format = Annotated[
    str | None, typer.Option(metavar="NAME", help="How the data lies, where it cannot be told: folder, voc, coco, ...")
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX|FILE.csv:COLUMN", help="What may not be in two splits: patients, scenes, videos; docs/splits.md."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result to this file as JSON.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything it makes.")] = Path("runs/demo"),
) -> None:
    """The whole job on a built-in dataset, in under three minutes."""
    from pixelwise.api.demo import demo as run
    from pixelwise.cli.console import show_progress

    with show_progress():
        result = run(output)
        typer.echo(f"report: {result.report}")


@app.command()
def check(
    data: Data,
    format: Format = None,
    resolution: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Height and width to which images are to be scaled: what vanishes there?"),
    ] = None,
    group_by: Group = None,
    json: Json = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with pictures of what was found to this file.")
    ] = None,
) -> None:
    """Find what is wrong with a dataset before training does."""
    from pixelwise.api.check import check as run
    from pixelwise.cli.console import print_check

    report = run(data, format=format, resolution=resolution, group_by=group_by, json_path=json, html_path=html)
    print_check(report)
    if html:
        typer.echo(f"page: {html}")
    if report.errors:
        raise typer.Exit(1)


@app.command()
def convert(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the written dataset; new or empty.")],
    to: Annotated[
        str, typer.Option(metavar="NAME", help="Format to write: coco, folder, nnunet, voc, webdataset or yolo.")
    ],
    format: Format = None,
) -> None:
    """Write a dataset in another format, its labels the same pixel for pixel."""
    from pixelwise.cli.console import show_progress
    from pixelwise.conversion import convert as run

    with show_progress():
        made = run(data, output, to=to, format=format)
    typer.echo(f"{made.num_images} pairs written to {made.output} as {made.format}")


@app.command()
def plan(
    data: Data,
    budget: Annotated[str, typer.Option(help="Time for the whole run: 90s, 20m, 1h30m.")] = "20m",
    format: Format = None,
    group_by: Group = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the config here.")] = None,
) -> None:
    """Choose network, samples and schedule for a dataset, this machine and a budget."""
    from pixelwise.api.plan import plan as run
    from pixelwise.cli.console import show_progress

    with show_progress():
        made = run(data, budget=budget, format=format, group_by=group_by, output=output)
    if output is None:
        typer.echo(made.to_yaml(), nl=False)
    else:
        typer.echo("\n".join([*(made.forecast.lines() if made.forecast else ()), f"config: {output}"]))


@app.command()
def train(
    context: typer.Context,
    data: Data,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder; default runs/DATA-NETWORK-N.")
    ] = None,
    format: Format = None,
    group_by: Group = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Train K runs, each validated on another part of the images.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml instead of a plan.")] = None,
    network: Annotated[str | None, typer.Option(help="Name of the network, as `networks` lists it.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Classifier that unet or fcn stands on: resnet34, timm:convnext_tiny.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|imagenet|none", help="The encoder's first weights; default none.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from", metavar="MODEL", help="Start from the weights of a run or model; other classes are fine."
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole command; default 20m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps instead of a budget.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in -o.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: take another config or dataset from there on.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="First say where the time of a step goes; profile.json.gz is its trace.")
    ] = False,
    skip_invalid: Annotated[
        bool,
        typer.Option(
            "--skip-invalid",
            help="Train in spite of errors in the data: the pairs at fault are left out, listed by name.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value of the config; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides splits, weights and augmentation.")] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Repeat bit for bit on CPU.")] = False,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="Train in N processes of this machine, each on a device of its own.")
    ] = None,
    device: Device = "auto",
    precision: PrecisionName = "auto",
) -> None:
    """Plan, train, score and report."""
    from pixelwise.api.launch import is_first_process, launch, require_devices
    from pixelwise.training.distributed import is_one_of_several

    if devices is not None:
        require_devices(devices, device)
        if devices > 1 and not is_one_of_several():
            raise typer.Exit(launch(context.obj, devices))
    from pixelwise.api.train import train as run
    from pixelwise.api.train_run import TrainResult
    from pixelwise.cli.console import print_folds, print_scores, show_progress

    with show_progress():
        result = run(
            data,
            output,
            format=format,
            group_by=group_by,
            folds=folds,
            config=config,
            network=network,
            encoder=encoder,
            weights=weights,
            init_from=init_from,
            budget=budget,
            steps=steps,
            resume=resume,
            allow_changes=allow_changes,
            profile=profile,
            skip_invalid=skip_invalid,
            settings=settings or (),
            seed=seed,
            deterministic=deterministic,
            device=device,
            precision=precision,
        )
    if not is_first_process():
        return
    if isinstance(result, TrainResult):
        print_scores(result.scores)
        typer.echo(f"model:  {result.model}\nreport: {result.report}")
    else:
        print_folds(result.scores)
        typer.echo(f"folds:  {result.run}\nreport: {result.report}")


@app.command()
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[str | None, typer.Option(help="train, val or test; default test, else val.")] = None,
    format: Format = None,
    json: Json = None,
    device: Device = "auto",
    precision: PredictPrecision = "auto",
    engine: EngineName = "auto",
) -> None:
    """Score a model on a dataset."""
    from pixelwise.cli.console import print_scores, show_progress
    from pixelwise.evaluation.evaluate import evaluate as run

    with show_progress():
        scores = run(
            model,
            data,
            split=split,
            format=format,
            json_path=json,
            device=device,
            precision=precision,
            engine=engine,
        )
    print_scores(scores)


@app.command()
def predict(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Images, OME-Zarrs and videos: files, folders (recursively), globs or URLs."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    save: Annotated[
        str,
        typer.Option(
            help="labels, overlay, probabilities, probabilities-tiff, confidence, entropy, polygons, labelme, coco, "
            "cvat, table; separate with commas."
        ),
    ] = "labels",
    tiling: Annotated[
        Literal["exact", "blend", "none"], typer.Option(help="How images too large for memory are cut.")
    ] = "exact",
    label_values: Annotated[
        Literal["index", "dataset"], typer.Option(help="Class indices, or the masks' own values.")
    ] = "index",
    min_area: Annotated[
        int, typer.Option(metavar="PIXELS", help="Give smaller regions the class of a neighbor; docs/outputs.md.")
    ] = 0,
    fill_holes: Annotated[bool, typer.Option("--fill-holes", help="Close holes within regions.")] = False,
    tta: Annotated[
        str, typer.Option(help="Average over flips, rotations, scales of the image; separate with commas.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Pass over inputs whose results are there.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do the I-th of N shares of the images; docs/clusters.md."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Predict on all machines of a cluster: ray; docs/clusters.md.")
    ] = None,
    device: Device = "auto",
    precision: PredictPrecision = "auto",
    engine: EngineName = "auto",
) -> None:
    """Label images and videos."""
    from pixelwise.api.predict import predict as run
    from pixelwise.cli.console import print_failures, show_progress

    with show_progress():
        report = run(
            model,
            inputs,
            output,
            save=_listed(save),
            tiling=tiling,
            label_values=label_values,
            min_area=min_area,
            fill_holes=fill_holes,
            tta=_listed(tta),
            resume=resume,
            shard=shard,
            cluster=cluster,
            device=device,
            precision=precision,
            engine=engine,
        )
    skipped = f"; {report.skipped} images were complete before" if resume else ""
    typer.echo(f"{len(report.written)} files written to {output}{skipped}")
    if report.failures:
        print_failures(report.failures)
        raise typer.Exit(1)


@app.command()
def quantize(
    model: Model,
    data: Data,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default model.int8.onnx next to the model.")
    ] = None,
    max_iou_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Points of mean IoU that int8 may lose, 0 to 100.")
    ] = 1.0,
    format: Format = None,
) -> None:
    """Quantize a model to int8 and measure its accuracy."""
    from pixelwise.api.quantize import quantize as run
    from pixelwise.cli.console import print_int8_accuracy, show_progress

    with show_progress():
        result = run(model, data, output, max_iou_drop=max_iou_drop, format=format)
    typer.echo(result.file)
    print_int8_accuracy(result.accuracy)


@app.command()
def export(
    model: Model,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A file that ends in .onnx, .xml or .pt2, or a folder.")
    ],
    format: Annotated[
        Literal["onnx", "openvino", "torch-export"] | None,
        typer.Option(help="Default: as the ending of OUT says, else onnx."),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The graph also gives the logits.")] = False,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="Of the network; int8 after quantize.")
    ] = "fp32",
    min_agreement: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Smallest share of labels equal to the model's; default 0.9999, fp16 0.995, int8 0.",
        ),
    ] = None,
) -> None:
    """Write a model as ONNX, OpenVINO or torch.export: from pixels of any size to labels, proven equal."""
    from pixelwise.cli.console import print_export, show_progress
    from pixelwise.exporting.export import export as run

    with show_progress():
        made = run(
            model,
            output,
            format=format,
            logits=logits,
            precision=precision,
            min_agreement=min_agreement,
        )
    print_export(made)


@app.command()
def networks(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show the layers of this one.")] = None,
    size: Annotated[tuple[int, int], typer.Option(metavar="H W", help="Height and width of the image.")] = (360, 480),
) -> None:
    """List the networks with their size, cost and geometry, or the layers of one."""
    from pixelwise.cli.console import print_layers, print_networks
    from pixelwise.networks.summary import describe

    if name is None:
        print_networks(describe(size=size), size)
    else:
        print_layers(name, describe(name, size=size), size)


@app.command()
def localize(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders (recursively) or globs.")
    ],
    classifier: Annotated[str, typer.Option(metavar="NAME", help="vgg16, resnet50, timm:convnext_tiny, ...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the heat maps.")],
    weights: Annotated[str, typer.Option(metavar="FILE|imagenet", help="The classifier's weights.")] = "imagenet",
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Name or number of a class; default the top 3.")
    ] = None,
) -> None:
    """Show where in each image a classifier sees its classes."""
    from pixelwise.cli.console import print_failures, print_sights, show_progress
    from pixelwise.prediction.localize import localize as run

    with show_progress():
        report = run(images, output, classifier=classifier, weights=weights, class_name=class_name)
    print_sights(report.images)
    typer.echo(f"{len(report.images)} heat maps written to {output}")
    if report.failures:
        print_failures(report.failures)
        raise typer.Exit(1)


@app.command()
def info() -> None:
    """Versions, devices and threads: what a bug report needs."""
    from pixelwise.api.info import info as run

    for key, value in run().items():
        typer.echo(f"{key:<24}{value}")


def _listed(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def main(arguments: list[str] | None = None) -> Any:
    """Runs a command; 0 done, 1 done with listed failures, 2 cannot be done, 130 interrupted."""
    started = time.monotonic()  # a budget counts from here, imports included
    try:
        words = sys.argv[1:] if arguments is None else arguments
        with count_budget_from(started):
            code = app(words, standalone_mode=False, obj=words)  # `train --devices` runs them again, in processes
        if code == INTERRUPTED:  # Typer has made Ctrl-C an exit without a word
            print("pixelwise: interrupted", file=sys.stderr)
    except (PixelwiseError, OSError) as error:  # OSError: a folder that may not be written, a full disk
        print(f"pixelwise: {error}", file=sys.stderr)
        code = 2
    except typer.TyperException as error:
        if message := message_of(error):
            print(f"pixelwise: {message}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("pixelwise: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
