"""PCK and PCKh: the share of keypoints near enough to the ground truth."""

from __future__ import annotations

import numpy as np

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.skeletons import Skeleton

NOT_AVERAGED = ("pelvis", "thorax")  # as in the field


def check_metric(annotations: Annotations, metric: str) -> None:
    """HwlError, naming what is missing, unless the metric is a number on these persons.

    To be asked before anything is computed, for the answer depends on the annotations alone.

    Args:
        annotations: ground truth.
        metric: "AP", "PCK" or "PCKh".
    """
    truth = annotations.keypoints[annotations.annotated()]  # AP needs no more than a person
    if metric == "AP":
        return
    lengths = _torsos(annotations) if metric == "PCK" else _heads(annotations)
    if not _counted(truth, lengths)[:, _averaged(annotations.skeleton)].any():
        raise HwlError(
            f"{annotations.path}: {metric} is undefined, for no person with a torso or head size "
            "has another annotated keypoint; choose another metric"
        )


def pck(annotations: Annotations, keypoints: np.ndarray) -> dict[str, float]:
    """PCK@0.2 of the torso: keypoints at most a fifth of the torso's length from the truth.

    The torso reaches from the left shoulder to the right hip, as is the custom for LSP; persons
    without these two keypoints are left out.

    Args:
        annotations: ground truth.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.

    Returns:
        "PCK", the mean over keypoints, and one number a keypoint by name, between 0 and 1.

    Raises:
        HwlError: the skeleton has no such keypoints, or no person has both.
    """
    skeleton = annotations.skeleton
    truth = annotations.keypoints[annotations.annotated()]
    shares = _shares(skeleton, *_near(keypoints, truth, _torsos(annotations), 0.2))
    averaged = np.array(list(shares.values()))[_averaged(skeleton)]
    return {"PCK": float(np.nanmean(averaged)), **shares}


def _torsos(annotations: Annotations) -> np.ndarray:
    """(Q,) length of each annotated person's torso in pixels, 0 where it is not known."""
    truth = annotations.keypoints[annotations.annotated()]
    try:
        shoulder = truth[:, annotations.skeleton.index("left_shoulder")]
        hip = truth[:, annotations.skeleton.index("right_hip")]
    except HwlError as error:
        raise HwlError(f"{annotations.path}: {error}, which PCK needs") from error
    torso = np.linalg.norm(shoulder[:, :2] - hip[:, :2], axis=1)
    torso = np.where((shoulder[:, 2] > 0) & (hip[:, 2] > 0), torso, 0)
    if not torso.any():
        raise HwlError(
            f"{annotations.path}: no person has both left_shoulder and right_hip annotated, the "
            "torso that PCK needs; choose another metric"
        )
    return torso


def pckh(annotations: Annotations, keypoints: np.ndarray) -> dict[str, float]:
    """MPII's PCKh@0.5: keypoints at most half the head's size from the truth.

    Args:
        annotations: ground truth with head sizes.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.

    Returns:
        "PCKh", the share of all annotated keypoints but pelvis and thorax, as MPII's and mmpose's
        evaluations have it, and one number a keypoint by name, between 0 and 1.

    Raises:
        HwlError: the annotation file has no head sizes.
    """
    skeleton = annotations.skeleton
    truth = annotations.keypoints[annotations.annotated()]
    near, counted = _near(keypoints, truth, _heads(annotations), 0.5)
    averaged = _averaged(skeleton)
    share = near[:, averaged].sum() / counted[:, averaged].sum()
    return {"PCKh": float(share), **_shares(skeleton, near, counted)}


def _heads(annotations: Annotations) -> np.ndarray:
    """(Q,) head size of each annotated person in pixels."""
    persons = annotations.annotated()
    heads = annotations.head_sizes[persons]
    if np.isnan(heads).any():
        raise HwlError(
            f"{annotations.path}: annotation {annotations.ids[persons[np.isnan(heads).argmax()]]} "
            "has no 'head_size', which PCKh needs; `hwl data mpii` writes it from mpii_gt_val.mat"
        )
    return heads


def _counted(truth: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(Q, K) bool: annotated keypoints of persons whose length is known."""
    return (truth[:, :, 2] > 0) & (lengths > 0)[:, None]


def _near(
    keypoints: np.ndarray, truth: np.ndarray, lengths: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) bool: keypoints within `threshold` lengths of the truth, and those that count."""
    distance = np.linalg.norm(keypoints - truth[:, :, :2], axis=2)
    counted = _counted(truth, lengths)
    return (distance <= threshold * lengths[:, None]) & counted, counted


def _shares(skeleton: Skeleton, near: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """Share of near keypoints by name, NaN where nobody has the keypoint."""
    with np.errstate(invalid="ignore"):
        shares = near.sum(axis=0) / counted.sum(axis=0)
    return dict(zip(skeleton.keypoints, shares.tolist(), strict=True))


def _averaged(skeleton: Skeleton) -> list[bool]:
    """Which keypoints count in the mean."""
    return [name not in NOT_AVERAGED for name in skeleton.keypoints]
