"""Progress where somebody looks: a bar at a terminal or in a live notebook, lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

# A log gets a line when both have passed since the last one: at most nine lines a loop, and none
# of a loop that is done at once.
LINE_SECONDS = 10.0
LINE_SHARE = 0.1


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate and show how far: by a bar, or where nobody can see one by a line now and then.

    Args:
        items: what to iterate over.
        what: the name of the loop.
        total: how many items there are, where `items` does not know.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    # Jupyter's server names the notebook to kernels that a person opened; papermill's have none.
    if "JPY_SESSION_NAME" in os.environ:
        from tqdm.notebook import tqdm as notebook_bar

        return iter(notebook_bar(items, desc=what, total=total, leave=False))
    if sys.stderr.isatty():
        from tqdm import tqdm as bar

        return iter(bar(items, desc=what, total=total, leave=False))
    return _with_lines(items, what, total, time.monotonic)


def _with_lines(
    items: Iterable[Item], what: str, total: int | None, now: Callable[[], float]
) -> Iterator[Item]:
    """Iterate and print lines such as "predict: 30 % (30 of 100), 21 s, about 49 s left"."""
    started = shown_at = now()
    shown = 0.0
    for done, item in enumerate(items):
        seconds = now() - started
        share = done / total if total else 0.0
        if now() - shown_at >= LINE_SECONDS and (not total or share - shown >= LINE_SHARE):
            shown_at, shown = now(), share
            print(f"{what}: {_how_far(done, total, seconds)}", flush=True)
        yield item


def _how_far(done: int, total: int | None, seconds: float) -> str:
    if not total:
        return f"{done} done, {seconds:.0f} s"
    left = seconds / done * (total - done) if done else 0.0
    return f"{done / total:.0%} ({done} of {total}), {seconds:.0f} s, about {left:.0f} s left"
