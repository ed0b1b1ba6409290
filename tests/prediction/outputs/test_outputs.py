from pathlib import Path

import pytest

from pixelwise.data.classes import describe_classes
from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.outputs import GEOREFERENCED, JOB_FILES, OF_PROBABILITIES, WRITERS, require_kinds
from support.predictions import ABC, predicted


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_every_writer_writes_its_file(tmp_path: Path, kind: str) -> None:
    suffix, write = WRITERS[kind]
    write(tmp_path / f"x{suffix}", predicted([[1]]), "index")
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


@pytest.mark.parametrize("kind", sorted(JOB_FILES))
def test_every_job_file_takes_an_image(kind: str) -> None:
    file = JOB_FILES[kind][1](ABC)
    file.add(predicted([[1]]))
    assert b"x.png" in file.content()


def test_no_name_is_in_both_tables() -> None:
    assert not set(WRITERS) & set(JOB_FILES)
    assert {*OF_PROBABILITIES, *GEOREFERENCED} <= {*WRITERS, *JOB_FILES}


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_annotation_files_refuse_names_they_cannot_say(kind: str) -> None:
    classes = describe_classes({"names": ["road", "background"]})
    require_kinds(["labels", "polygons", "table"], classes)
    with pytest.raises(InvalidArgumentError, match=rf"readers of {kind} files take 'background'"):
        require_kinds([kind], classes)


@pytest.mark.parametrize("kind", JOB_FILES)
def test_what_was_added_since_a_mark_can_be_taken_out(kind: str) -> None:
    first, second, third = (predicted([[0, 1], [2, 1]], name=name) for name in ("1.png", "a longer name.png", "3.png"))
    file, expected = JOB_FILES[kind][1](ABC), JOB_FILES[kind][1](ABC)
    file.add(first)
    mark = file.mark()
    file.add(second)
    file.back_to(mark)
    file.add(third)
    for one in (first, third):
        expected.add(one)
    assert file.content() == expected.content()
