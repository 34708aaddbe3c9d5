"""Data-loading processes: how they start, and their failures, told in one line as this one's."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import cv2
from torch.utils.data import DataLoader

from hwl.errors import HwlError

Item = TypeVar("Item")

# Before an error's message in a traceback's last line.
RAISED = f"{HwlError.__module__}.{HwlError.__qualname__}: "


def in_workers(count: int) -> dict[str, Any]:
    """Arguments of a DataLoader whose data come from so many processes (0: from the caller's own).

    On Linux they are forked, whatever Python's default, and share the arrays of their parent. A
    process that starts anew imports torch and unpickles a copy: 475 MiB each for COCO's persons.
    """
    return {
        "num_workers": count,
        "multiprocessing_context": "fork" if count and sys.platform == "linux" else None,
        "worker_init_fn": _single_threaded_opencv,
    }


def _single_threaded_opencv(worker: int) -> None:
    """OpenCV's own threads would fight over the cores."""
    cv2.setNumThreads(0)


def delivered(loader: Iterable[Item]) -> Iterator[Item]:
    """What a DataLoader gives, whether it has worker processes or none.

    Raises:
        HwlError: what a data set raised, without the worker's traceback that torch puts before its
            message; or a worker was killed, or has no room in shared memory.
    """
    try:
        yield from loader
    except HwlError as error:
        _end_workers(loader, error)
        raise HwlError(str(error).rpartition(RAISED)[2].strip()) from None
    except RuntimeError as error:
        _end_workers(loader, error)
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


def _end_workers(loader: Iterable[Any], error: BaseException) -> None:
    """End the worker processes of a loader that failed at once.

    An error that torch raises for a worker refers to itself through its own frames, and so to the
    loader's iterator. A later garbage collection would close the workers' queues before it ends
    them, and wait 5 s for each.
    """
    if isinstance(loader, DataLoader) and loader.num_workers > 0:
        traceback.clear_frames(error.__traceback__)
        loader._iterator = None  # of persistent workers
