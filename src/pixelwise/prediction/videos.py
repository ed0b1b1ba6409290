"""Predict videos: the frames are predicted like images, and the outputs are complete or missing."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from pixelwise.data.io.video import VideoFrame, open_video
from pixelwise.errors import PixelwiseError
from pixelwise.inference.batching import PredictedImage, predict_all
from pixelwise.inference.predictor import PredictionOptions, Predictor
from pixelwise.prediction.inputs import VideoInput
from pixelwise.prediction.output_writer import OutputWriter, WrittenFiles, log_blending, write_in_background
from pixelwise.prediction.outputs.pictures import LabeledImage
from pixelwise.prediction.outputs.video import (
    FRAME_LIST,
    FrameList,
    LabeledVideo,
    draw_labeled_frame,
)
from pixelwise.progress import report_progress


def count_frames(item: VideoInput) -> int:
    """Return the number of frames, as far as it is known without decoding the video: at least one."""
    if item.url:
        return 1
    try:
        with item.open() as file, open_video(file, item.name) as video:
            return max(video.num_frames, 1)
    except (PixelwiseError, OSError):  # reported when the video is read
        return 1


def predict_video(
    predictor: Predictor, writer: OutputWriter, item: VideoInput, options: PredictionOptions
) -> WrittenFiles:
    """Predict the frames of a video and write all outputs.

    Memory does not grow with the length of the video, except for the summary files. The outputs are in a hidden folder
    until the last frame is complete, so an error leaves nothing behind.
    """
    work = (writer.folder / item.stem).with_name(f".{item.stem.name}.part")

    def write(one: PredictedImage[VideoFrame, None]) -> tuple[VideoFrame, LabeledImage, Any]:
        if one.item.number == 1 and one.prediction.seam_score is not None:
            log_blending(f"{item.name}: first frame", one.prediction.seam_score, options.tiling)
        labeled = writer.write_frame(item, one.item.number, one.image, one.prediction, work)
        return one.item, labeled, overlay and overlay.convert(draw_labeled_frame(labeled, one.image))

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        work.mkdir(parents=True)
        stack.enter_context(writer.roll_back_on_error())
        video = stack.enter_context(open_video(stack.enter_context(item.open()), item.name))
        count = 0
        with contextlib.ExitStack() as files:
            has_overlay = "overlay" in writer.kinds
            overlay = files.enter_context(LabeledVideo(_get_overlay_path(work), video)) if has_overlay else None
            frames = files.enter_context(FrameList(work / FRAME_LIST, video))
            predicted = predict_all(
                predictor,
                video.frames(),
                lambda frame: (frame.to_array(predictor.spec.channels), None),
                options=options,
                keep_logits=writer.needs_probabilities,
                name=lambda frame: f"{item.name}: frame {frame.number}",
            )
            for result in files.enter_context(contextlib.closing(write_in_background(predicted, write))):
                if isinstance(result, Exception):
                    raise result
                frame, labeled, picture = result
                if overlay is not None:
                    overlay.add(picture, frame)
                frames.add(frame)
                writer.add(labeled)
                count = frame.number
                report_progress(item.path.name, count, max(video.num_frames, count))
        return WrittenFiles(_publish(writer, item, work, count))


def _publish(writer: OutputWriter, item: VideoInput, work: Path, count: int) -> tuple[Path, ...]:
    """Move the outputs to their places; the list of frames last, because it says that they are complete."""
    targets, folder = writer.list_paths(item), writer.folder / item.stem
    if "overlay" in targets:
        writer.manifest.record(targets["overlay"], _get_overlay_path(work))
        _get_overlay_path(work).replace(targets["overlay"])
    if "frames" not in targets:
        return tuple(targets.values())
    targets["frames"].unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    for path in work.iterdir():
        if path.name != FRAME_LIST:
            writer.manifest.record(folder / path.name, path)
            path.replace(folder / path.name)
    for path in writer.list_frame_files(item, after=count):  # of an earlier, longer video
        if writer.manifest.find_state(path)[0] in ("unchanged", "other"):
            path.unlink()
    writer.manifest.record(targets["frames"], work / FRAME_LIST)
    (work / FRAME_LIST).replace(targets["frames"])
    return tuple(folder if kind == "frames" else path for kind, path in targets.items())


def _get_overlay_path(work: Path) -> Path:
    return work / "labeled.mp4"
