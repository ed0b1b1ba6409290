"""Commands that use a model, with the paths of its run, to copy from a page into a shell."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCommands:
    """The commands of a model. Paths are relative to the working directory where they can be."""

    model: str
    """Run folder or model file, as a word of a command."""
    data: str
    """Folders of the dataset and how to read them, as words of a command."""
    image: str
    """An image of the dataset, as a word of a command."""
    page: str
    """File for the page of another evaluation, as a word of a command."""
    config: Config | None = None
    """The config of the run that wrote the model, if the page is about a run."""
    is_fold: bool = False
    """True for a fold of a cross-validation, which accepts no changes."""

    @property
    def predict(self) -> str:
        return f"pixelwise predict {self.model} {self.image} -o predictions --save labels,overlay"

    @property
    def export(self) -> str:
        return f"pixelwise export {self.model} -o model.onnx"

    @property
    def check(self) -> str:
        return f"pixelwise check {self.data} --html check.html"

    @property
    def cross_validate(self) -> str:
        return f"pixelwise train {self.data} --folds 5"

    def train_longer(self, factor: int = 2) -> str:
        """Return the command that continues the run to `factor` times its length; for a fold, that starts a new run."""
        assert self.config is not None
        training = self.config.training
        if training.steps is not None:
            length = f"--steps {factor * training.steps}"
        else:
            length = f"--budget {_format_seconds(factor * (training.budget_seconds or 0))}"
        run = "" if self.is_fold else f" -o {self.model} --resume --allow-changes"
        return f"pixelwise train {self.data}{run} {length}"

    def train_anew(self, budget_seconds: float) -> str:
        """Return the command that starts a new run with another budget."""
        return f"pixelwise train {self.data} --budget {_format_seconds(budget_seconds)}"

    def train_with(self, setting: str) -> str:
        """Return the command that starts a new run with another setting."""
        return f"pixelwise train {self.data} --set {setting}"

    def evaluate(self, split: str) -> str:
        """Return the command that scores the model on a split and writes a page."""
        option = "" if split == "all" else f" --split {split}"
        return f"pixelwise evaluate {self.model} {self.data}{option} --html {self.page}"

    def list_uses(self, split: str) -> list[tuple[str, str]]:
        """Return title and command of each use; `split` is the one to score."""
        uses = [
            ("Predict an image: its label map, and the classes drawn over it", self.predict),
            (f"Score the model on the {split} images" if split != "all" else "Score the model", self.evaluate(split)),
            ("Write the model as an ONNX file for other programs", self.export),
        ]
        if self.config and not self.is_fold:
            uses.append(("Continue the training for twice as long", self.train_longer()))
        return uses


def make_commands(
    model: str | Path,
    dataset: Dataset,
    sample: Sample | None,
    page: Path,
    config: Config | None = None,
    *,
    is_fold: bool = False,
) -> ModelCommands:
    """Return the commands of a model on a dataset; `sample` is the example to predict."""
    image = "IMAGE.png" if sample is None or sample.image_entry else format_path(sample.image_path)
    return ModelCommands(
        model=format_path(model),
        data=" ".join([*map(format_path, dataset.folders), *map(shlex.quote, dataset.reading_options)]),
        image=image,
        page=format_path(page),
        config=config,
        is_fold=is_fold,
    )


def format_path(path: str | Path) -> str:
    """Return a path as a word of a command, relative to the working directory if it is below it."""
    absolute, here = os.path.abspath(path), os.getcwd()
    is_below = os.path.commonpath([absolute, here]) == here if Path(absolute).anchor == Path(here).anchor else False
    return shlex.quote(os.path.relpath(absolute, here) if is_below else str(path))


def _format_seconds(seconds: float) -> str:
    return f"{seconds / 60:.0f}m" if seconds % 60 == 0 else f"{seconds:.0f}s"
