"""The published evidence: README repeats its numbers, and it is small and tells no machine."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "results"


def results_section() -> str:
    text = (PROJECT / "README.md").read_text().partition("## Results so far\n")[2]
    return text.partition("\n## ")[0]


def accuracy_rows() -> list[tuple[str, str]]:
    """Each row of README's accuracy table: a run's folder and the rest of the row."""
    return re.findall(r"^\| `(results/\S+)` \|(.*)$", results_section(), re.M)


def paragraphs() -> list[str]:
    """README's paragraphs about results that name a published folder, without their tables."""
    text = re.sub(r"^\|.*$", "", results_section(), flags=re.M)
    return [part for part in text.split("\n\n") if "`results/" in part]


def folders_in(text: str) -> list[Path]:
    return [PROJECT / folder for folder in re.findall(r"`(results/[^`]+)`", text)]


def values(folders: list[Path], columns: tuple[str, ...]) -> Iterator[float]:
    """All numbers of some columns of a folder's tables, also in the folders below it."""
    for folder in folders:
        for path in folder.rglob("*.csv"):
            table = pd.read_csv(path)
            yield from table[[name for name in columns if name in table]].to_numpy().ravel()


def test_readme_has_a_row_for_each_of_many_published_accuracy_tables() -> None:
    assert len(accuracy_rows()) >= 10  # of none, nothing would be compared below


@pytest.mark.parametrize(("folder", "shown"), accuracy_rows())
def test_readme_repeats_a_published_accuracy_table(folder: str, shown: str) -> None:
    table = pd.read_csv(PROJECT / folder / "protocols.csv")
    columns = [name for name in ("AP", "AP_low", "AP_high", "PCK") if name in table]

    measured = [f"{value:.3f}" for value in table[columns].to_numpy().ravel()]
    assert re.findall(r"0\.\d{3}", shown) == measured


def test_readme_repeats_the_published_speed_table() -> None:
    """Each row: a runtime of "ours", its FPS with their range, and its speed over eager's."""
    table = pd.read_csv(RESULTS / "speed/report/speeds.csv").query("model == 'ours'")
    table = table.query("setting == 'speed-batch-1'").set_index("runtime")
    row = r"^\| `([\w-]+)`[^|]*\| ([\d.]+) \(([\d.]+) to ([\d.]+)\) \| ([\d.]+) \|$"
    rows = re.findall(row, results_section(), re.M)

    for runtime, *shown in rows:
        found = table.loc[runtime]
        fps = [f"{found[name]:.1f}" for name in ("FPS", "FPS_low", "FPS_high")]
        assert shown == [*fps, f"{found['times_eager']:.2f}"]
    assert len(rows) >= 5


def test_readme_repeats_the_published_comparisons_of_the_losses() -> None:
    """Each row: two arms, their difference with its interval in points, pairs, p and verdict."""
    table = pd.read_csv(RESULTS / "evidence/report/comparisons.csv").set_index(["arm", "base"])
    row = r"^\| (\w+) - (\w+) \| (\S+) \[(\S+), (\S+)\] \| (\d+) of (\d+) \| (\S+) \| (.+) \|$"
    rows = re.findall(row, results_section(), re.M)

    for arm, base, *shown in rows:
        found = table.loc[(arm, base)]
        points = [f"{100 * found[name]:+.2f}" for name in ("difference", "low", "high")]
        counts = [str(found["pairs"]), str(found["planned"])]
        assert shown == [*points, *counts, f"{found['p']:.2g}", found["verdict"]]
    assert len(rows) >= 3


