"""The figures of speed show the numbers of their tables, and no text over another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hwl import paper
from hwl.models import MODELS
from hwl.reporting.speed_figures import accuracy_over_speed, speed_heatmap, stage_bars
from hwl.speed.tables import best_batches, paper_figure_points

CPU = {"eager": "float32", "onnxruntime": "float32", "openvino-int8": "int8"}
CUDA = {"eager": "float32", "cuda-graph-bf16": "bfloat16"}
SETTINGS = (("cpu", 1, CPU), ("cpu", 2, CPU), ("cuda", 2, CUDA))
CAPTION = "256x192, medians of 30 rounds, Some(R) Processor of a long name, 2 cores, A GPU"


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


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
    return paper_figure_points(latencies, counting, accuracy)


def drawn_texts(figure: Figure) -> list[Text]:
    """All texts but the labels of ticks that lie beyond an axis' ends, which are not drawn."""
    figure.draw_without_rendering()
    beyond = set()
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    return [text for text in figure.findobj(Text) if text.get_text() and text not in beyond]


def assert_readable(figure: Figure) -> None:
    """All texts lie within the figure, and no two names or captions overlap."""
    shown = drawn_texts(figure)
    # Text's own, for an annotation's has its line in it.
    boxes = [Text.get_window_extent(text) for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        inside = figure.bbox.padded(1)
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, text
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1, text
    for (one, a), (other, b) in itertools.combinations(zip(shown, boxes, strict=True), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1 or height <= 2, (one, other)


def test_the_heatmap_has_a_panel_a_setting_with_the_rates_in_it(latencies: pd.DataFrame) -> None:
    best = best_batches(latencies)

    figure = speed_heatmap(best, CAPTION)

    titles = [axis.get_title() for axis in figure.axes]
    where = ["CPU, 1 thread", "CPU, 2 threads", "GPU"]
    assert titles == [f"{w}, {b}" for w in where for b in ("batch 1", "best batch")]
    row = best.query("model == 'ours' and runtime == 'openvino-int8' and threads == 1").iloc[0]
    annotated = [text.get_text() for text in figure.axes[0].texts]
    fps = row["FPS"]
    assert (f"{fps:.0f}" if fps >= 100 else f"{fps:.1f}") in annotated
    assert any(text.endswith("\n(8)") for text in [t.get_text() for t in figure.axes[1].texts])
    assert_readable(figure)


def test_a_heatmap_of_one_batch_has_one_column_and_leaves_gaps_for_what_is_missing(
    latencies: pd.DataFrame,
) -> None:
    one = latencies[(latencies["batch"] == 1) & (latencies["device"] == "cpu")]
    missing = (one["model"] == "ours") & (one["runtime"] == "onnxruntime")

    figure = speed_heatmap(best_batches(one[~missing]), CAPTION)

    assert [axis.get_title() for axis in figure.axes] == [
        "CPU, 1 thread, batch 1",
        "CPU, 2 threads, batch 1",
    ]
    assert_readable(figure)


def test_the_papers_points_are_hollow_and_those_measured_filled(points: pd.DataFrame) -> None:
    figure = accuracy_over_speed(points, CAPTION)

    left, right = figure.axes
    assert left.get_xscale() == "log"
    drawn = {dots.get_label(): dots for dots in left.collections if len(dots.get_offsets())}
    assert set(drawn) == set(points["kind"])
    for kind, dots in drawn.items():
        assert (len(dots.get_facecolor()) == 0) == kind.startswith("paper"), kind
        expected = points[points["kind"] == kind].sort_values("GFLOPs", ascending=False)
        np.testing.assert_allclose(dots.get_offsets(), expected[["FPS", "paper AP"]])
        sizes, gflops = dots.get_sizes(), expected["GFLOPs"].to_numpy()
        np.testing.assert_allclose(sizes / sizes[0], gflops / gflops[0])
    assert not any(dots.get_label().startswith("paper") for dots in right.collections)
    assert_readable(figure)


def test_without_measured_accuracy_there_is_the_papers_panel_alone(points: pd.DataFrame) -> None:
    unknown = points.assign(**{"measured AP": np.nan})
    cpu = unknown[~unknown["kind"].str.contains("GPU")]

    figure = accuracy_over_speed(cpu, CAPTION)

    assert len(figure.axes) == 1
    assert_readable(figure)


def test_bars_are_as_long_as_the_stages_take_for_a_person() -> None:
    rows = []
    for model, runtime, flip in itertools.product(MODELS, CPU, (False, True)):
        stages = {"reading_s": 0.5, "cropping_s": 1.0, "model_s": 20.0, "decoding_s": 0.5}
        rows.append(
            {"model": model, "runtime": runtime, "device": "cpu", "batch": 8, "flip": flip}
            | {"persons": 1000, **stages, "total_s": 22.0, "persons/s": 1000 / 22}
        )

    figure = stage_bars(pd.DataFrame(rows), CAPTION)

    for axis, title in zip(figure.axes, ("no flip", "flip test"), strict=True):
        assert axis.get_title() == title
        widths = [[bar.get_width() for bar in container] for container in axis.containers]
        np.testing.assert_allclose(
            widths, np.tile([[0.5], [1], [20], [0.5]], len(MODELS) * len(CPU))
        )
        np.testing.assert_allclose(
            [bar.get_x() + bar.get_width() for bar in axis.containers[-1]], 22
        )
    assert_readable(figure)
