"""Poses: what a model predicts for a number of persons, and their scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEYPOINT_THRESHOLD = 0.2  # keypoints that count in a person's score


@dataclass(frozen=True)
class Poses:
    """B predicted persons.

    Attributes:
        image_index: (B,) int64 index into an Annotations' images.
        keypoints: (B, K, 2) float64 x, y in image pixels.
        keypoint_scores: (B, K) float64 heatmap peaks.
        box_scores: (B,) float64 scores of the boxes predicted in.
        areas: (B,) float64 areas of the padded boxes in square pixels.
    """

    image_index: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.box_scores)


def pose_scores(poses: Poses) -> np.ndarray:
    """(B,) box score times the mean of the keypoint scores above 0.2, 0 where none is."""
    counted = poses.keypoint_scores > KEYPOINT_THRESHOLD
    total = np.where(counted, poses.keypoint_scores, 0).sum(axis=1)
    return poses.box_scores * total / np.maximum(counted.sum(axis=1), 1)
