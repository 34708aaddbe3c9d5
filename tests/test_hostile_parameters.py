"""Every parameter of a training and of an evaluation, set to what no user means.

Such a value is refused in one line that names the parameter, or the run ends and is right.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hwl import cli, execute
from hwl.config import build
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import evaluate_weights
from hwl.files import read_json
from hwl.training.config import TrainConfig
from hwl.training.fit import fit

VALUES = (-1, 0, 10**9, 1e9, math.nan, math.inf, "", None, [], [-1], ["a"], {"a": 1})
TEXTS = ("-1", "0", "1e9", "1000000000", "nan", "inf", "", "null", "[1]", '{"a": 1}')
NOTEBOOKS = {TrainConfig: "1_train", EvaluateConfig: "2_evaluate"}
REQUIRED = {
    TrainConfig: {"output": "run", "data": "data"},
    EvaluateConfig: {"output": "run", "data": "data", "weights": "w.safetensors"},
}
SECONDS = 120  # a run takes one, and minutes on a machine that does much else

MakeConfig = Callable[..., TrainConfig]


def cases(cls: type) -> list[tuple[str, object]]:
    return [(field.name, value) for field in dataclasses.fields(cls) for value in VALUES]


def accepted(cls: type) -> list[tuple[str, object]]:
    """The cases that the configuration takes and that are not its default."""
    kept = []
    for name, value in cases(cls):
        try:
            built = build(cls, {**REQUIRED[cls], name: value})
        except HwlError:
            continue
        field = next(field for field in dataclasses.fields(cls) if field.name == name)
        if getattr(built, name) != field.default and value != {"a": 1}:
            kept.append((name, value))
    return kept


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"it went on for {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("cls", REQUIRED, ids=lambda cls: cls.__name__)
def test_what_is_refused_is_told_in_one_line_that_names_the_parameter(cls: type) -> None:
    refused = 0
    for name, value in cases(cls):
        try:
            build(cls, {**REQUIRED[cls], name: value})
        except HwlError as error:
            assert str(error).startswith(f"parameter '{name}' is ") and "\n" not in str(error)
            refused += 1
    assert refused > len(cases(cls)) * 0.8


@pytest.mark.parametrize("cls", REQUIRED, ids=lambda cls: cls.__name__)
def test_a_notebook_refuses_a_text_in_one_line_that_names_the_parameter(cls: type) -> None:
    path, refused = execute.NOTEBOOKS / f"{NOTEBOOKS[cls]}.ipynb", 0
    for field in dataclasses.fields(cls):
        for text in TEXTS:
            try:
                value = execute.parse(path, field.name, text)
                build(cls, {**REQUIRED[cls], field.name: value})
            except HwlError as error:
                assert f"parameter '{field.name}' is " in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > len(TEXTS) * len(dataclasses.fields(cls)) * 0.4


@pytest.mark.parametrize("cls", REQUIRED, ids=lambda cls: cls.__name__)
def test_the_command_line_refuses_the_same_without_a_traceback(
    cls: type, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    command = NOTEBOOKS[cls][2:]
    taken = []
    monkeypatch.setattr("hwl.training.fit.fit", taken.append)
    monkeypatch.setattr("hwl.evaluation.evaluate.evaluate_weights", lambda config: 1 / 0)
    for field in dataclasses.fields(cls):
        for text in ("-1", "nan", "", "[1]"):  # those that differ most, for parsing takes its time
            given = {**REQUIRED[cls], field.name: text}
            options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
            monkeypatch.setattr(sys, "argv", ["hwl", command, *options])
            try:
                cli.main()
            except ZeroDivisionError:
                taken.append(None)  # the evaluation would have begun
            except SystemExit as leaving:
                out, err = capfd.readouterr()
                assert leaving.code == 2 or f"'{field.name}' is " in str(leaving.code)
                assert "Traceback" not in out + err + str(leaving.code)
    assert 0 < len(taken) < 2 * len(dataclasses.fields(cls))


@pytest.mark.parametrize(("name", "value"), accepted(TrainConfig))
def test_a_training_with_an_unusual_value_ends_whole_or_is_refused(
    name: str, value: object, small_training: MakeConfig, tmp_path: Path
) -> None:
    tiny = {"epochs": 1, "train_limit": 4, "val_limit": 1}
    config = small_training(tmp_path / "run", **{**tiny, name: value})

    with time_limit():
        history = fit(config)

    assert len(history) == 1 and math.isfinite(history[0]["loss"]) and history[0]["steps"] >= 1
    assert read_json(tmp_path / "run/metrics.json")["AP"] >= 0


@pytest.mark.parametrize(("name", "value"), accepted(EvaluateConfig))
def test_an_evaluation_with_an_unusual_value_ends_whole_or_is_refused(
    name: str, value: object, trained: Path, puppets: Path
) -> None:
    tiny = {
        **{"output": "run", "data": str(puppets), "weights": str(trained / "best.safetensors")},
        **{"input_height": 64, "input_width": 32, "workers": 0, "threads": 1, "bootstrap": 2},
    }

    with time_limit():
        _, evaluations = evaluate_weights(build(EvaluateConfig, {**tiny, name: value}))

    assert all(0 <= evaluation.metrics["AP"] <= 1 for evaluation in evaluations)
