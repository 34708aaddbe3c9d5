"""One model layer by layer: shapes, operations, bytes, and the time that each layer takes."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hwl.models import PoseNet
from hwl.processor import torch_threads
from hwl.progress import progress

BYTES = 4  # of a float32 number
WARM_UPS = 2


def layer_table(model: PoseNet, input_size: tuple[int, int]) -> pd.DataFrame:
    """What each layer of a model takes in, gives out and computes for one image.

    Args:
        model: any; it is run once, in evaluation mode.
        input_size: (height, width) in pixels.

    Returns:
        One row a layer without layers inside, in the order of their first run: `layer` (its name),
        `block` (the part of backbone or head that it lies in), `kind`, `channels`, `height` and
        `width` of the output, `parameters`, `MACs` (multiply-accumulates of convolutions) and
        `bytes` (read and written: input, parameters and output in float32).
    """
    rows: list[dict[str, object]] = []

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        moved = sum(part.numel() for part in inputs) + parameters + output.numel()
        channels, height, width = (*output.shape[1:], 1, 1)[:3]
        rows.append(
            {
                **{"layer": name, "block": block_of(name), "kind": kind_of(layer)},
                **{"channels": channels, "height": height, "width": width},
                **{"parameters": parameters, "MACs": _macs(layer, inputs[0], output)},
                **{"bytes": BYTES * moved, "transposed": isinstance(layer, nn.ConvTranspose2d)},
            }
        )

    handles = [
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: note(name, module, inputs, output)
        )
        for name, layer in _leaves(model).items()
    ]
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *input_size))
    finally:
        for handle in handles:
            handle.remove()
    runs = pd.DataFrame(rows)
    table = runs.drop_duplicates("layer", ignore_index=True)
    for column in ("MACs", "bytes"):  # a layer may run several times
        table[column] = table["layer"].map(runs.groupby("layer")[column].sum())
    # Each stage of a head begins with its transposed convolution.
    stages = (table["transposed"] & (table["block"] == "stage")).cumsum().astype(str)
    in_stage = table["block"].isin(["stage", "attention"])
    table["block"] = table["block"].where(~in_stage, table["block"] + " " + stages)
    return table.drop(columns="transposed")


def time_layers(
    model: PoseNet, input_size: tuple[int, int], rounds: int, threads: int
) -> pd.DataFrame:
    """`layer_table` with each layer's median `ms` at batch 1 in eager PyTorch, and its `GFLOP/s`.

    The clock stands still between layers, so that additions, products and the like that are no
    layers of their own are left out; on a GPU it would not measure what it should.

    Args:
        model: on the CPU.
        input_size: (height, width) in pixels.
        rounds: measured passes; two more come first.
        threads: CPU threads of torch.
    """
    table = layer_table(model, input_size)
    seconds: dict[str, list[float]] = {name: [] for name in table["layer"]}
    passed: dict[str, float] = defaultdict(float)
    started: dict[str, float] = {}

    def start(name: str) -> None:
        started[name] = time.perf_counter()

    def stop(name: str) -> None:
        passed[name] += time.perf_counter() - started[name]

    handles = []
    for name, layer in _leaves(model).items():
        handles.append(layer.register_forward_pre_hook(lambda *_, name=name: start(name)))
        handles.append(layer.register_forward_hook(lambda *_, name=name: stop(name)))
    image = torch.randn(1, 3, *input_size)
    try:
        with torch_threads(threads), torch.inference_mode():
            for number in progress(range(rounds + WARM_UPS), "time layers"):
                passed.clear()
                model(image)
                if number >= WARM_UPS:
                    for name in seconds:
                        seconds[name].append(passed[name])
    finally:
        for handle in handles:
            handle.remove()
    table["ms"] = [1000 * float(np.median(seconds[name])) for name in table["layer"]]
    table["GFLOP/s"] = 2 * table["MACs"] / table["ms"] / 1e6
    return table


def _leaves(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in model.named_modules()
        if name and not any(layer.children()) and not isinstance(layer, nn.Identity)
    }


def block_of(layer: str) -> str:
    """The part of backbone or head that a layer lies in, such as "layer4", "stage" or "final"."""
    side, part, *rest = layer.split(".")
    if side == "backbone":
        return part
    if part.startswith("final"):
        return "final"
    return "attention" if len(rest) > 1 else "stage"


def kind_of(layer: nn.Module) -> str:
    """What a layer is: a kind of convolution, "normalization", "activation" or "pooling"."""
    if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d):
        if layer.groups == layer.in_channels > 1:
            return "depthwise convolution"
        single = layer.kernel_size in ((1, 1), 1)
        return "pointwise convolution" if single else "dense convolution"
    if isinstance(layer, nn.BatchNorm2d):
        return "normalization"
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AvgPool2d | nn.MaxPool2d):
        return "pooling"
    return "activation"


def _macs(layer: nn.Module, input: Tensor, output: Tensor) -> int:
    """Of a convolution for one image; a transposed one works once per input element."""
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return 0
    elements = input if isinstance(layer, nn.ConvTranspose2d) else output
    return elements.numel() * layer.weight[0].numel()
