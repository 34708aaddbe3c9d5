"""A pose drawn on an image."""

from __future__ import annotations

import cv2
import numpy as np

from hwl.skeletons import Skeleton

KEYPOINT_THRESHOLD = 0.2  # keypoints that are drawn, and that count in a person's score
LEFT, RIGHT, MIDDLE = (255, 140, 0), (30, 144, 255), (60, 200, 90)  # RGB, by the keypoint's side
SHIFT = 4  # OpenCV draws with 1/16 pixel


def draw_pose(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    threshold: float = KEYPOINT_THRESHOLD,
) -> np.ndarray:
    """An image with one person's limbs and keypoints drawn: left orange, right blue, else green.

    Args:
        image: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) in pixels.
        scores: (K,); keypoints not above the threshold are left out.
        skeleton: limbs, and which keypoints are left and right.
        threshold: see scores.
    """
    drawn = image.copy()
    thickness = max(2, round(min(image.shape[:2]) / 150))
    points = np.round(keypoints * 2**SHIFT).astype(int)
    sides = {left: LEFT for left, _ in skeleton.pairs}
    sides |= {right: RIGHT for _, right in skeleton.pairs}
    colors = [sides.get(keypoint, MIDDLE) for keypoint in skeleton.keypoints]
    for a, b in skeleton.limbs:
        if min(scores[a], scores[b]) > threshold:
            color = colors[a] if colors[a] == colors[b] else MIDDLE
            cv2.line(drawn, points[a], points[b], color, thickness, cv2.LINE_AA, SHIFT)
    for point, score, color in zip(points, scores, colors, strict=True):
        if score > threshold:
            cv2.circle(drawn, point, (thickness + 1) << SHIFT, color, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(
                drawn, point, (thickness + 1) << SHIFT, (255, 255, 255), 1, cv2.LINE_AA, SHIFT
            )
    return drawn
