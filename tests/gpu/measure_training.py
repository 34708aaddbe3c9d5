"""Training rate of "ours" on a GPU by part, without data: python measure_training.py CSV SECONDS.

A step's forward pass, backward pass and optimizer are timed on batches that are there already, at
both input sizes and in growing batches, in float32 with TF32 and in bfloat16. A row is written as
soon as it is known. With HWL_DRY=1 it runs on the CPU with tiny sizes, to be tried out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rows import write_row

from hwl.losses import HeatmapWeightingLoss
from hwl.models import create_model
from hwl.speed.projection import training_work

DRY = os.environ.get("HWL_DRY") == "1"
DEVICE = "cpu" if DRY else "cuda"
SIZES = ((64, 32),) if DRY else ((256, 192), (384, 288))
BATCHES = (2,) if DRY else (64, 256, 1024)
WARM_UPS, STEPS = (1, 2) if DRY else (5, 30)


def measure(size: tuple[int, int], batch: int, half: bool) -> dict[str, object]:
    """The row of an input size, a batch and a precision."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = create_model("ours").to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    loss_function = HeatmapWeightingLoss()
    crops = torch.randn(batch, 3, *size, device=DEVICE).to(memory_format=torch.channels_last)
    target = torch.rand(batch, 17, size[0] // 4, size[1] // 4, device=DEVICE)
    weight = torch.ones(batch, 17, device=DEVICE)
    seconds = dict.fromkeys(("forward", "backward", "optimizer"), 0.0)
    last = time.perf_counter()

    def ended(part: str) -> None:
        nonlocal last
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds[part] += (now := time.perf_counter()) - last
        last = now

    def step(ended: Callable[[str], None]) -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            heatmaps = model(crops)
        loss = loss_function(heatmaps.float(), target, weight)
        ended("forward")
        loss.backward()
        ended("backward")
        optimizer.step()
        ended("optimizer")

    for _ in range(WARM_UPS):
        step(lambda part: None)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    last = time.perf_counter()
    for _ in range(STEPS):
        step(ended)
    # Again without waiting for each part, as a training does not.
    started = time.perf_counter()
    for _ in range(STEPS):
        step(lambda part: None)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    rate = STEPS * batch / (time.perf_counter() - started)
    return {
        **{"height": size[0], "width": size[1], "batch": batch},
        "precision": "bfloat16" if half else "float32 (TF32)",
        "images/s": rate,
        **{f"{part} ms": 1000 * value / STEPS for part, value in seconds.items()},
        "TFLOP/s": rate * training_work(model, size).flops / 1e12,
        "peak MiB": torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else 0,
    }


def main(path: Path, seconds: float) -> None:
    """Write rows until all are measured or the time ends; what fails is told and left out."""
    end = time.monotonic() + seconds
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    with path.open("w", newline="", encoding="utf-8") as file:
        for what in (
            (size, batch, half) for half in (True, False) for size in SIZES for batch in BATCHES
        ):
            if time.monotonic() > end:
                print(f"out of time before {what}", flush=True)
                return
            try:
                row = measure(*what)
            except torch.OutOfMemoryError:
                print(f"{what} needs more memory than there is", flush=True)
                continue
            write_row(file, row)
            print(row, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
