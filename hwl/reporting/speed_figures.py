"""The figures of speed, in the style of `hwl.reporting.figures`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from hwl.reporting.figures import PALETTE, wrapped


def speed_heatmap(latencies: pd.DataFrame, caption: str) -> Figure:
    """FPS of models by runtime, one panel a device, threads and batch.

    Args:
        latencies: `hwl.speed.tables.best_batches`; its column `chosen` names the panels' columns.
        caption: hardware and conditions.
    """
    settings = list(latencies.groupby(["device", "threads"], sort=False).groups)
    chosen = list(latencies["chosen"].unique())
    columns = latencies.groupby("device")["runtime"].nunique().max()
    models = latencies["model"].nunique()
    figure, axes = plt.subplots(
        *(len(settings), len(chosen)),
        figsize=(
            max(len(chosen) * (0.8 * columns + 1.4), 7),
            len(settings) * (0.42 * models + 1.7),
        ),
        squeeze=False,
        sharey=True,
    )
    for (device, threads), row in zip(settings, axes, strict=True):
        for batch, axis in zip(chosen, row, strict=True):
            here = (latencies["device"] == device) & (latencies["threads"] == threads)
            cells = latencies[here & (latencies["chosen"] == batch)]
            shape = {"index": "model", "columns": "runtime"}
            # In the order of the table, not of the alphabet.
            order = {"index": cells["model"].unique(), "columns": cells["runtime"].unique()}
            fps = cells.pivot(**shape, values="FPS").reindex(**order)
            texts = fps.map(_fps)
            if batch == "best batch":
                numbers = cells.pivot(**shape, values="batch").reindex(**order)
                texts += numbers.map(lambda value: "" if np.isnan(value) else f"\n({value:.0f})")
            sns.heatmap(
                *(fps,),
                annot=texts,
                fmt="",
                annot_kws={"size": 8},
                norm=LogNorm(),
                cmap="Blues",
                cbar=False,
                linewidths=1,
                ax=axis,
            )
            where = "GPU" if device == "cuda" else f"CPU, {threads} thread{'s' * (threads > 1)}"
            axis.set(xlabel="", ylabel="")
            axis.set_title(f"{where}, {batch}", fontsize="medium")
            labels = [name.get_text().replace("-", "-\n") for name in axis.get_xticklabels()]
            axis.set_xticks(axis.get_xticks(), labels, rotation=0, fontsize=8)
            axis.tick_params(axis="y", labelsize=9, rotation=0)
    brackets = " (in brackets: the batch)" * ("best batch" in chosen)
    text = f"Images a second of the model alone{brackets}. {caption}"
    figure.suptitle(wrapped(text, figure), fontsize="small")
    return figure


def _fps(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


# Kinds of points by the start of their name: color and whether they are filled.
POINTS = {
    "paper, CPU": (PALETTE[0], False),
    "paper, GPU": (PALETTE[2], False),
    "eager": (PALETTE[4], True),
    "fastest float32, GPU": (PALETTE[5], True),
    "fastest bfloat16, GPU": (PALETTE[6], True),
    "fastest float32": (PALETTE[1], True),
    "fastest int8": (PALETTE[3], True),
}
AREA = 160  # square points for a GFLOP


def accuracy_over_speed(points: pd.DataFrame, caption: str) -> Figure:
    """The paper's figure, AP over FPS, with its own points hollow and measured ones filled.

    A second panel shows the measured AP, where there is any, over the measured FPS.

    Args:
        points: `hwl.speed.tables.paper_figure_points`.
        caption: hardware and conditions.
    """
    panels = [("paper AP", "AP in the paper, COCO val2017 (%)", points)]
    measured = points[~points["paper"]].dropna(subset="measured AP")
    if len(measured):
        panels.append(("measured AP", "AP measured here (%)", measured))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(0.6 + 6.4 * len(panels), 5.6), squeeze=False
    )
    for axis, (column, label, shown) in zip(axes.flat, panels, strict=True):
        lines = shown.groupby("model")[column].first().sort_values()
        # Large dots below small ones.
        ordered = shown.sort_values("GFLOPs", ascending=False)
        for kind in shown["kind"].unique():
            dots = ordered[ordered["kind"] == kind]
            color, filled = next(how for name, how in POINTS.items() if kind.startswith(name))
            axis.scatter(
                *(dots["FPS"], dots[column]),
                s=AREA * dots["GFLOPs"],
                facecolor=color if filled else "none",
                edgecolor="white" if filled else color,
                linewidth=0.8 if filled else 1.8,
                alpha=0.9,
                label=kind,
                zorder=3 if filled else 4,
            )
        axis.set(xscale="log", xlabel="images a second (FPS)", ylabel=label)
        axis.margins(x=0.1, y=0.12)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="y", visible=False)  # the models have lines of their own
        _name_lines(axis, lines)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        [_dot(handle) for handle in handles],
        labels,
        loc="outside lower center",
        ncols=2 * len(panels),
        fontsize="small",
        title="area of a dot: operations by mmcv's counter",
        title_fontsize="small",
    )
    figure.suptitle(wrapped(caption, figure), fontsize="small")
    return figure


def _dot(handle: PathCollection) -> Line2D:
    """A legend's mark of one size, whatever the first dot's area."""
    filled = len(handle.get_facecolor()) > 0
    color = (handle.get_facecolor() if filled else handle.get_edgecolor())[0]
    return Line2D(
        *([], []),
        marker="o",
        ls="",
        ms=8,
        mfc=color if filled else "none",
        mec="white" if filled else color,
        mew=0.8 if filled else 1.8,
    )


def _name_lines(axis: plt.Axes, lines: pd.Series) -> None:
    """Names at the right end of horizontal lines, moved apart where they would overlap.

    Args:
        axis: with its limits set by the data.
        lines: heights by name, ascending.
    """
    low, high = axis.get_ylim()
    height = axis.get_position().height * axis.figure.get_figheight()
    apart = (high - low) * 0.17 / height  # 0.17 inches for a line of text
    places = lines.to_numpy(dtype=float, copy=True)
    for _ in range(100):  # neighbors that overlap share the move
        overlap = np.clip(apart - np.diff(places), 0, None) / 2
        places[1:] += overlap
        places[:-1] -= overlap
    for (name, value), place in zip(lines.items(), places, strict=True):
        axis.axhline(value, color="0.8", lw=0.8, zorder=1)
        axis.annotate(
            name,
            xy=(1, value),
            xytext=(1.03, place),
            xycoords=axis.get_yaxis_transform(),
            va="center",
            fontsize="small",
            arrowprops={"arrowstyle": "-", "color": "0.8", "lw": 0.8, "shrinkB": 0},
        )


def stage_bars(end_to_end: pd.DataFrame, caption: str) -> Figure:
    """Milliseconds a person by stage, from image files to keypoints.

    Args:
        end_to_end: columns `model`, `runtime`, `device`, `batch`, `flip`, `persons`, `persons/s`
            and `<stage>_s`.
        caption: hardware and conditions.
    """
    stages = [name for name in end_to_end if name.endswith("_s") and name != "total_s"]
    flips = sorted(end_to_end["flip"].unique())
    rows = len(end_to_end) / len(flips)
    figure, axes = plt.subplots(
        *(1, len(flips)),
        figsize=(6.2 * len(flips) + 1.5, 0.26 * rows + 2),
        squeeze=False,
        sharey=True,
    )
    for flip, axis in zip(flips, axes.flat, strict=True):
        bars = end_to_end[end_to_end["flip"] == flip]
        # A gap of half a bar before each model.
        groups = (bars["model"] != bars["model"].shift()).cumsum()
        places = np.arange(len(bars)) + 0.6 * groups.to_numpy()
        left = np.zeros(len(bars))
        for color, stage in zip(PALETTE[1:], stages, strict=False):
            width = 1000 * (bars[stage] / bars["persons"]).to_numpy()
            axis.barh(places, width, left=left, color=color, lw=0, label=stage[:-2])
            left += width
        for place, end, rate in zip(places, left, bars["persons/s"], strict=True):
            axis.text(end, place, f" {_fps(rate)}/s", va="center", fontsize=8)
        names = [
            f"{bar.model}, {bar.runtime}{' on GPU' * (bar.device == 'cuda')}, batch {bar.batch}"
            for bar in bars.itertuples()
        ]
        axis.set_yticks(places, names, fontsize=8)
        axis.set(xlabel="ms a person (at the bars' ends: persons a second)")
        axis.set_title("flip test" if flip else "no flip", fontsize="medium")
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.12, y=0.01)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(stages), fontsize="small")
    figure.suptitle(wrapped(caption, figure), fontsize="small")
    return figure
