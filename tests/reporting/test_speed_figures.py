"""The figures of speed show the numbers of their tables, and no text over another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwl import paper
from hwl.models import MODELS
from hwl.reporting.figures import OURS
from hwl.reporting.speed_figures import AREA, accuracy_over_speed, speed_heatmap, stage_bars
from hwl.speed.tables import best_batches, paper_figure_points

CPU = {"eager": "float32", "onnxruntime": "float32", "openvino-int8": "int8"}
Readable = Callable[[Figure], None]
CUDA = {"eager": "float32", "cuda-graph-bf16": "bfloat16"}
SETTINGS = (("cpu", 1, CPU), ("cpu", 2, CPU), ("cuda", 2, CUDA))
CAPTION = "256x192, medians of 30 rounds, Some(R) Processor of a long name, 2 cores, A GPU"


@pytest.fixture(scope="module")
def latencies() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for device, threads, runtimes in SETTINGS:
        for model, (runtime, precision), batch in itertools.product(
            MODELS, runtimes.items(), (1, 8)
        ):
            fps = rng.uniform(5, 200) * (20 if device == "cuda" else 1)
            names = ("model", "runtime", "precision", "device", "threads", "batch", "FPS")
            values = (model, runtime, precision, device, threads, batch, fps)
            rows.append(dict(zip(names, values, strict=True)))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def points(latencies: pd.DataFrame) -> pd.DataFrame:
    counting = paper.SPEED[["model"]].assign(**{"mmcv count (M)": 1000 * paper.SPEED["GFLOPs"]})
    accuracy = paper.SPEED[["model"]].assign(AP=[0.5, 0.5, 0.501, 0.502, 0.6, 0.61])
    kinds = ("float32", "int8", "bfloat16")
    accuracy = pd.concat([accuracy.assign(precision=kind) for kind in kinds])
    return paper_figure_points(latencies, counting, accuracy)


def panel(figure: Figure, title: str) -> Axes:
    return next(axis for axis in figure.axes if axis.get_title(loc="left") == title)


def test_the_heatmap_has_a_panel_a_setting_with_the_rates_in_it_on_one_scale(
    latencies: pd.DataFrame, assert_readable: Readable
) -> None:
    best = best_batches(latencies)

    figure = speed_heatmap(best, CAPTION)

    where = ["CPU, 1 thread", "CPU, 2 threads", "GPU"]
    panels = [panel(figure, f"{w}, {b}") for w in where for b in ("batch 1", "best batch")]
    row = best.query("model == 'ours' and runtime == 'openvino-int8' and threads == 1").iloc[0]
    fps = row["FPS"]
    annotated = [text.get_text() for text in panels[0].texts]
    assert (f"{fps:.0f}" if fps >= 100 else f"{fps:.1f}") in annotated
    assert any(text.get_text().endswith("(8)") for text in panels[1].texts)
    scale = (best["FPS"].min(), best["FPS"].max())
    assert {axis.images[0].get_clim() for axis in panels} == {scale}
    assert figure.axes[-1].get_ylabel() == "images a second"
    assert_readable(figure)


def test_the_rates_stand_out_from_their_cells(latencies: pd.DataFrame) -> None:
    figure = speed_heatmap(best_batches(latencies), CAPTION)

    image = figure.axes[0].images[0]
    for text in figure.axes[0].texts:
        column, row = (int(value) for value in text.get_position())
        cell = image.cmap(image.norm(image.get_array()[row, column]))
        assert contrast(cell, matplotlib.colors.to_rgb(text.get_color())) > 3


def contrast(a: Sequence[float], b: Sequence[float]) -> float:
    """WCAG's contrast ratio of two colors."""

    def luminance(color: Sequence[float]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color[:3]]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_a_heatmap_leaves_gaps_for_what_is_missing(
    latencies: pd.DataFrame, assert_readable: Readable
) -> None:
    one = latencies[(latencies["batch"] == 1) & (latencies["device"] == "cpu")]
    missing = (one["model"] == "ours") & (one["runtime"] == "onnxruntime")

    figure = speed_heatmap(best_batches(one[~missing]), CAPTION)

    assert len(panel(figure, "CPU, 1 thread, batch 1").texts) == len(MODELS) * 3 - 1
    assert_readable(figure)


def test_a_heatmap_of_a_single_cell_has_a_scale(
    latencies: pd.DataFrame, assert_readable: Readable
) -> None:
    one = latencies[(latencies["batch"] == 1) & (latencies["runtime"] == "eager")].iloc[:1]

    figure = speed_heatmap(best_batches(one), CAPTION)

    low, high = panel(figure, "CPU, 1 thread, batch 1").images[0].get_clim()
    assert low < one["FPS"].iloc[0] < high
    assert_readable(figure)


def test_accuracy_over_speed_has_a_panel_a_setting_with_ours_in_its_own_color(
    points: pd.DataFrame, assert_readable: Readable
) -> None:
    figure = accuracy_over_speed(points, CAPTION)

    for kind in points["kind"].unique():
        axis, own = panel(figure, kind), points[points["kind"] == kind]
        column = "paper AP" if own["paper"].all() else "measured AP"
        assert axis.get_ylabel() == f"{column} (%)" and axis.get_xscale() == "log"
        dots = axis.collections[0]
        np.testing.assert_allclose(dots.get_offsets(), own[["FPS", column]])
        np.testing.assert_allclose(dots.get_sizes() / AREA, own["GFLOPs"])
        colors = [tuple(color[:3]) for color in dots.get_facecolors()]
        ours = [c == matplotlib.colors.to_rgb(OURS) for c in colors]
        assert ours == (own["model"] == "ours").tolist()
        assert sorted(text.get_text() for text in axis.texts) == sorted(own["model"])
    assert_readable(figure)


def test_speed_in_int8_is_not_drawn_at_an_ap_of_float32(
    points: pd.DataFrame, assert_readable: Readable
) -> None:
    unknown = points.assign(**{"measured AP": np.nan})

    figure = accuracy_over_speed(unknown, CAPTION)

    titles = {axis.get_title(loc="left") for axis in figure.axes}
    assert "fastest float32, 2 CPU threads" in titles
    assert not any("int8" in title or "bfloat16" in title for title in titles)
    assert_readable(figure)


@pytest.mark.parametrize("spread", [True, False])
def test_bars_are_as_long_as_the_stages_take_for_a_person(
    spread: bool, assert_readable: Readable
) -> None:
    rows = []
    for model, runtime, flip in itertools.product(MODELS, CPU, (False, True)):
        stages = {"reading_s": 0.5, "cropping_s": 1.0, "model_s": 20.0, "decoding_s": 0.5}
        rows.append(
            {"model": model, "runtime": runtime, "device": "cpu", "batch": 8, "flip": flip}
            | {"persons": 1000, **stages, "total_s": 22.0, "persons/s": 1000 / 22}
            | ({"low_s": 21.0, "high_s": 25.0} if spread else {})
        )

    figure = stage_bars(pd.DataFrame(rows), CAPTION)

    for title in ("without the flip test", "with the flip test"):
        axis = panel(figure, title)
        widths = [[bar.get_width() for bar in container] for container in axis.containers]
        expected = np.tile([[0.5], [1], [20], [0.5]], len(MODELS) * len(CPU))
        np.testing.assert_allclose(widths, expected)
        lines = [s[:, 0].tolist() for c in axis.collections for s in c.get_segments()]
        assert lines == ([[21, 25]] * len(rows[::2]) if spread else [])
    assert_readable(figure)
