"""Networks of one setting timed in turns, beside a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hwl.prediction import Network
from hwl.progress import progress
from hwl.runtimes import RUNTIMES
from hwl.speed.tables import EAGER

MATRIX = 2048  # side of the matrices whose product is the roofline
WARM_UPS = 1  # rounds
BURST = 0.1  # seconds


@dataclass(frozen=True)
class Setting:
    """Where networks run: "cpu" or "cuda", and the CPU threads of torch."""

    device: str
    threads: int


# Networks of one setting by system and runtime.
Networks = dict[tuple[str, str], Network]
Row = dict[str, object]


def latencies(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every task in every round.

    Each round measures every task once, so that a slow spell of the machine meets them all. A task
    is repeated before, for BURST seconds and once at least: as in a loop over pictures, its weights
    are then in the cache and the processor is awake. A round of warm-up comes first. Tasks
    synchronise by themselves.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in progress(range(-WARM_UPS, rounds), "measure"):
        for name, task in tasks.items():
            _wait_until_idle()
            burst_ends = time.perf_counter() + BURST
            task()
            while (started := time.perf_counter()) < burst_ends:
                task()
            task()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _wait_until_idle() -> None:
    """Wait for the threads of the last task to sleep.

    After its work an engine's threads spin for up to tens of ms, ready for more, and would take a
    core from the next task, which may be another engine's.
    """
    for _ in range(20):
        before = time.process_time()
        time.sleep(0.005)  # the clock counts what other threads do by scheduler ticks of up to 4 ms
        if time.process_time() - before < 0.001:
            return


def time_networks(
    networks: Networks, size: tuple[int, int], setting: Setting, batch: int, rounds: int
) -> tuple[list[Row], Row]:
    """Time networks at a batch, with a float32 matrix product in the same turns.

    Args:
        networks: prepared in that setting.
        size: (height, width) of a picture in pixels.
        setting: where they run.
        batch: pictures a forward pass.
        rounds: measurements of each.

    Returns:
        Rows of latencies in ms a picture, and the roofline's row in GFLOP/s.
    """
    pictures = torch.randn(batch, 3, *size, device=setting.device)
    matrix = torch.randn(MATRIX, MATRIX, device=setting.device)
    tasks = {key: _task(network, pictures) for key, network in networks.items()}
    tasks["matrix product"] = _task(torch.matmul, matrix, matrix)
    seconds = latencies(tasks, rounds)
    where = {"device": setting.device, "threads": setting.threads, "batch": batch}
    product = np.median(seconds.pop("matrix product"))
    rows = []
    for (system, runtime), values in seconds.items():
        low, median, high = np.percentile(1000 * np.array(values) / batch, [25, 50, 75])
        rows.append(
            {
                "system": system,
                "runtime": runtime,
                "precision": RUNTIMES[runtime].precision,
                **where,
                "median_ms": median,
                "low_ms": low,
                "high_ms": high,
                "FPS": 1000 / median,
            }
        )
    return rows, {**where, "GFLOP/s": 2 * MATRIX**3 / product / 1e9}


def _task(function: Callable[..., object], *inputs: Tensor) -> Callable[[], None]:
    def task() -> None:
        with torch.inference_mode():
            function(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()

    return task


def differences(networks: Networks, crops: Tensor, batch: int, setting: Setting) -> list[Row]:
    """Rows of the largest difference from eager, over eager's largest value.

    Args:
        networks: prepared in that setting, each system in eager too.
        crops: (M, 3, H, W) normalised.
        batch: crops a forward pass, best a number that was timed: a new one may need compiling.
        setting: where they run.
    """
    batches = crops.to(setting.device).split(batch)
    heatmaps = {
        key: torch.cat([network(pictures) for pictures in batches])
        for key, network in networks.items()
    }
    rows = []
    for (system, runtime), found in heatmaps.items():
        eager = heatmaps[system, EAGER]
        largest = (found - eager).abs().max() / eager.abs().max()
        rows.append(
            {
                "system": system,
                "runtime": runtime,
                "device": setting.device,
                "threads": setting.threads,
                "difference / largest value": float(largest),
            }
        )
    return rows
