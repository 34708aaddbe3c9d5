"""The command line `hwl bench`: how fast this machine feeds and trains a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import tyro

from hwl.speed.config import DataRateConfig, TrainingRateConfig

if TYPE_CHECKING:
    import pandas as pd

Inline = tyro.conf.arg(name="")


def bench_data(config: Annotated[DataRateConfig, Inline]) -> None:
    """Measure images/s a core from files and from a crop cache, and reading files of COCO's size.

    Tables are printed and written as CSV into the run's folder.
    """
    from hwl.speed.data_rate import bench_data

    _show(bench_data(config))


def bench_train(config: Annotated[TrainingRateConfig, Inline]) -> None:
    """Measure a training step by part, its share of the peak rate, and each profile's hours.

    Tables are printed and written as CSV into the run's folder.
    """
    from hwl.speed.training_rate import bench_train

    _show(bench_train(config))


def _show(tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        print(f"\n{name}")
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep="-"))


BENCH_COMMANDS: dict[str, Callable[..., None]] = {"data": bench_data, "train": bench_train}
