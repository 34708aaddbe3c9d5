"""What follows from measured latencies: ratios, best batches, the headline, the paper's figure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from hwl import paper
from hwl.errors import HwlError
from hwl.runs.record import Record

EAGER, FUSED = "eager", "fused"
SETTING = ["device", "threads"]


def with_ratios(
    times: pd.DataFrame, peak_rate: pd.DataFrame, macs: Mapping[str, int]
) -> pd.DataFrame:
    """Latencies with "times eager" and "of peak_rate".

    Args:
        times: columns `model`, `runtime`, `precision`, `device`, `threads`, `batch`, `median_ms`.
        peak_rate: columns `device`, `threads`, `batch` and `GFLOP/s`.
        macs: multiply-accumulates of an image's convolutions by model.

    Returns:
        `times` and two columns: eager's median over this one in the same setting, and the time
        that two operations a multiply-accumulate take at the peak rate over this one, which is NaN
        unless the precision is float32.
    """
    here = [*SETTING, "batch"]
    eager = times.loc[times["runtime"] == EAGER, ["model", *here, "median_ms"]]
    eager = eager.rename(columns={"median_ms": "eager_ms"})
    joined = times.merge(eager, how="left", on=["model", *here])
    joined = joined.merge(peak_rate, how="left", on=here)
    least_ms = 2 * joined["model"].map(macs) / joined["GFLOP/s"] / 1e6
    joined["times eager"] = joined["eager_ms"] / joined["median_ms"]
    joined["of peak_rate"] = (least_ms / joined["median_ms"]).where(
        joined["precision"] == "float32"
    )
    return joined.drop(columns=["eager_ms", "GFLOP/s"])


def best_batches(latencies: pd.DataFrame) -> pd.DataFrame:
    """Of each model, runtime, device and threads the smallest batch and that of most FPS.

    Column `chosen` names them, "batch 1" and "best batch"; they may be the same. Where one batch
    alone was measured there is one row.
    """
    batches = latencies["batch"].unique()
    smallest = latencies[latencies["batch"] == batches.min()]
    smallest = smallest.assign(chosen=f"batch {batches.min()}")
    if len(batches) == 1:
        return smallest.reset_index(drop=True)
    model = ["model", "runtime", *SETTING]
    best = latencies.loc[latencies.groupby(model, sort=False)["FPS"].idxmax()]
    return pd.concat([smallest, best.assign(chosen="best batch")], ignore_index=True)


def fastest(latencies: pd.DataFrame, precision: str) -> pd.DataFrame:
    """Each model's row of most FPS among those of a precision; models without one are absent."""
    rows = latencies[latencies["precision"] == precision]
    return rows.loc[rows.groupby("model", sort=False)["FPS"].idxmax()].set_index("model")


