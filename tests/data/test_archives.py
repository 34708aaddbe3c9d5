"""Archives are unpacked whole, safely, or not at all."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hwl import fetch as fetch_module
from hwl.data.download import extract
from hwl.errors import HwlError

from .zips import make_zip, names_in

LINK = zipfile.ZipInfo("val2017/link")

LINK.create_system = 3  # Unix

LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


def test_extract_unpacks_the_members_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "keypoints.zip", "keypoints/wanted.json", "keypoints/other.json")
    monkeypatch.setattr(fetch_module, "free_space", lambda folder: 1000)  # room for just one

    extract(archive, ["keypoints/wanted.json"], tmp_path)

    assert names_in(tmp_path) == ["keypoints", "keypoints.zip", "keypoints/wanted.json"]


@pytest.mark.parametrize(
    ("member", "name", "message"),
    [
        ("val2017", "../a.jpg", "has the unsafe entry"),
        ("val2017", "..\\a.jpg", "has the unsafe entry"),
        ("val2017", "val2017/../../a.jpg", "has the unsafe entry"),
        ("val2017", "/a.jpg", "has the unsafe entry"),
        ("val2017", "C:/a.jpg", "has the unsafe entry"),
        ("val2017", LINK, "has the unsafe entry"),
        ("val2017", "val2017/note.txt", "has 1 of 2 images"),
        ("test2017", "val2017/2.jpg", "lacks test2017"),
    ],
)
def test_wrong_archive_is_told_and_leaves_nothing(
    tmp_path: Path, member: str, name: str | zipfile.ZipInfo, message: str
) -> None:
    (tmp_path / "data").mkdir()
    archive = make_zip(tmp_path / "data/val2017.zip", "val2017/1.jpg", name)

    with pytest.raises(HwlError, match=rf"val2017\.zip {message}"):
        extract(archive, [member], tmp_path / "data", images=2)

    assert names_in(tmp_path) == ["data", "data/val2017.zip"]


@pytest.mark.parametrize("damage", ["cut off", "one byte"])
def test_damaged_archive_is_told_and_leaves_nothing(tmp_path: Path, damage: str) -> None:
    archive = make_zip(tmp_path / "val2017.zip", "val2017/1.jpg")
    whole = archive.read_bytes()
    archive.write_bytes(whole[:900] if damage == "cut off" else whole.replace(b"x", b"y", 1))

    with pytest.raises(HwlError, match=r"val2017\.zip is damaged .*move it away"):
        extract(archive, ["val2017"], tmp_path)

    assert names_in(tmp_path) == ["val2017.zip"]


def encrypted(archive: Path) -> None:
    """Set the flag of encryption in the zip's list, where it is read first."""
    content = archive.read_bytes()
    entry = content.index(b"PK\x01\x02") + 8
    archive.write_bytes(content[:entry] + b"\x01" + content[entry + 1 :])


def packed_by_an_unknown_method(archive: Path) -> None:
    content = archive.read_bytes()
    entry = content.index(b"PK\x01\x02") + 10
    archive.write_bytes(content[:entry] + b"\x63" + content[entry + 1 :])


@pytest.mark.parametrize(
    ("make_so", "message"),
    [(encrypted, "is encrypted"), (packed_by_an_unknown_method, "is damaged .*compression")],
)
def test_an_archive_that_cannot_be_unpacked_is_told_in_one_line(
    tmp_path: Path, make_so: Callable[[Path], None], message: str
) -> None:
    archive = make_zip(tmp_path / "val2017.zip", "val2017/1.jpg")
    make_so(archive)

    with pytest.raises(HwlError, match=rf"val2017\.zip {message}.*: move it away"):
        extract(archive, ["val2017"], tmp_path)

    assert names_in(tmp_path) == ["val2017.zip"]


def test_extract_needs_room_for_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "val2017.zip", "val2017/1.jpg")
    monkeypatch.setattr(fetch_module, "free_space", lambda folder: 999)

    with pytest.raises(HwlError, match="make room"):
        extract(archive, ["val2017"], tmp_path)


def test_extraction_killed_midway_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "val2017.zip", "val2017/1.jpg", "val2017/2.jpg")
    extract_one = zipfile.ZipFile.extract

    def killed_at_the_second(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> None:
        if entry.filename == "val2017/2.jpg":
            raise KeyboardInterrupt
        extract_one(zipped, entry, to)

    monkeypatch.setattr(zipfile.ZipFile, "extract", killed_at_the_second)

    with pytest.raises(KeyboardInterrupt):
        extract(archive, ["val2017"], tmp_path)

    assert names_in(tmp_path) == ["val2017.zip"]
