"""The figures of speed: rates by runtime, accuracy over speed, end to end."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from hwl.reporting.figures import OTHER, OURS, PALETTE, counted, describe, style

RATE = "images a second"
HIGHLIGHT = "ours"


@style()
def speed_heatmap(latencies: pd.DataFrame, conditions: str) -> Figure:
    """Images a second of models by runtime, one panel a device, threads and batch.

    Args:
        latencies: `hwl.speed.tables.best_batches`; its column `chosen` names the panels' columns.
        conditions: hardware, input size and rounds.
    """
    settings = list(latencies.groupby(["device", "threads"], sort=False).groups)
    chosen = list(latencies["chosen"].unique())
    columns = latencies.groupby("device")["runtime"].nunique().max()
    models = latencies["model"].nunique()
    panels = [(*setting, batch) for setting in settings for batch in chosen]
    size = max(0.85 * columns + 2, 7), len(panels) * (0.34 * models + 0.8) + 1
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False)
    low, high = float(latencies["FPS"].min()), float(latencies["FPS"].max())
    if low == high:  # one cell alone
        low, high = low / 2, high * 2
    norm = LogNorm(low, high)
    for (device, threads, batch), axis in zip(panels, axes.flat, strict=True):
        here = (latencies["device"] == device) & (latencies["threads"] == threads)
        _cells(axis, latencies[here & (latencies["chosen"] == batch)], norm)
        where = "GPU" if device == "cuda" else f"CPU, {counted(threads, 'thread')}"
        axis.set_title(f"{where}, {batch}", fontsize="medium")
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, fraction=0.03, pad=0.01)
    _round_ticks(bar.ax.yaxis, low, high)
    bar.set_label(RATE)
    brackets = " In brackets: the batch." * ("best batch" in chosen)
    describe(figure, "Speed of the model alone", f"{conditions}.{brackets}")
    return figure


def _cells(axis: Axes, cells: pd.DataFrame, norm: LogNorm) -> None:
    """A panel: rates as colors and numbers, in the order of the table, gaps where unmeasured."""
    models, runtimes = list(cells["model"].unique()), list(cells["runtime"].unique())
    rates = np.full((len(models), len(runtimes)), np.nan)
    for row in cells.itertuples():
        place = models.index(row.model), runtimes.index(row.runtime)
        rates[place] = row.FPS
        red, green, blue, _ = plt.get_cmap("viridis")(norm(row.FPS))
        light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
        text = _fps(row.FPS) + f" ({row.batch})" * (row.chosen == "best batch")
        color = "black" if light else "white"
        axis.text(place[1], place[0], text, color=color, ha="center", va="center", fontsize=9)
    axis.imshow(rates, cmap="viridis", norm=norm, aspect="auto")
    axis.grid(False)
    axis.set_yticks(range(len(models)), models)
    labels = [runtime.replace("-", "-\n").replace("runtime", "-\nruntime") for runtime in runtimes]
    axis.set_xticks(range(len(runtimes)), labels, fontsize=9)


def _round_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, more where those are few."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high))
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), np.arange(1, 10, 0.25)):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 2:
            break
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _fps(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


AREA = 150  # square points for a GFLOP
KEY = (0.2, 0.6, 1.6)  # GFLOPs of the size key's dots


@style()
def accuracy_over_speed(points: pd.DataFrame, conditions: str) -> Figure:
    """AP over images a second as in the paper's figure, one panel a setting.

    Settings whose AP was measured (in the same precision) are drawn at it; measured float32 speed
    without a measured AP at the AP of the paper, as the axis says; other precisions not at all.

    Args:
        points: `hwl.speed.tables.paper_figure_points`.
        conditions: hardware and protocol of the measured points.
    """
    panels = []
    for kind in points["kind"].unique():
        shown = points[points["kind"] == kind]
        measured = shown["measured AP"].notna().any() and not shown["paper"].any()
        column = "measured AP" if measured else "paper AP"
        if measured or not ("int8" in kind or "bfloat16" in kind):
            panels.append((kind, column, shown.dropna(subset=[column])))
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.5 * columns + 0.6, 3.1 * rows + 1), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (kind, column, shown) in zip(axes.flat, panels, strict=False):
        colors = [OURS if model == HIGHLIGHT else OTHER for model in shown["model"]]
        sizes = AREA * shown["GFLOPs"]
        axis.scatter(shown["FPS"], shown[column], s=sizes, c=colors, alpha=0.85, zorder=3)
        axis.set(xscale="log", ylabel=f"{column} (%)", xlabel=RATE)
        axis.set_title(kind, fontsize="medium")
        axis.margins(x=0.22, y=0.22)
        _round_ticks(axis.xaxis, *axis.get_xlim())
    dots = [plt.scatter([], [], s=AREA * size, c=OTHER, label=f"{size} G") for size in KEY]
    figure.legend(
        handles=dots,
        loc="outside right upper",
        title="operations\n(mmcv's\ncounter)",
        labelspacing=1,
    )
    text = f"{conditions}. Panels 'paper': GTX 1650 Ti notebook GPU and i7-10750H CPU, COCO val2017"
    describe(figure, "Accuracy over speed", f"{text}.")
    figure.draw_without_rendering()  # the layout, in which the names are placed
    for axis, (_, column, shown) in zip(axes.flat, panels, strict=False):
        _name_dots(axis, shown, column)
    return figure


def _name_dots(axis: Axes, shown: pd.DataFrame, column: str) -> None:
    """Write each dot's name beside it, where it covers the least of other dots and names."""
    unit = axis.figure.dpi / 72  # pixels a point
    centers = axis.transData.transform(shown[["FPS", column]].to_numpy(dtype=float))
    radii = np.sqrt(AREA * shown["GFLOPs"].to_numpy() / np.pi) * unit
    taken = [
        Bbox.from_extents(x - r, y - r, x + r, y + r)
        for (x, y), r in zip(centers, radii, strict=True)
    ]
    for number in np.argsort(-centers[:, 1], kind="stable"):
        text = axis.text(0, 0, shown["model"].iloc[number], fontsize=8.5)
        text.set_in_layout(False)
        own, gap = text.get_window_extent(), radii[number] + 3 * unit
        places = [
            (away, _beside(centers[number], own, angle, away))
            for angle in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225])
            for away in (gap, gap + 10 * unit, gap + 20 * unit)
        ]
        costs = [
            sum(_shared(box, other) for other in taken)
            + 0.1 * (away - gap)
            + 3 * (own.width * own.height - _shared(box, axis.bbox))
            for away, box in places
        ]
        best = places[int(np.argmin(costs))][1]
        taken.append(best)
        x, y = axis.transData.inverted().transform(best.p0)
        text.set_position((float(x), float(y)))


