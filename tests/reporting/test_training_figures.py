"""Training curves show what was measured and no more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwl.reporting.training_figures import training_curves
from hwl.training.config import TrainConfig

NAN = float("nan")
CONFIG = TrainConfig(output="o", data="data/puppets", epochs=4, lr_drops=[3])


def history(ap: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"epoch": [1, 2, 3, 4], "loss": [4e-3, 3e-3, 2e-3, 1e-3], "lr": [1, 1, 1, 0.1], "AP": ap}
    )


def axis_of(figure: Figure, title: str) -> Axes:
    return next(axis for axis in figure.axes if axis.get_title(loc="left").startswith(title))


@pytest.mark.parametrize("ap", [[NAN, NAN, NAN, 0.5], [0.1, 0.2, 0.4, 0.5], [NAN, 0.2, NAN, 0.9]])
def test_the_metric_is_drawn_where_it_was_evaluated_on_an_axis_from_0_and_all_epochs(
    ap: list[float], assert_readable: Callable[[Figure], None]
) -> None:
    figure = training_curves(history(ap), CONFIG)

    axis = axis_of(figure, "AP")
    known = ~np.isnan(ap)
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), np.arange(1, 5)[known])
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), np.array(ap)[known])
    assert axis.get_ylim()[0] == 0 and axis.get_xlim()[0] == 0 and axis.get_xlim()[1] > 4
    assert ("evaluated once" in axis.texts[0].get_text()) == (known.sum() == 1)
    assert_readable(figure)


def test_the_learning_rate_drops_at_once() -> None:
    figure = training_curves(history([0.1, 0.2, 0.3, 0.4]), CONFIG)

    stairs = next(axis for axis in figure.axes if "rate" in axis.get_ylabel()).patches[0]
    np.testing.assert_array_equal(stairs.get_data().values, [1, 1, 1, 0.1])
    np.testing.assert_array_equal(stairs.get_data().edges, [0, 1, 2, 3, 4])


def test_a_run_without_the_metric_is_drawn(assert_readable: Callable[[Figure], None]) -> None:
    figure = training_curves(history([0.1] * 4).drop(columns="AP"), CONFIG)

    assert not len(axis_of(figure, "AP").lines[0].get_xdata())
    assert_readable(figure)


@pytest.mark.parametrize(
    ("val_split", "expected"), [("val2017", "held-out"), ("train2017", "training persons")]
)
def test_the_title_says_whether_the_persons_were_learned_from(
    val_split: str, expected: str
) -> None:
    config = TrainConfig(output="o", data="d", val_split=val_split)

    figure = training_curves(history([0.1, 0.2, 0.3, 0.4]), config)

    assert expected in axis_of(figure, "AP").get_title(loc="left")


def test_the_title_names_the_loss_that_two_runs_differ_in() -> None:
    titles = [
        training_curves(
            history([0.1] * 4), TrainConfig(output="o", data="d", weight_function=name)
        ).get_suptitle()
        for name in ("identity", "zero")
    ]

    assert titles == [
        "Training of ours, F = G (the paper's)",
        "Training of ours, F = 0 (plain MSE)",
    ]


@pytest.mark.parametrize(
    ("detections", "told"), [("", "ground-truth boxes"), ("found.json", "detected boxes")]
)
def test_the_conditions_say_in_which_boxes_was_evaluated(detections: str, told: str) -> None:
    config = TrainConfig(output="o", data="d", detections=detections)

    figure = training_curves(history([0.1] * 4), config)

    assert f"AP: val2017, {told}, flip test" in " ".join(figure.get_supxlabel().split())
