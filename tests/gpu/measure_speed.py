"""Speed of the six models on a GPU, a row of a CSV at a time: python measure_speed.py CSV SECONDS.

Each row is a model in a runtime at a batch, TF32 allowed or not: latency, rate, peak memory, and
the shares of the rate of a large matrix product of that precision and of the bandwidth of a large
copy, measured beside it. What matters most comes first, for the seconds may end the run. With
HWL_DRY=1 it runs on the CPU with tiny sizes, to be tried out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rows import write_row

from hwl.inference.runtimes import RUNTIMES, prepare
from hwl.inference.timing import latencies
from hwl.models import MODELS, create_model
from hwl.speed.counting import count_macs
from hwl.speed.projection import training_work

DRY = os.environ.get("HWL_DRY") == "1"
DEVICE = "cpu" if DRY else "cuda"
SIZE = (64, 32) if DRY else (256, 192)
BATCHES = (1, 2) if DRY else (1, 8, 32, 128, 512)
ROUNDS = 1 if DRY else 7
MATRIX = 256 if DRY else 8192  # side
COPY = 2**20 if DRY else 2**30  # float32 elements
PEERS = [name for name in MODELS if name != "ours"]


def plan() -> Iterator[tuple[str, str, bool]]:
    """Models, runtimes and whether TF32 is allowed, what matters most first."""
    if DRY:
        yield from (("ours", "eager", True), ("litehrnet18", "fused", False))
        return
    quick = ("eager", "cuda-graph", "cuda-graph-bf16", "fused-bf16")
    yield from (("ours", runtime, True) for runtime in quick)
    yield from (("ours", runtime, False) for runtime in ("eager", "cuda-graph"))
    yield from ((peer, runtime, True) for peer in PEERS for runtime in quick[:3])
    yield from (("ours", runtime, True) for runtime in ("compile-bf16", "compile", "fused"))
    yield from ((peer, runtime, False) for peer in PEERS for runtime in ("eager", "cuda-graph"))
    yield from ((peer, "fused-bf16", True) for peer in PEERS)


def timed(task: Callable[[], object]) -> float:
    """Median seconds of a task."""

    def synchronized() -> None:
        task()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    seconds = sorted(latencies({"task": synchronized}, ROUNDS)["task"])
    return seconds[len(seconds) // 2]


def peaks(dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a matrix product and bytes a second, read and written, of a copy."""
    matrix = torch.randn(MATRIX, MATRIX, device=DEVICE, dtype=dtype)
    source = torch.zeros(COPY, device=DEVICE)
    target = torch.empty_like(source)
    product = timed(lambda: matrix @ matrix)
    copy = timed(lambda: target.copy_(source))
    return 2 * MATRIX**3 / product, 2 * 4 * COPY / copy


def measure(name: str, runtime: str, tf32: bool) -> Iterator[dict[str, object]]:
    """A row a batch of a model in a runtime."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    half = RUNTIMES[runtime].precision == "bfloat16"
    rate, bandwidth = peaks(torch.bfloat16 if half else torch.float32)
    torch.manual_seed(0)
    model = create_model(name).eval()
    macs, activations = count_macs(model, SIZE), training_work(model, SIZE).activations
    prepared = prepare(model, runtime, SIZE, device=DEVICE)
    # A compiled model takes a minute for each batch.
    for batch in BATCHES[::2] if runtime.startswith("compile") else BATCHES:
        images = torch.randn(batch, 3, *SIZE, device=DEVICE)
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(lambda images=images: prepared(images)) / batch
        moved = 2 * activations * (2 if half else 4)  # each output is written once and read once
        yield {
            **{"model": name, "runtime": runtime, "precision": RUNTIMES[runtime].precision},
            **{"tf32": tf32 and not half, "batch": batch, "ms an image": 1000 * seconds},
            **{"images/s": 1 / seconds, "of peak rate": 2 * macs / seconds / rate},
            "of bandwidth": moved / seconds / bandwidth,
            "peak MiB": torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else 0,
            **{"peak rate TFLOP/s": rate / 1e12, "bandwidth TB/s": bandwidth / 1e12},
        }


def main(path: Path, seconds: float) -> None:
    """Write rows until the plan or the time ends; what fails is told and left out."""
    end = time.monotonic() + seconds
    torch.set_grad_enabled(False)
    with path.open("w", newline="", encoding="utf-8") as file:
        for what in plan():
            try:
                for row in measure(*what):
                    write_row(file, row)
                    print({name: row[name] for name in list(row)[:7]}, flush=True)
                    if time.monotonic() > end:
                        print(f"out of time after {what}", flush=True)
                        return
            except Exception as error:  # the others are worth measuring
                print(f"{what} failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
