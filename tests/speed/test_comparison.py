"""The speed comparison: its settings, what it skips, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.inference.predictor import Model
from hwl.skeletons import COCO
from hwl.speed import comparison
from hwl.speed.comparison import Speed, compare_speed
from hwl.speed.config import SpeedConfig

from .quick_models import Prepared, quick_models

Compared = tuple[Speed, Prepared]


@pytest.fixture
def prepared() -> Iterator[Prepared]:
    """What was asked for in a test, of quick models."""
    with quick_models() as asked:
        yield asked


@pytest.fixture(scope="module")
def compared() -> Compared:
    """A comparison of quick models from which several tests read, and what it asked for."""
    with quick_models() as asked:
        return compare_speed(small()), asked


def small(**changes: object) -> SpeedConfig:
    values = {
        **{"output": "run", "models": ["ours", "shufflenetv2"]},
        **{"runtimes": ["eager", "onnxruntime", "openvino-int8"], "input_height": 64},
        **{"input_width": 64, "threads": [1, 0], "batches": [2, 1], "rounds": 2},
    }
    return SpeedConfig(**{**values, **changes})


def test_every_model_runtime_threads_and_batch_has_a_row(compared: Compared) -> None:
    found = compared[0].latencies

    rows = found[["model", "runtime", "device", "threads", "batch"]].itertuples(index=False)
    assert sorted(tuple(row) for row in rows) == sorted(
        (model, runtime, "cpu", threads, batch)
        for model in ("ours", "shufflenetv2")
        for runtime in ("eager", "onnxruntime", "openvino-int8")
        for threads in (1, 2)
        for batch in (1, 2)
    )
    assert (found["low_ms"] <= found["median_ms"]).all()
    assert (found["median_ms"] <= found["high_ms"]).all()
    precision = dict(zip(found["runtime"], found["precision"], strict=True))
    assert precision == {"eager": "float32", "onnxruntime": "float32", "openvino-int8": "int8"}
    assert (found.loc[found["runtime"] == "eager", "times eager"] == 1).all()
    assert (found["of peak_rate"].isna() == (found["precision"] == "int8")).all()


def test_a_model_is_prepared_once_with_the_threads_of_its_setting(compared: Compared) -> None:
    _, asked = compared

    assert sorted(asked) == sorted(
        (model, runtime, threads, "cpu")
        for model in ("ours", "shufflenetv2")
        for runtime in ("eager", "onnxruntime", "openvino-int8")
        for threads in (1, 2)
    )


def test_equal_numbers_of_threads_are_one_setting(prepared: Prepared) -> None:
    found = compare_speed(small(threads=[2, 0, 2]))  # two cores here

    assert set(found.latencies["threads"]) == {2}
    assert len(prepared) == 2 * 3


def test_small_batches_come_first(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of fixed batches would fill a small one up to a larger one that it has."""
    batches: list[int] = []
    time_models = comparison.time_models

    def recorded(*arguments: object) -> tuple:
        batches.append(arguments[3])
        return time_models(*arguments)

    monkeypatch.setattr(comparison, "time_models", recorded)

    compare_speed(small(threads=[1], batches=[4, 1, 2]))

    assert batches == [1, 2, 4]


def test_the_peak_rate_is_measured_in_every_setting(compared: Compared) -> None:
    found, _ = compared

    settings = found.peak_rate[["device", "threads", "batch"]].itertuples(index=False)
    assert [tuple(s) for s in settings] == [
        ("cpu", threads, batch) for threads in (1, 2) for batch in (1, 2)
    ]
    assert (found.peak_rate["GFLOP/s"] > 0).all()


def test_agreement_is_with_eager_in_every_setting(compared: Compared) -> None:
    found = compared[0].agreement

    difference = found["difference / largest value"]
    assert (difference[found["runtime"] != "openvino-int8"] == 0).all()
    assert (difference[found["runtime"] == "openvino-int8"] == 0.125).all()
    assert len(found) == 2 * 3 * 2


