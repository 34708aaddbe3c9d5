"""One function a figure, given numbers; the style is set here alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's colors, which color-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
plt.rcParams |= {
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "hwl",  # the same figure gives the same file
}


def _caption(axis: plt.Axes, text: str) -> None:
    """A figure's conditions over its axes, in lines that fit."""
    axis.set_title(wrapped(text, axis.figure), fontsize="small", loc="left")


def wrapped(text: str, figure: Figure) -> str:
    """A small text in lines that fit a figure's width."""
    return textwrap.fill(text, int(11 * figure.get_figwidth()))


def training_curves(history: pd.DataFrame, metric: str, caption: str) -> Figure:
    """Loss, metric and learning rate over epochs of one run.

    Args:
        history: a run's `history.csv`.
        metric: its column of the validation metric.
        caption: conditions of the run.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.plot(history["epoch"], history["loss"], marker=".", label="training loss")
    left.set(xlabel="epoch", ylabel="loss", yscale="log", title="Training loss")
    rate = left.twinx()
    rate.plot(history["epoch"], history["lr"], color="0.6", ls=":", label="learning rate")
    rate.set(ylabel="learning rate (dotted)", yscale="log")
    rate.grid(False)
    evaluated = history.dropna(subset=[metric])
    right.plot(evaluated["epoch"], evaluated[metric], marker="o", color=PALETTE[1])
    right.set(xlabel="epoch", ylabel=metric, ylim=(0, 1), title=f"Validation {metric}")
    figure.suptitle(wrapped(caption, figure), fontsize="small")
    return figure


def protocol_bars(protocols: pd.DataFrame, metric: str, caption: str) -> Figure:
    """The metric by protocol, with bootstrap intervals where the table has them.

    Args:
        protocols: a run's `protocols.csv`.
        metric: column to draw.
        caption: conditions of the run.
    """
    labels = [
        f"{boxes} boxes\n{'flip test' if flip else 'no flip'}"
        for boxes, flip in zip(protocols["boxes"], protocols["flip"], strict=True)
    ]
    figure, axis = plt.subplots(figsize=(7, 3.6))
    bars = axis.bar(labels, protocols[metric], color=PALETTE[: len(labels)], width=0.55)
    if f"{metric}_low" in protocols:
        low, high = protocols[f"{metric}_low"], protocols[f"{metric}_high"]
        reach = np.maximum([protocols[metric] - low, high - protocols[metric]], 0)
        axis.errorbar(labels, protocols[metric], reach, fmt="none", ecolor="black", capsize=5)
    axis.grid(axis="x", visible=False)
    axis.bar_label(bars, fmt="%.3f", label_type="center", color="white", weight="bold")
    axis.set(ylabel=metric, ylim=(0, 1))
    _caption(axis, caption)
    return figure


def keypoint_error_boxes(errors: np.ndarray, keypoints: Sequence[str], caption: str) -> Figure:
    """Distribution of each keypoint's error.

    Args:
        errors: (Q, K) in square roots of the person's area, NaN where unannotated.
        keypoints: K names.
        caption: conditions.
    """
    names = [keypoint.replace("_", " ") for keypoint in keypoints]
    table = (
        pd.DataFrame(errors, columns=names).melt(var_name="keypoint", value_name="error").dropna()
    )
    figure, axis = plt.subplots(figsize=(7, 0.28 * len(names) + 1.4))
    sns.boxplot(table, x="error", y="keypoint", order=names, color=PALETTE[5], fliersize=0, ax=axis)
    reach = table.groupby("keypoint")["error"].quantile(0.95).max()
    axis.set(xlabel="distance to the truth / square root of the person's area", ylabel="")
    axis.set(xlim=(0, max(reach, 0.01)))
    _caption(axis, caption)
    return figure


def image_row(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int, width: float = 2.2
) -> Figure:
    """Images in rows of `columns`, each with a title.

    Args:
        images: (H, W, 3) uint8 RGB or (H, W) maps.
        titles: one an image.
        columns: images a row.
        width: of an image, inches.
    """
    rows = -(-len(images) // columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, rows * (width * aspect + 0.45)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="inferno" if image.ndim == 2 else None)
        axis.set_title(title, fontsize="small")
    return figure


def weight_functions(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """W = F(G) + 1 over the target value G.

    Args:
        curves: weight function's name to (G, W), both (n,).
    """
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for name, (target, weight) in curves.items():
        axis.plot(target, weight, label=name)
    axis.set(xlabel="target heatmap G", ylabel="weight W = F(G) + 1", ylim=(0, None))
    axis.legend(title="F", bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def gradient_shares(shares: pd.DataFrame, caption: str) -> Figure:
    """Where the gradient goes: its share by value of the target, for each weight function.

    Args:
        shares: rows weight functions, columns ranges of the target value; rows sum to 1.
        caption: conditions.
    """
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(shares) + 1.8))
    left = np.zeros(len(shares))
    colors = sns.color_palette("inferno_r", len(shares.columns))
    for color, column in zip(colors, shares.columns, strict=True):
        axis.barh(shares.index, shares[column], left=left, color=color, label=column)
        left += shares[column].to_numpy()
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the summed absolute gradient")
    _caption(axis, caption)
    axis.legend(title="pixels with target G", bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def ablation_dots(runs: pd.DataFrame, metric: str, caption: str) -> Figure:
    """Every run's metric as a dot and each variant's mean as a line.

    Args:
        runs: columns `variant`, `seed` and the metric.
        metric: column to draw.
        caption: conditions.
    """
    variants = runs.groupby("variant")[metric].mean().sort_values(ascending=False)
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(variants) + 1.6))
    for row, (variant, mean) in enumerate(variants.items()):
        values = runs.loc[runs["variant"] == variant, metric]
        axis.plot([mean, mean], [row - 0.3, row + 0.3], color="black", lw=2)
        axis.scatter(values, np.full(len(values), row), s=60, color=PALETTE[0], alpha=0.8)
    axis.set_yticks(range(len(variants)), variants.index)
    axis.invert_yaxis()
    axis.set(xlabel=f"{metric} (dots: runs with one seed each; line: mean)")
    _caption(axis, caption)
    return figure
