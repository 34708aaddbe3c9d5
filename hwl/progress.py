"""Progress where somebody looks: a bar at a terminal or in a live notebook, silence in batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar named `what`; batch logs get none, their loops print lines."""
    # Jupyter's server names the notebook to kernels that a person opened; papermill's have none.
    if "JPY_SESSION_NAME" in os.environ:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return iter(tqdm(items, desc=what, total=total, leave=False, disable=None))
