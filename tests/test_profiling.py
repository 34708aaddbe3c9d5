"""Counts against the published numbers, and latencies measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from hwl import profiling
from hwl.models import create_model
from hwl.profiling import SpeedConfig, compare_speed, count, latencies

SMALL, LARGE = (256, 192), (384, 288)


@pytest.mark.parametrize(
    ("system", "size", "parameters", "macs", "mmcv"),
    [
        ("ours", SMALL, 3_077_882, 558_997_088, 580_004_852),
        ("ours", LARGE, 3_077_882, 1_256_114_528, 1_303_374_452),
        ("mobilenetv2", SMALL, 9_569_809, 1_565_042_688, 1_587_256_320),
        ("shufflenetv2", SMALL, 7_550_965, 1_362_276_480, 1_370_998_656),
    ],
)
def test_counts_are_the_papers_by_both_rules(
    system: str, size: tuple[int, int], parameters: int, macs: int, mmcv: int
) -> None:
    counts = count(create_model(system), size)

    assert (counts.parameters, counts.macs, counts.mmcv) == (parameters, macs, mmcv)


@pytest.mark.parametrize(
    ("system", "parameters", "macs", "mmcv_millions"),
    [
        ("vipnas_mbv3", 5_895_725, 734_151_936, 761.96),
        ("litehrnet18", 1_130_769, 242_345_088, 266.00),
        ("litehrnet30", 1_763_717, 386_103_648, 423.74),
    ],
)
def test_counts_of_the_other_peers_are_those_measured(
    system: str, parameters: int, macs: int, mmcv_millions: float
) -> None:
    counts = count(create_model(system), SMALL)

    assert (counts.parameters, counts.macs) == (parameters, macs)
    assert counts.mmcv / 1e6 == pytest.approx(mmcv_millions, abs=0.005)


def test_counting_leaves_the_network_as_it_was() -> None:
    model = create_model("ours").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    count(model, (64, 64))

    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


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
