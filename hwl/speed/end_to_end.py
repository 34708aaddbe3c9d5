"""From image files to keypoints, end to end, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from hwl.data.annotations import Annotations, Boxes
from hwl.inference.poses import Poses
from hwl.inference.predictor import STAGES, Predictor
from hwl.progress import progress

WARM_UPS = 3
PASSES = 3  # an odd number, so that one of them is the median


def crowded(annotations: Annotations, images: int) -> Boxes:
    """Ground-truth boxes of the images with the most annotated persons, at most so many."""
    boxes = annotations.ground_truth_boxes()
    persons = np.bincount(boxes.image_index, minlength=len(annotations.image_ids))
    chosen = np.argsort(-persons, kind="stable")[:images]
    keep = np.isin(boxes.image_index, chosen)
    return replace(
        boxes,
        image_index=boxes.image_index[keep],
        boxes=boxes.boxes[keep],
        scores=boxes.scores[keep],
    )


class Clock:
    """Gives each stage the time since the last one ended, so that the stages make up the whole."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.last = time.perf_counter()

    def ended(self, stage: str) -> None:
        """All that was done since the last call was of this stage."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now


def predict_timed(
    predictor: Predictor, annotations: Annotations, boxes: Boxes
) -> tuple[Poses, dict[str, float]]:
    """`Predictor.predict` in one process and with a clock.

    Reading is decoding the file; cropping includes putting batches together, normalizing, mirroring
    and the way to the device; decoding includes turning mirrored heatmaps back and the way back to
    the image.

    Returns:
        The poses and seconds by stage.
    """
    clock = Clock(predictor.model.mean.device)
    poses = predictor.predict(annotations, boxes, ended=clock.ended)
    return poses, clock.seconds


def time_end_to_end(
    predictors: Sequence[Predictor], annotations: Annotations, boxes: Boxes
) -> list[dict[str, object]]:
    """Seconds by stage of models, each with and without the flip test.

    Args:
        predictors: models in runtimes, with their batch sizes.
        annotations: the images.
        boxes: the persons.

    Returns:
        A row a model and `flip`: the median of PASSES passes over all persons by stage, and the
        fastest and the slowest one's whole time.
    """
    for image_index in np.unique(boxes.image_index):  # the first model must not pay the disk
        annotations.image_path(image_index).read_bytes()
    ways = [replace(predictor, flip=flip) for predictor in predictors for flip in (False, True)]
    for predictor in progress(ways, "warm up"):
        _warm_up(predictor, len(boxes))
    passes: list[list[dict[str, float]]] = [[] for _ in ways]
    # Interleaved, so that a slow spell of the machine meets all models.
    for number in progress(range(PASSES * len(ways)), "image to keypoints"):
        way = number % len(ways)
        passes[way].append(predict_timed(ways[way], annotations, boxes)[1])
    rows = []
    for predictor, found in zip(ways, passes, strict=True):
        ordered = sorted(found, key=lambda seconds: sum(seconds.values()))
        seconds = ordered[PASSES // 2]
        total = sum(seconds.values())
        rows.append(
            {
                "model": predictor.model.config["name"],
                "runtime": predictor.runtime,
                "device": predictor.model.mean.device.type,
                "threads": torch.get_num_threads(),
                "batch": predictor.batch_size,
                "flip": predictor.flip,
                "images": len(np.unique(boxes.image_index)),
                "persons": len(boxes),
                **{f"{stage}_s": value for stage, value in seconds.items()},
                "total_s": total,
                "low_s": sum(ordered[0].values()),
                "high_s": sum(ordered[-1].values()),
                "persons/s": len(boxes) / total,
            }
        )
    return rows


def _warm_up(predictor: Predictor, persons: int) -> None:
    """Run a model on the batch sizes to come, the last one's too: some compile for each."""
    device = predictor.model.mean.device
    for size in {min(predictor.batch_size, persons), persons % predictor.batch_size} - {0}:
        images = torch.randn(size, 3, *predictor.codec.input_size, device=device)
        with torch.inference_mode():
            for _ in range(WARM_UPS):
                predictor.prepared(images)
