"""Parameters, multiply-accumulates and latency of the networks."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import thop
import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Counts:
    """Size of a network.

    Attributes:
        parameters: trainable numbers.
        macs: multiply-accumulates of convolutions and linear layers alone, one picture.
        mmcv: what mmcv 1.x's counter prints, which the paper's GFLOPs are: also biases, 2 an
            element for BN, 1 for ReLU, input elements of pooling, output elements of upsampling.
    """

    parameters: int
    macs: int
    mmcv: int


def _add(module: nn.Module, operations: int) -> None:
    module.total_ops += torch.DoubleTensor([operations])


def _conv_macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """A transposed convolution works once per input element, thop's own rule takes the output."""
    transposed = isinstance(module, nn.ConvTranspose2d)
    elements = (inputs[0] if transposed else output).numel()
    return elements * module.weight[0].numel()


def _conv(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _add(module, _conv_macs(module, inputs, output))


def _conv_and_bias(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    bias = output.numel() if module.bias is not None else 0
    _add(module, _conv_macs(module, inputs, output) + bias)


def _nothing(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Not counted."""


def _per_input(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _add(module, inputs[0].numel())


def _per_input_twice(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _add(module, 2 * inputs[0].numel())


def _per_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _add(module, output.numel())


Rule = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
ELEMENTWISE = (nn.ReLU, nn.ReLU6)
POOLING = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d)
MACS_RULES: dict[type[nn.Module], Rule] = dict.fromkeys(CONVOLUTIONS, _conv) | dict.fromkeys(
    (nn.BatchNorm2d, *ELEMENTWISE, *POOLING, nn.Upsample), _nothing
)
MMCV_RULES: dict[type[nn.Module], Rule] = (
    dict.fromkeys(CONVOLUTIONS, _conv_and_bias)
    | dict.fromkeys((*ELEMENTWISE, *POOLING), _per_input)
    | {nn.BatchNorm2d: _per_input_twice, nn.Upsample: _per_output}
)


def count(model: nn.Module, input_size: tuple[int, int]) -> Counts:
    """Count a network at a (height, width) input with thop, by both rules."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    picture = torch.zeros(1, 3, *input_size)
    operations = []
    for rules in (MACS_RULES, MMCV_RULES):
        # thop leaves buffers in what it profiles.
        subject = copy.deepcopy(model).eval()
        operations.append(
            int(thop.profile(subject, (picture,), custom_ops=rules, verbose=False)[0])
        )
    return Counts(parameters, *operations)


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
