"""The runtime that a user asks for, by name or as the fastest one here."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch

from hwl.errors import HwlError
from hwl.export import calibration_crops
from hwl.models import PoseNet
from hwl.prediction import Network
from hwl.runtimes import RUNTIMES, Size, prepare, unavailable
from hwl.speed.latency import latencies

ROUNDS = 5  # measurements of each candidate


def fastest(
    model: PoseNet, input_size: Size, batch_size: int, device: torch.device | str = "cpu"
) -> tuple[str, Network, str]:
    """The float32 runtime that a short measurement on this machine finds the fastest.

    "compile" is left out: it would compile for a minute. A runtime that fails is passed over.

    Returns:
        Its name, the network in it, and sentences that say what was measured and what failed.
    """
    device = torch.device(device)
    candidates = [
        name
        for name, runtime in RUNTIMES.items()
        if runtime.precision == "float32"
        and name != "compile"
        and not unavailable(name, device.type)
    ]
    networks, failures = {}, []
    for name in candidates:
        try:
            networks[name] = prepare(model, name, input_size, device=device)
        except HwlError as error:
            failures.append(f"; without '{name}': {error}")
    pictures = torch.randn(batch_size, 3, *input_size, device=device)
    tasks = {
        name: lambda network=network: network(pictures).cpu()  # waits for a GPU
        for name, network in networks.items()
    }
    seconds = latencies(tasks, ROUNDS)
    times = {name: 1000 * statistics.median(s) / batch_size for name, s in seconds.items()}
    best = min(times, key=times.get)
    listed = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(times.items(), key=lambda t: t[1]))
    said = f"runtime '{best}' picked of (ms a picture, batch {batch_size}): {listed}"
    said += "".join(failures)
    return best, networks[best], said


def ready(
    model: PoseNet,
    name: str,
    input_size: Size,
    batch_size: int,
    calibration: tuple[Path | str, str] = ("", ""),
    device: torch.device | str = "cpu",
) -> tuple[str, Network]:
    """A network in the runtime of that name, or in the fastest for "auto", which says what it is.

    Args:
        model: the network.
        name: a key of RUNTIMES, or "auto".
        input_size: (height, width) in pixels.
        batch_size: pictures a forward pass, for "auto" to measure with.
        calibration: for int8, a folder in COCO's layout and its training split.
        device: "cpu" or "cuda".

    Returns:
        The runtime's name and the network.

    Raises:
        HwlError: as `prepare`, or the calibration pictures cannot be read.
    """
    if name == "auto":
        best, network, said = fastest(model, input_size, batch_size, device)
        print(said)
        return best, network
    folder, split = calibration
    int8 = name in RUNTIMES and RUNTIMES[name].precision == "int8"
    crops = calibration_crops(Path(folder), split, input_size) if int8 and folder else None
    return name, prepare(model, name, input_size, crops, device)
