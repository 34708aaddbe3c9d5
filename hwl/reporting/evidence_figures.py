"""Figures of paired runs: differences with intervals, curves as bands, accuracy over size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hwl.reporting.figures import PALETTE, counted, style, wrapped
from hwl.studies.paired import paired_interval

BASE_COLOR = "0.55"
ALIKE = 0.05  # relative difference of multiply-accumulates that are drawn side by side
VERDICT_COLORS = {"supported": PALETTE[2], "contradicted": PALETTE[1]}


def read_tables(evidence: str) -> dict[str, pd.DataFrame]:
    """The tables of the experiment's report by name.

    Args:
        evidence: folder of its runs, or "".

    Returns:
        Nothing where there is no finished report.
    """
    report = Path(evidence) / "report"
    if not evidence or not (report / "run.json").exists():
        return {}
    return {path.stem: pd.read_csv(path) for path in sorted(report.glob("*.csv"))}


def figures_of(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Each figure that the report's tables allow, with its name."""
    given = {name: table for name, table in tables.items() if len(table)}
    if "runs" not in given:
        return
    first = given["runs"].iloc[0]
    protocol = (
        f"{first['boxes']} boxes, {'flip test' if first['flip'] else 'no flip'}, input "
        f"{first['input']}, last weights"
    )
    how = f"{protocol}; {first['images']} images, {first['persons']} persons"
    if "comparisons" in given:
        yield "forest", forest_plot(given["comparisons"], protocol)
    if "curves" in given and "OKS" in given["curves"]:
        note = "means and 95 % intervals of each mean over seeds; the old validation images"
        arms = given["curves"]["arm"].unique()
        yield "learning", learning_bands(given["curves"], "OKS", arms, note)
    if "reliability" in given:
        yield "reliability", reliability_curves(given["reliability"], f"{how}. Means over seeds")
    if "sizes" in given and len(given["sizes"]) > 1:
        threads = counted(given["sizes"]["threads"].iloc[0], "thread")
        note = (
            f"{how}. Lines: 95 % intervals of each mean over the same seeds; whether two differ "
            "is told by their paired difference. Dots of nearly one count stand side by side. "
            f"Latency: eager PyTorch at batch 1, {threads}"
        )
        yield "accuracy_over_macs", accuracy_over_macs(given["sizes"], note)
    if "trace" in given:
        traces = dict(iter(given["trace"].groupby("arm", sort=False)))
        note = "the first run of each arm, 128 validation persons"
        yield "over_training", over_training(traces, note)


@style()
def forest_plot(comparisons: pd.DataFrame, caption: str) -> Figure:
    """Paired differences of mean OKS, each with Student's and the bootstrap's 95 % interval.

    Args:
        comparisons: of `hwl.studies.evidence.comparisons`.
        caption: conditions.
    """
    stages = comparisons["stage"].to_numpy()
    begins = np.append(True, stages[1:] != stages[:-1])
    position = -np.arange(len(stages)) - 0.7 * np.cumsum(begins)  # room for a stage's name
    figure, axis = plt.subplots(figsize=(9, 0.34 * -position[-1] + 1.5))
    colors = [VERDICT_COLORS.get(verdict, BASE_COLOR) for verdict in comparisons["verdict"]]
    points = 100 * comparisons[["difference", "low", "high", "boot_low", "boot_high"]].to_numpy()
    axis.hlines(position, points[:, 3], points[:, 4], color=colors, linewidth=1)
    axis.hlines(position, points[:, 1], points[:, 2], color=colors, linewidth=3.5)
    axis.scatter(points[:, 0], position, color=colors, s=36, zorder=3)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(
        position,
        [
            f"{row.arm} - {row.base} ({row.pairs}{f' of {row.planned}' * (row.pairs < row.planned)}"
            " pairs)"
            for row in comparisons.itertuples()
        ],
    )
    for row, place in zip(comparisons[begins].itertuples(), position[begins], strict=True):
        axis.axhline(place + 1.1, color="0.8", linewidth=0.8)
        said = f" {row.stage}: {row.data}, {row.images} images, {row.persons} persons"
        side = axis.get_yaxis_transform()
        axis.text(0, place + 0.95, said, color="0.4", fontsize="x-small", va="top", transform=side)
    axis.set_ylim(position[-1] - 0.6, position[0] + 1.1)
    right = axis.twinx()
    right.set_ylim(axis.get_ylim())
    right.set_yticks(position, comparisons["verdict"], fontsize="small")
    right.grid(False)
    right.tick_params(length=0)
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="difference of mean OKS, points (thick: over seeds; thin: seeds and images)")
    figure.suptitle(wrapped(caption, figure), fontsize="small", x=0.01, ha="left")
    return figure


