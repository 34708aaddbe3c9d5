"""Object keypoint similarity: between poses, to the ground truth, and non-maximum suppression."""

from __future__ import annotations

import numpy as np

from hwl.data.annotations import Annotations
from hwl.inference.poses import Poses
from hwl.skeletons import Skeleton

NMS_THRESHOLD = 0.9  # OKS above which the lower-scored of two persons is dropped
PAIRS = 2**16  # of persons that are compared at a time, which bounds the memory


def oks_between(keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(B, B) object keypoint similarity of every two predicted persons, at their mean area.

    Args:
        keypoints: (B, K, 2) pixels.
        areas: (B,) square pixels.
        sigmas: (K,) OKS constants.
    """
    rows = max(PAIRS // max(len(areas), 1), 1)
    parts = []
    for start in range(0, len(areas), rows):
        part = slice(start, start + rows)
        distance = np.square(keypoints[part, None] - keypoints[None]).sum(axis=3)
        area = (areas[part, None] + areas[None]) / 2 + np.spacing(1)
        parts.append(np.exp(-distance / (8 * sigmas**2) / area[:, :, None]).mean(axis=2))
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def oks_nms(poses: Poses, scores: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Indices of the persons that survive non-maximum suppression at OKS 0.9 in their image.

    Args:
        poses: the candidates.
        scores: (B,) person scores.
        skeleton: its sigmas.
    """
    sigmas = np.array(skeleton.sigmas)
    # Best first within each image; each image's persons lie together.
    order = np.lexsort((-scores, poses.image_index))
    starts = np.flatnonzero(np.diff(poses.image_index[order], prepend=-1))
    survivors = []
    for group in np.split(order, starts[1:]):
        close = oks_between(poses.keypoints[group], poses.areas[group], sigmas) > NMS_THRESHOLD
        alive = np.ones(len(group), dtype=bool)
        for i in range(len(group)):
            if alive[i]:
                alive[i + 1 :] &= ~close[i, i + 1 :]
        survivors.append(group[alive])
    return np.concatenate(survivors) if survivors else np.zeros(0, dtype=np.int64)


def keypoint_errors(annotations: Annotations, keypoints: np.ndarray) -> np.ndarray:
    """(Q, K) distance to the truth in square roots of the person's area, NaN where unannotated.

    Args:
        annotations: ground truth.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.
    """
    persons = annotations.annotated()
    truth = annotations.keypoints[persons]
    distance = np.linalg.norm(keypoints - truth[:, :, :2], axis=2)
    errors = distance / np.sqrt(annotations.areas[persons])[:, None]
    return np.where(truth[:, :, 2] > 0, errors, np.nan)


def keypoint_similarity(errors: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(Q, K) similarity between 0 and 1 of keypoints with these errors of `keypoint_errors`."""
    return np.exp(-np.square(errors) / (8 * np.square(skeleton.sigmas)))


def oks_to_truth(annotations: Annotations, keypoints: np.ndarray) -> np.ndarray:
    """(Q,) object keypoint similarity of each prediction to its own person."""
    errors = keypoint_errors(annotations, keypoints)
    return np.nanmean(keypoint_similarity(errors, annotations.skeleton), axis=1)
