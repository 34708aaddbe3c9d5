"""Accuracy: by protocol, by keypoint, by variant, and precision over recall."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwl.reporting.figures import OTHER, OURS, PALETTE, counted, describe, spoken, style
from hwl.skeletons import Skeleton

BOXES_COLORS = {"ground-truth": PALETTE[0], "detected": PALETTE[1]}
HALF = np.sqrt(8 * np.log(2))  # a keypoint this many sigmas off has a similarity of a half


@style()
def protocol_bars(protocols: pd.DataFrame, metric: str, subject: str) -> Figure:
    """The metric by protocol, with bootstrap intervals where the table has them.

    Args:
        protocols: a run's `protocols.csv`.
        metric: column to draw.
        subject: what was evaluated on which data.
    """
    rows = protocols.reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(7, 0.55 * len(rows) + 1.7))
    for row in rows.index:
        boxes, flip, value = rows.loc[row, ["boxes", "flip", metric]]
        color = BOXES_COLORS[boxes]
        axis.barh(row, value, height=0.62, color=color, alpha=1 if flip else 0.45)
        high = value
        if f"{metric}_low" in rows:
            low, high = rows.loc[row, [f"{metric}_low", f"{metric}_high"]]
            axis.plot([low, high], [row, row], color="black", lw=1.5, marker="|", ms=8)
        axis.text(max(high, value) + 0.012, row, f"{value:.3f}", va="center", fontweight="bold")
    names = [
        f"{row.boxes} boxes,\n{'flip test' if row.flip else 'no flip test'}, "
        f"{counted(row.persons, 'box', 'boxes')}"
        for row in rows.itertuples()
    ]
    axis.set_yticks(rows.index, names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel=metric, xlim=(0, 1))
    interval = " Lines: 95 % bootstrap intervals over images." * (f"{metric}_low" in rows)
    first = rows.iloc[0]
    detected = " Detected boxes with the flip test are the paper's protocol."
    conditions = (
        f"{subject}; input {first['input']}, {counted(first['images'], 'image')}, "
        f"{first['decode']} decode, runtime {first['runtime']}.{interval}"
        f"{detected * bool((rows['boxes'] == 'detected').any())}"
    )
    describe(figure, f"{metric} by protocol", conditions)
    return figure


@style()
def keypoint_error_boxes(errors: np.ndarray, skeleton: Skeleton, conditions: str) -> Figure:
    """Distribution of each keypoint's error, beside the error that halves its similarity.

    Args:
        errors: (Q, K) in square roots of the person's area, NaN where unannotated.
        skeleton: K names and sigmas.
        conditions: data, model and protocol.
    """
    names = [spoken(keypoint) for keypoint in skeleton.keypoints]
    known = [column[~np.isnan(column)] for column in errors.T]
    ends = [
        np.percentile(values, [5, 25, 50, 75, 95]) if len(values) else [np.nan] * 5
        for values in known
    ]
    low, first, median, third, high = np.transpose(ends)
    places = np.arange(len(names))
    figure, axis = plt.subplots(figsize=(7, 0.3 * len(names) + 1.6))
    axis.hlines(places, low, high, color="0.35", lw=1.2)
    axis.barh(places, third - first, left=first, height=0.7, color=PALETTE[5])
    axis.vlines(median, places - 0.35, places + 0.35, color="black", lw=1.5)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    half = HALF * np.array(skeleton.sigmas)
    axis.scatter(half, places, marker="d", color=OURS, s=28, zorder=5)
    axis.set_xlabel("distance to the truth / square root of the person's area")
    axis.set_xlim(0, 1.05 * max(np.nanmax(high, initial=0), half.max()))
    marks = (
        "Box: quartiles and median; whiskers: 5 to 95 %; diamond: the error at which the "
        "keypoint's similarity in OKS is 0.5"
    )
    describe(figure, "Error by keypoint", f"{conditions}. {marks}.")
    return figure


@style()
def ablation_dots(runs: pd.DataFrame, metric: str, baseline: str, conditions: str) -> Figure:
    """Every run's metric with its interval over images, and each variant's mean over seeds.

    The variant "ours" is in color.

    Args:
        runs: columns `variant`, `seed`, the metric and, where known, `<metric>_low` and `_high`.
        metric: column to draw.
        baseline: the variant that the others are compared with; drawn as a vertical line.
        conditions: protocol and data.
    """
    means = runs.groupby("variant")[metric].mean().sort_values(ascending=False)
    has_interval = f"{metric}_low" in runs
    figure, axis = plt.subplots(figsize=(7.5, 0.3 * len(runs) + 0.35 * len(means) + 1.6))
    place, ticks = 0.0, []
    for variant, mean in means.items():
        color = OURS if variant == "ours" else OTHER
        own = runs[runs["variant"] == variant].sort_values("seed")
        places = place + 0.55 * np.arange(len(own))
        if has_interval:
            ends = own[[f"{metric}_low", f"{metric}_high"]].to_numpy().T
            axis.hlines(places, *ends, color=color, lw=1.6, alpha=0.7)
        axis.scatter(own[metric], places, s=34, color=color, zorder=3)
        if len(own) > 1:
            axis.scatter(mean, places.mean(), marker="D", s=70, fc="none", ec="black", zorder=4)
        ticks.append(places.mean())
        place = places[-1] + 1.1
    axis.set_yticks(ticks, [f"{name} ({counted(n, 'seed')})" for name, n in _seeds(runs, means)])
    axis.axvline(means[baseline], color="0.4", lw=1, ls="--", zorder=0)
    axis.set_ylim(place - 0.4, -0.7)
    axis.grid(axis="y", visible=False)
    _at_least(axis, 0.1)
    axis.set_xlabel(metric)
    line = "; line: its 95 % bootstrap interval over images" * has_interval
    several = "; diamond: mean over seeds" * (len(runs) > len(means))
    marks = f"Dot: one run{line}{several}; dashed: mean of {baseline}, the baseline"
    describe(figure, f"{metric} of the variants", f"{conditions}. {marks}.")
    return figure


def _seeds(runs: pd.DataFrame, means: pd.Series) -> list[tuple[str, int]]:
    return [(str(name), int((runs["variant"] == name).sum())) for name in means.index]


def _at_least(axis: Axes, span: float) -> None:
    """Widen a horizontal axis to a span, so that a difference of nothing does not look large."""
    low, high = axis.get_xlim()
    if high - low < span:
        middle = (low + high) / 2
        axis.set_xlim(middle - span / 2, middle + span / 2)


@style()
def difference_intervals(comparison: pd.DataFrame, metric: str, conditions: str) -> Figure:
    """Each variant's difference to the baseline with its interval over seeds, about 0.

    Args:
        comparison: of `hwl.studies.ablations.compare`.
        metric: what the differences are of.
        conditions: protocol and data.
    """
    column = next(name for name in comparison if str(name).startswith("difference to "))
    rows = comparison[comparison["verdict"] != "baseline"].reset_index(drop=True)
    figure, axis = plt.subplots(figsize=(7.5, 0.4 * max(len(rows), 1) + 1.6))
    colors = {"beyond noise": OURS, "within noise": PALETTE[0]}
    for row, values in rows.iterrows():
        color = colors.get(values["verdict"], OTHER)
        axis.hlines(row, values["95 % low"], values["95 % high"], color=color, lw=3, alpha=0.6)
        axis.scatter(values[column], row, color=color, s=45, zorder=3)
    axis.axvline(0, color="black", lw=1)
    axis.set_yticks(rows.index, [f"{v}\n{verdict}" for v, verdict in _verdicts(rows)])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    _at_least(axis, 0.05)
    axis.set_xlabel(f"{column[0].upper()}{column[1:]}, {metric}")
    describe(
        figure,
        "Differences to the baseline",
        f"{conditions}. Line: 95 % interval over seeds; there is none with one seed.",
    )
    return figure


def _verdicts(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(rows["variant"], rows["verdict"], strict=True))


@style()
def precision_over_recall(
    curves: Mapping[float, np.ndarray], recalls: np.ndarray, conditions: str
) -> Figure:
    """Precision over recall at each OKS threshold; the areas below are what AP averages.

    Args:
        curves: OKS threshold to (R,) precisions.
        recalls: (R,) from 0 to 1.
        conditions: data, model and protocol.
    """
    figure, axis = plt.subplots(figsize=(6.6, 4.2))
    colors = sns.color_palette("viridis_r", len(curves))
    for color, (threshold, precision) in zip(colors, curves.items(), strict=True):
        label = f"{threshold:.2f}: {precision.mean():.3f}"
        axis.step(recalls, precision, color=color, where="post", label=label)
    axis.set(xlabel="recall: persons found", ylabel="precision: predictions that are right")
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(title="OKS at least: AP", bbox_to_anchor=(1.02, 1), loc="upper left")
    mean = np.mean([precision.mean() for precision in curves.values()])
    describe(figure, f"Precision over recall: AP {mean:.3f} is the mean area", conditions)
    return figure
