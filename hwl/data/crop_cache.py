"""A crop cache: the pixels that training reads of each annotated person, decoded once.

A person's part of the image holds every crop that the paper's augmentation can make of it, in the
image's own pixels: it depends on the input's aspect, not its size, so that trainings of both sizes,
all seeds and all variants share one file. The file is one NumPy array of bytes, mapped into memory,
whose pages all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import filelock
import numpy as np

from hwl import processor
from hwl.data.annotations import Annotations
from hwl.data.crops import HALF_BODY_PADDING, PADDING, Augmentation, Crop
from hwl.errors import HwlError
from hwl.files import read_json, told_when_full, write_json
from hwl.progress import progress
from hwl.runs.provenance import folder_fingerprint

VERSION = 1  # of the file's content
CHANNELS = 3
SAVE_EVERY = 500  # images between records of how far the making has come
BEYOND = 2  # pixels around a crop that interpolation may look at


@dataclass(frozen=True)
class CropCache:
    """The parts of images around Q persons, in a file.

    Attributes:
        path: the file.
        parts: (Q, 4) int64 left, top, right, bottom of each part in image pixels, the last two not
            in it.
        starts: (Q,) int64 position of each part's first pixel among the file's bytes.
        pixels: all bytes, RGB, part after part, row after row.
    """

    path: Path
    parts: np.ndarray
    starts: np.ndarray
    pixels: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        """The part of the person at that index: (h, w, 3) uint8 RGB, not copied."""
        left, top, right, bottom = self.parts[index].tolist()
        shape = (bottom - top, right - left, CHANNELS)
        start = self.starts[index]
        return self.pixels[start : start + math.prod(shape)].reshape(shape)

    def __reduce__(self) -> tuple:
        """A process that starts anew maps the file by itself; pickled, an array is copied."""
        return _mapped, (self.path, self.parts)


def crop_parts(annotations: Annotations, input_size: tuple[int, int]) -> np.ndarray:
    """The part of the image that the augmentation can reach of each annotated person.

    Args:
        annotations: Q annotated persons.
        input_size: (height, width) in pixels; only its aspect counts.

    Returns:
        (Q, 4) int64 left, top, right, bottom in pixels of the image, within it.
    """
    how = Augmentation()
    truth = annotations.ground_truth_boxes()
    corners, sizes = truth.boxes[:, :2], truth.boxes[:, 2:]
    # A shift moves the center of a whole body's crop alone.
    radius = _radius(sizes, PADDING, input_size) + how.shift_range / 2 * sizes
    low, high = corners + sizes / 2 - radius, corners + sizes / 2 + radius
    keypoints = annotations.keypoints[annotations.annotated()]
    visible = keypoints[:, :, 2] > 0
    upper = annotations.skeleton.upper_body
    for half in (visible & upper, visible & ~upper):
        # Of more keypoints in all than these a half of two or less is never taken.
        taken = (visible.sum(axis=1) > how.half_body_keypoints) & (half.sum(axis=1) > 2)
        places = np.where(half[taken][:, :, None], keypoints[taken][:, :, :2], np.nan)
        center = np.nanmean(places, axis=1)
        extent = np.nanmax(places, axis=1) - np.nanmin(places, axis=1)
        radius = _radius(extent, HALF_BODY_PADDING, input_size)
        low[taken] = np.minimum(low[taken], center - radius)
        high[taken] = np.maximum(high[taken], center + radius)
    return _within(low, high, annotations.image_sizes[truth.image_index])


def crop_within(crop: Crop, part: np.ndarray) -> np.ndarray:
    """(4,) int64 left, top, right, bottom: what of a part a crop shows, in the part's pixels."""
    angle = math.radians(crop.rotation)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = crop.scale / 2
    half = np.array([cos * width + sin * height, sin * width + cos * height])
    center = crop.center - part[:2]
    return _within(center - half, center + half, part[2:] - part[:2])


def _radius(sizes: np.ndarray, padding: float, input_size: tuple[int, int]) -> np.ndarray:
    """(Q, 1) pixels that the largest crop of (Q, 2) width, height reaches, turned in any way."""
    height, width = input_size
    widened = padding * (sizes / [width, height]).max(axis=1, keepdims=True)
    return (1 + Augmentation().scale) * widened * math.hypot(width, height) / 2


