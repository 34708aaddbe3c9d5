"""Gathers finished runs <arm>-seed<seed>: numbers, protocol, origin, each person's OKS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hwl.errors import HwlError
from hwl.evaluation.persons import PERSONS_FILE, Persons, read_persons
from hwl.files import read_json
from hwl.runs.record import is_of_other_weights

# What runs must share for their numbers to compare: how they were tested and on what they were
# trained and tested. The columns of a table of runs; those a table lacks are not asked for.
PROTOCOL = (
    *("boxes", "boxes_from", "flip", "decode", "runtime", "input", "images", "persons"),
    *("test_split", "test_limit", "test_inputs"),
    *("train_data", "train_split", "train_limit", "train_inputs", "precision"),
)
# What runs of one seed must share besides. Seeds may come from several machines, and images drawn
# there differ by rounding between processors.
PROTOCOL_OF_A_SEED = ("train_images", "test_images")
# Parameters of the training to tell beside a run's numbers.
RECIPE = (
    *("train_split", "train_limit", "precision", "model", "weight_function", "sigma", "lr"),
    *("batch_size", "epochs"),
)
NAME = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")


@dataclass(frozen=True)
class Runs:
    """Finished runs of an experiment.

    Attributes:
        table: one row a run: arm, seed, numbers, protocol, origin.
        persons: the test persons of each run, by (arm, seed); runs without them are left out.
    """

    table: pd.DataFrame
    persons: Mapping[tuple[str, int], Persons]

    def seeds(self, arm: str) -> set[int]:
        """Seeds of an arm's runs."""
        return set(self.table.loc[self.table["arm"] == arm, "seed"])


def gather(evaluations: Path, arms: Iterable[str]) -> Runs:
    """The evaluated runs of arms.

    Args:
        evaluations: folder of evaluation runs <arm>-seed<seed>; the folder `train` beside it tells
            of their training, where it is there.
        arms: names; the table has them in this order, and of each its seeds in theirs.

    Raises:
        HwlError: a run's file is broken.
    """
    wanted, found, rows, persons = list(arms), [], [], {}
    for path in evaluations.glob("*-seed*/metrics.json"):
        name = NAME.fullmatch(path.parent.name)  # what a killed run left ends otherwise
        if name and name["arm"] in wanted:
            found.append((wanted.index(name["arm"]), int(name["seed"]), path))
    for place, seed, path in sorted(found):
        arm = wanted[place]
        if (path.parent / PERSONS_FILE).exists():
            persons[arm, seed] = read_persons(path.parent / PERSONS_FILE)
        trained = evaluations.parent / "train" / path.parent.name
        if is_of_other_weights(path.parent, trained):
            raise HwlError(f"{path.parent} is of other weights than {trained} left: make it again")
        rows.append({"arm": arm, "seed": seed} | _row(path, trained))
    return Runs(pd.DataFrame(rows, columns=None if rows else ["arm", "seed"]), persons)


def _row(metrics: Path, trained: Path) -> dict[str, object]:
    """Numbers, protocol and origin of one evaluation and, where it is there, of its training."""
    row: dict[str, object] = dict(read_json(metrics))
    record = metrics.with_name("run.json")
    if not record.exists():
        return row
    run = read_json(record)
    told, recipe = run.get("config", {}), run.get("trained", {})
    row["test_split"], row["test_limit"] = told.get("split"), told.get("limit")
    row["test_inputs"], row["test_images"] = _data(run)
    row["train_data"] = Path(str(recipe.get("data", ""))).name or "unknown"
    row |= {name: recipe.get(name) for name in RECIPE}
    row["model_options"] = json.dumps(recipe.get("model_options", {}))
    row |= _origin(run)
    if (trained / "run.json").exists():
        training = read_json(trained / "run.json")
        row["train_inputs"], row["train_images"] = _data(training)
        row["precision"] = training.get("precision", row["precision"])  # which "auto" was
        row |= {f"train_{name}": value for name, value in _origin(training).items()}
    if (trained / "history.csv").exists():
        row["train_seconds"] = round(float(pd.read_csv(trained / "history.csv")["seconds"].sum()))
    return row


def _data(run: Mapping) -> tuple[str, str]:
    """Fingerprints of a run's data without its weights: its files, and its images' contents."""
    told = {name: f"{name} {value}" for name, value in sorted(run.get("inputs", {}).items())}
    told.pop("weights", None)
    images = [told.pop(name) for name in list(told) if name.endswith("images")]
    return "; ".join(told.values()), "; ".join(images)


def _origin(run: Mapping) -> dict[str, object]:
    git, hardware = run.get("git") or {}, run.get("hardware", {})
    return {
        "commit": git.get("commit", "unknown"),
        "clean": git.get("dirty") is False,
        "cpu": hardware.get("gpu") or hardware.get("cpu", "unknown"),
    }


def check_protocol(table: pd.DataFrame, where: str) -> None:
    """HwlError unless all runs of a table were trained and tested alike, those of an arm wholly.

    Args:
        table: of `gather`.
        where: the runs are, for the message.
    """
    _check_alike(table, PROTOCOL, where)
    for _, runs in table.groupby("arm"):
        _check_alike(runs, (*RECIPE, "model_options"), where)
    for _, runs in table.groupby("seed"):
        _check_alike(runs, PROTOCOL_OF_A_SEED, where)


def _check_alike(table: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    for column in columns:
        if column not in table:
            continue
        values = table[column].astype(str)
        if values.nunique() > 1:
            first = table.loc[values != values.iloc[0]].iloc[0]
            raise HwlError(
                f"{where}: the runs differ in '{column}' and do not compare: "
                f"{table.iloc[0]['arm']}-seed{table.iloc[0]['seed']} has {values.iloc[0]!r}, "
                f"{first['arm']}-seed{first['seed']} {str(first[column])!r}; make them alike"
            )


def paired(runs: Runs, arm: str, base: str, column: str) -> tuple[list[int], np.ndarray]:
    """Common seeds of two arms, and (S,) differences of a column, arm minus base."""
    seeds = sorted(runs.seeds(arm) & runs.seeds(base))
    if not seeds:
        return [], np.zeros(0)
    values = runs.table.set_index(["arm", "seed"])[column]
    return seeds, np.array([values[arm, seed] - values[base, seed] for seed in seeds], np.float64)


def paired_persons(
    runs: Runs, arm: str, base: str, seeds: Iterable[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(S, P) differences of each person's OKS, arm minus base, and (P,) image ids.

    Returns:
        None where a run has no persons.

    Raises:
        HwlError: two runs were tested on other persons.
    """
    rows, first = [], None
    for seed in seeds:
        one, other = runs.persons.get((arm, seed)), runs.persons.get((base, seed))
        if one is None or other is None:
            return None
        first = first or one
        if not all(np.array_equal(first.annotation_ids, p.annotation_ids) for p in (one, other)):
            raise HwlError(f"{arm} and {base}, seed {seed}, were tested on other persons")
        rows.append(one.oks.astype(np.float64) - other.oks)
    return (np.stack(rows), first.image_ids) if first is not None else None
