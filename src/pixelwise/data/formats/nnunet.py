"""nnU-Net's raw form, 2D: one file a channel, or one RGB file, and dataset.json.

    dataset.json
    imagesTr/CASE_0000.png      imagesTr/CASE_0001.png      (channels 0 and 1 of the case)
    labelsTr/CASE.png

`imagesTs` and `labelsTs` are the test split; without labels it is not read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelwise.data.formats._files import Part, by_stem, match
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.io.channel_files import split_channel, stack_channels
from pixelwise.data.io.images import IMAGE_EXTENSIONS, DecodedImage, decode_image
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReader(SampleReader):
    """Images whose channels lie in a file each."""

    channels: Mapping[Path, Sequence[Path]]
    """A sample's image path → its files in the order of the channels."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        """(H, W, C), a file each. DataError names a file of another size, type or channel count."""
        return stack_channels((path, decode_image(path)) for path in self.channels[sample.image_path])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    """What dataset.json tells."""

    num_channels: int
    ending: str
    labels: Mapping[str, int]

    @property
    def description(self) -> dict[str, Any]:
        names = sorted(self.labels.keys() - {"ignore"}, key=self.labels.__getitem__)
        return {
            "names": names,
            "label_mapping": {self.labels[name]: index for index, name in enumerate(names)},
            "ignore": [self.labels[name] for name in self.labels.keys() & {"ignore"}],
            "coding": "index",
            # A single channel may be an RGB file whose channels are not told apart.
            **({"channels": self.num_channels} if self.num_channels > 1 else {}),
        }


Case = dict[int, list[Path]]
"""Channel → its file; several only where they clash."""


def find_pairs(root: Path) -> DatasetIndex:
    """The cases of training and, where labelsTs is there, of test. DataError says what dataset.json lacks."""
    info = _read_info(root / "dataset.json")
    test = (root / "labelsTs").is_dir()
    splits: dict[str, Split | None] = {"Tr": "train", "Ts": "test"} if test else {"Tr": None}
    cases = {part: _cases(root / f"images{part}", info.num_channels) for part in splits}
    stacked = any(len(case) > 1 for found in cases.values() for case in found.values())
    files = {
        part: {name: _files(root / f"images{part}" / name, case, info, stacked) for name, case in found.items()}
        for part, found in cases.items()
    }
    parts = [
        Part(
            images={name: _first(cases[part][name], paths) for name, paths in files[part].items()},
            labels=by_stem(root / f"labels{part}"),
            split=split,
        )
        for part, split in splits.items()
    ]
    reader = ChannelReader(channels={paths[0]: paths for found in files.values() for paths in found.values()})
    return replace(
        match(parts),
        reader=reader if stacked else SampleReader(),
        channel_files=stacked,
        description=info.description,
    )


def _cases(folder: Path, num_channels: int) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for stem, paths in by_stem(folder).items():
        found = split_channel(stem)
        if found is None:
            raise DataError(f"{paths[0]} does not end in its channel; nnU-Net calls it {stem}_0000{paths[0].suffix}.")
        name, channel = found
        if channel >= num_channels:
            raise DataError(
                f"{paths[0]} is channel {channel}, counted from 0, but 'channel_names' in dataset.json lists "
                f"{num_channels}; name it there, or remove the file."
            )
        cases.setdefault(name, {})[channel] = paths
    return cases


def _files(path: Path, case: Case, info: _Info, stacked: bool) -> list[Path]:
    """The files of a case in order; one that is missing stands there as well, to be missed by name."""
    if not stacked:
        return [paths[0] for paths in case.values()]
    return [
        case[channel][0] if channel in case else path.with_name(f"{path.name}_{channel:04d}{info.ending}")
        for channel in range(info.num_channels)
    ]


def _first(case: Case, files: Sequence[Path]) -> Sequence[Path]:
    """The file that stands for a case, or those of one channel that clash."""
    return next((paths for paths in case.values() if len(paths) > 1), files[:1])


def _read_info(path: Path) -> _Info:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it as nnU-Net's documentation shows.") from error
    try:
        if not isinstance(values, dict):
            raise DataError("must hold keys such as 'labels'; write it as nnU-Net's documentation shows.")
        return _Info(num_channels=_num_channels(values), ending=_ending(values), labels=_labels(values))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _num_channels(values: Mapping[str, Any]) -> int:
    names = values.get("channel_names")
    if not isinstance(names, dict) or set(names) != {str(channel) for channel in range(len(names))} or not names:
        raise DataError(f'\'channel_names\' is {names!r}; name each channel, as {{"0": "red", "1": "infrared"}}.')
    return len(names)


def _ending(values: Mapping[str, Any]) -> str:
    ending = values.get("file_ending")
    if isinstance(ending, str) and ending.lower() in IMAGE_EXTENSIONS:
        return ending
    raise DataError(
        f"'file_ending' is {ending!r}, but images of two dimensions are read ({', '.join(IMAGE_EXTENSIONS)}); save "
        f"each slice of a volume as such a file, with a case name of its own, and give the new ending there."
    )


def _labels(values: Mapping[str, Any]) -> dict[str, int]:
    labels = values.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DataError('\'labels\' must map names to ids, as {"background": 0, "road": 1}.')
    for name, value in labels.items():
        if isinstance(value, list):
            raise DataError(
                f"the label {name!r} is a region of several ids, {value}; regions overlap, and a pixel has one "
                f"class here: give each id a name of its own, and remove 'regions_class_order'."
            )
        if type(value) is not int or not 0 <= value <= 65535:
            raise DataError(f'the label {name!r} has the id {value!r}; write names with ids from 0, as {{"road": 1}}.')
    if len(set(labels.values())) != len(labels):
        raise DataError("two of the 'labels' have one id; give each an id of its own.")
    return labels


def can_read(root: Path) -> bool:
    return (root / "dataset.json").is_file() and all((root / name).is_dir() for name in ("imagesTr", "labelsTr"))
