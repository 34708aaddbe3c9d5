"""Progress in a log: a line now and then, and every item once."""

from __future__ import annotations

import pytest

from hwl.progress import _with_lines, progress


class Clock:
    """A clock that goes on by so many seconds an item."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def tick(self) -> float:
        return self.time


def lines_of(
    count: int, seconds: float, total: int | None, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    clock = Clock(seconds)
    seen = []
    for item in _with_lines(range(count), "predict", total, clock.tick):
        seen.append(item)
        clock.time += clock.step
    assert seen == list(range(count))
    return capsys.readouterr().out.splitlines()


def test_a_long_loop_gets_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(100, 6.0, 100, capsys)

    assert lines[0] == "predict: 10% (10 of 100), 60 s, about 540 s left" and len(lines) == 9


def test_a_short_loop_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(100, 0.09, 100, capsys) == []


def test_a_loop_of_few_slow_items_gets_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = lines_of(4, 30.0, 4, capsys)

    assert [line.split(",")[0] for line in lines] == [
        "predict: 25% (1 of 4)",
        "predict: 50% (2 of 4)",
        "predict: 75% (3 of 4)",
    ]


def test_a_loop_of_unknown_length_counts(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(5, 6.0, None, capsys)

    assert lines == ["predict: 2 done, 12 s", "predict: 4 done, 24 s"]


def test_nothing_is_written_to_standard_error_in_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)

    assert list(progress([1, 2], "x")) == [1, 2]

    assert capsys.readouterr() == ("", "")
