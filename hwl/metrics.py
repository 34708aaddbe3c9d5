"""The numbers: person scores, OKS suppression, COCO AP, PCK and PCKh."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.skeletons import Skeleton

JOINT_THRESHOLD = 0.2  # joints that count in a person's score
NMS_THRESHOLD = 0.9  # OKS above which the lower-scored of two persons is dropped
COCO_NUMBERS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Persons:
    """B predicted persons.

    Attributes:
        picture_index: (B,) int64 index into an Annotations' pictures.
        joints: (B, K, 2) float64 x, y in picture pixels.
        joint_scores: (B, K) float64 heatmap peaks.
        box_scores: (B,) float64 scores of the boxes predicted in.
        areas: (B,) float64 areas of the padded boxes in square pixels.
    """

    picture_index: np.ndarray
    joints: np.ndarray
    joint_scores: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.box_scores)


def person_scores(persons: Persons) -> np.ndarray:
    """(B,) box score times the mean of the joint scores above 0.2, 0 where none is."""
    counted = persons.joint_scores > JOINT_THRESHOLD
    total = np.where(counted, persons.joint_scores, 0).sum(axis=1)
    return persons.box_scores * total / np.maximum(counted.sum(axis=1), 1)


def oks_between(joints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(B, B) object keypoint similarity of every two predicted persons, at their mean area.

    Args:
        joints: (B, K, 2) pixels.
        areas: (B,) square pixels.
        sigmas: (K,) OKS constants.
    """
    distance = np.square(joints[:, None] - joints[None]).sum(axis=3)
    area = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    return np.exp(-distance / (8 * sigmas**2) / area[:, :, None]).mean(axis=2)


