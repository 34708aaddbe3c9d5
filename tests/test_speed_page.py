"""docs/speed.md repeats the published speeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
REPORT = PROJECT / "results/speed/report"


def markdown(rows: pd.DataFrame, value: str) -> str:
    """Medians with their range as the page shows them: a row a model, a column a runtime."""
    cells = {
        (row["model"], row["runtime"]): f"{row[value]:.1f} ({row[f'{value}_low']:.1f} to "
        f"{row[f'{value}_high']:.1f})"
        for _, row in rows.iterrows()
    }
    runtimes = list(dict.fromkeys(rows["runtime"]))
    lines = ["| | " + " | ".join(f"`{name}`" for name in runtimes) + " |"]
    lines.append("|---|" + "---|" * len(runtimes))
    for model in dict.fromkeys(rows["model"]):
        shown = [cells.get((model, runtime), "") for runtime in runtimes]
        lines.append(f"| {model} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def models_alone(setting: str, batch: int) -> str:
    """Images a second of a setting's models."""
    speeds = pd.read_csv(REPORT / "speeds.csv")
    return markdown(speeds.query("setting == @setting and batch == @batch"), "FPS")


def end_to_end(flip: bool) -> str:
    """Persons a second from image files to keypoints, on all cores."""
    speeds = pd.read_csv(REPORT / "end_to_end.csv")
    return markdown(speeds.query("setting == 'speed' and flip == @flip"), "persons/s")


def page() -> str:
    return (PROJECT / "docs/speed.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "batch"),
    [("speed-batch-1", 1), ("speed", 1), ("speed", 8), ("speed-compile", 1)],
)
def test_the_page_has_the_models_speeds(setting: str, batch: int) -> None:
    assert models_alone(setting, batch) in page()


@pytest.mark.parametrize("flip", [False, True])
def test_the_page_has_the_speeds_from_image_files_to_keypoints(flip: bool) -> None:
    assert end_to_end(flip) in page()
