"""The evidence experiment's outputs: what its pilot decided, a trace, and the report."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch

from hwl.config import build
from hwl.errors import HwlError
from hwl.files import write_json, write_table
from hwl.inference.runtimes import prepare
from hwl.inference.timing import latencies
from hwl.models import create_model
from hwl.paths import PUBLISHED
from hwl.reporting import evidence_figures
from hwl.reporting.figures import save
from hwl.reporting.page import write_page
from hwl.reporting.paper_and_here import as_markdown, paper_and_here
from hwl.runs.folder import new_run
from hwl.runs.provenance import provenance
from hwl.speed.counting import count
from hwl.studies import evidence
from hwl.studies.config import EvidenceConfig
from hwl.studies.design import Design, Stage, load_design
from hwl.studies.gathering import Runs, gather
from hwl.studies.over_training import trace
from hwl.studies.paired import paired_interval
from hwl.training.config import TrainConfig

ROUNDS = 15  # of timing
SHOWN_STAGES = ("attention", "head")  # whose arms are drawn by their size


def write_pilot(config: EvidenceConfig) -> dict[str, object]:
    """Write how many seeds the main arms get, as `metrics.json`, and return it."""
    design = load_design(Path(config.profile))
    with new_run(config) as folder:
        decided = evidence.pilot(design, Path(config.runs))
        write_json(folder / "metrics.json", decided)
        write_json(folder / "run.json", provenance(config, {"profile": Path(config.profile)}))
    return decided


def write_trace(config: EvidenceConfig) -> pd.DataFrame:
    """Write what the weighting did in the first run of `config.arm`, as `trace.csv`."""
    recipe = load_design(Path(config.profile)).recipe(config.arm, 0)
    trained = str(Path(config.runs) / "train" / f"{config.arm}-seed0")
    with new_run(config) as folder:
        table = trace(build(TrainConfig, {"output": trained, **recipe}))
        write_table(folder / "trace.csv", table.to_dict("records"))
        write_json(folder / "run.json", provenance(config, {}))
    return table


def write_report(config: EvidenceConfig) -> Path:
    """Write tables, figures and the page of the experiment's runs.

    The folder holds `runs.csv` (one row a run), `arms.csv`, `comparisons.csv`, `curves.csv`,
    `reliability.csv`, `trace.csv`, `sizes.csv`, `keypoints.csv`, `plan.csv`, `paper_and_here.csv`
    and the figures; `metrics.json` has the verdicts and what is missing. The page is `index.html`
    in the folder of the runs.

    Returns:
        The page.

    Raises:
        HwlError: there are no runs, they do not compare, or they are the published ones, whose page
            would be replaced.
    """
    design, runs = load_design(Path(config.profile)), Path(config.runs)
    if runs.resolve().is_relative_to(PUBLISHED):
        raise HwlError(f"{runs} is published: copy it to runs/ and make the report of the copy")
    found = gather(runs / "evaluate", design.arms())
    if found.table.empty:
        raise HwlError(f"{runs} has no evaluated run of {Path(config.profile).name}; make them")
    found = evidence.with_errors(found, runs)
    with new_run(config) as folder:
        seeds = evidence.decided(runs)
        tables = _tables(design, found, runs, seeds) | {"plan": pd.DataFrame(design.plan(seeds))}
        for name, table in tables.items():
            if not table.empty:
                write_table(folder / f"{name}.csv", table.to_dict("records"))
        for name, figure in evidence_figures.figures_of(tables):
            save(figure, folder, name)
        lacking = evidence.missing(design, found, seeds)
        lacking += [
            f"{arm}: what the weighting does over training"
            for arm in design.trace
            if not (runs / "trace" / arm / "trace.csv").exists()
        ]
        told = tables["comparisons"].to_dict("records")
        origin = {name: sorted(set(found.table[name])) for name in ("commit", "clean", "cpu")}
        write_json(folder / "metrics.json", {"comparisons": told, "missing": lacking, **origin})
        write_json(folder / "run.json", provenance(config, {"profile": Path(config.profile)}))
        drawn = {path.stem for path in folder.glob("*.png")}
        text = as_text(tables, lacking, Path(config.output).name, drawn)
    cells = [nbformat.v4.new_markdown_cell(text)]
    write_page(nbformat.v4.new_notebook(cells=cells), runs / "index.html")
    return runs / "index.html"


def _tables(design: Design, found: Runs, runs: Path, seeds: int) -> dict[str, pd.DataFrame]:
    main = design.piloted().arms
    compared = evidence.comparisons(design, found, seeds)
    traces = {
        arm: pd.read_csv(path)
        for arm in design.trace
        if (path := runs / "trace" / arm / "trace.csv").exists()
    }
    drawn = [stage for stage in design.stages if stage.name in SHOWN_STAGES]
    return {
        "runs": found.table,
        "arms": evidence.arm_means(found),
        "comparisons": compared,
        "curves": evidence.curves(runs, main),
        "keypoints": evidence.keypoint_errors(runs, main),
        "reliability": evidence.reliability(runs, main),
        "trace": pd.concat(
            [table.assign(arm=arm) for arm, table in traces.items()], ignore_index=True
        )
        if traces
        else pd.DataFrame(),
        "sizes": sizes(found, design, drawn),
        "paper_and_here": paper_and_here(compared, PUBLISHED),
    }


def sizes(found: Runs, design: Design, stages: list[Stage]) -> pd.DataFrame:
    """One row an arm of some stages and of their bases: size, latency and mean OKS with interval.

    Latencies are of the runtime `eager` at batch 1, on as many threads as torch has: medians of
    interleaved rounds.
    """
    arms = dict.fromkeys(arm for stage in stages for pair in stage.compare for arm in pair)
    rows: list[dict[str, object]] = []
    tasks: dict[str, Callable[[], object]] = {}
    for arm in arms:
        runs = found.table[found.table["arm"] == arm]
        if runs.empty:
            continue
        recipe = build(TrainConfig, {"output": "-", **design.recipe(arm, 0)})
        model = create_model(recipe.model, **recipe.model_options).eval()
        size = recipe.input_height, recipe.input_width
        counts = count(model, size)
        tasks[arm] = partial(prepare(model, "eager", size), torch.zeros(1, 3, *size))
        # The same seeds for all, so that an arm of the main stage has no narrower interval.
        fewest = min(stage.seeds for stage in stages)
        interval = paired_interval(runs.loc[runs["seed"] < fewest, "OKS"].to_numpy())
        rows.append(
            {
                "arm": arm,
                "parameters_M": counts.parameters / 1e6,
                "macs_M": counts.macs / 1e6,
                "OKS": float(interval.mean),
                "low": float(interval.low),
                "high": float(interval.high),
            }
        )
    if not rows:
        return pd.DataFrame()
    seconds = latencies(tasks, ROUNDS)
    table = pd.DataFrame(rows)
    table["latency_ms"] = [1000 * float(np.median(seconds[arm])) for arm in table["arm"]]
    table["threads"] = torch.get_num_threads()
    return table


def as_text(
    tables: dict[str, pd.DataFrame], lacking: list[str], folder: str, drawn: Collection[str]
) -> str:
    """The report in Markdown; the figures that were drawn are in `folder` beside the page."""
    compared = tables["comparisons"]
    lines = ["# Does the weighting help?", "", "The design was fixed before: `docs/evidence.md`."]
    lines += [
        f"- **{row.arm} against {row.base}**: {row.verdict}; {evidence.sentence(row)}"
        for row in compared.itertuples()
    ]
    lines += ["", "## What is missing", ""]
    lines += [f"- {line}" for line in lacking] or ["Nothing."]
    for name, title in (
        ("forest", "Paired differences"),
        ("learning", "Learning curves"),
        ("accuracy_over_macs", "Attention and head"),
        ("over_training", "What the weighting does over training"),
        ("reliability", "Does a peak's height tell its error?"),
    ):
        if name in drawn:
            lines += ["", f"## {title}", "", f"![{title}]({folder}/{name}.png)"]
    for name, title, number in (
        ("plan", "Budget", "{:.1f}"),
        ("arms", "Arms", "{:.4f}"),
        ("comparisons", "Comparisons", "{:.4f}"),
    ):
        shown = tables[name].to_html(index=False, float_format=number.format, na_rep="")
        lines += ["", f"## {title}", "", shown]
    lines += ["", "## The paper and here", "", as_markdown(tables["paper_and_here"])]
    lines += ["", f"All runs: `{folder}/runs.csv`."]
    return "\n".join(lines)
