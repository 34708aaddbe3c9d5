"""Peak memory of models in processes of their own."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.models import create_model, save_weights
from hwl.speed import memory as module
from hwl.speed.memory import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CROPS = torch.zeros(1, 3, 128, 96)


@pytest.mark.slow
def test_peaks_are_those_of_the_model_and_grow_with_the_batch() -> None:
    held = torch.ones(50 * 2**20)  # 200 MiB of this process are not the model's

    peaks = peak_memory(create_model("ours"), "eager", CROPS, "cpu")

    assert list(peaks) == ["preparing_MiB", "batch_1_MiB", "batch_32_MiB"]
    assert 3 < peaks["batch_1_MiB"] < 200
    # The input of the last convolution and its predecessor alone, 256 channels of 32x24.
    assert peaks["batch_32_MiB"] > peaks["batch_1_MiB"] + 31 * 2 * 256 * 32 * 24 * 4 / 2**20 / 2
    assert held.sum() > 0


@pytest.mark.slow
def test_what_cannot_be_prepared_is_told_as_everywhere() -> None:
    with pytest.raises(HwlError, match="'cuda-graph' runs on cuda, not on cpu"):
        peak_memory(create_model("ours"), "cuda-graph", CROPS, "cpu")


def take_and_release() -> None:
    """200 MiB straight from the model: the C library may keep what others let go."""
    with mmap.mmap(-1, 200 * 2**20) as area:
        np.frombuffer(area, np.uint8).fill(1)


def test_a_peak_starts_anew_when_reset() -> None:
    module._reset("cpu")  # of what the tests before this one took
    before = module._peak("cpu")
    take_and_release()
    high = module._peak("cpu")
    module._reset("cpu")

    assert high > before + 100
    assert module._peak("cpu") < high - 100


@pytest.fixture
def hungry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and crops, whose preparing takes memory and lets it go."""

    def prepare(*arguments: object) -> Callable[[Tensor], Tensor]:
        take_and_release()
        return lambda images: images

    monkeypatch.setattr(module, "prepare", prepare)
    save_weights(create_model("ours"), tmp_path / module.WEIGHTS)
    torch.save(CROPS, tmp_path / module.CROPS)
    return tmp_path


def test_what_preparing_took_is_not_counted_for_running(hungry: Path) -> None:
    peaks = module._measure(hungry, "eager", "cpu", 1)

    assert peaks["preparing_MiB"] > 150
    assert peaks["batch_1_MiB"] < 100


def test_what_was_taken_and_let_go_before_does_not_hide_what_preparing_takes(hungry: Path) -> None:
    take_and_release()

    assert module._measure(hungry, "eager", "cpu", 1)["preparing_MiB"] > 150
