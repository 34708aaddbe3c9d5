"""The peak rate of a processor: that of a product of large matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

    def product() -> Tensor:
        with as_exact_as_convolutions():
            return torch.matmul(matrix, matrix)

    return product, 2 * side**3 / 1e9


@contextmanager
def as_exact_as_convolutions() -> Iterator[None]:
    """Within it, a GPU's matrix products use TF32 where its convolutions do.

    By PyTorch's default convolutions alone do, which are then several times faster.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before