def oks_nms(persons: Persons, scores: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Indices of the persons that survive non-maximum suppression at OKS 0.9 in their picture.

    Args:
        persons: the candidates.
        scores: (B,) person scores.
        skeleton: its sigmas.
    """
    sigmas = np.array(skeleton.sigmas)
    # Best first within each picture; each picture's persons lie together.
    order = np.lexsort((-scores, persons.picture_index))
    starts = np.flatnonzero(np.diff(persons.picture_index[order], prepend=-1))
    survivors = []
    for group in np.split(order, starts[1:]):
        close = oks_between(persons.joints[group], persons.areas[group], sigmas) > NMS_THRESHOLD
        alive = np.ones(len(group), dtype=bool)
        for i in range(len(group)):
            if alive[i]:
                alive[i + 1 :] &= ~close[i, i + 1 :]
        survivors.append(group[alive])
    return np.concatenate(survivors) if survivors else np.zeros(0, dtype=np.int64)


def coco_results(
    annotations: Annotations, persons: Persons, scores: np.ndarray
) -> list[dict[str, object]]:
    """Predicted persons in COCO's result format, as pycocotools and the test server take it.

    There is no `bbox` in it: with one, pycocotools would take the person's area from it.
    """
    keypoints = np.concatenate([persons.joints, persons.joint_scores[:, :, None]], axis=2)
    return [
        {
            "image_id": int(annotations.picture_ids[picture]),
            "category_id": 1,
            "keypoints": joints.ravel().tolist(),
            "score": float(score),
        }
        for picture, joints, score in zip(persons.picture_index, keypoints, scores, strict=True)
    ]


def coco_ap(
    annotations: Annotations, results: list[dict[str, object]], bootstrap: int = 0
) -> dict[str, float]:
    """COCO's ten keypoint numbers on all pictures of the annotations, by pycocotools.

    Args:
        annotations: ground truth; its skeleton's sigmas are used.
        results: from `coco_results`.
        bootstrap: resamplings of the pictures for a 95 % interval of AP (0: none).

    Returns:
        AP, AP50, AP75, AP_M, AP_L, AR, AR50, AR75, AR_M, AR_L between 0 and 1, NaN where there is
        no such person; with `bootstrap` also AP_low and AP_high.
    """
    if not results:
        numbers = dict.fromkeys(COCO_NUMBERS, 0.0)
        return numbers | ({"AP_low": 0.0, "AP_high": 0.0} if bootstrap else {})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _ground_truth(annotations)
        # loadRes edits the entries it is given.
        found = truth.loadRes([dict(result) for result in results])
        judge = COCOeval(truth, found, "keypoints")
        judge.params.kpt_oks_sigmas = np.array(annotations.skeleton.sigmas)
        judge.params.imgIds = sorted(truth.imgs)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        stats = [float(value) for value in judge.stats]
        interval = _bootstrap(judge, bootstrap) if bootstrap else {}
    numbers = {
        name: float("nan") if value == -1 else value
        for name, value in zip(COCO_NUMBERS, stats, strict=True)
    }
    return numbers | interval


def _ground_truth(annotations: Annotations) -> COCO:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": int(identity)} for identity in annotations.picture_ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                # pycocotools marks an unmatched detection with 0, so ids start at 1.
                "id": number,
                "image_id": int(annotations.picture_ids[picture]),
                "category_id": 1,
                "bbox": box.tolist(),
                "area": float(area),
                "iscrowd": int(crowd),
                "keypoints": joints.ravel().tolist(),
                "num_keypoints": int((joints[:, 2] > 0).sum()),
            }
            for number, (picture, box, area, crowd, joints) in enumerate(
                zip(
                    annotations.picture_index,
                    annotations.boxes,
                    annotations.areas,
                    annotations.crowd,
                    annotations.joints,
                    strict=True,
                ),
                start=1,
            )
        ],
    }
    truth.createIndex()
    return truth


def _bootstrap(judge: COCOeval, resamplings: int) -> dict[str, float]:
    """95 % percentile interval of AP over resampled pictures, from the matches already made."""
    pictures = len(judge.params.imgIds)
    matches = judge.evalImgs[:pictures]  # of persons of all sizes, the first area range
    for params in (judge.params, judge._paramsEval):
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    values = []
    for _ in range(resamplings):
        judge.evalImgs = [matches[i] for i in rng.integers(pictures, size=pictures)]
        judge.accumulate()
        precision = judge.eval["precision"]
        known = precision[precision > -1]
        if known.size:  # else only pictures without persons were drawn, which have no AP
            values.append(known.mean())
    low, high = np.percentile(values, [2.5, 97.5]) if values else (np.nan, np.nan)
    return {"AP_low": float(low), "AP_high": float(high)}


def joint_errors(annotations: Annotations, joints: np.ndarray) -> np.ndarray:
    """(Q, K) distance to the truth in square roots of the person's area, NaN where unlabelled.

    Args:
        annotations: ground truth.
        joints: (Q, K, 2) predictions in picture pixels for its labelled persons, in order.
    """
    persons = annotations.labelled()
    truth = annotations.joints[persons]
    distance = np.linalg.norm(joints - truth[:, :, :2], axis=2)
    errors = distance / np.sqrt(annotations.areas[persons])[:, None]
    return np.where(truth[:, :, 2] > 0, errors, np.nan)


def joint_similarity(errors: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(Q, K) similarity between 0 and 1 of joints with these errors (as of `joint_errors`)."""
    return np.exp(-np.square(errors) / (8 * np.square(skeleton.sigmas)))


def oks_to_truth(annotations: Annotations, joints: np.ndarray) -> np.ndarray:
    """(Q,) object keypoint similarity of each prediction to its own person, as `joint_errors`."""
    errors = joint_errors(annotations, joints)
    return np.nanmean(joint_similarity(errors, annotations.skeleton), axis=1)


def pck(annotations: Annotations, joints: np.ndarray) -> dict[str, float]:
    """PCK@0.2 of the torso: joints nearer to the truth than a fifth of the torso's length.

    The torso reaches from the left shoulder to the right hip, as is the custom for LSP; persons
    without these two joints are left out.

    Args:
        annotations: ground truth.
        joints: (Q, K, 2) predictions in picture pixels for its labelled persons, in order.

    Returns:
        "PCK", the mean over joints, and one number a joint by name, between 0 and 1.
    """
    truth = annotations.joints[annotations.labelled()]
    shoulder = truth[:, annotations.skeleton.index("left_shoulder")]
    hip = truth[:, annotations.skeleton.index("right_hip")]
    torso = np.linalg.norm(shoulder[:, :2] - hip[:, :2], axis=1)
    known = (shoulder[:, 2] > 0) & (hip[:, 2] > 0) & (torso > 0)
    return _share_correct(
        "PCK", annotations.skeleton, joints, truth, np.where(known, torso, 0), 0.2
    )


def pckh(annotations: Annotations, joints: np.ndarray) -> dict[str, float]:
    """MPII's PCKh@0.5: joints nearer to the truth than half the head's size.

    As in the field, pelvis and thorax do not count in the mean.

    Args:
        annotations: ground truth with head sizes.
        joints: (Q, K, 2) predictions in picture pixels for its labelled persons, in order.

    Raises:
        HwlError: the annotation file has no head sizes.
    """
    persons = annotations.labelled()
    heads = annotations.head_sizes[persons]
    if np.isnan(heads).any():
        raise HwlError(
            f"{annotations.path}: annotation {annotations.ids[persons[np.isnan(heads).argmax()]]} "
            "has no 'head_size', which PCKh needs; `hwl data mpii` writes it from mpii_gt_val.mat"
        )
    truth = annotations.joints[persons]
    return _share_correct("PCKh", annotations.skeleton, joints, truth, heads, 0.5)


def _share_correct(
    name: str,
    skeleton: Skeleton,
    joints: np.ndarray,
    truth: np.ndarray,
    lengths: np.ndarray,
    threshold: float,
) -> dict[str, float]:
    """Share of labelled joints within `threshold` lengths, by joint and on average."""
    distance = np.linalg.norm(joints - truth[:, :, :2], axis=2)
    counted = (truth[:, :, 2] > 0) & (lengths > 0)[:, None]
    correct = (distance <= threshold * lengths[:, None]) & counted
    with np.errstate(invalid="ignore"):
        shares = correct.sum(axis=0) / counted.sum(axis=0)
    by_joint = dict(zip(skeleton.joints, shares.tolist(), strict=True))
    averaged = [share for joint, share in by_joint.items() if joint not in ("pelvis", "thorax")]
    return {name: float(np.nanmean(averaged)), **by_joint}
