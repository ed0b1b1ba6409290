"""Write the outputs of a prediction job, and resume one that was interrupted.

The manifest `predict.json` in the output folder records the requests and the files that were written for them. Each
file appears complete or not at all.
"""

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pixelwise.conversion.simplify import simplify_borders
from pixelwise.data.classes import Classes
from pixelwise.data.formats.dataset_index import find_images
from pixelwise.data.formats.folder import find_mask_folder
from pixelwise.data.io.images import Array, read_mask
from pixelwise.data.visualization import OPACITY, OverlayStyle
from pixelwise.errors import InvalidArgumentError, PixelwiseError, find_name
from pixelwise.files import write_atomically
from pixelwise.inference.batching import Failure, PredictedImage
from pixelwise.inference.predictor import Prediction, Tiling
from pixelwise.output_files import OutputClaim, OutputManifest
from pixelwise.prediction.inputs import Input, StackInput, VideoInput, list_frame_outputs
from pixelwise.prediction.outputs import (
    ENCODERS,
    GEOREFERENCED,
    POLYGON_OUTPUTS,
    PROBABILITY_OUTPUTS,
    SUMMARY_FILES,
    require_kinds,
)
from pixelwise.prediction.outputs.annotations import SummaryFile
from pixelwise.prediction.outputs.pictures import LabeledImage, LabelValues
from pixelwise.prediction.outputs.video import (
    FRAME_LIST,
    format_frame_stem,
    is_frame_file,
    parse_frame_number,
    read_frame_numbers,
)
from pixelwise.prediction.postprocess import postprocess_labels, require_min_area

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Extra = TypeVar("Extra")
Result = TypeVar("Result")

MAX_PENDING = 8
"""Predictions that may wait to be written: a batch of small ones."""
MAX_PENDING_PIXELS = 8 << 20
"""Total pixels of the images that may wait, if there are several: each keeps its image and its prediction."""

MANIFEST = "predict.json"
"""File in the output folder with the requests and the files that were written for them."""


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """The files that were written for one input."""

    paths: tuple[Path, ...]
    labeled: LabeledImage | None = None
    """For the summary files; None if they contain it already, or if another process wrote the files."""


