"""Annotation files: what is read is right, and every fault is named with its file and entry."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hwl.data.annotations import Annotations, load_annotations, load_detections, load_split
from hwl.data.check import check_split
from hwl.errors import HwlError
from hwl.skeletons import COCO, LSP

Content = dict[str, list]


def person(number: int, image: int, **changes: object) -> dict[str, object]:
    """Annotation `number` of a three-keypoint skeleton, its numbers told apart by that number."""
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [number, 2, 30, 40],
        "area": 600.5 + number,
        "keypoints": [number, 5, 2, number + 1.5, 6, 1, 0, 0, 0],
        **changes,
    }


def content() -> Content:
    """Two images whose ids are not in order, three persons, one of them a crowd."""
    return {
        "images": [
            {"id": 70, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 30, "file_name": "a.png", "width": 20, "height": 10},
        ],
        "categories": [
            {"id": 1, "name": "face", "keypoints": ["nose", "left_eye", "right_eye"]},
            {"id": 2, "name": "cat"},
        ],
        "annotations": [person(11, 30), person(12, 70, iscrowd=1), person(13, 70, head_size=9.5)],
    }


def load(folder: Path, raw: Content) -> Annotations:
    path = folder / "keypoints.json"
    path.write_text(json.dumps(raw))
    return load_annotations(path, folder)


def test_arrays_of_a_tiny_file_are_right(tmp_path: Path) -> None:
    found = load(tmp_path, content())

    assert found.skeleton.keypoints == ("nose", "left_eye", "right_eye")
    assert found.image_ids.tolist() == [70, 30]
    assert found.file_names == ("b.png", "a.png")
    assert found.image_sizes.tolist() == [[40, 30], [20, 10]]
    assert found.ids.tolist() == [11, 12, 13]
    assert found.image_index.tolist() == [1, 0, 0]
    assert found.boxes.tolist() == [[n, 2, 30, 40] for n in (11, 12, 13)]
    assert found.areas.tolist() == [611.5, 612.5, 613.5]
    assert found.keypoints[2].tolist() == [[13, 5, 2], [14.5, 6, 1], [0, 0, 0]]
    assert found.crowd.tolist() == [False, True, False]
    np.testing.assert_array_equal(found.head_sizes, [np.nan, np.nan, 9.5])
    assert found.image_path(1) == tmp_path / "a.png"


def test_persons_of_other_categories_are_left_out(tmp_path: Path) -> None:
    raw = content()
    raw["annotations"].insert(0, person(10, 30, category_id=2, keypoints=[]))

    assert load(tmp_path, raw).ids.tolist() == [11, 12, 13]


@pytest.mark.parametrize(
    ("split", "images", "persons"), [("train", 1717, 4579), ("val", 400, 1111)]
)
def test_the_coco_subset_is_read(shared: Path, split: str, images: int, persons: int) -> None:
    found = load_split(shared / "data/coco-subset", f"{split}2017")

    assert (len(found.image_ids), len(found.ids)) == (images, persons)
    assert found.skeleton is COCO and found.keypoints.shape == (persons, 17, 3)
    assert found.image_path(0).parent.name == f"{split}2017"
    assert len(found.annotated()) == persons  # as its README says


def test_leeds_sports_is_read_with_its_one_folder_of_images(shared: Path) -> None:
    found = load_split(shared / "data/lsp", "test")

    assert found.skeleton is LSP and found.keypoints.shape == (1000, 14, 3)
    assert found.image_path(0) == shared / "data/lsp/images/im1001.jpg"


def test_test_dev_is_a_list_of_images_in_the_test_splits_folder(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test2017").mkdir()
    raw = {"images": content()["images"], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "annotations/image_info_test-dev2017.json").write_text(json.dumps(raw))

    found = load_split(tmp_path, "test-dev2017")

    assert found.image_path(0) == tmp_path / "test2017/b.png" and not len(found.ids)


def drop(key: str, index: int) -> Callable[[Content], object]:
    return lambda raw: raw["annotations"][index].pop(key)


def change(part: str, index: int, **values: object) -> Callable[[Content], object]:
    return lambda raw: raw[part][index].update(values)


FAULTS = {
    "wrong type": (change("images", 1, width="wide"), r"Expected `int`.*images\[1\]\.width"),
    "no area": (drop("area", 2), r"`area`.*annotations\[2\]"),
    "too few keypoints": (change("annotations", 2, keypoints=[1, 2, 2]), "annotation 13 has 3 num"),
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


def test_a_skeleton_without_flip_pairs_is_warned_of(tmp_path: Path) -> None:
    raw = content()
    raw["categories"][0]["keypoints"] = ["nose", "ojo izquierdo", "ojo derecho"]

    with pytest.warns(UserWarning, match=r"keypoints\.json: no two keypoints of skeleton face are"):
        load(tmp_path, raw)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pairs", [[], [["ojo izquierdo", "ojo derecho"]]])
def test_the_file_can_say_which_pairs_there_are(tmp_path: Path, pairs: list[list[str]]) -> None:
    raw = content()
    keypoints = ["nose", "ojo izquierdo", "ojo derecho"]
    raw["categories"][0].update(keypoints=keypoints, flip_pairs=pairs)

    found = load(tmp_path, raw)

    assert found.skeleton.flip.tolist() == ([0, 2, 1] if pairs else [0, 1, 2])


def test_a_file_of_images_only_has_cocos_keypoints_and_no_person(tmp_path: Path) -> None:
    raw = {"images": content()["images"], "categories": [{"id": 1, "name": "person"}]}

    found = load(tmp_path, raw)

    assert found.skeleton is COCO and len(found.image_ids) == 2
    assert found.boxes.shape == (0, 4) and found.keypoints.shape == (0, 17, 3)


@pytest.mark.parametrize(
    "why",
    [
        {"iscrowd": 1},
        {"bbox": [1, 2, 1, 8]},
        {"bbox": [1, 2, 9, 1]},
        {"bbox": [19, 2, 9, 8]},
        {"bbox": [1, 9, 9, 8]},
        {"bbox": [20, 2, 9, 8]},
        {"bbox": [500, 2, 9, 8]},
        {"area": 0},
        {"keypoints": [5, 5, 0] * 3},
    ],
    ids=str,
)
def test_a_person_with_nothing_to_learn_is_not_annotated(
    tmp_path: Path, why: dict[str, object]
) -> None:
    raw = content()
    raw["annotations"][0].update(why)

    assert load(tmp_path, raw).annotated().tolist() == [2]


# Of the image of 20 x 10 pixels the columns 0 to 19 count.
@pytest.mark.parametrize(
    "box", [[18, 8, 2, 2], [18, 8, 99, 99], [-50, -50, 1.5, 1.5], [0, 0, 2, 2]]
)
def test_a_box_of_two_pixels_within_the_image_is_enough(tmp_path: Path, box: list[float]) -> None:
    raw = content()
    raw["annotations"][0]["bbox"] = box

    assert load(tmp_path, raw).annotated().tolist() == [0, 2]


def test_a_file_without_a_annotated_person_is_named(tmp_path: Path) -> None:
    raw = content()
    raw["annotations"] = [person(12, 70, iscrowd=1)]
    found = load(tmp_path, raw)

    with pytest.raises(HwlError, match=r"keypoints\.json: the data set is empty, no person"):
        found.annotated()


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ({"iscrowd": 1}, "3 are crowds$"),
        ({"keypoints": [0] * 9}, "1 are crowds, 2 have no annotated keypoint$"),
        ({"area": 0}, "1 are crowds, 2 have no area$"),
        ({"bbox": [0, 0, 0, 0]}, "1 are crowds, 2 have a box of at most a pixel within the image$"),
    ],
)
def test_an_empty_data_set_says_why_its_persons_are_left_out(
    tmp_path: Path, why: dict[str, object], reason: str
) -> None:
    raw = content()
    for number in (0, 2):
        raw["annotations"][number].update(why)

    with pytest.raises(HwlError, match=f"no person to learn from: of 3, {reason}"):
        load(tmp_path, raw).annotated()


def test_a_negative_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match="limit is -1: it must not be negative"):
        load(tmp_path, content()).first(-1)


def test_first_keeps_only_these_persons_and_images(tmp_path: Path) -> None:
    raw = content()
    raw["images"].append({"id": 50, "file_name": "c.png", "width": 45, "height": 36})
    raw["annotations"][1:1] = [person(20, 50), person(21, 50, keypoints=[0] * 9)]

    found = load(tmp_path, raw).first(2)

    assert found.ids.tolist() == [11, 20]
    assert found.image_ids.tolist() == [30, 50] and found.file_names == ("a.png", "c.png")
    assert found.image_sizes.tolist() == [[20, 10], [45, 36]]
    assert found.image_index.tolist() == [0, 1]
    assert found.areas.tolist() == [611.5, 620.5]
    assert found.boxes[:, 0].tolist() == [11, 20] and found.keypoints[:, 0, 0].tolist() == [11, 20]
    assert len(found.crowd) == len(found.head_sizes) == 2


def test_first_of_nothing_keeps_everything(tmp_path: Path) -> None:
    found = load(tmp_path, content())

    assert found.first(0) is found


def test_ground_truth_boxes_are_the_annotated_persons_own_clipped(tmp_path: Path) -> None:
    raw = content()
    raw["annotations"][2]["bbox"] = [-13, 2, 30, 20]

    boxes = load(tmp_path, raw).ground_truth_boxes()

    assert boxes.boxes.tolist() == [[11, 2, 8, 7], [0, 2, 29, 19]]
    assert boxes.image_index.tolist() == [1, 0] and boxes.scores.tolist() == [1, 1]
    assert boxes.source == "ground truth" and len(boxes) == 2


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


@pytest.mark.slow
def test_150_000_persons_load_in_seconds(tmp_path: Path) -> None:
    raw = content()
    raw["images"] = [
        {"id": 3 * n, "file_name": f"{n:012}.jpg", "width": 640, "height": 480}
        for n in range(60_000)
    ]
    raw["categories"] = [{**COCO.category(), "id": 1}]
    raw["annotations"] = []
    # One person as text, filled in by number: to build and dump the dictionaries takes longest.
    one = json.dumps(person(1, 2, keypoints=[311.25, 222.5, 2] * 17))
    one = one.replace('"id": 1,', '"id": %d,').replace('"image_id": 2,', '"image_id": %d,')
    persons = ",".join(one % (n, n % 60_000 * 3) for n in range(150_000))
    path = tmp_path / "large.json"
    path.write_text(json.dumps(raw)[:-2] + persons + "]}")
    start = time.perf_counter()

    found = load_annotations(path, tmp_path)

    seconds = time.perf_counter() - start
    print(f"{path.stat().st_size / 1e6:.0f} MB in {seconds:.1f} s")
    assert found.keypoints.shape == (150_000, 17, 3) and found.image_index[-1] == 149_999 % 60_000
    assert seconds < 20


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


def test_the_check_names_every_wrong_image(tmp_path: Path) -> None:
    write_split(tmp_path, {"b.png": (30, 40)})

    with pytest.raises(HwlError) as failure:
        check_split(tmp_path, "val")

    first, *rest = str(failure.value).splitlines()
    assert first == "2 of 2 images are wrong:"
    assert re.search(r"b\.png is 30x40 pixels, .*val\.json says 40x30", rest[0])
    assert "a.png: there is no such file" in rest[1]


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
