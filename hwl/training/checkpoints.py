"""Training state on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from hwl.errors import HwlError
from hwl.files import replacing

SEAL = b"\nsha256:"  # what ends a checkpoint, before the 64 hex digits of what is before it
SEALED = len(SEAL) + 64  # bytes


class _Hashed:
    """A file to write to that hashes what it is given."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Write tensors and plain values and, behind them, their checksum.

    A kill at any moment leaves the old file or the new one.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        hashed = _Hashed(file)
        try:
            torch.save(state, cast(BinaryIO, hashed))
        except RuntimeError as error:  # torch's, over the one of the file system
            raise error.__context__ or error from None
        file.write(SEAL + hashed.digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, with `weights_only=True`.

    Raises:
        HwlError: the file is another program's, truncated, changed or holds code.
    """
    content = path.read_bytes()
    content, seal = content[:-SEALED], content[-SEALED:]
    try:
        if seal != SEAL + hashlib.sha256(content).hexdigest().encode():
            raise ValueError("its checksum does not match")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail with nearly any exception
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise HwlError(
            f"{path} is not a whole checkpoint ({why}); delete its folder to train from the start"
        ) from error
