"""What the report shows, fitted to a page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from hwl.errors import HwlError
from hwl.files import read_json, write_json, write_table
from hwl.reporting.page import write_page
from hwl.reporting.report import (
    ReportConfig,
    accuracy,
    conditions,
    evaluations,
    html_table,
    links,
    speed_table,
    summary,
    trainings,
)

PROTOCOL = {"boxes": "ground-truth", "boxes_from": "x", "flip": True, "decode": "quarter-pixel"}
PROTOCOL |= {"runtime": "eager", "input": "256x192", "images": 3, "persons": 7}
NUMBERS = {"AP": 0.51234, "AP50": 0.8, "AP75": 0.6, "AP_M": 0.5, "AP_L": 0.6, "AR": 0.55}
NUMBERS |= {"AR50": 0.9, "AR75": 0.6, "AR_M": 0.5, "AR_L": 0.6}


def evaluated(runs: Path, name: str, row: dict[str, object], onnx: str | None = None) -> None:
    folder = runs / "evaluate" / name
    folder.mkdir(parents=True)
    write_table(folder / "protocols.csv", [row])
    run = {
        **{
            "config": {"data": "data/puppets", "split": "val2017"},
            "trained": {"weight_function": "zero", "epochs": 3},
        },
        **{"git": None, "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None}},
        **{"packages": {"torch": "2.6", "onnx": onnx}, "finished_utc": "2026-01-01T00:00:00+00:00"},
    }
    write_json(folder / "run.json", run)


def test_the_accuracy_table_keeps_what_matters_and_fits_a_page(tmp_path: Path) -> None:
    evaluated(tmp_path, "mse-seed0", {**PROTOCOL, **NUMBERS, "AP_low": 0.49, "AP_high": 0.53})

    page = accuracy(evaluations(ReportConfig("report", str(tmp_path)))).data

    kept = ["run", "data", "images", "input", "runtime", "boxes", "flip", "AP", "95 % interval"]
    kept += ["AP50", "AP75", "AP_M", "AP_L", "AR"]
    assert re.findall("<th>(.*?)</th>", page) == kept
    assert "0.512<" in page and "0.490 to 0.530" in page and "flip test" in page


def test_runs_of_another_metric_share_the_table(tmp_path: Path) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS, "AP_low": 0.49, "AP_high": 0.53})
    evaluated(tmp_path, "lsp-seed0", {**PROTOCOL, "PCK": 0.3, "left_ankle": 0.2, "neck": 0.1})

    page = accuracy(evaluations(ReportConfig("report", str(tmp_path)))).data

    assert "0.300" in page and "left_ankle" not in page and "neck" not in page
    assert "nan" not in page.lower()


def test_no_column_of_a_keypoint_is_in_the_table_whatever_its_name(tmp_path: Path) -> None:
    numbers = {"PCKh": 0.3, "OKS": 0.6, "pelvis": 0.2, "thorax": 0.1, "LEye": 0.4, "nose": 0.5}
    evaluated(tmp_path, "mpii-seed0", {**PROTOCOL, **numbers})

    table = evaluations(ReportConfig("report", str(tmp_path)))

    told = ["run", "data", "trained on", "F", "seed", "epochs", *PROTOCOL, "PCKh", "OKS"]
    assert list(table) == [column for column in told if column != "boxes_from"]


def test_each_row_links_what_is_there(tmp_path: Path) -> None:
    evaluated(tmp_path, "mse-seed0", {**PROTOCOL, **NUMBERS})
    for name in ("evaluate/mse-seed0/notebook.html", "logs/evaluate-mse-seed0.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    config = ReportConfig("report", str(tmp_path))

    for page in (trainings(config, evaluations(config)).data, links(config).data):
        hrefs = re.findall('href="(.*?)"', page)
        assert hrefs == ["evaluate/mse-seed0/notebook.html", "logs/evaluate-mse-seed0.log"]


def test_the_summary_says_of_every_claim_whether_it_was_tested(tmp_path: Path) -> None:
    page = summary(ReportConfig("report", str(tmp_path))).data

    assert page.count("not tested here") == 4 and 'data-label="paper"' in page


def test_numbers_are_shown_in_the_form_asked_for_and_nan_as_nothing() -> None:
    page = html_table(pd.DataFrame({"AP": [65.8, math.nan]}), "a <caption>", form="{:.3g}").data

    assert "<td>65.8</td>" in page and "<td></td>" in page and "a &lt;caption&gt;" in page


def test_the_page_has_texts_and_outputs_without_code_or_prompts(tmp_path: Path) -> None:
    table = nbformat.v4.new_output(
        "execute_result", {"text/html": "<table><tr><td>5</td></tr></table>"}, execution_count=3
    )
    cells = [
        nbformat.v4.new_markdown_cell("# A *title*"),
        nbformat.v4.new_code_cell("secret = 5", outputs=[table], execution_count=3),
    ]

    write_page(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert "<title>A title</title>" in page and '<div class="wide"><table>' in page
    assert "secret" not in page and "Out[" not in page and "<script" not in page
    assert 'name="viewport"' in page


def test_packages_that_are_not_installed_are_not_among_the_conditions(tmp_path: Path) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS})

    text = conditions(ReportConfig("report", str(tmp_path)))

    assert "torch 2.6" in text and "onnx" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"run\.json has no entry '(config\.data|git)'"),
        ("[]", r"run\.json holds no record of a run"),
        ('{"config": {"lr": 1}, "git": null}', r"no entry '(config\.data|hardware\.cpu)'"),
    ],
)
@pytest.mark.parametrize("reader", [evaluations, conditions])
def test_a_foreign_record_is_told_in_one_line(
    reader: Callable[[ReportConfig], object], content: str, message: str, tmp_path: Path
) -> None:
    evaluated(tmp_path, "a-seed0", {**PROTOCOL, **NUMBERS})
    (tmp_path / "evaluate/a-seed0/run.json").write_text(content)

    with pytest.raises(HwlError, match=message) as told:
        reader(ReportConfig("report", str(tmp_path)))

    assert "\n" not in str(told.value)


def test_the_conditions_name_a_run_of_another_machine(tmp_path: Path) -> None:
    for name in ("a-seed0", "b-seed0", "c-seed0"):
        evaluated(tmp_path, name, {**PROTOCOL, **NUMBERS})
    path = tmp_path / "evaluate/b-seed0/run.json"
    path.write_text(path.read_text().replace("A CPU", "Another"))

    text = conditions(ReportConfig("report", str(tmp_path)))

    assert "other code or machines than most**: evaluate/b-seed0 (cpu)" in text


def test_the_speed_table_has_medians_with_their_range_and_the_peak_rate() -> None:
    where = {"setting": "speed", "machine": "a", "input": "256x192"}
    where |= {"device": "cpu", "threads": 1, "batch": 1, "model": "ours"}
    speeds = pd.DataFrame(
        [
            {
                **where,
                "runtime": "eager",
                "runs": 3,
                "FPS": 30.0,
                "FPS_low": 28.0,
                "FPS_high": 35.5,
            },
            {
                **where,
                "runtime": "fused",
                "runs": 1,
                "FPS": 50.0,
                "FPS_low": 50.0,
                "FPS_high": 50.0,
            },
        ]
    ).assign(**{"peak_GFLOP/s": 170.4})

    page = speed_table(speeds).data

    assert "<td>30.0 (28.0-35.5)</td>" in page and "<td>50.0</td>" in page
    assert "peak GFLOP/s" in page and "<td>170</td>" in page
    assert re.findall("<th>(.*?)</th>", page)[:3] == ["setting", "machine", "input"]


def test_the_conditions_tell_all_versions_and_what_is_in_no_commit(tmp_path: Path) -> None:
    for name in ("a-seed0", "b-seed0"):
        evaluated(tmp_path, name, {**PROTOCOL, **NUMBERS})
    path = tmp_path / "evaluate/b-seed0/run.json"
    run = read_json(path) | {"git": {"commit": "abc", "dirty": True}, "packages": {"torch": "2.7"}}
    write_json(path, run)

    text = conditions(ReportConfig("report", str(tmp_path)))

    assert "- **made by code that is in no commit**: evaluate/b-seed0\n" in text
    assert "torch 2.6 and 2.7" in text


def test_a_profile_that_times_and_evaluates_nothing_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "speed").mkdir()
    write_json(tmp_path / "speed/run.json", {"git": None})
    config = ReportConfig("report", str(tmp_path))

    table = evaluations(config)

    assert "No model was evaluated" in accuracy(table).data
    assert not len(table) and "<td>" not in trainings(config, table).data


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match="has no runs; `make reproduce` makes them"):
        evaluations(ReportConfig("report", str(tmp_path)))