def test_what_cannot_run_is_listed_and_the_rest_is_measured(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = comparison.prepare

    def failing(model: torch.nn.Module, name: str, *others: object) -> Model:
        if (model.config["name"], name) == ("ours", "onnxruntime"):
            raise HwlError("it cannot run this model")
        return prepare(model, name, *others)

    monkeypatch.setattr(comparison, "prepare", failing)
    runtimes = ["eager", "onnxruntime", "openvino", "cuda-graph"]

    found = compare_speed(small(runtimes=runtimes, threads=[1]))

    assert {tuple(row) for row in found.skipped.itertuples(index=False)} == {
        ("all", "eager", "cuda", "there is no GPU"),
        ("all", "openvino", "cpu", "it is not installed"),
        ("all", "cuda-graph", "cuda", "there is no GPU"),
        ("ours", "onnxruntime", "cpu", "it cannot run this model"),
    }
    measured = set(zip(found.latencies["model"], found.latencies["runtime"], strict=True))
    assert measured == {
        ("ours", "eager"),
        ("shufflenetv2", "eager"),
        ("shufflenetv2", "onnxruntime"),
    }


def test_a_fault_of_several_settings_is_listed_once(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = comparison.prepare

    def failing(model: torch.nn.Module, name: str, *others: object) -> Model:
        if name == "onnxruntime":
            raise HwlError("it cannot run this model")
        return prepare(model, name, *others)

    monkeypatch.setattr(comparison, "prepare", failing)

    skipped = compare_speed(small(threads=[1, 2])).skipped

    assert len(skipped[skipped["runtime"] == "onnxruntime"]) == 2  # of two models


@pytest.mark.parametrize("fault", [None, KeyboardInterrupt])
def test_the_number_of_threads_is_restored(
    fault: type[BaseException] | None, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    if fault is None:
        compare_speed(small(threads=[2]))
    else:

        def stopped(*arguments: object) -> None:
            assert torch.get_num_threads() == 2
            raise fault

        monkeypatch.setattr(comparison, "time_models", stopped)
        with pytest.raises(fault):
            compare_speed(small(threads=[2]))

    assert torch.get_num_threads() == before


def test_the_end_to_end_is_of_the_most_threads_and_the_crowded_images(
    prepared: Prepared, puppets: Path
) -> None:
    found = compare_speed(small(data=str(puppets), images=2)).end_to_end

    assert set(found["threads"]) == {2} and set(found["images"]) == {2}
    ways = found.groupby(["model", "runtime"])["flip"].agg(list)
    assert all(flips == [False, True] for flips in ways)
    for model in ("ours", "shufflenetv2"):
        runtimes = ways[model].index
        assert {"eager", "openvino-int8"} <= set(runtimes)


def test_without_data_and_memory_there_are_no_such_tables(compared: Compared) -> None:
    found, _ = compared

    assert found.end_to_end.empty and found.memory.empty


def test_memory_is_measured_of_all_that_was_prepared(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(model: torch.nn.Module, runtime: str, crops: Tensor, device: str) -> dict:
        if runtime == "onnxruntime":
            raise HwlError("there is too little memory")
        return {"batch_1_MiB": 1.0}

    monkeypatch.setattr(comparison, "peak_memory", peak)
    monkeypatch.setattr(comparison.sys, "platform", "linux")

    found = compare_speed(small(memory=True))

    assert len(found.memory) == 2 * 2 and set(found.memory["threads"]) == {2}
    assert "there is too little memory" in set(found.skipped["reason"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtimes": ["onnxruntime"]}, "'runtimes' must have 'eager'"),
        ({"runtimes": ["eager", "nonsense"]}, "runtime 'nonsense' is not one of"),
        ({"threads": []}, "'threads' is empty"),
        ({"threads": [-1]}, r"'threads' is \[-1\]: it must be"),
        ({"batches": [0, 1]}, "'batches' is .* whole number from 1"),
        ({"rounds": 0}, "'rounds' is 0: it must be a whole number from 1"),
        ({"models": ["our"]}, "model 'our' is not one of"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    changes: dict, message: str, prepared: Prepared
) -> None:
    with pytest.raises(HwlError, match=message):
        compare_speed(small(**changes))

    assert not prepared


def test_memory_needs_linux(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison.sys, "platform", "darwin")

    with pytest.raises(HwlError, match="'memory' is true: peak memory is read from /proc"):
        compare_speed(small(memory=True))


def test_a_real_comparison_is_of_the_same_model_and_beneath_the_peak_rate() -> None:
    config = small(models=["ours"], runtimes=["eager", "fused"], threads=[1], batches=[1])

    found = compare_speed(config)

    times = found.latencies.set_index("runtime")
    assert times.loc["fused", "times eager"] == pytest.approx(
        times.loc["eager", "median_ms"] / times.loc["fused", "median_ms"]
    )
    # Of 256x192; the channel gates of a few per cent have no size to shrink with.
    macs = 558_997_088 * 64 * 64 / (256 * 192)
    least = 2 * macs / found.peak_rate.loc[0, "GFLOP/s"] / 1e6
    expected = least / times.loc["eager", "median_ms"]
    assert times.loc["eager", "of peak_rate"] == pytest.approx(expected, rel=0.05)
    assert 0 < times.loc["eager", "of peak_rate"] < 1
    difference = found.agreement.set_index("runtime")["difference / largest value"]
    assert difference["eager"] == 0 and difference["fused"] < 1e-4


@pytest.mark.parametrize("model", ["ours", "vipnas_mbv3", "litehrnet18"])
def test_heatmaps_of_the_measured_models_depend_on_the_image(model: str) -> None:
    """Where activations vanish, times are those of denormal numbers and all runtimes agree."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 128, 96), dtype=torch.uint8)
    net = comparison._model(model, COCO, images)

    with torch.inference_mode():
        heatmaps = net(torch.randn(2, 3, 64, 64))

    assert heatmaps.abs().max() > 1e-20  # normal numbers, the least of which is 1e-38
    assert (heatmaps[0] - heatmaps[1]).abs().max() > 0.05 * heatmaps.abs().max()


def test_weights_are_the_same_at_every_run(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what was exported once is found in the cache."""
    sums: list[float] = []
    prepare = comparison.prepare

    def recorded(model: torch.nn.Module, *others: object) -> Model:
        sums.append(sum(float(p.detach().double().abs().sum()) for p in model.parameters()))
        return prepare(model, *others)

    monkeypatch.setattr(comparison, "prepare", recorded)
    for seed in (1, 2):
        torch.manual_seed(seed)
        compare_speed(small(models=["ours"], runtimes=["eager"], threads=[1], batches=[1]))

    assert sums[0] == sums[1]


def test_tables_are_frames_with_units_in_their_columns(compared: Compared) -> None:
    found, _ = compared

    assert isinstance(found.latencies, pd.DataFrame)
    assert list(found.latencies) == [
        *("model", "runtime", "precision", "device", "threads", "batch"),
        *("median_ms", "low_ms", "high_ms", "FPS", "times eager", "of peak_rate"),
    ]
