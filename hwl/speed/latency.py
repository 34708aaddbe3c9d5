"""Models of one setting timed in interleaved rounds, beside a large matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hwl.inference.agreement import largest_difference
from hwl.inference.predictor import Model
from hwl.inference.runtimes import RUNTIMES
from hwl.inference.timing import latencies
from hwl.speed.peak import large_product
from hwl.speed.tables import EAGER

PRODUCT = ("matrix product", "")  # timed among the models


@dataclass(frozen=True)
class Setting:
    """Where models run: "cpu" or "cuda", and the CPU threads of torch."""

    device: str
    threads: int


# Models of one setting by model and runtime.
Models = dict[tuple[str, str], Model]
Row = dict[str, object]


def time_models(
    prepared_models: Models, size: tuple[int, int], setting: Setting, batch: int, rounds: int
) -> tuple[list[Row], Row]:
    """Time models at a batch, with a float32 matrix product in the same turns.

    Args:
        prepared_models: prepared in that setting.
        size: (height, width) of an image in pixels.
        setting: where they run.
        batch: images a forward pass.
        rounds: measurements of each.

    Returns:
        Rows of latencies in ms an image, and the peak rate's row in GFLOP/s.
    """
    images = torch.randn(batch, 3, *size, device=setting.device)
    product, work = large_product(setting.device)
    tasks = {
        key: _task(partial(prepared, images), setting.device)
        for key, prepared in prepared_models.items()
    }
    tasks[PRODUCT] = _task(product, setting.device)
    seconds = latencies(tasks, rounds)
    where = {"device": setting.device, "threads": setting.threads, "batch": batch}
    peak = work / np.median(seconds.pop(PRODUCT))
    rows = []
    for (model, runtime), values in seconds.items():
        low, median, high = np.percentile(1000 * np.array(values) / batch, [25, 50, 75])
        rows.append(
            {
                "model": model,
                "runtime": runtime,
                "precision": RUNTIMES[runtime].precision,
                **where,
                "median_ms": median,
                "low_ms": low,
                "high_ms": high,
                "FPS": 1000 / median,
            }
        )
    return rows, {**where, "GFLOP/s": peak}


def _task(function: Callable[[], object], device: str) -> Callable[[], None]:
    def task() -> None:
        with torch.inference_mode():
            function()
        if device == "cuda":
            torch.cuda.synchronize()

    return task


def differences(prepared_models: Models, crops: Tensor, batch: int, setting: Setting) -> list[Row]:
    """Rows of the largest difference from eager, over eager's largest value.

    Args:
        prepared_models: prepared in that setting, each model in eager too.
        crops: (M, 3, H, W) normalized.
        batch: crops a forward pass, best a number that was timed: a new one may need compiling.
        setting: where they run.
    """
    batches = crops.to(setting.device).split(batch)
    heatmaps = {
        key: torch.cat([prepared(images) for images in batches])
        for key, prepared in prepared_models.items()
    }
    rows = []
    for (model, runtime), found in heatmaps.items():
        rows.append(
            {
                "model": model,
                "runtime": runtime,
                "device": setting.device,
                "threads": setting.threads,
                "difference / largest value": largest_difference(found, heatmaps[model, EAGER]),
            }
        )
    return rows
