"""A benchmark's run folder: its tables as CSV beside what made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hwl.files import write_json, write_text
from hwl.runs.folder import RunConfig, new_run
from hwl.runs.provenance import provenance


def write_bench(
    config: RunConfig, tables: Mapping[str, pd.DataFrame], inputs: Mapping[str, Path]
) -> None:
    """Write a run folder with `<name>.csv` of each table, and `run.json`.

    Args:
        config: of the benchmark.
        tables: by name.
        inputs: files that it read, by name.
    """
    with new_run(config) as folder:
        for name, table in tables.items():
            write_text(folder / f"{name}.csv", table.to_csv(index=False))
        write_json(folder / "run.json", provenance(config, inputs))
