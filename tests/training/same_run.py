"""Two runs compared."""

from __future__ import annotations

import csv
from pathlib import Path


def history(folder: Path) -> list[dict[str, str]]:
    """A run's history without what depends on the clock."""
    with (folder / "history.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_same_run(folder: Path, expected: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert history(folder) == history(expected)
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}
