"""Models that take no time, in place of the runtimes of a speed comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.inference import timing
from hwl.inference.predictor import Model
from hwl.speed import comparison, peak

# Model, runtime, threads and device of each that was asked for.
Prepared = list[tuple[str, str, int, str]]


@contextmanager
def quick_models() -> Iterator[Prepared]:
    """Within it, quick models stand in for the runtimes; a list of what was asked for.

    Lists model, runtime, threads of torch and device. Heatmaps are the same in all but int8.
    """
    asked: Prepared = []

    def prepare(
        model: torch.nn.Module,
        name: str,
        size: tuple[int, int],
        calibration: Tensor,
        device: str,
    ) -> Model:
        assert calibration.shape[1:] == (3, *size)
        asked.append((model.config["name"], name, torch.get_num_threads(), device))
        error = 0.125 if name.endswith("int8") else 0.0

        def model(images: Tensor) -> Tensor:
            heatmaps = torch.ones(len(images), 17, size[0] // 4, size[1] // 4)
            heatmaps[:, 0, 0, 0] += error
            return heatmaps

        return model

    def unavailable(name: str, device: str) -> str:
        if name == "nonsense":
            raise HwlError("runtime 'nonsense' is not one of eager")
        if device == "cuda":
            return "there is no GPU"
        return "it is not installed" if name == "openvino" else ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "prepare", prepare)
        patch.setattr(comparison, "unavailable", unavailable)
        patch.setattr(comparison, "count_macs", lambda *_: 10**6)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(peak, "MATRIX", {"cpu": 64})
        patch.setattr(timing, "BURST", 0.0)
        patch.setattr(comparison, "cores", lambda: 2)
        yield asked
