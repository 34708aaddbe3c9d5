"""Detections files: which boxes are read, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwl.data.annotations import load_detections
from hwl.errors import HwlError

from .annotation_files import content, load


def detections(folder: Path, *found: tuple[int, int]) -> Path:
    """A file of detected boxes, each a (image id, category id)."""
    path = folder / "found.json"
    boxes = [
        {"image_id": i, "category_id": c, "bbox": [n - 9, 1, 99, 3], "score": n / 8}
        for n, (i, c) in enumerate(found)
    ]
    path.write_text(json.dumps(boxes))
    return path


def test_detected_persons_are_read_with_all_scores_and_unclipped(tmp_path: Path) -> None:
    annotations = load(tmp_path, content())

    boxes = load_detections(detections(tmp_path, (30, 1), (70, 2), (70, 1)), annotations)

    assert boxes.image_index.tolist() == [1, 0]
    assert boxes.boxes.tolist() == [[-9, 1, 99, 3], [-7, 1, 99, 3]]
    assert boxes.scores.tolist() == [0, 0.25] and boxes.source == "found.json"


def test_a_detection_in_an_unknown_image_is_named_by_its_entry_in_the_file(
    tmp_path: Path,
) -> None:
    annotations = load(tmp_path, content())

    with pytest.raises(HwlError, match=r"found\.json: entry 2 is in image 4"):
        load_detections(detections(tmp_path, (30, 1), (70, 2), (4, 1)), annotations)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"no person box \(category_id 1 of keypoints\.json\) among its 0 boxes$"),
        ([(30, 2), (70, 9)], r"among its 2 boxes, whose category_ids are \[2, 9\]"),
    ],
)
def test_detections_without_a_person_are_refused(
    tmp_path: Path, found: list[tuple[int, int]], message: str
) -> None:
    annotations = load(tmp_path, content())

    with pytest.raises(HwlError, match=rf"found\.json: .*{message}"):
        load_detections(detections(tmp_path, *found), annotations)


def test_detections_of_the_files_own_person_category_are_read(tmp_path: Path) -> None:
    raw = content()
    raw["categories"][0]["id"] = 5
    for one in raw["annotations"]:
        one["category_id"] = 5
    annotations = load(tmp_path, raw)

    boxes = load_detections(detections(tmp_path, (30, 1), (70, 5)), annotations)

    assert annotations.category_id == 5
    assert boxes.image_index.tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bbox": [1, 1, 0, 0]}, "entry 1 has a 'bbox' without extent"),
        ({"bbox": [1, 1, -2, 5]}, "entry 1 has a 'bbox' without extent"),
        ({"bbox": [1, 1, 5, -2]}, "entry 1 has a 'bbox' without extent"),
        ({"bbox": [1e300, 1, 5, 2]}, "entry 1 has a 'bbox' with numbers beyond"),
        ({"bbox": [1, float("nan"), 5, 2]}, "is not a COCO-format file"),
        ({"score": float("inf")}, "is not a COCO-format file"),
        ({"score": float("nan")}, "is not a COCO-format file"),
        ({"image_id": 2**63}, "Expected `int` <= "),
    ],
    ids=str,
)
def test_an_impossible_detection_is_named_by_its_entry(
    tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    annotations = load(tmp_path, content())
    path = detections(tmp_path, (30, 2), (30, 1))
    boxes = json.loads(path.read_text())
    boxes[1].update(wrong)
    path.write_text(json.dumps(boxes))

    with pytest.raises(HwlError, match=rf"found\.json.*{message}"):
        load_detections(path, annotations)


def test_a_detected_line_is_a_box_as_in_the_original(tmp_path: Path) -> None:
    annotations = load(tmp_path, content())
    path = detections(tmp_path, (30, 1))
    path.write_text(path.read_text().replace("99", "0"))

    assert load_detections(path, annotations).boxes.tolist() == [[-9, 1, 0, 3]]
