"""A finished training is taken over instead of repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hwl.files import read_json, write_json
from hwl.runs.folder import RunFolder
from hwl.runs.provenance import LOADED
from hwl.training.config import TrainConfig
from hwl.training.fit import fit, train

from .same_run import assert_same_run

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def no_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every training step from now on fail."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    return lambda: monkeypatch.setattr("hwl.training.fit.TrainingState.count", stop)


# A notebook's later cell fails, or it is killed, between the training and its publication.
def test_a_finished_training_that_was_not_published_is_taken_over(
    trained: Path, small_training: MakeConfig, no_step: Callable[[], None], tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    run = RunFolder.of(config)
    first = train(config, run.begin())
    run.close()
    assert (run.path / "checkpoint.pt").exists()

    no_step()
    again = fit(config)

    assert again == first
    assert_same_run(tmp_path / "run", trained)


def test_a_published_training_is_taken_over_with_what_was_added_to_it(
    trained: Path, small_training: MakeConfig, no_step: Callable[[], None], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/notes.txt").write_text("mine")

    no_step()
    fit(small_training(tmp_path / "run"))

    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    (tmp_path / "run/notes.txt").unlink()
    assert_same_run(tmp_path / "run", trained)


@pytest.mark.parametrize(
    "change", ["seed", "code", "weights", "record", "history", "inputs", "processes"]
)
def test_another_training_is_not_taken_over(
    change: str,
    trained: Path,
    small_training: MakeConfig,
    no_step: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    if change == "code":
        monkeypatch.setitem(LOADED, "code", "another")
    elif change == "weights":
        (run / "best.safetensors").write_bytes((run / "last.safetensors").read_bytes()[:-1])
    elif change == "record":
        (run / "run.json").write_text("[]")
    elif change == "history":
        (run / "history.csv").write_text("epoch,loss\n")
    elif change in ("inputs", "processes"):
        record = read_json(run / "run.json")
        write_json(run / "run.json", {**record, change: {"inputs": {}, "processes": 2}[change]})

    no_step()
    with pytest.raises(KeyboardInterrupt):
        fit(small_training(run, seed=int(change == "seed")))


def test_the_checkpoint_goes_when_the_run_is_published(trained: Path) -> None:
    assert not (trained / "checkpoint.pt").exists()
