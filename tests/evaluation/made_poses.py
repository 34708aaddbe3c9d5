"""Persons made at random, and predictions near them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwl.data.annotations import Annotations
from hwl.evaluation.coco_ap import coco_ap
from hwl.inference.poses import Poses, coco_results
from hwl.skeletons import COCO, Skeleton


def crowd_of(seed: int, count: int, images: int, spread: float = 2, levels: int = 0) -> Poses:
    """Poses that differ by a few pixels, so that many come near the suppression threshold."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 80, (1, 17, 2)) + rng.normal(0, spread, (count, 17, 2))
    scores = rng.integers(1, levels + 1, count) / levels if levels else rng.random(count)
    keypoint_scores, areas = rng.uniform(-0.1, 1, (count, 17)), rng.uniform(2000, 9000, count)
    return Poses(
        skeleton=COCO,
        image_index=rng.integers(0, images, count),
        keypoints=keypoints,
        scores=keypoint_scores,
        boxes=np.zeros((count, 4)),
        box_scores=scores,
        areas=areas,
    )


def truth(
    count: int = 12, images: int = 5, skeleton: Skeleton = COCO, size: float = 80
) -> Annotations:
    """Poses about `size` pixels tall; a third of the keypoints unannotated, one person a crowd."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (count, 2))
    extent = size * rng.uniform(0.8, 1.2, (count, 2))
    places = corner[:, None] + rng.random((count, len(skeleton), 2)) * extent[:, None]
    keypoints = np.dstack([places, rng.integers(0, 3, (count, len(skeleton)))])
    keypoints[:, 0, 2] = 2
    return Annotations(
        path=Path("truth.json"),
        folder=Path(),
        skeleton=skeleton,
        image_ids=np.arange(images)[::-1] * 7,
        file_names=("",) * images,
        image_sizes=np.full((images, 2), 500),
        ids=np.arange(count) + 100,
        image_index=np.sort(np.arange(count) % images),
        boxes=np.hstack([corner, extent]),
        areas=extent.prod(axis=1) * 0.6,
        keypoints=keypoints,
        crowd=np.arange(count) == count - 1,
        head_sizes=rng.uniform(8, 16, count),
    )


def jittered(annotations: Annotations, pixels: float, seed: int = 1) -> Poses:
    """A prediction for every annotated person: its keypoints moved at random, a random score."""
    rng = np.random.default_rng(seed)
    known = annotations.annotated()
    keypoints = annotations.keypoints[known, :, :2]
    # By person too: COCO's numbers should not all be 0 or 1.
    noise = rng.normal(0, pixels, keypoints.shape) * rng.uniform(0, 1, (len(known), 1, 1))
    return Poses(
        skeleton=annotations.skeleton,
        image_index=annotations.image_index[known],
        keypoints=keypoints + noise,
        boxes=annotations.boxes[known],
        scores=np.ones(keypoints.shape[:2]),
        box_scores=rng.random(len(known)),
        areas=annotations.areas[known],
    )


def ap_of(annotations: Annotations, persons: Poses, bootstrap: int = 0) -> dict[str, float]:
    return coco_ap(annotations, results_of(annotations, persons, persons.box_scores), bootstrap)


def results_of(
    annotations: Annotations, persons: Poses, scores: np.ndarray
) -> list[dict[str, object]]:
    ids = annotations.image_ids[persons.image_index]
    return coco_results(persons, ids, scores, annotations.category_id)
