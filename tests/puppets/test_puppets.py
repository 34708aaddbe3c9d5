"""Tests of the built-in puppets: their files, their annotations and where keypoints are drawn."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.mask import iou

from hwl.errors import HwlError
from hwl.puppets import bodies, dataset
from hwl.puppets.bodies import TORSO, Body, body_shapes, sample_body
from hwl.puppets.config import PuppetConfig
from hwl.puppets.dataset import make_puppets
from hwl.puppets.scenes import Canvas, Person, draw_scene

NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_HIP = 0, 5, 6, 7, 8, 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of 20 train and 60 val images, drawn by two processes."""
    path = tmp_path_factory.mktemp("data") / "puppets"
    return make_puppets(PuppetConfig(str(path), 20, 60, seed=7), processes=2)


@pytest.fixture
def upright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only figures that stand on their feet."""
    monkeypatch.setattr(bodies, "FALLEN_CHANCE", 0)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def listing(folder: Path, split: str) -> dict:
    return json.loads((folder / f"annotations/person_keypoints_{split}.json").read_bytes())


def annotations(folder: Path) -> list[tuple[dict, dict]]:
    """All annotations of both splits, each with its image's entry."""
    pairs = []
    for split in ("train2017", "val2017"):
        entries = listing(folder, split)
        images = {image["id"]: image for image in entries["images"]}
        pairs += [(person, images[person["image_id"]]) for person in entries["annotations"]]
    return pairs


def keypoints_of(person: dict) -> np.ndarray:
    return np.array(person["keypoints"]).reshape(17, 3)


def lone_people(occluder_chance: float) -> list[Person]:
    """The people of 25 scenes of one figure each."""
    scenes = [draw_scene(np.random.default_rng(i), 1, occluder_chance) for i in range(25)]
    return [person for _, people in scenes for person in people]


def test_same_seed_gives_the_same_bytes_for_any_number_of_processes(
    folder: Path, tmp_path: Path
) -> None:
    again = make_puppets(PuppetConfig(str(tmp_path / "again"), 20, 60, seed=7), processes=1)
    assert contents(again) == contents(folder)


def test_other_seed_gives_other_images(folder: Path, tmp_path: Path) -> None:
    other = make_puppets(PuppetConfig(str(tmp_path / "other"), 2, 0, seed=8), processes=1)
    image = "train2017/000000000001.jpg"
    assert (other / image).read_bytes() != (folder / image).read_bytes()


def test_train_and_val_images_differ(folder: Path) -> None:
    first = (folder / "train2017/000000000001.jpg").read_bytes()
    assert first != (folder / "val2017/000000000021.jpg").read_bytes()


def test_every_listed_image_is_a_file_of_the_listed_size(folder: Path) -> None:
    for split, count in (("train2017", 20), ("val2017", 60)):
        images = listing(folder, split)["images"]
        sizes = [cv2.imread(str(folder / split / image["file_name"])).shape for image in images]
        assert len(images) == len(list((folder / split).iterdir())) == count
        assert sizes == [(image["height"], image["width"], 3) for image in images]


def test_annotated_keypoints_lie_in_the_image_and_others_are_zero(folder: Path) -> None:
    for person, image in annotations(folder):
        x, y, visibility = keypoints_of(person).T
        annotated = visibility > 0
        assert set(visibility) <= {0, 1, 2}
        assert (x[annotated] >= 0).all() and (x[annotated] <= image["width"] - 1).all()
        assert (y[annotated] >= 0).all() and (y[annotated] <= image["height"] - 1).all()
        assert not x[~annotated].any() and not y[~annotated].any()


def test_num_keypoints_counts_the_annotated_keypoints_of_which_there_are_three(
    folder: Path,
) -> None:
    for person, _ in annotations(folder):
        assert person["num_keypoints"] == np.count_nonzero(keypoints_of(person)[:, 2]) >= 3


def test_all_three_visibilities_occur(folder: Path) -> None:
    seen = np.concatenate([keypoints_of(person)[:, 2] for person, _ in annotations(folder)])
    shares = np.bincount(seen.astype(int)) / len(seen)
    assert shares[0] > 0.03 and shares[1] > 0.05 and shares[2] > 0.5


def test_box_lies_in_the_image_and_is_not_tiny(folder: Path) -> None:
    for person, image in annotations(folder):
        left, top, width, height = person["bbox"]
        assert left >= 0 and left + width <= image["width"]
        assert top >= 0 and top + height <= image["height"]
        assert max(width, height) >= 40


def test_area_is_positive_and_at_most_the_box(folder: Path) -> None:
    for person, _ in annotations(folder):
        assert 0 < person["area"] <= person["bbox"][2] * person["bbox"][3]


