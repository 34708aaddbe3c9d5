"""What a profile's jobs ask a scheduler for, and how snakemake gives them to SLURM."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from hwl.config import Count, CountOrZero, build, check
from hwl.errors import HwlError

PLUGIN = "snakemake_executor_plugin_slurm"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A profile's entry `cluster`; cores are its `cores_per_run`."""

    gpus: CountOrZero = 0  # of a training, an evaluation or a speed comparison
    memory_GB: Count = 8  # of every job
    minutes: Count = 120  # likewise; a training that takes more goes on in the next job
    jobs: Count = 8  # queued or running at once
    retries: CountOrZero = 3  # times that a job that failed or met its limit is given again

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

    def resources(self) -> dict[str, int]:
        """What every job asks for, by snakemake's names."""
        return {"mem_mb": 1000 * self.memory_GB, "runtime": self.minutes}


def cluster_of(profile: Mapping[str, object]) -> Cluster:
    """The entry `cluster` of a profile, as snakemake reads it, or its defaults.

    Raises:
        HwlError: a value is not allowed.
    """
    values = profile.get("cluster", {})
    if not isinstance(values, Mapping):
        raise HwlError(f"parameter 'cluster' is {values!r}: it must be a mapping")
    try:
        return build(Cluster, values)
    except HwlError as error:
        raise HwlError(f"'cluster': {error}") from None


def slurm_options(cluster: Cluster, logs: str) -> list[str]:
    """Options that make snakemake give its jobs to SLURM.

    A job that fails, is cancelled or meets its time limit is given again: a training goes on from
    its checkpoint. One whose node fails is queued again by SLURM itself.

    Args:
        cluster: of the profile.
        logs: folder for what SLURM keeps of each job.

    Raises:
        HwlError: snakemake's plugin or SLURM is not installed.
    """
    if importlib.util.find_spec(PLUGIN) is None:
        raise HwlError("executor 'slurm' needs snakemake's plugin: pip install 'hwl[slurm]'")
    if shutil.which("sbatch") is None:
        raise HwlError("executor 'slurm' needs the command sbatch: run this where jobs are given")
    return [
        *("--executor", "slurm", "--jobs", str(cluster.jobs), "--retries", str(cluster.retries)),
        # What other jobs of the graph need goes on; files of other machines appear late.
        *("--keep-going", "--latency-wait", "60", "--slurm-requeue"),
        *("--slurm-logdir", logs, "--slurm-keep-successful-logs"),
    ]