def stage_choice(latencies: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Which models of one setting are timed from image to keypoints, with their best batches.

    Of each model eager, its fastest float32 runtime and int8: all would take too long.

    Returns:
        Batch by model and runtime.
    """
    best = best_batches(latencies).drop_duplicates(["model", "runtime"], keep="last")
    leaders = fastest(best, "float32")["runtime"]
    wanted = (
        (best["runtime"] == EAGER)
        | (best["precision"] == "int8")
        | (best["runtime"] == best["model"].map(leaders))
    )
    return {(row.model, row.runtime): row.batch for row in best[wanted].itertuples()}


def headline(latencies: pd.DataFrame, model: str = "ours") -> dict[str, object]:
    """The numbers that matter most: a model on fewest CPU threads at the smallest batch.

    Ratios of medians of one interleaved run; None where a runtime or the peers were not measured.

    Args:
        latencies: with the columns of `with_ratios`.
        model: the one that the others are peers of.
    """
    rows = latencies[latencies["device"] == "cpu"]
    rows = rows[rows["threads"] == rows["threads"].min()]
    rows = rows[rows["batch"] == rows["batch"].min()]
    found: dict[str, object] = {
        "model": model,
        "threads": int(rows["threads"].iloc[0]),
        "batch": int(rows["batch"].iloc[0]),
    }
    floats, ints = fastest(rows, "float32"), fastest(rows, "int8")
    fused = rows[rows["runtime"] == FUSED].set_index("model")
    for name, table in (("float32", floats), ("fused", fused), ("int8", ints)):
        own = table.loc[model] if model in table.index else None
        found[f"{name}_runtime"] = None if own is None else own["runtime"]
        found[f"{name}_FPS"] = None if own is None else own["FPS"]
        found[f"{name}_times_eager"] = None if own is None else own["times eager"]
    found["float32_of_peak_rate"] = floats["of peak_rate"].get(model)
    peers = ints["FPS"].drop(index=model, errors="ignore")
    found["int8_fastest_peer"] = peers.idxmax() if len(peers) else None
    found["int8_fastest_peer_FPS"] = peers.max() if len(peers) else None
    return found


def times_peers(latencies: pd.DataFrame, model: str = "ours") -> pd.DataFrame:
    """How many times faster a model is than each other one, in the paper and as measured.

    Args:
        latencies: with the columns of `with_ratios`.
        model: the one that the others are peers of.

    Returns:
        One row a peer: the paper's ratios on its CPU and GPU, NaN where it has none, then those at
        the smallest batch in eager PyTorch and in each one's fastest float32 and int8 runtimes, on
        the fewest CPU threads.
    """
    rows = latencies[latencies["device"] == "cpu"]
    rows = rows[(rows["batch"] == rows["batch"].min()) & (rows["threads"] == rows["threads"].min())]
    published = paper.SPEED.set_index("model")
    columns = {
        "paper, CPU": published["FPS_CPU"],
        "paper, GPU": published["FPS_GPU"],
        "here, eager": rows[rows["runtime"] == EAGER].set_index("model")["FPS"],
        "here, fastest float32": fastest(rows, "float32")["FPS"],
        "here, fastest int8": fastest(rows, "int8")["FPS"],
    }
    peers = [name for name in latencies["model"].unique() if name != model]
    ratios = {
        name: [fps.get(model, np.nan) / fps.get(peer, np.nan) for peer in peers]
        for name, fps in columns.items()
        if len(fps)
    }
    return pd.DataFrame({"peer": peers, **ratios})


def paper_figure_points(
    latencies: pd.DataFrame, counting: pd.DataFrame, accuracy: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The points of the paper's figure, its own and those measured here at the smallest batch.

    Args:
        latencies: as measured.
        counting: `hwl.speed.counting.counting_table` of the models.
        accuracy: columns `model`, `precision` and `AP`, measured (0 to 1), or None.

    Returns:
        One row a model and kind of point: `FPS`, `GFLOPs` (by mmcv's counter), `paper AP` in
        percent, `measured AP` in percent (NaN where there is none of that precision), and whether
        the FPS are the `paper`'s.
    """
    batch = latencies["batch"].min()
    rows = latencies[latencies["batch"] == batch]
    cpu = rows[rows["device"] == "cpu"]
    few, most = int(cpu["threads"].min()), int(cpu["threads"].max())
    parts = {f"eager, {_threads(few)}": cpu[(cpu["runtime"] == EAGER) & (cpu["threads"] == few)]}
    for where, here in (
        (_threads(most), cpu[cpu["threads"] == most]),
        ("GPU", rows[rows["device"] == "cuda"]),
    ):
        for precision in here["precision"].unique():
            parts[f"fastest {precision}, {where}"] = fastest(here, precision)
    published = [
        paper.SPEED[["model", f"FPS_{kind}"]]
        .set_axis(["model", "FPS"], axis=1)
        .assign(kind=f"paper, {kind}", paper=True, precision="float32")
        for kind in ("CPU", "GPU")
    ]
    measured = [
        part.reset_index()[["model", "FPS", "precision"]].assign(kind=kind, paper=False)
        for kind, part in parts.items()
        if len(part)
    ]
    points = pd.concat(published + measured, ignore_index=True)
    sizes = counting[["model"]].assign(GFLOPs=counting["mmcv count (M)"] / 1000)
    aps = paper.SPEED[["model", "AP"]].rename(columns={"AP": "paper AP"})
    # What was not counted is left out; a model that the paper does not have stays, without its AP.
    points = points.merge(sizes, on="model").merge(aps, how="left", on="model")
    if accuracy is None:
        return points.assign(**{"measured AP": np.nan})
    own = accuracy.assign(**{"measured AP": 100 * accuracy["AP"]})
    own = own[["model", "precision", "measured AP"]]
    return points.merge(own, how="left", on=["model", "precision"])


def _threads(count: int) -> str:
    return f"{count} CPU thread{'s' * (count > 1)}"


def measured_accuracy(folder: Path, models: list[str]) -> pd.DataFrame:
    """AP (0 to 1) of evaluated models, with ground-truth boxes and the flip test.

    Args:
        folder: evaluation runs, <model>-seed0/protocols.csv; those in int8 are looked for in the
            folder beside it whose name ends in _int8.
        models: those to look for; one that was not evaluated has no row.

    Returns:
        Columns `model`, `precision`, `AP` and `on`, the data and input size that it is of.

    Raises:
        HwlError: none of them was evaluated so.
    """
    rows = []
    kinds = {"float32": folder, "int8": folder.with_name(f"{folder.name}_int8")}
    for (precision, parent), model in itertools.product(kinds.items(), models):
        path = parent / f"{model}-seed0" / "protocols.csv"
        if not path.exists():
            continue
        table = pd.read_csv(path)
        table = table[(table["boxes"] == "ground-truth") & table["flip"]]
        for row in table.to_dict("records") if "AP" in table else []:
            data = Path(Record(path.with_name("run.json")).entry("config", "data")).name
            same = {"model": model, "precision": precision, "AP": row["AP"]}
            rows.append(same | {"on": f"{data} at {row['input']}"})
    if not rows:
        raise HwlError(
            f"{folder} has no <model>-seed0/protocols.csv with an AP of ground-truth boxes and "
            "flip test: name the folder of evaluation runs, or leave 'accuracy' empty"
        )
    return pd.DataFrame(rows)
