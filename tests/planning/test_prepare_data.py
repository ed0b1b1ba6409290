import shutil

import numpy as np
import pytest
import torch

from pixelwise.config import Config
from pixelwise.data.splits.splits import write_splits
from pixelwise.errors import DataError
from pixelwise.planning.prepare_data import prepare_data, prepare_folds

CPU = torch.device("cpu")


def config(*, seed: int, val_fraction: float) -> Config:
    return Config().replace({"training.seed": seed, "data.val_fraction": val_fraction})


def without_val(streets, folder):
    shutil.copytree(streets, folder)
    for kind in ("images", "labels"):
        shutil.rmtree(folder / kind / "val")
    return folder


def test_a_val_split_is_drawn_with_the_seed_and_reported(streets, tmp_path):
    data = without_val(streets, tmp_path / "data")
    first = prepare_data(data, config(seed=0, val_fraction=0.25))
    assert len(first.splits["val"]) == 3
    assert any("3 of the 12 training image" in note for note in first.notes)
    assert prepare_data(data, config(seed=0, val_fraction=0.25)).splits == first.splits
    assert prepare_data(data, config(seed=1, val_fraction=0.25)).splits != first.splits


def test_stored_splits_are_used_as_they_are(streets, tmp_path):
    data = without_val(streets, tmp_path / "data")
    first = prepare_data(data, config(seed=3, val_fraction=0.25))
    write_splits(tmp_path / "splits.yaml", first.splits)
    again = prepare_data(data, config(seed=0, val_fraction=0.5), splits_file=tmp_path / "splits.yaml")
    assert again.splits == first.splits


def test_folds_are_each_described_by_their_own_training_images(streets, tmp_path):
    folds = prepare_folds(streets, Config(), 4)
    assert [(one.fingerprint.num_train, one.fingerprint.num_val) for one in folds] == [(12, 4)] * 4
    assert len({one.fingerprint.mean for one in folds}) == 4
    assert any("4 folds of 16 images" in note for note in folds[0].notes)
    paths = [tmp_path / f"{number}.yaml" for number in range(4)]
    for path, one in zip(paths, folds, strict=True):
        write_splits(path, one.splits)
    again = prepare_folds(streets, Config().replace({"training.seed": 9}), 4, splits_files=paths)
    assert [one.splits for one in again] == [one.splits for one in folds]


def test_groups_are_kept_and_a_group_in_two_own_splits_is_a_warning(streets, tmp_path):
    grouped = Config().replace({"data.group_by": r"(\d)$"})
    prepared = prepare_data(streets, grouped)
    assert set(prepared.groups.values()) == set("0123456789")
    assert any(note.startswith("warning: 4 of 10 groups") for note in prepared.notes)
    made = prepare_data(without_val(streets, tmp_path / "data"), grouped)
    in_train, in_val = ({made.groups[s] for s in made.splits[split]} for split in ("train", "val"))
    assert in_train.isdisjoint(in_val)


def test_test_images_are_not_opened(streets, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(streets, data)
    for path in (data / "images" / "test").iterdir():
        path.write_bytes(b"not an image")
    assert len(prepare_data(data, Config()).splits["test"]) == 4


def test_errors_in_the_data_stop_here(streets, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(streets, data)
    (data / "images" / "train" / "0000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0000\.png: The file is empty[\s\S]*pixelwise check"):
        prepare_data(data, Config())


def test_class_weights_are_those_of_the_config(streets):
    prepared = prepare_data(streets, Config())
    assert prepared.class_weights(Config().loss) is None
    config = Config().replace({"loss.class_weights": "median_frequency", "loss.class_weight_power": 0.5})
    weights = np.array(prepared.class_weights(config.loss))
    full = prepared.class_weights(config.replace({"loss.class_weight_power": 1.0}).loss)
    assert weights == pytest.approx(np.sqrt(full))
    rare, common = prepared.classes.names.index("cyclist"), prepared.classes.names.index("road")
    assert weights[rare] > 1 > weights[common]
    config = Config().replace({"loss.class_weights": "inverse_log", "loss.class_weight_power": 1.0})
    weights = np.array(prepared.class_weights(config.loss))
    shares = np.array(prepared.class_shares)
    assert weights == pytest.approx(np.where(shares > 0, 1 / np.log(1.02 + shares), 1.0))
