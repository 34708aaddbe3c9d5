"""Where the project lies, and paths as notebooks mean them."""

from __future__ import annotations

from pathlib import Path

# The folder that holds notebooks/ and results/ in a clone.
PROJECT = Path(__file__).resolve().parents[1]


def in_project(path: str) -> Path:
    """A path as notebooks mean it: relative paths start at the project's folder."""
    return PROJECT / Path(path).expanduser()
