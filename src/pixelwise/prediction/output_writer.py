"""The outputs of one prediction job: which files there will be, writing them, and taking up what is done."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.data.io.georeference import Georeference, read_georeference
from pixelwise.data.io.images import Array, read_mask
from pixelwise.data.rasters import find_raster_format
from pixelwise.data.rasters.ome_zarr_metadata import is_label_zarr
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.files import remove_temporary_files, write_atomically
from pixelwise.inference.predictor import Prediction
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.manifest import FILE_NAME
from pixelwise.prediction.outputs import (
    GEOREFERENCED,
    JOB_FILES,
    OF_PROBABILITIES,
    WRITERS,
    JobFile,
    Labeled,
    LabelValues,
    Predicted,
    require_kinds,
)
from pixelwise.prediction.outputs.video import (
    FRAME_LIST,
    LABELED_VIDEO,
    frame_stem,
    is_of_frame,
    read_frame_numbers,
)
from pixelwise.prediction.postprocess import require_min_area, tidy


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a job writes, and where."""

    folder: Path
    kinds: tuple[str, ...]
    label_values: LabelValues = "index"
    min_area: int = 0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        """InvalidArgumentError for an unknown name or a value out of range."""
        choices = (*WRITERS, *JOB_FILES)
        if not self.kinds:
            raise InvalidArgumentError(f"nothing to save; name at least one of: {', '.join(sorted(choices))}.")
        for kind in self.kinds:
            if kind not in choices:
                raise unknown_name("output", kind, choices)
        if self.label_values not in ("index", "dataset"):
            raise unknown_name("label values", self.label_values, ("index", "dataset"))
        require_min_area(self.min_area)

    @property
    def need_probabilities(self) -> bool:
        return any(kind in OF_PROBABILITIES for kind in self.kinds)

    @property
    def only_labels(self) -> bool:
        """Whether nothing is asked for but the network's own labels: all that windows can give."""
        changed = self.label_values != "index" or self.min_area > 1 or self.fill_holes
        return self.kinds == ("labels",) and not changed

    def of_images(self) -> "Outputs":
        """Without the files on all images: what a process writes that sees only some of them."""
        return replace(self, kinds=tuple(kind for kind in self.kinds if kind in WRITERS))

    @property
    def frame_kinds(self) -> tuple[str, ...]:
        """What is written of each frame of a video: all but the overlay, which is one video."""
        return tuple(kind for kind in self.kinds if kind in WRITERS and kind != "overlay")

    def frames_folder(self, item: Input) -> Path:
        """Of the files of a video's frames; called as those of images `000001`, `000002`, ... would be."""
        return self.folder / item.stem

    def paths(self, item: Input) -> dict[str, Path]:
        """The files of one image: name of the output → file. Of a video those that appear last of all."""
        if item.is_video:
            labeled = {"overlay": self.folder / item.stem.with_name(item.stem.name + LABELED_VIDEO)}
            listed = {"frames": self.frames_folder(item) / FRAME_LIST}
            return {**(labeled if "overlay" in self.kinds else {}), **(listed if self.frame_kinds else {})}
        return {kind: self.folder / _file_of(item, kind) for kind in self.kinds if kind in WRITERS}

    def job_paths(self) -> dict[str, Path]:
        """The files on all images."""
        return {kind: self.folder / JOB_FILES[kind][0] for kind in self.kinds if kind in JOB_FILES}

    def all_paths(self, images: Iterable[Input]) -> list[Path]:
        """Every file of the job but its description."""
        of_images = (path for item in images for path in self.paths(item).values())
        return [*of_images, *self.job_paths().values()]

    def require_free(self, images: Sequence[Input]) -> None:
        """No two outputs may have one name, and none may replace or enter an image that it is made from."""
        given = {file.path.resolve() for item in images for file in item.files or (item,) if not file.url}
        place = self.folder.resolve()
        if around := given & {place, *place.parents}:
            raise InvalidArgumentError(
                f"{self.folder} lies in the image {around.pop()}; choose another folder with -o."
            )
        owners = {path: f"the {kind} file" for kind, path in self.job_paths().items()}
        owners[self.folder / FILE_NAME] = "the job's description"
        for item in images:
            for kind, path in self.paths(item).items():
                if path in owners:
                    raise InvalidArgumentError(
                        f"{owners[path]} and {item.name} would both be written to {path.relative_to(self.folder)}; "
                        f"rename one, or predict them into different folders."
                    )
                if path.resolve() in given:
                    raise InvalidArgumentError(
                        f"the {kind} of {item.name} would replace the image {path}; choose another folder with -o."
                    )
                if path.is_dir() and not is_label_zarr(path):
                    raise InvalidArgumentError(
                        f"the {kind} of {item.name} would replace the folder {path}, which is no label image written "
                        f"here; choose another folder with -o."
                    )
                owners[path] = item.name
        if self.frame_kinds:
            for item in images:
                if item.is_video:
                    self._require_folder_free(item, owners, given)

    def _require_folder_free(self, item: Input, owners: Mapping[Path, str], given: Iterable[Path]) -> None:
        """Nothing else in the folder of a video's frames may be called as a frame's file is: how many there
        will be is not known yet."""
        folder = self.frames_folder(item)
        for path, owner in owners.items():
            if path.parent == folder and is_of_frame(path.name):
                raise InvalidArgumentError(
                    f"a frame of {item.name} and {owner} might both be written to {path.relative_to(self.folder)}; "
                    f"rename one, or predict them into different folders."
                )
        for image in given:
            if image.parent == folder.resolve() and is_of_frame(image.name):
                raise InvalidArgumentError(
                    f"a frame of {item.name} might replace the image {image}; choose another folder with -o."
                )

    def are_there(self, item: Input) -> bool:
        """Whether all files of an image are, written since the job was begun: older ones, of an image that this
        request has not named before, are of another request. Each appears whole or not at all.
        """
        begun = (self.folder / FILE_NAME).stat().st_mtime_ns
        return all(path.exists() and path.stat().st_mtime_ns >= begun for path in self.paths(item).values())

    def remove_unfinished(self, images: Iterable[Input]) -> None:
        """Removes what processes that were killed have left of files of these images; only once none is at work."""
        targets = {path for item in images for path in self.paths(item).values()}
        for folder in {path.parent for path in targets if path.parent.is_dir()}:
            remove_temporary_files(folder, targets.__contains__)


