"""Variants compared: every run's metric, means over seeds, and whether a difference is noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from hwl.config import FilePath, Name, OptionalPath, check
from hwl.errors import HwlError
from hwl.studies.gathering import check_protocol, gather
from hwl.studies.paired import paired_interval

# Columns of a run to show beside the metric and its interval.
SHOWN = ("boxes", "flip", "decode", "runtime", "input", "images", "persons")


@dataclass(frozen=True)
class AblationConfig:
    """A comparison of evaluated runs, folders named <variant>-seed<seed>."""

    kind: ClassVar[str] = "ablations"
    output: FilePath  # the run's folder
    runs: FilePath  # folder of evaluation runs
    variants: list[Name]  # the variants to compare
    baseline: Name = "mse"  # the one that the others are compared with
    metric: Name = "AP"  # column of their metrics
    # Folder of the evidence experiment's runs, whose figures are shown (empty: none).
    evidence_runs: OptionalPath = "results/evidence"

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def collect(config: AblationConfig) -> pd.DataFrame:
    """One row a run: variant, seed, the metric with its interval over images, protocol.

    Raises:
        HwlError: a variant has no run, a run lacks the metric, or the runs were not trained and
            tested on the same data by one protocol (`hwl.studies.gathering.PROTOCOL`).
    """
    runs = gather(Path(config.runs), config.variants).table
    if missing := [name for name in config.variants if name not in set(runs["arm"])]:
        raise HwlError(
            f"{config.runs} has no evaluated run <variant>-seed<seed> of {', '.join(missing)}: "
            "`make reproduce` trains and evaluates them; or leave it out of 'variants'"
        )
    lacking = runs[config.metric].isna() if config.metric in runs else runs["seed"] == runs["seed"]
    if lacking.any():
        first = runs[lacking].iloc[0]
        path = Path(config.runs) / f"{first['arm']}-seed{first['seed']}" / "metrics.json"
        raise HwlError(f"{path} has no '{config.metric}'")
    check_protocol(runs, config.runs)
    kept = ["arm", "seed", config.metric, f"{config.metric}_low", f"{config.metric}_high", *SHOWN]
    return runs[[name for name in kept if name in runs]].rename(columns={"arm": "variant"})


def compare(runs: pd.DataFrame, config: AblationConfig) -> pd.DataFrame:
    """One row a variant: mean over seeds, and its difference to the baseline with an interval.

    Variants are compared in pairs, on the seeds that both have: a seed fixes what it can of first
    weights, order and augmentation. The interval is Student's of the paired differences, at 95 %,
    and needs two pairs. A difference whose interval holds 0 is within noise.

    Raises:
        HwlError: the baseline is not among the runs.
    """
    values = runs.pivot(index="seed", columns="variant", values=config.metric)
    if config.baseline not in values:
        raise HwlError(
            f"parameter 'baseline': '{config.baseline}' is not one of {', '.join(values)}"
        )
    rows = []
    for name in values:
        differences = (values[name] - values[config.baseline]).dropna().to_numpy()
        pairs = len(differences)
        interval = paired_interval(differences) if pairs else None
        if name == config.baseline:
            verdict = "baseline"
        elif interval is None:
            verdict = "no seed in common"
        elif np.isnan(interval.low):
            verdict = "one pair: cannot tell from noise"
        else:
            verdict = "within noise" if interval.low <= 0 <= interval.high else "beyond noise"
        rows.append(
            {
                "variant": name,
                "seeds": int(values[name].count()),
                "pairs": pairs,
                f"mean {config.metric}": values[name].mean(),
                f"difference to {config.baseline}": interval.mean if interval else np.nan,
                "95 % low": interval.low if interval else np.nan,
                "95 % high": interval.high if interval else np.nan,
                "verdict": verdict,
            }
        )
    table = pd.DataFrame(rows).sort_values(f"mean {config.metric}", ascending=False)
    return table.reset_index(drop=True)
