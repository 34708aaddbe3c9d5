"""The subset made from official files: shrunk images, persons in their pixels, seeded boxes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hwl.data.annotations import load_detections, load_split
from hwl.data.coco_subset import LISTS, OFFICIAL, make_coco_subset
from hwl.errors import HwlError
from hwl.skeletons import COCO

KEYPOINTS = [100, 200, 2, *[0, 0, 0] * 15, 301, 402, 1]
PERSON = {"category_id": 1, "iscrowd": 0, "bbox": [40.0, 60.5, 320.4, 400.0], "area": 64000.0}
PERSON |= {"keypoints": KEYPOINTS, "num_keypoints": 2, "segmentation": []}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Official splits: images 1 (481x640) and 2 (300x200) in train2017, 3 (640x480) in val2017."""
    splits = {"train2017": {1: (481, 640), 2: (300, 200)}, "val2017": {3: (640, 480)}}
    for split, sizes in splits.items():
        (tmp_path / "coco" / split).mkdir(parents=True)
        images, persons = [], []
        for number, (width, height) in sizes.items():
            name = f"{number:012d}.jpg"
            image = np.full((height, width, 3), 10 * number, np.uint8)
            cv2.imwrite(str(tmp_path / "coco" / split / name), image)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            persons.append({**PERSON, "id": 10 * number, "image_id": number})
        crowd = {**PERSON, "id": 98, "image_id": number, "iscrowd": 1}
        hidden = {**PERSON, "id": 99, "image_id": number, "num_keypoints": 0}
        listing = {"images": images, "annotations": [*persons, crowd, hidden]}
        listing["categories"] = [COCO.category()]
        path = tmp_path / "coco/annotations" / f"person_keypoints_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(listing))
    return tmp_path / "coco"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Images 1 and 3 to train on, 2 to validate on: re-split by image."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train2017.txt").write_text("1\n3\n")
    (tmp_path / "lists/val2017.txt").write_text("2\n")
    return tmp_path / "lists"


@pytest.fixture
def subset(coco: Path, lists: Path, tmp_path: Path) -> Path:
    return make_coco_subset(coco, tmp_path / "subset", lists)


def test_images_of_either_official_split_go_where_the_lists_say(subset: Path) -> None:
    train, val = load_split(subset, "train2017"), load_split(subset, "val2017")

    assert train.image_ids.tolist() == [1, 3] and val.image_ids.tolist() == [2]
    assert train.ids.tolist() == [10, 30] and val.ids.tolist() == [20]


def test_training_images_are_shrunk_to_512_pixels_and_validation_images_kept(
    subset: Path, coco: Path
) -> None:
    name = "000000000002.jpg"
    sizes = [cv2.imread(str(subset / "train2017" / f"{n:012d}.jpg")).shape[:2] for n in (1, 3)]

    assert sizes == [(512, 385), (384, 512)]
    assert (subset / "val2017" / name).read_bytes() == (coco / "train2017" / name).read_bytes()


def test_persons_are_in_the_pixels_of_the_shrunk_image(subset: Path) -> None:
    train = load_split(subset, "train2017")
    x_scale, y_scale = 385 / 481, 512 / 640
    x, y, width, height = PERSON["bbox"]

    expected = [x * x_scale, y * y_scale, width * x_scale, height * y_scale]
    assert train.boxes[0].tolist() == [round(value, 2) for value in expected]
    assert train.areas[0] == pytest.approx(64000 * x_scale * y_scale, abs=1e-3)
    assert train.keypoints[0, 16].tolist() == [round(301 * x_scale, 1), round(402 * y_scale, 1), 1]
    assert train.keypoints[0, 1].tolist() == [0, 0, 0]


def test_detections_are_drawn_from_a_seed(subset: Path, coco: Path, lists: Path) -> None:
    name = "person_detection_results/val2017_simulated_detections.json"
    again = make_coco_subset(coco, subset.with_name("again"), lists)

    assert (again / name).read_bytes() == (subset / name).read_bytes()
    assert load_detections(subset / name, load_split(subset, "val2017")).scores.max() > 0.5


