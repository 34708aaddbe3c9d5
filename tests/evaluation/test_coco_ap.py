"""COCO's numbers against pycocotools itself."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from hwl.data.annotations import load_split
from hwl.evaluation.coco_ap import COCO_NUMBERS, coco_ap, precision_recall
from hwl.skeletons import COCO, LSP, MPII, Skeleton

from .made_poses import ap_of, jittered, results_of, truth


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


def test_results_and_ap_are_of_the_files_own_person_category() -> None:
    annotations = truth()
    persons = jittered(annotations, 4)
    fifth = replace(annotations, category_id=5)

    results = results_of(fifth, persons, persons.box_scores)

    assert {result["category_id"] for result in results} == {5}
    assert coco_ap(fifth, results) == pytest.approx(ap_of(annotations, persons), nan_ok=True)


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