def _within(low: np.ndarray, high: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Rectangles and what interpolation looks at, in whole pixels of (width, height) images.

    A rectangle beside its image becomes a pixel of the border.
    """
    first = np.floor(low - BEYOND).clip(0, size - 1)
    last = np.ceil(high + BEYOND).clip(first + 1, size)
    return np.concatenate([first, last], axis=-1).astype(np.int64)


def open_crop_cache(
    folder: Path, annotations: Annotations, input_size: tuple[int, int]
) -> CropCache:
    """The crop cache of annotated persons, made before where it is missing or does not fit.

    A file's name tells the data set's folder, that of its images, the split by the name of the
    annotation file, where it is another, the number of persons, the aspect and a fingerprint of
    what it is made from; an older one with another fingerprint is removed. A kill while it is made
    costs at most the last SAVE_EVERY images. Of several processes one makes it, and the others
    wait.

    Args:
        folder: where the files are.
        annotations: Q annotated persons; the order is that of `annotations.annotated()`.
        input_size: (height, width) of the model input in pixels.

    Raises:
        HwlError: the disk has too little room, the folder cannot be written, or an image cannot be
            read.
    """
    parts = crop_parts(annotations, input_size)
    shared = math.gcd(*input_size)
    aspect = f"{input_size[0] // shared}x{input_size[1] // shared}"
    images = annotations.folder.resolve()
    split = annotations.path.stem.removeprefix("person_keypoints_")
    names = dict.fromkeys([images.parent.name, images.name, split])  # each once, in order
    prefix = f"{'-'.join(names)}-{len(parts)}-{aspect}-"
    path = folder / f"{prefix}{_fingerprint(annotations, parts)}.npy"
    if not path.exists():
        with _alone(folder, prefix):
            if not path.exists():  # another process may have made it meanwhile
                for old in folder.glob(f"{prefix}*.np*"):  # of other images or annotations
                    if not old.name.startswith(path.name):
                        old.unlink()
                _make(path, annotations, parts)
    return _mapped(path, parts)


def _mapped(path: Path, parts: np.ndarray) -> CropCache:
    return CropCache(path, parts, _starts(parts)[:-1], np.load(path, mmap_mode="r"))


def _starts(parts: np.ndarray) -> np.ndarray:
    """(Q + 1,) where each part starts among the bytes, and their number."""
    areas = (parts[:, 2:] - parts[:, :2]).prod(axis=1)
    return np.concatenate([[0], np.cumsum(areas * CHANNELS)])


def _fingerprint(annotations: Annotations, parts: np.ndarray) -> str:
    """16 hex digits that change with everything that the file's content follows from."""
    names = [
        annotations.file_names[image]
        for image in annotations.image_index[annotations.annotated()].tolist()
    ]
    images = folder_fingerprint(annotations.folder)
    told = f"{VERSION}\0{images}\0" + "\0".join(names)
    return hashlib.sha256(told.encode() + parts.tobytes()).hexdigest()[:16]


@contextmanager
def _alone(folder: Path, prefix: str) -> Iterator[None]:
    """Within it, no other process makes a file of that prefix; its lock ends with the process."""
    lock = filelock.FileLock(folder / f".{prefix}lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"waiting for another process to make the crop cache in {folder}", flush=True)
            lock.acquire()
    except OSError as error:
        raise HwlError(
            f"{folder}: cannot be written ({error.strerror}); let 'crop_cache' name another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _make(path: Path, annotations: Annotations, parts: np.ndarray) -> None:
    """Write the file as `<name>.partial`, beside a record of how far it is, and rename it."""
    partial, record = path.with_name(path.name + ".partial"), path.with_name(path.name + ".json")
    starts = _starts(parts)
    images = annotations.image_index[annotations.annotated()]
    order = np.argsort(images, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(images[order])) + 1)
    done = int(read_json(record)["images"]) if record.exists() and partial.exists() else 0
    _check_room(path, int(starts[-1]), len(parts), partial if done else None)
    with told_when_full(f"{partial} is kept: make room, and its making goes on from there"):
        with partial.open("r+b" if done else "w+b") as file:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (int(starts[-1]),)}
            np.lib.format.write_array_header_1_0(file, shape)
            file.flush()
            header = file.tell()

            def write(group: np.ndarray) -> None:
                image = annotations.read_image(int(images[group[0]]))
                for person in group.tolist():
                    left, top, right, bottom = parts[person]
                    pixels = image[top:bottom, left:right].tobytes()
                    os.pwrite(file.fileno(), pixels, header + int(starts[person]))

            with ThreadPool(
                processor.cores()
            ) as pool:  # decoding and writing let go of Python's lock
                written = pool.imap(write, groups[done:])  # in order, so that none is left out
                for count, _ in enumerate(
                    progress(written, "crop cache", total=len(groups) - done), start=done + 1
                ):
                    if count % SAVE_EVERY == 0:
                        os.fsync(file.fileno())
                        write_json(record, {"images": count})
            os.fsync(file.fileno())
        partial.replace(path)
        record.unlink(missing_ok=True)


def _check_room(path: Path, size: int, persons: int, begun: Path | None) -> None:
    """Say how large the file becomes; HwlError where the disk has too little room."""
    free = shutil.disk_usage(path.parent).free
    told = f"crop cache {path}: {size / 1e9:.2f} GB for {persons} persons"
    if size - (begun.stat().st_blocks * 512 if begun else 0) > free:
        raise HwlError(
            f"{told}, and its disk has {free / 1e9:.2f} GB left: let 'crop_cache' name a folder on "
            "another disk, or leave it empty"
        )
    print(f"{told}, of {free / 1e9:.2f} GB that are free; it is made once", flush=True)
