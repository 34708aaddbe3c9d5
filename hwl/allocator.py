"""Keep freed memory: the C library's habit of returning large tensors at once halves training.

At 256x192 a training step on a CPU otherwise spends more time on a million page faults than on
arithmetic. The settings are those of the environment variables `MALLOC_MMAP_MAX_` and friends, but
made at run time, so that they hold in a notebook's kernel too.
"""

from __future__ import annotations

import ctypes
import platform

# Parameter numbers and limits from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
LARGEST = 2**31 - 1
TOP_PAD = 256 * 2**20  # bytes


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed; nothing is done with another C library."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_TOP_PAD, TOP_PAD))
    for parameter, value in settings:
        libc.mallopt(parameter, value)
