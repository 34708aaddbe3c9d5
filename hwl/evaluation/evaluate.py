"""Evaluation: a model, a data set and a protocol in; the field's numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hwl.allocator import keep_freed_memory
from hwl.data.annotations import Annotations, Boxes, load_detections, load_split
from hwl.errors import HwlError
from hwl.evaluation.coco_ap import coco_ap
from hwl.evaluation.config import METRICS, EvaluateConfig
from hwl.evaluation.oks import keypoint_errors, keypoint_similarity, oks_nms, oks_to_truth
from hwl.evaluation.pck import check_metric, pck, pckh
from hwl.evaluation.persons import PERSONS_FILE, persons_of, write_persons
from hwl.files import write_compact_json, write_json, write_table
from hwl.inference.load import open_predictor, shared_options
from hwl.inference.poses import Poses, coco_results, pose_scores
from hwl.inference.predictor import Predictor
from hwl.models.description import DECODE
from hwl.models.published import fetch_weights
from hwl.runs.provenance import fingerprints, provenance, recorded_config

KEYPOINTS_FILE = "keypoints.csv"
RELIABILITY_FILE = "reliability.csv"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: the numbers, between 0 and 1.
        protocol: how they were made: boxes, flip, decode, input size, images, persons.
        poses: the predictions, one a box, before suppression.
        results: surviving persons in COCO's result format (AP only).
        origin: what `run.json` tells of the files that were read: their fingerprints as `inputs`
            and the weights' own configuration as `trained` (`evaluate_weights` only).
    """

    metrics: dict[str, float]
    protocol: dict[str, object]
    poses: Poses
    results: list[dict[str, object]]
    origin: dict[str, object] = field(default_factory=dict)

    def sentence(self) -> str:
        """The protocol in words, to stand beside every number."""
        how = self.protocol
        return (
            f"{how['boxes']} boxes, {'flip test' if how['flip'] else 'no flip'}, "
            f"{how['decode']} decode, input {how['input']}, {how['images']} images, "
            f"{how['persons']} boxes, runtime {how['runtime']}"
        )


def evaluate(
    predictor: Predictor,
    annotations: Annotations,
    boxes: Boxes,
    metric: str = "AP",
    workers: int = 0,
    bootstrap: int = 0,
) -> Evaluation:
    """Predict in all boxes and score the poses.

    Args:
        predictor: from `hwl.load`.
        annotations: images and ground truth.
        boxes: from `annotations.ground_truth_boxes()` or `load_detections`.
        metric: "AP", "PCK" or "PCKh"; the latter two need ground-truth boxes.
        workers: processes that read and crop; 0 does it in this one.
        bootstrap: resamplings for a 95 % interval of AP (0: none).

    Raises:
        HwlError: unknown metric, or detected boxes with a metric that cannot use them.
    """
    _check_metric(metric, boxes)
    poses = predictor.predict(annotations, boxes, workers)
    return score(predictor, annotations, boxes, poses, metric, bootstrap)


def _check_metric(metric: str, boxes: Boxes) -> None:
    """HwlError unless the metric is known and defined on such boxes."""
    if metric not in METRICS:
        raise HwlError(f"metric '{metric}' is not one of {', '.join(METRICS)}")
    if metric != "AP" and boxes.source != "ground truth":
        raise HwlError(f"{metric} is defined on ground-truth boxes; leave the detections out")


def score(
    predictor: Predictor,
    annotations: Annotations,
    boxes: Boxes,
    poses: Poses,
    metric: str = "AP",
    bootstrap: int = 0,
) -> Evaluation:
    """Score the poses predicted in all boxes; the arguments are those of `evaluate`."""
    found: list[dict[str, object]] = []
    if metric == "AP":
        scores = pose_scores(poses)
        keep = oks_nms(poses, scores, annotations.skeleton)
        ids = annotations.image_ids[poses.image_index]
        everything = coco_results(poses, ids, scores, annotations.category_id)
        found = [everything[i] for i in keep]
        # A list of images without ground truth, such as test-dev's, gets predictions only.
        numbers = coco_ap(annotations, found, bootstrap) if len(annotations.ids) else {}
    elif metric == "PCK":
        numbers = pck(annotations, poses.keypoints)
    else:
        numbers = pckh(annotations, poses.keypoints)
    if boxes.source == "ground truth":
        numbers["OKS"] = float(oks_to_truth(annotations, poses.keypoints).mean())
    height, width = predictor.codec.input_size
    protocol: dict[str, object] = {
        "boxes": "ground-truth" if boxes.source == "ground truth" else "detected",
        "boxes_from": boxes.source,
        "flip": predictor.flip,
        "decode": DECODE,
        "runtime": predictor.runtime,
        "input": f"{height}x{width}",
        "images": len(annotations.image_ids),
        "persons": len(boxes),
    }
    return Evaluation(numbers, protocol, poses, found)


