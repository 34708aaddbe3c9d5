"""The evidence experiment: its pilot, and what its runs say by the rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hwl.errors import HwlError
from hwl.evaluation.persons import Persons
from hwl.files import read_json
from hwl.studies.design import Design, Stage
from hwl.studies.gathering import Runs, check_protocol, gather, paired, paired_persons
from hwl.studies.paired import (
    Interval,
    bootstrap_interval,
    holm,
    paired_interval,
    paired_p,
    seeds_needed,
    verdict,
)

OUTCOME = "OKS"  # mean object keypoint similarity over test persons
BESIDE = ("AP", "AP75", "PCK")  # told with it where an evaluation has them


def pilot(design: Design, runs: Path) -> dict[str, object]:
    """How many seeds the main arms get, from the spread of the pilot's differences.

    Only the spread is taken; the mean differences are not told, so that nobody can look.

    Returns:
        "seeds", their number; "pilot", that of the pilot; "spread", the standard deviation of each
        comparison's differences of mean OKS.

    Raises:
        HwlError: the design has no pilot, or a run of it is missing.
    """
    stage = design.piloted()
    found = gather(runs / "evaluate", stage.arms)
    spread = {}
    for arm, base in stage.compare:
        seeds, differences = paired(found, arm, base, OUTCOME)
        if not set(range(stage.pilot)) <= set(seeds):
            raise HwlError(f"{runs}: the pilot needs seeds 0 to {stage.pilot - 1} of {arm}, {base}")
        spread[f"{arm} - {base}"] = float(np.std(differences[: stage.pilot], ddof=1))
    needed = seeds_needed(max(spread.values()))
    return {"seeds": min(needed, stage.seeds), "pilot": stage.pilot, "spread": spread}


def decided(runs: Path) -> int:
    """The number of seeds that the pilot decided, 0 where it was not made."""
    path = runs / "pilot" / "metrics.json"
    return int(read_json(path)["seeds"]) if path.exists() else 0


def missing(design: Design, found: Runs, seeds: int) -> list[str]:
    """What the design asks for and is not there: stages past the budget, and runs.

    Args:
        design: of the experiment.
        found: its runs.
        seeds: the pilot's decision, 0 before it.
    """
    lines = []
    for stage, row in zip(design.stages, design.plan(seeds), strict=True):
        if not row["made"]:
            lines.append(
                f"stage {stage.name}: its {row['core-hours']} core-hours would pass the budget of "
                f"{design.core_hours:g}"
            )
            continue
        for arm in stage.arms:
            lacking = sorted(set(range(stage.seeds_of(seeds))) - found.seeds(arm))
            if lacking:
                lines.append(f"{arm}: seed{'s'[: len(lacking) - 1]} {', '.join(map(str, lacking))}")
    return lines


def comparisons(design: Design, found: Runs) -> pd.DataFrame:
    """One row a comparison of the design that two arms' runs allow.

    Columns: stage, arm, base, pairs, the mean OKS of both, their difference with Student's 95 %
    interval over seeds (`low`, `high`), the verdict, `p`, Holm's `p_holm` within the stage, the
    bootstrap's interval over seeds and images (`boot_low`, `boot_high`), `correlation` of the two
    arms over seeds, and difference and interval of the metrics beside it.

    Raises:
        HwlError: two arms were tested or trained by another protocol.
    """
    tables = []
    for stage in design.stages:
        rows = [
            _comparison(found, stage, arm, base)
            for arm, base in stage.compare
            if found.seeds(arm) & found.seeds(base)
        ]
        if rows:
            table = pd.DataFrame(rows)
            table["p_holm"] = holm(table["p"])
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _comparison(found: Runs, stage: Stage, arm: str, base: str) -> dict[str, object]:
    table = found.table[found.table["arm"].isin([arm, base])]
    check_protocol(table, f"comparison of {arm} with {base}")
    seeds, differences = paired(found, arm, base, OUTCOME)
    interval = paired_interval(differences)
    boot = _bootstrap(found, arm, base, seeds)
    means = table[table["seed"].isin(seeds)].pivot(index="seed", columns="arm", values=OUTCOME)
    row = {
        "stage": stage.name,
        "arm": arm,
        "base": base,
        "pairs": len(seeds),
        "arm_OKS": means[arm].mean(),
        "base_OKS": means[base].mean(),
        "difference": float(interval.mean),
        "low": float(interval.low),
        "high": float(interval.high),
        "verdict": verdict(interval),
        "p": paired_p(differences),
        "p_holm": float("nan"),
        "boot_low": boot.low,
        "boot_high": boot.high,
        "correlation": means[arm].corr(means[base]) if len(seeds) > 2 else float("nan"),
    }
    for metric in BESIDE:
        if metric in table and table[metric].notna().all():
            beside = paired_interval(paired(found, arm, base, metric)[1])
            row |= {f"{metric}_difference": float(beside.mean)}
            row |= {f"{metric}_low": float(beside.low), f"{metric}_high": float(beside.high)}
    return row


def _bootstrap(found: Runs, arm: str, base: str, seeds: list[int]) -> Interval:
    persons = paired_persons(found, arm, base, seeds)
    if persons is None:
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap_interval(*persons)


def arm_means(found: Runs) -> pd.DataFrame:
    """One row an arm: runs, mean and standard deviation over seeds of OKS, AP, AP75, PCK, error."""
    measured = [name for name in (OUTCOME, *BESIDE, "median_error") if name in found.table]
    groups = found.table.groupby("arm", sort=False)[measured]
    means, spread = groups.mean(), groups.std().add_suffix("_sd")
    table = pd.concat([groups.size().rename("runs"), means, spread], axis=1)
    return table.reset_index()


def with_errors(found: Runs) -> Runs:
    """The runs with `median_error`, over all annotated keypoints, in their table."""
    table = found.table.copy()
    table["median_error"] = [
        _median_error(found.persons.get((row.arm, row.seed))) for row in table.itertuples()
    ]
    return Runs(table, found.persons)


def _median_error(persons: Persons | None) -> float:
    return float("nan") if persons is None else float(np.nanmedian(persons.errors))


def keypoint_errors(found: Runs, names: Iterable[str]) -> pd.DataFrame:
    """One row an arm and keypoint: its median error, averaged over seeds, and its spread.

    Args:
        found: runs of one skeleton.
        names: of its keypoints.
    """
    rows = []
    for arm in dict.fromkeys(arm for arm, _ in found.persons):
        medians = np.stack(
            [np.nanmedian(p.errors, axis=0) for (a, _), p in found.persons.items() if a == arm]
        )
        for keypoint, values in zip(names, medians.T, strict=True):
            spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            rows.append({"arm": arm, "keypoint": keypoint, "median_error": float(values.mean())})
            rows[-1]["median_error_sd"] = spread
    return pd.DataFrame(rows)


def curves(runs: Path, arms: Iterable[str]) -> pd.DataFrame:
    """One row a run and evaluated epoch: arm, seed, epoch and the metrics of its history."""
    tables = []
    for arm in arms:
        for path in sorted((runs / "train").glob(f"{arm}-seed*/history.csv")):
            seed = path.parent.name.rpartition("-seed")[2]
            if seed.isdecimal() and path.parent.name == f"{arm}-seed{seed}":
                history = pd.read_csv(path)
                history.insert(0, "arm", arm)
                history.insert(1, "seed", int(seed))
                tables.append(history)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def reliability(found: Runs, arms: Iterable[str], bins: int = 10) -> pd.DataFrame:
    """How much a predicted peak's height says about its error.

    Args:
        found: the runs.
        arms: to tell of, all seeds of an arm together.
        bins: of equally many keypoints.

    Returns:
        One row an arm and bin: its mean `height`, the `median_error` in square roots of the
        person's area, the number of `keypoints`, and the arm's `rank_correlation` of height and
        error (Spearman), the same in all of its rows.
    """
    rows = []
    for arm in arms:
        persons = [p for (name, _), p in found.persons.items() if name == arm]
        if not persons:
            continue
        heights = np.concatenate([p.scores[~np.isnan(p.errors)] for p in persons])
        errors = np.concatenate([p.errors[~np.isnan(p.errors)] for p in persons])
        correlation = float(pd.Series(heights).rank().corr(pd.Series(errors).rank()))
        for part in np.array_split(np.argsort(heights, kind="stable"), bins):
            if len(part):
                rows.append(
                    {
                        "arm": arm,
                        "height": float(heights[part].mean()),
                        "median_error": float(np.median(errors[part])),
                        "keypoints": len(part),
                        "rank_correlation": correlation,
                    }
                )
    return pd.DataFrame(rows)
