"""The peak rate of a processor: that of a product of large matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MATRIX = {"cpu": 2048, "cuda": 8192}  # side of the matrices


def large_product(
    device: str, kind: torch.dtype = torch.float32
) -> tuple[Callable[[], Tensor], float]:
    """A matrix product to take the time of.

    Args:
        device: "cpu" or "cuda".
        kind: of its numbers.

    Returns:
        What computes it, and its GFLOP: two a multiply-accumulate.
    """
    side = MATRIX[device]
    matrix = torch.randn(side, side, device=device, dtype=kind)
    return lambda: torch.matmul(matrix, matrix), 2 * side**3 / 1e9
