import json
import pickle
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from pixelwise.errors import ModelFileError
from pixelwise.model_file import MODEL_FILE_NAME, _compute_checksum, load_model, read_checksum, read_spec, save_model

MakeModel = Callable[..., Path]


@pytest.fixture
def model(make_model: MakeModel, tmp_path: Path) -> Path:
    return make_model(tmp_path / MODEL_FILE_NAME)


def header(path: Path) -> dict[str, Any]:
    """The JSON that a safetensors file starts with, after its length in 8 bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, Any] = json.loads(content[8 : 8 + length])
    return found


def rewrite(path: Path, section: str, key: str, value: Any) -> None:
    """Changes the description as a later version might write it: with a checksum that is right."""
    weights = load(path.read_bytes())
    values = json.loads(header(path)["__metadata__"]["pixelwise"])
    values.pop("checksum")
    values[section][key] = value
    values["checksum"] = _compute_checksum(values, weights)
    path.write_bytes(save(weights, metadata={"pixelwise": json.dumps(values)}))


def test_what_is_saved_is_loaded(make_model: MakeModel, tmp_path: Path) -> None:
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


def test_equal_models_are_equal_files(make_model: MakeModel, tmp_path: Path) -> None:
    first, second = make_model(tmp_path / "a"), make_model(tmp_path / "elsewhere" / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != make_model(tmp_path / "c", seed=1).read_bytes()


def test_weights_of_any_memory_format_are_equal_files(model: Path, tmp_path: Path) -> None:
    module, spec = load_model(model)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_model(tmp_path / "last", spec, module.state_dict())
    assert (tmp_path / "last").read_bytes() == model.read_bytes()


def test_the_description_is_one_sorted_key_without_time_host_or_path(model: Path, tmp_path: Path) -> None:
    metadata = header(model)["__metadata__"]
    assert list(metadata) == ["pixelwise"]
    values = json.loads(metadata["pixelwise"])
    assert metadata["pixelwise"] == json.dumps(values, sort_keys=True, ensure_ascii=False)
    keys = {"format", "network", "encoder", "classes", "colors", "preprocessing", "versions", "scores", "checksum"}
    assert set(values) == keys
    content = model.read_bytes()
    assert str(tmp_path).encode() not in content
    assert socket.gethostname().encode() not in content


def test_files_of_one_channel_are_noted_where_they_are(make_model: MakeModel, tmp_path: Path) -> None:
    plain, several = make_model(tmp_path / "a", channels=2), make_model(tmp_path / "b", channels=2, channel_files=True)
    old, new = (json.loads(header(path)["__metadata__"]["pixelwise"])["preprocessing"] for path in (plain, several))
    assert "channel_files" not in old
    assert new == old | {"channel_files": True}
    assert [load_model(path)[1].channel_files for path in (plain, several)] == [False, True]


def test_the_spec_is_read_without_the_weights(model: Path, tmp_path: Path) -> None:
    assert read_spec(model) == load_model(model)[1]
    with pytest.raises(ModelFileError, match="does not exist; give a run folder or a model file"):
        read_spec(tmp_path / "nothing")
    model.write_bytes(model.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="is not a whole safetensors file"):
        read_spec(model)


def test_a_run_folder_is_a_model(trained: Path) -> None:
    assert load_model(trained)[1] == load_model(trained / MODEL_FILE_NAME)[1]


def test_a_run_that_was_never_scored_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors does not exist; the run has not been scored"):
        load_model(tmp_path)


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist; give a run folder or a model file"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(model: Path, kept: int) -> None:
    model.write_bytes(model.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="is not a whole safetensors file"):
        load_model(model)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(ModelFileError, match=r"photo\.png is not a whole safetensors file"):
        load_model(path)


@pytest.mark.parametrize("place", [-1, -1000])
def test_one_flipped_bit_in_the_weights_is_noticed(model: Path, place: int) -> None:
    content = bytearray(model.read_bytes())
    content[place] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        load_model(model)


def test_an_edited_class_name_is_noticed(model: Path) -> None:
    content = model.read_bytes()
    assert content.count(b"road") == 1
    model.write_bytes(content.replace(b"road", b"lane"))
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        load_model(model)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"weight": torch.ones(3)}))
    with pytest.raises(ModelFileError, match=r"other\.safetensors was not written by Pixelwise"):
        load_model(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"text"', '{"format": 1}'])
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(save({"weight": torch.ones(3)}, metadata={"pixelwise": text}))
    with pytest.raises(ModelFileError, match="its description is damaged"):
        load_model(path)


def test_another_format_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "m"
    values = json.dumps({"format": 99, "versions": {"pixelwise": "8.1.0"}})
    path.write_bytes(save({"weight": torch.ones(3)}, metadata={"pixelwise": values}))
    with pytest.raises(ModelFileError, match=r"has format 99, this version reads 2; .* Pixelwise 8\.1\.0"):
        load_model(path)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("network", "name", "net-of-tomorrow", "its network cannot be built .* update Pixelwise"),
        ("network", "width", 8, "tensors do not fit the network it describes"),
        ("network", "width", 0, "its description is damaged"),
        ("network", "wings", 2, "its description is damaged"),
        ("preprocessing", "std", [0, 0, 0], "its network cannot be built"),
        ("preprocessing", "channels", "three", "its network cannot be built"),
        ("classes", "names", 7, "its description is damaged"),
    ],
)
def test_a_description_that_makes_no_model_is_refused(
    model: Path, section: str, key: str, value: Any, said: str
) -> None:
    rewrite(model, section, key, value)
    with pytest.raises(ModelFileError, match=said):
        load_model(model)


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dump", [lambda x, path: path.write_bytes(pickle.dumps(x)), torch.save])
def test_nothing_is_unpickled(tmp_path: Path, dump: Callable[[Any, Path], Any]) -> None:
    model, trace = tmp_path / MODEL_FILE_NAME, tmp_path / "trace"
    dump(Intruder(trace), model)
    with pytest.raises(ModelFileError, match="is not a whole safetensors file"):
        load_model(model)
    assert not trace.exists()


def test_the_stored_checksum_tells_models_apart(make_model: MakeModel, tmp_path: Path) -> None:
    first, same, other = (make_model(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert read_checksum(first) == read_checksum(same) != read_checksum(other)


def test_a_file_without_a_checksum_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not a whole safetensors file"):
        read_checksum(tmp_path / "m")
