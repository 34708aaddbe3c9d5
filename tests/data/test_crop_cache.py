"""The crop cache: what it holds, that it is made once, and what happens when it cannot be."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
from collections import namedtuple
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pytest

from hwl.codec import HeatmapCodec
from hwl.data import crop_cache
from hwl.data.annotations import Annotations, load_split
from hwl.data.crop_cache import CropCache, crop_parts, open_crop_cache
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset
from hwl.data.images import write_image
from hwl.errors import HwlError
from hwl.skeletons import COCO

SIZE = (128, 96)
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def annotations(puppets: Path) -> Annotations:
    return load_split(puppets, "train2017")


def drawn_persons(count: int, size: tuple[int, int]) -> Annotations:
    """Persons at random in an image of (width, height) pixels; keypoints may be beside the box."""
    rng = np.random.default_rng(0)
    extent = rng.uniform(10, 40, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (size - extent)
    places = corner[:, None] + rng.uniform(0, 1, (count, 17, 2)) * extent[:, None]
    # Either half may lie far from the box.
    places += np.where(COCO.upper_body, *rng.uniform(-50, 50, (2, count, 2, 1))).swapaxes(1, 2)
    seen = rng.random((count, 17)) < rng.uniform(0.4, 1, (count, 1))
    seen[:, 0] = True
    return Annotations(
        path=Path("drawn.json"),
        folder=Path(),
        skeleton=COCO,
        image_ids=np.array([1]),
        file_names=("drawn.jpg",),
        image_sizes=np.array([size]),
        ids=np.arange(count),
        image_index=np.zeros(count, int),
        boxes=np.hstack([corner, extent]),
        areas=extent.prod(axis=1),
        keypoints=np.dstack([places, 2.0 * seen]),
        crowd=np.zeros(count, bool),
        head_sizes=np.full(count, np.nan),
    )


# Half bodies, rotations and scales are at their limits, where they reach farthest.
@pytest.mark.parametrize("how", [Augmentation(), Augmentation(half_body=1, rotate=1, shift=1)])
def test_the_warp_of_the_whole_image_reads_no_pixel_beside_the_part(how: Augmentation) -> None:
    annotations = drawn_persons(40, (600, 500))
    persons = PersonDataset(annotations, HeatmapCodec(SIZE), how, seed=0)

    for index, (left, top, right, bottom) in enumerate(crop_parts(annotations, SIZE)):
        beside = np.ones((500, 600), np.float32)  # floats, for the smallest weight counts
        beside[top:bottom, left:right] = 0
        assert beside.any()
        for epoch in range(60):
            matrix = persons.crop(epoch, index).matrix(SIZE)
            assert not cv2.warpAffine(beside, matrix, SIZE[::-1]).any()


def test_a_part_is_smaller_than_the_image_where_the_person_is_small(
    annotations: Annotations,
) -> None:
    boxes = annotations.boxes.copy()
    boxes[:, 2:] = 10

    parts = crop_parts(replace(annotations, boxes=boxes, keypoints=few(annotations)), SIZE)

    assert ((parts[:, 2:] - parts[:, :2]) <= 40).all()


def few(annotations: Annotations) -> np.ndarray:
    """Keypoints of which too few are annotated for a half body."""
    keypoints = annotations.keypoints.copy()
    keypoints[:, 8:] = 0
    return keypoints


def assert_holds(cache: CropCache, annotations: Annotations) -> None:
    images = annotations.image_index[annotations.annotated()]
    for index, (left, top, right, bottom) in enumerate(cache.parts):
        expected = annotations.read_image(images[index])[top:bottom, left:right]
        np.testing.assert_array_equal(cache[index], expected)


def test_it_holds_the_pixels_of_the_image(annotations: Annotations, tmp_path: Path) -> None:
    cache = open_crop_cache(tmp_path / "cache", annotations, SIZE)

    assert_holds(cache, annotations)
    assert not cache.pixels.flags.writeable
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".npy", ""}


def test_its_size_is_told_before_it_is_made(
    annotations: Annotations, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cache = open_crop_cache(tmp_path, annotations, SIZE)

    told = f"{cache.pixels.size / 1e9:.2f} GB for {len(cache.parts)} persons, of "
    assert told in capsys.readouterr().out


def unreadable(*_: object) -> np.ndarray:
    raise AssertionError("an image was read")


def test_it_is_made_once_for_all_inputs_of_an_aspect(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = open_crop_cache(tmp_path, annotations, SIZE)
    monkeypatch.setattr(Annotations, "read_image", unreadable)

    again = open_crop_cache(tmp_path, annotations, (2 * SIZE[0], 2 * SIZE[1]))

    assert again.path == first.path and np.array_equal(again.pixels, first.pixels)


def test_other_images_make_it_anew_in_place_of_the_old(puppets: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(puppets, tmp_path / "data"))
    annotations = load_split(data, "train2017")
    old = open_crop_cache(tmp_path / "cache", annotations, SIZE).path
    write_image(annotations.image_path(0), annotations.read_image(0)[::-1])

    cache = open_crop_cache(tmp_path / "cache", annotations, SIZE)

    assert cache.path != old and not old.exists()
    assert_holds(cache, annotations)


def test_other_boxes_make_it_anew(annotations: Annotations, tmp_path: Path) -> None:
    old = open_crop_cache(tmp_path, annotations, SIZE)
    moved = replace(annotations, boxes=annotations.boxes * 0.5, keypoints=few(annotations))

    cache = open_crop_cache(tmp_path, moved, SIZE)

    assert cache.path != old.path and not old.path.exists()
    assert_holds(cache, moved)


def test_a_killed_making_goes_on_where_it_was(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(crop_cache, "SAVE_EVERY", 3)
    child = FORK.Process(target=killed_at_the_second_record, args=(tmp_path, annotations))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and not list(tmp_path.glob("*.npy"))
    read: list[int] = []
    images = Annotations.read_image
    monkeypatch.setattr(
        Annotations, "read_image", lambda self, index: read.append(index) or images(self, index)
    )

    cache = open_crop_cache(tmp_path, annotations, SIZE)

    monkeypatch.undo()
    assert sorted(read) == list(range(3, len(annotations.image_ids)))
    assert_holds(cache, annotations)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".npy", ""}


def killed_at_the_second_record(folder: Path, annotations: Annotations) -> None:
    write, calls = crop_cache.write_json, iter([True])  # the first one is made

    def record(path: Path, content: object) -> None:
        if not next(calls, False):
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    crop_cache.write_json = record
    open_crop_cache(folder, annotations, SIZE)


def test_too_small_a_disk_is_told_before_anything_is_written(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(HwlError, match=r"GB for \d+ persons, and its disk has 0\.00 GB left") as e:
        open_crop_cache(tmp_path, annotations, SIZE)

    assert "\n" not in str(e.value) and not list(tmp_path.glob("*.np*"))


def test_a_disk_that_fills_up_is_told_with_what_is_kept(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)

    with pytest.raises(HwlError, match=r"No space left on device .*\.partial is kept: make room"):
        open_crop_cache(tmp_path, annotations, SIZE)


def test_a_folder_that_cannot_be_made_is_told(annotations: Annotations, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HwlError, match=r"file: cannot be written .* 'crop_cache' name another"):
        open_crop_cache(tmp_path / "file", annotations, SIZE)


def test_of_two_processes_one_makes_it(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = Annotations.read_image
    log = os.open(tmp_path / "log", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def logged(self: Annotations, index: int) -> np.ndarray:
        os.write(log, b".")
        return images(self, index)

    monkeypatch.setattr(Annotations, "read_image", logged)
    arguments = (tmp_path / "cache", annotations, SIZE)
    children = [FORK.Process(target=open_crop_cache, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0]
    assert (tmp_path / "log").stat().st_size == len(annotations.image_ids)


def test_a_process_that_starts_anew_maps_the_file_instead_of_taking_a_copy(
    annotations: Annotations, tmp_path: Path
) -> None:
    cache = open_crop_cache(tmp_path, annotations, SIZE)

    sent = pickle.dumps(cache)

    assert len(sent) < cache.pixels.size / 10
    np.testing.assert_array_equal(pickle.loads(sent)[1], cache[1])


def test_two_data_sets_have_each_its_file_in_one_folder(
    annotations: Annotations, tmp_path: Path
) -> None:
    shutil.copytree(annotations.folder, tmp_path / "other/train2017")
    (tmp_path / "other/train2017" / annotations.file_names[0]).touch()
    other = replace(annotations, folder=tmp_path / "other/train2017")
    others = replace(other, keypoints=few(annotations))

    paths = [open_crop_cache(tmp_path / "cache", one, SIZE).path for one in (annotations, others)]

    assert all(path.exists() for path in paths) and paths[0] != paths[1]


def test_two_splits_of_one_folder_of_images_have_each_its_file(
    annotations: Annotations, tmp_path: Path
) -> None:
    fold = replace(annotations, path=annotations.path.with_name("person_keypoints_fold2.json"))
    moved = replace(fold, keypoints=few(annotations))

    paths = [open_crop_cache(tmp_path, one, SIZE).path for one in (annotations, moved)]

    assert all(path.exists() for path in paths) and paths[0] != paths[1]


def test_the_files_name_tells_data_set_split_persons_and_aspect(
    annotations: Annotations, tmp_path: Path
) -> None:
    path = annotations.path.with_name("person_keypoints_fold2.json")
    names = [
        open_crop_cache(tmp_path, one, SIZE).path.name
        for one in (annotations, replace(annotations, path=path))
    ]

    data, persons = annotations.folder.parent.name, len(annotations.annotated())
    assert names[0].startswith(f"{data}-train2017-{persons}-")
    assert names[1].startswith(f"{data}-train2017-fold2-{persons}-")


def test_as_many_threads_decode_as_the_job_has_cores(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = []
    monkeypatch.setattr(crop_cache, "ThreadPool", lambda *n: made.append(n) or ThreadPool(*n))
    monkeypatch.setattr("hwl.processor.cores", lambda: 3)

    open_crop_cache(tmp_path, annotations, SIZE)

    assert made == [(3,)]
