"""One speed comparison run several times: the names of its runs, their medians and their range.

A run's interleaved rounds cancel what changes within minutes. What changes from hour to hour, such
as the machine's neighbors, shows between runs only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the graph reads this file and needs no tables
    import pandas as pd

REPEATS = "repeats"  # of a setting: how often it is run (1 where it is left out)
AGAIN = re.compile(r"-run\d+$")  # ends the name of a further run of a setting
SAME = ["model", "runtime", "precision", "device", "threads", "batch"]
SHOWN = {"FPS": "FPS", "times eager": "times_eager", "GFLOP/s": "peak_GFLOP/s"}


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
    """Speeds over all runs of each setting.

    Args:
        runs: folder of a profile's runs, with `speed*/latencies-*.csv` and `peak_rate-*.csv`.

    Returns:
        One row a setting, input size, machine, model, runtime, device, threads and batch: the
        number of `runs`, and of FPS, of the speed over eager's and of the peak matrix-multiply
        rate (GFLOP/s) the median and, in `<name>_low` and `<name>_high`, the range. Empty where
        nothing was timed.
    """
    import pandas as pd

    tables = []
    for path in sorted(runs.glob("speed*/latencies-*.csv")):
        table = pd.read_csv(path)
        rates = pd.read_csv(path.with_name(path.name.replace("latencies-", "peak_rate-")))
        table = table.merge(rates, how="left", on=["device", "threads", "batch"])
        size, _, machine = path.stem.removeprefix("latencies-").partition("-")
        where = {"setting": AGAIN.sub("", path.parent.name), "input": size, "machine": machine}
        tables.append(table.assign(**where))
    if not tables:
        return pd.DataFrame()
    groups = pd.concat(tables).groupby(["setting", "input", "machine", *SAME], sort=False)
    found = groups.size().rename("runs").to_frame()
    for column, name in SHOWN.items():
        found[name] = groups[column].median()
        found[f"{name}_low"], found[f"{name}_high"] = groups[column].min(), groups[column].max()
    return found.reset_index()
