"""Fetch COCO 2017 for keypoints: say what is fetched and how large, resume, verify, unpack safely.

`pooch.retrieve` starts over after a broken connection, which an 18 GB archive does not allow;
hence `fetch`, of which pooch does only the hashing. The COCO site publishes no hashes: the MD5
sums are those that public loaders carry and agree upon (PaddleDetection's ppdet/utils/download.py
among others), and the sizes in bytes likewise, save the rough 1 MB of image_info_test2017.zip.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hwl.errors import HwlError
from hwl.fetch import fetch, free_space, part_of, require_space

ENCRYPTED = 1  # the bit of a zip entry's flags
HOST = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Download:
    """One archive of COCO and what is taken out of it.

    Attributes:
        path: the archive is `HOST/path.zip`.
        size: bytes.
        md5: its hash.
        members: files or folders wanted, by the paths they have in the archive and in the data
            folder.
        images: files `.jpg` in each member folder; 0 where members are files.
    """

    path: str
    size: int
    md5: str
    members: tuple[str, ...]
    images: int = 0

    @property
    def url(self) -> str:
        """Where the archive is published."""
        return f"{HOST}/{self.path}.zip"

    def archive(self, folder: Path) -> Path:
        """Where the archive lies in the data folder between download and unpacking."""
        return folder / Path(self.url).name

    def missing(self, folder: Path) -> list[str]:
        """Members that are not in the data folder yet.

        Raises:
            HwlError: a member is there with another number of images.
        """
        there = [member for member in self.members if (folder / member).exists()]
        for member in there if self.images else ():
            _require_images(folder / member, self.images, folder / member)
        return [member for member in self.members if member not in there]

    def bytes_to_fetch(self, folder: Path) -> int:
        """Bytes still to come, after what earlier runs left in the data folder."""
        archive = self.archive(folder)
        left = [path.stat().st_size for path in (archive, part_of(archive)) if path.exists()]
        return max(self.size - sum(left), 0) if self.missing(folder) else 0


TRAIN = Download(
    "zips/train2017", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", ("train2017",), 118_287
)
VAL = Download("zips/val2017", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", ("val2017",), 5_000)
TEST = Download(
    "zips/test2017", 6_646_970_404, "77ad2c53ac5d0aea611d422c0938fb35", ("test2017",), 40_670
)
KEYPOINTS = Download(
    "annotations/annotations_trainval2017",
    252_907_541,
    "f4bbac642086de4f52a3fdda2de5fa2c",
    ("annotations/person_keypoints_train2017.json", "annotations/person_keypoints_val2017.json"),
)
TEST_INFO = Download(
    "annotations/image_info_test2017",
    1_000_000,
    "85da7065e5e600ebfee8af1edb634eb5",
    ("annotations/image_info_test2017.json", "annotations/image_info_test-dev2017.json"),
)
SPLITS = {
    "train2017": (TRAIN, KEYPOINTS),
    "val2017": (VAL, KEYPOINTS),
    "test2017": (TEST, TEST_INFO),
}
ANNOTATED = ("train2017", "val2017")  # the splits with public keypoints
SLACK = 10_000_000  # bytes that an archive may have more than its size here
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
DETECTIONS_HELP = (
    "Not fetched: {path}, the detected boxes. The authors of HRNet share them on "
    "https://drive.google.com/drive/folders/1fRUDNUDxe9fjqcRZ2bnF_TKMlO0nB_dk and "
    "https://1drv.ms/f/s!AhIXJn_J-blWzzDXoz5BeFl8sWM- : put the file at that path by hand."
)


def plan(splits: Sequence[str] = ANNOTATED) -> list[Download]:
    """The archives that splits need, small ones first.

    Raises:
        HwlError: an unknown split.
    """
    for split in splits:
        if split not in SPLITS:
            raise HwlError(f"COCO 2017 has no split {split!r}: choose from {', '.join(SPLITS)}")
    downloads = {download for split in splits for download in SPLITS[split]}
    return sorted(downloads, key=lambda download: download.size)


def describe(folder: Path, splits: Sequence[str] = ANNOTATED) -> str:
    """A table of what `download_coco` would fetch, in GB of 10^9 bytes, and leaves to the user.

    Raises:
        HwlError: as `plan` and `Download.missing`.
    """
    row = "{:<30} {:>8} {:>8}  {:<70} {}".format
    lines = [row("file", "size/GB", "to fetch", "URL", "provides")]
    total = 0
    for download in plan(splits):
        rest = download.bytes_to_fetch(folder)
        total += rest
        sizes = (f"{size / 1e9:.3f}" for size in (download.size, rest))
        gives = ", ".join(download.members) if download.missing(folder) else "already there"
        lines.append(row(download.archive(folder).name, *sizes, download.url, gives))
    free = free_space(folder) / 1e9
    lines.append(f"To fetch: {total / 1e9:.3f} GB. Free in {folder}: {free:.3f} GB.")
    if "val2017" in splits and not (folder / DETECTIONS).exists():
        lines.append(DETECTIONS_HELP.format(path=folder / DETECTIONS))
    return "\n".join(lines)


def download_coco(
    folder: Path, splits: Sequence[str] = ANNOTATED, yes: bool = False, keep_zips: bool = False
) -> None:
    """Say what will be fetched, ask, then fetch and unpack what the folder lacks.

    What is there is left alone.

    Args:
        folder: where COCO goes.
        splits: names in SPLITS.
        yes: do not ask.
        keep_zips: keep each archive once it is unpacked; one that was there before is kept anyway.

    Raises:
        HwlError: the disk is too small; else as `describe`, `fetch` and `extract`.
    """
    print(describe(folder, splits))
    downloads = [download for download in plan(splits) if download.missing(folder)]
    if not downloads or not (yes or _confirmed()):
        return
    # Images hardly compress: what is unpacked takes about the archive's size once more.
    zips = [download.bytes_to_fetch(folder) for download in downloads]
    unpacked = sum(download.size for download in downloads)
    require_space(folder, unpacked + (sum(zips) if keep_zips else max(zips)))
    for download in downloads:
        limit = download.size + SLACK
        users_own = download.archive(folder).exists()
        archive = fetch(download.url, download.archive(folder), md5=download.md5, limit=limit)
        extract(archive, download.missing(folder), folder, download.images)
        if users_own:
            print(f"{archive} was there before and is kept: remove it if you do not need it")
        elif not keep_zips:
            archive.unlink()


def extract(archive: Path, members: Sequence[str], folder: Path, images: int = 0) -> None:
    """Unpack members of a zip archive beside their place and rename them when whole.

    Args:
        archive: the zip file.
        members: files or folders in it.
        folder: where they go.
        images: files `.jpg` that each member, a folder, must hold; 0 where members are files.

    Raises:
        HwlError: an entry would leave the folder or is a link, the archive is damaged, encrypted
            or lacks a member, or the disk is too small.
    """
    scratch = folder / f".{archive.stem}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a run that was killed
    roots = tuple(f"{member}/" for member in members)
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            for entry in entries:
                _require_safe(entry, archive)
            wanted = [entry for entry in entries if f"{entry.filename}/".startswith(roots)]
            require_space(folder, sum(entry.file_size for entry in wanted))
            for entry in tqdm(wanted, desc=f"unpacking {archive.name}", unit="file"):
                zipped.extract(entry, scratch)
        for member in members:
            if not (scratch / member).exists():
                raise HwlError(f"{archive} lacks {member}: move it away and run again")
            if images:
                _require_images(scratch / member, images, archive)
        for member in members:
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / member, folder / member)
    # The last is raised of a method of compression that Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise HwlError(f"{archive} is damaged ({error}): move it away and run again") from error
    except OSError as error:
        raise HwlError(f"cannot unpack {archive} ({error}): make room or move it away") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _require_safe(entry: zipfile.ZipInfo, archive: Path) -> None:
    name = entry.filename
    if entry.flag_bits & ENCRYPTED:
        raise HwlError(f"{archive} is encrypted, which COCO's is not: move it away and run again")
    leaves = ".." in re.split(r"[/\\]", name) or name.startswith(("/", "\\")) or ":" in name
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was not made on Unix
    if leaves or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise HwlError(f"{archive} has the unsafe entry {name!r}: move it away, it is not COCO's")


def _require_images(folder: Path, expected: int, origin: Path) -> None:
    count = sum(name.endswith(".jpg") for name in os.listdir(folder))
    if count != expected:
        raise HwlError(f"{origin} has {count} of {expected} images: move it away and run again")


def _confirmed() -> bool:
    try:
        return input("Fetch this now? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise HwlError("there is no terminal to ask on: say yes beforehand") from None
