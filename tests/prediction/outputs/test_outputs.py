from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.outputs import ENCODERS, GEOREFERENCED, PROBABILITY_OUTPUTS, SUMMARY_FILES, require_kinds
from support.predictions import ABC, make_labeled, make_prediction


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_every_encoder_returns_a_file(tmp_path: Path, kind: str) -> None:
    suffix, encode = ENCODERS[kind]
    path = tmp_path / f"x{suffix}"
    prediction = replace(make_prediction([[1]]), variance=np.full((1, 1), 0.25, np.float32))
    assert len(encode(path, make_labeled([[1]]), np.zeros((1, 1, 3), np.uint8), prediction)) > 20
    assert not path.exists()


@pytest.mark.parametrize("kind", sorted(SUMMARY_FILES))
def test_every_summary_file_takes_an_image(kind: str) -> None:
    file = SUMMARY_FILES[kind][1](ABC)
    file.add(make_labeled([[1]]))
    assert b"x.png" in file.encode()


def test_no_name_is_in_both_tables() -> None:
    assert not set(ENCODERS) & set(SUMMARY_FILES)
    assert {*PROBABILITY_OUTPUTS, *GEOREFERENCED} <= {*ENCODERS, *SUMMARY_FILES}


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_annotation_files_refuse_reserved_names(kind: str) -> None:
    classes = describe_classes(parse_description({"names": ["road", "background"]}))
    require_kinds(["labels", "polygons", "table"], classes)
    with pytest.raises(InvalidArgumentError, match=rf"Readers of {kind} files ignore objects named 'background'"):
        require_kinds([kind], classes)


@pytest.mark.parametrize("kind", SUMMARY_FILES)
def test_additions_since_a_mark_can_be_rolled_back(kind: str) -> None:
    first, second, third = (
        make_labeled([[0, 1], [2, 1]], name=name) for name in ("1.png", "a longer name.png", "3.png")
    )
    file, expected = SUMMARY_FILES[kind][1](ABC), SUMMARY_FILES[kind][1](ABC)
    file.add(first)
    mark = file.mark()
    file.add(second)
    file.roll_back(mark)
    file.add(third)
    for one in (first, third):
        expected.add(one)
    assert file.encode() == expected.encode()
