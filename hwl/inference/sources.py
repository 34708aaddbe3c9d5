"""What a user names to look at: image files, folders, globs and videos."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from hwl.data.images import check_name
from hwl.errors import HwlError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


def is_video(path: Path) -> bool:
    """Whether a file is taken for a video, by its name."""
    return path.suffix.lower() in VIDEOS


def find_files(names: Sequence[str]) -> list[Path]:
    """The image and video files that names stand for, each once.

    Args:
        names: files, folders (the images and videos in them, not in folders below) and globs.

    Raises:
        HwlError: a name stands for no file.
    """
    found: dict[Path, Path] = {}
    for name in names:
        for path in _expand(name):
            found.setdefault(path.resolve(), path)
    if not found:
        raise HwlError("predict needs at least one image, folder, glob or video")
    return list(found.values())


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        inside = [
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in IMAGES + VIDEOS and file.is_file()
        ]
        if not inside:
            raise HwlError(f"{path}: no image or video lies in this folder")
        return inside
    if path.is_file():
        return [path]
    if glob.has_magic(name):
        matching = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        files = [file for file in matching if file.is_file()]
        if files:
            return files
        raise HwlError(f"{name}: no file matches")
    raise HwlError(f"{path}: there is no such file")


def video_rate(path: Path) -> float:
    """Frames a second.

    Raises:
        HwlError: the file is no video that OpenCV can read.
    """
    video = _open(path)
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate if rate > 0 else 25.0


def read_video(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, (H, W, 3) uint8 RGB.

    Raises:
        HwlError: the file is no video that OpenCV can read.
    """
    video = _open(path)
    count = 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not count:
        raise HwlError(f"{path}: no frame of this video can be decoded")


def _open(path: Path) -> cv2.VideoCapture:
    check_name(path)
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise HwlError(f"{path}: cannot be read as a video")
    return video
