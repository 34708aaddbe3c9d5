"""Gathers the runs of a profile for the report notebook."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from IPython.display import HTML, Image, Markdown, display

from hwl.config import FilePath, check
from hwl.errors import HwlError
from hwl.evaluation.coco_ap import COCO_NUMBERS
from hwl.reporting.claims import claims
from hwl.reporting.comparison import summary as comparison_summary
from hwl.runs.record import Record, finished_files, origin, unlike_the_others

# The columns of `evaluations`.
SHOWN: tuple[str, ...] = (
    *("run", "data", "trained on", "F", "seed", "epochs"),
    *("boxes", "flip", "decode", "runtime", "input", "images", "persons"),
    *(*COCO_NUMBERS, "AP_low", "AP_high", "PCK", "PCKh", "OKS"),
)


@dataclass(frozen=True)
class ReportConfig:
    """A report on the runs of a profile."""

    kind: ClassVar[str] = "report"
    output: FilePath  # the run's folder
    runs: FilePath  # folder with train/, evaluate/ and the other runs

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def evaluations(config: ReportConfig) -> pd.DataFrame:
    """One row a protocol of every evaluation run: data, training, protocol and numbers.

    Returns:
        Empty, with columns, where models were timed and none was evaluated.

    Raises:
        HwlError: there is no run.
    """
    tables = []
    for path in each(config, "evaluate*/*/protocols.csv"):
        table = pd.read_csv(Path(config.runs) / path)
        record = Record((Path(config.runs) / path).with_name("run.json"))
        trained = record.entry("trained") if record.has("trained") else {}
        table.insert(0, "run", Path(path).parent.name)
        tested = {"data": record.entry("config", "data"), "split": record.entry("config", "split")}
        table.insert(1, "data", _split(tested, "split"))
        table.insert(2, "trained on", _split(trained, "train_split"))
        table.insert(3, "F", trained.get("weight_function", ""))
        table.insert(4, "seed", trained.get("seed", ""))
        table.insert(5, "epochs", trained.get("epochs", ""))
        tables.append(table)
    if not records(config):
        raise HwlError(f"{config.runs} has no runs; `make reproduce` makes them")
    if not tables:
        return pd.DataFrame(columns=["run", "boxes", "flip"])
    # Keypoints' own numbers of PCK runs, of any name, stay in their tables.
    table = pd.concat(tables)
    return table[[column for column in table if column in SHOWN]]


def _split(config: Mapping[str, Any], name: str) -> str:
    """Folder and split that a run's configuration names, "" where it names none."""
    return "/".join(
        str(part) for part in (Path(config.get("data", "")).name, config.get(name)) if part
    )


def summary(config: ReportConfig) -> HTML:
    """The paper's claims with what was measured here; on a phone each one a card."""
    table = claims(Path(config.runs))
    head = "".join(f"<th>{column}</th>" for column in table)
    rows = []
    for row in table.to_dict("records"):
        verdict = str(row["verdict"])
        kind = "good" if verdict.startswith("confirmed") else "bad"
        kind = "open" if verdict.startswith("not tested") else kind
        cells = "".join(
            f'<td data-label="{name}"{_class(kind) if name == "verdict" else ""}>'
            f"{html.escape(str(value))}</td>"
            for name, value in row.items()
        )
        rows.append(f"<tr>{cells}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return HTML(f'<table class="claims">{body}</table>')


def _class(kind: str) -> str:
    return f' class="{kind}"'


def comparison_table(compared: pd.DataFrame) -> HTML | Markdown:
    """`hwl.reporting.comparison.compare_runs` as a table, its summary below; counts left out."""
    if not len(compared):
        return Markdown("Nothing is published to compare these runs with.")
    ends = zip(compared["low"], compared["high"], strict=True)
    interval = ["" if pd.isna(low) else f"{low:.3f} to {high:.3f}" for low, high in ends]
    shown = compared.assign(**{"95 % interval": interval})
    shown = shown[["number", "published", "95 % interval", "yours", "verdict"]]
    counts = shown["number"].str.contains("parameters|MACs")
    return html_table(shown[~counts], comparison_summary(compared))


def accuracy(table: pd.DataFrame) -> HTML | Markdown:
    """`evaluations` as wide as a page: run, protocol, numbers, the interval in their own column."""
    if not len(table):
        return Markdown("*No model was evaluated.*")
    shown = table[["run", "data", "images", "input", "runtime"]].copy()
    flips = ["flip test" if flip else "no flip test" for flip in table["flip"]]
    shown["boxes"], shown["flip"] = table["boxes"], flips
    for metric in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "PCK", "PCKh"):
        if metric in table:
            shown[metric] = table[metric]
        if metric == "AP" and "AP_low" in table:
            ends = zip(table["AP_low"], table["AP_high"], strict=True)
            shown["95 % interval"] = [
                "" if pd.isna(low) else f"{low:.3f} to {high:.3f}" for low, high in ends
            ]
    return html_table(shown)


def trainings(config: ReportConfig, table: pd.DataFrame) -> HTML:
    """What each evaluated run was trained and tested on, with links to its notebooks and logs."""
    rows = []
    for run, group in table.groupby("run", sort=False):
        first = group.iloc[0]
        rows.append(
            {
                **{"run": run, "trained on": first["trained on"], "F": first["F"]},
                **{"seed": first["seed"], "epochs": first["epochs"], "input": first["input"]},
                **{"tested on": first["data"], "made by": links_of(config, str(run))},
            }
        )
    return html_table(pd.DataFrame(rows), escape=False)


