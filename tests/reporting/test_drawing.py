"""Drawings: what is painted where, and that nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.inference.poses import Poses
from hwl.models import create_model, save_weights
from hwl.reporting.drawing import (
    LEFT,
    MIDDLE,
    RIGHT,
    best_and_worst,
    draw_pose,
    overlay,
    predict_and_draw,
)
from hwl.skeletons import COCO, LSP

SIZE = (64, 64)
BLACK = np.zeros((200, 160, 3), np.uint8)
# On a circle, so that no limb runs over a third keypoint.
ANGLES = np.arange(17) * 2 * np.pi / 17
KEYPOINTS = np.round(np.column_stack([80 + 70 * np.cos(ANGLES), 100 + 70 * np.sin(ANGLES)]))


def painted(image: np.ndarray, keypoint: np.ndarray) -> np.ndarray:
    """The color at a keypoint's pixel."""
    x, y = keypoint.astype(int)
    return image[y, x]


def test_a_pose_is_drawn_on_a_copy() -> None:
    image = np.full((200, 160, 3), 7, np.uint8)

    drawn = draw_pose(image, KEYPOINTS, np.ones(17), COCO)

    assert (image == 7).all() and (drawn != 7).any()
    assert drawn.shape == image.shape and drawn.dtype == np.uint8


def test_every_keypoint_is_painted_in_the_color_of_its_side() -> None:
    drawn = draw_pose(BLACK, KEYPOINTS, np.ones(17), COCO)

    for name, keypoint in zip(COCO.keypoints, KEYPOINTS, strict=True):
        side = LEFT if "left" in name else RIGHT if "right" in name else MIDDLE
        assert tuple(painted(drawn, keypoint)) == side


def test_a_keypoint_alone_is_painted_near_itself_only() -> None:
    scores = np.zeros(17)
    scores[3] = 1

    drawn = draw_pose(BLACK, KEYPOINTS, scores, COCO)

    y, x = np.nonzero(drawn.any(axis=2))
    assert len(x) > 10  # a disc
    assert np.hypot(x - KEYPOINTS[3, 0], y - KEYPOINTS[3, 1]).max() < 6


def test_a_limb_is_painted_between_its_keypoints() -> None:
    scores = np.zeros(17)
    ends = COCO.index("left_elbow"), COCO.index("left_wrist")
    scores[list(ends)] = 1

    drawn = draw_pose(BLACK, KEYPOINTS, scores, COCO)

    assert tuple(painted(drawn, KEYPOINTS[list(ends)].mean(axis=0))) == LEFT


def test_keypoints_not_above_the_threshold_and_their_limbs_are_left_out() -> None:
    scores = np.ones(17)
    elbow = COCO.index("left_elbow")
    scores[elbow] = 0.2
    middles = [KEYPOINTS[[a, b]].mean(axis=0) for a, b in COCO.limbs if elbow in (a, b)]

    drawn = draw_pose(BLACK, KEYPOINTS, scores, COCO)

    limbless = draw_pose(BLACK, KEYPOINTS, np.where(np.arange(17) == elbow, 0, 1), COCO)
    np.testing.assert_array_equal(drawn, limbless)
    whole = draw_pose(BLACK, KEYPOINTS, scores, COCO, threshold=0.1)
    assert not painted(drawn, KEYPOINTS[elbow]).any() and painted(whole, KEYPOINTS[elbow]).any()
    assert len(middles) == 2 and all(painted(whole, middle).any() for middle in middles)


def test_no_keypoint_above_the_threshold_leaves_the_image_as_it_is() -> None:
    assert not draw_pose(BLACK, KEYPOINTS, np.full(17, 0.2), COCO).any()


def test_keypoints_outside_of_the_image_do_no_harm() -> None:
    assert not draw_pose(BLACK, KEYPOINTS - 5000, np.ones(17), COCO).any()


def test_a_heatmap_is_brightest_over_its_maximum() -> None:
    heatmap = np.zeros((20, 16))
    heatmap[5, 10] = 0.3

    drawn = overlay(np.full_like(BLACK, 100), heatmap)

    brightness = drawn.sum(axis=2)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert abs(x - 105) <= 5 and abs(y - 55) <= 5
    assert drawn.shape == BLACK.shape and drawn.dtype == np.uint8