@dataclass(slots=True, kw_only=True)
class OutputWriter:
    """Writes the outputs `kinds` of every input below `folder`."""

    folder: Path
    kinds: tuple[str, ...]
    label_values: LabelValues = "index"
    min_area: int = 0
    fill_holes: bool = False
    simplify: float = 0
    """Distance in pixels by which polygons may differ from the labels."""
    overlay_style: OverlayStyle = "fill"
    opacity: float = OPACITY
    classes: Classes | None = None
    """Set by `begin`, as are the following."""
    manifest: OutputManifest = field(default=cast(OutputManifest, None))
    resumed: bool = False
    """True if outputs of the same request are kept."""
    summaries: dict[str, SummaryFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = (find_name("output", kind, (*ENCODERS, *SUMMARY_FILES)) for kind in self.kinds)
        self.kinds = tuple(dict.fromkeys(kinds))
        self.label_values = find_name("label values", self.label_values, get_args(LabelValues))
        self.overlay_style = find_name("overlay style", self.overlay_style, get_args(OverlayStyle))
        if not 0 <= self.opacity <= 1:
            raise InvalidArgumentError(f"--opacity is {self.opacity}. Expected a number from 0 to 1, such as 0.5.")
        if self.overlay_style == "outline" and self.opacity != OPACITY:
            raise InvalidArgumentError(
                "--opacity is for filled overlays. Outlines are opaque. Omit it, or use --overlay-style fill."
            )
        require_min_area(self.min_area)
        if not 0 <= self.simplify < math.inf:
            raise InvalidArgumentError(f"simplify is {self.simplify}. Expected a distance in pixels, 0 or more.")
        if self.simplify and not set(self.kinds) & set(POLYGON_OUTPUTS):
            listed = ", ".join(POLYGON_OUTPUTS)
            raise InvalidArgumentError(f"--simplify changes only polygons. Save one of {listed}, or omit it.")

    @property
    def needs_probabilities(self) -> bool:
        return any(kind in PROBABILITY_OUTPUTS for kind in self.kinds)

    @property
    def only_labels(self) -> bool:
        """Return whether the labels of the network are the only output."""
        return self.kinds == ("labels",) and self.label_values == "index" and self.min_area <= 1 and not self.fill_holes

    def begin(
        self,
        inputs: Sequence[Input],
        classes: Classes,
        request: Mapping[str, Any],
        claim: OutputClaim,
        *,
        resume: bool = False,
        overwrite: bool = False,
        is_shard: bool = False,
    ) -> set[Input]:
        """Check the outputs, record the request in the folder, and remove outputs of another request.

        Args:
            inputs: the inputs, without those of `find_conflicts`.
            request: plain values that the outputs depend on, except the images.
            claim: the claim on the folder.
            resume: keep the outputs of the same request.
            overwrite: replace files of the user and of other requests.
            is_shard: True if other jobs predict the other inputs, so that summary files are not written.

        Returns:
            The inputs that are complete.

        Raises:
            InvalidArgumentError: an output would replace a file that this request did not write, or a format cannot
                represent the classes.
        """
        if not self.kinds:
            raise InvalidArgumentError(
                f"Nothing to save. Choose from: {', '.join(sorted((*ENCODERS, *SUMMARY_FILES)))}."
            )
        require_kinds(self.kinds, classes)
        if is_shard:
            self.kinds = tuple(kind for kind in self.kinds if kind in ENCODERS)
        self.classes, self.resumed = classes, resume
        self.manifest = OutputManifest(claim=claim, name=MANIFEST, request=request)
        self.summaries = {kind: SUMMARY_FILES[kind][1](classes) for kind in self.kinds if kind in SUMMARY_FILES}
        if not overwrite and find_mask_folder(self.folder.resolve()):
            self._require_no_masks()
        complete = {item for item in inputs if resume and self._is_complete(item)}
        remaining = [item for item in inputs if item not in complete]
        targets = [path for item in remaining for path in self.list_paths(item).values()]
        frames = [path for item in remaining if isinstance(item, VideoInput) for path in self.list_frame_files(item)]
        self.manifest.begin(
            (*targets, *frames, *self._list_summary_paths().values()),
            overwrite=overwrite,
        )
        return complete

    def find_conflicts(self, inputs: Sequence[Input]) -> dict[Input, str]:
        """Return the inputs that cannot be predicted into this folder together, each with the reason.

        Raises:
            InvalidArgumentError: an output would replace an input.
        """
        sources = {path.resolve() for item in inputs for path in item.list_files()}
        if sources & {self.folder.resolve(), *self.folder.resolve().parents}:
            raise InvalidArgumentError(f"The folder {self.folder} is inside an input. Choose another one with -o.")
        owners: dict[Path, list[Input | str]] = {self.folder / MANIFEST: ["the list of the outputs"]}
        owners |= {path: [f"the {kind} file"] for kind, path in self._list_summary_paths().items()}
        for item in inputs:
            for kind, path in self.list_paths(item).items():
                if path.resolve() in sources:
                    raise InvalidArgumentError(
                        f"The {kind} output of {item.name} would replace the image {path}. Choose another folder with "
                        f"-o."
                    )
                owners.setdefault(path, []).append(item)
        for item in inputs:
            if isinstance(item, VideoInput) and list_frame_outputs(self.kinds):
                for path in self._list_possible_frames(item, owners, sources):
                    owners[path].append(item)
        conflicts: dict[Input, str] = {}
        for path, users in owners.items():
            for user in users if len(users) > 1 else ():
                if isinstance(user, Input):
                    other = next(one for one in users if one is not user)
                    name = other.name if isinstance(other, Input) else other
                    conflicts[user] = (
                        f"{user.name} is not predicted, because {name} would also be written to "
                        f"{path.relative_to(self.folder)}. Rename one, or predict them into different folders."
                    )
        return conflicts

    def write(self, item: Input, image: Array, prediction: Prediction, missing: Array | None = None) -> WrittenFiles:
        """Write the files of one image; in any thread.

        Args:
            item: the input.
            image: (H, W, C) pixels.
            prediction: the prediction for them.
            missing: (H, W) bool of the pixels without data, which belong to no class.
        """
        assert self.classes is not None, "begin was not called"
        labeled = self._label(item, self.classes.ignore_missing(self._postprocess(prediction), missing))
        paths = self.list_paths(item)
        for kind, path in paths.items():
            self.manifest.write(path, ENCODERS[kind][1](path, labeled, image, prediction))
        return WrittenFiles(tuple(paths.values()), labeled)

    def write_frame(
        self, item: VideoInput, number: int, image: Array, prediction: Prediction, folder: Path
    ) -> LabeledImage:
        """Write the files of one frame of a video into a folder; in any thread."""
        labeled = self._label_frame(item, number, self._postprocess(prediction))
        for kind in list_frame_outputs(self.kinds):
            end, encode = ENCODERS[kind]
            path = folder / f"{format_frame_stem(number)}{end}"
            write_atomically(path, encode(path, labeled, image, prediction))
        return labeled

    def add(self, labeled: LabeledImage) -> None:
        """Add an image to the summary files; in one thread, in the order of the inputs."""
        for file in self.summaries.values():
            file.add(labeled)

    def add_from_files(self, item: Input) -> None:
        """Add an input to the summary files from its label files, which were written earlier or by another process."""
        if not self.summaries:
            return
        if isinstance(item, StackInput):
            for page in item.list_pages():
                self.add(self._label(page, read_mask(self.list_paths(item)["labels"], page.page)))
            return
        if not isinstance(item, VideoInput):
            self.add(self._label(item, read_mask(self.list_paths(item)["labels"])))
            return
        folder = self.folder / item.stem
        with self.roll_back_on_error():
            for number in read_frame_numbers(folder / FRAME_LIST):
                labels = read_mask(folder / f"{format_frame_stem(number)}{ENCODERS['labels'][0]}")
                self.add(self._label_frame(item, number, labels))

    @contextlib.contextmanager
    def roll_back_on_error(self) -> Iterator[None]:
        """Remove from the summary files what was added inside the block, if it ends with an error."""
        marks = {kind: file.mark() for kind, file in self.summaries.items()}
        try:
            yield
        except BaseException:
            for kind, mark in marks.items():
                self.summaries[kind].roll_back(mark)
            raise

    def finish(self, *, is_shard: bool = False) -> list[Path]:
        """Write the summary files and the manifest; return the paths of the former."""
        paths = self._list_summary_paths()
        for kind, path in paths.items():
            self.manifest.write(path, self.summaries[kind].encode())
        self.manifest.save(is_shared=is_shard)
        return list(paths.values())

    def list_paths(self, item: Input) -> dict[str, Path]:
        """Return the files of one input by kind; for a video those that appear last."""
        return {kind: self.folder / f"{item.stem}{end}" for kind, end in item.list_outputs(self.kinds).items()}

    def list_frame_files(self, item: VideoInput, *, after: int = 0) -> list[Path]:
        """Return the existing files whose names are those of frames of a video, from a number on."""
        ends = [ENCODERS[kind][0] for kind in list_frame_outputs(self.kinds)]
        files = (self.folder / item.stem).glob("*")
        return [path for path in files if any(parse_frame_number(path.name, end) > after for end in ends)]

    def require_label_files(self, option: str) -> None:
        """Raise InvalidArgumentError if summary files cannot be completed from label files, as `option` needs."""
        kinds = [kind for kind in self.kinds if kind in SUMMARY_FILES]
        if kinds and ("labels" not in self.kinds or self.label_values != "index"):
            raise InvalidArgumentError(
                f"{option} reads the finished images for {kinds[0]} from label files with class indices. "
                f"Save labels too, with --label-values index, or omit {option}."
            )

    def without_summaries(self) -> "OutputWriter":
        """Return a writer for a process that predicts only some of the inputs."""
        return replace(self, kinds=tuple(kind for kind in self.kinds if kind in ENCODERS), summaries={})

    def _postprocess(self, prediction: Prediction) -> Array:
        changes = self.min_area > 1 or self.fill_holes
        return postprocess_labels(prediction.labels, self.min_area, self.fill_holes) if changes else prediction.labels

    def _label(self, item: Input, labels: Array) -> LabeledImage:
        assert self.classes is not None, "begin was not called"
        needs_place = item.is_georeferenced or any(kind in GEOREFERENCED for kind in self.kinds)
        place, tags = item.read_place() if needs_place else (None, ())
        return self._style(LabeledImage(labels, self.classes, item.relative_name, item.source, place, tags))

    def _label_frame(self, item: VideoInput, number: int, labels: Array) -> LabeledImage:
        assert self.classes is not None, "begin was not called"
        name = (item.stem / f"{format_frame_stem(number)}.png").as_posix()
        return self._style(LabeledImage(labels, self.classes, name))

    def _style(self, labeled: LabeledImage) -> LabeledImage:
        return replace(
            labeled,
            label_values=self.label_values,
            overlay_style=self.overlay_style,
            opacity=self.opacity,
            corners=simplify_borders(labeled.labels, self.simplify) if self.simplify else None,
        )

    def _list_summary_paths(self) -> dict[str, Path]:
        return {kind: self.folder / SUMMARY_FILES[kind][0] for kind in self.kinds if kind in SUMMARY_FILES}

    def _is_complete(self, item: Input) -> bool:
        """Return whether all files exist, written by this request."""
        paths = self.list_paths(item).values()
        return all(self.manifest.find_state(path, compare_content=False)[0] == "unchanged" for path in paths)

    def _require_no_masks(self) -> None:
        """Raise InvalidArgumentError if the folder, which is one of masks, holds images that are not predictions."""
        self.manifest.read()
        for path in find_images(self.folder):
            if self.manifest.find_state(path, compare_content=False)[0] == "foreign":
                raise InvalidArgumentError(
                    f"{self.folder} holds masks of a dataset, such as {path.name}. Predictions next to them would be "
                    f"taken for masks. Choose another folder with -o."
                )

    def _list_possible_frames(self, item: VideoInput, paths: Iterable[Path], sources: Iterable[Path]) -> list[Path]:
        """Return the paths that may be those of frames of a video: their number is known when it is decoded.

        Raises:
            InvalidArgumentError: A frame may replace an input.
        """
        folder = self.folder / item.stem
        for source in sources:
            if source.parent == folder.resolve() and is_frame_file(source.name):
                raise InvalidArgumentError(
                    f"A frame of {item.name} might replace the image {source}. Choose another folder with -o."
                )
        return [path for path in paths if path.parent == folder and is_frame_file(path.name)]


def write_in_background(
    predicted: Iterable[PredictedImage[Item, Extra] | Failure[Item]],
    write: Callable[[PredictedImage[Item, Extra]], Result],
) -> Generator[Result | Exception, None, None]:
    """Call `write` for each predicted image in threads; yields its result or the error, in order."""
    predictions = iter(predicted)
    pending: deque[tuple[Future[Result] | Exception, int]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="encode") as pool:
        while True:
            while len(pending) <= MAX_PENDING:
                if len(pending) > 1 and sum(pixels for _, pixels in pending) > MAX_PENDING_PIXELS:
                    break
                one = next(predictions, None)
                if one is None:
                    break
                if isinstance(one, Failure):
                    pending.append((one.error, 0))
                else:
                    pending.append((pool.submit(write, one), one.prediction.labels.size))
                del one  # the image and its logits belong to the thread
            if not pending:
                return
            first, _ = pending.popleft()
            try:
                result = first if isinstance(first, Exception) else first.result()
            except (PixelwiseError, OSError) as error:
                result = error
            yield result


def log_blending(name: str, seam_score: float, tiling: Tiling) -> None:
    """Log that the tiles of an image were blended, why, and how visible their seams are."""
    reason = "requested" if tiling == "blend" else "the network has a global receptive field, so no tile is exact"
    logger.info(f"{name}: tiles were blended ({reason}); seam score: {seam_score:.2f}")
