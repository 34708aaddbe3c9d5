"""Counts against the published and the measured numbers, and against sums by other means."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor, nn

from hwl.errors import HwlError
from hwl.models import MODELS, create_model
from hwl.speed import counting
from hwl.speed.counting import Counts, count, count_macs, counting_table

from ..pinned_counts import LARGE, PINNED, SMALL


@functools.cache
def counts_of(model: str, size: tuple[int, int]) -> Counts:
    return count(create_model(model), size)


@pytest.mark.parametrize(("model", "size"), PINNED)
def test_counts_of_a_model_by_all_rules(model: str, size: tuple[int, int]) -> None:
    assert counts_of(model, size) == PINNED[model, size]


@pytest.mark.parametrize(
    ("model", "size", "mmcv", "torchstat"),
    [
        ("ours", SMALL, 580.00, 580.13),
        ("ours", LARGE, 1303.37, 1303.56),
        ("mobilenetv2", SMALL, 1587.26, 1587.26),
        ("shufflenetv2", SMALL, 1371.00, 1371.37),
        ("vipnas_mbv3", SMALL, 761.96, 762.18),
        ("litehrnet18", SMALL, 266.00, 215.20),
        ("litehrnet30", SMALL, 423.74, 334.70),
    ],
)
def test_counts_are_the_millions_that_the_tools_themselves_printed(
    model: str, size: tuple[int, int], mmcv: float, torchstat: float
) -> None:
    counts = counts_of(model, size)

    assert counts.mmcv / 1e6 == pytest.approx(mmcv, abs=0.005)
    assert counts.torchstat / 1e6 == pytest.approx(torchstat, abs=0.005)


@pytest.mark.parametrize("model", ["ours", "litehrnet18"])
def test_macs_can_be_counted_alone(model: str) -> None:
    assert count_macs(create_model(model), SMALL) == PINNED[model, SMALL].macs


@pytest.mark.parametrize(
    ("layer", "macs", "mmcv", "torchstat"),
    [
        # On 3 channels of 8x6. Biases are one more an output element.
        (nn.Conv2d(3, 4, 3), 6 * 4 * 4 * 27, 6 * 4 * 4 * 28, 6 * 4 * 4 * 28),
        (nn.Conv2d(3, 6, 3, 2, 1, groups=3, bias=False), *[4 * 3 * 6 * 9] * 3),
        (nn.ConvTranspose2d(3, 5, 4, 2, 1, bias=False), *[8 * 6 * 3 * 5 * 16] * 3),
        (nn.BatchNorm2d(3), 0, 2 * 144, 2 * 144),
        (nn.ReLU(), 0, 144, 144),
        (nn.ReLU6(), 0, 144, 144),
        (nn.Hardswish(), 0, 0, 0),
        (nn.Sigmoid(), 0, 0, 0),
        (nn.MaxPool2d(3, 2, 1), 0, 144, 3 * 4 * 3 * 9),
        (nn.AvgPool2d((2, 3)), 0, 144, 3 * 4 * 2 * 6),
        (nn.AdaptiveAvgPool2d(1), 0, 144, 3 * 9 * 7),
        # Rows 0-2, 2-5 and 5-7, columns 0-1, 1-2, 3-4 and 4-5; every window one larger each way.
        (nn.AdaptiveAvgPool2d((3, 4)), 0, 144, 3 * (4 + 5 + 4) * (3 + 3 + 3 + 3)),
        (nn.Upsample(scale_factor=2), 0, 4 * 144, 16 * 12),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, nn.Module) else None,
)
def test_a_layer_counts_by_each_rule(
    layer: nn.Module, macs: int, mmcv: int, torchstat: int
) -> None:
    counts = count(layer, (8, 6))

    assert (counts.macs, counts.mmcv, counts.torchstat) == (macs, mmcv, torchstat)


class RunsTwice(nn.Module):
    """One convolution on an image and on a quarter of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), self.conv(x[..., ::2, ::2])


def test_torchstat_takes_the_last_run_of_a_module_alone() -> None:
    counts = count(RunsTwice(), (8, 6))

    assert (counts.macs, counts.mmcv) == (3 * (48 + 12), 3 * (48 + 12))
    assert counts.torchstat == 3 * 12


