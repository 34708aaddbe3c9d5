"""Training state on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from hwl.errors import HwlError
from hwl.files import replacing


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Write tensors and plain values; a kill at any moment leaves the old file or the new one."""
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, with `weights_only=True`.

    Raises:
        HwlError: the file is truncated, broken or holds code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail with nearly any exception
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise HwlError(
            f"{path} is not a whole checkpoint ({why}); delete its folder to train from the start"
        ) from error
