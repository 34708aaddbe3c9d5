"""The course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hwl.data.dataset import Sample
from hwl.reporting.drawing import overlay
from hwl.reporting.figures import OURS, PALETTE, counted, describe, image_row, style
from hwl.reporting.loss_figures import formula
from hwl.training.config import TrainConfig


def training_samples(samples: Sequence[Sample]) -> Figure:
    """Crops with their target heatmaps laid over, all keypoints in one.

    Args:
        samples: of `hwl.training.fit.first_samples`.
    """
    return image_row(
        [overlay(one.crop.permute(1, 2, 0).numpy(), one.target.amax(0).numpy()) for one in samples],
        [counted(int((one.weight > 0).sum()), "keypoint") for one in samples],
        columns=min(len(samples), 8),
        width=1.4,
    )


@style()
def training_curves(history: pd.DataFrame, config: TrainConfig) -> Figure:
    """Loss, validation metric and learning rate of one run over its epochs.

    Args:
        history: a run's `history.csv`: columns `epoch`, `loss`, `lr` and, NaN in the epochs that
            were not evaluated or absent, the metric.
        config: of the run, for the conditions.
    """
    figure, axes = plt.subplot_mosaic(
        [["loss", "metric"], ["rate", "metric"]], figsize=(9, 4.4), height_ratios=[3, 1]
    )
    epochs = history["epoch"]
    axes["loss"].plot(epochs, history["loss"], marker="o", ms=4)
    axes["loss"].set(title="Loss on the training persons", ylabel="mean over the epoch")
    axes["loss"].set_yscale("log")
    axes["loss"].tick_params(labelbottom=False)
    # The rate is constant within an epoch but for the warm-up: epoch 1 lies between 0 and 1.
    edges = [epochs.iloc[0] - 1, *epochs]
    axes["rate"].stairs(history["lr"], edges, baseline=None, color=PALETTE[2], lw=2)
    axes["rate"].set(yscale="log", ylabel="learning\nrate", xlabel="epoch")
    least, most = history["lr"].min(), history["lr"].max()
    axes["rate"].set_ylim(least / 2, most * 2)
    axes["rate"].set_yticks([least, most], [f"{least:.1e}", f"{most:.1e}"])
    axes["rate"].minorticks_off()
    same = config.train_split == config.val_split
    persons = "the training persons themselves" if same else "held-out persons"
    _metric(axes["metric"], history, config.metric)
    axes["metric"].set_title(f"{config.metric} on {persons}")
    for axis in axes.values():
        axis.set_xlim(epochs.iloc[0] - 1, epochs.iloc[-1] * 1.03)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"Training of {config.model}, {formula(config.weight_function)}"
    describe(figure, title, _conditions(config))
    return figure


def _metric(axis: Axes, history: pd.DataFrame, metric: str) -> None:
    """The epochs that were evaluated, on an axis from 0; one alone is said to be one alone."""
    evaluated = history.reindex(columns=["epoch", metric]).dropna()
    axis.plot(evaluated["epoch"], evaluated[metric], marker="o", ms=5, color=OURS)
    axis.set(xlabel="epoch", ylabel=metric)
    axis.set_ylim(0, min(1.0, 1.25 * evaluated[metric].max()) or 1.0)
    if not len(evaluated):
        return
    best = evaluated.loc[evaluated[metric].idxmax()]
    alone = len(evaluated) == 1
    axis.annotate(
        f"{'evaluated once: ' if alone else 'best: '}{best[metric]:.3f}",
        (best["epoch"], best[metric]),
        (-8, 8 if best[metric] < 0.8 else -16),
        textcoords="offset points",
        ha="right",
    )


def _conditions(config: TrainConfig) -> str:
    boxes = "detected" if config.detections else "ground-truth"
    limit = f", the first {counted(config.val_limit, 'person')}" if config.val_limit else ""
    return (
        f"{Path(config.data).name}, {config.train_split}; input {config.input_height}x"
        f"{config.input_width}, weight F = {config.weight_function}, batch {config.batch_size}, "
        f"{'' if config.augment else 'no '}augmentation, seed {config.seed}. {config.metric}: "
        f"{config.val_split}{limit}, {boxes} boxes, flip test, quarter-pixel decode. Learning "
        f"rate: at each epoch's end; a warm-up of {config.warmup_steps} steps comes first."
    )
