"""What all tests share: the reference material's folder, one thread, steady hypothesis runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The tensors here are small, and two threads that wait for each other on a busy machine are slow.
torch.set_num_threads(1)
# Same examples at every run and no time limit on one: a busy machine must not fail a test.
settings.register_profile("hwl", derandomize=True, deadline=None, database=None)
settings.load_profile("hwl")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and pictures beside the repository; not part of it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the reference material in {folder}, which is not there")
    return folder
