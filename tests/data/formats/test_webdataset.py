import io
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pixelwise import check
from pixelwise.checks.runner import require_valid_dataset
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats import detect_format
from pixelwise.data.formats.webdataset import find_pairs
from pixelwise.data.io.images import Array, encode_png
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import DataError, PathNotFoundError


def picture(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)


def mask(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 3, (6, 8), np.uint8)


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pairs_of(*seeds: int) -> dict[str, bytes]:
    files = {}
    for seed in seeds:
        files[f"{seed:04}.png"] = encode_png(picture(seed))
        files[f"{seed:04}.mask.png"] = encode_png(mask(seed))
    return files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training shards and one for validation."""
    write_tar(tmp_path / "train-000000.tar", pairs_of(0, 1))
    write_tar(tmp_path / "train-000001.tar", pairs_of(2))
    write_tar(tmp_path / "val-000000.tar", pairs_of(3))
    return tmp_path


def names(root: Path) -> list[str]:
    return [sample.name for sample in find_pairs(root).samples]


def shown(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def reads_as(dataset: Dataset, number: int, seed: int) -> bool:
    sample = dataset.samples[number]
    same = np.array_equal(dataset.read_image(sample), picture(seed))
    return same and np.array_equal(dataset.read_mask(sample), mask(seed))


def test_pairs_are_read_in_place(root: Path) -> None:
    dataset = Dataset.load(root)
    assert dataset.format == "webdataset"
    found = [(s.name, s.split, s.image_path.name, s.image_entry, s.label_entry) for s in dataset.samples]
    assert found == [
        ("train/0000", "train", "train-000000.tar", "0000.png", "0000.mask.png"),
        ("train/0001", "train", "train-000000.tar", "0001.png", "0001.mask.png"),
        ("train/0002", "train", "train-000001.tar", "0002.png", "0002.mask.png"),
        ("val/0003", "val", "val-000000.tar", "0003.png", "0003.mask.png"),
    ]
    assert all(reads_as(dataset, number, number) for number in range(4))


def test_many_threads_read_one_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", pairs_of(*range(20)))
    dataset = Dataset.load(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: reads_as(dataset, number % 20, number % 20), range(200)))


@pytest.mark.parametrize(
    ("image", "label", "key"),
    [
        ("a.jpg", "a.seg.png", "a"),
        ("a.JPEG", "a.label.PNG", "a"),
        ("./a.png", "./a.mask.png", "a"),
        ("city/b.image.png", "city/b.segmentation.tif", "city/b"),
        ("v1.2/c.webp", "v1.2/c.labels.png", "v1.2/c"),
    ],
)
def test_a_key_ends_at_the_first_dot_of_the_last_part(tmp_path: Path, image: str, label: str, key: str) -> None:
    write_tar(tmp_path / "a.tar", {label: b"", image: b"", "a.json": b"{}", "._a.png": b"", "readme": b""})
    assert names(tmp_path) == [key]


def test_splits_may_be_folders_and_a_set_may_have_none(tmp_path: Path) -> None:
    write_tar(tmp_path / "one" / "000.tar", pairs_of(0))
    write_tar(tmp_path / "two" / "train" / "000.tar", pairs_of(0))
    write_tar(tmp_path / "two" / "validation" / "000.tar", pairs_of(0))
    assert names(tmp_path / "one") == ["0000"]
    assert names(tmp_path / "two") == ["train/0000", "val/0000"]
    assert detect_format(tmp_path / "two") == "webdataset"


def test_a_key_of_two_shards_gets_the_name_of_its_shard(root: Path) -> None:
    write_tar(root / "train-000001.tar", pairs_of(1, 2))
    dataset = Dataset.load(root)
    assert [s.name for s in dataset.samples if s.split == "train"] == [
        "train/0000",
        "train/0002",
        "train/train-000000/0001",
        "train/train-000001/0001",
    ]
    assert reads_as(dataset, 3, 1)


def test_long_names_and_folders_are_read(tmp_path: Path) -> None:
    long = "/".join(["x" * 90] * 3)
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("x")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in pairs_of(5).items():
            member = tarfile.TarInfo(f"{long}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    dataset = Dataset.load(tmp_path)
    assert dataset.samples[0].name == f"{long}/0005"
    assert reads_as(dataset, 0, 5)


def test_members_without_a_partner_are_listed_with_their_shard(root: Path) -> None:
    write_tar(root / "val-000000.tar", {**pairs_of(3), "8.png": b"x", "9.mask.png": b"x", "7.png": b"", "7.jpg": b""})
    found = find_pairs(root)
    assert shown(root, found.images_without_mask) == ["val-000000.tar/8.png"]
    assert shown(root, found.masks_without_image) == ["val-000000.tar/9.mask.png"]
    assert shown(root, found.same_stem) == ["val-000000.tar/7.png", "val-000000.tar/7.jpg"]
    findings = {finding.code: finding.message for finding in check(root).findings}
    assert "without a mask: val-000000.tar/8.png" in findings["missing_mask"]


def test_shards_without_a_split_are_listed(root: Path) -> None:
    write_tar(root / "more.tar", pairs_of(9))
    assert shown(root, find_pairs(root).outside_splits) == ["more.tar"]


def test_compressed_shards_are_refused(root: Path) -> None:
    (root / "train-000002.tar.gz").touch()
    with pytest.raises(DataError, match=r"train-000002.tar.gz: The shard is compressed, .*. Decompress it"):
        Dataset.load(root)
    for path in root.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match=r"train-000002.tar.gz: The shard is compressed"):
        Dataset.load(root)


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no .tar file. Give the folder of shards"):
        Dataset.load(tmp_path, "webdataset")


@pytest.mark.parametrize("folder", ["JPEGImages", "train"])
def test_archives_next_to_image_folders_are_not_shards(tmp_path: Path, folder: str) -> None:
    write_tar(tmp_path / "VOCtrainval.tar", {})
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "0001.png").touch()
    assert detect_format(tmp_path) == "folder"


def test_broken_members_are_named(root: Path) -> None:
    broken = {"0000.mask.png": encode_png(mask(0))[:40], "0001.png": b""}
    write_tar(root / "train-000000.tar", {**pairs_of(0, 1), **broken})
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=r"train-000000.tar: 0000.mask.png: The file cannot be decoded. Replace"):
        dataset.read_mask(dataset.samples[0])
    with pytest.raises(DataError, match=r"train-000000.tar: 0001.png: The file is empty. Replace"):
        dataset.read_image(dataset.samples[1])
    with pytest.raises(DataError, match=r"train-000000.tar: 0000.mask.png: The file cannot be decoded"):
        require_valid_dataset(scan_dataset(dataset))


def test_errors_of_values_and_sizes_name_the_member(root: Path) -> None:
    (root / "dataset.yaml").write_text("names: [a, b]\n")
    odd = {"0001.png": encode_png(picture(1)[:4]), "0001.mask.png": encode_png(mask(1) % 2)}
    write_tar(root / "train-000000.tar", {**pairs_of(0), **odd})
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=r"train-000000.tar: 0000.mask.png: The mask contains the value 2"):
        dataset.read_labels(dataset.samples[0])
    with pytest.raises(DataError, match=r"0001.mask.png is 6x8, but its image .*000000.tar: 0001.png is 4x8"):
        dataset.read(dataset.samples[1])
    messages = [finding.message for finding in check(root).errors]
    expected = "with the value 2, which no class has: train-000000.tar: 0000.mask.png"
    assert any(expected in message for message in messages)
    assert any("train-000000.tar: 0001.mask.png is 6x8" in message for message in messages)
    by_file = dataset.map_files_to_samples()
    assert by_file["train-000000.tar: 0000.mask.png"] == by_file["train-000000.tar: 0000.png"] == dataset.samples[0]


def test_jpeg_masks_are_found_in_shards(root: Path) -> None:
    files = pairs_of(0)
    write_tar(root / "train-000000.tar", {"0.png": files["0000.png"], "0.mask.jpg": files["0000.mask.png"]})
    assert "jpeg_mask" in {finding.code for finding in check(root).errors}


def test_a_truncated_shard_is_an_error(root: Path) -> None:
    path = root / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(
        DataError, match=r"train-000000.tar: The shard is not a complete, uncompressed tar file. Restore it"
    ):
        Dataset.load(root)


def test_a_shard_cut_after_it_was_opened_is_an_error(root: Path) -> None:
    dataset = Dataset.load(root)
    path = root / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(DataError, match=r"0000.png: The shard ends within this member"):
        dataset.read_image(dataset.samples[0])
    path.unlink()
    with pytest.raises(PathNotFoundError, match=r"train-000000.tar: The file does not exist"):
        dataset.read_mask(dataset.samples[0])


@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_header_is_an_error(root: Path, number: int) -> None:
    path = root / "train-000000.tar"
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[number].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"is damaged at byte {offset:,}, so the members after it are lost"):
        Dataset.load(root)


def test_a_file_that_is_not_tar_is_an_error(root: Path) -> None:
    (root / "train-000000.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(DataError, match=r"is not a complete, uncompressed tar file"):
        Dataset.load(root)
    (root / "train-000000.tar").unlink()
    (root / "train-000000.tar").mkdir()
    assert "train/0000" not in names(root)


def test_a_shard_without_an_end_marker_is_complete(root: Path) -> None:
    path = root / "val-000000.tar"
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + -(-last.size // 512) * 512])
    assert "val/0003" in names(root)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(root: Path, kind: bytes) -> None:
    with tarfile.open(root / "train-000000.tar", "w") as archive:
        member = tarfile.TarInfo("0001.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"0001.png is a link or device. Write"):
        Dataset.load(root)


def test_a_member_of_excessive_size_is_refused(root: Path) -> None:
    member = tarfile.TarInfo("0001.png")
    member.size = 2**40
    (root / "train-000000.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"0001.png claims 1,099,511,627,776 bytes, more than an image has"):
        Dataset.load(root)


def test_a_name_that_occurs_twice_is_refused(root: Path) -> None:
    with tarfile.open(root / "train-000000.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("0000.png"))
    with pytest.raises(DataError, match=r"0000.png occurs twice. Write the shard again"):
        Dataset.load(root)


def test_arrays_next_to_pictures_are_not_images(tmp_path: Path) -> None:
    features = io.BytesIO()
    np.save(features, np.zeros((2, 3)))
    files = pairs_of(0, 1)
    write_tar(tmp_path / "train-000000.tar", {**files, **{f"{seed:04}.npy": features.getvalue() for seed in (0, 1)}})
    dataset = Dataset.load(tmp_path)
    assert [sample.image_entry for sample in dataset.samples] == ["0000.png", "0001.png"]
    assert dataset.index.same_stem == ()