def _beside(center: np.ndarray, own: Bbox, angle: float, away: float) -> Bbox:
    """A text's box moved so that its near side is so many pixels away from a point."""
    dx, dy = np.cos(angle), np.sin(angle)
    left = center[0] + dx * away + (dx - 1) / 2 * own.width
    low = center[1] + dy * away + (dy - 1) / 2 * own.height
    return Bbox.from_bounds(left, low, own.width, own.height)


def _shared(a: Bbox, b: Bbox) -> float:
    """Area that two boxes share, square pixels."""
    both = Bbox.intersection(a, b)
    return both.width * both.height if both is not None else 0.0


@style()
def stage_bars(end_to_end: pd.DataFrame, conditions: str) -> Figure:
    """Milliseconds a person by stage, from image files to keypoints.

    Args:
        end_to_end: columns `model`, `runtime`, `device`, `batch`, `flip`, `persons`, `persons/s`,
            `<stage>_s` and, where passes were repeated, `low_s` and `high_s` of the whole.
        conditions: hardware and data.
    """
    others = ("total_s", "low_s", "high_s")
    stages = [name for name in end_to_end if name.endswith("_s") and name not in others]
    flips = sorted(end_to_end["flip"].unique())
    rows = len(end_to_end) / len(flips)
    figure, axes = plt.subplots(
        len(flips), 1, figsize=(8, (0.27 * rows + 0.9) * len(flips) + 1), squeeze=False, sharex=True
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
        ends = left
        if "low_s" in bars:
            low, high = (1000 * (bars[name] / bars["persons"]) for name in ("low_s", "high_s"))
            axis.hlines(places, low, high, color="black", lw=1.5)
            ends = np.maximum(left, high)
        for place, end, rate in zip(places, ends, bars["persons/s"], strict=True):
            axis.text(end, place, f" {_fps(rate)}/s", va="center", fontsize=9)
        names = [
            f"{bar.model}, {bar.runtime}{' on GPU' * (bar.device == 'cuda')}, batch {bar.batch}"
            for bar in bars.itertuples()
        ]
        axis.set_yticks(places, names, fontsize=9)
        axis.set_title("with the flip test" if flip else "without the flip test")
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.12, y=0.01)
        axis.invert_yaxis()
    axes[-1, 0].set(xlabel="ms a person; at the bars' ends: persons a second")
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    axes[0, 0].legend(**place, ncols=len(stages), fontsize="small", columnspacing=1)
    spread = " Black lines: the fastest and the slowest pass." * ("low_s" in end_to_end)
    describe(figure, "From image files to keypoints", f"{conditions}.{spread}")
    return figure
