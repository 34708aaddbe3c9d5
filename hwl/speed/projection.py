"""Hours and cost of a profile's trainings, from counted work or from a measured rate.

On a GPU a lightweight model is limited by the bandwidth of its memory: most of a step reads and
writes activations. The model here has the time of both, of arithmetic and of memory, and takes the
longer one. Its two constants come from published training rates of similar models:

    timm 0.6, benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv (mixed precision, channels last, an
    RTX 3090 of 936 GB/s and 71 TFLOP/s): MobileNetV3-Large 2,732 images/s, MobileNetV2 2,313,
    ResNet-50 1,218, all at 224x224.

Nothing here has been measured on a GPU with this code; `Gpu` says which of its figures are whose.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from hwl.models import create_model
from hwl.speed.coco_size import DETECTIONS, SPLITS
from hwl.speed.counting import count_macs

COCO_PERSONS = SPLITS["train2017"].annotated  # that are learned from
COCO_BOXES = DETECTIONS  # of val2017
# Times that every module's output passes through memory in a step, at the published bandwidth:
# what the rate of MobileNetV3-Large comes to. Of MobileNetV2 it is 10.4, of ResNet-50 12.0.
PASSES = 13.5
# Of the published rate: what the rate of ResNet-50 comes to, which is limited by both.
SHARE = 0.4
BYTES = 2  # of an activation in bfloat16


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker publishes it, and its price, which is an assumption.

    Attributes:
        name: its model.
        TFLOPs: dense bfloat16 matrix products with float32 sums, 10^12 operations a second.
        TB_per_s: bandwidth of its memory, 10^12 bytes a second.
        dollars: an hour of one, rented; offers differ by a factor of two.
    """

    name: str
    TFLOPs: float
    TB_per_s: float
    dollars: float


GPUS = (
    Gpu("RTX 4090", TFLOPs=165.2, TB_per_s=1.008, dollars=0.4),
    Gpu("A100 80GB SXM", TFLOPs=312.0, TB_per_s=2.039, dollars=1.5),
    Gpu("H200 SXM", TFLOPs=989.5, TB_per_s=4.8, dollars=3.5),
)


@dataclass(frozen=True)
class Work:
    """What a training step does for one image.

    Attributes:
        flops: floating-point operations of convolutions and linear layers: two a
            multiply-accumulate, three times the forward pass (forward, and backward by activations
            and by weights).
        activations: elements of all modules' outputs in the forward pass.
    """

    flops: int
    activations: int


def training_work(model: nn.Module, input_size: tuple[int, int]) -> Work:
    """Count a step's work for an image of (height, width) pixels, which divide by 32."""
    activations = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(add) for module in leaves]
    before = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *input_size, device=next(model.parameters()).device))
    finally:
        model.train(before)
        for hook in hooks:
            hook.remove()
    return Work(flops=6 * count_macs(model, input_size), activations=activations)


def images_per_second(work: Work, gpu: Gpu) -> float:
    """The rate of training that the model expects of a GPU, where nothing else limits it."""
    arithmetic = work.flops / (SHARE * gpu.TFLOPs * 1e12)
    memory = PASSES * BYTES * work.activations / (gpu.TB_per_s * 1e12)
    return 1 / max(arithmetic, memory)


@dataclass(frozen=True)
class Training:
    """A training of a profile.

    Attributes:
        name: <variant>-seed<seed>.
        model: name of `create_model`.
        options: of the model.
        input_size: (height, width) in pixels.
        images: that it computes, those of its validations among them: a forward pass is taken for a
            third of a step, and the flip test makes two of a box.
    """

    name: str
    model: str
    options: Mapping[str, Any]
    input_size: tuple[int, int]
    images: float

    @property
    def counted(self) -> str:
        """What its work depends on; trainings that share it are counted once."""
        return repr((self.model, self.options, self.input_size))


def profile_trainings(
    profile: Mapping[str, Any], persons: int = COCO_PERSONS, boxes: int = COCO_BOXES
) -> Iterator[Training]:
    """The trainings of a profile, as the graph makes them.

    Args:
        profile: as `check_profile` takes it, which says what a recipe must have.
        persons: of the training split, which `train_limit` may cut.
        boxes: that a validation predicts in, which `val_limit` may cut.
    """
    for variant, changes in profile["variants"].items():
        recipe = {**profile["recipe"], **changes}
        epochs, every = recipe["epochs"], recipe["evaluate_every"]
        learned = min(persons, recipe.get("train_limit") or persons)
        predicted = min(boxes, recipe.get("val_limit") or boxes)
        for seed in profile["seeds"].get(variant, [0]):
            yield Training(
                name=f"{variant}-seed{seed}",
                model=recipe.get("model", "ours"),
                options=recipe.get("model_options", {}),
                input_size=(recipe["input_height"], recipe["input_width"]),
                images=epochs * learned + -(-epochs // every) * predicted * 2 / 3,
            )


def hours(
    trainings: Sequence[Training], rates: Mapping[str, float], devices: int
) -> tuple[list[float], float]:
    """Hours of trainings, one on a device at a time.

    Args:
        trainings: as `profile_trainings` yields them.
        rates: images a second by a training's name.
        devices: that work side by side.

    Returns:
        The hours of each, and those until the last has ended, where the longest start first.
    """
    each = [training.images / rates[training.name] / 3600 for training in trainings]
    busy = [0.0] * devices
    for one in sorted(each, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return each, max(busy)


def work_of(training: Training) -> Work:
    """The work of a training's step; weights that would have to be downloaded are not."""
    options = {name: value for name, value in training.options.items() if name != "imagenet"}
    if "backbone" in options:
        options["backbone"] = options["backbone"].removesuffix("-imagenet")
    return training_work(create_model(training.model, **options), training.input_size)


def projection_table(
    profile: Mapping[str, Any], gpus: Sequence[Gpu] = GPUS, devices: Sequence[int] = (1, 8)
) -> pd.DataFrame:
    """What a profile on COCO takes on GPUs, by the model of this file.

    Args:
        profile: as `check_profile` takes it.
        gpus: whose.
        devices: how many of them, each with a training of its own.

    Returns:
        One row a GPU and number: images a second of the fastest and the slowest training on one,
        hours of the whole, and dollars for all devices from the first start to the last end.
    """
    trainings = list(profile_trainings(profile))
    counted = {training.counted: training for training in trainings}
    works = {key: work_of(training) for key, training in counted.items()}
    rows = []
    for gpu in gpus:
        rates = {one.name: images_per_second(works[one.counted], gpu) for one in trainings}
        for number in devices:
            _, total = hours(trainings, rates, number)
            rows.append(
                {
                    "GPU": gpu.name,
                    "devices": number,
                    "trainings": len(trainings),
                    "slowest images/s": min(rates.values()),
                    "fastest images/s": max(rates.values()),
                    "hours": total,
                    "dollars": total * number * gpu.dollars,
                }
            )
    return pd.DataFrame(rows)
