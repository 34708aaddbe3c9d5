"""Keypoints drawn on images."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np

from hwl.data.annotations import Annotations
from hwl.evaluation.oks import oks_to_truth
from hwl.inference.drawing import draw_pose
from hwl.inference.poses import Poses


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """An image with a heatmap over it, the hotter the less transparent.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmap: any (h, w), scaled to the image and to its own maximum.
    """
    heat = cv2.resize(heatmap.astype(np.float32), image.shape[1::-1])
    heat = np.clip(heat / max(heat.max(), 1e-9), 0, 1)
    colors = matplotlib.colormaps["inferno"](heat)[:, :, :3] * 255
    alpha = 0.25 + 0.65 * heat[:, :, None]
    return (image * (1 - alpha) + colors * alpha).astype(np.uint8)


def best_and_worst(
    annotations: Annotations, poses: Poses, count: int
) -> tuple[list[np.ndarray], list[str]]:
    """Drawn persons and their titles: the `count` most similar to the truth, then the least.

    Args:
        annotations: ground truth.
        poses: predictions in its annotated persons' own boxes, in order.
        count: of each.
    """
    similarity = oks_to_truth(annotations, poses.keypoints)
    # A person with a keypoint or two is easily all right or all wrong and shows little.
    annotated = (annotations.keypoints[annotations.annotated()][:, :, 2] > 0).sum(axis=1)
    telling = np.flatnonzero(annotated >= annotated.max() / 2)
    order = telling[np.argsort(similarity[telling])]
    drawn, titles = [], []
    for index in (*order[::-1][:count], *order[:count]):
        image = annotations.read_image(poses.image_index[index])
        x, y, width, height = annotations.boxes[annotations.annotated()[index]]
        scores = poses.scores[index]
        marked = draw_pose(image, poses.keypoints[index], scores, annotations.skeleton)
        margin = 0.15 * max(width, height)
        top, bottom = max(int(y - margin), 0), int(y + height + margin)
        left, right = max(int(x - margin), 0), int(x + width + margin)
        drawn.append(marked[top:bottom, left:right])
        titles.append(f"OKS {similarity[index]:.2f}")
    return drawn, titles
