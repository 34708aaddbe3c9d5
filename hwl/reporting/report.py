"""Gathers the runs of a profile for the report notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
from IPython.display import Image, Markdown, display
from pandas.io.formats.style import Styler

from hwl.config import FilePath, check
from hwl.errors import HwlError
from hwl.files import read_json


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

    Raises:
        HwlError: there is no evaluation run.
    """
    tables = []
    for path in each(config, "evaluate*/*/protocols.csv"):
        table = pd.read_csv(Path(config.runs) / path)
        run = read_json((Path(config.runs) / path).with_name("run.json"))
        trained = run.get("trained", {})
        table.insert(0, "run", Path(path).parent.name)
        table.insert(1, "data", Path(run["config"]["data"]).name)
        table.insert(2, "F", trained.get("weight_function", ""))
        table.insert(3, "seed", trained.get("seed", ""))
        table.insert(4, "epochs", trained.get("epochs", ""))
        tables.append(table)
    if not tables:
        raise HwlError(f"{config.runs} has no evaluation runs; `make reproduce` makes them")
    # Keypoints' own numbers of PCK runs stay in their tables.
    shown = [column for column in pd.concat(tables) if not column.startswith(("left_", "right_"))]
    return pd.concat(tables)[shown].drop(
        columns=["boxes_from", "head_top", "neck"], errors="ignore"
    )


# Columns of `evaluations` that a page is too narrow for, or that the run's name says.
LEFT_OUT = ("seed", "decode", "AR50", "AR75", "AR_M", "AR_L")


def accuracy(table: pd.DataFrame) -> Styler:
    """`evaluations` as wide as a page: the main columns, the interval in one, in small type."""
    shown = table.drop(columns=[*LEFT_OUT, "AP_low", "AP_high"], errors="ignore")
    if "AP_low" in table:
        ends = zip(table["AP_low"], table["AP_high"], strict=True)
        interval = ["" if pd.isna(low) else f"{low:.3f} to {high:.3f}" for low, high in ends]
        shown.insert(shown.columns.get_loc("AP") + 1, "95 % interval", interval)
    style = shown.style.format(precision=3, na_rep="").hide(axis="index")
    return style.set_table_attributes('style="font-size: 80%"')


def conditions(config: ReportConfig) -> str:
    """Markdown on what made the runs, all of them: code, hardware, packages."""
    runs = [read_json(path) for path in records(config).values()]
    commits = sorted({run["git"]["commit"][:10] for run in runs if run["git"]})
    cpus = sorted({f"{run['hardware']['cpu']}, {run['hardware']['cores']} cores" for run in runs})
    gpus = sorted({run["hardware"]["gpu"] for run in runs if run["hardware"]["gpu"]})
    packages = {name: v for run in runs for name, v in run["packages"].items() if v}
    return "\n".join(
        [
            f"- **code**: commit {', '.join(commits) or 'unknown'}",
            f"- **hardware**: {'; '.join(cpus + gpus)}",
            f"- **runs**: {len(runs)}",
            f"- **packages**: {', '.join(f'{name} {v}' for name, v in packages.items())}",
            f"- **last run finished** (UTC): {max(run['finished_utc'] for run in runs)}",
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
    found = (path.relative_to(root) for path in root.glob(pattern))
    return sorted(
        str(path) for path in found if not any(part.endswith(".partial") for part in path.parts)
    )


def show(config: ReportConfig, *names: str) -> None:
    """Display tables (CSV) and figures (PNG) of the runs; one that was not made is named so."""
    for name in names:
        path = Path(config.runs) / name
        if not path.exists():
            display(Markdown(f"*{name} has not been made.*"))
        elif path.suffix == ".csv":
            table = pd.read_csv(path)
            display(table.style.format(precision=3, na_rep="").hide(axis="index"))
        else:
            display(Image(filename=str(path), width=760))


def links(config: ReportConfig) -> str:
    """Markdown list of the executed notebooks, relative to the runs' folder."""
    return "\n".join(f"- [{Path(p).parent}]({p})" for p in each(config, "**/notebook.html"))
