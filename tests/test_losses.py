"""The heatmap-weighting loss against a loop over every pixel, written from its formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hwl.errors import HwlError
from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss

# F on one number, written apart from the package's.
FORMULAS: dict[str, Callable[[float], float]] = {
    "zero": lambda g: 0.0,
    "identity": lambda g: g,
    "double": lambda g: 2.0 * g,
    "square": lambda g: g**2,
    "exponential": math.exp,
}
every_function = pytest.mark.parametrize("name", FORMULAS)


def slow_loss(
    predicted: Tensor, target: Tensor, target_weight: Tensor, formula: Callable[[float], float]
) -> float:
    """1/J * sum_j mean_{n,y,x} [ (F(G) + 1) * (w P - w G)^2 ], in float64."""
    p, g, w = (tensor.double().numpy() for tensor in (predicted, target, target_weight))
    persons, keypoints, height, width = p.shape
    total = 0.0
    for j in range(keypoints):
        keypoint_sum = 0.0
        for n in range(persons):
            for y in range(height):
                for x in range(width):
                    error = w[n, j] * p[n, j, y, x] - w[n, j] * g[n, j, y, x]
                    keypoint_sum += (formula(g[n, j, y, x]) + 1) * error**2
        total += keypoint_sum / (persons * height * width)
    return total / keypoints


def case(seed: int = 0, persons: int = 2, keypoints: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted heatmaps, targets in 0..1 and weights of which some are 0 and some fractions."""
    generator = torch.manual_seed(seed)
    shape = (persons, keypoints, 5, 4)
    predicted = torch.randn(shape, generator=generator)
    target = torch.rand(shape, generator=generator)
    weights = torch.randint(0, 3, shape[:2], generator=generator) / 2
    return predicted, target, weights


def test_the_named_functions_are_those_with_a_formula_here() -> None:
    assert WEIGHT_FUNCTIONS.keys() == FORMULAS.keys()


@every_function
@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), persons=st.integers(1, 3), keypoints=st.integers(1, 4))
def test_loss_equals_the_loop_over_every_pixel(
    name: str, seed: int, persons: int, keypoints: int
) -> None:
    tensors = case(seed, persons, keypoints)

    loss = HeatmapWeightingLoss(name)(*tensors)

    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow_loss(*tensors, FORMULAS[name]), rel=1e-5)


def test_any_callable_serves_as_weight_function() -> None:
    tensors = case()

    loss = HeatmapWeightingLoss(lambda target: 3 * target**4)(*tensors)

    assert loss.item() == pytest.approx(slow_loss(*tensors, lambda g: 3 * g**4), rel=1e-5)


def test_the_default_is_the_papers_identity() -> None:
    tensors = case()

    assert HeatmapWeightingLoss()(*tensors) == HeatmapWeightingLoss("identity")(*tensors)


@every_function
def test_weight_is_the_function_of_the_target_plus_one(name: str) -> None:
    target = torch.linspace(0, 1, 11)

    weight = HeatmapWeightingLoss(name).weight(target)

    np.testing.assert_allclose(weight, [FORMULAS[name](g) + 1 for g in target.tolist()], rtol=1e-6)


def test_zero_is_plain_mse() -> None:
    predicted, target, _ = case()

    loss = HeatmapWeightingLoss("zero")(predicted, target, torch.ones(2, 3))

    torch.testing.assert_close(loss, functional.mse_loss(predicted, target))


@every_function
def test_unannotated_keypoints_give_exactly_no_loss_and_no_gradient(name: str) -> None:
    predicted, target, _ = case()
    predicted.requires_grad_()

    loss = HeatmapWeightingLoss(name)(predicted, target, torch.zeros(2, 3))
    loss.backward()

    assert loss.item() == 0
    assert predicted.grad.count_nonzero() == 0


def test_one_unannotated_keypoint_gets_no_gradient_among_annotated_ones() -> None:
    predicted, target, _ = case()
    predicted.requires_grad_()
    weights = torch.tensor([[1.0, 0, 1], [1, 1, 1]])

    HeatmapWeightingLoss()(predicted, target, weights).backward()

    has_gradient = predicted.grad.flatten(2).count_nonzero(dim=2) > 0
    assert torch.equal(has_gradient, weights > 0)


