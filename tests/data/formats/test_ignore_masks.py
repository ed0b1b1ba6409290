from pathlib import Path

import numpy as np
import pytest

import pixelwise as pw
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import DataError, InvalidArgumentError


def write_retina(root: Path, description: str, *, masks: str = "mask/{}_training_mask.png") -> Path:
    """Write a training set as DRIVE, whose truth is 255 in the left half, and whose view is the upper half."""
    for number in range(21, 25):
        truth, view = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
        truth[:, :4] = view[:4] = 255
        image = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        write_png(root / f"training/images/{number}_training.png", image)
        write_png(root / f"training/1st_manual/{number}_manual1.png", truth)
        write_png(root / f"training/2nd_manual/{number}_manual2.png", 255 - truth)
        write_png(root / "training" / masks.format(number), view)
    (root / "dataset.yaml").write_text(description, encoding="utf-8")
    return root


def test_pixels_outside_the_field_of_view_are_ignored(tmp_path: Path) -> None:
    dataset = scan_dataset(Dataset.load(write_retina(tmp_path, "ignore_masks: mask\n")))
    assert dataset.classes.names == ("background", "foreground")
    _, labels = dataset.read(dataset.samples[0])
    assert labels.tolist() == [[1] * 4 + [0] * 4] * 4 + [[dataset.classes.ignore_index] * 8] * 4
    assert dataset.stats[0].value_counts[255] == dataset.stats[0].value_counts[0] == 16
    report = pw.check(tmp_path)
    assert report.errors == ()
    assert [f.files[0] for f in report.findings if f.code == "unread_folder"] == ["training/2nd_manual/21_manual2.png"]


def test_both_folders_may_be_chosen(tmp_path: Path) -> None:
    root = write_retina(tmp_path, "masks: 2nd_manual\nignore_masks: training/mask\n")
    labels = Dataset.load(root).read(Dataset.load(root).samples[0])[1]
    assert labels[0].tolist() == [0] * 4 + [1] * 4
    assert (labels[4:] == 255).all()
    dataset = Dataset.load(root, masks="1st_manual")
    assert dataset.samples[0].mask_path.parent.name == "1st_manual"


def test_ignore_masks_work_with_every_format(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_png(tmp_path / f"JPEGImages/{name}.png", np.zeros((4, 4, 3), np.uint8))
        write_png(tmp_path / f"SegmentationClass/{name}.png", np.ones((4, 4), np.uint8))
        write_png(tmp_path / f"view/{name}.png", np.eye(4, dtype=np.uint8))
    (tmp_path / "dataset.yaml").write_text("ignore_masks: view\n", encoding="utf-8")
    dataset = Dataset.load(tmp_path)
    assert dataset.format == "voc"
    assert (dataset.read_mask(dataset.samples[0]) == np.where(np.eye(4), 1, -1)).all()


def test_soft_edges_and_colors_of_an_ignore_mask(tmp_path: Path) -> None:
    root = write_retina(tmp_path, "ignore_masks: view\n")
    view = np.zeros((8, 8, 3), np.uint8)
    view[0], view[1], view[2] = 255, 128, 100
    for number in range(21, 25):
        write_png(root / f"training/view/{number}.png", view)
    dataset = Dataset.load(root)
    assert (dataset.read_mask(dataset.samples[0]) >= 0).any(1).tolist() == [True] * 2 + [False] * 6


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            "ignore_masks: view\n",
            r"'ignore_masks' is 'view', but there is no such folder .* Folders with images: .*training/mask",
        ),
        ("masks: truth\n", r"'masks' is 'truth', but there is no such folder"),
        ("masks: 3\n", r"dataset.yaml: 'masks' or 'ignore_masks' is 3. Expected the name of a folder"),
    ],
)
def test_folders_that_do_not_exist_are_an_error(tmp_path: Path, description: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.load(write_retina(tmp_path, description))


def test_ignore_masks_of_another_size_are_an_error(tmp_path: Path) -> None:
    root = write_retina(tmp_path, "ignore_masks: mask\n")
    write_png(root / "training/mask/21_training_mask.png", np.ones((4, 8), np.uint8))
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=r"21_training_mask.png is 4x8, but the mask of its image is 8x8"):
        dataset.read_mask(dataset.samples[0])


def test_formats_with_their_own_masks_refuse_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="masks is 'mask', but the format 'voc' has its own masks"):
        Dataset.load(write_retina(tmp_path, ""), "voc", "mask")


def test_a_fix_for_unread_folders_works(tmp_path: Path) -> None:
    root = write_retina(tmp_path, "")
    (finding,) = (f for f in pw.check(root).findings if f.code == "unread_folder")
    assert "such as 'masks: 2nd_manual'" in finding.fix
    assert "'ignore_masks: mask'" in finding.fix
    (root / "dataset.yaml").write_text("masks: 2nd_manual\nignore_masks: mask\n", encoding="utf-8")
    left = [f for f in pw.check(root).findings if f.code == "unread_folder"]
    assert [file for f in left for file in f.files] == [f"training/1st_manual/{n}_manual1.png" for n in range(21, 25)]
