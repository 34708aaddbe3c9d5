"""Sharing a machine's GPUs out to the jobs of a graph, one job on a GPU at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from hwl.errors import HwlError

VISIBLE = "CUDA_VISIBLE_DEVICES"
WANTED = "HWL_GPUS"  # in a job's environment: how many it has asked for
DRIVER = Path("/proc/driver/nvidia/gpus")  # has a folder a GPU


def visible_gpus() -> list[str]:
    """The GPUs of this machine that a process may use, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE in os.environ:
        named = [name for name in os.environ[VISIBLE].split(",") if name]
        return named[: named.index("-1")] if "-1" in named else named  # as CUDA reads it
    return [str(number) for number in range(len(list(DRIVER.glob("*"))))]


@contextlib.contextmanager
def own_gpus(folder: Path) -> Iterator[None]:
    """Within it, this process and its children see as many GPUs as its job has asked for.

    No other job of the same folder has them then. Nothing is done outside a graph, or where there
    are no more GPUs than the job wants: a scheduler has shared them out, or there is one.

    Args:
        folder: holds the locks, which end with the process.

    Raises:
        HwlError: other jobs have them; the graph starts no more jobs than there are GPUs for.
    """
    wanted, gpus = int(os.environ.get(WANTED, 0)), visible_gpus()
    if not 0 < wanted < len(gpus):
        yield
        return
    with contextlib.ExitStack() as taken:
        own: list[str] = []
        for name in gpus:
            lock = filelock.FileLock(folder / f"gpu-{name}.lock", timeout=0)
            with contextlib.suppress(filelock.Timeout):
                taken.enter_context(lock)
                own.append(name)
            if len(own) == wanted:
                break
        if len(own) < wanted:
            raise HwlError(f"of the GPUs {', '.join(gpus)} only {len(own)} are free, not {wanted}")
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(own)
        try:
            yield
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def check_gpus_are_found() -> None:
    """HwlError if this job has asked for GPUs which the machine has and torch does not find."""
    import torch  # takes seconds, and whoever shares GPUs out needs none of it

    if int(os.environ.get(WANTED, 0)) and visible_gpus() and not torch.cuda.is_available():
        raise HwlError(
            f"this machine has the GPUs {', '.join(visible_gpus())} and torch finds none: install "
            "the build of torch for its driver, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
