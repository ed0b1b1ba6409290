"""The seam between a prediction job and the processes that do it: this one, or those of a cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pixelwise.data.classes import Classes
from pixelwise.devices import Precision
from pixelwise.inference.predictor import Tiling
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.manifest import JobRequest
from pixelwise.prediction.output_writer import Job, Outputs, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is done with each image, whichever process does it."""

    outputs: Outputs
    request: JobRequest
    tiling: Tiling
    tta: tuple[str, ...]
    able: bool
    """Whether windows can give what is asked for."""
    resume: bool
    """Whether parts of images that an equal request has left are taken up."""


class Place(Protocol):
    """Where images are predicted and their files written: in this process, or elsewhere."""

    @property
    def classes(self) -> Classes: ...

    @property
    def precision(self) -> Precision: ...

    def work(self, task: Task, job: Job, images: Sequence[Input]) -> Iterator[Written | Exception]:
        """What became of each image, in their order.

        In this process `job` writes the files; frames of a video it also adds at once to the files on all
        images. Elsewhere only the files of the images are written: `labeled` is None then, and read from
        the label files.
        """
