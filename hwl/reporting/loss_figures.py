"""The loss in figures: weight functions, one heatmap's line, maps of one keypoint, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss
from hwl.reporting.drawing import overlay
from hwl.reporting.figures import OTHER, OURS, PALETTE, describe, show_image, spoken, style
from hwl.studies.loss import Batch, gradient

FORMULAS = {
    "zero": "F = 0 (plain MSE)",
    "identity": "F = G (the paper's)",
    "double": "F = 2G",
    "square": "F = G²",
    "exponential": "F = exp(G)",
}
WIDTH = 2.0  # cells, the standard deviation of both Gaussians of `loss_line`


def formula(name: str) -> str:
    """A weight function as a formula, or its name where it has none here."""
    return FORMULAS.get(name, f"F = {name}")


@style()
def weight_functions(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """W = F(G) + 1 over the target value G.

    Args:
        curves: weight function's name to (G, W), both (n,).
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for color, (name, (target, weight)) in zip(_colors(curves), curves.items(), strict=True):
        ours = name == "identity"
        axis.plot(target, weight, color=color, lw=3 if ours else 1.8, label=formula(name))
    axis.set(xlabel="target heatmap G", ylabel="weight W = F(G) + 1", ylim=(0, None), xlim=(0, 1))
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left")
    describe(figure, "How much a pixel counts", "Computed from the functions themselves; no data.")
    return figure


def _colors(names: Mapping[str, object]) -> list[str]:
    """The paper's function in its color, plain MSE gray, the others in what is left."""
    fixed = {"identity": OURS, "zero": OTHER}
    rest = iter((*PALETTE[:1], *PALETTE[2:]) * len(names))
    return [fixed.get(name) or next(rest) for name in names]


@style()
def gradient_shares(shares: pd.DataFrame, conditions: str) -> Figure:
    """Where the gradient goes: its share by value of the target, for each weight function.

    Args:
        shares: rows weight functions, columns ranges of the target value; rows sum to 1.
        conditions: data and model.
    """
    return _stacked(shares.rename(index=formula), "Where the gradient goes", conditions)


def _stacked(shares: pd.DataFrame, title: str, conditions: str) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(shares) + 2))
    left = np.zeros(len(shares))
    colors = sns.color_palette("inferno_r", len(shares.columns))
    names = [str(name) for name in shares.index]
    for color, column in zip(colors, shares.columns, strict=True):
        widths = shares[column].to_numpy()
        bars = axis.barh(names, widths, left=left, color=color, label=column, height=0.72)
        text = "white" if np.dot(color, (0.3, 0.59, 0.11)) < 0.55 else "black"
        labels = [f"{100 * width:.0f} %" if width > 0.05 else "" for width in widths]
        axis.bar_label(bars, labels, label_type="center", color=text, fontsize="small")
        left += widths
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlim=(0, 1), xlabel="share of the summed absolute gradient")
    axis.legend(title="pixels with target G", bbox_to_anchor=(1.01, 1), loc="upper left")
    describe(figure, title, conditions)
    return figure


@style()
def shares_over_training(courses: Mapping[str, pd.DataFrame], conditions: str) -> Figure:
    """Share of the gradient by value of the target, of plain MSE and of the paper's loss.

    Args:
        courses: stage of training to the shares that `gradient_shares` takes.
        conditions: data and model.
    """
    rows = {
        f"{stage}, {formula(name)}": shares.loc[name]
        for stage, shares in courses.items()
        for name in ("zero", "identity")
    }
    return _stacked(pd.DataFrame(rows).T, "The gradient before and after training", conditions)


@style()
def keypoint_maps(
    batch: Batch, person: int, keypoint: int, functions: Sequence[str], conditions: str
) -> Figure:
    """Target and prediction of one keypoint; each function's weight and gradient on one scale.

    Args:
        batch: from `hwl.studies.loss.load_batch`.
        person: index into the batch.
        keypoint: index into the skeleton.
        functions: weight functions to show, a column each.
        conditions: data and model.
    """
    columns = max(len(functions), 3)
    annotated = bool(batch.weight[person, keypoint] > 0)
    rows = 3 if annotated else 1
    size = (1.55 * columns + 1.2, 2.2 * rows + 0.9)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    image = batch.image(person)
    target = batch.target[person, keypoint]
    predicted = batch.predicted[person, keypoint]
    show_image(axes[0, 0], image, "crop")
    show_image(axes[0, 1], overlay(image, target.numpy()), "target G")
    show_image(axes[0, 2], overlay(image, predicted.numpy()), "prediction P")
    _scale(figure, axes[0], Normalize(0, 1), "heatmap")
    note = "Every row has one scale, that of its color bar."
    if annotated:
        weights = [HeatmapWeightingLoss(name).weight(target).numpy() for name in functions]
        pulls = [gradient(batch, name)[person, keypoint].numpy() for name in functions]
        titles = [formula(name).removesuffix(" (the paper's)") for name in functions]
        titles = [title.replace(" (", "\n(") for title in titles]
        _maps(figure, axes[1], weights, titles, "weight W")
        strongest = max(float(pull.max()) for pull in pulls) or 1.0
        pulls = [pull / strongest for pull in pulls]
        _maps(figure, axes[2], pulls, [""] * len(pulls), "|gradient|, of the largest")
    else:
        note = "It is not annotated: its target weight is 0, it has no loss and no gradient."
    title = f"One keypoint: {spoken(batch.skeleton.keypoints[keypoint])} of person {person}"
    describe(figure, title, f"{conditions}. {note}")
    return figure


