"""The evidence experiment: its pilot, and what its runs say by the rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hwl.errors import HwlError
from hwl.evaluation.evaluate import KEYPOINTS_FILE, RELIABILITY_FILE
from hwl.files import read_json
from hwl.studies.design import Design, Stage
from hwl.studies.gathering import NAME, Runs, check_protocol, gather, paired, paired_persons
from hwl.studies.paired import (
    CONFIDENCE,
    EARLY_P,
    EFFECT,
    FEWEST_SEEDS,
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
    for column in ("commit", "train_commit"):
        if column in found.table and found.table[column].nunique() > 1:
            several = ", ".join(sorted(found.table[column].unique()))
            lines.append(f"one commit of all runs: '{column}' is {several}")
    return lines


def comparisons(design: Design, found: Runs, decided: int = 0) -> pd.DataFrame:
    """One row a comparison of the design that two arms' runs allow.

    Columns: stage, arm, base, pairs and how many were planned, data, input, test images and
    persons, the mean OKS of both, their difference with Student's 95 % interval over seeds (`low`,
    `high`), the verdict, `p`, Holm's `p_holm` within the stage, the bootstrap's interval over seeds
    and images (`boot_low`, `boot_high`), `correlation` of the two arms over seeds, and difference
    and interval of the metrics beside it.

    The main arms are compared at the seeds that all of them have. With fewer seeds than planned the
    verdict is "undecided", but for main arms with FEWEST_SEEDS or more and p below EARLY_P.

    Args:
        design: of the experiment.
        found: its runs.
        decided: the pilot's number of seeds (0: the most that are allowed).

    Raises:
        HwlError: two arms were tested or trained by another protocol.
    """
    found = _with_all_main_arms(design, found)
    tables = []
    for stage in design.stages:
        rows = [
            _comparison(found, stage, arm, base, stage.seeds_of(decided))
            for arm, base in stage.compare
            if found.seeds(arm) & found.seeds(base)
        ]
        if rows:
            table = pd.DataFrame(rows)
            table["p_holm"] = holm(table["p"])
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _with_all_main_arms(design: Design, found: Runs) -> Runs:
    """The runs without those of main arms at seeds that another main arm lacks."""
    arms = list(design.piloted().arms)
    seeds = set.intersection(*map(found.seeds, arms))
    kept = ~found.table["arm"].isin(arms) | found.table["seed"].isin(seeds)
    return Runs(found.table[kept], found.persons)


def _comparison(found: Runs, stage: Stage, arm: str, base: str, planned: int) -> dict[str, object]:
    table = found.table[found.table["arm"].isin([arm, base])]
    check_protocol(table, f"comparison of {arm} with {base}")
    seeds, differences = paired(found, arm, base, OUTCOME)
    interval = paired_interval(differences)
    boot = _bootstrap(found, arm, base, seeds)
    p = paired_p(differences)
    early = bool(stage.pilot) and len(seeds) >= FEWEST_SEEDS and p < EARLY_P
    decides = len(seeds) >= planned or early
    means = table[table["seed"].isin(seeds)].pivot(index="seed", columns="arm", values=OUTCOME)
    row = {
        "stage": stage.name,
        "arm": arm,
        "base": base,
        "pairs": len(seeds),
        "planned": planned,
        "data": table["train_data"].iloc[0],
        **{name: table[name].iloc[0] for name in ("input", "images", "persons")},
        "arm_OKS": means[arm].mean(),
        "base_OKS": means[base].mean(),
        "difference": float(interval.mean),
        "low": float(interval.low),
        "high": float(interval.high),
        "verdict": verdict(interval) if decides else f"undecided: {len(seeds)} of {planned} seeds",
        "p": p,
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


def sentence(row: Any) -> str:
    """What a comparison found, in words that follow its verdict.

    Args:
        row: of `comparisons`, as `itertuples` gives it.
    """
    said = (
        f"{100 * row.difference:+.2f} points of mean OKS on {row.data} at {row.input}, 95 % "
        f"interval {100 * row.low:+.2f} to {100 * row.high:+.2f} over {row.pairs}"
        f"{f' of {row.planned}' * (row.pairs < row.planned)} pairs, Holm's p {row.p_holm:.2g}"
    )
    if row.verdict in ("supported", "contradicted") and row.p_holm >= 1 - CONFIDENCE:
        said += ", which is within noise after Holm"
    if FEWEST_SEEDS <= row.pairs < row.planned:
        said += f"; p is {row.p:.2g}, and with seeds to come it decides below {EARLY_P}"
    if row.low <= 0 <= row.high and max(-row.low, row.high) > EFFECT:
        said += f"; {100 * EFFECT:.1f} points are not excluded"
    if not np.isnan(row.boot_low) and (row.low <= 0 <= row.high) != (
        row.boot_low <= 0 <= row.boot_high
    ):
        ends = f"{100 * row.boot_low:+.2f} to {100 * row.boot_high:+.2f}"
        said += f"; over seeds and images together {ends}, which says otherwise"
    return said


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


def with_errors(found: Runs, runs: Path) -> Runs:
    """The runs with `median_error`, the mean over keypoints of their median errors, in the table.

    Args:
        found: the runs.
        runs: folder that they were gathered from.
    """
    errors = tables_of(runs / "evaluate", found.table["arm"].unique(), KEYPOINTS_FILE)
    if errors.empty:
        return found
    means = errors.groupby(["arm", "seed"])["median error"].mean().rename("median_error")
    return Runs(found.table.join(means, on=["arm", "seed"]), found.persons)


def tables_of(folder: Path, arms: Iterable[str], name: str) -> pd.DataFrame:
    """A table of each run <arm>-seed<seed> in a folder, one below the other, with arm and seed."""
    wanted, tables = list(arms), []
    for path in sorted(folder.glob(f"*/{name}")):
        run = NAME.fullmatch(path.parent.name)  # what a killed run left ends otherwise
        if run and run["arm"] in wanted:
            table = pd.read_csv(path)
            table.insert(0, "arm", run["arm"])
            table.insert(1, "seed", int(run["seed"]))
            tables.append(table)
    tables.sort(key=lambda table: (wanted.index(table["arm"][0]), table["seed"][0]))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def keypoint_errors(runs: Path, arms: Iterable[str]) -> pd.DataFrame:
    """One row an arm and keypoint: its median error, averaged over seeds, and its spread.

    Args:
        runs: folder of the experiment.
        arms: to tell of, all tested on one skeleton.
    """
    table = tables_of(runs / "evaluate", arms, KEYPOINTS_FILE)
    if table.empty:
        return table
    errors = table.groupby(["arm", "keypoint"], sort=False)["median error"]
    columns = {"median_error": errors.mean(), "median_error_sd": errors.std()}
    return pd.DataFrame(columns).reset_index()


def curves(runs: Path, arms: Iterable[str]) -> pd.DataFrame:
    """One row a run and evaluated epoch: arm, seed, epoch and the metrics of its history."""
    return tables_of(runs / "train", arms, "history.csv")


def reliability(runs: Path, arms: Iterable[str]) -> pd.DataFrame:
    """How much a predicted peak's height says about its error.

    Args:
        runs: folder of the experiment.
        arms: to tell of.

    Returns:
        One row an arm and bin of `hwl.evaluation.evaluate.reliability_table`: its `height`,
        `median_error` and the arm's `rank_correlation`, means over seeds.
    """
    table = tables_of(runs / "evaluate", arms, RELIABILITY_FILE)
    if table.empty:
        return table
    means = table.groupby(["arm", "bin"], sort=False).mean().reset_index()
    return means.drop(columns="seed").rename(columns=lambda name: name.replace(" ", "_"))
