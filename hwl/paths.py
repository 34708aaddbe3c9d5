"""Where the project lies, and paths as notebooks mean them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeGuard

# The folder that holds notebooks/ in a clone.
PROJECT = Path(__file__).resolve().parents[1]
RUNS = PROJECT / "runs"  # a user's runs, by profile
PUBLISHED = PROJECT / "results"  # published ones, by profile
# Parameters whose names end so are paths.
PATH_FIELDS = ("output", "data", "weights", "detections", "runs", "accuracy", "cache")


def in_project(path: str) -> Path:
    """A path as notebooks mean it: relative paths start at the project's folder."""
    return PROJECT / Path(path).expanduser()


def from_project(path: str | Path) -> str:
    """A path as records show it: relative to the project's folder where it lies in or beside it.

    A path elsewhere is shortened to its name, so that no record tells whose machine made it.
    """
    absolute = Path(os.path.abspath(in_project(str(path))))
    if absolute.is_relative_to(PROJECT.parent) and PROJECT.parent != Path(PROJECT.anchor):
        return Path(os.path.relpath(absolute, PROJECT)).as_posix()
    return absolute.name


def is_path(name: str, value: object) -> TypeGuard[str]:
    """Whether a parameter is a path that is given; weights may also be a URL or "openmmlab"."""
    return isinstance(value, str) and bool(value) and name.endswith(PATH_FIELDS)
