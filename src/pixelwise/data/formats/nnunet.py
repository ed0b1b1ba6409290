"""nnU-Net's raw form in 2D: dataset.json, and one file per channel or one RGB file.

    dataset.json
    imagesTr/CASE_0000.png      imagesTr/CASE_0001.png      (channels 0 and 1 of the case)
    labelsTr/CASE.png

`imagesTs` and `labelsTs` are the test split; without labels it is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats._documents import locate_errors
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SampleReader,
    SplitFiles,
    find_images,
    group_by_stem,
    pair_files,
)
from pixelwise.data.io.decoded_image import split_channel, stack_channels
from pixelwise.data.io.images import IMAGE_EXTENSIONS, DecodedImage, decode_image
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError
from pixelwise.files import read_json

CaseFiles = dict[int, list[Path]]
"""Channel → its file; several if they have equal stems."""


def can_read(root: Path) -> bool:
    return (root / "dataset.json").is_file() and all((root / name).is_dir() for name in ("imagesTr", "labelsTr"))


def find_pairs(root: Path) -> DatasetIndex:
    info = _read_info(root / "dataset.json")
    has_test = (root / "labelsTs").is_dir()
    splits: dict[str, Split | None] = {"Tr": "train", "Ts": "test"} if has_test else {"Tr": None}
    cases = {part: _find_cases(root / f"images{part}", info.num_channels) for part in splits}
    is_stacked = any(len(case) > 1 for found in cases.values() for case in found.values())
    parts, channels = [], {}
    for part, split in splits.items():
        images: dict[str, Sequence[Path]] = {}
        for name, case in cases[part].items():
            files = _list_channels(root / f"images{part}" / name, case, info, is_stacked)
            channels[files[0]] = files
            ambiguous = next((paths for paths in case.values() if len(paths) > 1), None)
            images[name] = ambiguous or files[:1]
        parts.append(SplitFiles(images=images, labels=group_by_stem(root / f"labels{part}"), split=split))
    return replace(
        pair_files(parts),
        unlabeled_images=() if has_test else tuple(find_images(root / "imagesTs")),
        reader=ChannelReader(channels) if is_stacked else SampleReader(),
        channel_files=is_stacked,
        description=info.description,
    )


@dataclass(frozen=True, slots=True)
class ChannelReader(SampleReader):
    """Reads images that have one file per channel."""

    channels: Mapping[Path, Sequence[Path]]
    """Image path of a sample → its files in the order of the channels."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return stack_channels((path, decode_image(path)) for path in self.channels[sample.image_path])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    """The content of dataset.json."""

    num_channels: int
    extension: str
    labels: Mapping[str, int]

    @property
    def description(self) -> DatasetDescription:
        names = sorted(self.labels.keys() - {"ignore"}, key=self.labels.__getitem__)
        return DatasetDescription(
            names=tuple(names),
            label_mapping={self.labels[name]: index for index, name in enumerate(names)},
            ignore=tuple(self.labels[name] for name in self.labels.keys() & {"ignore"}),
            coding="index",
            channels=self.num_channels if self.num_channels > 1 else None,  # a single channel may be an RGB file
        )


def _find_cases(folder: Path, num_channels: int) -> dict[str, CaseFiles]:
    cases: dict[str, CaseFiles] = {}
    for stem, paths in group_by_stem(folder).items():
        parts = split_channel(stem)
        if parts is None:
            raise DataError(f"{paths[0]} has no channel in its name. Rename it to {stem}_0000{paths[0].suffix}.")
        name, channel = parts
        if channel >= num_channels:
            raise DataError(
                f"{paths[0]} is channel {channel}, counted from 0, but 'channel_names' in dataset.json lists "
                f"{num_channels}. Name it there, or remove the file."
            )
        cases.setdefault(name, {})[channel] = paths
    return cases


def _list_channels(path: Path, case: CaseFiles, info: _Info, is_stacked: bool) -> list[Path]:
    """List the files of a case by channel, including missing ones, which reading then reports."""
    if not is_stacked:
        return [paths[0] for paths in case.values()]
    return [
        case[channel][0] if channel in case else path.with_name(f"{path.name}_{channel:04d}{info.extension}")
        for channel in range(info.num_channels)
    ]


def _read_info(path: Path) -> _Info:
    values = read_json(path)
    with locate_errors(path):
        if not isinstance(values, dict):
            raise DataError("The file has no keys such as 'labels'. Write it as in nnU-Net's documentation.")
        return _Info(
            num_channels=_parse_num_channels(values.get("channel_names")),
            extension=_parse_extension(values.get("file_ending")),
            labels=_parse_labels(values.get("labels")),
        )


def _parse_num_channels(names: Any) -> int:
    if not isinstance(names, dict) or set(names) != {str(channel) for channel in range(len(names))} or not names:
        raise DataError(
            f'\'channel_names\' is {names!r:.60}. Name each channel, such as {{"0": "red", "1": "infrared"}}.'
        )
    return len(names)


def _parse_extension(extension: Any) -> str:
    if isinstance(extension, str) and extension.lower() in IMAGE_EXTENSIONS:
        return extension
    raise DataError(
        f"'file_ending' is {extension!r:.60}, but only 2D images are read ({', '.join(IMAGE_EXTENSIONS)}). Save each "
        f"slice of a volume as such a file with its own case name, and give the new extension there."
    )


def _parse_labels(labels: Any) -> dict[str, int]:
    if not isinstance(labels, dict) or not labels:
        raise DataError('\'labels\' must map names to ids, such as {"background": 0, "road": 1}.')
    for name, value in labels.items():
        if isinstance(value, list):
            raise DataError(
                f"The label {name!r} is a region of several ids, {value!r:.60}, but regions overlap and a pixel "
                f"has only one class. Give each id its own name, and remove 'regions_class_order'."
            )
        if type(value) is not int or not 0 <= value <= 65535:
            raise DataError(
                f'The label {name!r} has the id {value!r:.60}. Use names with ids from 0, such as {{"road": 1}}.'
            )
    if len(set(labels.values())) != len(labels):
        raise DataError("Two of the 'labels' have the same id. Give each its own id.")
    return labels