def _file_of(item: Input, kind: str) -> Path:
    end = find_raster_format(item.path).label_extension if item.windowed and kind == "labels" else WRITERS[kind][0]
    return item.stem.with_name(item.stem.name + end)


@dataclass(slots=True, kw_only=True)
class Job:
    """The files of a job, as they come into being."""

    outputs: Outputs
    classes: Classes
    job_files: dict[str, JobFile] = field(init=False)

    def __post_init__(self) -> None:
        require_kinds(self.outputs.kinds, self.classes)
        self.job_files = {kind: JOB_FILES[kind][1](self.classes) for kind in self.outputs.job_paths()}

    def write(self, item: Input, image: Array, prediction: Prediction) -> "Written":
        """The files of one image. Several threads may write at once."""
        made = self._predicted(item, image, prediction)
        paths = self.outputs.paths(item)
        for kind, path in paths.items():
            WRITERS[kind][1](path, made, self.outputs.label_values)
        return Written(tuple(paths.values()), made.without_image())

    def write_frame(self, item: Input, number: int, image: Array, prediction: Prediction, folder: Path) -> Predicted:
        """The files of one frame of a video, into a folder. Several threads may write at once."""
        outputs = self.outputs
        labels = tidy(prediction.labels, min_area=outputs.min_area, fill_holes=outputs.fill_holes)
        made = Predicted(labels=labels, image=image, prediction=prediction, **self._frame_whereabouts(item, number))
        for kind in outputs.frame_kinds:
            end, write = WRITERS[kind]
            write(folder / f"{frame_stem(number)}{end}", made, outputs.label_values)
        return made

    def recall(self, item: Input, paths: tuple[Path, ...]) -> "Written":
        """What `write` gave of an image that is done, earlier or by another process, from its label file.

        `paths` are those of its files that this job has written. Frames of a video are added at once.
        """
        if not self.job_files:
            return Written(paths, None)
        if item.is_video:
            with self.undone_if_broken():
                self._recall_frames(item)
            return Written(paths, None)
        labels = read_mask(self.outputs.paths(item)["labels"])
        return Written(paths, Labeled(labels=labels, **self._whereabouts(item)))

    def add(self, written: "Written") -> None:
        """Puts an image into the files on all images; one thread, in the order of the images."""
        if written.labeled is not None:
            for file in self.job_files.values():
                file.add(written.labeled)

    @contextlib.contextmanager
    def undone_if_broken(self) -> Iterator[None]:
        """Takes out of the files on all images what was added inside, where that ends with an error."""
        marks = {kind: file.mark() for kind, file in self.job_files.items()}
        try:
            yield
        except BaseException:
            for kind, mark in marks.items():
                self.job_files[kind].back_to(mark)
            raise

    def finish(self) -> list[Path]:
        """The files on all images."""
        paths = self.outputs.job_paths()
        for kind, path in paths.items():
            write_atomically(path, self.job_files[kind].content())
        return list(paths.values())

    def _predicted(self, item: Input, image: Array, prediction: Prediction) -> Predicted:
        outputs = self.outputs
        labels = tidy(prediction.labels, min_area=outputs.min_area, fill_holes=outputs.fill_holes)
        return Predicted(labels=labels, image=image, prediction=prediction, **self._whereabouts(item))

    def _recall_frames(self, item: Input) -> None:
        folder = self.outputs.frames_folder(item)
        for number in read_frame_numbers(folder / FRAME_LIST):
            labels = read_mask(folder / f"{frame_stem(number)}{WRITERS['labels'][0]}")
            self.add(Written((), Labeled(labels=labels, **self._frame_whereabouts(item, number))))

    def _frame_whereabouts(self, item: Input, number: int) -> dict[str, Any]:
        return {"source": None, "name": (item.stem / f"{frame_stem(number)}.png").as_posix(), "classes": self.classes}

    def _whereabouts(self, item: Input) -> dict[str, Any]:
        return {
            "source": None if item.url else item.path,
            "name": item.inner_name,
            "classes": self.classes,
            "georeference": self._georeference(item),
        }

    def _georeference(self, item: Input) -> Georeference | None:
        if not any(kind in GEOREFERENCED for kind in self.outputs.kinds):
            return None
        with item.open() as file:
            return read_georeference(file)


@dataclass(frozen=True, slots=True)
class Written:
    """What an image has given."""

    paths: tuple[Path, ...]
    labeled: Labeled | None
    """For the files on all images; None where there are none, or where it is in them."""
    added: bool = False
    """Whether it is in them."""