def links_of(config: ReportConfig, run: str) -> str:
    """HTML links to a run's executed notebooks and logs, relative to the runs' folder."""
    root, found = Path(config.runs), []
    for folder in ("train", "evaluate", "evaluate_int8"):
        page, log = f"{folder}/{run}/notebook.html", f"logs/{folder}-{run}.log"
        found += [f'<a href="{page}">{folder}</a>'] * (root / page).exists()
        found += [f'<a href="{log}">log</a>'] * (root / log).exists()
    return ", ".join(found)


def speed_table(speeds: pd.DataFrame) -> HTML | Markdown:
    """`hwl.speed.repeated.over_runs` as a page shows it: a row a model, a column a runtime.

    Each cell has the median over runs and, of several, the range. The peak matrix-multiply rate
    stands beside, which tells how fast the machine was then.
    """
    if not len(speeds):
        return Markdown("*No model was timed.*")
    form = [
        f"{row.FPS:.1f}" + f" ({row.FPS_low:.1f}-{row.FPS_high:.1f})" * (row.runs > 1)
        for row in speeds.itertuples()
    ]
    where = ["setting", "machine", "input", "device", "threads", "batch"]
    shown = speeds.assign(FPS=form).pivot_table(
        index=[*where, "model"], columns="runtime", values="FPS", aggfunc="first", sort=False
    )
    beside = speeds.groupby([*where, "model"], sort=False)
    shown["runs"] = beside["runs"].max()
    shown["peak GFLOP/s"] = beside["peak_GFLOP/s"].median().map("{:.0f}".format)
    caption = "Images a second: the median over runs, in parentheses their range."
    return html_table(shown.rename_axis(columns=None).reset_index().fillna(""), caption)


def html_table(
    table: pd.DataFrame, caption: str = "", form: str = "{:.3f}", escape: bool = True
) -> HTML:
    """A table without an index, NaN left empty; a page scrolls it where it is wide.

    Args:
        table: what to show.
        caption: a line below it.
        form: of numbers with decimals.
        escape: texts are plain, not HTML.
    """
    text = table.to_html(index=False, border=0, na_rep="", float_format=form.format, escape=escape)
    if caption:
        text = re.sub(
            "(<table[^>]*>)", rf"\1<caption>{html.escape(caption)}</caption>", text, count=1
        )
    return HTML(text)


def conditions(config: ReportConfig) -> str:
    """Markdown on what made the runs, all of them: code, hardware, packages."""
    found = {name: Record(path) for name, path in records(config).items()}
    origins = {name: origin(record) for name, record in found.items()}
    unlike = [f"{run} ({what})" for run, what in unlike_the_others(origins).items() if what]
    runs = list(found.values())
    commits = sorted({str(one["commit"])[:10] for one in origins.values()})
    cpus = sorted({f"{one['cpu']}, {one['cores']} cores" for one in origins.values()})
    gpus = sorted({str(one["gpu"]) for one in origins.values() if one["gpu"]})
    versions: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.entry("packages").items():
            versions.setdefault(name, set()).update([version] if version else [])
    packages = [f"{name} {' and '.join(sorted(v))}" for name, v in versions.items() if v]
    changed = [name for name, run in found.items() if (run.entry("git") or {}).get("dirty")]
    return "\n".join(
        [
            f"- **code**: commit {', '.join(commits)}",
            f"- **hardware**: {'; '.join(cpus + gpus)}",
            f"- **runs**: {len(runs)}",
            f"- **made by other code or machines than most**: {'; '.join(unlike) or 'none'}",
            f"- **made by code that is in no commit**: {', '.join(changed) or 'none'}",
            f"- **packages**: {', '.join(packages)}",
            f"- **last run finished** (UTC): {max(run.entry('finished_utc') for run in runs)}",
        ]
    )


def records(config: ReportConfig) -> dict[str, Path]:
    """`run.json` of every finished run but the report's own, by the run's name."""
    paths = [Path(path) for path in each(config, "**/run.json")]
    own = Path(config.output).name
    return {
        path.parent.as_posix(): Path(config.runs) / path for path in paths if path.parts[0] != own
    }


def each(config: ReportConfig, pattern: str) -> list[str]:
    """Files of finished runs by a glob pattern, relative to the runs' folder, sorted."""
    root = Path(config.runs)
    return [str(path.relative_to(root)) for path in finished_files(root, pattern)]


def show(config: ReportConfig, *names: str) -> None:
    """Display tables (CSV) and figures (PNG) of the runs; one that was not made is named so."""
    for name in names:
        path = Path(config.runs) / name
        if not path.exists():
            display(Markdown(f"*{name} has not been made.*"))
        elif path.suffix == ".csv":
            display(html_table(pd.read_csv(path), form="{:.4g}"))
        else:
            display(Image(filename=str(path), alt=path.stem.replace("_", " ")))


def poses(config: ReportConfig) -> None:
    """Display drawn poses of the first evaluated run on puppets, whose images may be passed on."""
    for path in each(config, "evaluate/*/run.json"):
        folder = (Path(config.runs) / path).parent
        drawings = sorted((folder / "images").glob("*.png"))
        data = Record(folder / "run.json").entry("config", "data") if drawings else ""
        if Path(data).name == "puppets":
            display(Image(filename=str(drawings[-1]), alt=f"poses of {folder.name}"))
            return
    display(Markdown("*Drawings over photographs are in the runs' own notebooks alone.*"))


def links(config: ReportConfig) -> HTML:
    """Every run with links to its executed notebook and to its log."""
    root, rows = Path(config.runs), []
    for page in each(config, "**/notebook.html"):
        run = Path(page).parent.as_posix()
        log = f"logs/{run.replace('/', '-')}.log"
        link = f'<a href="{log}">log</a>' if (root / log).exists() else ""
        rows.append({"run": f'<a href="{page}">{html.escape(run)}</a>', "log": link})
    return html_table(pd.DataFrame(rows, columns=["run", "log"]), escape=False)
