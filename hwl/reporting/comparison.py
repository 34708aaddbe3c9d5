"""A user's runs of a profile compared with the published ones, number by number.

Two trainings from one seed on two processors are two draws: rounding differs, and training
amplifies it. So a number counts as reproduced if it differs from the published one by at most
sqrt(2) times the distance from that to the end of its 95 % interval: the standard error of a
difference of two independent measurements with the same standard error is sqrt(2) times theirs. The
intervals are the published bootstrap ones over images; PCK and PCKh have none and get the binomial
one over persons. Speed is compared on the same kind of machine only, where it must be within a
quarter, for busy machines differ by that. Counts must be equal.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from hwl.errors import HwlError
from hwl.files import read_json
from hwl.runs.provenance import recorded_config
from hwl.runs.record import Record, is_of_other_weights
from hwl.training.config import differing

WIDENED = math.sqrt(2)
SPEED_MARGIN = 0.25  # of the published speed
COLUMNS = ("number", "published", "low", "high", "yours", "verdict")
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOTHING = "Nothing is published to compare with."
METRICS = ("AP", "PCK", "PCKh")
COUNTS = ("parameters", "conv MACs (M)")
# What two evaluations must share for their numbers to compare, beside boxes and flip test.
PROTOCOL = ("decode", "runtime", "input", "images", "persons")


def compare_runs(yours: Path, published: Path) -> pd.DataFrame:
    """One row a published number: accuracy, differences of variants, counts and speed.

    Args:
        yours: folder of a profile's runs, `runs/<profile>`.
        published: the same of the published ones, `results/<profile>`.

    Returns:
        Columns `number`, `published`, `low` and `high` (its 95 % interval), `yours`, `verdict`:
        "reproduced", "not reproduced", "same sign" or "sign changed" of a difference, or why the
        two do not compare, such as "other machine", "other epochs" of the training, or "other
        weights" where yours were evaluated before they were trained anew.

    Raises:
        HwlError: the folder of your runs is missing.
    """
    if not yours.is_dir():
        raise HwlError(f"{yours} is not there: `make reproduce PROFILE={yours.name}` makes it")
    rows = [
        *_accuracies(yours, published),
        *_differences(yours, published),
        *_counts(yours, published),
        *_speeds(yours, published),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def in_words(comparison: pd.DataFrame) -> str:
    """The comparison as plain text, with how many numbers were reproduced."""
    if not len(comparison):
        return NOTHING
    table = comparison.to_string(index=False, na_rep="", float_format="{:.3f}".format)
    return f"{table}\n\n{summary(comparison)}"


def summary(comparison: pd.DataFrame) -> str:
    """One line: how many numbers were reproduced, and which were not."""
    if not len(comparison):
        return NOTHING
    verdicts = comparison["verdict"]
    judged = verdicts.isin([REPRODUCED, NOT_REPRODUCED])
    line = f"{int((verdicts == REPRODUCED).sum())} of {int(judged.sum())} numbers reproduced"
    missed = comparison.loc[verdicts == NOT_REPRODUCED, "number"].tolist()
    return f"{line}; not reproduced: {'; '.join(missed)}" if missed else line


def _accuracies(yours: Path, published: Path) -> list[tuple]:
    rows = []
    for path in sorted(published.glob("evaluate*/*/protocols.csv")):
        run = path.parent.relative_to(published)
        mine = _table(yours / run / path.name, "boxes", "flip")
        made = _made_otherwise(yours, published, run.name) or (
            "other weights" if is_of_other_weights(yours / run, yours / "train" / run.name) else ""
        )
        for _, row in pd.read_csv(path).iterrows():
            metric = next((name for name in METRICS if name in row), None)
            if metric is None:
                continue
            low, high = _interval(row, metric)
            flip = "flip test" if row["flip"] else "no flip"
            number = f"{run.as_posix()}: {metric}, {row['boxes']} boxes, {flip}"
            value, verdict = _against(row, mine, metric)
            verdict = verdict or made or judge(value, row[metric], low, high)
            rows.append((number, row[metric], low, high, value, verdict))
    return rows


def _table(path: Path, *columns: str) -> pd.DataFrame | None:
    """A table of yours, or None where it was not made or has not these columns."""
    try:
        table = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return None
    return table if {*columns} <= {*table.columns} else None


def _made_otherwise(yours: Path, published: Path, run: str) -> str:
    """In which field of its recipe a training of yours differs from the published one, or ""."""
    record = Path("train", run, "run.json")
    mine, theirs = recorded_config(yours / record), recorded_config(published / record)
    shared = {name: value for name, value in theirs.items() if name in mine}
    return next((f"other {name}" for name in differing(shared, mine)), "")


def judge(value: float, published: float, low: float, high: float) -> str:
    """Whether a number is within the published one's 95 % interval, widened by sqrt(2)."""
    bottom = published - WIDENED * (published - low)
    top = published + WIDENED * (high - published)
    return REPRODUCED if bottom <= value <= top else NOT_REPRODUCED


