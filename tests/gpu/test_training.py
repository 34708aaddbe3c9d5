"""Training on a GPU: bfloat16 follows float32, NaN is found, a killed run goes on, memory stays."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hwl.errors import HwlError
from hwl.losses import WEIGHT_FUNCTIONS
from hwl.training.config import TrainConfig
from hwl.training.fit import fit
from hwl.training.state import TrainingState

pytestmark = pytest.mark.gpu
MakeConfig = Callable[..., TrainConfig]
# 200 steps: 12 persons, 4 a step.
LONG = {"epochs": 67, "evaluate_every": 67, "lr_drops": [50], "checkpoint_steps": 500}


def losses(config: TrainConfig) -> list[float]:
    return [record["loss"] for record in fit(config)]


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_follows_float32_over_200_steps(
    compiled: bool, small_training: MakeConfig, tmp_path: Path
) -> None:
    exact = losses(small_training(tmp_path / "exact", precision="no", **LONG))
    how = {"precision": "bf16", "compile": compiled}
    rough = losses(small_training(tmp_path / "rough", **how, **LONG))

    assert rough[0] == pytest.approx(exact[0], rel=0.02)
    assert sum(rough[-10:]) == pytest.approx(sum(exact[-10:]), rel=0.25)
    assert rough[-1] < rough[0] / 2


def test_a_loss_that_is_nan_is_found(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(WEIGHT_FUNCTIONS, "nan", lambda target: torch.nan * target)

    with pytest.raises(HwlError, match=r"loss is NaN at step \d+ \(epoch 1\)"):
        fit(small_training(tmp_path / "run", weight_function="nan"))


def test_a_killed_run_goes_on_to_about_the_same_losses(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = {"epochs": 8, "evaluate_every": 8, "precision": "bf16"}
    whole = losses(small_training(tmp_path / "whole", **recipe))
    count = TrainingState.count

    def killed(self: TrainingState, loss: torch.Tensor) -> None:
        count(self, loss)
        if self.step == 14:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingState, "count", killed)
        fit(small_training(tmp_path / "run", **recipe))

    # A GPU adds up in another order at every run, so that the bits differ.
    assert losses(small_training(tmp_path / "run", **recipe)) == pytest.approx(whole, rel=0.05)


def test_memory_does_not_grow_with_the_epochs(small_training: MakeConfig, tmp_path: Path) -> None:
    peaks = []
    for epochs in (3, 12):
        gc.collect()  # in mixed precision accelerate's model refers to itself
        torch.cuda.reset_peak_memory_stats()
        fit(small_training(tmp_path / f"{epochs}", epochs=epochs, evaluate_every=epochs))
        peaks.append(torch.cuda.max_memory_allocated())

    assert peaks[1] < 1.05 * peaks[0]
