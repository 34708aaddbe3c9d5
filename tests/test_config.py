"""Strict configuration: what is accepted, and what an error names."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from hwl import config
from hwl.config import FilePath, Name, build, check
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


@dataclass(frozen=True)
class Bounded:
    folder: FilePath = "a"
    name: Name = "a"
    size: Annotated[int, Meta(ge=32, le=64, multiple_of=32)] = 32
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    rate: Annotated[float, Meta(gt=0)] = 1.0
    kind: Literal["AP", "PCK"] = "AP"
    drops: list[Annotated[int, Meta(ge=1)]] = field(default_factory=list)

    def __post_init__(self) -> None:
        check(self)


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
    ("key", "value", "allowed"),
    [
        ("epochs", "3", "a whole number"),
        ("epochs", 3.5, "a whole number"),
        ("epochs", 1e9, "a whole number"),
        ("epochs", True, "a whole number"),
        ("epochs", None, "a whole number"),
        ("rate", "1e-3", "a number"),
        ("rate", True, "a number"),
        ("rate", math.nan, "a number"),
        ("rate", math.inf, "a number"),
        ("flip", 1, "true or false"),
        ("flip", "true", "true or false"),
        ("output", 3, "text"),
        ("output", "\udcff", "text"),  # a byte that is not UTF-8, as Python reads file names
        ("drops", 4, "a list, each entry a whole number"),
        ("drops", "[4]", "a list, each entry a whole number"),
        ("drops", [1, "2"], "a list, each entry a whole number"),
        ("options", ["head"], "a mapping of names to values"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(
    key: str, value: object, allowed: str
) -> None:
    with pytest.raises(HwlError) as caught:
        build(Job, {"output": "a", key: value})

    assert str(caught.value) == f"parameter '{key}' is {value!r}: it must be {allowed}"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("folder", "", "a path in UTF-8, not empty"),
        ("folder", "a\0b", "a path in UTF-8, not empty"),
        ("folder", "a" * 5000, "a path in UTF-8, not empty"),
        ("name", "../a", "a name without slashes"),
        ("size", 0, "a whole number from 32 to 64, divisible by 32"),
        ("size", 96, "a whole number from 32 to 64, divisible by 32"),
        ("size", 48, "a whole number from 32 to 64, divisible by 32"),
        ("share", -0.1, "a number from 0 to 1"),
        ("share", 1.1, "a number from 0 to 1"),
        ("share", math.nan, "a number from 0 to 1"),
        ("rate", 0.0, "a number above 0"),
        ("kind", "OKS", "one of AP, PCK"),
        ("drops", [3, 0], "a list, each entry a whole number from 1"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_however_the_configuration_is_made(
    key: str, value: object, allowed: str
) -> None:
    for make in (lambda: build(Bounded, {key: value}), lambda: Bounded(**{key: value})):
        with pytest.raises(HwlError) as caught:
            make()

        message = str(caught.value)
        assert message.startswith(f"parameter '{key}' is ") and len(message) < 300
        assert message.endswith(f": it must be {allowed}")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (config.Count, (0, 2**31)),
        (config.CountOrZero, (-1, 2**31)),
        (config.InputSide, (0, 33, 2080)),
        (config.OwnOrInputSide, (-32, 33, 2080)),
        (config.BatchSize, (-1, 0, 65537)),
        (config.Workers, (-1, 257)),
        (config.Threads, (-1, 1025)),
        (config.Seed, (-1, 2**32)),
        (config.Sigma, (0.0, 100.5, math.nan)),
    ],
)
def test_what_the_configurations_share_has_bounds(kind: object, wrong: tuple[float, ...]) -> None:
    for value in wrong:
        with pytest.raises(HwlError, match=f"parameter 'it' is {value}"):
            config.checked("it", value, kind)


@pytest.mark.parametrize("value", [0, 0.0, 1.0])
def test_the_bounds_themselves_are_allowed(value: float) -> None:
    assert build(Bounded, {"share": value}).share == value


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(HwlError, match="'size' is 31"):
        dataclasses.replace(Bounded(), size=31)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(HwlError, match="parameter 'output' is missing: it must be text"):
        build(Job, {"epochs": 1})


def test_the_values_are_left_alone() -> None:
    values = {"output": "a", "drops": [1]}

    build(Job, values).drops.append(2)

    assert values == {"output": "a", "drops": [1]}


def test_relative_paths_start_at_the_project_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert in_project("results/a") == PROJECT / "results/a"
    assert (PROJECT / "notebooks/1_train.ipynb").is_file()
    assert in_project(str(tmp_path / "a")) == tmp_path / "a"
    assert in_project("~/a") == Path.home() / "a"
