"""What the heatmap-weighting loss does to a batch: weight maps, and where the gradient goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_split
from hwl.data.dataset import PersonDataset
from hwl.data.transforms import normalise
from hwl.drawing import overlay
from hwl.evaluation import check_joints
from hwl.figures import picture_row
from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss
from hwl.models import load_model
from hwl.skeletons import Skeleton

# Ranges of the target value, from background to peak, by their upper ends.
RANGES = {"0 (background)": 0.0, "0 to 0.1": 0.1, "0.1 to 0.5": 0.5, "0.5 to 1": 1.0}


@dataclass(frozen=True)
class LossStudyConfig:
    """A study of the loss on one batch."""

    output: str  # the run's folder
    data: str  # folder in COCO's layout
    weights: str  # weights file of the network that predicts
    split: str = "val2017"  # annotations/person_keypoints_<split>.json
    persons: int = 32  # in the batch, the first of the split
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    sigma: float = 2.0  # of the target Gaussian, heatmap cells


@dataclass(frozen=True)
class Batch:
    """N persons with targets and predictions.

    Attributes:
        skeleton: the K joints.
        crops: (N, 3, H, W) uint8 RGB.
        target: (N, K, H/4, W/4) target heatmaps.
        weight: (N, K) target weights.
        predicted: (N, K, H/4, W/4) heatmaps of the network.
    """

    skeleton: Skeleton
    crops: Tensor
    target: Tensor
    weight: Tensor
    predicted: Tensor

    def picture(self, person: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB crop of a person."""
        return self.crops[person].permute(1, 2, 0).numpy()


def load_batch(config: LossStudyConfig) -> Batch:
    """The first persons of a split with the predictions of a trained network."""
    annotations = load_split(Path(config.data), config.split).first(config.persons)
    network = load_model(Path(config.weights))
    check_joints(network, annotations)
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)
    dataset = PersonDataset(annotations, codec, augmentation=None, seed=0)
    samples = [dataset[0, index] for index in range(len(dataset))]
    crops, target, weight = (torch.stack(parts) for parts in zip(*samples, strict=True))
    with torch.inference_mode():
        predicted = network(normalise(crops))
    return Batch(annotations.skeleton, crops, target, weight, predicted.clone())


def gradient(batch: Batch, weight_function: str) -> Tensor:
    """|dL/dP|, (N, K, H/4, W/4): how strongly each predicted pixel is pulled."""
    predicted = batch.predicted.clone().requires_grad_()
    HeatmapWeightingLoss(weight_function)(predicted, batch.target, batch.weight).backward()
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
    """Person and joint where target and prediction differ most, a case that shows a lot."""
    error = (batch.predicted - batch.target).square().sum(dim=(2, 3)) * batch.weight
    return divmod(int(error.argmax()), len(batch.skeleton))


def weight_curves() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """W = F(G) + 1 of every weight function over G from 0 to 1."""
    target = torch.linspace(0, 1, 101)
    return {
        name: (target.numpy(), HeatmapWeightingLoss(name).weight(target).numpy())
        for name in WEIGHT_FUNCTIONS
    }


def maps_of_joint(
    batch: Batch, person: int, joint: int, functions: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Pictures and titles: crop, target and prediction, then each function's weight and gradient.

    Args:
        batch: from `load_batch`.
        person: index into the batch.
        joint: index into the skeleton.
        functions: weight functions to show.
    """
    picture = batch.picture(person)
    target, predicted = batch.target[person, joint], batch.predicted[person, joint]
    pictures = [picture, overlay(picture, target.numpy()), overlay(picture, predicted.numpy())]
    titles = ["picture", f"target, {batch.skeleton.joints[joint].replace('_', ' ')}", "prediction"]
    for name in functions:
        pictures += [
            HeatmapWeightingLoss(name).weight(target).numpy(),
            gradient(batch, name)[person, joint].numpy(),
        ]
        titles += [f"{name}: weight", f"{name}: |gradient|"]
    return pictures, titles


def explore(batch: Batch) -> None:
    """Show controls for person, joint and weight function over the maps of `maps_of_joint`.

    The maps are a display that is updated. An Output widget, which is what ipywidgets.interact
    draws into, makes nbclient send on the channel on which it awaits a cell's end, and miss that
    end at times: the run then hangs.
    """
    person = ipywidgets.IntSlider(0, 0, len(batch.crops) - 1, description="person")
    joint = ipywidgets.Dropdown(
        options=[(name, number) for number, name in enumerate(batch.skeleton.joints)],
        description="joint",
    )
    function = ipywidgets.Dropdown(
        options=list(WEIGHT_FUNCTIONS), value="identity", description="F"
    )

    def maps() -> Figure:
        shown = maps_of_joint(batch, person.value, joint.value, [function.value])
        figure = picture_row(*shown, columns=5)
        plt.close(figure)
        return figure

    controls = ipywidgets.HBox([person, joint, function])
    display(controls)
    handle = display(maps(), display_id=True)
    for control in controls.children:
        control.observe(lambda _: handle.update(maps()), names="value")
