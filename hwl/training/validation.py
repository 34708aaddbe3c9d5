"""Validation during training, shared by all its processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from hwl.data.annotations import Annotations, Boxes
from hwl.evaluation.evaluate import score
from hwl.inference.poses import Poses
from hwl.inference.predictor import Predictor
from hwl.training.config import TrainConfig


def validate(
    predictor: Predictor,
    val: Annotations,
    boxes: Boxes,
    config: TrainConfig,
    accelerator: Accelerator,
) -> tuple[dict[str, float], str]:
    """The metrics of the model that is trained, in boxes of the validation images.

    Each process predicts in the boxes of its share of the images, with the weights and batch
    statistics of the first process, which scores them all.

    Returns:
        The metrics and the protocol in words, in every process.
    """
    if accelerator.num_processes > 1:
        for buffer in predictor.model.buffers():
            torch.distributed.broadcast(buffer, src=0)
    _, image = np.unique(boxes.image_index, return_inverse=True)
    mine = np.flatnonzero(image % accelerator.num_processes == accelerator.process_index)
    share = replace(
        boxes,
        image_index=boxes.image_index[mine],
        boxes=boxes.boxes[mine],
        scores=boxes.scores[mine],
    )
    predictor.model.eval()
    poses = predictor.predict(val, share, config.workers)
    parts = gather_object([(mine, poses)])
    found: list[tuple[dict[str, float], str] | None] = [None]
    if accelerator.is_main_process:
        evaluation = score(predictor, val, boxes, _together(parts), config.metric)
        found = [(evaluation.metrics, evaluation.sentence())]
    return broadcast_object_list(found)[0]


def _together(parts: list[tuple[np.ndarray, Poses]]) -> Poses:
    """The poses of all boxes in the boxes' order, of (numbers of the boxes, their poses)."""
    order = np.argsort(np.concatenate([numbers for numbers, _ in parts]))

    def joined(field: str) -> np.ndarray:
        return np.concatenate([getattr(poses, field) for _, poses in parts])[order]

    return replace(
        parts[0][1],
        image_index=joined("image_index"),
        keypoints=joined("keypoints"),
        scores=joined("scores"),
        boxes=joined("boxes"),
        box_scores=joined("box_scores"),
        areas=joined("areas"),
    )
