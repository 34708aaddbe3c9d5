"""What the weighting does over training, from the weights kept at every checkpoint.

A fixed batch of validation persons is predicted with each of them. Keypoint cells are those with a
target above 0.1; the background are those with a target of 0 in an annotated keypoint's heatmap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hwl.codec import HeatmapCodec
from hwl.errors import HwlError
from hwl.losses import HeatmapWeightingLoss
from hwl.models import load_model
from hwl.studies.loss import Batch, LossStudyConfig, gradient, load_batch
from hwl.training.config import TrainConfig
from hwl.training.state import WEIGHTS_FOLDER

PERSONS = 128  # in the batch
KEYPOINT_CELL = 0.1  # target above which a cell belongs to the keypoint


def trace(config: TrainConfig) -> pd.DataFrame:
    """One row a kept set of weights of a training run.

    Args:
        config: of a finished training with `keep_weights`.

    Returns:
        Columns `step`; of this run's own loss `loss_share` and `gradient_share` on keypoint cells,
        and of plain MSE `mse_share`; `peak_height`, mean of the predicted maxima; `peak_width`,
        diameter in heatmap cells of a disk as large as what is above half of the maximum;
        `background_rms`, of predictions in the background; `keypoint_rms`, of the error in
        keypoint cells; `median_error` of decoded keypoints in heatmap cells.

    Raises:
        HwlError: the run kept no weights.
    """
    rows = [
        {"step": step} | measure(batch, config.weight_function) for step, batch in _batches(config)
    ]
    return pd.DataFrame(rows)


def _batches(config: TrainConfig) -> Iterator[tuple[int, Batch]]:
    """The batch as predicted at each step."""
    kept = sorted(Path(config.output, WEIGHTS_FOLDER).glob("step-*.safetensors"))
    if not kept:
        raise HwlError(f"{config.output} kept no weights; train with keep_weights")
    first = load_batch(
        LossStudyConfig(
            output=config.output,
            data=config.data,
            weights=str(kept[0]),
            split=config.val_split,
            persons=PERSONS,
        )
    )
    for path in kept:
        model = load_model(path)
        with torch.inference_mode():
            predicted = model(model.preprocess(first.crops))
        yield int(path.stem.removeprefix("step-")), replace(first, predicted=predicted.clone())


def measure(batch: Batch, weight_function: str) -> dict[str, float]:
    """What `trace` tells of one prediction of a batch, but for the step."""
    annotated = batch.weight > 0
    target, predicted = batch.target[annotated], batch.predicted[annotated]  # (M, H/4, W/4)
    keypoint, background = target > KEYPOINT_CELL, target == 0
    squared = (predicted - target).square()
    # The weights come from the whole batch, for the placebo's are those of another person.
    weights = HeatmapWeightingLoss(weight_function).weight(batch.target)[annotated]
    pull = gradient(batch, weight_function)[annotated]
    heights = predicted.flatten(1).amax(dim=1)
    above = (predicted > heights[:, None, None] / 2).sum(dim=(1, 2))
    return {
        "loss_share": _share(weights * squared, keypoint),
        "gradient_share": _share(pull, keypoint),
        "mse_share": _share(squared, keypoint),
        "peak_height": float(heights.mean()),
        "peak_width": float(2 * (above / math.pi).sqrt().mean()),
        "background_rms": float(predicted[background].square().mean().sqrt()),
        "keypoint_rms": float(squared[keypoint].mean().sqrt()),
        "median_error": _median_error(batch),
    }


def _share(parts: torch.Tensor, where: torch.Tensor) -> float:
    return float(parts[where].sum() / parts.sum())


def _median_error(batch: Batch) -> float:
    """Median distance between the decoded prediction and the decoded target, in heatmap cells."""
    height, width = batch.crops.shape[2:]
    codec = HeatmapCodec((height, width))
    found, _ = codec.decode(batch.predicted)
    truth, height_of_peak = codec.decode(batch.target)
    seen = (batch.weight.numpy() > 0) & (height_of_peak > 0)
    distance = np.linalg.norm(found - truth, axis=2) * batch.target.shape[2] / height
    return float(np.median(distance[seen]))
