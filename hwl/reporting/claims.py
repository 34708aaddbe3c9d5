"""The paper's claims, each beside what a profile's runs measured, and a verdict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hwl import paper
from hwl.reporting.figures import counted
from hwl.runs.record import Record, finished_files
from hwl.speed.coco_size import DETECTIONS
from hwl.speed.repeated import over_runs

COLUMNS = ("claim", "paper", "here", "verdict")
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
    counts = pd.read_csv(found[0]).set_index("model")
    if "ours" not in counts.index:
        return [(claim, said, "not counted", NOT_RUN)]
    ours = counts.loc["ours"]
    here = (
        f"{ours['parameters']:,.0f} parameters; {ours['mmcv count (M)'] / 1000:.3f} G by mmcv's "
        f"counter, {ours['conv MACs (M)'] / 1000:.3f} G multiply-accumulates"
    )
    equal = f"{ours['mmcv count (M)'] / 1000:.2f}" == f"{published['GFLOPs']:.2f}"
    return [(claim, said, here, "confirmed, counted" if equal else "not confirmed")]


def _accuracy(runs: Path) -> list[tuple[str, str, str, str]]:
    """AP of "ours" by the paper's protocol, the mean over its seeds; on COCO where that was run."""
    rows = []
    for path in finished_files(runs, "evaluate/ours-seed*/protocols.csv"):
        table = pd.read_csv(path)
        if "AP" in table:
            table = table[(table["boxes"] == "detected") & table["flip"]]
            data = Record(path.with_name("run.json")).entry("config", "data")
            rows.append(table.assign(data=Path(data).name))
    found = pd.concat(rows) if rows else pd.DataFrame()
    if not len(found):
        return [_accuracy_row("not run: it takes COCO and a GPU", NOT_RUN)]
    on_coco = found[(found["persons"] == DETECTIONS) & (found["input"] == SIZE)]
    seeds = counted(len(on_coco) or len(found), "seed")
    if not len(on_coco):
        here = f"AP {found['AP'].mean():.3f} on {found['data'].iloc[0]}, another task ({seeds})"
        return [_accuracy_row(f"not run on COCO; {here}", NOT_RUN)]
    published = paper.COCO_VAL.set_index("input").loc[SIZE, "AP"] / 100
    near = abs(on_coco["AP"].mean() - published) <= POINTS
    here = f"AP {on_coco['AP'].mean():.3f} ({seeds})"
    return [_accuracy_row(here, "confirmed" if near else "not confirmed")]


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
    difference = f"{row[column]:+.4f} AP, {counted(int(row['pairs']), 'pair')} of seeds"
    if row["verdict"] == "beyond noise":
        verdict = "confirmed here" if row[column] > 0 else "not confirmed: MSE is ahead"
    else:
        verdict = f"not confirmed: {row['verdict']}"
    return [(claim, said, difference, verdict)]


def _speed(runs: Path) -> list[tuple[str, str, str, str]]:
    _, claim, text = paper.CLAIMS["speed"]
    found = eager_on_one_thread(runs)
    if "ours" not in found.index:
        return [(claim, text, "not timed", NOT_RUN)]
    ours = found.loc["ours"]
    spread = f" ({ours['FPS_low']:.1f} to {ours['FPS_high']:.1f} in {ours['runs']:.0f} runs)"
    here = f"{ours['FPS']:.1f} FPS{spread * bool(ours['runs'] > 1)} in eager PyTorch on one thread"
    ratios = ours["FPS"] / found["FPS"].drop("ours")
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


def eager_on_one_thread(runs: Path) -> pd.DataFrame:
    """Speeds as the paper's CPU column has them: eager PyTorch, one thread, batch 1, 256x192.

    Args:
        runs: folder of a profile's runs.

    Returns:
        `hwl.speed.repeated.over_runs` by model, of the setting and machine with the most models;
        empty where nothing was timed so.
    """
    table = over_runs(runs)
    if len(table):
        same = "runtime == 'eager' and device == 'cpu' and threads == 1 and batch == 1"
        table = table.query(f"{same} and input == '{SIZE}'")
    if not len(table):
        return table
    groups = [group for _, group in table.groupby(["setting", "machine"])]
    return max(groups, key=len).set_index("model")
