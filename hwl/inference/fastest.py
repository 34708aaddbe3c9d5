"""The runtime that a user asks for, by name or as the fastest one here."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from hwl.errors import HwlError
from hwl.inference.export import calibration_crops
from hwl.inference.predictor import Model
from hwl.inference.runtimes import RUNTIMES, Size, prepare, unavailable
from hwl.inference.timing import latencies
from hwl.models import PoseNet

ROUNDS = 5  # measurements of each candidate


def fastest(
    model: PoseNet, input_size: Size, batch_size: int, device: torch.device | str = "cpu"
) -> tuple[str, Model, str]:
    """The float32 runtime that a short measurement on this machine finds the fastest.

    "compile" is left out: it would compile for a minute. A runtime that fails is passed over.

    Returns:
        Its name, the model in it, and sentences that say what was measured and what failed.
    """
    device = torch.device(device)
    candidates = [
        name
        for name, runtime in RUNTIMES.items()
        if runtime.precision == "float32"
        and name != "compile"
        and not unavailable(name, device.type)
    ]
    prepared_models, failures = {}, []
    for name in candidates:
        try:
            prepared_models[name] = prepare(model, name, input_size, device=device)
        except HwlError as error:
            failures.append(f"; without '{name}': {error}")
    images = torch.randn(batch_size, 3, *input_size, device=device)
    tasks: dict[str, Callable[[], object]] = {
        name: partial(_run_to_the_end, prepared, images)
        for name, prepared in prepared_models.items()
    }
    seconds = latencies(tasks, ROUNDS)
    times = {name: 1000 * statistics.median(s) / batch_size for name, s in seconds.items()}
    best = min(times, key=lambda name: times[name])
    listed = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(times.items(), key=lambda t: t[1]))
    said = f"runtime '{best}' picked of (ms an image, batch {batch_size}): {listed}"
    said += "".join(failures)
    return best, prepared_models[best], said


def _run_to_the_end(prepared: Model, images: torch.Tensor) -> torch.Tensor:
    """The heatmaps on the CPU, for which a GPU is waited for."""
    return prepared(images).cpu()


def ready(
    model: PoseNet,
    name: str,
    input_size: Size,
    batch_size: int,
    calibration: tuple[Path | str, str] = ("", ""),
    device: torch.device | str = "cpu",
) -> tuple[str, Model]:
    """A model in the runtime of that name, or in the fastest for "auto", which says what it is.

    Args:
        model: the model.
        name: a key of RUNTIMES, or "auto".
        input_size: (height, width) in pixels.
        batch_size: images a forward pass, for "auto" to measure with.
        calibration: for int8, a folder in COCO's layout and its training split.
        device: "cpu" or "cuda".

    Returns:
        The runtime's name and the model.

    Raises:
        HwlError: as `prepare`, or the calibration images cannot be read.
    """
    if name == "auto":
        best, prepared, said = fastest(model, input_size, batch_size, device)
        print(said)
        return best, prepared
    folder, split = calibration
    int8 = name in RUNTIMES and RUNTIMES[name].precision == "int8"
    crops = None
    if int8 and folder:
        crops = model.preprocess(calibration_crops(Path(folder), split, input_size))
    return name, prepare(model, name, input_size, crops, device)
