"""Runs the graph of the Snakefile: one at a time, and on again after a kill or a power cut."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import filelock
import psutil
import yaml

from hwl.errors import HwlError
from hwl.paths import PROJECT
from hwl.runs.cluster import cluster_of, slurm_options
from hwl.runs.gpus import visible_gpus

# In the environment of all processes of a graph: the project that it is at work in.
MARK = "HWL_GRAPH"
PATIENCE = 10.0  # seconds that kernels of a killed graph have to notice it and end


def read_profile(profile: str) -> dict:
    """What a file of `profiles/` says.

    Raises:
        HwlError: there is none of this name, it is no mapping, or it has another profile's name.
    """
    path = PROJECT / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in path.parent.glob("*.yaml")))
        raise HwlError(f"profile '{profile}' is not one of {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise HwlError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or values.get("profile") != profile:
        raise HwlError(
            f"{path} must say 'profile: {profile}', as it is named so: its runs go to "
            f"runs/{profile}"
        )
    return values


def has_own_graph(profile: str) -> bool:
    """Whether a profile is no list of variants, which the Snakefile makes."""
    return (PROJECT / "profiles" / f"{profile}.smk").is_file()


def reproduce(profile: str, cores: int, executor: str = "local", again: Sequence[str] = ()) -> None:
    """Make what is out of date in `runs/<profile>/`, by snakemake.

    Snakemake leaves its folder locked when it is killed. Here, that lock is removed when no
    process of a graph is alive in the project, so that no command is needed in between.

    Args:
        profile: the name of a file in `profiles/`.
        cores: CPU cores of this machine that jobs may use together.
        executor: "local", or "slurm": jobs are given to that scheduler, whose own limits hold.
        again: files that are made again even if they seem to be up to date.

    Raises:
        HwlError: there is no such profile, the executor is not installed or not for it, another
            graph is at work, or a job failed.
    """
    values = read_profile(profile)
    configuration = PROJECT / "profiles" / f"{profile}.yaml"
    command = [sys.executable, "-m", "snakemake", "--rerun-incomplete"]
    command += ["--configfile", str(configuration), "--quiet", "host"]
    if again:
        command += ["--forcerun", *again]
    if has_own_graph(profile):
        command += ["--snakefile", str(configuration.with_suffix(".smk"))]
    if executor == "slurm":
        if has_own_graph(profile):
            raise HwlError(f"profile '{profile}' runs on one machine: leave out --executor slurm")
        command += slurm_options(cluster_of(values), f"runs/{profile}/logs/slurm")
    else:
        command += ["--cores", str(cores)]
        if gpus := visible_gpus():
            command += ["--resources", f"gpu={len(gpus)}"]
    (PROJECT / ".snakemake").mkdir(exist_ok=True)
    try:
        with filelock.FileLock(PROJECT / ".snakemake" / "hwl.lock", timeout=0):
            _wait_for_others()
            if _is_locked():
                print("an earlier run was killed: going on where it was", flush=True)
                _run([*command, "--unlock"])
            status = _run(command)
    except filelock.Timeout:
        raise HwlError(f"another `make reproduce` is at work in {PROJECT}: wait for it") from None
    if status:
        logs = PROJECT / "runs" / profile / "logs"
        raise HwlError(f"a job failed; what each one said is in {logs}")


def _is_locked() -> bool:
    locks = PROJECT / ".snakemake" / "locks"
    return locks.is_dir() and any(locks.iterdir())


def _wait_for_others() -> None:
    """Return when no process of a graph is alive in the project; HwlError if one stays."""
    end = time.monotonic() + PATIENCE
    while alive := _alive():
        if time.monotonic() > end:
            raise HwlError(
                f"process {alive[0]} of an earlier graph is at work in {PROJECT}: wait for it, or "
                "end it"
            )
        time.sleep(0.2)


def _alive() -> list[int]:
    """Snakemake, its jobs and their kernels at work in this project, by their ids."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            by_hand = "snakemake" in " ".join(process.cmdline()[:3]) and (
                process.cwd() == str(PROJECT)
            )
            if process.pid not in own and (by_hand or process.environ().get(MARK) == str(PROJECT)):
                found.append(process.pid)
    return found


def _run(command: list[str]) -> int:
    """Run a command in the project to its end, and return its exit status.

    Ctrl-C reaches the command as well, which ends its jobs; it is waited for.
    """
    process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, MARK: str(PROJECT)})
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
