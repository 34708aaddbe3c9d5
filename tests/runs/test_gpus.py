"""GPUs of one machine are shared out to jobs, one job on each at a time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from hwl.errors import HwlError
from hwl.runs import gpus
from hwl.runs.gpus import VISIBLE, WANTED, own_gpus


@pytest.fixture(autouse=True)
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job that wants one of three."""
    monkeypatch.setenv(VISIBLE, "0,1,2")
    monkeypatch.setenv(WANTED, "1")


def test_jobs_at_work_at_once_have_gpus_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with own_gpus(tmp_path):
        first = os.environ[VISIBLE]
        monkeypatch.setenv(VISIBLE, "0,1,2")  # as another job starts
        monkeypatch.setenv(WANTED, "2")
        with own_gpus(tmp_path):
            others = os.environ[VISIBLE]
        assert os.environ[VISIBLE] == "0,1,2"

    assert (first, others) == ("0", "1,2")


def test_a_gpu_is_free_again_when_its_job_ends(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with own_gpus(tmp_path):
            seen.append(os.environ[VISIBLE])

    assert seen == ["0", "0"]
    assert os.environ[VISIBLE] == "0,1,2"


def test_more_than_are_free_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with own_gpus(tmp_path):
        monkeypatch.setenv(VISIBLE, "0,1")
        monkeypatch.setenv(WANTED, "1")
        with own_gpus(tmp_path):
            monkeypatch.setenv(VISIBLE, "0,1")
            with pytest.raises(HwlError, match="of the GPUs 0, 1 only 0 are free, not 1"):
                own_gpus(tmp_path).__enter__()


@pytest.mark.parametrize(("wanted", "visible"), [("0", "0,1"), ("1", "5"), ("1", "")])
def test_where_nothing_is_to_be_shared_out_nothing_is_done(
    wanted: str, visible: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(WANTED, wanted)
    monkeypatch.setenv(VISIBLE, visible)

    with own_gpus(tmp_path):
        assert os.environ[VISIBLE] == visible

    assert list(tmp_path.iterdir()) == []


def test_gpus_that_no_variable_names_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()

    assert gpus.visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(("wanted", "visible", "refused"), [("1", "0", True), ("1", "", False)])
def test_a_job_that_asked_for_gpus_which_torch_does_not_find_is_refused(
    wanted: str, visible: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv(WANTED, wanted)
    monkeypatch.setenv(VISIBLE, visible)

    expected = pytest.raises(HwlError, match="has the GPUs 0 and torch finds none")
    with expected if refused else contextlib.nullcontext():
        gpus.check_gpus_are_found()