@every_function
def test_gradient_equals_that_of_a_loop_over_keypoints(name: str) -> None:
    predicted, target, weights = case(persons=4, keypoints=5)
    ours = predicted.clone().requires_grad_()
    looped = predicted.clone().requires_grad_()

    HeatmapWeightingLoss(name)(ours, target, weights).backward()
    loss = torch.zeros(())
    for j in range(5):
        w = weights[:, j, None, None]
        factor = target[:, j].clone().apply_(lambda g: FORMULAS[name](g) + 1)
        loss = loss + (factor * (w * looped[:, j] - w * target[:, j]) ** 2).mean()
    (loss / 5).backward()

    torch.testing.assert_close(ours.grad, looped.grad, rtol=1e-5, atol=1e-8)


@every_function
def test_gradient_equals_finite_differences(name: str) -> None:
    # The loss is quadratic in the prediction, so a central difference has no error but float32's.
    predicted, target, weights = case(persons=1, keypoints=2)
    predicted.requires_grad_()
    loss = HeatmapWeightingLoss(name)
    loss(predicted, target, weights.fill_(1)).backward()
    step = 0.25

    with torch.no_grad():
        for index in np.ndindex(*predicted.shape):
            shift = torch.zeros_like(predicted)
            shift[index] = step
            ahead, behind = (loss(predicted + s * shift, target, weights) for s in (1, -1))
            slope = (ahead - behind) / (2 * step)
            torch.testing.assert_close(predicted.grad[index], slope, rtol=1e-2, atol=1e-5)


def test_loss_is_computed_in_float32_under_bfloat16_autocast() -> None:
    predicted, target, weights = case()
    predicted, target = predicted.bfloat16(), target.bfloat16()
    seen: list[tuple[torch.dtype, bool]] = []

    def identity(g: Tensor) -> Tensor:
        seen.append((g.dtype, torch.is_autocast_enabled("cpu")))
        return g

    with torch.autocast("cpu", torch.bfloat16):
        loss = HeatmapWeightingLoss(identity)(predicted, target, weights)

    assert loss.dtype == torch.float32
    assert seen == [(torch.float32, False)]
    assert loss == HeatmapWeightingLoss()(predicted.float(), target.float(), weights)


def test_an_unknown_weight_function_is_answered_with_the_known_ones() -> None:
    with pytest.raises(HwlError, match=r"'cube'.*zero, identity, double, square, exponential"):
        HeatmapWeightingLoss("cube")


@pytest.mark.parametrize("heavier", ["identity", "double", "square", "exponential"])
def test_a_larger_weight_gives_a_larger_loss_where_the_target_is_positive(heavier: str) -> None:
    predicted, target, _ = case()
    weights = torch.ones(2, 3)

    plain = HeatmapWeightingLoss("zero")(predicted, target, weights)

    assert HeatmapWeightingLoss(heavier)(predicted, target, weights) > plain


@pytest.mark.parametrize("name", ["identity", "double", "square"])
def test_background_keeps_the_weight_of_plain_mse(name: str) -> None:
    predicted, _, weights = case()
    background = torch.zeros_like(predicted)

    loss = HeatmapWeightingLoss(name)(predicted, background, weights)

    assert loss == HeatmapWeightingLoss("zero")(predicted, background, weights)


def test_the_placebo_weighs_by_the_previous_persons_target_half_a_heatmap_away() -> None:
    predicted, target, weights = case(persons=4)

    loss = HeatmapWeightingLoss("placebo")(predicted, target, weights)

    total = 0.0
    for n, k, y, x in np.ndindex(*target.shape):
        weight = 1 + target[n - 1, k, y - 5 // 2, x - 4 // 2].item()
        error = (predicted[n, k, y, x] - target[n, k, y, x]) * weights[n, k]
        total += weight * error.item() ** 2
    assert loss.item() == pytest.approx(total / target.numel(), rel=1e-5)


def test_the_placebos_weights_have_the_identitys_distribution() -> None:
    _, target, _ = case(persons=4)

    placebo, identity = (HeatmapWeightingLoss(n).weight(target) for n in ("placebo", "identity"))

    assert torch.equal(placebo.flatten().sort().values, identity.flatten().sort().values)
    assert not torch.equal(placebo, identity)
