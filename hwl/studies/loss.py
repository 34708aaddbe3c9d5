"""What the heatmap-weighting loss does to a batch: its weights, and where the gradient goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import torch
from msgspec import Meta
from torch import Tensor

from hwl.config import FilePath, Name, OwnOrInputSide, check
from hwl.data.annotations import load_split
from hwl.data.dataset import PersonDataset
from hwl.inference.load import open_predictor, shared_options
from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss
from hwl.models import create_model
from hwl.skeletons import Skeleton

# Ranges of the target value, from background to peak, by their upper ends.
RANGES = {"0 (background)": 0.0, "0 to 0.1": 0.1, "0.1 to 0.5": 0.5, "0.5 to 1": 1.0}


@dataclass(frozen=True)
class LossStudyConfig:
    """A study of the loss on one batch."""

    kind: ClassVar[str] = "loss_weights"
    output: FilePath  # the run's folder
    data: FilePath  # folder in COCO's layout
    weights: FilePath  # weights file of the model that predicts
    split: Name = "val2017"  # annotations/person_keypoints_<split>.json
    persons: Annotated[int, Meta(ge=1, le=10_000)] = 32  # in the batch, the first of the split
    input_height: OwnOrInputSide = 0  # pixels (0: the weights' own)
    input_width: OwnOrInputSide = 0  # pixels (0: the weights' own)
    allow_other_size: bool = False  # accept another input size than the weights' own

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


@dataclass(frozen=True)
class Batch:
    """N persons with targets and predictions.

    Attributes:
        skeleton: the K keypoints.
        crops: (N, 3, H, W) uint8 RGB.
        target: (N, K, H/4, W/4) target heatmaps.
        weight: (N, K) target weights.
        predicted: (N, K, H/4, W/4) heatmaps of the model.
    """

    skeleton: Skeleton
    crops: Tensor
    target: Tensor
    weight: Tensor
    predicted: Tensor

    def image(self, person: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB crop of a person."""
        return self.crops[person].permute(1, 2, 0).numpy()


def load_batch(config: LossStudyConfig) -> Batch:
    """The first persons of a split with the predictions of a trained model."""
    annotations = load_split(Path(config.data), config.split).first(config.persons)
    predictor = open_predictor(config.weights, shared_options(config), device="cpu")
    predictor.check_keypoints(annotations, config.weights)
    dataset = PersonDataset(annotations, predictor.codec, augmentation=None, seed=0)
    samples = [dataset[0, index] for index in range(len(dataset))]
    crops, target, weight = (torch.stack(parts) for parts in zip(*samples, strict=True))
    with torch.inference_mode():
        predicted = predictor.prepared(predictor.model.preprocess(crops))
    return Batch(annotations.skeleton, crops, target, weight, predicted.clone())


def with_fresh_model(batch: Batch, config: LossStudyConfig) -> Batch:
    """The same persons and targets as a model like that of the weights sees them untrained."""
    with torch.random.fork_rng(devices=[]):
        predictor = open_predictor(config.weights, shared_options(config), device="cpu")
        torch.manual_seed(0)
        fresh = create_model(**predictor.model.config).eval()
    with torch.inference_mode():
        return replace(batch, predicted=fresh(predictor.model.preprocess(batch.crops)).clone())


def gradient(batch: Batch, weight_function: str) -> Tensor:
    """|dL/dP|, (N, K, H/4, W/4): how strongly each predicted pixel is pulled."""
    predicted = batch.predicted.clone().requires_grad_()
    HeatmapWeightingLoss(weight_function)(predicted, batch.target, batch.weight).backward()
    assert predicted.grad is not None  # of a leaf, after backward
    return predicted.grad.abs()


def gradient_shares(batch: Batch) -> pd.DataFrame:
    """Share of the summed |gradient| by target value; rows weight functions, columns RANGES."""
    ends = torch.tensor(list(RANGES.values()))
    bins = torch.bucketize(batch.target, ends)
    rows = {}
    for name in WEIGHT_FUNCTIONS:
        pull = gradient(batch, name)
        total = pull.sum()
        rows[name] = [float(pull[bins == number].sum() / total) for number in range(len(RANGES))]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(RANGES))


def clearest_error(batch: Batch) -> tuple[int, int]:
    """Person and keypoint where target and prediction differ most, a case that shows a lot."""
    error = (batch.predicted - batch.target).square().sum(dim=(2, 3)) * batch.weight
    return divmod(int(error.argmax()), len(batch.skeleton))


def weight_curves() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """W = F(G) + 1 of every weight function over G from 0 to 1."""
    target = torch.linspace(0, 1, 101)
    return {
        name: (target.numpy(), HeatmapWeightingLoss(name).weight(target).numpy())
        for name in WEIGHT_FUNCTIONS
    }