def test_a_folder_that_is_there_is_not_touched(subset: Path, coco: Path, lists: Path) -> None:
    (subset / "mine.txt").touch()

    with pytest.raises(HwlError, match="subset is there already"):
        make_coco_subset(coco, subset, lists)

    assert (subset / "mine.txt").exists()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("annotations/person_keypoints_val2017.json", r"val2017\.json: .* `hwl data coco` fetches"),
        ("val2017/000000000003.jpg", r"0003\.jpg is missing: `hwl data coco` fetches it"),
    ],
)
def test_a_missing_official_file_is_named_and_nothing_left(
    gone: str, message: str, coco: Path, lists: Path, tmp_path: Path
) -> None:
    (coco / gone).unlink()

    with pytest.raises(HwlError, match=message):
        make_coco_subset(coco, tmp_path / "subset", lists)

    assert list(tmp_path.glob("subset*")) == []


def test_a_folder_that_is_named_as_unfinished_ones_are_is_left_alone(
    coco: Path, lists: Path, tmp_path: Path
) -> None:
    (tmp_path / "subset.partial").mkdir()
    (tmp_path / "subset.partial/mine.txt").touch()

    make_coco_subset(coco, tmp_path / "subset", lists)

    assert (tmp_path / "subset.partial/mine.txt").exists()


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    coco: Path, lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detect(*_: object) -> list:
        (tmp_path / "subset/train2017").mkdir(parents=True, exist_ok=True)
        return []

    monkeypatch.setattr("hwl.data.coco_subset._detections", detect)

    with pytest.raises(HwlError, match="subset is there already"):
        make_coco_subset(coco, tmp_path / "subset", lists)

    assert [path.name for path in tmp_path.glob("*subset*")] == ["subset"]


@pytest.mark.parametrize("field", ["num_keypoints", "iscrowd", "bbox", "keypoints"])
def test_a_person_without_a_needed_field_is_named(
    field: str, coco: Path, lists: Path, tmp_path: Path
) -> None:
    path = coco / "annotations/person_keypoints_train2017.json"
    listing = json.loads(path.read_text())
    del listing["annotations"][1][field]
    path.write_text(json.dumps(listing))

    with pytest.raises(HwlError, match=rf"train2017\.json .*`{field}`.*\$\.annotations\[1\]"):
        make_coco_subset(coco, tmp_path / "subset", lists)


def test_an_annotation_file_that_is_cut_short_is_named(
    coco: Path, lists: Path, tmp_path: Path
) -> None:
    path = coco / "annotations/person_keypoints_val2017.json"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(HwlError, match=r"val2017\.json is not .* `hwl data coco` fetches"):
        make_coco_subset(coco, tmp_path / "subset", lists)


def test_an_image_that_is_cut_short_is_named(coco: Path, lists: Path, tmp_path: Path) -> None:
    path = coco / "train2017/000000000001.jpg"
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(HwlError, match=r"0001\.jpg: cannot be decoded"):
        make_coco_subset(coco, tmp_path / "subset", lists)


def test_a_folder_whose_name_is_not_utf8_is_refused_and_does_not_end_the_interpreter(
    coco: Path, lists: Path, tmp_path: Path
) -> None:
    other = coco.rename(tmp_path / os.fsdecode(b"coco-\xff"))

    with pytest.raises(HwlError, match="is not UTF-8; rename it"):
        make_coco_subset(other, tmp_path / "subset", lists)


def test_an_image_that_is_in_no_official_split_is_named(
    coco: Path, lists: Path, tmp_path: Path
) -> None:
    (lists / "val2017.txt").write_text("7\n")

    with pytest.raises(HwlError, match="lists no image 7"):
        make_coco_subset(coco, tmp_path / "subset", lists)


def test_the_lists_of_both_splits_share_no_image() -> None:
    train, val = (
        {int(x) for x in (LISTS / f"{name}.txt").read_text().split()} for name in OFFICIAL
    )

    assert (len(train), len(val), train & val) == (1717, 400, set())


@pytest.mark.parametrize("split", OFFICIAL)
def test_the_lists_are_the_images_of_the_folder_that_was_measured(split: str, shared: Path) -> None:
    measured = load_split(shared / "data/coco-subset", split)

    listed = [int(line) for line in (LISTS / f"{split}.txt").read_text().split()]
    assert measured.image_ids.tolist() == listed
