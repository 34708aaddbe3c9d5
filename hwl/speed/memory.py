"""Peak memory of models in their runtimes, each in a fresh process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.inference.runtimes import prepare
from hwl.models import PoseNet, load_model, save_weights

BATCHES = (1, 32)  # images a forward pass
WEIGHTS, CROPS = "model.safetensors", "crops.pt"
STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
MIB = 2**20


def peak_memory(model: PoseNet, runtime: str, crops: Tensor, device: str) -> dict[str, float]:
    """What a model takes beyond PyTorch and its own weights, which are loaded before.

    On the CPU it is resident memory of a fresh process. On a GPU it is what PyTorch has allocated
    there, the weights among it, for before they are in the CPU's memory alone; what CUDA itself
    takes, and programs other than PyTorch, is not counted.

    Args:
        model: the model, in evaluation mode.
        runtime: a name of `hwl.inference.runtimes.RUNTIMES`.
        crops: (M, 3, H, W) normalized, to calibrate int8 with; they give the input size.
        device: "cpu" or "cuda".

    Returns:
        Peaks in MiB while the runtime is prepared (exported models come from the cache, if they
        are there) and while it runs with each of BATCHES: "preparing_MiB", "batch_1_MiB", ...

    Raises:
        HwlError: the runtime cannot be prepared, or there is too little memory for it.
    """
    # A fork would start with the memory of this process.
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_weights(model, folder / WEIGHTS)
        torch.save(crops, folder / CROPS)
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            job = pool.submit(_measure, folder, runtime, device, torch.get_num_threads())
            try:
                return job.result()
            except BrokenProcessPool as error:
                raise HwlError(
                    f"the process that runs '{runtime}' for its peak memory was killed: there is "
                    "too little memory"
                ) from error


def _measure(folder: Path, runtime: str, device: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    model, crops = load_model(folder / WEIGHTS), torch.load(folder / CROPS, weights_only=True)
    size = tuple(crops.shape[2:])
    _reset(device)  # else a peak of importing and loading would hide what preparing takes
    before = _peak(device)
    prepared = prepare(model, runtime, size, crops, device)
    peaks = {"preparing_MiB": _peak(device) - before}
    for batch in BATCHES:
        images = torch.randn(batch, 3, *size, device=device)
        gc.collect()
        _reset(device)
        with torch.inference_mode():
            for _ in range(3):  # some runtimes settle in the second run
                prepared(images)
        peaks[f"batch_{batch}_MiB"] = _peak(device) - before
    return peaks


def _peak(device: str) -> float:
    """Highest memory so far, or since `_reset`, in MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    # Not getrusage's: that one remembers the parent that started this process.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return int(peak) / 1024


def _reset(device: str) -> None:
    """Let the peak start anew from what is in use now."""
    if device == "cuda":
        torch.cuda.init()  # without it a process that has not used the GPU yet has no such peak
        torch.cuda.reset_peak_memory_stats()
    else:
        RESET.write_text("5")
