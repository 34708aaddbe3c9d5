"""What a profile's jobs ask a scheduler for: checked, and with a remedy where there is none."""

from __future__ import annotations

import pytest

from hwl.errors import HwlError
from hwl.runs.cluster import Cluster, cluster_of, slurm_options


def test_a_profile_without_the_entry_has_modest_jobs() -> None:
    assert cluster_of({"profile": "small"}) == Cluster()


def test_memory_and_minutes_are_told_in_snakemakes_units() -> None:
    cluster = cluster_of({"cluster": {"memory_GB": 48, "minutes": 720}})

    assert cluster.resources() == {"mem_mb": 48_000, "runtime": 720}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"memory": 8}, "'cluster': unknown parameter 'memory'; did you mean 'memory_GB'"),
        ({"minutes": 0}, "'cluster': parameter 'minutes' is 0: it must be a whole number from 1"),
        (8, "parameter 'cluster' is 8: it must be a mapping"),
    ],
)
def test_a_wrong_entry_is_named(entry: object, message: str) -> None:
    with pytest.raises(HwlError, match=message):
        cluster_of({"cluster": entry})


def test_without_the_plugin_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(HwlError, match=r"pip install 'hwl\[slurm\]'"):
        slurm_options(Cluster(), "logs")


def test_without_slurm_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(HwlError, match="needs the command sbatch"):
        slurm_options(Cluster(), "logs")
