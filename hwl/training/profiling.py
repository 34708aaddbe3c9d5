"""Where the time of training steps goes: a trace to look at and a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from hwl.files import write_table

FOLDER = "profile"
SKIPPED, WARM_UP, RECORDED = 2, 1, 5  # steps


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Within it, record a few steps; yields what is to be called after every step.

    `profile/trace.json` opens in chrome://tracing or https://ui.perfetto.dev, `profile/table.csv`
    has a row an operation, the most expensive first.

    Args:
        folder: the run's folder, or None to record nothing.
    """
    if folder is None:
        yield lambda: None
        return
    place = folder / FOLDER
    place.mkdir(exist_ok=True)

    def write(recorded: profile) -> None:
        recorded.export_chrome_trace(str(place / "trace.json"))
        rows = [
            {
                "operation": event.key,
                "calls a step": event.count / RECORDED,
                "CPU ms a step": round(event.self_cpu_time_total / 1000 / RECORDED, 3),
                "device ms a step": round(event.self_device_time_total / 1000 / RECORDED, 3),
            }
            for event in recorded.key_averages()
        ]
        rows.sort(key=lambda row: (-row["device ms a step"], -row["CPU ms a step"]))
        write_table(place / "table.csv", rows)

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    steps = schedule(wait=SKIPPED, warmup=WARM_UP, active=RECORDED, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=write) as recording:
        yield recording.step