def test_an_empty_heatmap_makes_no_noise() -> None:
    assert (overlay(BLACK, np.zeros((20, 16))) == overlay(BLACK, np.zeros((20, 16)))[0, 0]).all()


def test_best_persons_come_first_then_the_worst(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), BLACK)
    keypoints = np.tile(np.column_stack([KEYPOINTS, np.full(17, 2)]), (4, 1, 1))
    keypoints[3, 2:, 2] = 0  # two keypoints annotated: too few to tell
    annotations = Annotations(
        *(tmp_path / "a.json", tmp_path, COCO, np.array([1]), ("a.png",), np.array([[160, 200]])),
        *(np.arange(4), np.zeros(4, int), np.tile([20.0, 20, 100, 150], (4, 1)), np.full(4, 1e4)),
        *(keypoints, np.zeros(4, bool), np.full(4, np.nan)),
    )
    moved = keypoints[:, :, :2] + np.array([8, 0, 25, 0])[:, None, None]
    persons = Poses(np.zeros(4, int), moved, np.ones((4, 17)), np.ones(4), np.ones(4))

    drawn, titles = best_and_worst(annotations, persons, 2)

    values = [float(title.removeprefix("OKS ")) for title in titles]
    assert values[0] == 1 and values[0] > values[1] == values[3] > values[2]
    assert len(drawn) == 4 and all(image.any() for image in drawn)
    assert drawn[0].shape == (192, 142, 3)  # the box and 0.15 of its height around, in the image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "ours.safetensors"
    torch.manual_seed(0)
    save_weights(create_model("ours", 14), path)
    return path


def images_in(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
    return paths


def test_drawings_and_keypoints_of_every_box_are_written(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "a.jpg", "b.png")
    boxes = [(5, 5, 40, 60), (20, 10, 30, 70)]
    output = tmp_path / "new/output"

    drawings = predict_and_draw(paths, weights, boxes, output, SIZE, flip=True)

    assert drawings == [output / "a.png", output / "b.png"]
    assert all(cv2.imread(str(path)).shape == (90, 70, 3) for path in drawings)
    written = json.loads((output / "keypoints.json").read_text())
    assert written["keypoints"] == list(LSP.keypoints)
    assert list(written["images"]) == [str(path) for path in paths]
    assert np.shape(written["images"][str(paths[0])]) == (2, 14, 3)


def test_without_boxes_each_image_is_one_person(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "a.jpg")

    predict_and_draw(paths, weights, [], tmp_path / "output", SIZE, flip=False)

    written = json.loads((tmp_path / "output/keypoints.json").read_text())
    assert np.shape(written["images"][str(paths[0])]) == (1, 14, 3)


def test_an_unreadable_image_is_named_before_anything_is_written(
    tmp_path: Path, weights: Path
) -> None:
    paths = [*images_in(tmp_path, "a.jpg"), tmp_path / "broken.jpg"]
    paths[1].write_text("no image")

    with pytest.raises(HwlError, match=r"broken\.jpg: cannot be decoded"):
        predict_and_draw(paths, weights, [], tmp_path / "output", SIZE, flip=False)

    assert not (tmp_path / "output").exists()


def test_a_drawing_does_not_take_its_images_place(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "a.jpg", "b.png")
    before = paths[1].read_bytes()

    with pytest.raises(HwlError, match=r"b\.png: its drawing .* would overwrite"):
        predict_and_draw(paths, weights, [], tmp_path, SIZE, flip=False)

    assert paths[1].read_bytes() == before and not (tmp_path / "a.png").exists()


def test_two_images_of_one_name_are_refused(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "one/a.jpg", "two/a.jpg")

    with pytest.raises(HwlError, match=r"two/a\.jpg: its drawing .* would overwrite"):
        predict_and_draw(paths, weights, [], tmp_path / "output", SIZE, flip=False)

    assert not (tmp_path / "output").exists()


def test_keypoints_of_no_known_set_are_refused(tmp_path: Path) -> None:
    save_weights(create_model("ours", 3), tmp_path / "three.safetensors")

    with pytest.raises(HwlError, match=r"three\.safetensors predicts 3 keypoints of no known set"):
        predict_and_draw([], tmp_path / "three.safetensors", [], tmp_path / "out", SIZE, flip=False)
