"""Latency of the networks, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hwl.counting import CONVOLUTIONS, count
from hwl.models import SYSTEMS, create_model
from hwl.progress import progress


@dataclass(frozen=True)
class SpeedConfig:
    """A speed comparison on this machine."""

    output: str  # the run's folder
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS))  # names of create_model
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    threads: list[int] = field(default_factory=lambda: [1, 2])  # CPU threads, each a setting
    batch_size: int = 1  # pictures a forward pass
    rounds: int = 20  # interleaved measurements of each system


def latencies(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every task in every round.

    Each round runs every task once, so that a slow spell of the machine meets them all; three
    rounds of warm-up come first and are not counted. Tasks synchronise by themselves.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in progress(range(-3, rounds), "measure"):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def compare_speed(config: SpeedConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count and time systems on the CPU by threads and, where there is one, on the GPU.

    Returns:
        Counts, one row a system, and latencies, one row a system and setting: median, first and
        third quartile in ms a picture, and pictures a second.
    """
    size = (config.input_height, config.input_width)
    models = {name: create_model(name).apply(_ordinary_weights).eval() for name in config.systems}
    sizes = pd.DataFrame(
        {
            "system": name,
            "parameters": counts.parameters,
            "conv MACs (M)": counts.macs / 1e6,
            "mmcv count (M)": counts.mmcv / 1e6,
        }
        for name, counts in ((name, count(model, size)) for name, model in models.items())
    )
    settings = [("cpu", threads) for threads in config.threads]
    if torch.cuda.is_available():
        settings.append(("cuda", torch.get_num_threads()))
    before = torch.get_num_threads()
    rows = []
    for device, threads in settings:
        torch.set_num_threads(threads)
        pictures = torch.randn(config.batch_size, 3, *size, device=device)
        tasks = {name: _forward(model.to(device), pictures) for name, model in models.items()}
        setting = "GPU" if device == "cuda" else f"CPU, {threads} thread{'s' * (threads > 1)}"
        for name, seconds in latencies(tasks, config.rounds).items():
            milliseconds = 1000 * np.array(seconds) / config.batch_size
            low, high = np.percentile(milliseconds, [25, 75])
            median = statistics.median(milliseconds)
            rows.append(
                {
                    "system": name,
                    "setting": setting,
                    "batch": config.batch_size,
                    "median_ms": median,
                    "low_ms": low,
                    "high_ms": high,
                    "FPS": 1000 / median,
                }
            )
    torch.set_num_threads(before)
    return sizes, pd.DataFrame(rows)


def _ordinary_weights(module: nn.Module) -> None:
    """PyTorch's own initialisation of a convolution.

    With the tiny weights that some networks start from, activations become denormal numbers, which
    a CPU computes many times slower than those of a trained network.
    """
    if isinstance(module, CONVOLUTIONS):
        module.reset_parameters()


def _forward(model: nn.Module, pictures: Tensor) -> Callable[[], None]:
    def task() -> None:
        with torch.inference_mode():
            model(pictures)
        if pictures.is_cuda:
            torch.cuda.synchronize()

    return task
