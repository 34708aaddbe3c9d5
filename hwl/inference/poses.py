"""Poses: what a model predicts for a number of persons, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwl.errors import HwlError
from hwl.inference.drawing import KEYPOINT_THRESHOLD, draw_pose
from hwl.skeletons import Skeleton


@dataclass(frozen=True, kw_only=True)
class Poses:
    """B predicted persons of K keypoints.

    Attributes:
        skeleton: names, limbs and sigmas of the keypoints.
        keypoints: (B, K, 2) float64 x, y in pixels of the image.
        scores: (B, K) float64 heatmap peaks.
        boxes: (B, 4) float64 x, y, width, height of the boxes predicted in, pixels of the image.
        box_scores: (B,) float64 scores of these boxes.
        areas: (B,) float64 areas of the padded boxes in square pixels.
        image_index: (B,) int64 index into the images of a data set.
        image: (H, W, 3) uint8 RGB, where all persons are in one image that is at hand.
    """

    skeleton: Skeleton
    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    image_index: np.ndarray
    image: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.box_scores)

    def of_image(self, index: int, image: np.ndarray | None = None) -> Poses:
        """The persons of one image."""
        here = self.image_index == index
        return replace(
            self,
            keypoints=self.keypoints[here],
            scores=self.scores[here],
            boxes=self.boxes[here],
            box_scores=self.box_scores[here],
            areas=self.areas[here],
            image_index=self.image_index[here],
            image=image,
        )

    def draw(self, image: np.ndarray | None = None) -> np.ndarray:
        """The image with all persons drawn, (H, W, 3) uint8 RGB.

        Args:
            image: (H, W, 3) uint8 RGB, where the poses have none of their own.

        Raises:
            HwlError: there is no image.
        """
        drawn = self.image if image is None else image
        if drawn is None:
            raise HwlError("these poses of a data set have no image to draw on: give one to draw()")
        for keypoints, scores in zip(self.keypoints, self.scores, strict=True):
            drawn = draw_pose(drawn, keypoints, scores, self.skeleton)
        return drawn.copy()


def pose_scores(poses: Poses) -> np.ndarray:
    """(B,) box score times the mean of the keypoint scores above 0.2, 0 where none is."""
    counted = poses.scores > KEYPOINT_THRESHOLD
    total = np.where(counted, poses.scores, 0).sum(axis=1)
    return poses.box_scores * total / np.maximum(counted.sum(axis=1), 1)


def coco_results(
    poses: Poses, image_ids: Sequence[int] | np.ndarray, scores: np.ndarray, category_id: int = 1
) -> list[dict[str, object]]:
    """Poses in COCO's result format, as pycocotools and the test server take it.

    There is no `bbox` in it: with one, pycocotools would take the person's area from it.

    Args:
        poses: B persons.
        image_ids: (B,) ids of their images.
        scores: (B,) person scores.
        category_id: of the person in the annotation file.
    """
    triples = np.concatenate([poses.keypoints, poses.scores[:, :, None]], axis=2)
    return [
        {
            "image_id": int(image_id),
            "category_id": category_id,
            "keypoints": triple.ravel().tolist(),
            "score": float(score),
        }
        for image_id, triple, score in zip(image_ids, triples, scores, strict=True)
    ]