def test_box_contains_nearly_all_annotated_keypoints(folder: Path) -> None:
    inside = []
    for person, _ in annotations(folder):
        left, top, width, height = person["bbox"]
        for x, y, visibility in keypoints_of(person):
            if visibility:
                inside.append(left <= x <= left + width and top <= y <= top + height)
    assert np.mean(inside) > 0.99


def test_ids_are_unique_over_both_splits(folder: Path) -> None:
    pairs = annotations(folder)
    assert len({person["id"] for person, _ in pairs}) == len(pairs)
    images = listing(folder, "train2017")["images"] + listing(folder, "val2017")["images"]
    assert len({image["id"] for image in images}) == len(images) == 80


def test_images_have_about_two_people_each_and_sometimes_a_crowd(folder: Path) -> None:
    counts = defaultdict(int)
    for person, _ in annotations(folder):
        counts[person["image_id"]] += 1
    assert 1.6 < sum(counts.values()) / 80 < 3
    assert max(counts.values()) >= 4


def test_pycocotools_reads_the_annotations_and_the_detections(folder: Path) -> None:
    truth = COCO(folder / "annotations/person_keypoints_val2017.json")
    results = folder / "person_detection_results/val2017_simulated_detections.json"
    found = truth.loadRes(str(results))
    category = truth.loadCats(truth.getCatIds(["person"]))[0]
    assert category["id"] == 1 and len(category["keypoints"]) == 17
    assert len(category["skeleton"]) == 19
    assert set(found.getImgIds()) == set(truth.getImgIds())
    assert len(found.getAnnIds()) > 60


