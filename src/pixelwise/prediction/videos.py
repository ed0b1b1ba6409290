"""A video through one predictor: its frames as images, its outputs complete or not there at all."""

import contextlib
import functools
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.data.io.images import Array
from pixelwise.data.io.video import Video, VideoFrame, open_video
from pixelwise.errors import PixelwiseError
from pixelwise.inference.batching import Answer, Failure, predict_all
from pixelwise.inference.predictor import Predictor, Tiling
from pixelwise.prediction.async_writer import told, written_behind
from pixelwise.prediction.inputs import Input
from pixelwise.prediction.output_writer import Job, Written
from pixelwise.prediction.outputs import WRITERS, Labeled
from pixelwise.prediction.outputs.video import FRAME_LIST, FrameList, LabeledVideo, frame_number, labeled_picture
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)


def num_images(item: Input) -> int:
    """How many images an input will be, as far as can be told without decoding it: at least one."""
    if not item.is_video or item.url:
        return 1
    try:
        with item.open() as file, open_video(file, item.name) as video:
            return max(video.num_frames, 1)
    except (PixelwiseError, OSError):  # said when it is read
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A frame whose files are written."""

    frame: VideoFrame
    labeled: Labeled
    coded: Any
    """For the labeled video; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """The videos of a job."""

    predictor: Predictor
    job: Job
    tiling: Tiling
    tta: Sequence[str]

    def write(self, item: Input) -> Written | Exception:
        """All outputs of a video. Memory does not grow with its length, but for the files on all images.

        Until the last frame they lie in a hidden folder beside; a fault in the middle leaves nothing.
        """
        work = self.job.outputs.frames_folder(item).with_name(f".{item.stem.name}.part")
        try:
            with self.job.undone_if_broken():
                _remove(work)  # of a process that was killed
                work.mkdir(parents=True)
                with item.open() as file, open_video(file, item.name) as video:
                    count = self._write_frames(item, video, work)
                return Written(self._publish(item, work, count), None, added=True)
        except (PixelwiseError, OSError) as error:
            return error
        finally:
            _remove(work)

    def _write_frames(self, item: Input, video: Video, work: Path) -> int:
        """Predicts and writes all frames. Returns how many there are."""
        overlaid = "overlay" in self.job.outputs.kinds
        count = 0
        with contextlib.ExitStack() as closing:
            labeled = closing.enter_context(LabeledVideo(_labeled_video(work), video)) if overlaid else None
            frames = closing.enter_context(FrameList(work / FRAME_LIST, video))
            write = functools.partial(self._write_frame, item, work, labeled)
            written = closing.enter_context(contextlib.closing(written_behind(self._predicted(item, video), write)))
            for done in written:
                if isinstance(done, Exception):
                    raise done
                if labeled is not None:
                    labeled.add(done.coded, done.frame)
                frames.add(done.frame)
                self.job.add(Written((), done.labeled))
                count = done.frame.number
                report_progress(item.path.name, count, max(video.num_frames, count))
        return count

    def _predicted(self, item: Input, video: Video) -> Iterator[Answer[VideoFrame, None] | Failure[VideoFrame]]:
        channels = self.predictor.spec.channels

        def read(frame: VideoFrame) -> tuple[Array, None]:
            return frame.to_array(channels), None

        def tell(frame: VideoFrame, words: str) -> None:
            if frame.number == 1:
                logger.info(f"{item.name}: {words} in its first frame")

        outcomes = predict_all(
            self.predictor,
            video.frames(),
            read,
            tiling=self.tiling,
            keep_logits=self.job.outputs.need_probabilities,
            tta=self.tta,
            name=lambda frame: f"{item.name}: frame {frame.number}",
        )
        return told(outcomes, self.tiling, tell)

    def _write_frame(
        self, item: Input, work: Path, labeled: LabeledVideo | None, answer: Answer[VideoFrame, None]
    ) -> _Done:
        frame = answer.item
        made = self.job.write_frame(item, frame.number, answer.image, answer.prediction, work)
        coded = None if labeled is None else labeled.prepared(labeled_picture(made))
        return _Done(frame=frame, labeled=made.without_image(), coded=coded)

    def _publish(self, item: Input, work: Path, count: int) -> tuple[Path, ...]:
        """Moves what is complete to its place; the list of frames, which says that they are there, last."""
        outputs, targets = self.job.outputs, self.job.outputs.paths(item)
        if "overlay" in targets:
            _labeled_video(work).replace(targets["overlay"])
        if "frames" not in targets:
            return tuple(targets.values())
        listed, folder = targets["frames"], outputs.frames_folder(item)
        listed.unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        for path in work.iterdir():
            if path.name != FRAME_LIST:
                path.replace(folder / path.name)
        ends = [WRITERS[kind][0] for kind in outputs.frame_kinds]
        for path in folder.iterdir():  # of a longer video before
            if any(frame_number(path.name, end) > count for end in ends):
                path.unlink()
        (work / FRAME_LIST).replace(listed)
        return tuple(folder if name == "frames" else path for name, path in targets.items())


def _labeled_video(work: Path) -> Path:
    return work / "labeled.mp4"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
