"""The graph is run once at a time, goes on after a kill, and names what every profile publishes."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
import yaml

from hwl.errors import HwlError
from hwl.execute import NOTEBOOKS, parse
from hwl.paths import PROJECT
from hwl.runs import graph
from hwl.speed.repeated import runs_of

Commands = list[list[str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one profile and no process at work in it."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/small.yaml").write_text("profile: small\n")
    monkeypatch.setattr(graph, "PROJECT", tmp_path)
    monkeypatch.setattr(graph, "PATIENCE", 0.5)
    return tmp_path


@pytest.fixture
def commands(project: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Records snakemake's command lines instead of running them."""
    found: Commands = []
    monkeypatch.setattr(graph, "_run", lambda command: found.append(command) or 0)
    return found


@pytest.fixture
def at_work(project: Path) -> Iterator[int]:
    """A process of a graph that somebody killed, still at work in the project."""
    environment = {**os.environ, graph.MARK: str(project)}
    wait = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
    with subprocess.Popen(wait, env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


def leave_locked(project: Path) -> None:
    (project / ".snakemake/locks").mkdir(parents=True)
    (project / ".snakemake/locks/0.input.lock").touch()


def test_snakemake_makes_what_is_out_of_date_of_the_profile(commands: Commands) -> None:
    graph.reproduce("small", cores=3)

    (command,) = commands
    assert command[command.index("--cores") + 1] == "3" and "--rerun-incomplete" in command
    assert command[command.index("--configfile") + 1].endswith("profiles/small.yaml")
    assert "--unlock" not in command


def test_jobs_at_work_at_once_are_no_more_than_the_gpus(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")

    graph.reproduce("small", cores=64)

    (command,) = commands
    assert command[command.index("--resources") + 1] == "gpu=3"


def test_after_a_kill_the_folder_is_unlocked_first(commands: Commands, project: Path) -> None:
    leave_locked(project)

    graph.reproduce("small", cores=1)

    assert ["--unlock" in command for command in commands] == [True, False]


def test_while_a_process_of_a_killed_graph_is_at_work_nothing_is_unlocked(
    commands: Commands, project: Path, at_work: int
) -> None:
    leave_locked(project)

    with pytest.raises(HwlError, match=f"process {at_work} of an earlier graph is at work"):
        graph.reproduce("small", cores=1)

    assert commands == []


def test_another_graph_in_the_same_project_is_refused(commands: Commands, project: Path) -> None:
    (project / ".snakemake").mkdir()
    with (
        filelock.FileLock(project / ".snakemake/hwl.lock"),
        pytest.raises(HwlError, match="another `make reproduce` is at work"),
    ):
        graph.reproduce("small", cores=1)

    assert commands == []


def test_a_failed_job_is_told_with_the_folder_of_what_jobs_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_run", lambda command: 1)

    with pytest.raises(HwlError, match=r"a job failed; .* is in .*runs/small/logs"):
        graph.reproduce("small", cores=1)


def test_a_profile_with_a_graph_of_its_own_is_made_by_that(
    project: Path, commands: Commands
) -> None:
    (project / "profiles/small.smk").touch()

    graph.reproduce("small", 1)

    (command,) = commands
    assert command[command.index("--snakefile") + 1] == str(project / "profiles/small.smk")


def test_a_schedulers_jobs_are_limited_by_the_profile_and_not_by_this_machine(
    project: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("shutil.which", lambda name: name)
    (project / "profiles/small.yaml").write_text("{profile: small, cluster: {jobs: 5, retries: 7}}")

    graph.reproduce("small", cores=1, executor="slurm")

    (command,) = commands
    told = dict(itertools.pairwise(command))
    assert told["--executor"] == "slurm" and "--cores" not in told
    assert (told["--jobs"], told["--retries"]) == ("5", "7")
    assert told["--slurm-logdir"] == "runs/small/logs/slurm"


def test_a_profile_with_a_graph_of_its_own_is_not_given_to_a_scheduler(
    project: Path, commands: Commands
) -> None:
    (project / "profiles/small.smk").touch()

    with pytest.raises(HwlError, match="profile 'small' runs on one machine"):
        graph.reproduce("small", cores=1, executor="slurm")

    assert commands == []


def test_what_is_to_be_made_again_is_forced(commands: Commands) -> None:
    graph.reproduce("small", cores=1, again=["a/notebook.html", "b/notebook.html"])

    (command,) = commands
    at = command.index("--forcerun")
    assert command[at + 1 : at + 3] == ["a/notebook.html", "b/notebook.html"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: other", "must say 'profile: small'"),  # its runs would replace the other's
        ("", "must say 'profile: small'"),
        ("profile: [", "cannot be read"),
    ],
)
def test_a_profile_that_names_another_one_or_is_broken_is_refused(
    text: str, message: str, project: Path, commands: Commands
) -> None:
    (project / "profiles/small.yaml").write_text(text)

    with pytest.raises(HwlError, match=rf"small\.yaml {message}") as told:
        graph.reproduce("small", cores=1)

    assert "\n" not in str(told.value) and commands == []


def test_an_unknown_profile_is_told_with_the_known_ones(project: Path) -> None:
    with pytest.raises(HwlError, match="profile 'smal' is not one of small"):
        graph.reproduce("smal", cores=1)


# Those of the Snakefile; one with a graph of its own has its own tests.
PROFILES = [
    path
    for path in sorted((PROJECT / "profiles").glob("*.yaml"))
    if not path.with_suffix(".smk").exists()
]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_published_folder_is_a_target_of_its_profile(path: Path) -> None:
    profile = yaml.safe_load(path.read_text())
    runs = [f"{v}-seed{s}" for v in profile["variants"] for s in profile["seeds"].get(v, [0])]
    targets = {f"{kind}/{run}" for kind in ("train", "evaluate", "evaluate_int8") for run in runs}
    targets |= {"loss_weights", "ablations", "report", *runs_of(profile["speed"])}
    published = PROJECT / "results" / path.stem

    assert path.stem == profile["profile"]
    found = {one.parent.relative_to(published).as_posix() for one in published.rglob("run.json")}
    assert found <= targets


@pytest.fixture(scope="module")
def embedded_jobs() -> list[str]:
    """The command lines of all jobs of the embedded profile."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--printshellcmds"]
    command += ["--cores", "2", "--nolock"]
    dry = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return [line for line in dry.stdout.splitlines() if " -m hwl " in line]


@pytest.mark.slow
def test_every_job_of_the_embedded_profile_keeps_what_it_says(embedded_jobs: list[str]) -> None:
    assert len(embedded_jobs) == 9
    assert [job for job in embedded_jobs if " 2>&1 | tee runs/embedded/logs/" not in job] == []


def test_every_job_gives_its_notebook_parameters_that_it_has(embedded_jobs: list[str]) -> None:
    names = set()
    for job in embedded_jobs:
        _, ran, rest = job.partition(" -m hwl run ")
        if ran:
            name, *options = shlex.split(rest.partition(" 2>&1 ")[0])
            given = [at + 1 for at, word in enumerate(options) if word == "-p"]
            for at in given:
                parse(NOTEBOOKS / f"{name}.ipynb", options[at], options[at + 1])
            names.add(name)

    assert names == {path.stem for path in NOTEBOOKS.glob("*.ipynb")}


@pytest.mark.parametrize("path", [PROJECT / "Snakefile", PROJECT / "profiles/evidence.smk"])
def test_snakemake_deletes_no_output_before_a_job_begins(path: Path) -> None:
    outputs = re.findall(r"^( +)output:\n((?:\1 .*\n)+)", path.read_text(), re.M)

    files = [line.strip() for _, block in outputs for line in block.splitlines()]
    assert len(files) > 5
    assert [one for one in files if not re.fullmatch(r"(\w+=)?update\(.*\),", one)] == []


@pytest.mark.slow
def test_the_profile_of_the_speed_alone_trains_nothing_and_runs_a_setting_several_times() -> None:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "2"]
    command += ["--nolock", "--configfile", "profiles/speed.yaml"]
    dry = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)

    timed = re.findall(r"time the models: (\S+)", dry.stdout)
    profile = yaml.safe_load((PROJECT / "profiles/speed.yaml").read_text())
    assert sorted(timed) == sorted(runs_of(profile["speed"])) and len(timed) > len(profile["speed"])
    assert "train" not in dry.stdout and "evaluate" not in dry.stdout


@pytest.mark.slow
def test_a_profile_without_speed_settings_evaluates_all_its_variants_in_int8_too() -> None:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "2"]
    command += ["--nolock", "--configfile", "profiles/models.yaml"]
    dry = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert dry.stdout.count("in int8\n") == 6, dry.stderr


@pytest.mark.slow
def test_the_graph_draws_the_puppets_and_refuses_other_ones(tmp_path: Path) -> None:
    profile = yaml.safe_load((PROJECT / "profiles/embedded.yaml").read_text())
    profile["puppets"] = {"train_images": 2, "val_images": 1, "seed": 0}
    (tmp_path / "drawn.yaml").write_text(yaml.safe_dump(profile))
    profile["puppets"]["train_images"] = 3
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(profile))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")]
    command += ["--directory", str(tmp_path), "--cores", "2", "data/puppets/puppets.json"]

    drawn, other = (
        subprocess.run(
            [*command, "--configfile", str(tmp_path / name)],
            **{"capture_output": True, "text": True, "check": False},
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        for name in ("drawn.yaml", "other.yaml")
    )

    assert drawn.returncode == 0, drawn.stdout + drawn.stderr
    assert len(list((tmp_path / "data/puppets/train2017").iterdir())) == 2
    assert other.returncode and "does not hold the puppets" in other.stdout + other.stderr