def _maps(
    figure: Figure, axes: np.ndarray, maps: Sequence[np.ndarray], titles: Sequence[str], what: str
) -> None:
    """A row of maps on the scale from 0 to the largest of all their values."""
    norm = Normalize(0, max(float(values.max()) for values in maps) or 1.0)
    for axis, values, title in zip(axes, maps, titles, strict=False):
        axis.imshow(values, cmap="inferno", norm=norm)
        axis.set_title(title, fontsize="small", loc="center")
    _scale(figure, axes, norm, what)


def _scale(figure: Figure, axes: np.ndarray, norm: Normalize, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, "inferno"), ax=list(axes), fraction=0.03, pad=0.01)
    bar.set_label(label)
    bar.outline.set_visible(False)


def scale_bar(figure: Figure, axis: Axes, shown: ScalarMappable) -> None:
    """A color bar below one map."""
    bar = figure.colorbar(shown, ax=axis, location="bottom", fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)


@style()
def loss_line(name: str, shift: float, height: float) -> Figure:
    """One row of a heatmap: target, prediction, weighted error and gradient, beside plain MSE.

    Args:
        name: weight function.
        shift: of the predicted peak from the true one, cells.
        height: of the predicted peak, where the target's is 1.
    """
    cells = torch.arange(-12, 12.01, 0.1)
    target = torch.exp(-(cells**2) / (2 * WIDTH**2))
    predicted = height * torch.exp(-((cells - shift) ** 2) / (2 * WIDTH**2))
    error = predicted - target
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.2))
    left.plot(cells, target, color=PALETTE[0], label="target G")
    left.plot(cells, predicted, color=OURS, ls="--", label="prediction P")
    left.set(title="One row of a heatmap", ylim=(-0.05, 1.3))
    left.legend(loc="upper right", fontsize="small")
    totals = {}
    most = max(float(HeatmapWeightingLoss(one).weight(target).max()) for one in WEIGHT_FUNCTIONS)
    for function, color in {"zero": OTHER, name: OURS}.items():
        weight = HeatmapWeightingLoss(function).weight(target)
        totals[function] = float((weight * error**2).mean())
        middle.fill_between(cells, weight * error**2, color=color, alpha=0.35)
        middle.plot(cells, weight * error**2, color=color, label=formula(function))
        right.plot(cells, 2 * weight * error, color=color)
    middle.set(title="W (P - G)²", ylim=(0, 1.05 * most))
    middle.legend(loc="upper right", fontsize="small")
    right.set(title="its gradient, 2 W (P - G)", ylim=(-2.1 * most, 2.1 * most))
    for axis in (left, middle, right):
        axis.set_xlabel("heatmap cell")
    note = ", ".join(f"{formula(key)}: {value:.4f}" for key, value in totals.items())
    conditions = (
        f"Gaussians of sigma {WIDTH:g} cells, the prediction moved by {shift:g} cells and "
        f"{height:g} high. Mean loss: {note}."
    )
    describe(figure, "The loss in one dimension", conditions)
    return figure


@style()
def descent(names: Sequence[str], steps: int = 60, rate: float = 0.02) -> Figure:
    """Gradient descent on one row of free pixels: what is left of the error after each step.

    A model shares its parameters between pixels, these pixels share nothing: what the figure
    shows is the pull of the loss alone.

    Args:
        names: weight functions.
        steps: of descent.
        rate: learning rate on the summed loss.
    """
    cells = torch.arange(-12, 13.0)
    target = torch.exp(-(cells**2) / 8)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    places = (int((cells == 0).nonzero()), int((cells == 4).nonzero()))
    for color, name in zip(_colors(dict.fromkeys(names)), names, strict=True):
        weight = HeatmapWeightingLoss(name).weight(target)
        left_over = (1 - 2 * rate * weight)[:, None] ** torch.arange(steps + 1)
        for axis, place in zip((left, right), places, strict=True):
            _left_over(axis, left_over[place].numpy(), color, formula(name))
    left.set(title="At the peak, G = 1", ylabel="error left over")
    right.set(title=f"On the flank, G = {float(target[places[1]]):.2f}")
    right.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    describe(
        figure,
        "The weight is the speed at which a pixel learns",
        f"Gradient descent on free pixels, rate {rate:g}, target of sigma 2; no data, no model.",
    )
    return figure


def _left_over(axis: Axes, values: np.ndarray, color: str, label: str) -> None:
    axis.plot(values, color=color, label=label)
    axis.set(xlabel="step", yscale="log")
