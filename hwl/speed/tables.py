"""What follows from measured latencies: ratios, best batches, the headline, the paper's figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from hwl import paper
from hwl.errors import HwlError

EAGER, REWRITTEN = "eager", "rewritten"
SETTING = ["device", "threads"]


def with_ratios(
    times: pd.DataFrame, roofline: pd.DataFrame, macs: Mapping[str, int]
) -> pd.DataFrame:
    """Latencies with "times eager" and "of roofline".

    Args:
        times: columns `system`, `runtime`, `precision`, `device`, `threads`, `batch`, `median_ms`.
        roofline: columns `device`, `threads`, `batch` and `GFLOP/s`.
        macs: multiply-accumulates of a picture's convolutions by system.

    Returns:
        `times` and two columns: eager's median over this one in the same setting, and the time
        that two operations a multiply-accumulate take at the roofline over this one, which is NaN
        unless the precision is float32.
    """
    here = [*SETTING, "batch"]
    eager = times.loc[times["runtime"] == EAGER, ["system", *here, "median_ms"]]
    eager = eager.rename(columns={"median_ms": "eager_ms"})
    joined = times.merge(eager, how="left", on=["system", *here])
    joined = joined.merge(roofline, how="left", on=here)
    least_ms = 2 * joined["system"].map(macs) / joined["GFLOP/s"] / 1e6
    joined["times eager"] = joined["eager_ms"] / joined["median_ms"]
    joined["of roofline"] = (least_ms / joined["median_ms"]).where(joined["precision"] == "float32")
    return joined.drop(columns=["eager_ms", "GFLOP/s"])


def best_batches(latencies: pd.DataFrame) -> pd.DataFrame:
    """Of each system, runtime, device and threads the smallest batch and that of most FPS.

    Column `chosen` names them, "batch 1" and "best batch"; they may be the same. Where one batch
    alone was measured there is one row.
    """
    batches = latencies["batch"].unique()
    smallest = latencies[latencies["batch"] == batches.min()]
    smallest = smallest.assign(chosen=f"batch {batches.min()}")
    if len(batches) == 1:
        return smallest.reset_index(drop=True)
    network = ["system", "runtime", *SETTING]
    best = latencies.loc[latencies.groupby(network, sort=False)["FPS"].idxmax()]
    return pd.concat([smallest, best.assign(chosen="best batch")], ignore_index=True)


def fastest(latencies: pd.DataFrame, precision: str) -> pd.DataFrame:
    """Each system's row of most FPS among those of a precision; systems without one are absent."""
    rows = latencies[latencies["precision"] == precision]
    return rows.loc[rows.groupby("system", sort=False)["FPS"].idxmax()].set_index("system")