def matches(folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Best IoU of each person, and best IoU and score of each detection, in the val images."""
    truths, found = defaultdict(list), defaultdict(list)
    for person in listing(folder, "val2017")["annotations"]:
        truths[person["image_id"]].append(person["bbox"])
    results = folder / "person_detection_results/val2017_simulated_detections.json"
    for detection in json.loads(results.read_bytes()):
        found[detection["image_id"]].append((detection["bbox"], detection["score"]))
    covered, quality, scores = [], [], []
    for image_id, boxes in truths.items():
        guesses = [box for box, _ in found[image_id]] or [[0, 0, 1, 1]]
        table = iou(np.array(guesses, float), np.array(boxes, float), [0] * len(boxes))
        covered += table.max(axis=0).tolist()
        if found[image_id]:
            quality += table.max(axis=1).tolist()
            scores += [score for _, score in found[image_id]]
    return covered, quality, scores


def test_detections_cover_most_people_but_not_all(folder: Path) -> None:
    covered, _, _ = matches(folder)
    assert 0.8 <= np.mean(np.array(covered) >= 0.5) <= 0.99


def test_detections_include_some_false_alarms(folder: Path) -> None:
    _, quality, _ = matches(folder)
    assert 0.03 < np.mean(np.array(quality) < 0.3) < 0.3


def test_detection_scores_follow_quality(folder: Path) -> None:
    _, quality, scores = matches(folder)
    assert np.corrcoef(quality, scores)[0, 1] > 0.5
    assert min(scores) > 0 and max(scores) < 1


def test_visible_keypoints_of_a_lone_figure_lie_on_its_silhouette() -> None:
    people = lone_people(occluder_chance=0)
    assert len(people) > 20
    for person in people:
        x, y, visibility = np.round(person.keypoints).astype(int).T
        assert person.mask[y[visibility == 2], x[visibility == 2]].all()


def paint_alone(seed: int, yaw: float) -> tuple[Body, np.ndarray, np.ndarray]:
    """A body, its image (240, 320, 3) on plain gray and its mask."""
    canvas = Canvas(np.full((240, 320, 3), 128, np.float32), np.zeros((240, 320), np.int16))
    body, mask = sample_body(np.random.default_rng(seed), 200, (160, 120), yaw), canvas.tags > 0
    for shape in body_shapes(body):
        canvas.paint(shape, 1, mask)
    return body, canvas.image, mask


@pytest.mark.parametrize("yaw", [0, 45, 90, 180])
def test_figure_is_painted_where_its_mask_is_and_nowhere_else(yaw: float) -> None:
    _, image, mask = paint_alone(4, yaw)
    painted = np.abs(image - 128).max(axis=2) > 12
    fringe = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0
    assert painted[mask].mean() > 0.9
    assert not painted[~fringe].any()


def test_eyes_in_view_are_painted_as_dark_pupils(upright: None) -> None:
    shades = []
    for seed in range(10):
        body, image, _ = paint_alone(seed, yaw=0)
        wide_open = body.keypoints[1:3, 2] > body.head[2] + 0.5 * body.head_radius
        for x, y, _ in body.keypoints[1:3][wide_open]:
            shades.append(image[round(y), round(x)].mean())
    assert len(shades) > 8
    assert np.median(shades) < 60


@pytest.mark.parametrize(("yaw", "sign"), [(0, 1), (180, -1)])
def test_left_shoulder_is_on_the_right_from_the_front_and_on_the_left_from_the_back(
    yaw: float, sign: int, upright: None
) -> None:
    for seed in range(20):
        keypoints = sample_body(np.random.default_rng(seed), 200, (160, 120), yaw).keypoints
        assert sign * (keypoints[LEFT_SHOULDER, 0] - keypoints[RIGHT_SHOULDER, 0]) > 0


@pytest.mark.parametrize(("yaw", "share"), [(0, 1.0), (180, 0.0)])
def test_nose_is_in_view_from_the_front_only(yaw: float, share: float, upright: None) -> None:
    bodies = [sample_body(np.random.default_rng(i), 200, (160, 120), yaw) for i in range(20)]
    assert np.mean([body.in_view[NOSE] for body in bodies]) == pytest.approx(share, abs=0.1)


def test_head_is_above_the_hips(upright: None) -> None:
    bodies = [sample_body(np.random.default_rng(i), 200, (160, 120)) for i in range(20)]
    assert np.mean([body.head[1] < body.keypoints[LEFT_HIP, 1] for body in bodies]) > 0.8


def test_figure_turned_by_90_degrees_looks_to_the_right(upright: None) -> None:
    bodies = [sample_body(np.random.default_rng(i), 200, (160, 120), 90) for i in range(20)]
    assert all(body.keypoints[NOSE, 0] > body.head[0] for body in bodies)


def test_far_arm_is_painted_before_the_torso_and_the_near_arm_after(upright: None) -> None:
    shapes = body_shapes(sample_body(np.random.default_rng(0), 200, (160, 120), 90))
    order = [shape.part for shape in shapes]  # the left side is the far one
    last_torso = len(order) - 1 - order[::-1].index(TORSO)
    assert order.index(LEFT_ELBOW) < last_torso < order.index(RIGHT_ELBOW)


def test_occluders_hide_keypoints() -> None:
    free, hidden = (
        np.mean([person.keypoints[:, 2] == 1 for person in lone_people(chance)])
        for chance in (0, 1)
    )
    assert hidden > free + 0.1


def test_finished_folder_is_left_as_it_is(folder: Path) -> None:
    marked = folder / "train2017" / "mark.txt"
    marked.touch()
    again = make_puppets(PuppetConfig(str(folder), 20, 60, seed=7))
    assert again == folder and marked.exists()
    marked.unlink()


def test_of_two_makers_at_once_the_later_takes_the_folder_of_the_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "puppets"
    monkeypatch.setattr(dataset, "_fill", lambda *_: shutil.copytree(folder, made))

    assert make_puppets(PuppetConfig(str(made), 20, 60, seed=7)) == made
    assert contents(made) == contents(folder)


def test_folder_of_another_config_is_refused(folder: Path) -> None:
    with pytest.raises(HwlError, match=f"{folder} .*remove it or set another folder"):
        make_puppets(PuppetConfig(str(folder), 20, 60, seed=8))


def test_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(HwlError, match=str(tmp_path)):
        make_puppets(PuppetConfig(str(tmp_path), 1, 0))
    assert contents(tmp_path) == {"thesis.txt": b"words"}


def test_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "COCO", None)  # the annotations cannot be written
    with pytest.raises(AttributeError):
        make_puppets(PuppetConfig(str(tmp_path / "puppets"), 1, 1), processes=1)
    assert list(tmp_path.iterdir()) == []


def test_killed_run_leaves_no_folder(tmp_path: Path) -> None:
    target = tmp_path / "puppets"
    code = (
        "from hwl.puppets.config import PuppetConfig\n"
        "from hwl.puppets.dataset import make_puppets\n"
        f"make_puppets(PuppetConfig({str(target)!r}, 5000, 0), processes=1)"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL,
                           start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 15
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert list(tmp_path.rglob("*.jpg"))  # it was at work
    assert not target.exists()


def killed(task: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_draw_image", killed)
    monkeypatch.setattr(dataset, "get_context", lambda how: get_context("fork"))

    with pytest.raises(HwlError, match="was killed, most likely because memory ran out; end"):
        make_puppets(PuppetConfig(str(tmp_path / "puppets"), 1, 1), processes=1)

    assert list(tmp_path.iterdir()) == []
