"""The numbers against slow loops from the paper's protocol and against pycocotools itself."""

from __future__ import annotations

import copy
import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from hwl.data.annotations import Annotations, load_split
from hwl.errors import HwlError
from hwl.evaluation.coco_ap import COCO_NUMBERS, coco_ap, precision_recall
from hwl.evaluation.oks import keypoint_errors, oks_between, oks_nms, oks_to_truth
from hwl.evaluation.pck import check_metric, pck, pckh
from hwl.inference.poses import Poses, coco_results, pose_scores
from hwl.skeletons import COCO, LSP, MPII, Skeleton

seeds = st.integers(0, 2**32 - 1)


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


def test_results_are_in_cocos_format_without_a_box() -> None:
    annotations = truth()
    persons = jittered(annotations, 2)

    first = json.loads(json.dumps(results_of(annotations, persons, persons.box_scores)))[0]

    # A bbox would give pycocotools the person's area.
    assert set(first) == {"image_id", "category_id", "keypoints", "score"}
    assert first["image_id"] == annotations.image_ids[persons.image_index[0]]
    assert first["score"] == persons.box_scores[0] and first["category_id"] == 1
    expected = np.column_stack([persons.keypoints[0], persons.scores[0]])
    assert first["keypoints"] == expected.ravel().tolist()


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP])
def test_the_truth_itself_scores_one(skeleton: Skeleton) -> None:
    annotations = truth(skeleton=skeleton)

    numbers = ap_of(annotations, jittered(annotations, 0))

    assert set(numbers) == set(COCO_NUMBERS)
    assert [numbers[name] for name in ("AP", "AP50", "AP75", "AR")] == pytest.approx([1] * 4)


def test_all_ten_numbers_equal_pycocotools_on_the_same_files(shared: Path, tmp_path: Path) -> None:
    annotations = load_split(shared / "data/coco-subset", "val2017")
    persons = jittered(annotations, 12)
    results = results_of(annotations, persons, persons.box_scores)
    (tmp_path / "results.json").write_text(json.dumps(results))
    reference = CocoFile(str(annotations.path))
    judge = COCOeval(reference, reference.loadRes(str(tmp_path / "results.json")), "keypoints")
    for step in (judge.evaluate, judge.accumulate, judge.summarize):
        step()

    numbers = coco_ap(annotations, results)

    assert list(numbers) == list(COCO_NUMBERS)
    assert list(numbers.values()) == judge.stats.tolist()
    assert all(0.05 < value < 0.95 for value in numbers.values())  # so that all ten tell something


