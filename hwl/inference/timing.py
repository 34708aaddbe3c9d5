"""Interleaved timing: every task once a round, each in a burst of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from hwl.progress import progress

WARM_UPS = 1  # rounds
BURST = 0.1  # seconds

Key = TypeVar("Key", bound=Hashable)


def latencies(tasks: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, list[float]]:
    """Seconds of every task in every round.

    Each round measures every task once, so that a slow spell of the machine meets them all. A task
    is repeated before, for BURST seconds and once at least: as in a loop over images, its weights
    are then in the cache and the processor is awake. A round of warm-up comes first. Tasks
    synchronise by themselves.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in tasks}
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
