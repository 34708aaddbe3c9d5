"""What notebooks call: parameters found out, and cells that can be run again in any order."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hwl import notebook
from hwl.errors import HwlError
from hwl.paths import PROJECT, from_project
from hwl.reporting.report import ReportConfig
from hwl.training.config import TrainConfig


@dataclass(frozen=True)
class Job:
    kind: ClassVar[str] = "report"
    output: str
    number: int = 3


def begin(output: Path, **values: object) -> notebook.Run[Job]:
    return notebook.begin(Job, {"output": str(output), **values})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".hwl-run"}


@pytest.fixture
def published(tmp_path: Path) -> notebook.Run[Job]:
    run = begin(tmp_path / "run")
    run.table([{"a": 1}], "first")
    run.publish(metrics={"AP": 0.5})
    return run


def test_parameters_takes_plain_variables_and_ignores_what_ipython_and_imports_add() -> None:
    added = {"Out": {}, "_i1": "x", "np": np, "open": open, "Path": Path}

    built = notebook.parameters(ReportConfig, {"output": "/a", "runs": "/b", **added})

    assert built == ReportConfig("/a", "/b")


def test_parameters_puts_relative_paths_into_the_project_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"output": "results/a", "data": "/data", "init_weights": "", "lr": 1}

    built = notebook.parameters(TrainConfig, values)

    assert built.output == str(PROJECT / "results/a")
    assert (built.data, built.init_weights, built.model) == ("/data", "", "ours")


def test_names_of_later_cells_are_no_parameters() -> None:
    cells = ["", 'output = "/a"\nnumber = 4', "run = begin()", "history = 1", "run = begin()"]

    built = notebook.parameters(
        Job, {"In": cells, "output": "/a", "number": 4, "history": 1, "run": None}
    )

    assert built == Job("/a", 4)


@pytest.mark.parametrize(
    "cells",
    [
        ['output = "/a"\nnumbre = 4', "begin()"],
        ['output = "/a"', "begin()", 'output = "/a"\nnumbre = 4', "begin()"],
        ['output = "/a"', "# Parameters\nnumbre = 4\n", "begin()"],
        ['output = "/a"', '# Parameters\noutput = "/a"\nnumbre = 4', "begin()"],
    ],
)
def test_an_unknown_name_in_a_parameters_cell_is_found(cells: list[str]) -> None:
    with pytest.raises(HwlError, match="unknown parameter 'numbre'; did you mean 'number'"):
        notebook.parameters(Job, {"In": ["", *cells], "output": "/a", "numbre": 4})


def test_a_mistake_is_forgotten_when_the_parameters_cell_is_mended() -> None:
    cells = ["", 'output = "/a"\nnumbre = 4', "begin()", 'output = "/a"\nnumber = 4', "begin()"]

    built = notebook.parameters(Job, {"In": cells, "output": "/a", "numbre": 4, "number": 4})

    assert built == Job("/a", 4)


def test_cells_that_are_no_plain_python_are_passed_over() -> None:
    cells = ["", 'output = "/a"\nnumber = 4', "%timeit 1", "begin()"]

    assert notebook.parameters(Job, {"In": cells, "output": "/a", "number": 4}) == Job("/a", 4)


def test_a_run_appears_with_its_metrics_and_provenance_when_it_is_published(
    tmp_path: Path,
) -> None:
    run = begin(tmp_path / "run", number=5)
    run.table(pd.DataFrame({"a": [1], "b": ["x"]}), "rows")
    run.table(pd.DataFrame(), "none")
    run.save(Figure(), "figure")
    assert not (tmp_path / "run").exists()

    run.publish(metrics={"AP": 0.5})

    found = files(tmp_path / "run")
    assert set(found) == {"rows.csv", "figure.png", "figure.svg", "metrics.json", "run.json"}
    assert found["rows.csv"] == b"a,b\n1,x\n"
    assert found["figure.png"].startswith(b"\x89PNG") and b"<svg" in found["figure.svg"]
    assert json.loads(found["metrics.json"]) == {"AP": 0.5}
    assert json.loads(found["run.json"])["config"]["number"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_is_told_with_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "first.csv")

    run = begin(tmp_path / "run")
    monkeypatch.setattr(notebook, "write_table", full)

    with pytest.raises(HwlError, match=r"run\.partial is kept: make room and run the cell again"):
        run.table([{"a": 1}], "first")


def test_what_a_run_read_is_fingerprinted(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_bytes(b"abc")
    run = begin(tmp_path / "run")

    run.publish(inputs={"val": tmp_path / "val.json"})

    inputs = json.loads((tmp_path / "run/run.json").read_text())["inputs"]
    path = from_project(tmp_path / "val.json")
    assert inputs == {"val": f"{path} sha256:ba7816bf8f01cfea"}


def test_publishing_twice_is_harmless(published: notebook.Run, tmp_path: Path) -> None:
    before = files(tmp_path / "run")

    published.publish(metrics={"AP": 0.5})

    assert files(tmp_path / "run") == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_cell_run_again_after_publishing_changes_its_file_at_the_next_publishing(
    published: notebook.Run, tmp_path: Path
) -> None:
    published.table([{"a": 2}], "second")
    assert "second.csv" not in files(tmp_path / "run")

    published.publish(metrics={"AP": 0.6})

    found = files(tmp_path / "run")
    assert (found["first.csv"], found["second.csv"]) == (b"a\n1\n", b"a\n2\n")
    assert json.loads(found["metrics.json"]) == {"AP": 0.6}


def test_a_run_that_stops_in_the_middle_leaves_the_last_finished_one(
    published: notebook.Run, tmp_path: Path
) -> None:
    before = files(tmp_path / "run")

    begin(tmp_path / "run").table([{"a": 2}], "second")

    assert files(tmp_path / "run") == before


def test_a_run_begun_again_starts_afresh_and_replaces_the_older_one(
    published: notebook.Run, tmp_path: Path
) -> None:
    begin(tmp_path / "run").table([{"a": 2}], "stopped")
    run = begin(tmp_path / "run", number=7)
    run.table([{"a": 2}], "second")
    run.publish()

    found = files(tmp_path / "run")
    assert set(found) == {"second.csv", "run.json"}
    assert json.loads(found["run.json"])["config"]["number"] == 7


def test_another_output_leaves_the_first_one_to_others(tmp_path: Path) -> None:
    begin(tmp_path / "a")
    begin(tmp_path / "b")

    assert not list(tmp_path.glob("a*")) and not list(tmp_path.glob(".a*"))


def test_a_published_run_that_another_one_replaced_is_not_mixed_with_it(
    published: notebook.Run, tmp_path: Path
) -> None:
    other = notebook.Run(Job(str(tmp_path / "run")))
    other.publish()
    before = files(tmp_path / "run")

    with pytest.raises(HwlError, match="is another run by now; begin this one again"):
        published.table([{"a": 2}], "second")

    assert files(tmp_path / "run") == before
