"""A run's folder: built beside its place and renamed when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_folder(folder: Path) -> Path:
    """Where a run is built until it is finished; a killed run leaves it for the next to go on."""
    return folder.with_name(folder.name + ".partial")


def publish(folder: Path) -> None:
    """Rename a run's finished partial folder into place, replacing an older run whole."""
    partial = partial_folder(folder)
    old = folder.with_name(folder.name + ".partial-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def start(folder: Path) -> Path:
    """A fresh partial folder to fill, to be published when it is complete."""
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


@contextmanager
def new_run(folder: Path) -> Iterator[Path]:
    """A fresh partial folder to fill; published at the end, removed where something is raised."""
    partial = start(folder)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    publish(folder)