@style()
def learning_bands(curves: pd.DataFrame, metric: str, arms: Sequence[str], caption: str) -> Figure:
    """A metric over epochs: each arm's mean and its 95 % interval over seeds.

    Args:
        curves: of `hwl.studies.evidence.curves`.
        metric: column to draw; epochs without it are left out.
        arms: to draw.
        caption: conditions.
    """
    figure, axis = plt.subplots(figsize=(7, 4))
    for color, arm in zip(PALETTE, arms, strict=False):
        table = curves[curves["arm"] == arm].dropna(subset=[metric])
        if table.empty:
            continue
        wide = table.pivot(index="epoch", columns="seed", values=metric).dropna(axis="columns")
        band = paired_interval(wide.to_numpy())
        axis.plot(wide.index, band.mean, color=color, marker="o", markersize=3, label=arm)
        axis.fill_between(wide.index, band.low, band.high, color=color, alpha=0.2, linewidth=0)
    axis.set(xlabel="epoch", ylabel=f"validation {metric}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    axis.set_title(wrapped(caption, figure), fontsize="small", loc="left")
    return figure


@style()
def accuracy_over_macs(arms: pd.DataFrame, caption: str) -> Figure:
    """Mean OKS over multiply-accumulates, one dot an arm; parameters and latency in the legend.

    Dots of nearly the same count are drawn side by side, for their intervals to be seen.

    Args:
        arms: columns `arm`, `macs_M`, `parameters_M`, `latency_ms`, `OKS` with `low` and `high`.
        caption: conditions.
    """
    figure, axis = plt.subplots(figsize=(8, 4.4))
    reach = 100 * np.array([arms["OKS"] - arms["low"], arms["high"] - arms["OKS"]])
    macs = arms["macs_M"].to_numpy()
    for number, row in enumerate(arms.itertuples()):
        alike = np.flatnonzero(np.abs(macs / row.macs_M - 1) < ALIKE)
        aside = np.searchsorted(alike, number) - (len(alike) - 1) / 2
        label = f"{row.arm}: {row.macs_M:.1f} M, {row.parameters_M:.2f} M parameters, "
        label += f"{row.latency_ms:.0f} ms"
        axis.errorbar(
            row.macs_M + 0.04 * np.ptp(macs) * aside,
            100 * row.OKS,
            reach[:, number : number + 1],
            fmt="o",
            color=PALETTE[number % len(PALETTE)],
            capsize=3,
            linewidth=1,
            label=label,
        )
    axis.margins(x=0.15)
    axis.set(xlabel="multiply-accumulates, M", ylabel="mean OKS, points")
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize="small")
    axis.set_title(wrapped(caption, figure), fontsize="small", loc="left")
    return figure


@style()
def reliability_curves(reliability: pd.DataFrame, caption: str) -> Figure:
    """The median error of keypoints by the height of their predicted peak, one line an arm.

    Args:
        reliability: of `hwl.studies.evidence.reliability`.
        caption: conditions.
    """
    figure, axis = plt.subplots(figsize=(7, 4))
    for color, (arm, table) in zip(PALETTE, reliability.groupby("arm", sort=False), strict=False):
        correlation = table["rank_correlation"].iloc[0]
        label = f"{arm} (rank correlation {correlation:.2f})"
        axis.plot(table["height"], table["median_error"], "o-", ms=4, color=color, label=label)
    axis.set(xlabel="height of the predicted peak", ylabel="median error / square root of area")
    _logarithmic(axis)
    axis.legend()
    axis.set_title(wrapped(caption, figure), fontsize="small", loc="left")
    return figure


def _logarithmic(axis: Axes) -> None:
    """A logarithmic y axis of less than a decade or two, with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


# What `hwl.studies.over_training.trace` tells, as axes are named.
TRACED = {
    "loss_share": "share of the loss on keypoint cells",
    "gradient_share": "share of |gradient| on keypoint cells",
    "peak_height": "mean predicted peak",
    "peak_width": "width at half height, cells",
    "background_rms": "RMS error of the background",
    "median_error": "median error, heatmap cells",
}


@style()
def over_training(traces: Mapping[str, pd.DataFrame], caption: str) -> Figure:
    """What the weighting does over training: one panel a measure, one line an arm.

    Args:
        traces: arm to its table of `hwl.studies.over_training.trace`.
        caption: conditions.
    """
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True)
    for axis, (column, label) in zip(axes.flat, TRACED.items(), strict=True):
        for color, (arm, table) in zip(PALETTE, traces.items(), strict=False):
            axis.plot(table["step"], table[column], color=color, label=arm)
        axis.set_title(label, fontsize="small", loc="left")
        if column in ("peak_width", "background_rms", "median_error"):
            _logarithmic(axis)
    for axis in axes[1]:
        axis.set_xlabel("training step")
    axes[0, 0].legend(fontsize="small")
    figure.suptitle(wrapped(caption, figure), fontsize="small", x=0.01, ha="left")
    return figure
