"""Killed trainings: at a step and in the middle of writing a checkpoint, resumed to the bit.

The uninterrupted run has 2 epochs of 3 steps and checkpoints after steps 2, 3, 5 and 6.
"""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from hwl.errors import HwlError
from hwl.files import read_json
from hwl.runs.provenance import LOADED
from hwl.training.checkpoints import load_checkpoint, save_checkpoint
from hwl.training.config import MACHINE_FIELDS, TrainConfig
from hwl.training.fit import fit

from .same_run import assert_same_run, history

MakeConfig = Callable[..., TrainConfig]

# A training that kills itself at the n-th step, write or rename of a checkpoint.
SCRIPT = """
import io, os, signal, torch
from hwl.training import fit as training

calls = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

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


@pytest.fixture
def killed(started: Callable[..., BaseProcess]) -> Callable[[TrainConfig, str, int], Path]:
    """Kills a training at the n-th step, write or rename; the partial folder that it leaves."""

    def kill(config: TrainConfig, moment: str, number: int) -> Path:
        training = started(SCRIPT, config=config, moment=moment, number=number)
        training.join()
        assert training.exitcode == -signal.SIGKILL
        assert not Path(config.output).exists()
        return Path(config.output + ".partial")

    return kill


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


@pytest.fixture(scope="module")
def trained_halfway(small_training: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The partial folder of a run that broke off at step 3."""
    folder = tmp_path_factory.mktemp("halfway")
    with pytest.MonkeyPatch.context() as patch:
        return half_trained(small_training(folder / "run"), patch).parent


@pytest.mark.slow
def test_with_a_crop_cache_a_killed_run_goes_on_to_the_same_bits(
    killed: Callable[..., Path], small_training: MakeConfig, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    fit(small_training(tmp_path / "whole", crop_cache=cache))
    config = small_training(tmp_path / "run", crop_cache=cache)
    killed(config, "step", 3)

    fit(config)

    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "resumed_at"), [(3, 2), (6, 5)])
def test_a_run_killed_at_a_step_goes_on_to_the_same_bits(
    step: int,
    resumed_at: int,
    trained: Path,
    small_training: MakeConfig,
    tmp_path: Path,
    killed: Callable[..., Path],
    capfd: pytest.CaptureFixture,
) -> None:
    config = small_training(tmp_path / "run")
    killed(config, "step", step)

    fit(config)

    assert f"step {resumed_at}\n" in capfd.readouterr().out
    assert_same_run(tmp_path / "run", trained)


# Half of the bytes are written, or all of them are and the new file has not taken its place.
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    moment: str,
    trained: Path,
    small_training: MakeConfig,
    tmp_path: Path,
    killed: Callable[..., Path],
) -> None:
    config = small_training(tmp_path / "run")
    partial = killed(config, moment, 3)

    assert (partial / "checkpoint.pt.partial").stat().st_size > 10**6
    assert load_checkpoint(partial / "checkpoint.pt")["position"][0] == 3
    fit(config)
    assert_same_run(tmp_path / "run", trained)


def test_an_epochs_seconds_are_those_of_all_its_processes_and_the_next_ones_its_own(
    small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
    state = load_checkpoint(checkpoint)
    begun = state["seconds"]
    save_checkpoint(checkpoint, state | {"seconds": 1000.0})

    first, second = fit(small_training(tmp_path / "run"))

    assert 0 < begun < 1000 < first["seconds"]
    assert 0 < second["seconds"] < 1000


def test_a_truncated_checkpoint_is_named(
    small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
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
    trained_halfway: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(trained_halfway, tmp_path / "run.partial")

    with pytest.raises(HwlError, match=message):
        fit(small_training(tmp_path / "run", **changes))


def test_going_on_in_another_precision_than_auto_was_is_refused(
    small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
    save_checkpoint(checkpoint, load_checkpoint(checkpoint) | {"precision": "bf16"})

    with pytest.raises(HwlError, match="begun in precision 'bf16', and here it is 'no'"):
        fit(small_training(tmp_path / "run"))


def test_a_run_that_other_code_had_begun_tells_so(
    small_training: MakeConfig, trained_halfway: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
    save_checkpoint(checkpoint, load_checkpoint(checkpoint) | {"codes": ["older"]})

    fit(small_training(tmp_path / "run"))

    assert "the code has changed since this run was begun" in capsys.readouterr().out
    assert read_json(tmp_path / "run/run.json")["codes"] == ["older", LOADED["code"]]


def test_going_on_with_other_workers_threads_and_checkpoint_steps_is_allowed(
    small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_halfway, tmp_path / "run.partial")

    fit(small_training(tmp_path / "run", workers=1, threads=0, checkpoint_steps=3))

    assert len(history(tmp_path / "run")) == 2


def test_what_may_change_does_not_change_what_a_run_computes() -> None:
    assert set(MACHINE_FIELDS) == {
        *("output", "workers", "threads", "checkpoint_steps", "processes", "keep_weights"),
        *("compile", "profile"),
    }


def test_a_finished_run_is_made_anew_and_replaces_the_older_one_whole(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    fit(small_training(tmp_path / "run", seed=1, evaluate_every=1))

    fit(small_training(tmp_path / "run"))

    assert_same_run(tmp_path / "run", trained)


def test_going_on_with_changed_data_is_refused(
    small_training: MakeConfig, puppets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = shutil.copytree(puppets, tmp_path / "data")
    config = small_training(tmp_path / "run", data=str(data))
    half_trained(config, monkeypatch)
    file = data / "annotations/person_keypoints_train2017.json"
    file.write_text(file.read_text() + " ")

    with pytest.raises(
        HwlError, match=r"run\.partial holds a run begun with other data: train was"
    ):
        fit(config)


@pytest.mark.parametrize("where", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_a_checkpoint_with_a_flipped_bit_is_refused(
    where: float, small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    content[round(where * (len(content) - 1))] ^= 1
    checkpoint.write_bytes(content)

    with pytest.raises(
        HwlError, match=r"checkpoint\.pt is not a whole checkpoint .*checksum"
    ) as told:
        fit(config)

    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", ["text", "weights", "other parts"])
def test_a_foreign_checkpoint_is_refused_and_kept(
    content: str, small_training: MakeConfig, trained_halfway: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(trained_halfway, tmp_path / "run.partial") / "checkpoint.pt"
    if content == "text":
        checkpoint.write_text("my notes")
    elif content == "weights":
        torch.save({"weight": torch.zeros(3)}, checkpoint)
    else:
        save_checkpoint(checkpoint, {"weight": torch.zeros(3)})
    before = checkpoint.read_bytes()

    with pytest.raises(HwlError, match=r"checkpoint\.pt is no(t a whole)? checkpoint") as told:
        fit(small_training(tmp_path / "run"))

    assert "\n" not in str(told.value)
    assert checkpoint.read_bytes() == before


def test_a_full_disk_is_told_with_what_is_kept(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        HwlError, match=r"No space left on device .* what is in .*run\.partial is kept"
    ):
        fit(small_training(tmp_path / "run"))

    assert load_checkpoint(tmp_path / "run.partial/checkpoint.pt")["position"][0] == 2