Run = tuple[nn.Module, torch.Size, torch.Size]


@functools.cache
def runs_of(name: str, size: tuple[int, int]) -> list[Run]:
    """Every run of a model's childless modules, with the shapes of their input and output."""
    model = create_model(name)
    runs: list[Run] = []
    for part in model.modules():
        if not list(part.children()):
            part.register_forward_hook(
                lambda part, inputs, output: runs.append((part, inputs[0].shape, output.shape))
            )
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, *size))
    return runs


def multiplications(part: nn.Module, given: torch.Size, made: torch.Size) -> int:
    if isinstance(part, nn.ConvTranspose2d):
        return prod(given) * part.out_channels // part.groups * prod(part.kernel_size)
    if isinstance(part, nn.Conv2d):
        return prod(made) * part.in_channels // part.groups * prod(part.kernel_size)
    return 0


def mmcv_operations(part: nn.Module, given: torch.Size, made: torch.Size) -> int:
    bias = getattr(part, "bias", None)
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        return multiplications(part, given, made) + (prod(made) if bias is not None else 0)
    factor = {"BatchNorm2d": 2, "ReLU": 1, "ReLU6": 1, "MaxPool2d": 1, "AdaptiveAvgPool2d": 1}
    name = type(part).__name__
    return prod(made) if name == "Upsample" else factor.get(name, 0) * prod(given)


# Lite-HRNet-30 has the blocks of Lite-HRNet-18, and more of them.
@pytest.mark.parametrize("model", [name for name in MODELS if name != "litehrnet30"])
@pytest.mark.parametrize(
    ("counter", "operations"), [("macs", multiplications), ("mmcv", mmcv_operations)]
)
def test_counts_are_the_sums_over_recorded_runs(
    model: str, counter: str, operations: Callable[..., int]
) -> None:
    counted = getattr(counts_of(model, (64, 96)), counter)

    assert counted == sum(operations(*run) for run in runs_of(model, (64, 96)))


def test_counting_leaves_the_model_as_it_was() -> None:
    model = create_model("ours").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    count(model, (64, 64))

    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_tells_which_counter_the_papers_figures_follow_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {name: counts_of(name, SMALL) for name in MODELS}
    monkeypatch.setattr(counting, "count", lambda model, size: known[model.config["name"]])

    table = counting_table(list(MODELS), SMALL)

    assert dict(zip(table["model"], table["follows from"], strict=True)) == {
        "ours": "mmcv, 10^9",
        "mobilenetv2": "mmcv, 10^9",
        "shufflenetv2": "mmcv, 10^9",
        "vipnas_mbv3": "none",
        "litehrnet18": "torchstat, 2^30",
        "litehrnet30": "torchstat, 2^30",
    }


def test_the_table_has_counts_in_millions_beside_the_papers_figure() -> None:
    table = counting_table(["litehrnet18", "ours"], SMALL)

    assert table.to_dict("list") == {
        "model": ["litehrnet18", "ours"],
        "parameters": [1_130_769, 3_077_882],
        "conv MACs (M)": [242.345088, 558.997088],
        "mmcv count (M)": [265.996992, 580.004852],
        "torchstat count (M)": [215.202112, 580.128940],
        "paper GFLOPs": [0.20, 0.58],
        "follows from": ["torchstat, 2^30", "mmcv, 10^9"],
    }


def test_the_table_has_the_papers_figure_of_the_large_input() -> None:
    table = counting_table(["ours"], LARGE)

    assert table["paper GFLOPs"].tolist() == [1.30]
    assert table["follows from"].tolist() == ["mmcv, 10^9"]


def test_nothing_follows_where_the_paper_has_no_figure() -> None:
    table = counting_table(["ours", "mobilenetv2"], (64, 64))

    assert table["paper GFLOPs"].isna().all()
    assert table["follows from"].tolist() == ["none", "none"]


def test_the_table_refuses_an_unknown_model() -> None:
    with pytest.raises(HwlError, match="'resnet50' is not one of ours"):
        counting_table(["resnet50"], SMALL)


def test_a_model_is_counted_on_its_own_device() -> None:
    elsewhere = create_model("ours").to("meta")  # as on a GPU, an image of the CPU is refused

    assert count(elsewhere, (64, 32)) == count(create_model("ours"), (64, 32))
