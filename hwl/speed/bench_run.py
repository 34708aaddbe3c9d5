"""A benchmark's run folder: its tables as CSV beside what made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd

from hwl.data.annotations import split_files
from hwl.files import write_json, write_text
from hwl.runs.folder import new_run
from hwl.runs.provenance import provenance
from hwl.speed.config import DataRateConfig, TrainingRateConfig

Config = TypeVar("Config", DataRateConfig, TrainingRateConfig)


def bench_run(
    config: Config, measure: Callable[[Config], dict[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Measure, and leave a run folder with `<name>.csv` of each table, and `run.json`.

    Args:
        config: of the benchmark; its output is checked before anything is measured.
        measure: gives the tables by name.
    """
    with new_run(config) as folder:
        tables = measure(config)
        for name, table in tables.items():
            write_text(folder / f"{name}.csv", table.to_csv(index=False))
        inputs = {"train": split_files(Path(config.data), config.train_split)["annotations"]}
        write_json(folder / "run.json", provenance(config, inputs))
    return tables
