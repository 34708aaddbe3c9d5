"""Evaluation with models whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_detections, load_split
from hwl.data.crops import box_crop, keypoints_to_input
from hwl.errors import HwlError
from hwl.evaluation import evaluate as evaluation
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_weights,
    keypoint_table,
    reliability_table,
)
from hwl.inference.predictor import Predictor
from hwl.models import Description, PoseNet
from hwl.skeletons import LSP, MPII

from .drawn_data import PERSONS, write_data, write_detections

CODEC = HeatmapCodec((128, 96))


class Oracle:
    """Answers with the true targets of a data set's persons, whose crops come by image.

    With the flip test it is asked twice for each batch, the second time for mirrored crops.
    """

    def __init__(self, annotations: Annotations, boxes: Boxes, flip: bool) -> None:
        # A detected box is one of a person's copies.
        persons = np.arange(len(boxes)) % len(annotations.ids)
        order = np.argsort(boxes.image_index, kind="stable")
        self.answers = [
            [
                self._target(annotations, persons[number], boxes.boxes[number], mirrored)
                for number in order
            ]
            for mirrored in ([False, True] if flip else [False])
        ]
        self.asked = 0
        self.given = [0, 0]

    @staticmethod
    def _target(
        annotations: Annotations, person: int, box: np.ndarray, mirrored: bool
    ) -> np.ndarray:
        crop = replace(box_crop(box, CODEC.input_size), mirrored=mirrored)
        keypoints = annotations.keypoints[person]
        keypoints = keypoints_to_input(keypoints, crop, CODEC.input_size, annotations.skeleton)
        return CODEC.encode(keypoints[:, :2], keypoints[:, 2] > 0)[0]

    def __call__(self, crops: Tensor) -> Tensor:
        turn = self.asked % len(self.answers)
        self.asked += 1
        start = self.given[turn]
        self.given[turn] += len(crops)
        return torch.from_numpy(np.stack(self.answers[turn][start : start + len(crops)]))


def perfect(
    annotations: Annotations,
    boxes: Boxes,
    metric: str,
    flip: bool = True,
    batch_size: int = 64,
    **how: int,
) -> Evaluation:
    model = PoseNet(torch.nn.Identity(), torch.nn.Identity(), {"name": "oracle"})
    model.describe(Description(skeleton=annotations.skeleton))
    predictor = Predictor(
        model=model,
        prepared=Oracle(annotations, boxes, flip),
        codec=CODEC,
        flip=flip,
        batch_size=batch_size,
    )
    return evaluate(predictor, annotations, boxes, metric, **how)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("metric", ["AP", "PCK", "PCKh"])
def test_a_perfect_model_scores_one(annotations: Annotations, metric: str, flip: bool) -> None:
    found = perfect(annotations, annotations.ground_truth_boxes(), metric, flip, batch_size=2)

    assert found.metrics[metric] == pytest.approx(1)
    assert len(found.poses) == PERSONS
    assert len(found.results) == (PERSONS if metric == "AP" else 0)


def test_pckh_of_mpiis_keypoints_is_taken_too(tmp_path: Path) -> None:
    annotations = load_split(write_data(tmp_path / "mpii", MPII), "val")

    assert perfect(annotations, annotations.ground_truth_boxes(), "PCKh").metrics["PCKh"] == 1


def test_the_interval_comes_with_the_bootstrap(annotations: Annotations) -> None:
    found = perfect(annotations, annotations.ground_truth_boxes(), "AP", bootstrap=3)

    assert found.metrics["AP_low"] == pytest.approx(1) == found.metrics["AP_high"]


def test_duplicates_are_suppressed_and_scores_are_those_of_box_and_keypoints(
    data: Path, annotations: Annotations
) -> None:
    boxes = load_detections(write_detections(data, copies=3), annotations)

    found = perfect(annotations, boxes, "AP")

    assert len(found.poses) == 3 * PERSONS and len(found.results) == PERSONS
    assert found.metrics["AP"] == pytest.approx(1)
    # The best copy of each, with box score 0.9 and peaks of 1 (a little less for the flip test).
    assert all(0.8 < result["score"] <= 0.9 for result in found.results)


def test_results_are_made_once_for_all_survivors(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once for each of COCO's 104,125 detections would take days.
    calls: list[int] = []

    def counted(*arguments: object) -> list[dict[str, object]]:
        calls.append(1)
        return coco_results(*arguments)

    coco_results = evaluation.coco_results
    monkeypatch.setattr(evaluation, "coco_results", counted)

    perfect(annotations, annotations.ground_truth_boxes(), "AP")

    assert len(calls) == 1


def test_an_unknown_metric_is_refused(annotations: Annotations) -> None:
    with pytest.raises(HwlError, match="'OKS' is not one of AP, PCK, PCKh"):
        perfect(annotations, annotations.ground_truth_boxes(), "OKS")


@pytest.mark.parametrize("metric", ["PCK", "PCKh"])
def test_pck_refuses_detected_boxes(data: Path, annotations: Annotations, metric: str) -> None:
    boxes = load_detections(write_detections(data), annotations)

    with pytest.raises(HwlError, match=f"{metric} is defined on ground-truth boxes"):
        perfect(annotations, boxes, metric)


def test_the_protocol_is_told_in_a_sentence(data: Path, annotations: Annotations) -> None:
    truth = annotations.ground_truth_boxes()
    detected = load_detections(write_detections(data, copies=2), annotations)

    sentences = [
        perfect(annotations, truth, "AP", flip=False).sentence(),
        perfect(annotations, detected, "AP").sentence(),
    ]

    assert sentences[0].startswith("ground-truth boxes, no flip, ")
    assert sentences[0].endswith("decode, input 128x96, 3 images, 5 boxes, runtime eager")
    assert sentences[1].startswith("detected boxes, flip test, ")
    assert sentences[1].endswith("3 images, 10 boxes, runtime eager")


def test_the_keypoint_table_has_each_keypoints_errors(annotations: Annotations) -> None:
    keypoints = annotations.keypoints[:, :, :2].copy()
    keypoints[:, 2, 0] += np.sqrt(annotations.areas) * [0.1, 0.1, 0.2, 0.4, 0.4]

    table = keypoint_table(annotations, keypoints)

    assert table["keypoint"].tolist() == list(LSP.keypoints)
    assert table["annotated"].tolist() == [PERSONS] * 14
    assert table["median error"].tolist() == pytest.approx([0, 0, 0.2, *[0] * 11])
    assert table["95 % error"][2] == pytest.approx(0.4)
    assert table["mean similarity"][0] == 1 and 0.1 < table["mean similarity"][2] < 0.9


@pytest.mark.filterwarnings("error")
def test_a_keypoint_that_nobody_has_annotated_has_no_error(annotations: Annotations) -> None:
    truth = annotations.keypoints.copy()
    truth[:, 0, 2] = 0
    annotations = replace(annotations, keypoints=truth)

    table = keypoint_table(annotations, truth[:, :, :2])

    assert table["annotated"].tolist() == [0, *[PERSONS] * 13]
    assert table.iloc[0, 2:].isna().all() and table.iloc[1:].notna().all(axis=None)


def test_the_reliability_table_sorts_the_annotated_keypoints_by_height(
    annotations: Annotations,
) -> None:
    truth = annotations.keypoints.copy()
    truth[0, 0, 2] = 0  # not annotated
    annotations = replace(annotations, keypoints=truth)
    poses = perfect(annotations, annotations.ground_truth_boxes(), "AP", flip=False).poses
    poses.scores[:] = np.random.default_rng(0).random(poses.scores.shape)
    poses.keypoints[:] = truth[:, :, :2]
    poses.keypoints[:, :, 0] += np.sqrt(annotations.areas)[:, None] * (1 - poses.scores)

    table = reliability_table(annotations, poses, bins=5)

    heights = np.sort(np.delete(poses.scores.ravel(), 0))[::-1]
    lowest = heights[-len(heights) // 5 :]
    assert table["bin"].tolist() == [1, 2, 3, 4, 5]
    assert table["keypoints"].sum() == PERSONS * 14 - 1
    assert table["height"][0] == pytest.approx(lowest.mean(), rel=1e-5)
    assert table["median error"][0] == pytest.approx(1 - np.median(lowest), rel=1e-4)
    assert table["median error"].is_monotonic_decreasing
    assert table["rank correlation"].tolist() == pytest.approx([-1] * 5)


def test_pck_with_detections_is_refused_before_the_weights_are_read(data: Path) -> None:
    detections = write_detections(data)
    config = EvaluateConfig(
        weights="none",
        data=str(data),
        split="val",
        detections=str(detections),
        metric="PCK",
        output="out",
    )

    with pytest.raises(HwlError, match="PCK is defined on ground-truth boxes"):
        evaluate_weights(config)
