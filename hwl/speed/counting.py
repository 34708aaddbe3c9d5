"""Parameters and multiply-accumulates of the models, by three counters.

Published GFLOPs depend on the tool that counted. The paper's table takes them from several, so
that a model's figure is compared here with what each of those tools makes of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import thop
import torch
from torch import Tensor, nn

from hwl.models import create_model
from hwl.paper import COCO_VAL, SPEED


@dataclass(frozen=True)
class Counts:
    """Size of a model.

    Attributes:
        parameters: trainable numbers.
        macs: multiply-accumulates of convolutions and linear layers alone, one image.
        mmcv: what mmcv 1.x's counter makes of one image: also biases, 2 an element for BN, 1
            for ReLU, input elements of pooling, output elements of upsampling.
        torchstat: what the counter of Lite-HRNet's repository, a torchstat, makes of one image:
            as mmcv's, but a module that runs several times counts as its last run alone, pooling
            by its windows' elements, and upsampling by one channel's output elements.
    """

    parameters: int
    macs: int
    mmcv: int
    torchstat: int


Operations = Callable[[Any, tuple[Tensor, ...], Tensor], int]
Rule = Callable[[Any, tuple[Tensor, ...], Tensor], None]


def _every_run(operations: Operations) -> Rule:
    """thop's rule that adds up the runs of a module."""

    def rule(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.total_ops += operations(module, inputs, output)

    return rule


def _last_run(operations: Operations) -> Rule:
    """thop's rule that keeps the last run of a module: torchstat overwrites its record of it."""

    def rule(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.total_ops.fill_(operations(module, inputs, output))

    return rule


def _conv(
    module: nn.Conv2d | nn.ConvTranspose2d, inputs: tuple[Tensor, ...], output: Tensor
) -> int:
    """A transposed convolution works once per input element, thop's own rule takes the output."""
    transposed = isinstance(module, nn.ConvTranspose2d)
    elements = (inputs[0] if transposed else output).numel()
    return elements * module.weight[0].numel()


def _conv_and_bias(
    module: nn.Conv2d | nn.ConvTranspose2d, inputs: tuple[Tensor, ...], output: Tensor
) -> int:
    bias = output.numel() if module.bias is not None else 0
    return _conv(module, inputs, output) + bias


def _nothing(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return 0


def _per_input(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return inputs[0].numel()


def _per_input_twice(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return 2 * inputs[0].numel()


def _per_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return output.numel()


def _per_output_of_one_channel(
    module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> int:
    """torchstat drops the channels together with the batch."""
    return output[:, 0].numel()


def _pooling_windows(
    module: nn.AvgPool2d | nn.MaxPool2d, inputs: tuple[Tensor, ...], output: Tensor
) -> int:
    """Elements of all windows, overlaps and padding too."""
    kernel = module.kernel_size
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return output.numel() * height * width


def _adaptive_windows(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """torchstat takes every window for a row and a column larger than it is."""

    def extent(size: int, cells: int) -> int:
        ends = (-(-(cell + 1) * size // cells) for cell in range(cells))  # rounded up
        starts = (cell * size // cells for cell in range(cells))
        return sum(end - start + 1 for start, end in zip(starts, ends, strict=True))

    batch, channels, height, width = inputs[0].shape
    rows, columns = output.shape[-2:]
    return batch * channels * extent(height, rows) * extent(width, columns)


CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
ELEMENTWISE = (nn.ReLU, nn.ReLU6)
POOLING = (nn.AvgPool2d, nn.MaxPool2d)


def _rules(
    over_runs: Callable[[Operations], Rule],
    conv: Operations,
    norm: Operations,
    elementwise: Operations,
    pooling: Operations,
    adaptive_pooling: Operations,
    upsampling: Operations,
) -> dict[type[nn.Module], Rule]:
    """thop's `custom_ops` of a counter; thop's own linear layers are right for all three."""
    operations = (
        dict.fromkeys(CONVOLUTIONS, conv)
        | dict.fromkeys(ELEMENTWISE, elementwise)
        | dict.fromkeys(POOLING, pooling)
        | {nn.BatchNorm2d: norm, nn.AdaptiveAvgPool2d: adaptive_pooling, nn.Upsample: upsampling}
    )
    return {kind: over_runs(rule) for kind, rule in operations.items()}


MACS_RULES = _rules(
    _every_run,
    conv=_conv,
    norm=_nothing,
    elementwise=_nothing,
    pooling=_nothing,
    adaptive_pooling=_nothing,
    upsampling=_nothing,
)
MMCV_RULES = _rules(
    _every_run,
    conv=_conv_and_bias,
    norm=_per_input_twice,
    elementwise=_per_input,
    pooling=_per_input,
    adaptive_pooling=_per_input,
    upsampling=_per_output,
)
TORCHSTAT_RULES = _rules(
    _last_run,
    conv=_conv_and_bias,
    norm=_per_input_twice,
    elementwise=_per_input,
    pooling=_pooling_windows,
    adaptive_pooling=_adaptive_windows,
    upsampling=_per_output_of_one_channel,
)


def count(model: nn.Module, input_size: tuple[int, int]) -> Counts:
    """Count a model at a (height, width) input in pixels with thop, by all rules."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counters = (MACS_RULES, MMCV_RULES, TORCHSTAT_RULES)
    return Counts(parameters, *_operations(model, input_size, counters))


def count_macs(model: nn.Module, input_size: tuple[int, int]) -> int:
    """Count the multiply-accumulates alone, as `Counts` has them, in a third of the time."""
    (macs,) = _operations(model, input_size, [MACS_RULES])
    return macs


def _operations(
    model: nn.Module,
    input_size: tuple[int, int],
    counters: Sequence[dict[type[nn.Module], Rule]],
) -> list[int]:
    """What thop makes of one image by the rules of each counter."""
    device = next((parameter.device for parameter in model.parameters()), None)
    image = torch.zeros(1, 3, *input_size, device=device)
    subject = copy.deepcopy(model).eval()  # thop leaves buffers in what it profiles
    return [
        int(thop.profile(subject, (image,), custom_ops=rules, verbose=False)[0])
        for rules in counters
    ]


# The paper's GFLOPs by model and input.
PUBLISHED = {
    (row.model, row.input): row.GFLOPs
    for table in (SPEED.assign(input="256x192"), COCO_VAL.assign(model="ours"))
    for row in table.itertuples()
}


def counting_table(models: Sequence[str], input_size: tuple[int, int]) -> pd.DataFrame:
    """What each counter makes of models beside the paper's figure.

    Args:
        models: names of `create_model`.
        input_size: (height, width) in pixels; both divide by 32.

    Returns:
        One row a model: parameters, counts in M (10^6), the paper's GFLOPs (NaN where it has
        none), and which counter's figure, in the unit that its tool prints, rounds to the
        paper's two decimals ("none" where none does).

    Raises:
        HwlError: an unknown model, or a size that does not divide by 32.
    """
    height, width = input_size
    rows = []
    for model in models:
        counts = count(create_model(model), input_size)
        published = PUBLISHED.get((model, f"{height}x{width}"), math.nan)
        rows.append(
            {
                "model": model,
                "parameters": counts.parameters,
                "conv MACs (M)": counts.macs / 1e6,
                "mmcv count (M)": counts.mmcv / 1e6,
                "torchstat count (M)": counts.torchstat / 1e6,
                "paper GFLOPs": published,
                "follows from": _origin(counts, published),
            }
        )
    return pd.DataFrame(rows)


def _origin(counts: Counts, published: float) -> str:
    """The counter whose figure rounds to the published GFLOPs, "none" if none does."""
    # mmcv prints decimal units, Lite-HRNet's tool binary ones.
    figures = {"mmcv, 10^9": counts.mmcv / 1e9, "torchstat, 2^30": counts.torchstat / 2**30}
    matches = [name for name, figure in figures.items() if f"{figure:.2f}" == f"{published:.2f}"]
    return " or ".join(matches) or "none"
