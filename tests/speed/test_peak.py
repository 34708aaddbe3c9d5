"""The peak rate's product is as exact as the convolutions that are compared with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hwl.speed.peak import as_exact_as_convolutions

CONVOLUTIONS, PRODUCTS = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def tf32() -> Iterator[None]:
    """What PyTorch allows is the same after a test."""
    before = CONVOLUTIONS.allow_tf32, PRODUCTS.allow_tf32
    yield
    CONVOLUTIONS.allow_tf32, PRODUCTS.allow_tf32 = before


@pytest.mark.parametrize("allowed", [True, False])
def test_products_use_tf32_where_convolutions_do(allowed: bool) -> None:
    CONVOLUTIONS.allow_tf32, PRODUCTS.allow_tf32 = allowed, not allowed

    with as_exact_as_convolutions():
        within = PRODUCTS.allow_tf32

    assert within == allowed
    assert PRODUCTS.allow_tf32 == (not allowed)
