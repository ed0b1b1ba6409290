from pathlib import Path

from pixelwise.prediction.inputs import Input
from pixelwise.prediction.output_writer import Outputs

ITEM = Input(Path("photos/trip/a.jpg"), Path("trip/a"))


def test_outputs_of_some_images_are_without_files_on_all() -> None:
    outputs = Outputs(folder=Path("out"), kinds=("labels", "table", "overlay", "coco"), min_area=3)
    assert outputs.of_images() == Outputs(folder=Path("out"), kinds=("labels", "overlay"), min_area=3)


def test_what_a_killed_writer_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    outputs = Outputs(folder=tmp_path, kinds=("labels", "overlay"))
    kept = [
        "trip/a.png",
        "trip/.b.png.0123456789ab.part",
        "trip/.a.png.part",
        ".a.png.0123456789ab.part",
        "trip/x.part",
    ]
    left = ["trip/.a.png.0123456789ab.part", "trip/.a_overlay.png.ba9876543210.part"]
    (tmp_path / "trip" / ".a.png.rows.part").mkdir(parents=True)
    for name in (*kept, *left):
        (tmp_path / name).write_text("x")
    elsewhere = Input(Path("photos/none/c.jpg"), Path("none/c"))  # nothing was written for it yet
    outputs.remove_unfinished([ITEM, elsewhere])
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(kept)
