"""Whether a runtime's or a file's heatmaps are the model's."""

from __future__ import annotations

import torch
from torch import Tensor

from hwl.errors import HwlError

TOLERANCE = 1e-4  # of the largest heatmap value, between a runtime and PyTorch
ROUNDINGS = 4  # times eager PyTorch's difference from exact float32 that a runtime may have
CORRELATION = 0.5  # of int8 with float32 heatmaps


def largest_difference(answers: Tensor, expected: Tensor) -> float:
    """Of two tensors of heatmaps, over the largest value expected."""
    return float((answers - expected).abs().max() / expected.abs().max())


def allowed_difference(eager: Tensor, exact: Tensor) -> float:
    """How far a float32 runtime's heatmaps may be off on a device, over their largest value.

    A GPU's convolutions round to the ten bits of TF32 by default, which moves heatmaps by more than
    TOLERANCE. Neither that nor what the user has set of it is the runtime's fault.

    Args:
        eager: heatmaps of eager PyTorch on the device.
        exact: heatmaps on a CPU.
    """
    return max(TOLERANCE, ROUNDINGS * largest_difference(eager, exact))


def check_agreement(
    answers: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE
) -> None:
    """HwlError unless two tensors of heatmaps are equal to a tolerance of the largest value."""
    difference = largest_difference(answers, expected)
    if not difference <= tolerance:  # NaN is no agreement either
        raise HwlError(
            f"{what} this model answers otherwise than PyTorch, by {difference:.1e} of the "
            f"largest value (allowed: {tolerance:.1e}): use the runtime 'eager'"
        )


def check_resemblance(answers: Tensor, expected: Tensor, what: str) -> None:
    """HwlError unless int8 heatmaps are much like float32's: a correlation above CORRELATION."""
    pair = torch.stack([answers.flatten(), expected.flatten()]).double()
    correlation = float(torch.corrcoef(pair)[0, 1])
    if not correlation > CORRELATION:  # NaN is no resemblance either
        raise HwlError(
            f"{what} this model answers otherwise in int8 than in float32: their correlation is "
            f"{correlation:.3f} (needed: {CORRELATION}); use a float32 runtime"
        )
