"""A model layer by layer: the parts add up to the whole that other counters find."""

from __future__ import annotations

import pytest
import torch

from hwl.models import MODELS, create_model
from hwl.speed.counting import count
from hwl.speed.layers import layer_table, time_layers

SIZE = (64, 32)


# Lite-HRNet-30 has the blocks of Lite-HRNet-18, and more of them.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "litehrnet30"])
def test_layers_add_up_to_the_model(name: str) -> None:
    model = create_model(name)

    table = layer_table(model, SIZE)

    expected = count(model, SIZE)
    assert table["MACs"].sum() == expected.macs
    assert table["parameters"].sum() == expected.parameters
    assert not any(module._forward_hooks for module in model.modules())


def test_the_papers_model_has_its_parts_in_order() -> None:
    table = layer_table(create_model("ours"), (256, 192))

    blocks = list(table["block"].unique())
    layers = [f"layer{number}" for number in range(1, 16)]
    stages = [f"stage {number}" for number in (1, 2, 3)]
    assert blocks == ["conv1", *layers, "conv2", *stages, "attention 3", "final"]
    depthwise = table[table["layer"] == "head.deconv_layers.12"].iloc[0]
    assert depthwise["kind"] == "depthwise convolution"
    # By hand: 256 channels, 16 taps for each of 32x24 inputs, and all numbers in and out once.
    assert depthwise["MACs"] == 256 * 16 * 32 * 24
    assert depthwise["bytes"] == 4 * 256 * (32 * 24 + 16 + 64 * 48)


def test_each_layer_gets_a_time_and_its_rate() -> None:
    table = time_layers(create_model("ours"), SIZE, rounds=2, threads=1)

    assert (table["ms"] > 0).all()
    first = table.iloc[0]
    assert first["GFLOP/s"] == pytest.approx(2 * first["MACs"] / (first["ms"] * 1e6))


def test_layers_are_timed_on_the_threads_that_are_asked_for() -> None:
    model, before = create_model("ours"), torch.get_num_threads()
    seen = set()
    model.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))

    time_layers(model, SIZE, rounds=1, threads=before + 1)

    assert before + 1 in seen  # counting comes first, on as many as before
    assert torch.get_num_threads() == before
