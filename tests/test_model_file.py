import json
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from pixelwise.data.io.nodata import ALL_DATA, parse_nodata
from pixelwise.errors import ModelFileError, PathAccessError, PathNotFoundError
from pixelwise.model_file import MODEL_FILE_NAME, _compute_checksum, load_model, read_checksum, read_spec, save_model

MakeModel = Callable[..., Path]


@pytest.fixture
def model(make_model: MakeModel, tmp_path: Path) -> Path:
    return make_model(tmp_path / MODEL_FILE_NAME)


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON at the start of a safetensors file, after its length in 8 bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, Any] = json.loads(content[8 : 8 + length])
    return found


def rewrite(path: Path, section: str | None, key: str, value: Any) -> None:
    """Change the metadata as a later version could write it, with a valid checksum."""
    weights = load(path.read_bytes())
    values = json.loads(read_header(path)["__metadata__"]["pixelwise"])
    values.pop("checksum")
    (values[section] if section else values)[key] = value
    values["checksum"] = _compute_checksum(values, weights)
    path.write_bytes(save(weights, metadata={"pixelwise": json.dumps(values)}))


def test_save_and_load(make_model: MakeModel, tmp_path: Path) -> None:
    classes = {"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]], "label_mapping": {7: 1, 9: 0}, "ignore": [3]}
    scores = {"mean_iou": 0.1 + 0.2, "boundary_f1": None, "bf16": {"agreement": 0.999}}
    path = make_model(tmp_path / "m", classes=classes, channels=4, dtype="uint16", scores=scores)
    module, spec = load_model(path)
    assert (spec.channels, spec.dtype, spec.scores) == (4, "uint16", scores)
    assert spec.mean == (100.0,) * 4
    assert spec.classes.names == ("a", "b")
    assert spec.classes.label_mapping == {7: 1, 9: 0}
    assert not module.training
    again = tmp_path / "again"
    save_model(again, spec, module.state_dict())
    assert again.read_bytes() == path.read_bytes()


def test_scores_are_in_the_order_of_the_classes(make_model: MakeModel, tmp_path: Path) -> None:
    scores = {"per_class": {"b": {"iou": 0.5}, "a": {"iou": 0.25}}}
    path = make_model(tmp_path / "m", classes={"names": ["b", "a"]}, scores=scores)
    for spec in (load_model(path)[1], read_spec(path)):
        assert list(spec.scores["per_class"].items()) == list(scores["per_class"].items())


def test_equal_models_are_equal_files(make_model: MakeModel, tmp_path: Path) -> None:
    first, second = make_model(tmp_path / "a"), make_model(tmp_path / "elsewhere" / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != make_model(tmp_path / "c", seed=1).read_bytes()


def test_weights_of_any_memory_format_are_equal_files(model: Path, tmp_path: Path) -> None:
    module, spec = load_model(model)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_model(tmp_path / "last", spec, module.state_dict())
    assert (tmp_path / "last").read_bytes() == model.read_bytes()


def test_metadata_is_one_sorted_key_without_time_host_or_path(model: Path, tmp_path: Path) -> None:
    metadata = read_header(model)["__metadata__"]
    assert list(metadata) == ["pixelwise"]
    values = json.loads(metadata["pixelwise"])
    assert metadata["pixelwise"] == json.dumps(values, sort_keys=True, ensure_ascii=False)
    keys = {"format", "network", "encoder", "classes", "colors", "preprocessing", "versions", "scores", "checksum"}
    assert set(values) == keys
    content = model.read_bytes()
    assert str(tmp_path).encode() not in content
    assert socket.gethostname().encode() not in content


@pytest.mark.parametrize("given", ["alpha", [-9999, "nan", "-inf"], {1: 0, 2: [-9999, "nan"]}])
def test_nodata_is_stored(make_model: MakeModel, tmp_path: Path, given: Any) -> None:
    _, spec = load_model(make_model(tmp_path / "a", nodata=given))
    assert spec.nodata.to_plain() == parse_nodata(given).to_plain()
    assert load_model(make_model(tmp_path / "b"))[1].nodata == ALL_DATA


def test_the_background_is_stored_only_if_it_is_not_the_first_class(make_model: MakeModel, tmp_path: Path) -> None:
    module, spec = load_model(make_model(tmp_path / "a", classes={"names": ["defect", "other"]}))
    assert "majority" not in json.loads(read_header(tmp_path / "a")["__metadata__"]["pixelwise"])["classes"]
    classes = replace(spec.classes, majority=1)
    save_model(tmp_path / "b", replace(spec, classes=classes), module.state_dict())
    assert [read_spec(tmp_path / name).classes.background for name in "ab"] == [None, 1]


def test_channel_files_are_stored_only_if_true(make_model: MakeModel, tmp_path: Path) -> None:
    plain, several = make_model(tmp_path / "a", channels=2), make_model(tmp_path / "b", channels=2, channel_files=True)
    old, new = (
        json.loads(read_header(path)["__metadata__"]["pixelwise"])["preprocessing"] for path in (plain, several)
    )
    assert "channel_files" not in old
    assert new == old | {"channel_files": True}
    assert [load_model(path)[1].channel_files for path in (plain, several)] == [False, True]


def test_spec_is_read_without_weights(model: Path, tmp_path: Path) -> None:
    assert read_spec(model) == load_model(model)[1]
    with pytest.raises(PathNotFoundError, match=r"does not exist\. Expected a run folder or a model file"):
        read_spec(tmp_path / "nothing")
    model.write_bytes(model.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="is not a model file, or the end of it is missing"):
        read_spec(model)


def test_run_folder_is_a_model(trained: Path) -> None:
    assert load_model(trained)[1] == load_model(trained / MODEL_FILE_NAME)[1]


def test_run_without_a_model_raises(tmp_path: Path) -> None:
    with pytest.raises(
        PathNotFoundError,
        match=rf"'{tmp_path}' has no model\.safetensors\. Expected .*\. Give the model before the data",
    ):
        load_model(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(PathNotFoundError, match=r"model\.safetensors' does not exist\. The run has not been evaluated"):
        load_model(tmp_path)


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"does not exist\. Expected a run folder or a model file"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_file_raises(model: Path, kept: int) -> None:
    model.write_bytes(model.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="is not a model file, or the end of it is missing"):
        load_model(model)


def test_file_of_another_kind_raises(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(ModelFileError, match=r"photo\.png is not a model file, or the end of it is missing"):
        load_model(path)


@pytest.mark.parametrize("place", [-1, -1000])
def test_flipped_bit_in_weights_raises(model: Path, place: int) -> None:
    content = bytearray(model.read_bytes())
    content[place] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        load_model(model)


def test_edited_class_name_raises(model: Path) -> None:
    content = model.read_bytes()
    assert content.count(b"road") == 1
    model.write_bytes(content.replace(b"road", b"lane"))
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        load_model(model)


def test_weights_of_another_program_raise(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"weight": torch.ones(3)}))
    with pytest.raises(ModelFileError, match=r"other\.safetensors was not written by Pixelwise"):
        load_model(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"text"', '{"format": 1}'])
def test_damaged_metadata_raises(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(save({"weight": torch.ones(3)}, metadata={"pixelwise": text}))
    with pytest.raises(ModelFileError, match="The metadata is damaged"):
        load_model(path)


@pytest.mark.parametrize(
    ("written", "version", "remedy"),
    [
        (1, "0.1.0", r"Train the model again, or use Pixelwise 0\.1\.0\."),
        (99, "8.1.0", r"Install Pixelwise 8\.1\.0 or a newer version\."),
    ],
)
def test_another_format_names_version_and_remedy(tmp_path: Path, written: int, version: str, remedy: str) -> None:
    path = tmp_path / "m"
    values = json.dumps({"format": written, "versions": {"pixelwise": version}})
    path.write_bytes(save({"weight": torch.ones(3)}, metadata={"pixelwise": values}))
    message = rf"has format {written} of Pixelwise {version}, but this version reads format 3\. {remedy}"
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@pytest.mark.parametrize("section", [None, "network", "classes", "preprocessing", "versions", "scores"])
def test_unknown_keys_are_ignored(model: Path, section: str | None) -> None:
    module, spec = load_model(model)
    rewrite(model, section, "key_of_a_later_version", [1, {"a": 2}])
    again, same = load_model(model)
    assert (same.network, same.classes, same.mean, same.std) == (spec.network, spec.classes, spec.mean, spec.std)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in module.state_dict().items())
    assert read_spec(model) == same


def test_unreadable_file_raises(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    for read in (load_model, read_spec, read_checksum):
        with pytest.raises(PathAccessError, match="permission denied"):
            read(model)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("network", "name", "net-of-tomorrow", "The network cannot be built. Update Pixelwise"),
        ("network", "base_channels", 8, "tensors do not fit the network in its metadata"),
        ("network", "base_channels", 0, "The network cannot be built"),
        (None, "network", 3, "The metadata is damaged"),
        ("preprocessing", "std", [0, 0, 0], "The network cannot be built"),
        ("preprocessing", "channels", "three", "The network cannot be built"),
        ("classes", "names", 7, "The metadata is damaged"),
        ("classes", "majority", 3, "The metadata is damaged"),
    ],
)
def test_invalid_values_raise(model: Path, section: str | None, key: str, value: Any, said: str) -> None:
    rewrite(model, section, key, value)
    with pytest.raises(ModelFileError, match=said):
        load_model(model)


class Intruder:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dump", [lambda x, path: path.write_bytes(pickle.dumps(x)), torch.save])
def test_nothing_is_unpickled(tmp_path: Path, dump: Callable[[Any, Path], Any]) -> None:
    model, trace = tmp_path / MODEL_FILE_NAME, tmp_path / "trace"
    dump(Intruder(trace), model)
    with pytest.raises(ModelFileError, match="is not a model file, or the end of it is missing"):
        load_model(model)
    assert not trace.exists()


def test_checksum_differs_between_models(make_model: MakeModel, tmp_path: Path) -> None:
    first, same, other = (make_model(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert read_checksum(first) == read_checksum(same) != read_checksum(other)


def test_checksum_of_another_file_raises(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not a model file, or the end of it is missing"):
        read_checksum(tmp_path / "m")
