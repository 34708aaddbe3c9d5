"""The paper's recipe and its schedule."""

from __future__ import annotations

import dataclasses

import pytest

from hwl.training.config import TrainConfig
from hwl.training.fit import learning_rate

PAPER = TrainConfig(output="run", data="data")

AFTER_WARMUP = 10**6  # steps


def test_the_defaults_are_the_papers_recipe() -> None:
    recipe = {
        **{"model": "ours", "model_options": {}, "init_weights": "", "weight_function": "identity"},
        **{"input_height": 256, "input_width": 192, "sigma": 2, "augment": True, "half_body": 0.3},
        **{"epochs": 210, "batch_size": 64, "lr": 5e-4, "warmup_steps": 500},
        **{"lr_drops": [170, 200], "evaluate_every": 10, "metric": "AP"},
        **{"train_split": "train2017", "val_split": "val2017", "train_limit": 0, "val_limit": 0},
    }

    assert recipe.items() <= dataclasses.asdict(PAPER).items()


@pytest.mark.parametrize("step", [0, 1, 100, 250, 400, 499, 500])
def test_the_rate_rises_linearly_from_a_thousandth_over_500_steps(step: int) -> None:
    rate = learning_rate(PAPER, step, epoch=0)

    assert rate == pytest.approx(5e-4 * (0.001 + 0.999 * step / 500), rel=1e-12)


def test_the_rate_stays_at_its_height_after_the_warm_up() -> None:
    assert {learning_rate(PAPER, step, epoch=1) for step in (500, 501, 5000)} == {5e-4}


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 5e-4), (169, 5e-4), (170, 5e-5), (199, 5e-5), (200, 5e-6), (209, 5e-6)],
)
def test_the_rate_drops_tenfold_after_epochs_170_and_200(epoch: int, rate: float) -> None:
    assert learning_rate(PAPER, AFTER_WARMUP, epoch) == pytest.approx(rate, rel=1e-9)


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert learning_rate(dataclasses.replace(PAPER, warmup_steps=0), 0, 0) == 5e-4
