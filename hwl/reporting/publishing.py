"""Copies what is to be published of a profile's finished runs to `results/`, each thing once.

Of a run: `run.json`, `metrics.json`, its tables (CSV), figures (PNG) and each test person's OKS. Of
the profile: `index.html`, the report, which links the figures, `runs.csv`, which says from which
commit and machine each run is and in what that differs from most runs', and the weights that the
profile names, each with a model card. Executed notebooks, predictions and drawings over images stay
in `runs/`. An experiment with a graph of its own, which takes days, is published as far as it is;
from there its graph goes on elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hwl.errors import HwlError
from hwl.evaluation.persons import PERSONS_FILE
from hwl.files import write_table, write_text
from hwl.paths import PROJECT, PUBLISHED, RUNS
from hwl.reporting.model_card import Said, model_card, read_said
from hwl.runs.graph import has_own_graph, read_profile
from hwl.runs.record import (
    Record,
    finished_files,
    is_of_other_weights,
    origin,
    unlike_the_others,
)

KEPT = (".csv", ".png")
RECORDS = ("run.json", "metrics.json", PERSONS_FILE)
WEIGHTS = "best.safetensors"
PAGE = "index.html"


def publish(profile: str, runs: Path = RUNS, published: Path = PUBLISHED) -> list[Path]:
    """Replace `results/<profile>` by what is to be published of `runs/<profile>`.

    Args:
        profile: the name of a file in `profiles/`.
        runs: where users' runs are.
        published: where published ones go.

    Returns:
        The published files.

    Raises:
        HwlError: there is no report, it is older than a run, a run is not of one clean commit or
            not of the weights beside it, the profile says too little of weights that it publishes,
            or a file to be published tells a path of this machine. An experiment needs no report,
            and none of its published runs may be missing.
    """
    root, target = runs / profile, published / profile
    records = {
        path.parent.relative_to(root): Record(path) for path in finished_files(root, "**/run.json")
    }
    experiment = has_own_graph(profile)
    if experiment:  # a training without its test is not finished
        records = {
            run: record
            for run, record in records.items()
            if run.parent.name != "train" or Path("evaluate") / run.name in records
        }
        for path in finished_files(target, "*/*/run.json"):
            if not (root / path.relative_to(target)).is_file():
                raise HwlError(
                    f"{path.parent} would be lost, for {root} lacks it: copy what is published "
                    f"there first (docs/{profile}.md)"
                )
    _check(root, records, finished=not (experiment and records))
    named = _published_weights(profile)  # before anything is written
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    figures: set[bytes] = set()  # one that several runs share is published with the first
    for run in sorted(records):
        for path in sorted((root / run).iterdir()):
            if path.suffix == ".png":
                content = path.read_bytes()
                if content in figures:
                    continue
                figures.add(content)
            if path.name in RECORDS or path.suffix in KEPT:
                (partial / run).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, partial / run / path.name)
    write_table(partial / "runs.csv", _origins(records))
    if (root / PAGE).is_file():
        write_text(partial / PAGE, _linked((root / PAGE).read_text(encoding="utf-8"), partial))
    for name, said in named.items():
        folder = Path("train") / name
        shutil.copyfile(root / folder / WEIGHTS, partial / folder / WEIGHTS)
        write_text(partial / folder / "MODEL_CARD.md", model_card(partial, name, said))
    for path in _files(partial):
        _check_paths(path)
    old = target.with_name(target.name + ".partial-old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return list(_files(target))


def _check(root: Path, records: dict[Path, Record], finished: bool) -> None:
    """HwlError unless runs can be published: with a report that tells of all, where `finished`."""
    report = records.get(Path("report"))
    if finished and (report is None or not (root / PAGE).is_file()):
        raise HwlError(f"{root} has no report: `make reproduce PROFILE={root.name}` makes it")
    for run, record in records.items():
        if not record.entry("git") or record.entry("git", "dirty"):
            raise HwlError(
                f"{root / run} was made from code that is in no commit: commit it, remove that "
                "folder and make it again"
            )
        if record.has("codes") and len(record.entry("codes")) > 1:
            raise HwlError(f"{root / run} was begun by other code: make it again")
        if is_of_other_weights(root / run, root / "train" / run.name):
            raise HwlError(f"{root / run} is of other weights than train/{run.name}: make it again")
        if report and record.entry("finished_utc") > report.entry("finished_utc"):
            raise HwlError(
                f"{root / run} is newer than the report: `make reproduce PROFILE={root.name}`"
            )


def _origins(records: dict[Path, Record]) -> list[dict[str, object]]:
    """The rows of `runs.csv`."""
    origins = {run.as_posix(): origin(records[run]) for run in sorted(records)}
    unlike = unlike_the_others(origins)
    return [
        {
            "run": run,
            **origins[run],
            "finished_utc": records[Path(run)].entry("finished_utc"),
            "differs_from_most_in": unlike[run],
        }
        for run in origins
    ]


def _linked(page: str, folder: Path) -> str:
    """The report with links to the published figures instead of copies, and to runs' folders.

    Logs are not published, and neither are links to them.
    """
    digests = {
        hashlib.sha256(path.read_bytes()).digest(): path.relative_to(folder).as_posix()
        for path in _files(folder)
        if path.suffix == ".png"
    }

    def link(match: re.Match[str]) -> str:
        digest = hashlib.sha256(base64.b64decode(match[1])).digest()
        return f'src="{digests[digest]}"' if digest in digests else match[0]

    page = re.sub(r'src="data:image/png;base64,([^"]+)"', link, page)
    page = re.sub(r'(, )?<a href="logs/[^"]*">[^<]*</a>', "", page)
    return re.sub(r'href="(?![a-z]+:)([^"#]+/)notebook\.html"', r'href="\1"', page)


def _published_weights(profile: str) -> dict[str, Said]:
    """Runs whose weights the profile publishes, with their model card's limits and licence."""
    entries = read_profile(profile).get("published_weights", {})
    return {name: read_said(name, entry) for name, entry in entries.items()}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _check_paths(path: Path) -> None:
    """HwlError if a file tells where on this machine it was made."""
    if path.suffix == ".png":
        return
    content = path.read_bytes()
    for place in {PROJECT.parent, Path.home(), Path(tempfile.gettempdir())} - {Path("/")}:
        if f"{place}/".encode() in content:
            raise HwlError(f"{path} has a path of this machine, {place}; it cannot be published")
