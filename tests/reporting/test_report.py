"""What the report shows, fitted to a page."""

from __future__ import annotations

import math
from pathlib import Path

from hwl.files import read_json, write_json, write_table
from hwl.reporting.report import ReportConfig, accuracy, conditions, evaluations

PROTOCOL = {"boxes": "ground-truth", "boxes_from": "x", "flip": True, "decode": "quarter-pixel"}
PROTOCOL |= {"runtime": "eager", "input": "256x192", "images": 3, "persons": 7}
NUMBERS = {"AP": 0.51234, "AP50": 0.8, "AP75": 0.6, "AP_M": 0.5, "AP_L": 0.6, "AR": 0.55}
NUMBERS |= {"AR50": 0.9, "AR75": 0.6, "AR_M": 0.5, "AR_L": 0.6}


def evaluated(runs: Path, name: str, row: dict[str, object], onnx: str | None = None) -> None:
    folder = runs / "evaluate" / name
    folder.mkdir(parents=True)
    write_table(folder / "protocols.csv", [row])
    run = {
        **{"config": {"data": "data/puppets"}, "trained": {"weight_function": "zero", "epochs": 3}},
        **{"git": None, "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None}},
        **{"packages": {"torch": "2.6", "onnx": onnx}, "finished_utc": "2026-01-01T00:00:00+00:00"},
    }
    write_json(folder / "run.json", run)


def test_the_accuracy_table_keeps_what_matters_and_fits_a_page(tmp_path: Path) -> None:
    evaluated(tmp_path, "mse-seed0", {**PROTOCOL, **NUMBERS, "AP_low": 0.49, "AP_high": 0.53})

    table = accuracy(evaluations(ReportConfig("report", str(tmp_path))))

    kept = ["run", "data", "F", "epochs", "boxes", "flip", "runtime", "input", "images"]
    kept += ["persons", "AP", "95 % interval", "AP50", "AP75", "AP_M", "AP_L", "AR"]
    assert list(table.data) == kept
    page = table.to_html()
    assert "0.512<" in page and "0.490 to 0.530" in page and "font-size: 80%" in page


def test_runs_of_another_metric_share_the_table(tmp_path: Path) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS, "AP_low": 0.49, "AP_high": 0.53})
    evaluated(tmp_path, "lsp-seed0", {**PROTOCOL, "PCK": 0.3, "left_ankle": 0.2, "neck": 0.1})

    table = accuracy(evaluations(ReportConfig("report", str(tmp_path))))

    assert table.data["PCK"].tolist()[1] == 0.3 and math.isnan(table.data["AP"].tolist()[1])
    assert table.data["95 % interval"].tolist() == ["0.490 to 0.530", ""]
    assert not {"left_ankle", "neck"} & set(table.data)
    assert "nan" not in table.to_html()


def test_the_conditions_count_runs_of_every_kind_but_the_report_itself(tmp_path: Path) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS})
    for name, commit in (
        ("speed", "b" * 40),
        ("report", "c" * 40),
        ("ablations.partial", "d" * 40),
    ):
        run = read_json(tmp_path / "evaluate/a-seed0/run.json")
        write_json(tmp_path / name / "run.json", {**run, "git": {"commit": commit}})

    text = conditions(ReportConfig(str(tmp_path / "report"), str(tmp_path)))

    assert "bbbb" in text and "cccc" not in text and "dddd" not in text and "**runs**: 2" in text


def test_packages_that_are_not_installed_are_not_among_the_conditions(tmp_path: Path) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS})

    text = conditions(ReportConfig("report", str(tmp_path)))

    assert "torch 2.6" in text and "onnx" not in text
