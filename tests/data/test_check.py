"""What the check of a split says of it, and of wrong images."""

from __future__ import annotations

import json
import re
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hwl.data import check
from hwl.data.check import check_split
from hwl.errors import HwlError

from .annotation_files import content


def write_split(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """The split "val" of the tiny file, and black images of these (width, height)."""
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    (folder / "annotations/person_keypoints_val.json").write_text(json.dumps(content()))
    for name, (width, height) in sizes.items():
        cv2.imwrite(str(folder / "val" / name), np.zeros((height, width, 3), np.uint8))


def test_the_check_describes_a_good_split(tmp_path: Path) -> None:
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (40, 30)})

    assert check_split(tmp_path, "val") == (
        "val: 2 images, 3 persons, 2 of them to learn from (mean 2.0 of 3 keypoints annotated), "
        "skeleton face\n"
        "  left out: 1 are crowds\n"
        "  flip pairs: left_eye - right_eye"
    )


def test_the_check_names_keypoints_of_no_known_sigma(tmp_path: Path) -> None:
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (40, 30)})
    raw = content()
    raw["categories"][0]["keypoints"][0] = "beak"
    (tmp_path / "annotations/person_keypoints_val.json").write_text(json.dumps(raw))

    last = check_split(tmp_path, "val").splitlines()[-1]

    assert last == "  OKS sigma of 0.06, as none is known: beak"


def turn(path: Path) -> None:
    """Give an image an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


def test_the_check_names_an_image_with_an_orientation(tmp_path: Path) -> None:
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (40, 30)})
    turn(tmp_path / "val/b.png")

    last = check_split(tmp_path, "val").splitlines()[-1]

    assert re.match(r"  EXIF orientation in 1 of 2 images, such as \S*b\.png: ", last)


def test_an_image_that_was_annotated_turned_is_told_so(tmp_path: Path) -> None:
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (30, 40)})
    turn(tmp_path / "val/b.png")

    with pytest.raises(HwlError, match=r"b\.png is 30x40 .* annotated turned by its EXIF"):
        check_split(tmp_path, "val")


def test_the_check_describes_a_list_of_images(tmp_path: Path) -> None:
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (40, 30)})
    path = tmp_path / "annotations/person_keypoints_val.json"
    raw = content()
    path.write_text(json.dumps({"images": raw["images"], "categories": []}))

    first, pairs = check_split(tmp_path, "val").splitlines()

    assert first == "val: 2 images, no persons, skeleton COCO-17"
    assert pairs.startswith("  flip pairs: left_eye - right_eye, left_ear - right_ear")


def test_the_check_finds_a_damaged_image(tmp_path: Path) -> None:
    raw = content()
    raw["images"][0]["file_name"] = "b.jpg"
    write_split(tmp_path, {"a.png": (20, 10)})
    (tmp_path / "annotations/person_keypoints_val.json").write_text(json.dumps(raw))
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "val/b.jpg"), rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    data = (tmp_path / "val/b.jpg").read_bytes()
    (tmp_path / "val/b.jpg").write_bytes(data[:1000] + data[1100:])

    with pytest.raises(HwlError, match=r"1 of 2 images are wrong:\n.*b\.jpg: is damaged"):
        check_split(tmp_path, "val")


@pytest.mark.parametrize("size", [(30, 40), (40, 31), (41, 30)])
def test_the_check_names_every_wrong_image(tmp_path: Path, size: tuple[int, int]) -> None:
    write_split(tmp_path, {"b.png": size})

    with pytest.raises(HwlError) as failure:
        check_split(tmp_path, "val")

    first, *rest = str(failure.value).splitlines()
    assert first == "2 of 2 images are wrong:"
    assert re.search(rf"b\.png is {size[0]}x{size[1]} pixels, .*val\.json says 40x30", rest[0])
    assert "a.png: there is no such file" in rest[1]


def test_as_many_threads_read_as_the_job_has_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(check, "ThreadPool", lambda *n: made.append(n) or ThreadPool(*n))
    monkeypatch.setattr("hwl.processor.cores", lambda: 3)
    write_split(tmp_path, {"a.png": (20, 10), "b.png": (40, 30)})

    check_split(tmp_path, "val")

    assert made == [(3,)]