def test_the_truth_of_the_coco_subset_scores_one_and_half_of_it_half_the_recall(
    shared: Path,
) -> None:
    annotations = load_split(shared / "data/coco-subset", "val2017")
    persons = jittered(annotations, 0)
    results = results_of(annotations, persons, persons.box_scores)

    whole, half = coco_ap(annotations, results), coco_ap(annotations, results[: len(results) // 2])

    assert list(whole.values()) == pytest.approx([1] * 10)
    # The second half of the images has no prediction at all, and counts.
    assert half["AR"] == pytest.approx(0.5, abs=0.002)


def test_no_results_score_zero() -> None:
    numbers = coco_ap(truth(), [], bootstrap=5)

    assert set(numbers) == {*COCO_NUMBERS, "AP_low", "AP_high"} and set(numbers.values()) == {0}


def test_the_number_of_a_size_that_nobody_has_is_nan() -> None:
    annotations = truth(size=300)  # large: above 96 x 96 pixels

    numbers = ap_of(annotations, jittered(annotations, 0))

    assert math.isnan(numbers["AP_M"]) and math.isnan(numbers["AR_M"])
    assert numbers["AP_L"] == pytest.approx(1)


def test_coco_ap_leaves_its_results_alone() -> None:
    annotations = truth()
    results = results_of(annotations, jittered(annotations, 3), np.ones(11))
    before = copy.deepcopy(results)

    coco_ap(annotations, results, bootstrap=2)

    assert results == before


def test_the_interval_is_about_the_value_and_the_same_each_time() -> None:
    annotations = truth(count=60, images=30, size=120)  # medium and large
    persons = jittered(annotations, 6)

    numbers = ap_of(annotations, persons, bootstrap=60)

    assert 0 < numbers["AP_low"] < numbers["AP"] < numbers["AP_high"] < 1
    assert numbers == ap_of(annotations, persons, bootstrap=60)
    assert ap_of(annotations, persons).items() <= numbers.items()


@pytest.mark.filterwarnings("error")
def test_the_interval_bears_images_without_persons() -> None:
    # All resampled images are often empty ones here, which have no AP.
    annotations = replace(truth(count=2, images=3), image_index=np.array([0, 0]))

    numbers = ap_of(annotations, jittered(annotations, 0), bootstrap=30)

    assert numbers["AP_low"] == pytest.approx(1) and numbers["AP_high"] == pytest.approx(1)


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


def share_by_loop(
    annotations: Annotations, keypoints: np.ndarray, lengths: list[float], part: float
) -> dict[str, float]:
    """By keypoint: how many annotated ones lie within a part of their person's length."""
    shares = {}
    for k, name in enumerate(annotations.skeleton.keypoints):
        near = []
        for person, place, length in zip(annotations.annotated(), keypoints, lengths, strict=True):
            x, y, visibility = annotations.keypoints[person, k]
            if visibility > 0 and length > 0:
                near.append(math.dist((x, y), place[k]) <= part * length)
        shares[name] = sum(near) / len(near)
    return shares


def test_results_and_ap_are_of_the_files_own_person_category() -> None:
    annotations = truth()
    persons = jittered(annotations, 4)
    fifth = replace(annotations, category_id=5)

    results = results_of(fifth, persons, persons.box_scores)

    assert {result["category_id"] for result in results} == {5}
    assert coco_ap(fifth, results) == pytest.approx(ap_of(annotations, persons), nan_ok=True)


def test_pck_equals_the_loop_over_torsos() -> None:
    annotations = truth(count=40, skeleton=LSP)
    keypoints = jittered(annotations, 14).keypoints
    torsos = []
    for person in annotations.keypoints[annotations.annotated()]:
        shoulder, hip = person[LSP.index("left_shoulder")], person[LSP.index("right_hip")]
        both = shoulder[2] > 0 and hip[2] > 0
        torsos.append(math.dist(shoulder[:2], hip[:2]) if both else 0)
    assert 0 in torsos
    expected = share_by_loop(annotations, keypoints, torsos, 0.2)

    found = pck(annotations, keypoints)

    assert found.pop("PCK") == pytest.approx(np.mean(list(expected.values())))
    assert found == pytest.approx(expected) and 0.2 < np.mean(list(found.values())) < 0.9


def test_pckh_equals_the_loop_over_heads_without_pelvis_and_thorax() -> None:
    annotations = truth(count=40, skeleton=MPII)
    keypoints = jittered(annotations, 9).keypoints
    heads = annotations.head_sizes[annotations.annotated()].tolist()
    expected = share_by_loop(annotations, keypoints, heads, 0.5)
    counted = [share for name, share in expected.items() if name not in ("pelvis", "thorax")]

    found = pckh(annotations, keypoints)

    assert found.pop("PCKh") == pytest.approx(sum(counted) / 14)
    assert found == pytest.approx(expected) and 0.2 < np.mean(counted) < 0.9


def test_the_mean_precision_over_recall_is_ap() -> None:
    annotations = truth()
    persons = jittered(annotations, 6.0)
    results = results_of(annotations, persons, np.linspace(0, 1, len(persons)))

    recalls, curves = precision_recall(annotations, results)

    assert list(curves) == [round(0.5 + 0.05 * step, 2) for step in range(10)]
    assert all(len(precision) == len(recalls) for precision in curves.values())
    numbers = coco_ap(annotations, results)
    assert np.mean(list(curves.values())) == pytest.approx(numbers["AP"], abs=1e-12)
    assert curves[0.75].mean() == pytest.approx(numbers["AP75"], abs=1e-12)


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
