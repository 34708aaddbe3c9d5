"""The benchmark of the data side: what it tells, and where it leaves it."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from hwl.files import read_json
from hwl.speed import data_rate
from hwl.speed.config import DataRateConfig
from hwl.speed.data_rate import CACHE, FILES, HOST, bench_data


def config(puppets: Path, folder: Path, **changes: object) -> DataRateConfig:
    small = {"input_height": 64, "input_width": 32, "batch_size": 4, "rounds": 2}
    return DataRateConfig(
        output=str(folder / "run"),
        data=str(puppets),
        crop_cache=str(folder / "cache"),
        **{**small, **changes},
    )


def test_it_leaves_the_rates_of_both_ways_and_of_the_host(puppets: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()

    table = bench_data(config(puppets, tmp_path))["data"]

    table = table[table["images/s a core"].notna()]
    assert list(table["way"]) == [FILES, CACHE, HOST]
    assert table["times files"].iloc[0] == 1 and (table["images/s a core"] > 0).all()
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "run/data.csv").iloc[:3], table, check_dtype=False
    )
    assert read_json(tmp_path / "run/run.json")["config"]["batch_size"] == 4
    assert torch.get_num_threads() == threads


def test_a_rate_is_of_processor_time_and_not_of_the_clock(
    puppets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(data_rate.time, "process_time", lambda: next(clock))

    table = bench_data(config(puppets, tmp_path))["data"]

    rates = table["images/s a core"].dropna()
    assert (rates == 4).all()  # a batch takes a second of this clock
    assert time.process_time() >= 6
