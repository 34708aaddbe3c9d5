"""Strict configuration: what is accepted, and what an error names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hwl.config import build
from hwl.errors import HwlError
from hwl.paths import PROJECT, in_project


@dataclass(frozen=True)
class Job:
    output: str
    epochs: int = 3
    rate: float = 0.5
    flip: bool = True
    drops: list[int] = field(default_factory=lambda: [1])
    options: dict = field(default_factory=dict)


def test_values_become_fields_and_the_rest_keeps_its_default() -> None:
    built = build(Job, {"output": "a", "rate": 1e-3, "drops": [4, 5], "options": {"head": "lite"}})

    assert built == Job("a", 3, 1e-3, True, [4, 5], {"head": "lite"})


def test_a_whole_number_serves_as_float() -> None:
    rate = build(Job, {"output": "a", "rate": 1}).rate

    assert rate == 1 and isinstance(rate, float)


@pytest.mark.parametrize(
    ("key", "nearest"), [("epoch", "epochs"), ("Flip", "flip"), ("outputs", "output")]
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(HwlError, match=f"unknown parameter '{key}'; did you mean '{nearest}'"):
        build(Job, {"output": "a", key: 1})


def test_an_unknown_key_near_to_nothing_is_an_error_too() -> None:
    with pytest.raises(HwlError, match="unknown parameter '%%'"):
        build(Job, {"output": "a", "%%": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"),
        ("epochs", 3.5),
        ("epochs", True),
        ("epochs", None),
        ("rate", "1e-3"),
        ("rate", True),
        ("flip", 1),
        ("flip", "true"),
        ("output", 3),
        ("drops", 4),
        ("drops", "[4]"),
        ("options", ["head"]),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(key: str, value: object) -> None:
    with pytest.raises(HwlError) as caught:
        build(Job, {"output": "a", key: value})

    assert f"parameter '{key}': expected" in str(caught.value)
    assert f"not {value!r}" in str(caught.value)


def test_a_wrong_entry_of_a_list_is_named() -> None:
    with pytest.raises(HwlError, match=r"drops.*expected `int`, got `str`"):
        build(Job, {"output": "a", "drops": [1, "2"]})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(HwlError, match="missing required field `output`"):
        build(Job, {"epochs": 1})


def test_the_values_are_left_alone() -> None:
    values = {"output": "a", "drops": [1]}

    build(Job, values).drops.append(2)

    assert values == {"output": "a", "drops": [1]}


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(build(Job, {"output": "a", "rate": math.nan}).rate)


def test_relative_paths_start_at_the_project_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert in_project("results/a") == PROJECT / "results/a"
    assert (PROJECT / "notebooks/1_train.ipynb").is_file()
    assert in_project(str(tmp_path / "a")) == tmp_path / "a"
    assert in_project("~/a") == Path.home() / "a"
