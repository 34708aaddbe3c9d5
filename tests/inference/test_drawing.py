"""A drawn pose: what is painted where."""

from __future__ import annotations

import numpy as np
import pytest

from hwl.inference.drawing import LEFT, MIDDLE, RIGHT, draw_pose
from hwl.skeletons import COCO, skeleton_from_category

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


@pytest.mark.parametrize(
    ("left", "right", "pairs"),
    [("LEye", "REye", None), ("ojo_izq", "ojo_der", [("ojo_izq", "ojo_der")])],
)
def test_sides_are_those_that_change_places_in_a_mirror(
    left: str, right: str, pairs: list[tuple[str, str]] | None
) -> None:
    skeleton = skeleton_from_category("face", ["nose", left, right], [], pairs)

    drawn = draw_pose(BLACK, KEYPOINTS[:3], np.ones(3), skeleton)

    colors = [tuple(painted(drawn, keypoint)) for keypoint in KEYPOINTS[:3]]
    assert colors == [MIDDLE, LEFT, RIGHT]
