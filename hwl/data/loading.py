"""Failures of data-loading processes, told in one line as those of this process are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hwl.errors import HwlError

Item = TypeVar("Item")

# Before an error's message in a traceback's last line.
RAISED = f"{HwlError.__module__}.{HwlError.__qualname__}: "


def delivered(loader: Iterable[Item]) -> Iterator[Item]:
    """What a DataLoader gives, whether it has worker processes or none.

    Raises:
        HwlError: what a data set raised, without the worker's traceback that torch puts before its
            message; or a worker was killed, or has no room in shared memory.
    """
    try:
        yield from loader
    except HwlError as error:
        raise HwlError(str(error).rpartition(RAISED)[2].strip()) from None
    except RuntimeError as error:
        said = str(error)
        if "shared memory" in said or "Bus error" in said:  # Docker's /dev/shm has 64 MB
            raise HwlError(
                "/dev/shm, through which processes hand over data, is full: give it more room "
                "(docker run --shm-size 2g), or lower batch_size or workers (0 needs none)"
            ) from None
        if "DataLoader worker" in said and "Caught" not in said:
            raise HwlError(
                "a process that loads data was killed, most likely because memory ran out: lower "
                "workers or batch_size, and run again"
            ) from None
        raise
