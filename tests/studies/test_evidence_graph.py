"""The evidence experiment's graph: first seeds first, and on from tests that are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwl.paths import PROJECT

MAIN = ("zero", "identity", "placebo")


def planned(folder: Path) -> list[str]:
    """What the graph would make in a folder before the pilot is decided, in order."""
    profile = PROJECT / "profiles/evidence"
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2"]
    command += ["--snakefile", f"{profile}.smk", "--configfile", f"{profile}.yaml"]
    done = subprocess.run(
        [*command, "--directory", str(folder)], capture_output=True, text=True, check=True
    )
    return re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, re.M)


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    """A folder with the pilot's tests as they are published, without any weights."""
    for arm in MAIN:
        for seed in range(4):
            run = tmp_path / f"runs/evidence/evaluate/{arm}-seed{seed}"
            run.mkdir(parents=True)
            (run / "persons.npz").touch()
    return tmp_path


def test_nothing_is_trained_for_tests_that_are_there(tested: Path) -> None:
    (tested / "runs/evidence/evaluate/placebo-seed3/persons.npz").unlink()

    runs = [job for job in planned(tested) if job.startswith(("train", "test"))]

    assert sorted(runs) == ["test placebo, seed 3", "train placebo, seed 3"]


def test_with_all_tests_there_only_the_pilot_and_the_report_are_made(tested: Path) -> None:
    assert planned(tested) == ["the pilot: how many seeds", "the report of runs/evidence"]


def test_all_of_the_pilot_is_made_where_nothing_is(tmp_path: Path) -> None:
    trained = [job for job in planned(tmp_path) if job.startswith("train")]

    assert sorted(trained) == sorted(f"train {arm}, seed {s}" for arm in MAIN for s in range(4))


def test_what_the_weighting_does_is_told_of_runs_whose_weights_are_there(tested: Path) -> None:
    weights = tested / "runs/evidence/train/identity-seed0/last.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()

    traces = [job for job in planned(tested) if job.startswith("what")]

    assert traces == ["what the weighting does to identity over training"]


def test_a_stage_whose_images_are_not_there_is_left_out_and_the_others_are_made(
    tested: Path,
) -> None:
    decided = tested / "runs/evidence/pilot/metrics.json"
    decided.parent.mkdir()
    decided.write_text('{"seeds": 4}')

    trained = [job for job in planned(tested) if job.startswith("train")]

    assert "train double, seed 0" in trained
    assert not [job for job in trained if "lsp" in job or "coco" in job]
