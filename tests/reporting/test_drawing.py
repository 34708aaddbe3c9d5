"""Drawings of a report: heatmaps over images, good and bad poses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hwl.data.annotations import Annotations
from hwl.inference.poses import Poses
from hwl.reporting.drawing import best_and_worst, overlay
from hwl.skeletons import COCO

BLACK = np.zeros((200, 160, 3), np.uint8)
# On a circle, so that no limb runs over a third keypoint.
ANGLES = np.arange(17) * 2 * np.pi / 17
KEYPOINTS = np.round(np.column_stack([80 + 70 * np.cos(ANGLES), 100 + 70 * np.sin(ANGLES)]))


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
    persons = Poses(
        skeleton=COCO,
        image_index=np.zeros(4, int),
        keypoints=moved,
        scores=np.ones((4, 17)),
        boxes=annotations.boxes,
        box_scores=np.ones(4),
        areas=np.ones(4),
    )

    drawn, titles = best_and_worst(annotations, persons, 2)

    values = [float(title.removeprefix("OKS ")) for title in titles]
    assert values[0] == 1 and values[0] > values[1] == values[3] > values[2]
    assert len(drawn) == 4 and all(image.any() for image in drawn)
    assert drawn[0].shape == (192, 142, 3)  # the box and 0.15 of its height around, in the image