def stage_choice(latencies: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Which networks of one setting are timed from picture to joints, with their best batches.

    Of each system eager, its fastest float32 runtime and int8: all would take too long.

    Returns:
        Batch by system and runtime.
    """
    best = best_batches(latencies).drop_duplicates(["system", "runtime"], keep="last")
    leaders = fastest(best, "float32")["runtime"]
    wanted = (
        (best["runtime"] == EAGER)
        | (best["precision"] == "int8")
        | (best["runtime"] == best["system"].map(leaders))
    )
    return {(row.system, row.runtime): row.batch for row in best[wanted].itertuples()}


def headline(latencies: pd.DataFrame, system: str = "ours") -> dict[str, object]:
    """The numbers that matter most: a system on fewest CPU threads at the smallest batch.

    Ratios of medians of one interleaved run; None where a runtime or the peers were not measured.

    Args:
        latencies: with the columns of `with_ratios`.
        system: the one that the others are peers of.
    """
    rows = latencies[latencies["device"] == "cpu"]
    rows = rows[rows["threads"] == rows["threads"].min()]
    rows = rows[rows["batch"] == rows["batch"].min()]
    found: dict[str, object] = {
        "system": system,
        "threads": int(rows["threads"].iloc[0]),
        "batch": int(rows["batch"].iloc[0]),
    }
    floats, ints = fastest(rows, "float32"), fastest(rows, "int8")
    rewritten = rows[rows["runtime"] == REWRITTEN].set_index("system")
    for name, table in (("float32", floats), ("rewritten", rewritten), ("int8", ints)):
        own = table.loc[system] if system in table.index else None
        found[f"{name}_runtime"] = None if own is None else own["runtime"]
        found[f"{name}_FPS"] = None if own is None else own["FPS"]
        found[f"{name}_times_eager"] = None if own is None else own["times eager"]
    found["float32_of_roofline"] = floats["of roofline"].get(system)
    peers = ints["FPS"].drop(index=system, errors="ignore")
    found["int8_fastest_peer"] = peers.idxmax() if len(peers) else None
    found["int8_fastest_peer_FPS"] = peers.max() if len(peers) else None
    return found


def paper_figure_points(
    latencies: pd.DataFrame, counting: pd.DataFrame, accuracy: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The points of the paper's figure, its own and those measured here at the smallest batch.

    Args:
        latencies: as measured.
        counting: `hwl.speed.counting.counting_table` of the systems.
        accuracy: columns `system` and `AP`, measured (0 to 1), or None.

    Returns:
        One row a system and kind of point: `FPS`, `GFLOPs` (by mmcv's counter), `paper AP` in
        percent, `measured AP` in percent (NaN where there is none), and whether the FPS are the
        `paper`'s.
    """
    batch = latencies["batch"].min()
    rows = latencies[latencies["batch"] == batch]
    cpu = rows[rows["device"] == "cpu"]
    few, most = int(cpu["threads"].min()), int(cpu["threads"].max())
    parts = {
        f"eager, {_threads(few)}": cpu[(cpu["runtime"] == EAGER) & (cpu["threads"] == few)],
        f"fastest float32, {_threads(most)}": fastest(cpu[cpu["threads"] == most], "float32"),
        f"fastest int8, {_threads(most)}": fastest(cpu[cpu["threads"] == most], "int8"),
    }
    gpu = rows[rows["device"] == "cuda"]
    parts["fastest float32, GPU"] = fastest(gpu, "float32")
    parts["fastest bfloat16, GPU"] = fastest(gpu, "bfloat16")
    published = [
        paper.SPEED[["system", f"FPS_{kind}"]]
        .set_axis(["system", "FPS"], axis=1)
        .assign(kind=f"paper, {kind}", paper=True)
        for kind in ("CPU", "GPU")
    ]
    measured = [
        part.reset_index()[["system", "FPS"]].assign(kind=kind, paper=False)
        for kind, part in parts.items()
        if len(part)
    ]
    points = pd.concat(published + measured, ignore_index=True)
    sizes = counting[["system"]].assign(GFLOPs=counting["mmcv count (M)"] / 1000)
    aps = paper.SPEED[["system", "AP"]].rename(columns={"AP": "paper AP"})
    points = points.merge(sizes, on="system").merge(aps, on="system")
    if accuracy is None:
        return points.assign(**{"measured AP": np.nan})
    own = accuracy.assign(**{"measured AP": 100 * accuracy["AP"]})[["system", "measured AP"]]
    return points.merge(own, how="left", on="system")


def _threads(count: int) -> str:
    return f"{count} CPU thread{'s' * (count > 1)}"


def measured_accuracy(folder: Path, systems: list[str]) -> pd.DataFrame:
    """AP (0 to 1) of evaluated systems, with ground-truth boxes and the flip test.

    Args:
        folder: evaluation runs, <system>-seed0/protocols.csv.
        systems: those to look for; one that was not evaluated has no row.

    Raises:
        HwlError: none of them was evaluated so.
    """
    rows = []
    for system in systems:
        path = folder / f"{system}-seed0" / "protocols.csv"
        if not path.exists():
            continue
        table = pd.read_csv(path)
        table = table[(table["boxes"] == "ground-truth") & table["flip"]]
        rows += [{"system": system, "AP": value} for value in table.get("AP", [])]
    if not rows:
        raise HwlError(
            f"{folder} has no <system>-seed0/protocols.csv with an AP of ground-truth boxes and "
            "flip test: name the folder of evaluation runs, or leave 'accuracy' empty"
        )
    return pd.DataFrame(rows)
