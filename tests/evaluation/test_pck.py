"""PCK and PCKh against slow loops, and where they are undefined."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.evaluation.pck import check_metric, pck, pckh
from hwl.skeletons import COCO, LSP, MPII, Skeleton

from .made_poses import jittered, truth


def near_by_loop(
    annotations: Annotations, keypoints: np.ndarray, lengths: list[float], part: float
) -> dict[str, list[bool]]:
    """By keypoint: whether each annotated one lies within a part of its person's length."""
    found = {}
    for k, name in enumerate(annotations.skeleton.keypoints):
        near = []
        for person, place, length in zip(annotations.annotated(), keypoints, lengths, strict=True):
            x, y, visibility = annotations.keypoints[person, k]
            if visibility > 0 and length > 0:
                near.append(math.dist((x, y), place[k]) <= part * length)
        found[name] = near
    return found


def test_pck_equals_the_loop_over_torsos() -> None:
    annotations = truth(count=40, skeleton=LSP)
    keypoints = jittered(annotations, 14).keypoints
    torsos = []
    for person in annotations.keypoints[annotations.annotated()]:
        shoulder, hip = person[LSP.index("left_shoulder")], person[LSP.index("right_hip")]
        both = shoulder[2] > 0 and hip[2] > 0
        torsos.append(math.dist(shoulder[:2], hip[:2]) if both else 0)
    assert 0 in torsos
    near = near_by_loop(annotations, keypoints, torsos, 0.2)
    expected = {name: np.mean(those) for name, those in near.items()}

    found = pck(annotations, keypoints)

    assert found.pop("PCK") == pytest.approx(np.mean(list(expected.values())))
    assert found == pytest.approx(expected) and 0.2 < np.mean(list(found.values())) < 0.9


def test_pckh_equals_the_loop_over_all_keypoints_but_pelvis_and_thorax() -> None:
    annotations = truth(count=40, skeleton=MPII)
    annotations.keypoints[::2, MPII.index("left_wrist"), 2] = 0  # seen in fewer persons
    keypoints = jittered(annotations, 9).keypoints
    heads = annotations.head_sizes[annotations.annotated()].tolist()
    near = near_by_loop(annotations, keypoints, heads, 0.5)
    trunk = ("pelvis", "thorax")
    counted = [one for name, those in near.items() if name not in trunk for one in those]

    found = pckh(annotations, keypoints)

    assert found.pop("PCKh") == pytest.approx(sum(counted) / len(counted))
    assert found == pytest.approx({name: np.mean(those) for name, those in near.items()})
    assert 0.2 < np.mean(counted) < 0.9


def without(annotations: Annotations, *keypoints: str) -> Annotations:
    """The same with these keypoints annotated in nobody."""
    blind = annotations.keypoints.copy()
    for keypoint in keypoints:
        blind[:, annotations.skeleton.index(keypoint), 2] = 0
    return replace(annotations, keypoints=blind)


NOBODYS_TORSO = replace(truth(skeleton=LSP), keypoints=truth(skeleton=LSP).keypoints * [0, 0, 1])

UNDEFINED = {
    "no shoulder in the skeleton": (
        replace(truth(), skeleton=replace(COCO, keypoints=tuple("abcdefghijklmnopq"))),
        "PCK",
        "has no keypoint 'left_shoulder', which PCK needs",
    ),
    "no shoulder annotated": (
        without(truth(skeleton=LSP), "left_shoulder"),
        "PCK",
        "no person has both left_shoulder and right_hip annotated",
    ),
    "torsos of no length": (NOBODYS_TORSO, "PCK", "no person has both left_shoulder and right_hip"),
    "no head sizes": (
        replace(truth(), head_sizes=np.full(12, np.nan)),
        "PCKh",
        "annotation 100 has no 'head_size', which PCKh needs",
    ),
    "nothing that counts": (
        without(
            truth(skeleton=MPII),
            *(name for name in MPII.keypoints if name not in ("pelvis", "thorax")),
        ),
        "PCKh",
        "PCKh is undefined, for no person",
    ),
    "no areas": (replace(truth(), areas=np.zeros(12)), "AP", "the data set is empty, .* no area"),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_a_metric_that_would_be_no_number_is_refused_beforehand(case: str) -> None:
    annotations, metric, message = UNDEFINED[case]

    with pytest.raises(HwlError, match=rf"truth\.json: .*{message}"):
        check_metric(annotations, metric)


@pytest.mark.parametrize(
    ("skeleton", "metric"), [(COCO, "AP"), (LSP, "PCK"), (MPII, "PCKh"), (MPII, "PCK")]
)
def test_a_metric_that_is_a_number_is_accepted(skeleton: Skeleton, metric: str) -> None:
    check_metric(truth(skeleton=skeleton), metric)


def test_pckh_without_a_head_size_names_the_annotation() -> None:
    annotations = truth(skeleton=MPII)
    annotations.head_sizes[3] = np.nan

    with pytest.raises(HwlError, match=r"truth\.json: annotation 103 has no 'head_size'"):
        pckh(annotations, annotations.keypoints[:-1, :, :2])
