"""What the tests here share: they need a GPU, and say so where there is none."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skip without a GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
