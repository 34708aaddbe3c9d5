"""Keypoint sets: what augmentation, drawing and OKS take from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwl.errors import HwlError
from hwl.skeletons import (
    COCO,
    DEFAULT_SIGMA,
    KNOWN,
    LSP,
    MPII,
    Skeleton,
    skeleton_from_category,
)

every_skeleton = pytest.mark.parametrize("skeleton", KNOWN, ids=lambda skeleton: skeleton.name)


@every_skeleton
def test_flipping_twice_restores_the_order(skeleton: Skeleton) -> None:
    np.testing.assert_array_equal(skeleton.flip[skeleton.flip], np.arange(len(skeleton)))


@every_skeleton
def test_flip_swaps_the_sides_in_the_names(skeleton: Skeleton) -> None:
    for keypoint, partner in zip(skeleton.keypoints, skeleton.flip, strict=True):
        sides_swapped = keypoint.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeleton.keypoints[partner] == sides_swapped


@every_skeleton
def test_keypoint_names_are_unique(skeleton: Skeleton) -> None:
    assert len(set(skeleton.keypoints)) == len(skeleton)


@every_skeleton
def test_limbs_join_two_keypoints_that_exist(skeleton: Skeleton) -> None:
    for a, b in skeleton.limbs:
        assert 0 <= a < len(skeleton) and 0 <= b < len(skeleton) and a != b


@every_skeleton
def test_limbs_are_the_same_in_a_mirror(skeleton: Skeleton) -> None:
    limbs = {frozenset(limb) for limb in skeleton.limbs}

    mirrored = {frozenset(skeleton.flip[list(limb)].tolist()) for limb in limbs}

    assert mirrored == limbs


@every_skeleton
def test_each_keypoint_has_a_positive_sigma_equal_on_both_sides(skeleton: Skeleton) -> None:
    sigmas = np.array(skeleton.sigmas)

    assert sigmas.shape == (len(skeleton),) and (sigmas > 0).all()
    np.testing.assert_array_equal(sigmas[skeleton.flip], sigmas)


def test_coco_sigmas_are_those_of_its_evaluation() -> None:
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    np.testing.assert_allclose(COCO.sigmas, cocoeval.Params(iouType="keypoints").kpt_oks_sigmas)


def test_upper_body_of_coco_is_keypoints_0_to_10() -> None:
    np.testing.assert_array_equal(COCO.upper_body, np.arange(17) <= 10)


@pytest.mark.parametrize(
    ("skeleton", "lower"),
    [
        (LSP, {"hip", "knee", "ankle"}),
        (MPII, {"hip", "knee", "ankle", "pelvis"}),
    ],
    ids=["LSP", "MPII"],
)
def test_lower_body_is_pelvis_and_legs(skeleton: Skeleton, lower: set[str]) -> None:
    found = {
        keypoint.removeprefix("left_").removeprefix("right_")
        for keypoint, upper in zip(skeleton.keypoints, skeleton.upper_body, strict=True)
        if not upper
    }

    assert found == lower


def test_index_finds_a_keypoint_by_name() -> None:
    assert COCO.index("left_wrist") == 9


def test_index_of_an_unknown_keypoint_names_it() -> None:
    with pytest.raises(HwlError, match="COCO-17 has no keypoint 'tail'"):
        COCO.index("tail")


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ("coco-subset/annotations/person_keypoints_val2017.json", COCO),
        ("lsp/annotations/person_keypoints_test.json", LSP),
    ],
    ids=["COCO", "LSP"],
)
def test_category_of_a_published_annotation_file_is_recognized(
    shared: Path, annotations: str, expected: Skeleton
) -> None:
    category = json.loads((shared / "data" / annotations).read_text())["categories"][0]

    skeleton = skeleton_from_category(category["name"], category["keypoints"], category["skeleton"])

    assert skeleton is expected
    # The file's own limbs, one-based, are ours.
    assert {frozenset(limb) for limb in skeleton.limbs} == {
        frozenset((a - 1, b - 1)) for a, b in category["skeleton"]
    }


def test_an_unknown_category_becomes_a_new_skeleton() -> None:
    skeleton = skeleton_from_category("dog", ["tail", "left_paw", "right_paw"], [(1, 2), (1, 3)])

    assert skeleton.name == "dog"
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.flip.tolist() == [0, 2, 1]
    assert skeleton.sigmas == (DEFAULT_SIGMA,) * 3


def test_known_keypoints_keep_their_sigma_in_any_order_and_spelling() -> None:
    named = ["Right Hip", "nose", "l_ankle", "LEye", "head_top", "fin"]

    skeleton = skeleton_from_category("diver", named, [], flip_pairs=[])

    assert skeleton.sigmas == (0.107, 0.026, 0.089, 0.025, 0.079, DEFAULT_SIGMA)


@pytest.mark.parametrize(
    ("keypoints", "sigmas"),
    [
        (("head-top", "Nose"), (0.079, 0.026)),
        (("HeadTop", "upper neck"), (0.079, 0.079)),
        (("lefteye", "righteye"), (0.025, 0.025)),
        (("leye", "reye"), (0.025, 0.025)),
        (("hipleft", "hipright"), (0.107, 0.107)),
        (("rear", "tail"), (DEFAULT_SIGMA, DEFAULT_SIGMA)),  # no right ear, for there is no left
    ],
)
def test_a_known_sigma_is_found_in_spellings_grown_together_and_apart(
    keypoints: tuple[str, ...], sigmas: tuple[float, ...]
) -> None:
    assert skeleton_from_category("animal", keypoints, []).sigmas == sigmas


def names(*keypoints: str) -> tuple[str, ...]:
    return keypoints


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("Left_Eye", "Right_Eye"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("left-eye", "right-eye"),
        ("left eye", "right eye"),
        ("left.eye", "right.eye"),
        ("l_eye", "r_eye"),
        ("L_Eye", "R_Eye"),
        ("L-eye", "R-eye"),
        ("eye_left", "eye_right"),
        ("eye_l", "eye_r"),
        ("eye.L", "eye.R"),
        ("Eye Left", "Eye Right"),
        ("LeftEye", "RightEye"),
        ("leftEye", "rightEye"),
        ("EyeLeft", "EyeRight"),
        ("LEye", "REye"),
        ("eyeL", "eyeR"),
        ("lefteye", "righteye"),
        ("eyeleft", "eyeright"),
        ("leye", "reye"),
        ("Leye", "Reye"),
        ("inner_left_eye_2", "inner_right_eye_2"),
        ("upper_l_eye", "upper_r_eye"),
        ("Left_Eye", "right eye"),
    ],
)
def test_every_customary_spelling_of_the_sides_makes_a_flip_pair(left: str, right: str) -> None:
    skeleton = skeleton_from_category("face", [right, "nose", left], [])

    assert skeleton.flip.tolist() == [2, 1, 0]
    assert skeleton.pairs == ((left, right),)


@pytest.mark.parametrize(
    "keypoints",
    [
        names("nose", "tail"),
        names("lip", "rib", "leg"),
        names("neck_l", "tail"),
        names("bright", "upright"),
        names("left_right_middle", "nose"),
        names("l1", "l2"),
        names("x_l_y_l", "x_r_y_r"),
        names("l_eye", "l-eye", "r_eye"),
    ],
    ids=str,
)
def test_names_that_only_look_like_sides_make_no_pair(keypoints: tuple[str, ...]) -> None:
    skeleton = skeleton_from_category("dog", keypoints, [])

    assert skeleton.pairs == () and skeleton.flip.tolist() == list(range(len(keypoints)))


def test_given_flip_pairs_take_the_place_of_the_names() -> None:
    keypoints = ["links", "rechts", "left_x", "right_x"]

    skeleton = skeleton_from_category("dog", keypoints, [], [("links", "rechts")])

    assert skeleton.flip.tolist() == [1, 0, 2, 3]
    again = skeleton.category()
    assert skeleton_from_category("dog", keypoints, [], again["flip_pairs"]) == skeleton


def test_given_flip_pairs_hold_for_a_known_skeleton_too() -> None:
    skeleton = skeleton_from_category("person", COCO.keypoints, [], [])

    assert skeleton.flip.tolist() == list(range(17)) and skeleton.sigmas == COCO.sigmas


@pytest.mark.parametrize("pair", [("left_paw", "paw"), ("left_paw", "left_paw")])
def test_wrong_flip_pairs_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(HwlError, match=r"dog: 'flip_pairs' names '(left_)?paw'"):
        skeleton_from_category("dog", ["left_paw", "right_paw"], [], [pair])


@pytest.mark.parametrize("name", ["left_hip", "Left_Hip", "l_hip", "LHip", "hip_left", "left hip"])
def test_index_finds_a_keypoint_in_any_spelling(name: str) -> None:
    skeleton = Skeleton("dog", ("nose", "right_hip", name), (), (0.1,) * 3)

    assert skeleton.index("left_hip") == 2
    assert skeleton.upper_body.tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["head-top", "HeadTop", "Head top", "headtop"])
def test_index_finds_a_keypoint_without_a_side_in_any_spelling(name: str) -> None:
    assert Skeleton("dog", ("nose", name), (), (0.1,) * 2).index("head_top") == 1


@pytest.mark.parametrize(
    ("keypoints", "limbs", "message"),
    [
        (["nose", "tail"], [(1, 3)], "category 'dog'.*outside 1..2"),
        (["nose", "tail"], [(0, 1)], "category 'dog'.*outside 1..2"),
        (["left_paw", "tail"], [], "dog.*'left_paw' has no partner on the other side"),
        (["Paw-Right", "tail"], [], "dog.*'Paw-Right' has no partner on the other side"),
        (["nose", "nose"], [], "category 'dog'.*twice"),
    ],
    ids=str,
)
def test_a_broken_category_is_refused_by_name(
    keypoints: list[str], limbs: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(HwlError, match=message):
        skeleton_from_category("dog", keypoints, limbs)
