"""Annotation files: what is read is right, and who can be learned from."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from hwl.data.annotations import load_annotations, load_split
from hwl.errors import HwlError
from hwl.skeletons import COCO, LSP

from .annotation_files import content, load, person


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


def test_an_annotation_of_another_category_needs_no_keypoints(tmp_path: Path) -> None:
    raw = content()
    cat = person(14, 70, category_id=2)
    del cat["keypoints"]
    raw["annotations"].append(cat)

    assert load(tmp_path, raw).ids.tolist() == [11, 12, 13]
