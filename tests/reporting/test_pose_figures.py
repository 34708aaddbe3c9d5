"""Poses beside the ground truth, and the OKS of one person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from hwl.data.annotations import Annotations
from hwl.evaluation.oks import oks_to_truth
from hwl.inference.poses import Poses
from hwl.reporting.pose_figures import good_and_bad_poses, oks_on_person, typical_person
from hwl.skeletons import COCO

Readable = Callable[[Figure], None]
KEYPOINTS = np.column_stack([np.linspace(30, 110, 17), np.linspace(30, 160, 17)])
AREA = 1e4
MOVES = np.array([8, 0, 25, 0])  # pixels to the right, of each person's prediction


@pytest.fixture
def persons(tmp_path: Path) -> tuple[Annotations, Poses]:
    """Four persons in one image; of the last one two keypoints are annotated, too few to tell."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((200, 160, 3), 40, np.uint8))
    keypoints = np.tile(np.column_stack([KEYPOINTS, np.full(17, 2)]), (4, 1, 1))
    keypoints[3, 2:, 2] = 0
    annotations = Annotations(
        *(tmp_path / "a.json", tmp_path, COCO, np.array([1]), ("a.png",), np.array([[160, 200]])),
        *(np.arange(4), np.zeros(4, int), np.tile([20.0, 20, 100, 150], (4, 1)), np.full(4, AREA)),
        *(keypoints, np.zeros(4, bool), np.full(4, np.nan)),
    )
    moved = keypoints[:, :, :2] + np.array([1, 0]) * MOVES[:, None, None]
    poses = Poses(
        skeleton=COCO,
        image_index=np.zeros(4, int),
        keypoints=moved,
        scores=np.ones((4, 17)),
        boxes=annotations.boxes,
        box_scores=np.ones(4),
        areas=np.ones(4),
    )
    return annotations, poses


def test_good_poses_stand_above_bad_ones_each_below_its_truth(
    persons: tuple[Annotations, Poses], assert_readable: Readable
) -> None:
    annotations, poses = persons

    figure = good_and_bad_poses(annotations, poses, 2, "a model")

    rows = np.array(figure.axes).reshape(4, 2)
    values = [axis.get_title() for axis in rows[1]] + [axis.get_title() for axis in rows[3]]
    order = [1, 0, 2, 0]  # best two, worst two, without the one that tells little
    similarity = oks_to_truth(annotations, poses.keypoints)
    assert values == [f"OKS {similarity[index]:.2f}" for index in order]
    headings = [row[0].texts[0].get_text() for row in rows]
    assert headings == [
        *("most similar:\nground truth", "most similar:\nprediction"),
        *("least similar:\nground truth", "least similar:\nprediction"),
    ]
    perfect, moved = rows[:2, 0], rows[2:, 0]
    for pair, same in ((perfect, True), (moved, False)):
        truth, prediction = (axis.images[0].get_array() for axis in pair)
        assert truth.shape == prediction.shape == (192, 142, 3)  # the box and 0.15 of its height
        assert np.array_equal(truth, prediction) == same
    assert_readable(figure)


def test_fewer_persons_than_asked_for_are_all_shown(persons: tuple[Annotations, Poses]) -> None:
    assert len(good_and_bad_poses(*persons, 9, "a model").axes) == 4 * 3


def test_the_typical_person_is_the_median(persons: tuple[Annotations, Poses]) -> None:
    assert typical_person(*persons) == 0  # moved by 8 pixels, between 0 and 25


def test_the_circles_are_where_the_similarity_is_a_half(
    persons: tuple[Annotations, Poses], assert_readable: Readable
) -> None:
    figure = oks_on_person(*persons, 0, "a model")

    left, right = figure.axes
    circles = [patch for patch in left.patches if isinstance(patch, Circle)]
    for circle, sigma in zip(circles, COCO.sigmas, strict=True):
        np.testing.assert_allclose(np.exp(-(circle.radius**2) / (8 * AREA * sigma**2)), 0.5)
    expected = np.exp(-(MOVES[0] ** 2) / (8 * AREA * np.square(COCO.sigmas)))
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], expected)
    assert f"OKS {expected.mean():.2f}" in right.get_title(loc="left")
    assert_readable(figure)
