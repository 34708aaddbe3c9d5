"""The paper's claims, each beside what a profile's runs measured, and a verdict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hwl import paper
from hwl.reporting.figures import counted
from hwl.runs.record import Record, finished_files

COLUMNS = ("claim", "paper", "here", "verdict")
COCO_PERSONS = 104_125  # detected boxes of the published file of COCO val2017
NOT_RUN = "not tested here"
POINTS = 0.01  # AP within which an accuracy counts as the paper's
SIZE = "256x192"


def claims(runs: Path) -> pd.DataFrame:
    """One row a claim: what the paper says, what was measured here, and the verdict.

    Args:
        runs: folder of a profile's runs.

    Returns:
        Columns of COLUMNS. A verdict begins with "confirmed", "not confirmed" or "not tested".
    """
    rows = [*_size(runs), *_accuracy(runs), *_loss(runs), *_speed(runs)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _size(runs: Path) -> list[tuple[str, str, str, str]]:
    published = paper.COCO_VAL.set_index("input").loc[SIZE]
    _, claim, said = paper.CLAIMS["size"]
    found = finished_files(runs, f"speed*/counting-{SIZE}.csv")
    if not found:
        return [(claim, said, "not counted", NOT_RUN)]
    ours = pd.read_csv(found[0]).set_index("model").loc["ours"]
    here = (
        f"{ours['parameters']:,.0f} parameters; {ours['mmcv count (M)'] / 1000:.3f} G by mmcv's "
        f"counter, {ours['conv MACs (M)'] / 1000:.3f} G multiply-accumulates"
    )
    equal = f"{ours['mmcv count (M)'] / 1000:.2f}" == f"{published['GFLOPs']:.2f}"
    return [(claim, said, here, "confirmed, counted" if equal else "not confirmed")]


def _accuracy(runs: Path) -> list[tuple[str, str, str, str]]:
    """AP by the paper's protocol, on COCO where that was run."""
    best = None
    for path in finished_files(runs, "evaluate/*/protocols.csv"):
        table = pd.read_csv(path)
        if "AP" not in table:
            continue
        table = table[(table["boxes"] == "detected") & table["flip"]]
        for row in table.to_dict("records"):
            if row["persons"] == COCO_PERSONS and row["input"] == SIZE:
                published = paper.COCO_VAL.set_index("input").loc[SIZE, "AP"] / 100
                near = abs(row["AP"] - published) <= POINTS
                verdict = "confirmed" if near else "not confirmed"
                return [_accuracy_row(f"AP {row['AP']:.3f} ({path.parent.name})", verdict)]
            if best is None or row["AP"] > best[1]["AP"]:
                best = path, row
    if best is None:
        return [_accuracy_row("not run: it takes COCO and a GPU", NOT_RUN)]
    path, row = best
    data = Path(Record(path.with_name("run.json")).entry("config", "data")).name
    here = f"not run on COCO; AP {row['AP']:.3f} on {data}, another task ({path.parent.name})"
    return [_accuracy_row(here, NOT_RUN)]


def _accuracy_row(here: str, verdict: str) -> tuple[str, str, str, str]:
    _, claim, said = paper.CLAIMS["accuracy"]
    return claim, said, here, verdict


def _loss(runs: Path) -> list[tuple[str, str, str, str]]:
    _, claim, said = paper.CLAIMS["loss"]
    path = runs / "ablations" / "comparison.csv"
    if not path.exists():
        return [(claim, said, "no comparison of losses", NOT_RUN)]
    table = pd.read_csv(path)
    column = next((name for name in table if str(name) == "difference to mse"), None)
    ours = table[table["variant"] == "ours"]
    if column is None or not len(ours):
        return [(claim, said, "no comparison of losses", NOT_RUN)]
    row = ours.iloc[0]
    difference = f"{row[column]:+.4f} AP, {counted(int(row['seeds']), 'seed')} each"
    if row["verdict"] == "beyond noise":
        verdict = "confirmed here" if row[column] > 0 else "not confirmed: MSE is ahead"
    else:
        verdict = f"not confirmed: {row['verdict']}"
    return [(claim, said, difference, verdict)]


def _speed(runs: Path) -> list[tuple[str, str, str, str]]:
    _, claim, text = paper.CLAIMS["speed"]
    found = finished_files(runs, "speed*/latencies-*.csv")
    if not found:
        return [(claim, text, "not timed", NOT_RUN)]
    fps = pd.concat(_eager(pd.read_csv(path)) for path in found).groupby(level=0)
    median, low, high = fps.median(), fps.min(), fps.max()
    if "ours" not in median:
        return [(claim, text, "not timed", NOT_RUN)]
    ratios = median["ours"] / median.drop("ours")
    spread = f" ({low['ours']:.1f} to {high['ours']:.1f} in {len(found)} runs)" * (len(found) > 1)
    here = f"{median['ours']:.1f} FPS{spread} in eager PyTorch on one thread"
    if not len(ratios):
        return [(claim, text, here, NOT_RUN)]
    here += f"; {ratios.min():.1f} to {ratios.max():.1f} times as fast as its {len(ratios)} peers"
    return [(claim, text, here, _verdict_on_order(ratios))]


def _verdict_on_order(ratios: pd.Series) -> str:
    """Whether ours is ahead of the same peers as in the paper.

    Args:
        ratios: speed of ours over each peer's, by peer.
    """
    published = paper.SPEED.set_index("model")["FPS_CPU"]
    ahead = published["ours"] > published[ratios.index]
    if ((ratios > 1) == ahead).all():
        return "confirmed: the paper's order"
    if ratios.min() > 1:
        behind = ", ".join(ahead.index[~ahead])
        return f"confirmed, in another order: ahead of {behind} too"
    return "not confirmed: another order"


def _eager(latencies: pd.DataFrame) -> pd.Series:
    """FPS by model in eager PyTorch, on the fewest CPU threads at the smallest batch."""
    rows = latencies[(latencies["device"] == "cpu") & (latencies["runtime"] == "eager")]
    rows = rows[(rows["threads"] == rows["threads"].min()) & (rows["batch"] == rows["batch"].min())]
    return rows.set_index("model")["FPS"]
