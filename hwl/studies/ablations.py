"""Variants compared: every run's metric, means over seeds, and whether a difference is noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from hwl.config import FilePath, Name, check
from hwl.errors import HwlError
from hwl.files import read_json

CONFIDENCE = 0.95


@dataclass(frozen=True)
class AblationConfig:
    """A comparison of evaluated runs, folders named <variant>-seed<seed>."""

    kind: ClassVar[str] = "ablations"
    output: FilePath  # the run's folder
    runs: FilePath  # folder of evaluation runs
    variants: list[Name]  # the variants to compare
    baseline: Name = "mse"  # the one that the others are compared with
    metric: Name = "AP"  # column of their metrics

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def collect(config: AblationConfig) -> pd.DataFrame:
    """One row a run: variant, seed, the metric with its interval over images, protocol.

    Raises:
        HwlError: there is no run, or the runs were not made by one protocol.
    """
    rows = []
    for path in sorted(Path(config.runs).glob("*-seed*/metrics.json")):
        variant, _, seed = path.parent.name.rpartition("-seed")
        if variant not in config.variants or not seed.isdecimal():  # such as seed0.partial
            continue
        metrics = read_json(path)
        if config.metric not in metrics:
            raise HwlError(f"{path} has no '{config.metric}'")
        kept = [config.metric, f"{config.metric}_low", f"{config.metric}_high"]
        kept += ["boxes", "flip", "decode", "input", "images", "persons"]
        rows.append(
            {"variant": variant, "seed": int(seed)}
            | {name: metrics[name] for name in kept if name in metrics}
        )
    if not rows:
        raise HwlError(
            f"{config.runs} has no evaluated run <variant>-seed<seed> of {config.variants}; "
            "`make reproduce` trains and evaluates them"
        )
    runs = pd.DataFrame(rows)
    for column in ("boxes", "flip", "decode", "input", "images"):
        if runs[column].nunique() > 1:
            raise HwlError(f"the runs in {config.runs} differ in '{column}' and do not compare")
    return runs


def compare(runs: pd.DataFrame, config: AblationConfig) -> pd.DataFrame:
    """One row a variant: mean over seeds and its difference to the baseline, with an interval.

    The interval is Welch's, at 95 %; it needs two seeds of both. A difference whose interval
    holds 0 is within noise.

    Raises:
        HwlError: the baseline is not among the runs.
    """
    by_variant = {name: group[config.metric] for name, group in runs.groupby("variant")}
    if config.baseline not in by_variant:
        raise HwlError(
            f"parameter 'baseline': '{config.baseline}' is not one of {', '.join(by_variant)}"
        )
    base = by_variant[config.baseline]
    rows = []
    for name, values in by_variant.items():
        low, high = _welch_interval(values.to_numpy(), base.to_numpy())
        if name == config.baseline:
            verdict = "baseline"
        elif np.isnan(low):
            verdict = "one seed: cannot tell from noise"
        else:
            verdict = "within noise" if low <= 0 <= high else "beyond noise"
        rows.append(
            {
                "variant": name,
                "seeds": len(values),
                f"mean {config.metric}": values.mean(),
                f"difference to {config.baseline}": values.mean() - base.mean(),
                "95 % low": low,
                "95 % high": high,
                "verdict": verdict,
            }
        )
    table = pd.DataFrame(rows).sort_values(f"mean {config.metric}", ascending=False)
    return table.reset_index(drop=True)


def _welch_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    if min(len(a), len(b)) < 2:
        return float("nan"), float("nan")
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)
