"""Killed trainings: at a step and in the middle of writing a checkpoint, resumed to the bit.

The uninterrupted run has 2 epochs of 3 steps and checkpoints after steps 2, 3, 5 and 6.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hwl.errors import HwlError
from hwl.training.checkpoints import load_checkpoint
from hwl.training.config import TrainConfig
from hwl.training.fit import fit
from hwl.training.state import MACHINE_FIELDS

MakeConfig = Callable[..., TrainConfig]

# A training that kills itself, to be run as another process: arguments config and moment.
START = """
import io, json, os, signal, sys
import torch
from hwl.training import fit as training

def die():
    os.kill(os.getpid(), signal.SIGKILL)

config = training.TrainConfig(**json.loads(sys.argv[1]))
moment, number = sys.argv[2], int(sys.argv[3])
calls = 0

def at_call(function, instead):
    def replaced(*arguments):
        global calls
        calls += 1
        return instead(*arguments) if calls == number else function(*arguments)
    return replaced

def half_a_file(state, file):
    whole = io.BytesIO()
    save(state, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    die()

save = torch.save
if moment == "step":
    training.TrainingState.count = at_call(training.TrainingState.count, lambda *_: die())
elif moment == "write":
    torch.save = at_call(save, half_a_file)
elif moment == "rename":
    os.fsync = at_call(os.fsync, lambda *_: die())
training.fit(config)
"""


def killed(config: TrainConfig, moment: str, number: int) -> Path:
    """The partial folder that a training leaves, killed at the n-th step, write or rename."""
    arguments = [json.dumps(dataclasses.asdict(config)), moment, str(number)]
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path(config.output).exists()
    return Path(config.output + ".partial")


def history(folder: Path) -> list[dict[str, str]]:
    """A run's history without what depends on the clock."""
    with (folder / "history.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_same_run(folder: Path, expected: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert history(folder) == history(expected)
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}


def half_trained(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a run that broke off, without a process of its own, at step 3."""
    count, steps = "hwl.training.fit.TrainingState.count", iter(range(1, 4))

    def broken(run: object, loss: torch.Tensor) -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt
        run.step, run.epoch_step = run.step + 1, run.epoch_step + 1

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(count, broken)
        fit(config)
    return Path(config.output + ".partial/checkpoint.pt")


@pytest.mark.parametrize(("step", "resumed_at"), [(3, 2), (6, 5)])
def test_a_run_killed_at_a_step_goes_on_to_the_same_bits(
    step: int,
    resumed_at: int,
    trained: Path,
    small_training: MakeConfig,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
) -> None:
    config = small_training(tmp_path / "run")
    killed(config, "step", step)

    fit(config)

    assert f"step {resumed_at}\n" in capfd.readouterr().out
    assert_same_run(tmp_path / "run", trained)


# Half of the bytes are written, or all of them are and the new file has not taken its place.
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    moment: str, trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    partial = killed(config, moment, 3)

    assert (partial / "checkpoint.pt.partial").stat().st_size > 10**6
    assert load_checkpoint(partial / "checkpoint.pt")["position"][0] == 3
    fit(config)
    assert_same_run(tmp_path / "run", trained)


def test_a_truncated_checkpoint_is_named(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    checkpoint = half_trained(config, monkeypatch)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])

    with pytest.raises(HwlError, match=r"run\.partial/checkpoint\.pt is not a whole checkpoint"):
        fit(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 2e-3}, r"run\.partial holds a run begun with lr=0\.001, not 0\.002"),
        ({"seed": 1}, "begun with seed=0, not 1"),
        ({"lr_drops": []}, r"begun with lr_drops=\[1\], not \[\]"),
    ],
)
def test_going_on_with_another_recipe_is_refused_and_names_the_difference(
    changes: dict[str, object],
    message: str,
    small_training: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    half_trained(small_training(tmp_path / "run"), monkeypatch)

    with pytest.raises(HwlError, match=message):
        fit(small_training(tmp_path / "run", **changes))


def test_going_on_with_other_workers_threads_and_checkpoint_steps_is_allowed(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    half_trained(small_training(tmp_path / "run"), monkeypatch)

    fit(small_training(tmp_path / "run", workers=1, threads=0, checkpoint_steps=3))

    assert len(history(tmp_path / "run")) == 2


def test_what_may_change_does_not_change_what_a_run_computes() -> None:
    assert set(MACHINE_FIELDS) == {"output", "workers", "threads", "checkpoint_steps", "processes"}


def test_a_finished_run_is_made_anew_and_replaces_the_older_one_whole(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    fit(small_training(tmp_path / "run", seed=1, evaluate_every=1))

    fit(small_training(tmp_path / "run"))

    assert_same_run(tmp_path / "run", trained)
