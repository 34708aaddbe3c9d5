"""What this machine's processor and GPU can do, and how many cores are this process's."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cores() -> int:
    """Cores that this process may use: the job's, of SLURM, taskset or a cpuset, not the node's.

    All of the machine elsewhere than on Linux, which alone tells.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def instruction_sets() -> frozenset[str]:
    """Names of an x86 processor's instruction sets as Linux tells them, such as "amx_bf16".

    Empty on other processors, and elsewhere than on Linux.
    """
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def int8_saturates() -> bool:
    """Whether sums of two products of bytes may not fit their 16 bits, as on x86 without VNNI.

    Also True for an x86 processor whose instruction sets are not known.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and not any("vnni" in name for name in instruction_sets())


def gpu_has_bfloat16() -> bool:
    """Whether there is a GPU with bfloat16 matrix units; one before NVIDIA's Ampere emulates it."""
    import torch  # takes seconds, and the processor is known without it

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it torch computes on so many CPU threads; 0 leaves their number."""
    import torch  # as above

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch and OpenCV have one thread, as in a data-loading process."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with torch_threads(1):
            yield
    finally:
        cv2.setNumThreads(before)
