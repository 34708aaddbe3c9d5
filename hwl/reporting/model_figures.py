"""A model in figures: its parts, one sample's way through it, and the time of its layers."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from hwl.losses import HeatmapWeightingLoss
from hwl.reporting.drawing import overlay
from hwl.reporting.figures import OTHER, OURS, PALETTE, describe, show_image, spoken, style
from hwl.reporting.loss_figures import formula, scale_bar
from hwl.studies.loss import Batch

KINDS = {
    "pointwise convolution": PALETTE[0],
    "dense convolution": PALETTE[5],
    "depthwise convolution": OURS,
    "normalization": PALETTE[2],
    "activation": PALETTE[4],
    "pooling": PALETTE[3],
}


@style()
def architecture(layers: pd.DataFrame, name: str, input_size: tuple[int, int]) -> Figure:
    """A model's parts from crop to heatmaps: resolution as height, channels as width.

    Args:
        layers: of `hwl.speed.layers.layer_table`.
        name: of the model.
        input_size: (height, width) in pixels of the crop.
    """
    blocks = layers.groupby("block", sort=False)
    outputs = blocks.last()
    shape = ["channels", "height", "width"]
    for before, block in pairwise(outputs.index):
        if block.startswith("attention"):  # its last layer is a gate, its output is like its input
            outputs.loc[block, shape] = outputs.loc[before, shape]
    totals = blocks[["parameters", "MACs"]].sum()
    figure, axis = plt.subplots(figsize=(11, 4.2))
    place = _block(axis, 0.0, "crop", 3, input_size, OTHER)
    for block, output in outputs.iterrows():
        color = PALETTE[0] if str(output["layer"]).startswith("backbone") else OURS
        size = (int(output["height"]), int(output["width"]))
        place = _block(axis, place, str(block), int(output["channels"]), size, color)
    backbone = layers["layer"].str.startswith("backbone")
    for label, color, part in (("backbone", PALETTE[0], backbone), ("head", OURS, ~backbone)):
        own = layers[part]
        text = f"{label}: {own['parameters'].sum():,} parameters, {own['MACs'].sum() / 1e6:,.0f} M"
        axis.add_patch(Rectangle((0, 0), 0, 0, color=color, alpha=0.75, label=f"{text} MACs"))
    axis.legend(loc="upper right", fontsize="small")
    axis.set(xlim=(-0.6, place), ylim=(-1.75, 4.3))
    axis.set_axis_off()
    conditions = (
        f"Counted on the model itself at {input_size[0]}x{input_size[1]}: "
        f"{totals['parameters'].sum():,} parameters, {totals['MACs'].sum() / 1e6:,.0f} M "
        "multiply-accumulates. Below each part: its output's channels, height x width."
    )
    describe(figure, f"The model '{name}'", conditions)
    return figure


def _block(
    axis: Axes, left: float, name: str, channels: int, size: tuple[int, int], color: str
) -> float:
    """A part as a box around the middle line; where the next one begins."""
    height, width = 0.55 * np.log2(size[0]) - 0.8, 0.14 * np.log2(channels) + 0.1
    low = 1.9 - height / 2
    axis.add_patch(Rectangle((left, low), width, height, color=color, alpha=0.75, lw=0))
    text = f"{name}  {channels}, {size[0]}x{size[1]}"
    axis.text(left + width / 2, -0.05, text, rotation=90, ha="center", va="top", fontsize=8)
    return left + width + 0.32


@style()
def one_sample(
    batch: Batch, person: int, keypoint: int, weight_function: str, conditions: str
) -> Figure:
    """One sample's way: crop, target heatmap, prediction, weighted squared error.

    Args:
        batch: from `hwl.studies.loss.load_batch`.
        person: index into the batch.
        keypoint: index into the skeleton.
        weight_function: F of the loss.
        conditions: data and model.
    """
    target, predicted = batch.target[person, keypoint], batch.predicted[person, keypoint]
    weight = HeatmapWeightingLoss(weight_function).weight(target)
    loss = weight * (predicted - target).square() * float(batch.weight[person, keypoint] > 0)
    image = batch.image(person)
    figure, axes = plt.subplots(1, 5, figsize=(11, 3.9))
    everything = overlay(image, batch.target[person].amax(0).numpy())
    height, width = image.shape[:2]
    show_image(axes[0], image, f"1. crop, {height}x{width}")
    show_image(axes[1], everything, f"2. all {len(batch.skeleton)} targets G")
    rows, columns = target.shape
    titles = (f"3. target, {rows}x{columns}", "4. prediction P", "5. W (P - G)²")
    for axis, values, title in zip(axes[2:], (target, predicted, loss), titles, strict=True):
        shown = axis.imshow(values.numpy(), cmap="inferno", vmin=0)
        axis.set_axis_off()
        axis.set_title(title, fontsize="small", loc="center")
        scale_bar(figure, axis, shown)
    name = spoken(batch.skeleton.keypoints[keypoint])
    note = (
        f"{conditions}. 3 to 5: the {name} alone, each on its own scale; its loss with "
        f"{formula(weight_function)} is {float(loss.mean()):.5f}, the mean of 5."
    )
    describe(figure, "One sample's way to its loss", note)
    return figure


@style()
def layer_times(layers: pd.DataFrame, conditions: str) -> Figure:
    """Time by block and kind of layer, beside each kind's share of operations, bytes and time.

    Args:
        layers: of `hwl.speed.layers.time_layers`.
        conditions: machine, input size, threads.
    """
    blocks = list(layers["block"].unique())
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 0.21 * len(blocks) + 1.8), width_ratios=[1.5, 1]
    )
    table = layers.pivot_table(index="block", columns="kind", values="ms", aggfunc="sum")
    table = table.reindex(index=blocks, columns=list(KINDS)).fillna(0)
    start = np.zeros(len(blocks))
    for kind, color in KINDS.items():
        left.barh(blocks, table[kind], left=start, color=color, label=kind, lw=0)
        start += table[kind].to_numpy()
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    left.tick_params(axis="y", labelsize=9)
    left.set(xlabel="ms")
    left.legend(fontsize="small", loc="best")
    sums = layers.groupby("kind")[["MACs", "bytes", "ms"]].sum().reindex(list(KINDS)).fillna(0)
    shares = sums / sums.sum()
    labels = {"MACs": "operations", "bytes": "bytes moved", "ms": "time"}
    start = np.zeros(len(labels))
    for kind, color in KINDS.items():
        values = shares.loc[kind, list(labels)].to_numpy()
        bars = right.barh(list(labels.values()), values, left=start, color=color, lw=0)
        texts = [f"{100 * value:.0f} %" if value > 0.06 else "" for value in values]
        right.bar_label(bars, texts, label_type="center", color="white", fontsize="small")
        start += values
    right.invert_yaxis()
    right.set(xlim=(0, 1), title="Share of each kind of layer")
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.grid(axis="y", visible=False)
    describe(figure, "Where the time goes", conditions)
    return figure


@style()
def rate_over_intensity(layers: pd.DataFrame, peak: float, conditions: str) -> Figure:
    """Each convolution's rate over its operations a byte, below the machine's measured peak.

    Args:
        layers: of `hwl.speed.layers.time_layers`.
        peak: GFLOP/s of a large matrix product on as many threads.
        conditions: machine, input size, threads.
    """
    figure, axis = plt.subplots(figsize=(7.2, 4))
    convolutions = layers[layers["MACs"] > 0]
    for kind, rows in convolutions.groupby("kind"):
        intensity = 2 * rows["MACs"] / rows["bytes"]
        size = 14 + 160 * rows["ms"] / layers["ms"].max()
        color = KINDS[str(kind)]
        axis.scatter(intensity, rows["GFLOP/s"], s=size, color=color, alpha=0.7)
        axis.plot([], [], marker="o", ls="", color=color, label=kind)
    axis.axhline(peak, color="black", lw=1.2, ls="--")
    axis.annotate(
        f"peak matrix-multiply rate, {peak:.0f} GFLOP/s",
        (1, peak),
        (-4, 3),
        xycoords=axis.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        fontsize="small",
    )
    axis.set(xscale="log", yscale="log", xlabel="operations a byte moved", ylabel="GFLOP/s")
    axis.set_ylim(top=3 * peak)
    axis.legend(fontsize="small", loc="lower right")
    describe(
        figure,
        "Layers with few operations a byte do not reach the peak rate",
        f"{conditions}. One dot a convolution, the larger the longer it takes.",
    )
    return figure
