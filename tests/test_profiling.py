"""Latencies measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from hwl import profiling
from hwl.models import create_model
from hwl.profiling import SpeedConfig, compare_speed, latencies


def test_tasks_are_measured_in_turns_after_three_rounds_of_warm_up() -> None:
    calls: list[str] = []

    seconds = latencies({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4)

    assert calls == ["a", "b"] * (3 + 4)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}


def test_a_latency_is_the_time_of_its_own_task() -> None:
    def sleep(duration: float) -> Callable[[], None]:
        return lambda: time.sleep(duration)

    seconds = latencies({"long": sleep(0.03), "short": sleep(0)}, rounds=3)

    assert min(seconds["long"]) >= 0.03
    assert min(seconds["short"]) < 0.03


def test_a_comparison_has_a_row_a_system_and_setting() -> None:
    threads = torch.get_num_threads()
    config = SpeedConfig(
        "", ["ours", "shufflenetv2"], input_height=64, input_width=64, threads=[1], rounds=3
    )

    sizes, times = compare_speed(config)

    assert sizes["system"].tolist() == ["ours", "shufflenetv2"]
    assert sizes["parameters"].tolist() == [3_077_882, 7_550_965]
    on_cpu = times[times["setting"] == "CPU, 1 thread"]
    assert on_cpu["system"].tolist() == ["ours", "shufflenetv2"]
    assert (on_cpu["low_ms"] <= on_cpu["median_ms"]).all()
    assert (on_cpu["median_ms"] <= on_cpu["high_ms"]).all()
    assert on_cpu["FPS"].tolist() == pytest.approx((1000 / on_cpu["median_ms"]).tolist())
    assert torch.get_num_threads() == threads


def test_speed_is_not_that_of_denormal_numbers() -> None:
    """A fresh ViPNAS answers with zeros from denormal activations, many times slower."""
    model = create_model("vipnas_mbv3").apply(profiling._ordinary_weights).eval()

    with torch.inference_mode():
        spread = float(model(torch.randn(1, 3, 64, 64)).std())

    assert spread > 1e-3
