"""A setting run several times: names of its runs, medians and ranges."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hwl.speed.repeated import end_to_end_over_runs, over_runs, runs_of

WHERE = {"device": "cpu", "threads": 1, "batch": 1}


def timed(folder: Path, fps: float, times: float, rate: float) -> None:
    folder.mkdir(parents=True)
    row = {"model": "ours", "runtime": "fused", "precision": "float32", **WHERE, "FPS": fps}
    row |= {"times eager": times, "of peak_rate": 0.5}
    pd.DataFrame([row]).to_csv(folder / "latencies-256x192-a-cpu.csv", index=False)
    peak = {**WHERE, "GFLOP/s": rate}
    pd.DataFrame([peak]).to_csv(folder / "peak_rate-256x192-a-cpu.csv", index=False)


def test_a_setting_is_run_as_often_as_it_says_under_names_of_its_own() -> None:
    settings = {"speed": {"repeats": 3, "rounds": 2}, "speed-b": {"rounds": 4}}

    runs = runs_of(settings)

    assert runs == {
        **{name: {"rounds": 2} for name in ("speed", "speed-run2", "speed-run3")},
        "speed-b": {"rounds": 4},
    }


def test_speeds_are_medians_over_a_settings_runs_with_their_range(tmp_path: Path) -> None:
    timed(tmp_path / "speed", 50, 1.5, 170)
    timed(tmp_path / "speed-run2", 40, 1.4, 150)
    timed(tmp_path / "speed-run3", 44, 1.6, 160)
    timed(tmp_path / "speed-run4.partial", 99, 9.0, 990)  # left by a killed run
    timed(tmp_path / "speed-other", 9, 1.0, 100)

    table = over_runs(tmp_path).set_index("setting")

    assert sorted(table.index) == ["speed", "speed-other"]
    row = table.loc["speed"]
    assert row["runs"] == 3 and (row["input"], row["machine"]) == ("256x192", "a-cpu")
    assert (row["FPS"], row["FPS_low"], row["FPS_high"]) == (44, 40, 50)
    assert row["times_eager"] == pytest.approx(1.5)
    assert (row["peak_GFLOP/s"], row["peak_GFLOP/s_low"]) == (160, 150)
    assert table.loc["speed-other", "FPS"] == 9 and table.loc["speed-other", "runs"] == 1


def test_persons_a_second_are_medians_with_their_range_by_flip_test(tmp_path: Path) -> None:
    for run, rate in ("speed", 20.0), ("speed-run2", 30.0), ("speed-run3", 22.0):
        (tmp_path / run).mkdir()
        rows = [
            {"model": "ours", "runtime": "fused", **WHERE, "flip": flip, "persons/s": rate * times}
            for flip, times in ((True, 1), (False, 2))
        ]
        pd.DataFrame(rows).to_csv(tmp_path / run / "end_to_end-256x192-a-cpu.csv", index=False)

    table = end_to_end_over_runs(tmp_path).set_index("flip")

    assert table.loc[True, ["persons/s", "persons/s_low", "persons/s_high"]].tolist() == [
        22,
        20,
        30,
    ]
    assert table.loc[False, "persons/s"] == 44 and table["runs"].tolist() == [3, 3]


def test_runs_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    timed(tmp_path / "speed", 50, 1.5, 170)
    timed(tmp_path / "speed-run2", 40, 1.4, 150)
    for path in (tmp_path / "speed-run2").iterdir():
        path.rename(path.with_name(path.name.replace("a-cpu", "b-cpu")))

    assert over_runs(tmp_path)["runs"].tolist() == [1, 1]


def test_nothing_timed_is_an_empty_table(tmp_path: Path) -> None:
    assert not len(over_runs(tmp_path)) and not len(end_to_end_over_runs(tmp_path))