def _against(row: pd.Series, mine: pd.DataFrame | None, metric: str) -> tuple[float, str]:
    """The value of the same protocol in another table, and why it does not compare, or ""."""
    if mine is None:
        return float("nan"), "not made"
    same = mine[(mine["boxes"] == row["boxes"]) & (mine["flip"] == row["flip"])]
    if len(same) != 1 or metric not in same:
        return float("nan"), "not made"
    other = same.iloc[0]
    unlike = [name for name in PROTOCOL if row.get(name) != other.get(name)]
    return float(other[metric]), f"other {unlike[0]}" if unlike else ""


def _interval(row: pd.Series, metric: str) -> tuple[float, float]:
    """The 95 % interval in a table's row, or else the binomial one over persons."""
    if f"{metric}_low" in row:
        return row[f"{metric}_low"], row[f"{metric}_high"]
    half = 1.96 * math.sqrt(row[metric] * (1 - row[metric]) / row["persons"])
    return row[metric] - half, row[metric] + half


def _differences(yours: Path, published: Path) -> list[tuple]:
    """The difference of each variant to the baseline, by its sign: which loss was ahead."""
    name = Path("ablations") / "comparison.csv"
    if not (published / name).exists():
        return []
    theirs = pd.read_csv(published / name).set_index("variant")
    column = next(name for name in theirs if name.startswith("difference to "))
    baseline = column.removeprefix("difference to ")
    metric = next(name for name in theirs if name.startswith("mean ")).removeprefix("mean ")
    mine = _table(yours / name, "variant", column)
    mine = None if mine is None else mine.set_index("variant")
    rows = []
    for variant, row in theirs.drop(index=baseline, errors="ignore").iterrows():
        value, verdict = float("nan"), "not made"
        if mine is not None and variant in mine.index:
            value = mine.loc[variant, column]
            verdict = "same sign" if (value > 0) == (row[column] > 0) else "sign changed"
        number = f"{variant} minus {baseline}, {metric}"
        rows.append((number, row[column], row["95 % low"], row["95 % high"], value, verdict))
    return rows


def _counts(yours: Path, published: Path) -> list[tuple]:
    rows = []
    for path in sorted(published.glob("speed*/counting-*.csv")):
        own = yours / path.relative_to(published)
        mine = _table(own, "model", *COUNTS)
        mine = None if mine is None else mine.set_index("model")
        for _, row in pd.read_csv(path).iterrows():
            for column in COUNTS:
                value, verdict = float("nan"), "not made"
                if mine is not None and row["model"] in mine.index:
                    value = mine.loc[row["model"], column]
                    equal = math.isclose(value, row[column], rel_tol=1e-9)
                    verdict = REPRODUCED if equal else NOT_REPRODUCED
                number = f"{path.parent.name}: {row['model']}, {column}"
                rows.append((number, row[column], row[column], row[column], value, verdict))
    return rows


def _speeds(yours: Path, published: Path) -> list[tuple]:
    """The headline's FPS of its model; that of its fastest peer may be another one's elsewhere."""
    rows = []
    for path in sorted(published.glob("speed*/metrics.json")):
        own = yours / path.relative_to(published)
        theirs, mine = read_json(path), read_json(own) if own.exists() else {}
        same = own.exists() and _machine(own) == _machine(path)
        for name, fps in theirs.items():
            if not name.endswith("_FPS") or "peer" in name or fps is None:
                continue
            value = mine.get(name)
            if value is None:
                value, verdict = float("nan"), "not made"
            elif not same:
                verdict = "other machine"
            else:
                near = abs(value - fps) <= SPEED_MARGIN * fps
                verdict = REPRODUCED if near else NOT_REPRODUCED
            number = f"{path.parent.name}: {theirs['model']}, {name.removesuffix('_FPS')} FPS"
            low, high = fps * (1 - SPEED_MARGIN), fps * (1 + SPEED_MARGIN)
            rows.append((number, fps, low, high, value, verdict))
    return rows


def _machine(metrics: Path) -> list[object]:
    """Processor, cores and GPU of the run that a file of numbers belongs to."""
    hardware = Record(metrics.with_name("run.json")).entry("hardware")
    return [hardware.get(part) for part in ("cpu", "cores", "gpu")]