# What a number in the text looks like, the columns that it may come from, and how it is rounded.
QUOTED = [
    (r"\b(\d+\.\d)(?= (?:and [\d.]+ )?FPS)", ("FPS",), "{:.1f}"),
    (r"\b(0\.\d{3})\b", ("AP", "PCK", "PCKh"), "{:.3f}"),
    (r"\b(\d+ %)(?= of the rate)", ("of_peak_rate", "of peak_rate"), "{:.0%}"),
    (r"\b(\d+\.\d)(?=(?:[,\s]+(?:and )?[\d.]+)* persons\s+a\s+second)", ("persons/s",), "{:.1f}"),
    (r"\b(\d+\.\d)(?= GFLOP/s)", ("peak_GFLOP/s", "GFLOP/s"), "{:.1f}"),
]


@pytest.mark.parametrize(("pattern", "columns", "rounded"), QUOTED)
def test_a_number_in_readme_s_results_text_is_in_the_folders_named_behind_it(
    pattern: str, columns: tuple[str, ...], rounded: str
) -> None:
    """The next parenthesis with folders in it tells where a number is from."""
    found = [(match[1], text[match.end() :]) for text in paragraphs() for match in
             re.finditer(pattern, text)]  # fmt: skip

    for number, rest in found:
        source = re.search(r"\(([^()]*`results/[^()]*)\)", rest)[1]
        known = {rounded.format(v).replace("%", " %") for v in values(folders_in(source), columns)}
        assert number in known, rest
    assert found


def test_published_text_tells_no_place_of_a_machine() -> None:
    place = re.compile(r"(?<![\w.:/<-])/(?:tmp|home|root|Users|work|mnt|scratch)/")
    told = [
        path
        for path in RESULTS.rglob("*")
        if path.is_file() and path.suffix not in (".png", ".safetensors", ".npz")
        if place.search(path.read_text(encoding="utf-8"))
    ]

    assert told == []


def test_published_files_are_small_without_weights() -> None:
    sizes = [
        path.stat().st_size
        for path in RESULTS.rglob("*")
        if path.is_file() and path.suffix != ".safetensors"
    ]

    assert sum(sizes) < 25e6


@pytest.mark.parametrize("profile", sorted(path.name for path in RESULTS.glob("*/")))
def test_no_published_figure_is_stored_twice_in_a_profile(profile: str) -> None:
    figures = [path.read_bytes() for path in (RESULTS / profile).rglob("*.png")]
    for page in (RESULTS / profile).rglob("*.html"):
        embedded = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text(encoding="utf-8"))
        figures += [base64.b64decode(text) for text in embedded]

    assert len(set(figures)) == len(figures)


def test_no_executed_notebook_or_second_form_of_a_figure_is_published() -> None:
    assert [*RESULTS.rglob("*.ipynb"), *RESULTS.rglob("*.svg"), *RESULTS.rglob("*/*/*.html")] == []


@pytest.mark.parametrize("path", ["runs/embedded/index.html", "data/puppets/puppets.json"])
def test_what_a_user_makes_is_ignored_by_git(path: str) -> None:
    assert git("check-ignore", "--no-index", "--quiet", path) == 0


@pytest.mark.parametrize("path", ["hwl/runs/folder.py", "hwl/data/crops.py", "tests/data/x.py"])
def test_code_is_not_ignored_by_git(path: str) -> None:
    assert git("check-ignore", "--no-index", "--quiet", path) == 1


def test_published_weights_and_no_others_are_let_into_git() -> None:
    assert (
        git(
            "check-ignore",
            "--no-index",
            "--quiet",
            "results/embedded/train/ours-seed0/best.safetensors",
        )
        == 1
    )
    assert (
        git(
            "check-ignore",
            "--no-index",
            "--quiet",
            "results/embedded/train/mse-seed0/best.safetensors",
        )
        == 0
    )
    assert (
        git(
            "check-ignore",
            "--no-index",
            "--quiet",
            "results/models/train/ours-seed0/best.safetensors",
        )
        == 0
    )


def git(*arguments: str) -> int:
    if not (PROJECT / ".git").exists():
        pytest.skip("needs a clone")
    return subprocess.run(["git", "-C", PROJECT, *arguments], check=False).returncode
