"""Evaluation: a network, a data set and a protocol in; the field's numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hwl import results
from hwl.allocator import keep_freed_memory
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_detections, load_split
from hwl.errors import HwlError
from hwl.metrics import (
    Persons,
    coco_ap,
    coco_results,
    joint_errors,
    joint_similarity,
    oks_nms,
    pck,
    pckh,
    person_scores,
)
from hwl.models import PoseNet, open_model
from hwl.models.published import fetch_weights
from hwl.prediction import Network, predict
from hwl.speed.choice import ready

METRICS = ("AP", "PCK", "PCKh")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """An evaluation run; the defaults are the paper's test protocol."""

    output: str  # the run's folder
    weights: str  # weights file of hwl, any checkpoint or URL with `model`, or openmmlab
    model: str = ""  # of create_model, if the weights do not name their network (empty: they do)
    data: str  # folder in COCO's layout
    split: str = "val2017"  # annotations/person_keypoints_<split>.json
    limit: int = 0  # use the first so many persons (0: all)
    detections: str = ""  # detected boxes, COCO result format (empty: ground-truth boxes)
    metric: str = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII)
    flip: bool = True  # flip test
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    batch_size: int = 64  # crops a forward pass
    workers: int = 2  # processes that read and crop
    threads: int = 0  # CPU threads (0: torch's default)
    runtime: str = "eager"  # of hwl.runtimes, or auto: the fastest of float32 precision here
    calibration_data: str = ""  # folder in COCO's layout whose persons calibrate an int8 runtime
    calibration_split: str = "train2017"  # annotations/person_keypoints_<split>.json there
    bootstrap: int = 200  # resamplings of the pictures for the interval of AP (0: none)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: the numbers, between 0 and 1.
        protocol: how they were made: boxes, flip, decode, input size, pictures, persons.
        persons: the predictions, one a box, before suppression.
        results: surviving persons in COCO's result format (AP only).
    """

    metrics: dict[str, float]
    protocol: dict[str, object]
    persons: Persons
    results: list[dict[str, object]]

    def sentence(self) -> str:
        """The protocol in words, to stand beside every number."""
        how = self.protocol
        return (
            f"{how['boxes']} boxes, {'flip test' if how['flip'] else 'no flip'}, "
            f"{how['decode']} decode, input {how['input']}, {how['pictures']} pictures, "
            f"{how['persons']} boxes, runtime {how['runtime']}"
        )


def evaluate(
    network: Network,
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    metric: str = "AP",
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    bootstrap: int = 0,
    runtime: str = "eager",
) -> Evaluation:
    """Predict in all boxes and score the predictions.

    Args:
        network: the pose network in evaluation mode, on `device`.
        annotations: pictures and ground truth.
        boxes: from `annotations.ground_truth_boxes()` or `load_detections`.
        codec: knows the input size and decodes.
        metric: "AP", "PCK" or "PCKh"; the latter two need ground-truth boxes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        workers: processes that read and crop; 0 does it in this one.
        device: where the network is.
        bootstrap: resamplings for a 95 % interval of AP (0: none).
        runtime: what the network runs in, to be told with the numbers.

    Raises:
        HwlError: unknown metric, or detected boxes with a metric that cannot use them.
    """
    if metric not in METRICS:
        raise HwlError(f"metric '{metric}' is not one of {', '.join(METRICS)}")
    if metric != "AP" and boxes.source != "ground truth":
        raise HwlError(f"{metric} is defined on ground-truth boxes; leave the detections out")
    persons = predict(network, annotations, boxes, codec, flip, batch_size, workers, device)
    found: list[dict[str, object]] = []
    if metric == "AP":
        scores = person_scores(persons)
        keep = oks_nms(persons, scores, annotations.skeleton)
        everything = coco_results(annotations, persons, scores)
        found = [everything[i] for i in keep]
        # A list of pictures without ground truth, such as test-dev's, gets predictions only.
        numbers = coco_ap(annotations, found, bootstrap) if len(annotations.ids) else {}
    elif metric == "PCK":
        numbers = pck(annotations, persons.joints)
    else:
        numbers = pckh(annotations, persons.joints)
    protocol = {
        "boxes": "ground-truth" if boxes.source == "ground truth" else "detected",
        "boxes_from": boxes.source,
        "flip": flip,
        "decode": "quarter-pixel",
        "runtime": runtime,
        "input": f"{codec.input_size[0]}x{codec.input_size[1]}",
        "pictures": len(annotations.picture_ids),
        "persons": len(boxes),
    }
    return Evaluation(numbers, protocol, persons, found)


def evaluate_weights(config: EvaluateConfig) -> tuple[Annotations, list[Evaluation]]:
    """Evaluate a weights file by protocol.

    With ground-truth boxes; with the detected boxes too where `config.detections` is given, which
    is the paper's protocol. Where the flip test is used, ground-truth boxes also without it.

    Returns:
        The ground truth and one evaluation a protocol, the main one last.

    Raises:
        HwlError: weights, data or detections that cannot be used.
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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = open_model(config.weights, config.model).to(device)
    check_joints(model, annotations)
    codec = HeatmapCodec((config.input_height, config.input_width))
    protocols = []
    if len(annotations.ids):
        boxes = annotations.ground_truth_boxes()
        protocols = [(boxes, flip) for flip in sorted({False, config.flip})]
    if config.detections:
        protocols.append((load_detections(Path(config.detections), annotations), config.flip))
    if not protocols:
        raise HwlError(f"{annotations.path} has no persons: give detected boxes for its pictures")
    runtime, network = ready(
        *(model, config.runtime, codec.input_size, config.batch_size),
        *((config.calibration_data, config.calibration_split), device),
    )
    return annotations, [
        evaluate(
            *(network, annotations, boxes, codec, config.metric, flip),
            *(config.batch_size, config.workers, device, config.bootstrap, runtime),
        )
        for boxes, flip in protocols
    ]


