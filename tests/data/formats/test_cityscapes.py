from pathlib import Path

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.cityscapes import CLASSES, find_pairs
from support.mask_datasets import cityscapes, cityscapes_ids, pairs


def test_every_other_id_is_ignored(tmp_path: Path) -> None:
    cityscapes_ids(tmp_path)
    classes = Dataset.load(tmp_path).classes
    assert classes is not None
    assert dict(classes.label_mapping) == {id_: index for index, (_, id_, _) in enumerate(CLASSES)}
    assert {*classes.label_mapping, *classes.ignore} == set(range(256))
    assert classes.colors[13] == (0, 0, 142)


def test_train_ids_are_preferred(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    cityscapes_ids(tmp_path)
    assert find_pairs(tmp_path).description.label_mapping is None
    (tmp_path / "gtFine/val/lindau/lindau_0_gtFine_labelTrainIds.png").unlink()
    found = find_pairs(tmp_path)
    assert found.description.label_mapping is not None
    assert len(found.samples) == 3


def test_files_without_a_partner_or_split_are_listed(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    mask = tmp_path / "gtFine/val/lindau/lindau_0_gtFine_labelTrainIds.png"
    mask.rename(mask.with_name("lindau_1_gtFine_labelTrainIds.png"))
    for split in ("train_extra", "valid"):
        pairs(tmp_path, (0,), (f"leftImg8bit/{split}/x/x_0_leftImg8bit.png", f"gtCoarse/{split}/x/x_0.png"))
    found = find_pairs(tmp_path)
    assert found.images_without_mask == (tmp_path / "leftImg8bit/val/lindau/lindau_0_leftImg8bit.png",)
    assert found.masks_without_image == (tmp_path / "gtFine/val/lindau/lindau_1_gtFine_labelTrainIds.png",)
    assert found.outside_splits == (tmp_path / "leftImg8bit/valid/x/x_0_leftImg8bit.png",)


def test_a_custom_labeled_test_split_is_read(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    pairs(tmp_path, (0,), ("leftImg8bit/test/x/x_0_leftImg8bit.png", "gtFine/test/x/x_0_gtFine_labelTrainIds.png"))
    assert [s.name for s in find_pairs(tmp_path).samples if s.split == "test"] == ["test/x/x_0"]
