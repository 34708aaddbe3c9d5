"""Figures of the loss: common scales, no panel of nothing, and the formula's own values."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss
from hwl.reporting import explorers
from hwl.reporting.loss_figures import (
    descent,
    formula,
    gradient_shares,
    keypoint_maps,
    loss_line,
    weight_functions,
)
from hwl.reporting.model_figures import one_sample
from hwl.skeletons import COCO
from hwl.studies.loss import Batch, gradient, weight_curves

Readable = Callable[[Figure], None]


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two persons whose first keypoint is annotated and whose second one is not."""
    torch.manual_seed(0)
    target = torch.rand(2, 17, 16, 8)
    weight = torch.ones(2, 17)
    weight[:, 1] = 0
    crops = torch.randint(0, 255, (2, 3, 64, 32), dtype=torch.uint8)
    return Batch(COCO, crops, target, weight, torch.rand(2, 17, 16, 8))


def maps(figure: Figure) -> list[plt.Axes]:
    return [axis for axis in figure.axes if axis.images and axis.images[0].get_array().ndim == 2]


def test_maps_of_a_kind_share_one_scale_that_a_bar_shows(
    batch: Batch, assert_readable: Readable
) -> None:
    names = list(WEIGHT_FUNCTIONS)

    figure = keypoint_maps(batch, 1, 0, names, "puppets")

    shown = [axis.images[0] for axis in maps(figure)]
    weights, pulls = shown[: len(names)], shown[len(names) :]
    for image, name in zip(weights, names, strict=True):
        expected = HeatmapWeightingLoss(name).weight(batch.target[1, 0])
        np.testing.assert_allclose(image.get_array(), expected)
    gradients = np.stack([gradient(batch, name)[1, 0] for name in names])
    relative = gradients / gradients.max()
    for image, expected in zip(pulls, relative, strict=True):
        np.testing.assert_allclose(image.get_array(), expected, rtol=1e-6)
    for group in (weights, pulls):
        highest = max(float(image.get_array().max()) for image in group)
        assert {image.get_clim() for image in group} == {(0.0, highest)}
    bars = [axis.get_ylabel() for axis in figure.axes]
    assert {"weight W", "|gradient|, of the largest", "heatmap"} <= set(bars)
    assert_readable(figure)


def test_an_unannotated_keypoint_gets_no_maps_but_a_sentence(
    batch: Batch, assert_readable: Readable
) -> None:
    figure = keypoint_maps(batch, 0, 1, ["zero", "identity"], "puppets")

    assert not maps(figure) and "not annotated" in figure.get_supxlabel()
    assert_readable(figure)


def test_the_line_shows_the_weighted_error_and_its_gradient() -> None:
    figure = loss_line("double", shift=1.0, height=0.5)

    left, middle, right = figure.axes
    target, predicted = (line.get_ydata() for line in left.lines)
    weight = 1 + 2 * target
    np.testing.assert_allclose(
        middle.lines[1].get_ydata(), weight * (predicted - target) ** 2, rtol=1e-4, atol=1e-7
    )
    slope = right.lines[1].get_ydata()
    step = 1e-2  # of the prediction: central differences of the squared error are exact
    higher, lower = (weight * (predicted + s - target) ** 2 for s in (step, -step))
    np.testing.assert_allclose(slope, (higher - lower) / (2 * step), atol=1e-3)


@pytest.mark.parametrize("name", WEIGHT_FUNCTIONS)
def test_every_function_can_be_drawn_on_a_line(name: str, assert_readable: Readable) -> None:
    assert_readable(loss_line(name, 2.0, 0.8))


def test_descent_is_what_gradient_descent_leaves() -> None:
    figure = descent(["zero", "square"], steps=5, rate=0.1)

    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    for name in ("zero", "square"):
        predicted, target = torch.zeros(1, requires_grad=True), torch.ones(1)
        errors = [1.0]
        for _ in range(5):
            weight = HeatmapWeightingLoss(name).weight(target)
            (slope,) = torch.autograd.grad((weight * (predicted - target) ** 2).sum(), predicted)
            predicted = (predicted - 0.1 * slope).detach().requires_grad_()
            errors.append(float(target - predicted.detach()))
        np.testing.assert_allclose(drawn[formula(name)], errors, rtol=1e-5)


def test_weight_functions_are_drawn_with_their_formulas(assert_readable: Readable) -> None:
    figure = weight_functions(weight_curves())

    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [formula(name) for name in WEIGHT_FUNCTIONS]
    assert_readable(figure)


def test_shares_of_the_gradient_are_written_into_the_bars(assert_readable: Readable) -> None:
    shares = pd.DataFrame([[0.6, 0.38, 0.02]], index=["zero"], columns=["0", "low", "high"])

    figure = gradient_shares(shares, "puppets")

    assert [text.get_text() for text in figure.axes[0].texts] == ["60 %", "38 %", ""]
    assert_readable(figure)


def test_one_samples_loss_is_the_mean_of_its_last_map(
    batch: Batch, assert_readable: Readable
) -> None:
    figure = one_sample(batch, 0, 0, "double", "puppets")

    error = (batch.predicted[0, 0] - batch.target[0, 0]) ** 2 * (1 + 2 * batch.target[0, 0])
    assert f"{float(error.mean()):.5f}" in figure.get_supxlabel().replace("\n", " ")
    assert_readable(figure)


def test_the_explorers_draw_again_when_a_control_is_moved(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, updated = [], []

    class Handle:
        def update(self, figure: Figure) -> None:
            updated.append(figure)

    def display(what: object, display_id: bool = False) -> Handle:
        shown.append(what)
        return Handle()

    monkeypatch.setattr(explorers, "display", display)
    explorers.explore_keypoints(batch, 0, 0, "puppets")
    explorers.explore_loss_line()

    shown[0].children[0].value = 1
    shown[2].children[1].value = -3.0

    assert "person 1" in updated[0].get_suptitle() and "moved by -3 cells" in " ".join(
        updated[1].get_supxlabel().split()
    )
