"""The evidence experiment's figures, drawn anew from its report's tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text

from hwl.reporting.evidence_figures import accuracy_over_macs, figures_of, read_tables

RUN = {"boxes": "ground-truth", "flip": True, "input": "128x96", "images": 9, "persons": 20}
COMPARED = {"stage": "main", "arm": "identity", "base": "zero", "pairs": 12, "verdict": "supported"}
COMPARED |= {"images": 9, "persons": 20, "planned": 12, "data": "puppets"}
COMPARED |= {"difference": 0.01, "low": 0.005, "high": 0.015, "boot_low": 0.002, "boot_high": 0.02}


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A folder of runs with a finished report of one comparison and one curve."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report/run.json").write_text("{}")
    curves = [{"arm": "zero", "seed": s, "epoch": e, "OKS": e / 9} for s in (0, 1) for e in (1, 2)]
    for name, rows in {"runs": [RUN], "comparisons": [COMPARED], "curves": curves}.items():
        pd.DataFrame(rows).to_csv(tmp_path / f"report/{name}.csv", index=False)
    return tmp_path


def test_each_figure_whose_table_is_there_is_drawn_with_its_conditions(evidence: Path) -> None:
    figures = dict(figures_of(read_tables(str(evidence))))

    texts = {
        name: " ".join(text.get_text() for text in figure.findobj(Text))
        for name, figure in figures.items()
    }
    assert list(figures) == ["forest", "learning"]
    assert "identity - zero (12 pairs)" in texts["forest"] and "9 images" in texts["forest"]
    assert "zero" in texts["learning"]


@pytest.mark.parametrize("where", ["", "gone"])
def test_without_a_report_there_are_no_tables_and_no_figures(where: str) -> None:
    assert read_tables(where) == {} and list(figures_of({})) == []


def test_a_report_in_the_making_is_none(evidence: Path) -> None:
    (evidence / "report/run.json").unlink()

    assert read_tables(str(evidence)) == {}


def test_arms_of_nearly_the_same_size_stand_side_by_side_around_it() -> None:
    given = {"arm": ["none", "full", "dense"], "macs_M": [140.5, 140.7, 360.0], "OKS": [0.6] * 3}
    given |= {"low": [0.59] * 3, "high": [0.61] * 3, "parameters_M": [3.0] * 3}

    figure = accuracy_over_macs(pd.DataFrame(given | {"latency_ms": [9.0] * 3}), "conditions")

    none, full, dense = (bar.lines[0].get_xdata()[0] for bar in figure.axes[0].containers)
    assert none < 140 < 141 < full < 155 and dense == 360
