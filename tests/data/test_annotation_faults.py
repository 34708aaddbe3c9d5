"""Every fault of an annotation file is named with its file and entry."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwl.data.annotations import load_annotations, load_split
from hwl.errors import HwlError

from .annotation_files import Content, content, load, person


def drop(key: str, index: int) -> Callable[[Content], object]:
    return lambda raw: raw["annotations"][index].pop(key)


def change(part: str, index: int, **values: object) -> Callable[[Content], object]:
    return lambda raw: raw[part][index].update(values)


FAULTS = {
    "wrong type": (change("images", 1, width="wide"), r"Expected `int`.*images\[1\]\.width"),
    "no area": (drop("area", 2), r"`area`.*annotations\[2\]"),
    "too few keypoints": (change("annotations", 2, keypoints=[1, 2, 2]), "annotation 13 has 3 num"),
    "no keypoints": (drop("keypoints", 2), "annotation 13 has 0 numbers in 'keypoints'"),
    "annotation id twice": (change("annotations", 2, id=11), "id 11 occurs twice in 'annotations'"),
    "image id twice": (change("images", 1, id=70), "id 70 occurs twice in 'images'"),
    "unknown image": (change("annotations", 1, image_id=5), "annotation 12 is in image 5"),
    "no keypoint names": (change("categories", 0, keypoints=[]), "no category lists 'keypoints'"),
    "two keypoint sets": (change("categories", 1, keypoints=["tail"]), "more than one category"),
    "no partner": (change("categories", 0, keypoints=["left_eye"]), "'left_eye' has no partner"),
    "wrong flip pairs": (
        change("categories", 0, flip_pairs=[["left_eye", "ear"]]),
        "'flip_pairs' names 'ear'",
    ),
    "no images": (lambda raw: raw["images"].clear(), "data set is empty, 'images'"),
    "no width": (change("images", 1, width=0), r"`int` >= 1.*images\[1\]\.width"),
    "unlisted category": (
        change("annotations", 1, category_id=7),
        "annotation 12 has category_id 7, which 'categories' does not list",
    ),
    "category id twice": (change("categories", 1, id=1), "id occurs twice in 'categories'"),
    "no person of the category": (
        lambda raw: [person.update(category_id=2) for person in raw["annotations"]],
        "none of its 3 annotations is of category 1, the one with keypoints",
    ),
    "image id beyond 64 bits": (change("images", 0, id=2**63), r"Expected `int` <= .*images\[0\]"),
    "person id beyond 64 bits": (
        change("annotations", 0, id=-(2**63) - 1),
        r"Expected `int` >= .*annotations\[0\]\.id",
    ),
    "category id beyond 64 bits": (change("categories", 0, id=2**63), "Expected `int` <= "),
    "visibility 3": (
        change("annotations", 2, keypoints=[1, 1, 3, *[2] * 6]),
        "annotation 13 has 'keypoints' with a visibility other than 0, 1 and 2",
    ),
    "visibility half": (change("annotations", 2, keypoints=[0.5] * 9), "13 has .* visibility"),
    "keypoint far away": (
        change("annotations", 2, keypoints=[-1e7, 1, 2, *[2] * 6]),
        "annotation 13 has 'keypoints' beyond",
    ),
    "box far away": (change("annotations", 1, bbox=[1e308, 0, 5, 5]), "annotation 12 has a 'bbox'"),
    "infinite area": (change("annotations", 1, area=float("inf")), "is not a COCO-format file"),
    "number too large": (change("annotations", 1, area="@1e999@"), "Number out of range"),
    "negative area": (change("annotations", 1, area=-5), "annotation 12 has an 'area' outside 0"),
    "area too large": (change("annotations", 1, area=2e10), "annotation 12 has an 'area' outside"),
    "no head": (change("annotations", 2, head_size=0), "13 has a 'head_size' that is not positive"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_by_file_and_entry(tmp_path: Path, fault: str) -> None:
    raw = content()
    spoil, message = FAULTS[fault]
    spoil(raw)
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(raw).replace('"@', "").replace('@"', ""))

    with pytest.raises(HwlError, match=rf"keypoints\.json.*{message}"):
        load_annotations(path, tmp_path)


def test_an_unknown_image_is_named_by_the_annotation_though_others_are_left_out(
    tmp_path: Path,
) -> None:
    raw = content()
    raw["annotations"].insert(0, person(10, 30, category_id=2, keypoints=[]))
    raw["annotations"][2]["image_id"] = 5

    with pytest.raises(HwlError, match="annotation 12 is in image 5"):
        load(tmp_path, raw)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"person_keypoints_val\.json: cannot be read \(No such"):
        load_split(tmp_path, "val")


def test_broken_json_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(content())[:200])

    with pytest.raises(HwlError, match=r"keypoints\.json is not a COCO-format file: .*truncated"):
        load_annotations(path, tmp_path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b'{"images": "\xff"}', b'["\\ud800"]', b'{"info": ' + b"[" * 9999]
)
def test_a_file_that_is_no_json_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keypoints.json"
    path.write_bytes(content)

    with pytest.raises(HwlError, match=r"keypoints\.json is not a COCO-format file"):
        load_annotations(path, tmp_path)


HOSTILE = [
    *(-1, 0, 1, 3, 0.5, 1e9, -1e308, 2**63, -(2**63), float("nan"), float("inf")),
    *("", "\0", "\ud800", "../..", "a" * 5000, None, True, [], [1], [[]], {}, {"id": 1}),
]


def places(value: object, place: tuple = ()) -> list[tuple]:
    """The way to every value in a JSON document, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*place, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*place, key))
    return found


@pytest.mark.filterwarnings("ignore:.*flip_pairs")
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_any_value_at_any_place_is_used_or_refused_in_one_error(
    tmp_path: Path, value: object
) -> None:
    raw = content()
    raw["categories"][0].update(skeleton=[[1, 2]], flip_pairs=[["left_eye", "right_eye"]])
    raw = {name: entries[:1] for name, entries in raw.items()}
    raw["images"][0]["id"] = raw["annotations"][0]["image_id"]
    for place in places(raw):
        changed = json.loads(json.dumps(raw))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

        with contextlib.suppress(HwlError):
            found = load(tmp_path, changed)
            boxes = found.ground_truth_boxes()
            assert np.isfinite(boxes.boxes).all() and (boxes.boxes[:, 2:] > 0).all()
            assert len(found.first(1).ids) == 1 and len(found.skeleton.flip) == len(found.skeleton)
            found.read_image(0)
