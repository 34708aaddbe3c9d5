"""Similarity of poses, against slow loops and against pycocotools itself."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from hwl.data.annotations import load_split
from hwl.evaluation.oks import keypoint_errors, oks_between, oks_nms, oks_to_truth
from hwl.inference.poses import Poses, pose_scores
from hwl.skeletons import COCO

from .made_poses import crowd_of, jittered, results_of, truth

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds)
def test_person_scores_equal_the_loop(seed: int) -> None:
    persons = crowd_of(seed, 6, 2)
    persons.scores[0] = 0.2  # not above 0.2: none counts

    found = pose_scores(persons)

    assert found[0] == 0
    for person in range(1, 6):
        counted = [score for score in persons.scores[person] if score > 0.2]
        mean = sum(counted) / len(counted) if counted else 0
        assert found[person] == pytest.approx(persons.box_scores[person] * mean)


def oks_of(persons: Poses, a: int, b: int) -> float:
    """COCO's formula: exp(-d^2 / (2 area k^2)) with k = 2 sigma, the mean over keypoints."""
    area = (persons.areas[a] + persons.areas[b]) / 2
    total = 0.0
    for here, there, sigma in zip(
        persons.keypoints[a], persons.keypoints[b], COCO.sigmas, strict=True
    ):
        total += math.exp(-(math.dist(here, there) ** 2) / (2 * area * (2 * sigma) ** 2))
    return total / 17


@given(seed=seeds)
def test_oks_between_equals_the_loop_at_the_mean_area(seed: int) -> None:
    persons = crowd_of(seed, 4, 1)

    found = oks_between(persons.keypoints, persons.areas, np.array(COCO.sigmas))

    expected = [[oks_of(persons, i, j) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_thousands_of_persons_in_an_image_are_compared_in_little_memory() -> None:
    persons = crowd_of(0, 1000, 1)
    tracemalloc.start()

    found = oks_between(persons.keypoints, persons.areas, np.array(COCO.sigmas))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # at once they would take 272 MB and more
    for a, b in [(0, 999), (500, 501), (999, 3), (64, 65), (65, 66)]:
        assert found[a, b] == pytest.approx(oks_of(persons, a, b))


def survivors_by_loop(persons: Poses, scores: np.ndarray) -> list[int]:
    """Greedy by score within each image: keep one, drop what resembles it by more than 0.9."""
    kept: list[int] = []
    for image in set(persons.image_index.tolist()):
        waiting = [i for i in range(len(persons)) if persons.image_index[i] == image]
        waiting.sort(key=lambda i: -scores[i])
        while waiting:
            best = waiting.pop(0)
            kept.append(best)
            similar = [oks_of(persons, best, i) for i in waiting]
            waiting = [i for i, value in zip(waiting, similar, strict=True) if value <= 0.9]
    return kept


@settings(max_examples=60)
@given(
    seed=seeds,
    count=st.integers(1, 14),
    images=st.integers(1, 4),
    spread=st.sampled_from([0.5, 1.5, 2, 2.5]),
    levels=st.sampled_from([0, 2]),
)
def test_suppression_keeps_whom_the_greedy_loop_keeps(
    seed: int, count: int, images: int, spread: float, levels: int
) -> None:
    persons = crowd_of(seed, count, images, spread, levels)

    kept = oks_nms(persons, persons.box_scores, COCO)

    assert sorted(kept.tolist()) == sorted(survivors_by_loop(persons, persons.box_scores))


def test_one_suppressed_person_suppresses_nobody() -> None:
    # A resembles B and B resembles C, but A does not resemble C: C lives once B is gone.
    keypoints = np.zeros((3, 17, 2)) + np.array([0, 1.2, 2.4])[:, None, None]
    persons = Poses(
        skeleton=COCO,
        image_index=np.zeros(3, int),
        keypoints=keypoints,
        scores=keypoints[..., 0],
        boxes=np.zeros((3, 4)),
        box_scores=np.array([3, 2, 1]),
        areas=np.full(3, 3e3),
    )

    assert oks_nms(persons, persons.box_scores, COCO).tolist() == [0, 2]


def test_keypoint_errors_are_distances_in_roots_of_the_persons_area() -> None:
    annotations = truth()
    annotations.keypoints[2, :3] = (10, 20, 2), (10, 20, 1), (10, 20, 0)
    annotations.areas[2] = 100
    keypoints = annotations.keypoints[annotations.annotated(), :, :2] + (30, 40)

    found = keypoint_errors(annotations, keypoints)

    np.testing.assert_array_equal(found[2, :3], [5, 5, np.nan])


def test_oks_to_truth_equals_pycocotools(shared: Path) -> None:
    annotations = load_split(shared / "data/coco-subset", "val2017").first(200)
    persons = jittered(annotations, 10)
    # Falling scores keep the file's order, so that person and prediction meet on the diagonal.
    results = results_of(annotations, persons, -np.arange(len(persons)))
    reference = CocoFile(str(annotations.path))
    judge = COCOeval(reference, reference.loadRes(results), "keypoints")
    judge._prepare()
    expected = np.zeros(200)
    for index, image in enumerate(annotations.image_ids):
        here = np.flatnonzero(annotations.image_index == index)
        expected[here] = np.diag(judge.computeOks(image, 1))[: len(here)]

    found = oks_to_truth(annotations, persons.keypoints)

    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.std() > 0.1
