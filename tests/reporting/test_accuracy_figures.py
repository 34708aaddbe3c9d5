"""Figures of accuracy show the numbers of their tables, with intervals and honest axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hwl.reporting.accuracy_figures import (
    HALF,
    ablation_dots,
    difference_intervals,
    keypoint_error_boxes,
    precision_over_recall,
    protocol_bars,
)
from hwl.skeletons import COCO

Readable = Callable[[Figure], None]
PROTOCOL = {"decode": "quarter-pixel", "runtime": "eager", "input": "128x96", "images": 1}


@pytest.fixture
def protocols() -> pd.DataFrame:
    rows = [("ground-truth", False, 0.5), ("ground-truth", True, 0.6), ("detected", True, 0.4)]
    return pd.DataFrame(
        {"boxes": boxes, "flip": flip, **PROTOCOL, "persons": 7, "AP": value}
        | {"AP_low": value - 0.05, "AP_high": value + 0.1}
        for boxes, flip, value in rows
    )


def test_protocols_of_one_kind_of_boxes_share_a_color(
    protocols: pd.DataFrame, assert_readable: Readable
) -> None:
    figure = protocol_bars(protocols, "AP", "a model on puppets")

    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.5, 0.6, 0.4]
    colors = [bar.get_facecolor()[:3] for bar in bars]
    assert colors[0] == colors[1] != colors[2]
    np.testing.assert_allclose(figure.axes[0].lines[2].get_xdata(), [0.35, 0.5])
    assert "1 image," in figure.get_supxlabel()
    assert_readable(figure)


def test_protocols_without_intervals_have_no_line(protocols: pd.DataFrame) -> None:
    figure = protocol_bars(protocols.drop(columns=["AP_low", "AP_high"]), "AP", "x")

    assert not figure.axes[0].lines and "interval" not in figure.get_supxlabel()


def test_keypoint_errors_fill_their_axis_whatever_the_outliers(assert_readable: Readable) -> None:
    rng = np.random.default_rng(0)
    errors = np.abs(rng.normal(0, 0.1, (200, 17)))
    errors[0] = 50.0
    errors[:, 3] = np.nan

    figure = keypoint_error_boxes(errors, COCO, "a model")

    axis = figure.axes[0]
    assert axis.get_xlim()[1] < 0.5
    bar = axis.patches[0]
    np.testing.assert_allclose(bar.get_x(), np.percentile(errors[:, 0], 25))
    np.testing.assert_allclose(bar.get_width(), np.diff(np.percentile(errors[:, 0], [25, 75]))[0])
    half = axis.collections[-1].get_offsets()[:, 0]
    np.testing.assert_allclose(np.exp(-(half**2) / (8 * np.square(COCO.sigmas))), 0.5)
    np.testing.assert_allclose(half, HALF * np.array(COCO.sigmas))
    assert_readable(figure)


def runs(difference: float, seeds: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"variant": variant, "seed": seed, "AP": ap, "AP_low": ap - 0.03, "AP_high": ap + 0.03}
        for variant, ap in (("mse", 0.4), ("ours", 0.4 + difference))
        for seed in range(seeds)
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_of_nothing_does_not_fill_the_axis(
    seeds: int, assert_readable: Readable
) -> None:
    figure = ablation_dots(runs(0.0007, seeds), "AP", "mse", "puppets")

    low, high = figure.axes[0].get_xlim()
    assert high - low > 0.0999
    assert ("diamond" in figure.get_supxlabel()) == (seeds > 1)
    assert_readable(figure)


def test_each_run_has_its_interval() -> None:
    figure = ablation_dots(runs(0.1, 2), "AP", "mse", "puppets")

    segments = [
        line.get_segments() for line in figure.axes[0].collections if hasattr(line, "get_segments")
    ]
    ends = np.array([segment[:, 0] for group in segments for segment in group])
    np.testing.assert_allclose(ends, [[0.47, 0.53]] * 2 + [[0.37, 0.43]] * 2)


def test_differences_have_their_interval_about_0(assert_readable: Readable) -> None:
    comparison = pd.DataFrame(
        {"variant": v, "seeds": 3, "mean AP": 0.4, "difference to mse": d}
        | {"95 % low": d - 0.02, "95 % high": d + 0.02, "verdict": verdict}
        for v, d, verdict in (
            ("ours", 0.05, "beyond noise"),
            ("double", 0.01, "within noise"),
            ("mse", 0.0, "baseline"),
        )
    )

    figure = difference_intervals(comparison, "AP", "puppets")

    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "ours\nbeyond noise",
        "double\nwithin noise",
    ]
    np.testing.assert_allclose(axis.collections[0].get_segments()[0][:, 0], [0.03, 0.07])
    assert_readable(figure)


def test_the_areas_under_precision_over_recall_are_the_aps(assert_readable: Readable) -> None:
    recalls = np.linspace(0, 1, 101)
    curves = {0.5: np.where(recalls <= 0.8, 1.0, 0.0), 0.75: np.where(recalls <= 0.4, 0.5, 0.0)}

    figure = precision_over_recall(curves, recalls, "a model")

    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [f"{t:.2f}: {curve.mean():.3f}" for t, curve in curves.items()]
    assert_readable(figure)
