"""The script that measures on a GPU, tried out on the CPU: every part leaves its table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hwl.files import read_json
from hwl.paths import PROJECT

SCRIPT = PROJECT / "tests/gpu/run_all.sh"


@pytest.mark.slow(50)
def test_every_part_leaves_its_table(puppets: Path, tmp_path: Path) -> None:
    environment = {"HWL_DRY": "1", "DATA": str(puppets), "PYTHON": sys.executable}
    parts = ["speed", "training", "evidence", "end_to_end"]
    run = subprocess.run(
        ["bash", SCRIPT, tmp_path, *parts],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    said = (tmp_path / "run_all.log").read_text()
    assert [line for line in said.splitlines() if line.startswith("done: ")] == [
        f"done: {part}" for part in parts
    ]
    tables = {part: pd.read_csv(tmp_path / f"{part}.csv") for part in parts}
    assert {part: len(table) for part, table in tables.items()} == {
        **{"speed": 4, "training": 2, "evidence": 2, "end_to_end": 2}
    }
    assert tables["evidence"].weight_function.tolist() == ["zero", "identity"]
    assert (tables["speed"][["images/s", "of peak rate", "of bandwidth"]] > 0).all(axis=None)
    assert read_json(tmp_path / "machine.json")["torch"]