def evaluate_weights(config: EvaluateConfig) -> tuple[Annotations, list[Evaluation]]:
    """Evaluate a weights file by protocol.

    With ground-truth boxes; with the detected boxes too where `config.detections` is given, which
    is the paper's protocol. Where the flip test is used, ground-truth boxes also without it.

    Returns:
        The ground truth and one evaluation a protocol, the main one last.

    Raises:
        HwlError: weights, data or detections that cannot be used, or weights whose keypoints are
            not those of the data by name and order.
    """
    if config.limit and config.detections:
        raise HwlError(
            f"limit is {config.limit}: it leaves out persons that {config.detections} has boxes "
            "of, and these would count as false; set limit to 0 or leave the detections out"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    annotations = load_split(Path(config.data), config.split).first(config.limit)
    protocols = []
    if len(annotations.ids):
        check_metric(annotations, config.metric)
        boxes = annotations.ground_truth_boxes()
        protocols = [(boxes, flip) for flip in sorted({False, config.flip})]
    if config.detections:
        protocols.append((load_detections(Path(config.detections), annotations), config.flip))
    if not protocols:
        raise HwlError(f"{annotations.path} has no persons: give detected boxes for its images")
    for boxes, _ in protocols:
        _check_metric(config.metric, boxes)
    predictor = open_predictor(config.weights, shared_options(config), config.runtime)
    predictor.check_keypoints(annotations, config.weights)
    origin = _origin(config, annotations)  # before the hours in which a file may be replaced
    found = [
        evaluate(
            replace(predictor, flip=flip),
            annotations,
            boxes,
            metric=config.metric,
            workers=config.workers,
            bootstrap=config.bootstrap,
        )
        for boxes, flip in protocols
    ]
    return annotations, [replace(one, origin=origin) for one in found]


def _origin(config: EvaluateConfig, annotations: Annotations) -> dict[str, object]:
    weights = fetch_weights(config.weights, config.model)  # a path, or fetched before and checked
    inputs = {"weights": weights, "annotations": annotations.path, "images": annotations.folder}
    if config.detections:
        inputs["detections"] = Path(config.detections)
    trained = recorded_config(weights.with_name("run.json"))
    return {"inputs": fingerprints(inputs), **({"trained": trained} if trained else {})}


def on_ground_truth(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The last evaluation with ground-truth boxes, where every prediction has its person."""
    found = [one for one in evaluations if one.protocol["boxes"] == "ground-truth"]
    return found[-1] if found else None


def keypoint_table(annotations: Annotations, keypoints: np.ndarray) -> pd.DataFrame:
    """Each keypoint's errors in square roots of the person's area, one row a keypoint.

    Args:
        annotations: ground truth.
        keypoints: (Q, K, 2) predictions in image pixels for its annotated persons, in order.
    """
    names = annotations.skeleton.keypoints
    errors = keypoint_errors(annotations, keypoints)
    similar = pd.DataFrame(keypoint_similarity(errors, annotations.skeleton), columns=names)
    found = pd.DataFrame(errors, columns=names)
    columns = {
        "annotated": found.count(),
        "median error": found.median(),
        "95 % error": found.quantile(0.95),
        "mean similarity": similar.mean(),
    }
    return pd.DataFrame(columns).rename_axis("keypoint").reset_index()


def reliability_table(annotations: Annotations, poses: Poses, bins: int = 10) -> pd.DataFrame:
    """How much the height of a predicted peak says about its error.

    Args:
        annotations: ground truth.
        poses: predictions in the boxes of its annotated persons, in order.
        bins: of equally many keypoints, from the lowest peaks to the highest.

    Returns:
        One row a bin: its number, the mean `height`, the `median error` in square roots of the
        person's area, how many `keypoints`, and the `rank correlation` of height and error
        (Spearman) over all bins, the same in each row.
    """
    errors = keypoint_errors(annotations, poses.keypoints)
    known = ~np.isnan(errors)
    peaks = pd.DataFrame({"height": poses.scores[known], "error": errors[known]})
    order = np.argsort(peaks["height"], kind="stable")
    parts = [peaks.iloc[part] for part in np.array_split(order, bins)]
    return pd.DataFrame(
        {
            "bin": range(1, bins + 1),
            "height": [part["height"].mean() for part in parts],
            "median error": [part["error"].median() for part in parts],
            "keypoints": [len(part) for part in parts],
            "rank correlation": peaks["height"].corr(peaks["error"], method="spearman"),
        }
    )


def write_evaluation(
    folder: Path, config: EvaluateConfig, annotations: Annotations, evaluations: list[Evaluation]
) -> None:
    """Fill a run folder: `metrics.json`, `protocols.csv`, `run.json` and, for AP, the results file.

    `keypoints_<split>_results.json` holds the last protocol's persons as COCO's test server takes
    them. `metrics.json` has that protocol's numbers, `protocols.csv` a row for each. Of the
    predictions in ground-truth boxes, `persons.npz` has each person's OKS, `keypoints.csv` each
    keypoint's errors and `reliability.csv` the errors by height of the peak.
    """
    rows = [{**e.protocol, **e.metrics} for e in evaluations]
    write_table(folder / "protocols.csv", rows)
    write_json(folder / "metrics.json", rows[-1])
    if config.metric == "AP":
        results = folder / f"keypoints_{config.split}_results.json"
        write_compact_json(results, evaluations[-1].results)
    if on_truth := on_ground_truth(evaluations):
        poses = on_truth.poses
        write_persons(folder / PERSONS_FILE, persons_of(annotations, poses))
        errors = keypoint_table(annotations, poses.keypoints)
        write_table(folder / KEYPOINTS_FILE, errors.to_dict("records"))
        reliability = reliability_table(annotations, poses)
        write_table(folder / RELIABILITY_FILE, reliability.to_dict("records"))
    write_json(folder / "run.json", provenance(config, {}) | evaluations[-1].origin)
