"""Models of one setting measured interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hwl.inference import timing
from hwl.inference.timing import latencies
from hwl.speed.latency import Setting, differences, time_models

ONE_THREAD = Setting("cpu", 1)


def sleeping(seconds: float) -> Callable[[Tensor], Tensor]:
    def model(images: Tensor) -> Tensor:
        time.sleep(seconds)
        return images

    return model


def test_tasks_are_measured_in_turns_after_a_round_of_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "BURST", 0)
    calls: list[str] = []

    seconds = latencies({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4)

    assert calls == ["a", "a", "b", "b"] * (1 + 4)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}


def test_a_task_is_repeated_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    runs: list[float] = []

    def cold_at_first() -> None:
        runs.append(0.06 if len(runs) % 3 == 0 else 0.05)
        clock[0] += runs[-1]

    seconds = latencies({"task": cold_at_first}, rounds=2)["task"]

    assert runs == [0.06, 0.05, 0.05] * 3
    assert seconds == pytest.approx([0.05, 0.05])


def test_a_latency_is_the_time_of_its_own_task() -> None:
    seconds = latencies(
        {"long": lambda: time.sleep(0.03), "short": lambda: time.sleep(0)}, rounds=3
    )

    assert min(seconds["long"]) >= 0.03
    assert min(seconds["short"]) < 0.03


def test_a_task_starts_when_the_threads_of_the_last_one_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As engines do, a thread goes on for a while after its task has returned."""
    busy_until = [0.0]
    clock = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(timing, "BURST", 0)
    monkeypatch.setattr(timing.time, "sleep", sleep)
    monkeypatch.setattr(timing.time, "process_time", lambda: min(clock[0], busy_until[0]))
    late: list[bool] = []

    def spinning() -> None:
        busy_until[0] = clock[0] + 0.03

    latencies({"engine": spinning, "next": lambda: late.append(clock[0] < busy_until[0])}, rounds=2)

    assert not any(late) and len(late) == 6
    assert len(waits) < 60  # and not for ever


def test_rows_have_median_and_quartiles_in_ms_a_image() -> None:
    models = {("ours", "eager"): sleeping(0.02), ("ours", "openvino-int8"): sleeping(0.01)}

    rows, rate = time_models(models, (32, 32), ONE_THREAD, batch=2, rounds=3)

    assert [(row["model"], row["runtime"], row["precision"]) for row in rows] == [
        ("ours", "eager", "float32"),
        ("ours", "openvino-int8", "int8"),
    ]
    for row, least in zip(rows, (10, 5), strict=True):
        assert least <= row["low_ms"] < 2 * least
        assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        assert row["FPS"] == pytest.approx(1000 / row["median_ms"])
        assert (row["device"], row["threads"], row["batch"]) == ("cpu", 1, 2)
    assert (rate["device"], rate["threads"], rate["batch"]) == ("cpu", 1, 2)


def test_the_peak_rate_is_the_rate_of_a_matrix_product() -> None:
    _, rate = time_models({}, (32, 32), ONE_THREAD, batch=1, rounds=3)

    matrix = torch.randn(1024, 1024)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        torch.matmul(matrix, matrix)
        seconds.append(time.perf_counter() - started)
    expected = 2 * 1024**3 / min(seconds) / 1e9
    assert expected / 5 < rate["GFLOP/s"] < 5 * expected


def test_differences_are_from_eager_over_its_largest_value() -> None:
    crops = torch.randn(5, 3, 8, 8)
    crops[3, 0, 0, 0] = -10.0
    batches: list[int] = []

    def eager(images: Tensor) -> Tensor:
        batches.append(len(images))
        return images

    def other(images: Tensor) -> Tensor:
        return torch.where(images == -10.0, -9.5, images)

    models = {("a", "eager"): eager, ("a", "openvino"): other, ("b", "eager"): lambda x: 3 * x}

    rows = differences(models, crops, 2, ONE_THREAD)

    found = {(row["model"], row["runtime"]): row["difference / largest value"] for row in rows}
    assert found == {
        ("a", "eager"): 0,
        ("a", "openvino"): pytest.approx(0.05),
        ("b", "eager"): 0,
    }
    assert batches == [2, 2, 1]
