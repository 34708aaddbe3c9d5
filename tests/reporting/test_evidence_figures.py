"""The evidence experiment's figures, drawn anew from its report's tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text

from hwl.errors import HwlError
from hwl.paths import PROJECT
from hwl.reporting.evidence_figures import accuracy_over_macs, figures_of, read_tables
from hwl.reporting.evidence_report import sizes, write_report
from hwl.studies.config import EvidenceConfig
from hwl.studies.design import load_design
from hwl.studies.gathering import Runs

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


@pytest.mark.slow
def test_an_arms_size_and_latency_are_those_of_its_model_and_its_oks_that_of_the_fewest_seeds() -> (
    None
):
    design = load_design(PROJECT / "profiles/evidence.yaml")
    (stage,) = (one for one in design.stages if one.name == "head")
    rows = [{"arm": "identity", "seed": seed, "OKS": 0.5 + 0.1 * seed} for seed in range(9)]
    rows += [{"arm": "head-dense", "seed": seed, "OKS": 0.6} for seed in range(6)]

    table = sizes(Runs(pd.DataFrame(rows), {}), design, [stage]).set_index("arm")

    assert table.loc["identity", "parameters_M"] == pytest.approx(3.077882)
    assert table.loc["identity", "OKS"] == pytest.approx(0.75)  # of seeds 0 to 5
    dense = table.loc["head-dense"]
    assert dense["low"] == dense["high"] == pytest.approx(0.6) and dense["latency_ms"] > 0
    assert dense["macs_M"] > 2 * table.loc["identity", "macs_M"]
    drawn = dict(figures_of({"runs": pd.DataFrame([RUN]), "sizes": table.reset_index()}))
    assert list(drawn) == ["accuracy_over_macs"]


def test_a_report_does_not_replace_the_published_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwl.reporting.evidence_report.PUBLISHED", tmp_path)
    (tmp_path / "evidence").mkdir()
    config = EvidenceConfig(output=str(tmp_path / "new"), runs=str(tmp_path / "evidence"))

    with pytest.raises(HwlError, match="is published: copy it to runs/"):
        write_report(config)

    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


def test_the_size_of_a_single_arm_is_no_figure() -> None:
    alone = pd.DataFrame([{"arm": "identity", "macs_M": 140.0, "threads": 1}])

    assert dict(figures_of({"runs": pd.DataFrame([RUN]), "sizes": alone})) == {}
