"""PCK and PCKh: the share of keypoints near enough to the ground truth."""

from __future__ import annotations

import numpy as np

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.skeletons import Skeleton


def pck(annotations: Annotations, keypoints: np.ndarray) -> dict[str, float]:
    """PCK@0.2 of the torso: keypoints nearer to the truth than a fifth of the torso's length.

    The torso reaches from the left shoulder to the right hip, as is the custom for LSP; persons
    without these two keypoints are left out.

    Args:
        annotations: ground truth.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.

    Returns:
        "PCK", the mean over keypoints, and one number a keypoint by name, between 0 and 1.
    """
    truth = annotations.keypoints[annotations.annotated()]
    shoulder = truth[:, annotations.skeleton.index("left_shoulder")]
    hip = truth[:, annotations.skeleton.index("right_hip")]
    torso = np.linalg.norm(shoulder[:, :2] - hip[:, :2], axis=1)
    known = (shoulder[:, 2] > 0) & (hip[:, 2] > 0) & (torso > 0)
    return _share_correct(
        "PCK", annotations.skeleton, keypoints, truth, np.where(known, torso, 0), 0.2
    )


def pckh(annotations: Annotations, keypoints: np.ndarray) -> dict[str, float]:
    """MPII's PCKh@0.5: keypoints nearer to the truth than half the head's size.

    As in the field, pelvis and thorax do not count in the mean.

    Args:
        annotations: ground truth with head sizes.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.

    Raises:
        HwlError: the annotation file has no head sizes.
    """
    persons = annotations.annotated()
    heads = annotations.head_sizes[persons]
    if np.isnan(heads).any():
        raise HwlError(
            f"{annotations.path}: annotation {annotations.ids[persons[np.isnan(heads).argmax()]]} "
            "has no 'head_size', which PCKh needs; `hwl data mpii` writes it from mpii_gt_val.mat"
        )
    truth = annotations.keypoints[persons]
    return _share_correct("PCKh", annotations.skeleton, keypoints, truth, heads, 0.5)


def _share_correct(
    name: str,
    skeleton: Skeleton,
    keypoints: np.ndarray,
    truth: np.ndarray,
    lengths: np.ndarray,
    threshold: float,
) -> dict[str, float]:
    """Share of annotated keypoints within `threshold` lengths, by keypoint and on average."""
    distance = np.linalg.norm(keypoints - truth[:, :, :2], axis=2)
    counted = (truth[:, :, 2] > 0) & (lengths > 0)[:, None]
    correct = (distance <= threshold * lengths[:, None]) & counted
    with np.errstate(invalid="ignore"):
        shares = correct.sum(axis=0) / counted.sum(axis=0)
    by_keypoint = dict(zip(skeleton.keypoints, shares.tolist(), strict=True))
    averaged = [
        share for keypoint, share in by_keypoint.items() if keypoint not in ("pelvis", "thorax")
    ]
    return {name: float(np.nanmean(averaged)), **by_keypoint}
