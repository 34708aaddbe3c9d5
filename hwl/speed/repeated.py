"""One speed comparison run several times: the names of its runs, their medians and their range.

A run's interleaved rounds cancel what changes within minutes. What changes from hour to hour, such
as the machine's neighbors, shows between runs only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwl.runs.record import finished_files

if TYPE_CHECKING:  # the graph reads this file and needs no tables
    import pandas as pd

REPEATS = "repeats"  # of a setting: how often it is run (1 where it is left out)
AGAIN = re.compile(r"-run\d+$")  # ends the name of a further run of a setting
WHERE = ["setting", "input", "machine"]
SAME = ["model", "runtime", "device", "threads"]


def runs_of(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The runs of a profile's settings by name, each with its setting's parameters.

    The first run of a setting has its name, further ones are `<name>-run2` and so on.
    """
    return {
        name if number == 1 else f"{name}-run{number}": {
            key: value for key, value in setting.items() if key != REPEATS
        }
        for name, setting in settings.items()
        for number in range(1, setting.get(REPEATS, 1) + 1)
    }


def over_runs(runs: Path) -> pd.DataFrame:
    """Speeds of the models alone over all runs of each setting.

    Args:
        runs: folder of a profile's runs, with `speed*/latencies-*.csv` and `peak_rate-*.csv`.

    Returns:
        One row a setting, input size, machine, model, runtime, device, threads and batch: the
        number of `runs`, and of FPS, of the speed over eager's, of the peak matrix-multiply rate
        (GFLOP/s) and of the share of it the median and, in `<name>_low` and `<name>_high`, the
        range. Empty where nothing was timed.
    """
    shown = {
        "FPS": "FPS",
        "times eager": "times_eager",
        "GFLOP/s": "peak_GFLOP/s",
        "of peak_rate": "of_peak_rate",
    }
    table = _all_runs(runs, "latencies")
    if not len(table):
        return table
    on = [*WHERE, "run", "device", "threads", "batch"]
    table = table.merge(_all_runs(runs, "peak_rate"), how="left", on=on)
    return _medians(table, [*WHERE, *SAME, "batch", "precision"], shown)


def end_to_end_over_runs(runs: Path) -> pd.DataFrame:
    """Speeds from image files to keypoints over all runs of each setting.

    Args:
        runs: folder of a profile's runs, with `speed*/end_to_end-*.csv`.

    Returns:
        Rows as those of `over_runs`, by flip test and not by batch, for each run takes a model's
        best one; persons/s, its median and range.
    """
    table = _all_runs(runs, "end_to_end")
    if not len(table):
        return table
    return _medians(table, [*WHERE, *SAME, "flip"], {"persons/s": "persons/s"})


def _all_runs(runs: Path, kind: str) -> pd.DataFrame:
    """A kind of table of all runs, with what names a run in front."""
    import pandas as pd

    tables = []
    for path in finished_files(runs, f"speed*/{kind}-*.csv"):
        size, _, machine = path.stem.removeprefix(f"{kind}-").partition("-")
        setting = AGAIN.sub("", path.parent.name)
        named = {"setting": setting, "input": size, "machine": machine, "run": path.parent.name}
        tables.append(pd.read_csv(path).assign(**named))
    return pd.concat(tables) if tables else pd.DataFrame()


def _medians(table: pd.DataFrame, by: list[str], shown: Mapping[str, str]) -> pd.DataFrame:
    """The number of `runs`, and each shown column's median and range under its new name."""
    groups = table.groupby(by, sort=False)
    found = groups.size().rename("runs").to_frame()
    for column, name in shown.items():
        found[name] = groups[column].median()
        found[f"{name}_low"], found[f"{name}_high"] = groups[column].min(), groups[column].max()
    return found.reset_index()
