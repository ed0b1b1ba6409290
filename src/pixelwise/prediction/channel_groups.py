"""Which files are the channels of one image, for models of images that have a file for each channel."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pixelwise.data.io.channel_files import split_channel
from pixelwise.data.rasters import is_windowed_only
from pixelwise.prediction.inputs import Input

Channels = dict[int, list[Input]]
"""Number of a channel → its files; several only where they clash."""


def join_channels(found: Iterable[Input], num_channels: int) -> list[Input]:
    """STEM_0000, STEM_0001, ... of one folder → the image STEM, in a fixed order.

    Videos, and files whose names tell no channel, stay as they are. An image with another number of
    channels than `num_channels` has a fault, so it fails when it is read, by itself.
    """
    alone: list[Input] = []
    images: dict[tuple[str, str], Channels] = {}
    for item in found:
        named = None if item.is_video else split_channel(item.stem.name)
        if named is None:
            alone.append(item)
        else:
            stem, channel = named
            images.setdefault((item.folder, stem), {}).setdefault(channel, []).append(item)
    return sorted([*alone, *(_image(stem, files, num_channels) for (_, stem), files in images.items())])


def _image(stem: str, channels: Channels, num_channels: int) -> Input:
    files = tuple(file for channel in sorted(channels) for file in channels[channel])
    first = files[0]
    fault = _fault(stem + first.path.suffix, channels, files, num_channels)
    return replace(first, stem=first.stem.with_name(stem), files=files, fault=f"{first.name}: {fault}" if fault else "")


def _fault(image: str, channels: Mapping[int, Sequence[Input]], files: Iterable[Input], num_channels: int) -> str:
    """Why the files do not make an image; empty where they do."""
    missing = [str(channel) for channel in range(num_channels) if channel not in channels]
    if missing:
        return (
            f"its image {image} has the channels 0 to {num_channels - 1}, but of channel {', '.join(missing)} no file "
            f"was given; give it as well, or the whole folder, or one file of all channels whose name does not end "
            f"in a number of four digits."
        )
    for channel, of_one in sorted(channels.items()):
        if channel >= num_channels:
            return (
                f"beside it lies {of_one[0].path.name}, but the model was trained on the channels 0 to "
                f"{num_channels - 1}; remove that file."
            )
        if len(of_one) > 1:
            names = " and ".join(file.path.name for file in of_one)
            return f"channel {channel} of its image {image} is there twice, as {names}; remove one."
    for file in files:
        if is_windowed_only(file.path):
            return (
                f"{file.path.name} is read window by window, which is not done for images of several files; "
                f"give one file of all channels."
            )
    return ""