def joint_table(annotations: Annotations, joints: np.ndarray) -> pd.DataFrame:
    """Each joint's errors in square roots of the person's area, one row a joint.

    Args:
        annotations: ground truth.
        joints: (Q, K, 2) predictions in picture pixels for its labelled persons, in order.
    """
    errors = joint_errors(annotations, joints)
    skeleton = annotations.skeleton
    similar = joint_similarity(errors, skeleton)
    return pd.DataFrame(
        {
            "joint": skeleton.joints,
            "labelled": (~np.isnan(errors)).sum(axis=0),
            "median error": np.nanmedian(errors, axis=0),
            "95 % error": np.nanpercentile(errors, 95, axis=0),
            "mean similarity": np.nanmean(similar, axis=0),
        }
    )


def check_joints(network: PoseNet, annotations: Annotations) -> None:
    """HwlError unless the network predicts as many joints as the annotations have."""
    joints = network.config["num_joints"]
    if joints != len(annotations.skeleton):
        raise HwlError(
            f"the network predicts {joints} joints, {annotations.path} has skeleton "
            f"{annotations.skeleton.name} of {len(annotations.skeleton)}: train one for it"
        )


def write_evaluation(
    folder: Path, config: EvaluateConfig, annotations: Annotations, evaluations: list[Evaluation]
) -> None:
    """Fill a run folder: `metrics.json`, `protocols.csv`, `run.json` and, for AP, the results file.

    `keypoints_<split>_results.json` holds the last protocol's persons as COCO's test server takes
    them. `metrics.json` has that protocol's numbers, `protocols.csv` a row for each.
    """
    rows = [{**e.protocol, **e.metrics} for e in evaluations]
    results.write_table(folder / "protocols.csv", rows)
    results.write_json(folder / "metrics.json", rows[-1])
    if config.metric == "AP":
        results.write_json(
            folder / f"keypoints_{config.split}_results.json", evaluations[-1].results
        )
    weights = fetch_weights(config.weights, config.model)  # a path, or fetched before and checked
    inputs = {"weights": weights, "annotations": annotations.path}
    if config.detections:
        inputs["detections"] = Path(config.detections)
    run = results.provenance(config, inputs)
    trained = weights.with_name("run.json")
    if trained.exists():
        run["trained"] = results.read_json(trained)["config"]
    results.write_json(folder / "run.json", run)
